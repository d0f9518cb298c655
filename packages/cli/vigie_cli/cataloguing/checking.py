"""A tracking plan against a file of events as senders send them: what ingest would say of each, without ingest."""

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.catalogue import Catalogue
from vigie_contracts.errors import InvalidInput
from vigie_ingest.domain import Draft, Refusal
from vigie_ingest.identity import Rules
from vigie_ingest.messages import Normaliser, read
from vigie_ingest.plan import FILE, Plan

from vigie_cli.importing.sources import opened

SOURCE = "check"


class _Message(msgspec.Struct):
    """What names a message that was refused."""

    type: Any = None
    event: Any = None


@dataclass
class Found:
    """One kind of objection: what ingest does, to which event, why; how often, and the first line of the file."""

    action: str
    event: str
    reason: str
    first_line: int
    count: int = 0


@dataclass
class Check:
    """`events` by name, and what was found, most frequent first."""

    events: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)


def load_plan(path: Path, feature_repo: Path) -> Plan:
    """The plan of a file, or of a folder that holds `plan.toml`, by the catalogue's names. InvalidInput."""
    return Plan.read(path / FILE if path.is_dir() else path, Catalogue.load(feature_repo))


def check(plan: Plan, feature_repo: Path, events: Path, now_us: int) -> Check:
    """Every line of a JSON lines file (also gzip): a call of the tracking API, or a batch of them.

    InvalidInput for a file that cannot be read.
    """
    known = Catalogue.load(feature_repo)
    normaliser = Normaliser(known, Rules.load(feature_repo), plan)
    done = Check()
    objections: dict[tuple[str, str, str], Found] = {}
    for number, body in _lines(events):
        for item in _judged(normaliser, body, number, now_us):
            sent = item.name if isinstance(item, Draft) else _name_of(item.body)
            name = known.resolve(sent) or sent
            done.events[name] += 1
            action = "warn" if isinstance(item, Draft) else "quarantine"
            for reason in item.notes if isinstance(item, Draft) else (item.reason,):
                found = objections.setdefault((action, name, reason), Found(action, name, reason, number))
                found.count += 1
    done.found = sorted(objections.values(), key=lambda found: (-found.count, found.first_line))
    return done


def _judged(normaliser: Normaliser, body: bytes, number: int, now_us: int) -> list[Draft | Refusal]:
    batch = body if body.lstrip().startswith(b'{"batch"') else b'{"batch":[' + body.strip() + b"]}"
    try:
        return normaliser.items(read(batch), SOURCE, now_us)
    except InvalidInput:
        why = f"line {number} is no JSON object"
        return [Refusal(source_id=SOURCE, event_id="", received_at_us=now_us, code="malformed", reason=why, body=body)]


def _name_of(body: bytes) -> str:
    try:
        message = msgspec.json.decode(body, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "(unreadable)"
    return str(message.event or message.type or "(no name)")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with opened(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.removeprefix(b"\xef\xbb\xbf")
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
