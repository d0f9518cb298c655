"""The simulated bank, day by day: latent satisfaction drifts, customers act, leave, and answer offers."""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from vigie_contracts.instants import DAY_US, SECOND_US

from vigie_simulator import acts
from vigie_simulator import population as words
from vigie_simulator.population import PRODUCTS, Population, draw

LEAVE_BASE = -8.2
LEAVE_SLOPE = 3.0


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something a simulated customer did. `customer` is its number; `traits` make it an identify."""

    event_id: str
    customer: int
    at_us: int
    name: str
    properties: dict[str, Any] = {}
    traits: dict[str, Any] = {}
    consents: dict[str, bool] = {}
    anonymous: bool = False


@dataclass
class Bank:
    """`seed`, `customers` and `start_us` fix everything, however many days are asked for and however often.

    `satisfaction` (n,) is the latent state of the day last simulated: only tests (the oracle) may look at it.
    """

    seed: int
    customers: int
    start_us: int
    horizon_days: int = 365
    activity: float = 1.0
    population: Population = field(init=False)
    satisfaction: np.ndarray = field(init=False)
    mood: np.ndarray = field(init=False)
    left_day: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng((self.seed, 0))
        self.population = draw(self.customers, self.horizon_days, rng, self.activity)
        self.satisfaction = self.population.temperament + rng.normal(0, 0.4, self.customers)
        self.mood = 1.2 * self.satisfaction + rng.normal(0, 0.5, self.customers)
        self.left_day = np.full(self.customers, np.iinfo(np.int64).max)

    @property
    def leave_rate(self) -> np.ndarray:
        """Daily probability of leaving, from the latent satisfaction alone; shape (customers,)."""
        return 1 / (1 + np.exp(-(LEAVE_BASE - LEAVE_SLOPE * self.satisfaction)))

    def days(self, count: int) -> Iterator[list[Act]]:
        """The opening, then the acts of each of the first `count` days, each list sorted by time."""
        yield self._opening()
        for day in range(count):
            yield self._day(day)

    def ordered(self, first_day: int = -1) -> Iterator[Act]:
        """All acts in order of time, without end, from `first_day` on (-1: from the opening)."""
        waiting: list[tuple[int, str, Act]] = []
        if first_day < 0:
            yield from self._opening()
        for day in itertools.count():
            for act in self._day(day, silent=day < first_day):
                heapq.heappush(waiting, (act.at_us, act.event_id, act))
            while waiting and waiting[0][0] < self.start_us + (day + 1) * DAY_US:
                yield heapq.heappop(waiting)[2]

    def _day(self, day: int, silent: bool = False) -> list[Act]:
        rng = np.random.default_rng((self.seed, 1, day))
        self._drift(rng)
        alive = (self.population.joined_day <= day) & (self.left_day > day)
        leaving = alive & (rng.random(self.customers) < self.leave_rate)
        self.left_day[leaving] = day
        if silent:
            return []
        found = [self._join(int(customer), day) for customer in np.flatnonzero(self.population.joined_day == day)]
        joined = [act for acts_ in found for act in acts_]
        done = joined + self._acts(day, alive, rng) + self._leave(day, leaving, rng)
        return sorted(done, key=lambda act: (act.at_us, act.event_id))

    def _drift(self, rng: np.random.Generator) -> None:
        """Mean-reverting satisfaction with rare bad shocks; mood follows it loosely with noise of its own."""
        n = self.customers
        pull = 0.012 * (self.population.temperament - self.satisfaction)
        shock = np.where(rng.random(n) < 0.0035, -rng.exponential(1.1, n), 0.0)
        self.satisfaction = self.satisfaction + pull + rng.normal(0, 0.055, n) + shock
        self.mood = 0.85 * self.mood + 0.15 * 1.2 * self.satisfaction + rng.normal(0, 0.12, n)

    def _acts(self, day: int, alive: np.ndarray, rng: np.random.Generator) -> list[Act]:
        rates = acts.daily_rates(self.mood, self.satisfaction, self.population.activity) * alive
        kinds, customers = np.nonzero(counts := rng.poisson(rates))
        repeats = counts[kinds, customers]
        kinds, customers = np.repeat(kinds, repeats), np.repeat(customers, repeats)
        seconds = rng.choice(24, len(kinds), p=acts.HOUR_SHARES) * 3600 + rng.integers(0, 3600, len(kinds))
        offers = rng.integers(0, len(acts.OFFERS), len(kinds))
        found: list[Act] = []
        for number, (kind, customer, second, offer) in enumerate(
            zip(kinds.tolist(), customers.tolist(), seconds.tolist(), offers.tolist(), strict=True)
        ):
            found += self._act(day, number, acts.ACTS[kind].name, customer, second, offer, rng)
        return found

    def _act(
        self, day: int, number: int, name: str, customer: int, second: int, offer: int, rng: np.random.Generator
    ) -> list[Act]:
        channel = ("EMAIL", "PUSH", "IN_APP", "EMAIL", "EMAIL")[self.population.channel[customer]]
        act = self._made(day, number, name, customer, second, acts.properties(name, offer, channel, rng))
        if name == "message.sent":
            return [act, *self._opened(act, rng)]
        if name == "offer.shown":
            return self._offered(act, offer, rng)
        return [act]

    def _made(self, day: int, number: int, name: str, customer: int, second: int, properties: dict[str, Any]) -> Act:
        at = self.start_us + day * DAY_US + second * SECOND_US + number % 1_000
        return Act(
            event_id=f"sim-{self.seed}-{day}-{number}", customer=customer, at_us=at, name=name, properties=properties
        )

    def _opened(self, sent: Act, rng: np.random.Generator) -> list[Act]:
        chance = 1 / (1 + np.exp(-(-0.9 + 0.8 * self.mood[sent.customer])))
        if rng.random() >= chance:
            return []
        opened = _after(sent, "message.opened", "o", rng)
        return [opened, _after(opened, "message.clicked", "c", rng)] if rng.random() < 0.25 else [opened]

    def _offered(self, shown: Act, offer: int, rng: np.random.Generator) -> list[Act]:
        customer = shown.customer
        if self.population.denies_marketing[customer] or self.population.denies_profiling[customer]:
            return []
        shown = msgspec.structs.replace(shown, properties={**shown.properties, "recommendation_id": shown.event_id})
        people = self.population
        chance = acts.acceptance(np.array(offer), people.age[customer], people.income[customer], self.mood[customer])
        draw_ = rng.random()
        if draw_ < chance:
            return [shown, _after(shown, "offer.accepted", "a", rng)]
        return [shown, _after(shown, "offer.declined", "d", rng)] if draw_ > 0.9 else [shown]

    def _leave(self, day: int, leaving: np.ndarray, rng: np.random.Generator) -> list[Act]:
        found: list[Act] = []
        for customer in np.flatnonzero(leaving).tolist():
            second = int(rng.integers(8 * 3600, 86_000))
            found.append(
                self._made(day, 900_000_000 + customer, "account.closed", customer, second, {"product": "account"})
            )
        return found

    def _opening(self) -> list[Act]:
        found = [self._join(int(customer), 0) for customer in np.flatnonzero(self.population.joined_day < 0)]
        return sorted((act for acts_ in found for act in acts_), key=lambda act: (act.at_us, act.event_id))

    def _join(self, customer: int, day: int) -> list[Act]:
        """account.opened at its true date, and the identify with the profile; joiners browsed anonymously before."""
        people = self.population
        joined = int(people.joined_day[customer])
        opened_us = self.start_us + joined * DAY_US + 9 * 3600 * SECOND_US + customer
        stated_us = max(opened_us, self.start_us) + SECOND_US
        prefix = f"sim-{self.seed}-c{customer}"
        found = [
            Act(
                event_id=f"{prefix}-{PRODUCTS[product]}",
                customer=customer,
                at_us=opened_us + product,
                name="account.opened",
                properties={"product": PRODUCTS[product]},
            )
            for product in np.flatnonzero(people.owns[customer]).tolist()
        ]
        if joined >= 0:
            found.insert(
                0,
                Act(
                    event_id=f"{prefix}-visit",
                    customer=customer,
                    at_us=opened_us - 60 * SECOND_US,
                    name="page.viewed",
                    properties={"activity_type": "landing"},
                    anonymous=True,
                ),
            )
        traits, consents = self._profile(customer)
        found.append(
            Act(
                event_id=f"{prefix}-profile",
                customer=customer,
                at_us=stated_us,
                name="identify",
                traits=traits,
                consents=consents,
            )
        )
        return found

    def _profile(self, customer: int) -> tuple[dict[str, Any], dict[str, bool]]:
        people = self.population
        traits = {
            "display_name": f"{people.name_of(customer)} (simulated)",
            "email": f"customer-{customer}@simulated.invalid",
            "age_band": words.AGE_BANDS[people.age[customer]],
            "region": words.REGIONS[people.region[customer]],
            "income_band": words.INCOME_BANDS[people.income[customer]],
            "digital_affinity": words.AFFINITIES[people.affinity[customer]],
            "preferred_channel": words.CHANNELS[people.channel[customer]],
            "locale": "fr" if people.region[customer] in (1, 5) else "en",
        }
        if people.income[customer] == 3:
            traits["adviser"] = f"adviser-{customer % 7}"
        denied = bool(people.denies_profiling[customer])
        return traits, {
            "service": True,
            "analytics": True,
            "profiling": not denied,
            "marketing": not (denied or bool(people.denies_marketing[customer])),
        }


def _after(act: Act, name: str, suffix: str, rng: np.random.Generator) -> Act:
    delay = int(rng.exponential(1_800)) + 5
    return msgspec.structs.replace(
        act, event_id=f"{act.event_id}-{suffix}", name=name, at_us=act.at_us + delay * SECOND_US
    )
