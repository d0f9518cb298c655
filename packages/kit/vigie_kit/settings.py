"""Settings are one frozen dataclass per service, read from VIGIE_… variables once, at start."""

import dataclasses
import difflib
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from vigie_contracts.errors import InvalidInput

T = TypeVar("T")
PREFIX = "VIGIE_"
SHARED = frozenset(
    PREFIX + name
    for name in (
        "DATA",
        "FEATURE_REPO",
        "SERVICE_TOKEN",
        "FAILPOINT",
        "LOG_LEVEL",
        "MLFLOW_URI",
        "INGEST_URL",
        "FEATURES_URL",
        "SCORING_URL",
        "GATEWAY_URL",
        "PROMOTION",
        "TEST_DATA",
        "REDIS_URL",
    )
)
SERVICES = ("INGEST", "FEATURES", "SCORING", "GATEWAY")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def read(cls: type[T], environ: Mapping[str, str] | None = None) -> T:
    """Build `cls` from the environment: field `data` is VIGIE_DATA, unless its metadata says `env`.

    InvalidInput, in a sentence, for a missing or malformed value and for a VIGIE_ name that nobody knows.
    """
    environ = os.environ if environ is None else environ
    hints = get_type_hints(cls)
    names = {field.name: _variable(field) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(environ, set(names.values()))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        variable = names[field.name]
        if variable in environ:
            values[field.name] = _parsed(variable, environ[variable], hints[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidInput(f"the setting {variable} is missing; set it in the environment")
    return cls(**values)


def _variable(field: "dataclasses.Field[Any]") -> str:
    return str(field.metadata.get("env", PREFIX + field.name.upper()))


def _refuse_unknown(environ: Mapping[str, str], own: set[str]) -> None:
    service = next((name for name in SERVICES if any(key.startswith(f"{PREFIX}{name}_") for key in own - SHARED)), "")
    others = tuple(f"{PREFIX}{name}_" for name in SERVICES if name != service)
    known = own | SHARED
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known and not variable.startswith(others):
            raise InvalidInput(f"{variable} is no setting of this program.{_hint(variable, known)}")


def _hint(variable: str, known: set[str] | frozenset[str]) -> str:
    names = sorted(name.removeprefix(PREFIX) for name in known)
    near = difflib.get_close_matches(variable.removeprefix(PREFIX), names, n=1, cutoff=0.7)
    return f" Did you mean {PREFIX}{near[0]}?" if near else ""


def _parsed(variable: str, text: str, hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if not text:
            return None
        hint = next(option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if hint is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise InvalidInput(f"{variable} must be true or false, not {text!r}")
        return text.lower() in _TRUE
    try:
        return Path(text) if hint is Path else hint(text)
    except ValueError as error:
        raise InvalidInput(f"{variable} must be a {hint.__name__}, not {text!r}") from error
