"""Reasons in words: a feature's label with its value and the typical one, in units that people use, by locale."""

from vigie_contracts.features import FeatureSpec

MINUTE, HOUR = 60, 3_600
SHORT_HOURS = 48
USUALLY = {"en": "{label}: {value}, usually {typical}", "fr": "{label} : {value}, d’habitude {typical}"}
ALONE = {"en": "{label}: {value}", "fr": "{label} : {value}"}
NOTHING = {
    **{key: {"en": "never", "fr": "jamais"} for key in ("recency", "tenure")},
    "nth": {"en": "not yet", "fr": "pas encore"},
    "attribute": {"en": "not stated", "fr": "non indiqué"},
    **{key: {"en": "none", "fr": "aucun"} for key in ("max", "last", "weekday", "hour")},
}
UNKNOWN = {"en": "unknown", "fr": "inconnu"}
WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
}
COUNTED = {
    "hours": {"en": ("hour", "hours"), "fr": ("heure", "heures")},
    "days": {"en": ("day", "days"), "fr": ("jour", "jours")},
}


UNORDERED = ("attribute", "weekday", "hour")
"""Values that have no typical one."""


def sentences(feature: FeatureSpec, value: float | None, typical: float | None) -> dict[str, str]:
    """Locale -> sentence, for every locale that the feature has a label in. No claim beyond the two figures."""
    has_usual = typical is not None and feature.measure not in UNORDERED
    templates = USUALLY if has_usual else ALONE
    return {
        locale: templates[locale].format(
            label=label, value=shown(feature, value, locale), typical=shown(feature, typical, locale)
        )
        for locale, label in feature.label.items()
        if locale in templates
    }


def shown(feature: FeatureSpec, value: float | None, locale: str) -> str:
    """A value of a feature for people."""
    if value is None:
        return NOTHING.get(feature.measure, UNKNOWN)[locale]
    if feature.categories:
        return feature.categories[int(value)] if 0 <= value < len(feature.categories) else UNKNOWN[locale]
    if feature.measure in ("rate", "trend", "baseline", "weekend_share"):
        return f"{_number(value / 10, locale, 0)} %"
    if feature.measure == "recency":
        return _counted("hours", value, locale) if value < SHORT_HOURS else _counted("days", value // 24, locale)
    if feature.measure == "weekday":
        return WEEKDAYS[locale][int(value) - 1] if 1 <= value <= 7 else UNKNOWN[locale]
    if feature.measure == "hour":
        return f"{value:.0f} h"
    if feature.measure in ("tenure", "active_days", "streak", "longest_gap", "nth"):
        return _counted("days", value, locale)
    if feature.measure == "engagement":
        return f"{_number(value, locale)} {'of' if locale == 'en' else 'sur'} 100"
    if feature.unit == "minor":
        return _number(value / 100, locale, 2)
    if feature.unit == "seconds":
        return f"{value // HOUR:.0f} h {value % HOUR // MINUTE:02.0f} min"
    return _number(value, locale)


def _counted(unit: str, value: float, locale: str) -> str:
    one, many = COUNTED[unit][locale]
    singular = value == 1 if locale == "en" else value < 2
    return f"{_number(value, locale)} {one if singular else many}"


def _number(value: float, locale: str, decimals: int | None = None) -> str:
    """Thousands apart; decimals as asked, else only when there are any."""
    places = decimals if decimals is not None else 0 if float(value).is_integer() else 1
    text = f"{value:,.{places}f}"
    return text if locale == "en" else text.replace(",", "\u202f").replace(".", ",")
