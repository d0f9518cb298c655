"""What a simulated customer may do in a day, how often, and how satisfaction and mood bend it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOPICS = ("savings", "cards", "budgeting", "credit", "investing", "retention")
OFFERS = ("savings_boost", "premium_card", "budget_coach", "mortgage_review", "investment_plan", "fee_waiver")


@dataclass(frozen=True)
class Act:
    """Daily rate = base * exp(mood * m + satisfaction * s), times the customer's activity when `by_activity`."""

    name: str
    base: float
    mood: float = 0.0
    satisfaction: float = 0.0
    by_activity: bool = True


ACTS: tuple[Act, ...] = (
    Act("app.logged_in", 0.16, mood=0.55),
    Act("session.ended", 0.07, mood=0.5),
    Act("balance.viewed", 0.10, mood=0.4),
    Act("transactions.viewed", 0.04, mood=0.4),
    Act("report.viewed", 0.006, mood=0.5),
    Act("feature.first_used", 0.004, mood=0.7),
    Act("search.made", 0.012, mood=0.3, satisfaction=-0.15),
    Act("card.used", 0.16, mood=0.25, satisfaction=0.08, by_activity=False),
    Act("transfer.made", 0.04, mood=0.2, by_activity=False),
    Act("salary.received", 1 / 30, by_activity=False),
    Act("fee.charged", 0.004, by_activity=False),
    Act("article.read", 0.014, mood=0.6),
    Act("tutorial.read", 0.005, mood=0.5),
    Act("simulation.opened", 0.004, mood=0.5),
    Act("webinar.opened", 0.0015, mood=0.5),
    Act("watchlist.created", 0.004, mood=0.7),
    Act("watchlist.deleted", 0.003, satisfaction=-0.8),
    Act("savings_goal.set", 0.0025, mood=0.6),
    Act("budget_alert.set", 0.0025, mood=0.6),
    Act("sub_account.created", 0.001, mood=0.6),
    Act("recurring_transfer.set", 0.002, mood=0.4),
    Act("payment_method.added", 0.0015, mood=0.4),
    Act("help.viewed", 0.010, satisfaction=-0.75),
    Act("contact_page.viewed", 0.006, satisfaction=-0.75),
    Act("support.contacted", 0.005, satisfaction=-0.75, by_activity=False),
    Act("chatbot.contacted", 0.006, satisfaction=-0.6),
    Act("complaint.filed", 0.002, satisfaction=-0.9, by_activity=False),
    Act("survey.answered", 0.003, mood=0.2),
    Act("notification_setting.changed", 0.002, satisfaction=-0.3),
    Act("message.sent", 0.10, by_activity=False),
    Act("branch.visited", 0.004, by_activity=False),
    Act("event.attended", 0.0008, mood=0.4, by_activity=False),
    Act("app.uninstalled", 0.0004, satisfaction=-1.0, by_activity=False),
    Act("offer.shown", 0.03, by_activity=False),
)
_HOUR_WEIGHTS = np.array([1, 1, 1, 1, 1, 2, 4, 7, 8, 7, 6, 6, 8, 7, 6, 6, 7, 8, 9, 9, 8, 6, 4, 2], float)
HOUR_SHARES = _HOUR_WEIGHTS / _HOUR_WEIGHTS.sum()


def daily_rates(mood: np.ndarray, satisfaction: np.ndarray, activity: np.ndarray) -> np.ndarray:
    """Expected acts of a day, shape (acts, customers)."""
    base = np.array([act.base for act in ACTS])[:, None]
    tilt = np.array([act.mood for act in ACTS])[:, None] * mood
    tilt += np.array([act.satisfaction for act in ACTS])[:, None] * satisfaction
    scale = np.where(np.array([act.by_activity for act in ACTS])[:, None], activity, 1.0)
    rates: np.ndarray = base * np.exp(np.clip(tilt, -3, 3)) * scale
    return rates


def acceptance(offer: np.ndarray, age: np.ndarray, income: np.ndarray, mood: np.ndarray) -> np.ndarray:
    """True probability that a shown offer is accepted: depends on offer, age, income and mood."""
    base = np.array([-3.0, -3.2, -3.0, -3.6, -3.6, -2.3])[offer]
    fit = np.select(
        [offer == 0, offer == 1, offer == 2, offer == 3, offer == 4],
        [
            2.5 * (income <= 1),
            2.9 * (income >= 2),
            2.8 * (age <= 1),
            2.8 * ((age == 1) | (age == 2)),
            3.5 * (income == 3),
        ],
        0.3,
    )
    chance: np.ndarray = 1 / (1 + np.exp(-(base + fit + 0.7 * np.clip(mood, -2, 2))))
    return chance


def properties(name: str, offer: int, channel: str, rng: np.random.Generator) -> dict[str, Any]:
    """Properties that go with an act, as an app would send them."""
    topic = TOPICS[int(rng.integers(6))]
    if name == "session.ended":
        return {"duration_seconds": int(rng.lognormal(4.6, 0.8))}
    if name == "card.used":
        return {
            "amount": round(float(rng.lognormal(3.2, 0.9)), 2),
            "category": "groceries" if rng.random() < 0.5 else "other",
        }
    if name == "transfer.made":
        return {"amount": round(float(rng.lognormal(5.0, 1.0)), 2), "direction": "out" if rng.random() < 0.6 else "in"}
    if name in ("salary.received", "fee.charged"):
        return {"amount": round(float(rng.lognormal(7.6, 0.3) if name[0] == "s" else rng.uniform(1, 12)), 2)}
    if name in (
        "search.made",
        "article.read",
        "tutorial.read",
        "simulation.opened",
        "webinar.opened",
        "help.viewed",
        "complaint.filed",
    ):
        return {"topic": topic}
    if name == "survey.answered":
        return {"kind": "NPS", "score": int(rng.integers(0, 11))}
    if name == "notification_setting.changed":
        return {"setting": "marketing_push", "enabled": bool(rng.random() < 0.3)}
    if name == "feature.first_used":
        return {"feature": ("round_up", "instant_transfer", "budget_view", "virtual_card")[int(rng.integers(4))]}
    if name == "support.contacted":
        return {"channel": "PHONE" if rng.random() < 0.5 else "CHAT"}
    if name.startswith("message."):
        return {"channel": channel}
    if name.startswith("offer."):
        return {"offer": OFFERS[offer], "channel": channel}
    return {}
