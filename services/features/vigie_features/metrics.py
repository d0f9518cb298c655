"""`GET /metrics`: the status as Prometheus reads it. Names: prometheus.io/docs/practices/naming."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from vigie_contracts.reads import FeaturesStatus


def metrics_route(status: Callable[[], FeaturesStatus]) -> Route:
    """The route; every scrape reads the status once."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))

    async def endpoint(_request: Request) -> Response:
        return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", endpoint)


class _Collector:
    def __init__(self, status: Callable[[], FeaturesStatus]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        """Nothing is read when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Gauges of one status. Those of parity are there once a comparison was made."""
        found = self._status()
        yield _gauge("vigie_features_lag_records", "Records of the log that are not in the tiles", found.lag["records"])
        yield _gauge("vigie_features_lag_seconds", "For how long the tiles have been behind", found.lag["seconds"])
        yield _gauge(
            "vigie_archive_lag_records", "Records of the log that are not archived", found.lag["archive_records"]
        )
        yield _gauge("vigie_customers", "Customers with state", found.counts["customers"])
        yield _gauge("vigie_features_rebuilding", "1 while no tile can be read", float(found.rebuilding))
        if (parity := found.parity) is not None:
            yield _gauge("vigie_parity_vectors", "Vectors of the last comparison of the engines", parity.vectors)
            yield _gauge("vigie_parity_mismatches", "Values that differed in it; expected 0", parity.mismatches)
            yield _gauge("vigie_parity_timestamp_seconds", "When it was made, in business time", parity.at_us / 1e6)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
