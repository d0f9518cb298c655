"""The gate: may a challenger become champion? Eight points, fixed before looking; pure, on stored predictions.

Points 4 to 7 are listed and not judged yet; they refuse nothing.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec
from vigie_contracts.instants import DAY_US, format_instant

from vigie_training.bootstrap import DRAWS, Estimate, bootstrap
from vigie_training.evidence import Evidence
from vigie_training.metrics import LOWER_IS_BETTER, METRICS, Floats, calibration_slope, mean_over_rate
from vigie_training.population import Instants

CALIBRATION_BAND = (0.8, 1.25)
NON_INFERIORITY = {"auc": 0.01, "log_loss": 0.001}
PointStatus = Literal["held", "refused", "not judged yet"]
Verdict = Literal["held", "refused", "overridden"]
Figure = float | int | str | None


class GatePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One of the eight points with its figures and a sentence."""

    number: int
    title: str
    status: PointStatus
    sentence: str
    figures: dict[str, Figure] = {}


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate said of a version. `promoted`: the alias champion points to it now."""

    model_name: str
    version: str
    compared_with: str
    champion_before: str | None
    verdict: Verdict
    promoted: bool
    points: list[GatePoint]
    override: str | None = None

    @property
    def refusals(self) -> list[GatePoint]:
        """The points that refused."""
        return [point for point in self.points if point.status == "refused"]


@dataclass(frozen=True)
class Contest:
    """Challenger and rival on the same test rows. The rival is the champion, or the floor when there is none."""

    labels: Floats
    customers: Instants
    challenger: Floats
    rival: Floats
    rival_name: str
    rival_complexity: int


def judge(evidence: Evidence, contest: Contest | str, now_us: int, draws: int = DRAWS) -> list[GatePoint]:
    """All eight points. A string instead of a contest says why the rival could not be compared; it refuses point 2."""
    return [
        mature(evidence, now_us),
        better(evidence, contest, draws),
        calibrated(contest, draws),
        _later(4, "No segment of 5 % or more loses"),
        _later(5, "Fairness gaps no worse"),
        _later(6, "Single-row score with reasons within its latency budget"),
        _later(7, "Reasons stable"),
        silent(evidence),
    ]


def mature(evidence: Evidence, now_us: int) -> GatePoint:
    """Point 1: labels mature on a time-later test slice."""
    title = "Labels mature on a time-later test slice"
    test = evidence.slice("test")
    figures: dict[str, Figure] = {
        "test_rows": test.rows if test else 0,
        "test_positives": test.positives if test else 0,
        "matures_at": format_instant(evidence.matures_at_us),
    }
    if test is None or test.positives in (0, test.rows):
        return _point(1, title, False, "The test slice does not hold both outcomes.", figures)
    if evidence.matures_at_us > now_us or test.to_us + evidence.span_us > evidence.matures_at_us:
        said = f"The last test label is known at {format_instant(test.to_us + evidence.span_us)} only."
        return _point(1, title, False, said, figures)
    if evidence.split == "cohort":
        said = "Labels are mature; the split is by cohort, an exception to the time rule."
        return _point(1, title, True, said, figures)
    overlapping = _overlapping(evidence)
    if overlapping:
        said = f"Labels of the {overlapping} were not known before the next slice starts."
        return _point(1, title, False, said, figures)
    said = f"{test.rows} test rows, {test.positives} positive, all known; earlier labels closed before they start."
    return _point(1, title, True, said, figures)


def better(evidence: Evidence, contest: Contest | str, draws: int = DRAWS) -> GatePoint:
    """Point 2: the lower bound of the gain is above 0, or non-inferior and of a lower complexity class."""
    metric = evidence.primary_metric
    title = f"Better than the rival in {metric}"
    if isinstance(contest, str):
        return _point(2, title, False, f"The comparison could not be made: {contest}.", {"metric": metric})
    gain = paired_gain(metric, contest, draws)
    margin = NON_INFERIORITY[metric]
    figures: dict[str, Figure] = {
        "metric": metric,
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "margin": margin,
        "rival": contest.rival_name,
    }
    simpler = evidence.complexity < contest.rival_complexity
    against = f"The gain in {metric} over {contest.rival_name} is {gain.text()}"
    if gain.low is not None and gain.low > 0:
        return _point(2, title, True, f"{against}; the lower bound is above 0.", figures)
    if simpler and gain.low is not None and gain.low > -margin:
        return _point(2, title, True, f"{against}: no worse by {margin:g}, and of a lower complexity class.", figures)
    wanted = f"must be above {-margin:g} for a simpler model" if simpler else "must be above 0"
    return _point(2, title, False, f"{against}; the lower bound {wanted}.", figures)


def calibrated(contest: Contest | str, draws: int = DRAWS) -> GatePoint:
    """Point 3: refused only if an interval lies outside [0.8, 1.25], of slope or of mean prediction over rate."""
    title = "Calibrated"
    if isinstance(contest, str):
        return _point(3, title, False, f"Could not be measured: {contest}.", {})
    y, p = contest.labels, contest.challenger
    found = bootstrap(
        contest.customers,
        lambda w: {"slope": calibration_slope(y, p, w), "mean_over_rate": mean_over_rate(y, p, w)},
        draws=draws,
    )
    figures: dict[str, Figure] = {}
    for name, estimate in found.items():
        figures |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    outside = [name for name, estimate in found.items() if lies_outside(estimate)]
    said = "; ".join(f"{name.replace('_', ' ')} {estimate.text()}" for name, estimate in found.items())
    low, high = CALIBRATION_BAND
    if outside:
        which = " and ".join(name.replace("_", " ") for name in outside)
        return _point(3, title, False, f"{said}: the interval of {which} lies outside [{low}, {high}].", figures)
    return _point(3, title, True, f"{said}: no interval lies outside [{low}, {high}].", figures)


def silent(evidence: Evidence) -> GatePoint:
    """Point 8: leak alarms silent."""
    leaks = evidence.leaks
    figures: dict[str, Figure] = {
        "strongest_feature": leaks.strongest_feature,
        "strongest_auc": leaks.strongest_auc,
        "shuffled_time_gain": leaks.shuffled_time_gain.value,
        "replayed": leaks.replayed,
        "replay_mismatches": leaks.replay_mismatches,
    }
    said = "; ".join(leaks.alarms) or (
        f"No feature alone is above AUC 0.95, shuffled time gains nothing sure, {leaks.replayed} rows replay exactly"
    )
    return _point(8, "Leak alarms silent", not leaks.alarms, f"{said}.", figures)


def paired_gain(metric: str, contest: Contest, draws: int = DRAWS) -> Estimate:
    """How much better the challenger is, positive is better, on the same rows and the same drawn customers."""
    measure, sign = METRICS[metric], -1.0 if metric in LOWER_IS_BETTER else 1.0
    y = contest.labels
    return bootstrap(
        contest.customers,
        lambda w: {"gain": sign * (measure(y, contest.challenger, w) - measure(y, contest.rival, w))},
        draws=draws,
    )["gain"]


def lies_outside(estimate: Estimate) -> bool:
    """Whether the whole interval is outside the band; its edges are inside. An undefined figure is outside."""
    if estimate.low is None or estimate.high is None:
        return True
    return estimate.high < CALIBRATION_BAND[0] or estimate.low > CALIBRATION_BAND[1]


def _overlapping(evidence: Evidence) -> str | None:
    """The first slice whose label windows reach into the next one."""
    for earlier, next_ in zip(evidence.slices, evidence.slices[1:], strict=False):
        if earlier.to_us + evidence.span_us > next_.from_us:
            late_days = (earlier.to_us + evidence.span_us - next_.from_us) / DAY_US
            return f"{earlier.name} slice (open for {late_days:.1f} d more)"
    return None


def _point(number: int, title: str, held: bool, sentence: str, figures: dict[str, Figure]) -> GatePoint:
    return GatePoint(
        number=number, title=title, status="held" if held else "refused", sentence=sentence, figures=figures
    )


def _later(number: int, title: str) -> GatePoint:
    return GatePoint(number=number, title=title, status="not judged yet", sentence="This point is not judged yet.")
