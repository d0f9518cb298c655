"""The simulated bank's next day, sent within minutes as an application would send it, each act when it is sent."""

import itertools
import threading
import time
from collections.abc import Iterator

import httpx
import msgspec
from vigie_contracts.instants import DAY_US
from vigie_kit.clock import Clock
from vigie_simulator.bank import Act, Bank
from vigie_simulator.stream import Simulation
from vigie_simulator.wire import item

from vigie_cli.connection import Connection
from vigie_cli.demo.graph import Updates

EVENTS_A_SECOND = 20
BATCH = 5
PATIENCE_SECONDS = 30.0


class Live:
    """A thread that sends; `sent` counts acknowledged events, `problem` says why it stopped.

    `updates` listens to what comes of it.
    """

    def __init__(self, connection: Connection, simulation: Simulation, updates: Updates) -> None:
        self.updates = updates
        self.sent = 0
        self.problem: str | None = None
        self._connection = connection
        self._simulation = simulation
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        """Begin sending."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the batch that is being sent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        acts = following(self._simulation, self._connection.clock.now_us())
        auth = (self._connection.credentials.write_key, "")
        with httpx.Client(
            base_url=self._connection.addresses.ingest, auth=auth, timeout=PATIENCE_SECONDS, trust_env=False
        ) as client:
            while batch := list(itertools.islice(acts, BATCH)):
                if self._stopping.wait(BATCH / EVENTS_A_SECOND) or not self._post(client, batch):
                    return
                self.sent += len(batch)

    def _post(self, client: httpx.Client, acts: list[Act]) -> bool:
        """Send until it is acknowledged; False when asked to stop or when ingest stays away."""
        body = {"batch": [item(moved_to_now(act, self._connection.clock)) for act in acts]}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._stopping.is_set():
            try:
                answer = client.post("/v1/batch", json=body)
                if answer.status_code == 200:
                    return True
                self.problem = f"ingest answered {answer.status_code}: {answer.text[:200]}"
            except httpx.HTTPError as error:
                self.problem = f"ingest does not answer ({type(error).__name__})"
            if time.monotonic() > deadline:
                return False
            self._stopping.wait(0.5)
        return False


def following(simulation: Simulation, now_us: int) -> Iterator[Act]:
    """What the bank does in the day after now, in order."""
    bank = Bank(
        seed=simulation.seed, customers=simulation.customers, start_us=simulation.start_us, activity=simulation.activity
    )
    today = max((now_us - simulation.start_us) // DAY_US - 1, -1)
    acts = itertools.takewhile(lambda act: act.at_us < now_us + DAY_US, bank.ordered(today))
    return (act for act in acts if act.at_us >= now_us)


def moved_to_now(act: Act, clock: Clock) -> Act:
    """The act as if it happened now."""
    return msgspec.structs.replace(act, at_us=clock.now_us())
