"""Reliability, lift and top features as PNG, drawn without a display."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vigie_training.bootstrap import bootstrap
from vigie_training.metrics import ECE_BINS, Floats
from vigie_training.population import Instants

MODEL_COLOUR, FLOOR_COLOUR, INTERVAL_COLOUR = "#1f5f8b", "#b0803a", "#9dbfd6"
TOP_FEATURES = 15


def reliability(path: Path, title: str, labels: Floats, probabilities: Floats, customers: Instants) -> None:
    """Observed rate against mean prediction in ten bins of equal mass, with 95 % customer-bootstrap intervals."""
    bins = np.argsort(np.argsort(probabilities, kind="stable"), kind="stable") * ECE_BINS // len(probabilities)
    masks = [(bins == number).astype(np.float64) for number in np.unique(bins)]
    rates = bootstrap(
        customers,
        lambda w: {str(place): _rate(w * mask, labels) for place, mask in enumerate(masks)},
        draws=300,
    )
    figure, axes = _canvas(title, "mean prediction", "observed rate")
    x = [float(probabilities[mask == 1].mean()) for mask in masks]
    y = [estimate.value or 0.0 for estimate in rates.values()]
    low = [_below(estimate.value, estimate.low) for estimate in rates.values()]
    high = [_below(estimate.high, estimate.value) for estimate in rates.values()]
    top = max(*x, *(value + above for value, above in zip(y, high, strict=True)), 1e-3) * 1.05
    axes.plot([0, top], [0, top], color="grey", linestyle="--", linewidth=1, label="perfect")
    axes.errorbar(
        x, y, yerr=[low, high], fmt="o-", color=MODEL_COLOUR, ecolor=INTERVAL_COLOUR, capsize=3, label="model"
    )
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(frameon=False)
    _save(figure, path)


def gains(path: Path, title: str, labels: Floats, probabilities: Floats, floor: Floats, floor_name: str) -> None:
    """Lift over the share of customers contacted, for the model and for the floor."""
    figure, axes = _canvas(title, "share contacted, most probable first", "lift (rate among them / overall rate)")
    for values, name, colour in ((probabilities, "model", MODEL_COLOUR), (floor, floor_name, FLOOR_COLOUR)):
        order = np.argsort(-values, kind="stable")
        reached = np.arange(1, len(order) + 1) / len(order)
        caught = np.cumsum(labels[order]) / max(labels.sum(), 1)
        shown = reached >= min(0.01, 1.0)
        axes.plot(reached[shown], (caught / reached)[shown], color=colour, label=name)
    for share in (0.05, 0.10):
        axes.axvline(share, color="lightgrey", linewidth=1, linestyle=":")
    axes.axhline(1, color="grey", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _save(figure, path)


def top_features(path: Path, title: str, importance: Sequence[tuple[str, float]]) -> None:
    """The features with the largest mean absolute contribution."""
    shown = list(importance[:TOP_FEATURES])[::-1]
    figure, axes = _canvas(title, "mean |contribution| to the log-odds", "")
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=MODEL_COLOUR)
    axes.grid(axis="y", visible=False)
    _save(figure, path)


def _rate(weights: Floats, labels: Floats) -> Floats:
    mass = weights.sum(1)
    found: Floats = np.divide(weights @ labels, mass, out=np.full(len(weights), np.nan), where=mass > 0)
    return found


def _below(upper: float | None, lower: float | None) -> float:
    return 0.0 if upper is None or lower is None else max(0.0, upper - lower)


def _canvas(title: str, x: str, y: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  matplotlib is untyped here
    figure = Figure(figsize=(7.2, 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png")
