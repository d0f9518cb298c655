"""Which micro-conversion a source's spelling probably means, and the TOML lines that say so in the catalogue."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz
from vigie_contracts.arrivals import PropertyShape
from vigie_contracts.catalogue import Catalogue, MicroConversion

from vigie_cli.cataloguing.words import concepts, plain

SURE = 0.85
LIKELY = 0.70
_TOO_NEAR = 5.0
_SAME_WORD = 85.0
_TYPES = {"boolean": "boolean", "integer": "integer", "number": "decimal"}


@dataclass(frozen=True)
class Suggestion:
    """`name` is the catalogue's, None when nothing is near. `because`: the known spelling that it resembles."""

    spelling: str
    name: str | None
    confidence: float
    because: str = ""

    @property
    def strength(self) -> str:
        """In a word."""
        return "sure" if self.confidence >= SURE else "likely" if self.confidence >= LIKELY else "none"


class Suggester:
    """Compares with every name, label and spelling of a catalogue."""

    def __init__(self, rows: Iterable[MicroConversion]) -> None:
        self._known = [(row.name, text, concepts(text), plain(text)) for row in rows for text in _texts(row)]

    def suggest(self, spelling: str) -> Suggestion:
        """The best micro-conversion and how sure it is, 0 to 1.

        The score of a known text is half the share of concepts that both have (Dice; a typing error forgiven) and half
        the likeness of the letters (rapidfuzz' `ratio` of the concepts and of the plain words). Another
        micro-conversion within 5 points takes 15 away: it may as well be that one.
        """
        ours, ours_plain = concepts(spelling), plain(spelling)
        scores: dict[str, tuple[float, str]] = {}
        for name, text, theirs, theirs_plain in self._known:
            letters = 0.6 * fuzz.ratio(ours, theirs) + 0.4 * fuzz.token_sort_ratio(ours_plain, theirs_plain)
            score = 100.0 if ours_plain == theirs_plain else 0.5 * _shared(ours, theirs) + 0.5 * letters
            if ours == theirs:
                score = max(score, 95.0)
            if score > scores.get(name, (0.0, ""))[0]:
                scores[name] = (score, text)
        ranked = sorted(((score, name, text) for name, (score, text) in scores.items()), reverse=True)
        if not ranked:
            return Suggestion(spelling, None, 0.0)
        best, name, text = ranked[0]
        if len(ranked) > 1 and best - ranked[1][0] < _TOO_NEAR:
            best -= 15.0
        confidence = round(max(best, 0.0) / 100.0, 2)
        return Suggestion(spelling, name if confidence >= LIKELY else None, confidence, text)


def _shared(one: str, other: str) -> float:
    """Dice's coefficient of two sets of words in percent; words that differ by a typing error are the same."""
    ours, theirs = one.split(), other.split()
    pairs = sum(any(word == known or fuzz.ratio(word, known) >= _SAME_WORD for known in theirs) for word in ours)
    return 200.0 * min(pairs, len(theirs)) / (len(ours) + len(theirs)) if ours and theirs else 0.0


def lines_to_add(catalogue: Catalogue, suggestions: Sequence[Suggestion]) -> list[str]:
    """TOML for `catalogue.toml`: for each micro-conversion its `spellings` line with what is new."""
    lines: list[str] = []
    by_name: dict[str, list[Suggestion]] = {}
    for suggestion in suggestions:
        if suggestion.name is not None:
            by_name.setdefault(suggestion.name, []).append(suggestion)
    for name, found in sorted(by_name.items()):
        known = catalogue.micro_conversions[name].spellings
        told = ", ".join(f"{s.spelling!r} {s.confidence:.2f} {s.strength}, like {s.because!r}" for s in found)
        lines += [f"# {name} ({told})", f"spellings = {_array([*known, *(s.spelling for s in found)])}", ""]
    return lines


def new_row(spelling: str, properties: Mapping[str, PropertyShape]) -> list[str]:
    """TOML of a new micro-conversion for a name that resembles nothing, with the properties that came."""
    lines = [
        "[[micro_conversion]]",
        f"name = {_text(_name(spelling))}",
        'category = "digital"  # or service, goals, payments, …',
        f"label = {{ en = {_text(plain(spelling).capitalize())}, fr = {_text(plain(spelling).capitalize())} }}",
        "polarity = 0  # 1 engages, -1 detaches",
        "weight = 1",
        f"spellings = {_array([spelling])}",
    ]
    for name, shape in sorted(properties.items()):
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            type_ = next((_TYPES[one] for one in ("number", "integer", "boolean") if one in shape.types), "string")
            scale = ", scale = 2" if type_ == "decimal" else ""
            lines.append(f"properties.{name} = {{ type = {_text(type_)}{scale} }}")
    return [*lines, ""]


def _texts(row: MicroConversion) -> list[str]:
    return [row.name, *row.label.values(), *row.spellings]


def _name(spelling: str) -> str:
    *things, act = plain(spelling).split() or ["event"]
    return f"{'_'.join(things)}.{act}" if things else act


def _array(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
