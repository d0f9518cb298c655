"""The predicate language of segments and offers, and the segment file.

    login_count_30d == 0 and (age_band == "25-34" or region in ("north", "capital"))
    churn.closure.probability >= 0.2 and not csat_recency is null

A term compares a feature key or a score (`churn.DEFINITION.probability`, `churn.DEFINITION.band`) with literals.
Logic has two values: every comparison with null is false (`!=` and `not in` too), so `not (x == 1)` holds for a null x;
`is null` and `is not null` ask for it. Categories and bands may be named, and are ordered as they are declared.
An empty text holds for everybody. Feature segments never name scores; scoring evaluates those that do.
A definition may also be given as the tree itself, in JSON: {"type": "comparison", "subject": …}.
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

import msgspec

from vigie_contracts.catalogue import read_toml
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureSpec, FeatureTable
from vigie_contracts.scores import BANDS

LONGEST_TEXT = 4_000
LONGEST_TREE = 5 * LONGEST_TEXT
DEEPEST = 40

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Literal_ = int | float | str
Value = int | float | str | None
T = TypeVar("T")

# ---- the tree -------------------------------------------------------------------------------------------------------


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="comparison"):
    """`subject operator value`; false when the subject is null."""

    subject: str
    operator: Operator
    value: Literal_


class OneOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="one_of"):
    """`subject in (values)`, or `not in` when negated; false when the subject is null, either way."""

    subject: str
    values: tuple[Literal_, ...]
    negated: bool = False


class IsNull(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="is_null"):
    """`subject is null`, or `is not null` when negated."""

    subject: str
    negated: bool = False


class Not(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="not"):
    """`not operand`."""

    operand: "Node"


class And(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="and"):
    """All operands hold. Without operands (the empty text) it always holds. No operand is an `And` itself."""

    operands: "tuple[Node, ...]"


class Or(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="or"):
    """At least one operand holds. No operand is an `Or` itself."""

    operands: "tuple[Node, ...]"


Term = Comparison | OneOf | IsNull
Node = Comparison | OneOf | IsNull | Not | And | Or
ALWAYS = And(())

# ---- vocabulary: which subjects there are and what they are compared with -------------------------------------------


class Subject(NamedTuple):
    """A name that a predicate may use. `categories` in order: a literal string becomes its index."""

    name: str
    kind: Literal["integer", "category", "probability", "band"]
    categories: tuple[str, ...] = ()


class Vocabulary:
    """The subjects of an installation: the keys of its feature table and the scores of its churn definitions."""

    def __init__(self, table: FeatureTable, definitions: Collection[str] = ()) -> None:
        subjects = [_subject(feature) for feature in table.features]
        for key in definitions:
            subjects.append(Subject(f"churn.{key}.probability", "probability"))
            subjects.append(Subject(f"churn.{key}.band", "band", tuple(BANDS)))
        self.subjects = {subject.name: subject for subject in subjects}

    def subject(self, name: str) -> Subject:
        """The subject of that name; InvalidInput that suggests near names."""
        found = self.subjects.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.subjects, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise InvalidInput(f"nothing is called {name!r}{hint}", details={"suggestions": near})
        return found

    def literal(self, subject: Subject, value: Literal_) -> Literal_:
        """The literal as it is compared: a category's index, else the value; InvalidInput for a wrong type."""
        if subject.kind == "band":
            return _named(subject, value)
        if subject.kind == "category" and isinstance(value, str):
            return subject.categories.index(str(_named(subject, value)))
        if isinstance(value, str):
            raise InvalidInput(f"{subject.name} is a number and cannot be compared with {format_literal(value)}")
        if isinstance(value, float) and subject.kind != "probability":
            raise InvalidInput(f"{subject.name} is a whole number and cannot be compared with {value!r}")
        return value


def _subject(feature: FeatureSpec) -> Subject:
    return Subject(feature.key, "category" if feature.categories else "integer", feature.categories)


def _named(subject: Subject, value: Literal_) -> Literal_:
    if value in subject.categories:
        return value
    near = difflib.get_close_matches(str(value), subject.categories, n=1)
    hint = f"did you mean {format_literal(near[0])}?" if near else f"it has {', '.join(subject.categories)}"
    raise InvalidInput(f"{subject.name} has no value {format_literal(value)}; {hint}", details={"suggestions": near})


# ---- text to tree ---------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


