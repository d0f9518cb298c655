"""Which models serve: follows the registry's aliases, checks a version before it may score, and swaps one reference.

MLflow being down changes nothing: the loaded models stay, and after a restart they come from the local copy.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
from vigie_contracts.errors import InvalidInput, Unavailable, VigieError
from vigie_contracts.features import FeatureTable
from vigie_contracts.models import CHAMPION, PROPENSITY_MODEL, SHADOW, SPEC_HASH_TAG
from vigie_contracts.reads import ModelRow
from vigie_contracts.scores import ChurnDefinition
from vigie_kit import failpoints, logs
from vigie_kit.files import replace_file

from vigie_scoring.loaded import LoadedModel, load_model

GATE_TAG = "vigie.gate"
GATE_VALUES = ("held", "overridden")
POINTERS_FILE = "serving.json"

Key = tuple[str, str]
"""(registered model's name, alias)."""

log = logs.get("vigie_scoring.champions")


@dataclass(frozen=True)
class RegisteredVersion:
    """What the registry says of the version behind an alias."""

    version: str
    tags: Mapping[str, str]


class _Pointer(msgspec.Struct, frozen=True, array_like=True):
    """A line of `serving.json`: what served last."""

    name: str
    alias: str
    version: str
    ungated: bool


class Registry(Protocol):
    """Where registered models live; `Unavailable` while it does not answer."""

    def aliases(self, name: str) -> Mapping[str, RegisteredVersion]:
        """Alias -> version of a registered model; empty when there is none of that name."""

    def download(self, name: str, version: str, target: Path) -> None:
        """Copy a version's artifacts into the directory `target`."""


@dataclass(frozen=True)
class Serving:
    """The models that serve at one moment, by (name, alias). Replaced as a whole, never changed."""

    models: Mapping[Key, LoadedModel] = field(default_factory=dict)
    problems: Mapping[Key, str] = field(default_factory=dict)

    def champion(self, name: str) -> LoadedModel | None:
        """The version that may be shown, or null."""
        return self.models.get((name, CHAMPION))

    def shadow(self, name: str) -> LoadedModel | None:
        """The version that scores the same inputs and is never shown, or null."""
        return self.models.get((name, SHADOW))


class Champions:
    """Follows `champion` and `shadow` of every churn definition's model and of the propensity model."""

    def __init__(
        self,
        definitions: list[ChurnDefinition],
        table: Callable[[], FeatureTable],
        registry: Registry,
        directory: Path,
        *,
        gated: bool,
        threads: int = 1,
    ) -> None:
        self.definitions = {definition.model_name: definition for definition in definitions}
        self.names = (*self.definitions, PROPENSITY_MODEL)
        self.serving = Serving()
        self.restored = False
        self.previous: dict[Key, LoadedModel] = {}
        self.registry_problem: str | None = "the model registry has not been asked yet"
        self._table = table
        self._registry = registry
        self._directory = directory
        self._promotion_gated = gated
        self._threads = threads

    def restore(self) -> None:
        """Load what served before the restart from the local copy, so that a registry that is down costs nothing."""
        path = self._directory / POINTERS_FILE
        pointers = msgspec.json.decode(path.read_bytes(), type=list[_Pointer]) if path.exists() else []
        for pointer in pointers:
            if pointer.name in self.names:
                tags = {} if pointer.ungated else {GATE_TAG: GATE_VALUES[0]}
                key = (pointer.name, pointer.alias)
                try:
                    self._attempt(key, partial(self._load, key, RegisteredVersion(pointer.version, tags)))
                except Unavailable as error:  # the local copy is gone, and so is the registry: polling goes on
                    self.registry_problem = error.message
        self.restored = True

    def poll(self) -> bool:
        """Ask the registry once and swap what moved; returns whether anything did. Keeps everything when it is down."""
        before = self.serving
        try:
            for name in self.names:
                found = self._registry.aliases(name)
                for alias in (CHAMPION, SHADOW):
                    self._follow((name, alias), found.get(alias))
            self.registry_problem = None
        except Unavailable as error:
            self.registry_problem = error.message
        if before.models is self.serving.models:
            return False
        self._keep_pointers()
        return True

    def rows(self) -> list[ModelRow]:
        """What is loaded, and why not when it is not, for `GET /internal/models`."""
        serving = self.serving
        keys = [(name, CHAMPION) for name in self.names]
        keys += sorted(key for key in {*serving.models, *serving.problems} if key[1] != CHAMPION)
        return [self._row(serving, key) for key in keys]

    def concerns(self) -> list[str]:
        """What is wrong with what ought to serve: that a further definition has no model yet is no problem."""
        optional = {name for name, definition in self.definitions.items() if not definition.primary}
        failed = self.serving.problems
        return [
            row.problem
            for row in self.rows()
            if row.problem
            and not (row.name in optional and row.version is None and (row.name, row.alias) not in failed)
        ]

    def _row(self, serving: Serving, key: Key) -> ModelRow:
        model = serving.models.get(key)
        problem = serving.problems.get(key)
        if problem is None and model is None:
            problem = self.registry_problem or f"no version of {key[0]} has the alias {key[1]}"
        elif problem is None and model is not None and model.ungated:
            problem = "ungated: served because VIGIE_PROMOTION is open"
        return ModelRow(
            name=key[0],
            alias=key[1],
            version=model.version if model else None,
            spec_hash=model.document.spec_hash if model else None,
            problem=problem,
            features=model.document.features if model else [],
        )

    def _follow(self, key: Key, registered: RegisteredVersion | None) -> None:
        loaded = self.serving.models.get(key)
        if registered is None:
            if loaded is not None or key in self.serving.problems:
                self._swap(key, None, None)
            return
        if loaded is None or loaded.version != registered.version:
            self._attempt(key, partial(self._load, key, registered))
        elif loaded.ungated and _gated(registered):
            self._swap(key, replace(loaded, ungated=False), None)
        else:
            self._note(key, None)

    def _attempt(self, key: Key, load: Callable[[], LoadedModel]) -> None:
        try:
            model = load()
        except Unavailable:
            raise
        except VigieError as error:
            self._note(key, error.message)
            return
        log.info("model serves", name=key[0], alias=key[1], version=model.version)
        self._swap(key, model, None)

    def _load(self, key: Key, registered: RegisteredVersion) -> LoadedModel:
        (name, alias), version = key, registered.version
        ungated = alias == CHAMPION and not _gated(registered)
        if ungated and self._promotion_gated:
            raise InvalidInput(
                f"{name} version {version} was made champion by hand and has not passed the gate;"
                f" run `vigie promote {name} --version {version}` (with VIGIE_PROMOTION=open it would be served)"
            )
        directory = self._copy(name, version)
        model = load_model(directory, name, version, self._table(), threads=self._threads)
        self._check_purpose(model, registered.tags)
        return replace(model, ungated=ungated)

    def _check_purpose(self, model: LoadedModel, tags: Mapping[str, str]) -> None:
        who, document = f"{model.name} version {model.version}", model.document
        tagged = tags.get(SPEC_HASH_TAG, document.spec_hash)
        if tagged != document.spec_hash:
            raise InvalidInput(f"{who}: the tag {SPEC_HASH_TAG} says {tagged}, its own document {document.spec_hash}")
        definition = self.definitions.get(model.name)
        if definition is None:
            if document.kind != "propensity" or not document.offers:
                raise InvalidInput(f"{who} is no propensity model with offers")
            return
        if document.kind != "churn" or document.definition != definition.key:
            raise InvalidInput(f"{who} was trained for {document.definition!r}, not for {definition.key!r}")
        if (document.gap_days, document.horizon_days) != (definition.gap_days, definition.horizon_days):
            raise InvalidInput(f"{who} was trained for another gap or horizon than churn/{definition.key}.toml says")

    def _copy(self, name: str, version: str) -> Path:
        """The local copy of a version, downloaded once and renamed into place when it is whole."""
        target = self._directory / name / version
        if target.exists():
            return target
        arriving = self._directory / name / f".{version}.partial"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        self._registry.download(name, version, arriving)
        failpoints.hit("scoring.before_rename")
        arriving.rename(target)
        failpoints.hit("scoring.after_rename")
        return target

    def _swap(self, key: Key, model: LoadedModel | None, problem: str | None) -> None:
        models = dict(self.serving.models)
        old = models.pop(key, None)
        if old is not None:
            self.previous[key] = old
        if model is not None:
            models[key] = model
        self.serving = Serving(models, _with(self.serving.problems, key, problem))

    def _note(self, key: Key, problem: str | None) -> None:
        if self.serving.problems.get(key) != problem:
            if problem is not None:
                log.warning("model not served", name=key[0], alias=key[1], problem=problem)
            self.serving = Serving(self.serving.models, _with(self.serving.problems, key, problem))

    def _keep_pointers(self) -> None:
        models = self.serving.models
        pointers = [_Pointer(name, alias, model.version, model.ungated) for (name, alias), model in models.items()]
        self._directory.mkdir(parents=True, exist_ok=True)
        failpoints.hit("scoring.before_rename")
        replace_file(self._directory / POINTERS_FILE, msgspec.json.encode(pointers))
        failpoints.hit("scoring.after_rename")


def _gated(registered: RegisteredVersion) -> bool:
    return registered.tags.get(GATE_TAG) in GATE_VALUES


def _with(problems: Mapping[Key, str], key: Key, problem: str | None) -> dict[Key, str]:
    others = {other: text for other, text in problems.items() if other != key}
    return others if problem is None else {**others, key: problem}
