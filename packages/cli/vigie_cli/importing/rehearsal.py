"""A dry run: takes import requests as ingest does, judges each record by the same code, and keeps nothing."""

from collections import Counter
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
from vigie_contracts.events import Position
from vigie_contracts.imports import ImportAnswer, ImportRecord, RefusedRecord
from vigie_ingest.domain import Refusal
from vigie_ingest.messages import Normaliser

from vigie_cli.importing.sending import Request

T = TypeVar("T")


class Rehearsal:
    """In the place of ingest's client. A duplicate is an event id that an earlier row of the same run has."""

    def __init__(self, normaliser: Normaliser, now_us: int) -> None:
        self._normaliser = normaliser
        self._now_us = now_us
        self._seen: set[bytes] = set()
        self._decoder = msgspec.json.Decoder(ImportRecord)
        self.uncatalogued: Counter[str] = Counter()

    def post(self, path: str, body: object, answer: type[T]) -> T:
        """What ingest would answer to an import request."""
        assert isinstance(body, Request)
        refused: list[RefusedRecord] = []
        accepted = 0
        for index, raw in enumerate(body.records):
            found = self._normaliser.imported(self._decoder.decode(raw), body.source_id, self._now_us)
            if isinstance(found, Refusal):
                refused.append(RefusedRecord(index=index, code=found.code, reason=found.reason))
            elif self._new(found.event_id):
                accepted += 1
                if found.kind == "track" and not found.catalogued:
                    self.uncatalogued[found.name] += 1
        duplicates = len(body.records) - accepted - len(refused)
        given: Any = ImportAnswer(accepted=accepted, duplicates=duplicates, refused=refused, end=Position(0, 0))
        return msgspec.convert(given, answer)

    def _new(self, event_id: str) -> bool:
        key = blake2b(event_id.encode(), digest_size=12).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        return True
