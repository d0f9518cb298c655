"""The model card: what a model is for, on what it was trained, how good it is, and what it must not be used for."""

from collections.abc import Mapping

from vigie_contracts.instants import DAY_US, from_micros

from vigie_training.bootstrap import Estimate
from vigie_training.evidence import Evidence
from vigie_training.study import Learned, Study
from vigie_training.train import parameters_for

_NAMES = {
    "auc": "AUC",
    "pr_auc": "PR-AUC (average precision)",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_slope": "Calibration slope (1 is right)",
    "calibration_intercept": "Calibration intercept (0 is right)",
    "mean_over_rate": "Mean prediction ÷ rate (1 is right)",
    "ece": "Expected calibration error, 10 bins",
    "ece_noise_floor": "ECE of perfect probabilities on as many rows",
    "lift_5": "Lift at 5 %",
    "lift_10": "Lift at 10 %",
    "alerted_10": "Customers with an alert, at 10 % alerts a week",
    "warned_10": "Losses with an alert before, at 10 %",
    "lead_days_10": "Median days from the first alert to the loss, at 10 %",
    "warned_30_days_10": "Losses with an alert 30 days before, at 10 %",
    "alerted_20": "Customers with an alert, at 20 % alerts a week",
    "warned_20": "Losses with an alert before, at 20 %",
    "lead_days_20": "Median days from the first alert to the loss, at 20 %",
    "warned_30_days_20": "Losses with an alert 30 days before, at 20 %",
}
_PURPOSE = {
    "churn": (
        "Predicts for one customer at one instant the calibrated probability of the outcome below. For retention work"
        " by people and for ranking whom to help first. Not for refusing, ending or pricing a contract."
    ),
    "propensity": (
        "Predicts the calibrated probability that a customer accepts an offer that is shown now. For ranking offers"
        " that have passed eligibility and suitability; it says nothing about what is good for the customer."
    ),
}


def model_card(study: Study, learned: Learned, trained_at: str) -> str:
    """Markdown."""
    parts = [
        f"# {study.model_name}: {study.title}",
        _PURPOSE[study.kind],
        "## What is predicted",
        _definition(study),
        "## Data",
        _data(study, learned.evidence),
        "## How good it is",
        "On the test slice, which nothing was tuned on; in brackets the 95 % interval of 1,000 customer bootstraps.",
        _figures(learned.figures, learned.floor_figures, study.floor_name),
        "## What it looks at",
        _features(study, learned),
        "## Leak alarms",
        _leaks(learned.evidence),
        "## How it was made",
        _making(study, learned, trained_at),
        "## Limits",
        _limits(study),
    ]
    return "\n\n".join(parts) + "\n"


def _definition(study: Study) -> str:
    if study.kind == "propensity":
        return (
            f"`offer.accepted` of the same recommendation within {study.horizon_days} days of `offer.shown`."
            f" Offers: {', '.join(f'`{offer}`' for offer in study.offers)}."
        )
    return (
        f"Definition `{study.definition}`, interval [as-of + {study.gap_days} d,"
        f" as-of + {study.gap_days + study.horizon_days} d): {study.meaning}."
    )


def _data(study: Study, evidence: Evidence) -> str:
    how = {
        "time": "Slices by as-of date; each label window closes before the next slice starts.",
        "cohort": (
            "**Cohort split**: other customers, not a later time, an exception to the time rule. Calibrated out of fold"
            " by customer."
        ),
    }[evidence.split]
    lines = [how, "", "| slice | as-of | rows | customers | positive |", "|---|---|---|---|---|"]
    for found in evidence.slices:
        period = f"{from_micros(found.from_us):%Y-%m-%d} … {from_micros(found.to_us):%Y-%m-%d}"
        share = found.positives / found.rows
        lines.append(
            f"| {found.name} | {period} | {found.rows} | {found.customers} | {found.positives} ({share:.2%}) |"
        )
    lines += ["", *(f"* left out: {count} {what}" for what, count in study.exclusions.items())]
    return "\n".join(lines)


def _figures(model: Mapping[str, Estimate], floor: Mapping[str, Estimate], floor_name: str) -> str:
    lines = [f"| | model | {floor_name} |", "|---|---|---|"]
    lines += [f"| {_NAMES[name]} | {model[name].text()} | {floor[name].text()} |" for name in _NAMES if name in model]
    return "\n".join(lines)


def _features(study: Study, learned: Learned) -> str:
    lines = ["| feature | mean \\|contribution\\| | |", "|---|---|---|"]
    described = {feature.key: feature.description for feature in study.features}
    lines += [f"| `{name}` | {value:.3f} | {described.get(name, 'offer')} |" for name, value in learned.importance[:15]]
    return "\n".join(lines)


def _leaks(evidence: Evidence) -> str:
    leaks = evidence.leaks
    said = "\n".join(f"* **{alarm}**" for alarm in leaks.alarms) or "Silent."
    return (
        f"{said}\n\n* strongest single feature: `{leaks.strongest_feature}`,"
        f" AUC {leaks.strongest_auc:.3f} (alarm above 0.95)"
        f"\n* AUC gained with time shuffled: {leaks.shuffled_time_gain.text()} (alarm when surely above 0.05)"
        f"\n* {leaks.replayed} rows recomputed from a log cut at their as-of: {leaks.replay_mismatches} values differ"
    )


def _making(study: Study, learned: Learned, trained_at: str) -> str:
    depth = parameters_for(study.labels[study.split.train])["max_depth"]
    return (
        f"* trained at {trained_at}, features through Feast as they were known at each as-of instant"
        f"\n* XGBoost, {learned.model.booster.num_boosted_rounds()} trees of depth {depth}, log loss, no resampling;"
        f" {learned.model.calibrator.kind} calibration"
        f"\n* {len(study.features)} features, spec hash `{study.spec_hash}`"
        f"\n* floor to beat: {study.floor_name}; primary metric {_NAMES[study.primary_metric]}"
        f"\n* the test labels were all known {learned.evidence.span_us / DAY_US:.0f} days after the last as-of instant"
    )


def _limits(study: Study) -> str:
    return (
        "* It describes customers like those in the data, while their behaviour and the bank's offers stay alike.\n"
        "* A contribution says what the model saw, not what causes an outcome.\n"
        "* Customers who deny analytics are not in the data; who denies profiling is not scored.\n"
        f"* With {int(study.rows.positives)} positive labels in all, small groups were not judged apart."
    )
