"""The tracking plan: what an event must look like, as a JSON Schema for each; a violation is warned of or quarantined.

`feature_repo/plan.toml` declares it; without the file there is no plan. Schemas are compiled once, of any draft, and
may not refer to the network. Messages name the place and the rule and never the value, which may be personal.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import jsonschema_rs
import msgspec
from vigie_contracts.catalogue import Catalogue, read_toml
from vigie_contracts.errors import InvalidInput

from vigie_ingest.masking import shown_name

FILE = "plan.toml"
MASK = "the value"
SHOWN_VIOLATIONS = 5
CALLS = frozenset(("identify", "group"))
Action = Literal["warn", "quarantine"]


class PlannedEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of the plan. `event`: a name or spelling of the catalogue, another name as it is sent, or `identify`
    or `group`, whose traits are meant. `schema`: JSON Schema of the properties, or the path of a JSON file that holds
    it, from the plan's folder."""

    event: str
    schema: str | dict[str, Any]
    on_violation: Action = "warn"
    description: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: list[PlannedEvent] = []


class Violation(NamedTuple):
    """Where (a JSON path such as `$.properties.amount`) and what is wrong."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Verdict(NamedTuple):
    """What the plan says of an event that does not fit it."""

    action: Action
    violations: list[Violation]

    def __str__(self) -> str:
        first, *others = self.violations
        return f"{first} (and {len(others)} more)" if others else str(first)


class _Rule(NamedTuple):
    action: Action
    validator: Any


class Plan:
    """Compiled schemas by event."""

    def __init__(self, rules: Mapping[str, _Rule] | None = None) -> None:
        self._rules = dict(rules or {})

    def __len__(self) -> int:
        return len(self._rules)

    @classmethod
    def load(cls, feature_repo: Path, catalogue: Catalogue) -> "Plan":
        """The plan of a feature repository; an empty one when it has none. InvalidInput says what is wrong."""
        path = feature_repo / FILE
        return cls.read(path, catalogue) if path.exists() else cls()

    @classmethod
    def read(cls, path: Path, catalogue: Catalogue) -> "Plan":
        """A plan file. InvalidInput names the event and what is wrong with it."""
        rules: dict[str, _Rule] = {}
        for planned in read_toml(path, _File).event:
            where = f"{path}: event {planned.event!r}"
            name = planned.event if planned.event in CALLS else catalogue.resolve(planned.event) or planned.event
            if name in rules:
                raise InvalidInput(f"{where}: the plan has this event twice")
            rules[name] = _Rule(planned.on_violation, _compiled(_schema(planned, path.parent, where), where))
        return cls(rules)

    def verdict(self, kind: str, name: str, properties: dict[str, Any], traits: dict[str, Any]) -> Verdict | None:
        """None when the event is not planned or fits."""
        rule = self._rules.get(kind if kind in CALLS else name)
        if rule is None or (kind not in CALLS and name in CALLS):
            return None
        subject = traits if kind in CALLS else properties
        if rule.validator.is_valid(subject):
            return None
        root = "$.traits" if kind in CALLS else "$.properties"
        return Verdict(rule.action, list(_violations(rule.validator, subject, root)))


def _violations(validator: Any, subject: dict[str, Any], root: str) -> Iterator[Violation]:
    for error in validator.iter_errors(subject):
        yield Violation(root + "".join(map(_step, error.instance_path)), _reason(error))


def _reason(error: Any) -> str:
    """The library's sentence, which has no values; names of properties that the plan does not have are masked."""
    kind = error.kind
    if kind.name in ("additionalProperties", "unevaluatedProperties"):
        return f"the plan does not have: {', '.join(sorted(map(shown_name, kind.unexpected)))}"
    if kind.name == "propertyNames":
        return "the name of a property does not fit"
    return str(error.message)


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    name = shown_name(key)
    return f".{name}" if name.isidentifier() else f"[{name!r}]"


def _schema(planned: PlannedEvent, folder: Path, where: str) -> Any:
    if isinstance(planned.schema, dict):
        return planned.schema
    path = folder / planned.schema
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{where}: the schema {path} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidInput(f"{where}: the schema {path} is no JSON: {error}") from error


def _compiled(schema: Any, where: str) -> Any:
    try:
        jsonschema_rs.meta.validate(schema)
        return jsonschema_rs.validator_for(schema, mask=MASK, validate_formats=True, retriever=_refuse)
    except jsonschema_rs.ValidationError as error:
        at = "".join(map(_step, error.instance_path))
        raise InvalidInput(f"{where}: no valid JSON Schema at $.schema{at}: {error.message}") from error
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise InvalidInput(f"{where}: no valid JSON Schema: {error}") from error


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"a schema of the plan is whole in itself; write {uri} into it under $defs")
