"""ingest -> features -> scoring as three processes on one folder, and a live stream of batches sent into them."""

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from vigie_contracts.events import Change, Event, LogRecord, Position, decode_record
from vigie_contracts.instants import DAY_US, ClockSetting, Installation, format_instant, parse_instant
from vigie_kit import installation
from vigie_kit.clock import Clock
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_scoring.requests import RefreshRequest

from tests.e2e.system import ROOT
from tests.servers import free_port, until
from tests.warm import WarmProcess

TOKEN, KEY = "service-token", "write-key"
BUSINESS_RATE = 120.0  # an hour in half a minute, so that the sweep has work too
PAUSE_SECONDS = 0.05
BULK = 2_000  # ingest sorts its receipts when it holds as many unsorted ones
SERVICES = ("ingest", "features", "scoring")
SMALL_STEPS = {
    "VIGIE_FEATURES_BATCH_RECORDS": "50",
    "VIGIE_FEATURES_ARCHIVE_RECORDS": "500",
    "VIGIE_FEATURES_ARCHIVE_SECONDS": "0.5",
    "VIGIE_FEATURES_SWEEP_SECONDS": "0.2",
    "VIGIE_SCORING_BATCH": "64",
    "VIGIE_MLFLOW_URI": "http://127.0.0.1:9",
}


