"""A small ingest without HTTP: a real database in a folder, a clock that stands still until it is moved."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from vigie_contracts.catalogue import AttributeSpec, Catalogue, MicroConversion, PropertySpec
from vigie_contracts.events import ConsentStated, Event, LogRecord, MapChanged, decode_record
from vigie_contracts.imports import ImportRecord
from vigie_contracts.instants import ClockSetting, parse_instant
from vigie_contracts.reads import UndoAnswer, UndoRequest
from vigie_ingest import store
from vigie_ingest.appender import Appender
from vigie_ingest.erasing import Eraser, Persons
from vigie_ingest.identity import Rules
from vigie_ingest.keystore import Keys
from vigie_ingest.messages import Normaliser, read
from vigie_ingest.quarantine import Quarantine
from vigie_ingest.sealing import Sealer
from vigie_ingest.usecases import Reads
from vigie_ingest.writer import Writer
from vigie_kit.clock import Clock
from vigie_kit.sqlite_log import SqliteLogReader

NOW_US = parse_instant("2026-03-01T12:00:00Z")

CATALOGUE = Catalogue(
    [
        MicroConversion(name="app.logged_in", category="digital", label={"en": "Login"}, spellings=["Logged In"]),
        MicroConversion(name="page.viewed", category="digital", label={"en": "Page"}),
        MicroConversion(name="help.viewed", category="service", label={"en": "Help"}, spellings=["page: Help"]),
        MicroConversion(
            name="transfer.made",
            category="money",
            label={"en": "Transfer"},
            properties={"amount": PropertySpec(type="money"), "direction": PropertySpec()},
        ),
    ],
    [
        AttributeSpec(name="age_band", spellings=["ageBand"]),
        AttributeSpec(name="income", type="number", attribute_class="transactional"),
        AttributeSpec(name="vip", type="boolean"),
        AttributeSpec(name="customer_since", type="instant"),
        AttributeSpec(name="email", pii="contact"),
    ],
)


@dataclass
class World:
    """`send` takes messages as an SDK does and gives back outcomes; `records` is the whole log."""

    folder: Path
    now_us: int = NOW_US
    source_id: str = "app"
    rules: Rules = field(default_factory=Rules)
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(ClockSetting(base_virtual_us=self.now_us, rate=0.0))
        self.engine = store.open_database(self.folder)
        self.sealer = Sealer(CATALOGUE, Keys(self.folder / "keys.db"))
        self.normaliser = Normaliser(CATALOGUE, self.rules)
        self.reads = Reads(self.engine, CATALOGUE, self.sealer, ())
        self.restart()

    def restart(self) -> None:
        """A new writer on the same file, as after a crash."""
        self.appender = Appender(self.engine, self.clock, self.rules, self.sealer, self.folder / "run")
        self.persons = Persons(self.engine, self.sealer, CATALOGUE)
        self.eraser = Eraser(self.engine, self.clock, self.persons, self.sealer, self.appender)
        self.writer = Writer(self.appender, 1_000)
        self.quarantine = Quarantine(self.engine, self.normaliser, self.writer, self.clock)

    def at(self, now_us: int) -> None:
        """Move the clock."""
        self.now_us = now_us
        self.clock.setting = ClockSetting(base_virtual_us=now_us, rate=0.0)

    def send(self, *messages: dict[str, Any], **batch: Any) -> list[int]:
        """One batch, one transaction."""
        body = msgspec.json.encode({"batch": list(messages), **batch})
        return self.appender.append(self.normaliser.items(read(body), self.source_id, self.clock.now_us()))

    def take(self, *records: ImportRecord, source_id: str = "file") -> list[int]:
        """One import request."""
        now_us = self.clock.now_us()
        return self.appender.append([self.normaliser.imported(record, source_id, now_us) for record in records])

    def undo(self, number: int, reason: str, key: str | None = None) -> UndoAnswer:
        """Take back a merge or an undo."""
        return self.appender.undo(UndoRequest(number=number, reason=reason, idempotency_key=key))

    def records(self) -> list[LogRecord]:
        """The log."""
        reader = SqliteLogReader(self.folder / store.DATABASE, store.LOG)
        found = [decode_record(entry.payload) for entry in reader.read({}, 1_000_000)]
        reader.close()
        return found

    def events(self) -> list[Event]:
        """The events of the log, opened."""
        return [self.sealer.opened(record) for record in self.records() if isinstance(record, Event)]

    def merges(self) -> list[MapChanged]:
        """The merges of the log."""
        return [record for record in self.records() if isinstance(record, MapChanged)]

    def consents(self) -> list[ConsentStated]:
        """The statements of the log."""
        return [record for record in self.records() if isinstance(record, ConsentStated)]

    def customer_of(self, namespace: str, value: str) -> str | None:
        """Whose customer an identity is now."""
        with self.engine.connect() as connection:
            return store.customer_of_identity(connection, namespace, value)


def track(message_id: str, *, user: str | None = None, anonymous: str | None = None, **more: Any) -> dict[str, Any]:
    """A track call."""
    call = {"type": "track", "event": "Logged In", "messageId": message_id, "userId": user, "anonymousId": anonymous}
    return {**call, **more}


def identify(message_id: str, *, user: str | None = None, anonymous: str | None = None, **more: Any) -> dict[str, Any]:
    """An identify call."""
    return {"type": "identify", "messageId": message_id, "userId": user, "anonymousId": anonymous, **more}
