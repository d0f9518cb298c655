"""Feast's provider for Vigie: all as usual, except that materialisation and teardown are refused in a sentence."""

from typing import Any, NoReturn

import click
from feast.infra.passthrough_provider import PassthroughProvider
from vigie_contracts.errors import InvalidInput

NO_MATERIALISATION = (
    "Vigie's tiles need no materialisation: the features service folds events as they come and values are computed "
    "when they are read. Use get_online_features or get_historical_features."
)

NO_TEARDOWN = (
    "Vigie's tiles are not Feast's to remove. To forget what is registered, delete registry.db in the data directory "
    "while nothing uses Feast, and register again with `vigie features apply`; to erase a person, use `vigie erase`."
)


class Refused(InvalidInput, click.ClickException):  # type: ignore[misc]  # both set `message`
    """A refusal that stock Feast's command line prints as `Error: …`, without a traceback."""


class TileProvider(PassthroughProvider):  # type: ignore[misc]
    """The passthrough provider on tiles."""

    def materialize_single_feature_view(self, *_given: Any, **_options: Any) -> NoReturn:
        """Always raises Refused; the registry notes no materialised interval."""
        raise Refused(NO_MATERIALISATION)

    def teardown_infra(self, *_given: Any, **_options: Any) -> NoReturn:
        """Always raises Refused: after Feast's own teardown its SQL registry takes no view of the same name again."""
        raise Refused(NO_TEARDOWN)