def install(data: Path) -> Installation:
    """A new installation whose business clock runs fast."""
    clock = ClockSetting(time.time_ns() // 1_000, parse_instant("2026-03-02T08:00:00Z"), BUSINESS_RATE)
    return installation.create(data, time_zone="Europe/Paris", clock=clock)


class Member:
    """One service of the chain: started with or without a failpoint, again and again on the same port."""

    def __init__(self, name: str, data: Path, port: int) -> None:
        self.name = name
        self.port = port
        self.log = data / f"{name}.out"
        self.starts = 0
        self.child: WarmProcess | None = None
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
        self._environ |= SMALL_STEPS | {
            "VIGIE_DATA": str(data),
            "VIGIE_FEATURE_REPO": str(ROOT / "feature_repo"),
            "VIGIE_SERVICE_TOKEN": TOKEN,
            "VIGIE_INGEST_WRITE_KEYS": f"{KEY}=app",
            f"VIGIE_{name.upper()}_PORT": str(port),
        }

    def start(self, failpoint: str = "") -> None:
        """Start the process; does not wait for it."""
        self.starts += 1
        environment = {**self._environ, "VIGIE_FAILPOINT": failpoint}
        self.child = WarmProcess(f"vigie_{self.name}", environment=environment, output=self.log)

    def ended(self) -> bool:
        """Whether the process is gone; an error with its last words unless SIGKILL ended it."""
        assert self.child is not None
        code = self.child.poll()
        assert code in (None, -signal.SIGKILL), f"{self.name} ended with {code}: {self.words()}"
        return code is not None

    def send_signal(self, number: signal.Signals) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def ready(self) -> bool:
        assert not self.ended(), f"{self.name} is gone: {self.words()}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self._url}/readyz", trust_env=False, timeout=5).status_code == 200
        return False

    def stop(self) -> int:
        assert self.child is not None
        if self.child.poll() is None:
            self.child.terminate()
        return self.child.wait(60)

    def kill(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait(60)

    def status(self) -> dict[str, Any]:
        """`/internal/status`."""
        return self._answer(httpx.get(f"{self._url}/internal/status", **self._how))

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """JSON for JSON, with the service token."""
        return self._answer(httpx.post(f"{self._url}{path}", json=body, **self._how))

    def words(self) -> str:
        return self.log.read_text()[-3000:]

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def _how(self) -> dict[str, Any]:
        return {"headers": {"Authorization": f"Bearer {TOKEN}"}, "trust_env": False, "timeout": 20}

    def _answer(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


class Stream(threading.Thread):
    """Batches one after the other, each sent again until it is acknowledged; every seventh is sent again on purpose."""

    def __init__(self, port: int, clock: Clock) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.resent = 0
        self.retries = 0
        self.bulk = threading.Event()
        self.problem: BaseException | None = None
        self.ended = threading.Event()
        self._url = f"http://127.0.0.1:{port}/v1/batch"
        self._acts = Acts(clock)

    def run(self) -> None:
        """Until `end`; what goes wrong is kept for it."""
        try:
            with httpx.Client(auth=(KEY, ""), trust_env=False, timeout=30) as client:
                while not self.ended.is_set():
                    self._one(client)
                    self.ended.wait(PAUSE_SECONDS)
        except BaseException as error:
            self.problem = error

    def end(self) -> None:
        """Finish the batch in hand (it must be acknowledged) and stop."""
        self.ended.set()
        self.join(60)
        assert not self.is_alive(), "a batch was not acknowledged within 60 s after the last restart"
        if self.problem is not None:
            raise self.problem

    def _one(self, client: httpx.Client) -> None:
        batch = self._acts.bulk() if self.bulk.is_set() else self._acts.batch()
        self.bulk.clear()
        self._deliver(client, batch)
        self.acknowledged += [item["messageId"] for item in batch]
        if self._acts.number % 7 == 0:
            self._deliver(client, batch)
            self.resent += len(batch)

    def _deliver(self, client: httpx.Client, batch: list[dict[str, Any]]) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(self._url, json={"batch": batch})
                if answer.status_code == 200:
                    return
                assert answer.status_code in (429, 503), answer.text
            self.retries += 1
            threading.Event().wait(PAUSE_SECONDS)


@dataclass
class Acts:
    """What the stream says: known customers, new ones, late events, devices that identify later, consent."""

    clock: Clock
    number: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    devices: list[str] = field(default_factory=list)

    def batch(self) -> list[dict[str, Any]]:
        """About a dozen messages; a user and a device in it are new."""
        self.number += 1
        users = [f"u{self.chance.randrange(40)}" for _ in range(6)] + [f"n{self.number}"]
        device = f"d{self.number}"
        self.devices.append(device)
        messages = [self._track({"userId": user}) for user in users]
        messages += [self._track({"anonymousId": device}) for _ in range(2)]
        if self.number % 3 == 0:
            messages.append(self._identify(anonymousId=self.devices.pop(0)))
        if self.number % 11 == 0:
            consent = {"consent": {"categoryPreferences": {"profiling": False}}}
            messages.append(self._identify(f"n{self.number}", context=consent))
        return self._numbered(messages)

    def bulk(self) -> list[dict[str, Any]]:
        """A large batch of known customers."""
        self.number += 1
        return self._numbered([self._track({"userId": f"u{place % 40}"}) for place in range(BULK)])

    def _numbered(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**message, "messageId": f"{self.number}-{place}"} for place, message in enumerate(messages)]

    def _track(self, who: dict[str, str]) -> dict[str, Any]:
        name, properties = self.chance.choice(
            [
                ("Logged In", {}),
                ("card.used", {"amount": f"{self.chance.randrange(1, 90)}.50", "category": "food"}),
                ("article.read", {"topic": "savings"}),
                ("complaint.filed", {"topic": "cards"}),
                ("support.contacted", {"channel": "phone"}),
                ("something.unheard", {}),
            ]
        )
        message = {"type": "track", "event": name, "properties": properties, **who}
        if self.chance.random() < 0.4:
            late_us = self.chance.randrange(60 * DAY_US)
            message["timestamp"] = format_instant(self.clock.now_us() - late_us)
        return message

    def _identify(self, user: str = "", **more: Any) -> dict[str, Any]:
        traits = {"age_band": self.chance.choice(["18-24", "35-49", "65+"]), "region": "north"}
        user = user or f"u{self.chance.randrange(40)}"
        return {"type": "identify", "userId": user, "traits": traits, **more}


class Chain:
    """The three processes and the stream; use as a context manager."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = Clock(install(data).clock)
        base = free_port(len(SERVICES))
        self.members = {name: Member(name, data, base + place) for place, name in enumerate(SERVICES)}
        self.stream = Stream(self.members["ingest"].port, self.clock)

    def __enter__(self) -> "Chain":
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            until(f"{member.name} to be ready", member.ready)
        self.stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.ended.set()
        for member in self.members.values():
            member.kill()

    def acknowledged(self, more: int) -> None:
        """Wait until so many more events were acknowledged."""
        floor = len(self.stream.acknowledged) + more
        until(f"{more} more acknowledged events", lambda: len(self.stream.acknowledged) >= floor)

    def records(self) -> list[tuple[Position, LogRecord]]:
        """The whole log "events"."""
        return [(position, decode_record(payload)) for position, payload in self.log("ingest", "events")]

    def log(self, service: str, name: str) -> list[tuple[Position, bytes]]:
        """A whole log of a service's file."""
        reader = SqliteLogReader(self.data / f"{service}.db", name)
        try:
            return [(entry.position, entry.payload) for entry in reader.read({}, 10_000_000)]
        finally:
            reader.close()

    def is_caught_up(self) -> bool:
        """Whether state, archive and scoring have reached the log's end, and nothing waits in scoring."""
        end = self.members["ingest"].status()["offsets"]["events"]
        offsets = self.members["features"].status()["offsets"]
        scoring = self.members["scoring"].status()
        return (
            {offsets["events"].get("0"), offsets["archive"].get("0"), scoring["offsets"]["events"].get("0")} == {end}
            and set(scoring["lag"].values()) == {0}
            and scoring["counts"]["pending"] == 0
        )


def refresh(member: Member, key: str) -> bool | None:
    """Ask for a customer to be scored; whether it was asked before, None when the process went away meanwhile."""
    asked = RefreshRequest(customer_id="somebody", idempotency_key=key)
    body = {"customer_id": asked.customer_id, "idempotency_key": asked.idempotency_key}
    with contextlib.suppress(httpx.TransportError):
        return bool(member.post("/internal/refresh", body)["repeated"])
    return None


def last_touch(records: list[tuple[Position, LogRecord]]) -> dict[str, int]:
    """The number of each member's last event."""
    return {record.member_id: position.number for position, record in records if isinstance(record, Event)}


def hinted(changes: list[Change]) -> dict[str, int]:
    """The number of each customer's last cause."""
    found: dict[str, int] = {}
    for change in changes:
        if change.cause is not None:
            found[change.customer_id] = max(found.get(change.customer_id, 0), change.cause.number)
    return found