_TOKENS = re.compile(
    r"""\s*(?:
      (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'[^']*')
    | (?P<name>[^\W\d]\w*(?:@\d+)?(?:\.\w+)*)
    | (?P<symbol>==|!=|<=|>=|<|>|\(|\)|,)
    | (?P<end>$)
    )""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "in", "is", "null"})
_MEANT = {"=": "==", "&": "and", "|": "or", "!": "not", "[": "(", "]": ")"}
"""What other languages write, and this one."""
_OPERATORS: dict[Operator, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def parse(text: str) -> Node:
    """The tree of a predicate as written; InvalidInput with the character's position when it is no predicate."""
    return _Parser(text, None).whole()


def compile_predicate(text: str, vocabulary: Vocabulary) -> Node:
    """The checked tree, ready for `evaluate`: categories are indices. InvalidInput with position and near names."""
    return _Parser(text, vocabulary).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKENS.match(text, at)
        if match is None:
            rest = text[at:]
            at += len(rest) - len(rest.lstrip())
            hint = f"; write `{_MEANT[text[at]]}`" if text[at] in _MEANT else ""
            raise _refused(at, f"{text[at]!r} does not belong here{hint}")
        kind = str(match.lastgroup)
        start = match.start(kind)
        word = match[kind]
        yield _Token("word" if word in _WORDS else kind, word, start)
        if kind == "end":
            return
        at = match.end()


def _refused(at: int, message: str, details: Mapping[str, object] | None = None) -> InvalidInput:
    return InvalidInput(f"at character {at + 1}: {message}", details={**(details or {}), "position": at})


class _Parser:
    """Recursive descent: or < and < not < term."""

    def __init__(self, text: str, vocabulary: Vocabulary | None) -> None:
        if len(text) > LONGEST_TEXT:
            raise InvalidInput(f"a predicate has at most {LONGEST_TEXT} characters")
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0
        self._vocabulary = vocabulary

    def whole(self) -> Node:
        if self._peek().kind == "end":
            return ALWAYS
        tree = self._either()
        token = self._peek()
        if token.kind != "end":
            raise _refused(token.at, f"expected `and`, `or` or the end{_instead(token)}")
        return tree

    def _either(self) -> Node:
        found = [self._all()]
        while self._accept("or"):
            found.append(self._all())
        flat = [part for node in found for part in (node.operands if isinstance(node, Or) else (node,))]
        return flat[0] if len(flat) == 1 else Or(tuple(flat))

    def _all(self) -> Node:
        found = [self._negation()]
        while self._accept("and"):
            found.append(self._negation())
        flat = [part for node in found for part in (node.operands if isinstance(node, And) else (node,))]
        return flat[0] if len(flat) == 1 else And(tuple(flat))

    def _negation(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(self._peek().at, f"more than {DEEPEST} levels of `not` and parentheses")
        node: Node
        if self._accept("not"):
            node = Not(self._negation())
        elif self._accept("("):
            node = self._either()
            self._expect(")")
        else:
            node = self._term()
        self._depth -= 1
        return node

    def _term(self) -> Term:
        token = self._take()
        if token.kind != "name":
            raise _refused(token.at, f"expected the name of a feature or score{_instead(token)}")
        subject = self._checked(token.at, lambda vocabulary: vocabulary.subject(token.text))
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("null")
            return IsNull(token.text, negated)
        negated = self._accept("not")
        if negated or self._peek().text == "in":
            self._expect("in")
            return OneOf(token.text, self._literals(subject), negated)
        return self._comparison(token.text, subject)

    def _comparison(self, name: str, subject: Subject | None) -> Comparison:
        token = self._take()
        sign = next((sign for sign in _OPERATORS if sign == token.text), None)
        if sign is None:
            listed = f"{' '.join(_OPERATORS)}, in, not in, is null, is not null"
            raise _refused(token.at, f"expected a comparison after {name} ({listed}){_instead(token)}")
        return Comparison(name, sign, self._literal(subject))

    def _literals(self, subject: Subject | None) -> tuple[Literal_, ...]:
        self._expect("(")
        values = [self._literal(subject)]
        while self._accept(","):
            values.append(self._literal(subject))
        self._expect(")")
        return tuple(values)

    def _literal(self, subject: Subject | None) -> Literal_:
        token = self._take()
        value = _literal(token)
        if subject is None:
            return value
        checked = self._checked(token.at, lambda vocabulary: vocabulary.literal(subject, value))
        return value if checked is None else checked

    def _checked(self, at: int, check: Callable[[Vocabulary], T]) -> T | None:
        if self._vocabulary is None:
            return None
        try:
            return check(self._vocabulary)
        except InvalidInput as error:
            raise _refused(at, error.message, error.details) from error

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.kind not in ("word", "symbol") or token.text != text:
            return False
        self._take()
        return True

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            token = self._peek()
            raise _refused(token.at, f"expected {text!r}{_instead(token)}")


def _instead(token: _Token) -> str:
    if not token.text:
        return " before the end"
    word = token.text.lower()
    hint = f"; write `{word}`" if word in _WORDS and token.kind == "name" else ""
    return f", not {token.text!r}{hint}"


def _literal(token: _Token) -> Literal_:
    if token.kind == "number":
        return _number(token)
    if token.kind == "string" and token.text.startswith("'"):
        return token.text[1:-1]
    if token.kind == "string":
        try:
            return msgspec.json.decode(token.text, type=str)
        except msgspec.DecodeError as error:
            raise _refused(token.at, f"{token.text} is no text: {error}") from error
    hint = "; write `is null`" if token.text == "null" else ""
    raise _refused(token.at, f"expected a number or a text in quotes{_instead(token)}{hint}")


def _number(token: _Token) -> int | float:
    if token.text.lstrip("-").isdigit():
        number = int(token.text) if len(token.text.lstrip("-")) < 20 else 2**63
        if abs(number) >= 2**63:
            raise _refused(token.at, f"{token.text} does not fit 64 bits")
        return number
    found = float(token.text)
    if not math.isfinite(found):
        raise _refused(token.at, f"{token.text} is no finite number")
    return found


# ---- tree to text ---------------------------------------------------------------------------------------------------


def format_literal(value: Literal_) -> str:
    """A literal as the language writes it."""
    return msgspec.json.encode(value).decode() if isinstance(value, str) else repr(value)


def format_predicate(node: Node) -> str:
    """Canonical text; `parse` gives the same tree back."""
    match node:
        case Comparison(subject, sign, value):
            return f"{subject} {sign} {format_literal(value)}"
        case OneOf(subject, values, negated):
            return f"{subject} {'not in' if negated else 'in'} ({', '.join(map(format_literal, values))})"
        case IsNull(subject, negated):
            return f"{subject} is {'not null' if negated else 'null'}"
        case Not(operand):
            return f"not {_inside(operand, And | Or)}"
        case And(operands):
            return " and ".join(_inside(operand, Or) for operand in operands)
        case Or(operands):
            return " or ".join(format_predicate(operand) for operand in operands)


def _inside(node: Node, weaker: object) -> str:
    text = format_predicate(node)
    return f"({text})" if isinstance(node, weaker) else text  # type: ignore[arg-type]


# ---- the tree as JSON -----------------------------------------------------------------------------------------------


def encode_tree(node: Node) -> bytes:
    """The tree as JSON; `decode_tree` gives the same tree back."""
    return msgspec.json.encode(node)


def decode_tree(body: str | bytes) -> Node:
    """The tree that JSON describes, flattened as `parse` makes it; InvalidInput when it is no predicate."""
    if len(body) > LONGEST_TREE:
        raise InvalidInput(f"a predicate as a tree has at most {LONGEST_TREE} characters")
    try:
        node = msgspec.json.decode(body, type=Node)
        tree = parse(format_predicate(node))
        same = list(terms(tree)) == list(terms(node))
    except RecursionError as error:
        raise InvalidInput(f"the tree has more than {DEEPEST} levels") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the tree is no predicate: {error}") from error
    except InvalidInput as error:
        raise InvalidInput(f"the tree is no predicate: {error.message}") from error
    if not same:
        raise InvalidInput("the tree is no predicate: a subject is no name of a feature or score")
    return tree


def read_definition(given: str) -> str:
    """The text of a definition that is given as text or as a tree in JSON (it begins with a brace)."""
    return format_predicate(decode_tree(given)) if given.lstrip().startswith("{") else given


# ---- what a tree uses, and whether it holds -------------------------------------------------------------------------


def terms(node: Node) -> Iterator[Term]:
    """The terms of a tree from left to right."""
    match node:
        case Not(operand):
            yield from terms(operand)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from terms(operand)
        case Comparison() | OneOf() | IsNull():
            yield node


def is_score(subject: str) -> bool:
    """Whether a subject is a score and not a feature."""
    return subject.startswith("churn.")


def features_used(node: Node) -> tuple[str, ...]:
    """The feature keys of a tree, each once, in order of appearance."""
    return tuple(dict.fromkeys(term.subject for term in terms(node) if not is_score(term.subject)))


def scores_used(node: Node) -> tuple[str, ...]:
    """The score subjects of a tree, each once, in order of appearance."""
    return tuple(dict.fromkeys(term.subject for term in terms(node) if is_score(term.subject)))


def needs_scores(node: Node) -> bool:
    """Whether scoring must evaluate it."""
    return any(is_score(term.subject) for term in terms(node))


def evaluate(node: Node, values: Mapping[str, Value]) -> bool:
    """Whether a checked tree holds for one customer; a subject that is absent from `values` is null.

    Features are integers (a category its index), probabilities floats, bands their names.
    """
    match node:
        case Comparison(subject, sign, value):
            found = values.get(subject)
            return found is not None and _OPERATORS[sign](_ordinal(found), _ordinal(value))
        case OneOf(subject, options, negated):
            found = values.get(subject)
            return found is not None and (found in options) != negated
        case IsNull(subject, negated):
            return (values.get(subject) is None) != negated
        case Not(operand):
            return not evaluate(operand, values)
        case And(operands):
            return all(evaluate(operand, values) for operand in operands)
        case Or(operands):
            return any(evaluate(operand, values) for operand in operands)


def _ordinal(value: Literal_) -> int | float:
    """In a checked tree the only strings are bands, which are ordered from LOW to CRITICAL."""
    return BANDS.index(value) if isinstance(value, str) else value


# ---- the segment file -----------------------------------------------------------------------------------------------

Family = Literal[
    "demographic",
    "geographic",
    "behavioural",
    "psychographic",
    "transactional",
    "life_cycle",
    "value_tier",
    "support_model",
    "risk",
]
FAMILIES: tuple[Family, ...] = get_args(Family)
EXCLUSIVE_FAMILIES: frozenset[str] = frozenset({"life_cycle", "value_tier", "support_model"})
"""Families of which a customer is in at most one segment: the first in file order whose predicate holds."""


def checked_family(name: str) -> Family:
    """The family of that name; InvalidInput lists them."""
    for family in FAMILIES:
        if family == name:
            return family
    raise InvalidInput(f"there is no family {name!r}; name one of {', '.join(FAMILIES)}")


class SegmentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of `segments.toml`. A changed predicate is a new version; `because` says in words why one is in it."""

    key: str
    name: dict[str, str]
    family: Family
    predicate: str
    version: int = 1
    because: dict[str, str] = {}


class Segment(NamedTuple):
    """A row with its checked tree."""

    spec: SegmentSpec
    tree: Node

    @property
    def definition(self) -> str:
        """The predicate in canonical text, with categories by name."""
        return format_predicate(parse(self.spec.predicate))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    segment: list[SegmentSpec]


class SegmentTable:
    """The declared segments in file order."""

    def __init__(self, specs: Collection[SegmentSpec], vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.segments = tuple(check_segment(spec, vocabulary) for spec in specs)
        self.by_key = {segment.spec.key: segment for segment in self.segments}
        if len(self.by_key) != len(self.segments):
            raise InvalidInput("two segments share a key")

    @classmethod
    def load(
        cls, feature_repo: Path, table: FeatureTable, definitions: Collection[str] = (), *, skip_unknown: bool = False
    ) -> "SegmentTable":
        """Read `segments.toml`, checked against the features and churn definitions; an absent file declares none.

        With `skip_unknown` segments that name features which the table does not hold are left out: they wait for them.
        """
        path = feature_repo / "segments.toml"
        specs = read_toml(path, _File).segment if path.exists() else []
        if skip_unknown:
            specs = [spec for spec in specs if table.by_key.keys() >= set(features_used(parse(spec.predicate)))]
        try:
            return cls(specs, Vocabulary(table, definitions))
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error.message}", details=error.details) from error

    @property
    def without_scores(self) -> tuple[Segment, ...]:
        """The segments that features evaluates."""
        return tuple(segment for segment in self.segments if not needs_scores(segment.tree))

    @property
    def with_scores(self) -> tuple[Segment, ...]:
        """The segments that scoring evaluates."""
        return tuple(segment for segment in self.segments if needs_scores(segment.tree))


def check_segment(spec: SegmentSpec, vocabulary: Vocabulary) -> Segment:
    """The segment with its checked tree; InvalidInput names the segment and what is wrong with it."""
    try:
        tree = compile_predicate(spec.predicate, vocabulary)
    except InvalidInput as error:
        raise InvalidInput(f"segment {spec.key!r}: {error.message}", details=error.details) from error
    if spec.family in EXCLUSIVE_FAMILIES and needs_scores(tree):
        raise InvalidInput(f"segment {spec.key!r}: the family {spec.family} may not name scores")
    return Segment(spec, tree)
