"""The catalogue of micro-conversions: what names mean, which properties they carry, how sources spell them.

`feature_repo/catalogue.toml` declares it. An unknown name is accepted and stored as uncatalogued, never dropped.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from vigie_contracts.errors import InvalidInput

T = TypeVar("T")
PiiClass = Literal["direct_identifier", "contact", "financial"]
_EXACT = 2**53
PropertyType = Literal["string", "boolean", "integer", "decimal", "money"]


class PropertySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A property of a micro-conversion. `decimal` is kept as an integer of 10^-scale, `money` in minor units."""

    type: PropertyType = "string"
    scale: int = 0
    pii: PiiClass | None = None
    description: str = ""

    @property
    def measured(self) -> bool:
        """Whether the value is a number that features can sum."""
        return self.type in ("integer", "decimal", "money")


class MicroConversion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the catalogue. `polarity` +1 engages, -1 detaches, 0 neutral; `weight` 0…10 for engagement."""

    name: str
    category: str
    label: dict[str, str]
    polarity: int = 0
    weight: int = 1
    initiated_by: Literal["customer", "institution"] = "customer"
    spellings: list[str] = []
    properties: dict[str, PropertySpec] = {}


class AttributeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile attribute: its class, type and whether it is personal (then it never becomes a feature)."""

    name: str
    type: Literal["string", "number", "boolean", "instant"] = "string"
    attribute_class: Literal["demographic", "geographic", "behavioural", "psychographic", "transactional"] = (
        "demographic"
    )
    pii: PiiClass | None = None
    spellings: list[str] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    micro_conversion: list[MicroConversion] = []
    attribute: list[AttributeSpec] = []


class Catalogue:
    """Micro-conversions and attributes by name and by any declared spelling (case-insensitive)."""

    def __init__(self, micro_conversions: list[MicroConversion], attributes: list[AttributeSpec]) -> None:
        self.micro_conversions = {row.name: row for row in micro_conversions}
        self.attributes = {row.name: row for row in attributes}
        self._measured = {row.name: _measured(row) for row in micro_conversions}
        self._names = _spellings(micro_conversions)
        self._attribute_names = _spellings(attributes)

    @classmethod
    def load(cls, feature_repo: Path) -> "Catalogue":
        """Read `catalogue.toml` below `feature_repo`; InvalidInput names the file and what is wrong."""
        path = feature_repo / "catalogue.toml"
        file = read_toml(path, _File)
        return cls(file.micro_conversion, file.attribute)

    def resolve(self, sent_name: str) -> str | None:
        """The catalogue's name of a name or spelling as sent, or None when it is uncatalogued."""
        return self._names.get(sent_name.strip().casefold())

    def resolve_attribute(self, sent_name: str) -> str | None:
        """The catalogue's name of an attribute as sent, or None."""
        return self._attribute_names.get(sent_name.strip().casefold())

    def names_in(self, category: str) -> tuple[str, ...]:
        """Sorted names of a category; `customer` stands for every name that a customer initiates."""
        rows = self.micro_conversions.values()
        return tuple(sorted(row.name for row in rows if row.category == category or row.initiated_by == category))

    def expand(self, events: Sequence[str], where: str) -> tuple[str, ...]:
        """Names of micro-conversions with each `@category` in the place of its names, sorted and once.

        InvalidInput, beginning with `where`, names what is not in the catalogue.
        """
        names: set[str] = set()
        for event in events:
            found = self.names_in(event[1:]) if event.startswith("@") else (event,)
            if not found or any(name not in self.micro_conversions for name in found):
                raise InvalidInput(f"{where}: {event!r} is not in the catalogue")
            names.update(found)
        return tuple(sorted(names))

    def is_measured(self, names: Sequence[str], value_property: str) -> bool:
        """Whether the property is a declared number of all these micro-conversions."""
        specs = [self.micro_conversions[name].properties.get(value_property) for name in names]
        return all(spec is not None and spec.measured for spec in specs)

    def measures(self, name: str, properties: dict[str, Any]) -> dict[str, int]:
        """Scaled integers of the declared numeric properties that are present; InvalidInput for no number."""
        found: dict[str, int] = {}
        for key, scale in self._measured.get(name, ()):
            value = properties.get(key)
            if value is not None:
                found[key] = scaled(key, value, scale)
        return found


def _measured(row: MicroConversion) -> tuple[tuple[str, int], ...]:
    """(property, scale) of those whose value is a number."""
    found = [(key, 2 if spec.type == "money" else spec.scale) for key, spec in row.properties.items() if spec.measured]
    return tuple(found)


def scaled(name: str, value: object, scale: int) -> int:
    """`value` x 10^scale, rounded half to even from its decimal text; InvalidInput unless finite and below 2^53."""
    if type(value) is int and -_EXACT < value * 10**scale < _EXACT:
        return int(value * 10**scale)  # the same as below, without Decimal: most numbers are whole
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise InvalidInput(f"property {name!r} must be a number, not {type(value).__name__}")
    try:
        number = Decimal(str(value)).scaleb(scale).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    except InvalidOperation as error:
        raise InvalidInput(f"property {name!r} must be a number, not {value!r}") from error
    if not number.is_finite() or abs(number) >= _EXACT:
        raise InvalidInput(f"property {name!r} is outside the range of a number: {value!r}")
    return int(number)


def _spellings(rows: list[Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for row in rows:
        for spelling in (row.name, *row.spellings):
            key = spelling.strip().casefold()
            if names.setdefault(key, row.name) != row.name:
                raise InvalidInput(f"the spelling {spelling!r} belongs to both {names[key]!r} and {row.name!r}")
    return names


def read_toml(path: Path, type_: type[T]) -> T:
    """Decode a TOML file strictly; InvalidInput names the file, and the line or field."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=type_)
    except FileNotFoundError as error:
        raise InvalidInput(f"{path} does not exist") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidInput(f"{path}: {error}") from error
