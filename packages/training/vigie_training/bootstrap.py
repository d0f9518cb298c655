"""Customer bootstrap: customers are drawn with replacement, all rows of one come along (Field and Welsh 2007)."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from vigie_training.metrics import METRICS, Floats, calibration_line, ece_noise_floor
from vigie_training.population import Instants

DRAWS = 1_000
SEED = 20_240_229
CELLS_AT_ONCE = 300_000
"""Weights at once: what stays in a core's cache."""

Statistics = Callable[[Floats], Mapping[str, Floats]]
"""Weights (B, n) -> name -> (B,)."""


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval (percentiles of the bootstrap); null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """`0.742 [0.701, 0.781]`."""
        if self.value is None:
            return "not defined"
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    customers: Instants, statistics: Statistics, *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Estimate]:
    """Estimates with intervals. `customers` (n,) numbers the customer of each row from 0; the same draws serve all."""
    rng = np.random.default_rng(seed)
    n_customers = int(customers.max()) + 1
    at_once = max(1, min(draws, CELLS_AT_ONCE // max(len(customers), 1)))
    found: dict[str, list[Floats]] = {}
    for start in range(0, draws, at_once):
        weights = _draw(rng, n_customers, min(at_once, draws - start))[:, customers]
        for name, values in statistics(weights).items():
            found.setdefault(name, []).append(values)
    whole = statistics(np.ones((1, len(customers))))
    return {name: _estimate(float(whole[name][0]), np.concatenate(parts)) for name, parts in found.items()}


def evaluate(labels: Floats, probabilities: Floats, customers: Instants, *, draws: int = DRAWS) -> dict[str, Estimate]:
    """All METRICS and the calibration line with intervals, and the noise floor of the ECE."""

    def statistics(w: Floats) -> dict[str, Floats]:
        line = calibration_line(labels, probabilities, w)
        found = {name: metric(labels, probabilities, w) for name, metric in METRICS.items()}
        return {**found, "calibration_slope": line[:, 0], "calibration_intercept": line[:, 1]}

    found = bootstrap(customers, statistics, draws=draws)
    floor, high = ece_noise_floor(probabilities, SEED)
    return {**found, "ece_noise_floor": Estimate(floor, None, high)}


def _draw(rng: np.random.Generator, customers: int, draws: int) -> Floats:
    """How often each customer was drawn, (draws, customers)."""
    picked = rng.integers(0, customers, (draws, customers))
    picked += np.arange(draws)[:, None] * customers
    counts: NDArray[np.int64] = np.bincount(picked.ravel(), minlength=draws * customers)
    return counts.reshape(draws, customers).astype(np.float64)


def _estimate(value: float, drawn: Floats) -> Estimate:
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(finite) < len(drawn) * 0.9:
        return Estimate(value if np.isfinite(value) else None, None, None)
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(value, float(low), float(high))
