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
        client = self._system.client("features")
        try:
            return client.post("/internal/apply", ApplyRequest(), ApplyAnswer)
        finally:
            client.close()

    def replay(self) -> ApplyAnswer:
        """Have features fold all tiles anew."""
        client = self._system.client("features")
        try:
            return client.post("/internal/replay", ReplayRequest(projection="tiles"), ApplyAnswer)
        finally:
            client.close()

    def wait(self, until: int, show: Callable[[str], None]) -> None:
        """Until the tiles that are folded have taken their place; `show` gets how far that is."""
        while (folded := self._offsets().get("next_features")) is not None:
            show(f"Folding the log: {folded.get('0', until):,} of {until:,} records")
            time.sleep(LOOK_SECONDS)

    def _offsets(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = self._get("features", "/internal/status", dict[str, Any])["offsets"]
        return found

    def _get(self, service: str, path: str, type_: Any) -> Any:
        client = self._system.client(service)
        try:
            return client.get(path, type_)
        finally:
            client.close()
