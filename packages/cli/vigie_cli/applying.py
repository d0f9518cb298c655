"""`vigie features apply` and `vigie replay tiles`: the running system folds the log for what is new, or for all."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.reads import ApplyAnswer, ApplyRequest, ModelsAnswer, ReplayRequest

from vigie_cli.connection import Connection

LOOK_SECONDS = 0.2


class Applying:
    """The steps, on a system that runs. Errors are sentences."""

    def __init__(self, system: Connection) -> None:
        self._system = system

    def check(self, feature_repo: Path) -> None:
        """InvalidInput when the system reads another repository, or a model that serves would lose a feature."""
        if self._system.feature_repo.resolve() != feature_repo.resolve():
            raise InvalidInput(f"the Vigie that runs reads {self._system.feature_repo}, not {feature_repo}")
        table = FeatureTable.load(feature_repo)
        for model in self._get("scoring", "/internal/models", ModelsAnswer).models:
            lost = [key for key in model.features if key not in table.by_key]
            if lost:
                raise InvalidInput(
                    f"{model.name} version {model.version} serves and reads {', '.join(lost)}; leave the rows in the"
                    " table until another version is promoted"
                )

    def begin(self) -> ApplyAnswer:
        """Have features read the table again."""
        return self._post("/internal/apply", ApplyRequest())

    def replay(self) -> ApplyAnswer:
        """Have features fold all tiles anew."""
        return self._post("/internal/replay", ReplayRequest(projection="tiles"))

    def wait(self, until: int, show: Callable[[str], None]) -> None:
        """Until the tiles that are folded have taken their place; `show` gets how far that is and what hinders."""
        while "next_features" in (status := self._get("features", "/internal/status", dict[str, Any]))["offsets"]:
            folded = status["offsets"]["next_features"].get("0", 0)
            show("; ".join([f"Folding the log: {folded:,} of {until:,} records", *status["problems"]]))
            time.sleep(LOOK_SECONDS)

    def _post(self, path: str, body: Any) -> ApplyAnswer:
        client = self._system.client("features")
        try:
            return client.post(path, body, ApplyAnswer)
        finally:
            client.close()

    def _get(self, service: str, path: str, type_: Any) -> Any:
        client = self._system.client(service)
        try:
            return client.get(path, type_)
        finally:
            client.close()
