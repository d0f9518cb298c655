"""Feast's provider for Vigie: all as usual, except that materialisation is refused in one sentence, before any work.

Stock `feast materialize` prints a refusal as `Error: …` without a traceback, because it is also one of click's errors.
"""

from typing import Any, NoReturn

import click
from feast.infra.passthrough_provider import PassthroughProvider
from vigie_contracts.errors import InvalidInput

NO_MATERIALISATION = (
    "Vigie's tiles need no materialisation: the features service folds events as they come and values are computed "
    "when they are read. Use get_online_features or get_historical_features."
)


class NoMaterialisation(InvalidInput, click.ClickException):  # type: ignore[misc]  # both set `message`
    """What `feast materialize` and `feast materialize-incremental` say."""

    def __init__(self) -> None:
        super().__init__(NO_MATERIALISATION)


class TileProvider(PassthroughProvider):  # type: ignore[misc]
    """The passthrough provider on tiles."""

    def materialize_single_feature_view(self, *_given: Any, **_options: Any) -> NoReturn:
        """Always raises NoMaterialisation; the registry notes no materialised interval."""
        raise NoMaterialisation
