"""Erased records of the log "scores" are passed over, however many lie in a row."""

import asyncio
from pathlib import Path

from vigie_contracts.scores import ScoreRecord, ScoreUnavailable, encode_score
from vigie_gateway.hub import AT_ONCE, Hub
from vigie_kit.database import open_engine, transaction
from vigie_kit.sqlite_log import SqliteLogWriter


def test_a_reader_behind_erased_records_gets_what_follows_them(tmp_path: Path) -> None:
    current = ScoreUnavailable(customer_id="c", definition="closure", reason="CONSENT_WITHDRAWN", scored_at_us=1)
    record, writer = ScoreRecord(score_id="s", current=current), SqliteLogWriter("scores")
    engine = open_engine(tmp_path / "scoring.db")
    with transaction(engine) as connection:
        writer.create(connection)
        writer.append(connection, [*[b""] * (2 * AT_ONCE), encode_score(record)])
    hub = Hub(tmp_path)
    hub.end = 2 * AT_ONCE + 1
    (told,) = asyncio.run(hub.after(0))
    assert (told.number, told.record) == (hub.end, record)
    assert asyncio.run(hub.after(hub.end)) == []
    hub.close()
    engine.dispose()
