"""Who the simulated customers are: drawn once from the seed."""

from dataclasses import dataclass

import numpy as np

AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
REGIONS = ("north", "south", "east", "west", "capital", "overseas")
INCOME_BANDS = ("low", "middle", "upper", "high")
AFFINITIES = ("low", "medium", "high")
CHANNELS = ("EMAIL", "PUSH", "IN_APP", "PHONE", "BRANCH")
PRODUCTS = ("account", "savings", "card", "mortgage", "investment", "coaching")
_FIRST = ("Alma", "Basile", "Chloé", "Driss", "Elsa", "Farid", "Gaëlle", "Hugo", "Inès", "Jules", "Karim", "Léa")
_LAST = ("Arnaud", "Benali", "Caron", "Diallo", "Etienne", "Faure", "Girard", "Haddad", "Imbert", "Joly", "Klein")


@dataclass(frozen=True)
class Population:
    """Arrays of length n. `joined_day` counts from the first simulated day; below zero they were customers before."""

    age: np.ndarray
    region: np.ndarray
    income: np.ndarray
    affinity: np.ndarray
    channel: np.ndarray
    joined_day: np.ndarray
    temperament: np.ndarray
    activity: np.ndarray
    owns: np.ndarray
    denies_marketing: np.ndarray
    denies_profiling: np.ndarray

    def __len__(self) -> int:
        return len(self.age)

    def name_of(self, customer: int) -> str:
        """A made-up name."""
        return f"{_FIRST[customer % len(_FIRST)]} {_LAST[customer // len(_FIRST) % len(_LAST)]}"


def draw(count: int, days: int, rng: np.random.Generator, activity: float = 1.0) -> Population:
    """`count` customers of a bank observed for `days` days; three in ten join during that time."""
    age = rng.choice(5, count, p=(0.12, 0.24, 0.31, 0.21, 0.12))
    income = rng.choice(4, count, p=(0.27, 0.45, 0.2, 0.08))
    affinity = np.clip(2 - (age >= 3) - rng.choice(3, count, p=(0.45, 0.35, 0.2)), 0, 2)
    before = rng.random(count) < 0.7
    joined = np.where(before, -rng.integers(1, 2500, count), rng.integers(0, max(days, 1), count))
    owns = np.zeros((count, len(PRODUCTS)), bool)
    owns[:, 0] = True
    for product, share in enumerate((1.0, 0.45, 0.7, 0.12, 0.1, 0.04)):
        owns[:, product] |= rng.random(count) < share * (0.7 + 0.2 * income)
    return Population(
        age=age,
        region=rng.choice(6, count, p=(0.2, 0.22, 0.16, 0.18, 0.2, 0.04)),
        income=income,
        affinity=affinity,
        channel=np.where(affinity == 0, rng.integers(3, 5, count), rng.integers(0, 3, count)),
        joined_day=joined,
        temperament=rng.normal(0.0, 0.75, count),
        activity=activity * np.exp(rng.normal(0.0, 0.35, count)) * (0.5 + 0.5 * affinity),
        owns=owns,
        denies_marketing=rng.random(count) < 0.05,
        denies_profiling=rng.random(count) < 0.02,
    )
