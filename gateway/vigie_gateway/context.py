"""What a resolver may use: services, loaders, cursors, texts, the score hub. One a request, or a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vigie_contracts.features import FeatureSpec
from vigie_contracts.scores import ChurnDefinition, Concept
from vigie_kit.clock import Clock
from vigie_kit.server import Drain

from vigie_gateway.cursors import Cursors
from vigie_gateway.hub import Hub
from vigie_gateway.limits import Bucket
from vigie_gateway.loaders import Loaders
from vigie_gateway.services import Services


@dataclass(frozen=True)
class Texts:
    """Names and sentences of the feature repository."""

    concepts: dict[str, Concept]
    definitions: dict[str, ChurnDefinition]
    features: Mapping[str, FeatureSpec]


@dataclass(frozen=True)
class Shared:
    """What lives as long as the process."""

    services: Services
    cursors: Cursors
    texts: Texts
    hub: Hub
    clock: Clock
    bucket: Bucket
    heartbeat_seconds: float


@dataclass
class Context:
    """`connection_params` is the payload of a WebSocket's `connection_init`, where the token stands."""

    shared: Shared
    loaders: Loaders
    drain: Drain | None
    cost: dict[str, Any] | None = None
    connection_params: dict[str, object] | None = field(default=None)

    @property
    def services(self) -> Services:
        """The three services."""
        return self.shared.services

    @property
    def cursors(self) -> Cursors:
        """Cursor signer."""
        return self.shared.cursors

    @property
    def texts(self) -> Texts:
        """Names and sentences."""
        return self.shared.texts
