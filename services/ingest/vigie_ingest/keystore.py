"""The members' keys, in a file of their own: destroying a key makes the member's sealed parts unreadable for ever.

The file never lies in the same backup as the log, so that a backup of the log does not bring an erased person back.
"""

import os
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from vigie_contracts.errors import IncompatibleData
from vigie_kit.database import erasing, open_engine, reading, scrub, transaction

KEY_BITS = 256
CACHED_CIPHERS = 100_000
_DDL = (
    "CREATE TABLE IF NOT EXISTS keys (member_id TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS destroyed (member_id TEXT PRIMARY KEY, erasure_id TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS file (id INTEGER NOT NULL)",
)
_AMONG = "IN (SELECT value FROM json_each(?))"


class Keys:
    """`keys.db`. One thread writes (mints, destroys); any thread may ask for a cipher."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._engine = open_engine(path)
        self._ciphers: dict[str, AESGCM] = {}
        self._minted: dict[str, bytes] = {}
        with transaction(self._engine) as connection:
            for statement in _DDL:
                connection.exec_driver_sql(statement)
            found = connection.exec_driver_sql("SELECT id FROM file").scalar()
            self.id = int(found) if found is not None else secrets.randbits(62) + 1
            if found is None:
                connection.exec_driver_sql("INSERT INTO file VALUES (?)", (self.id,))

    def require(self, id_: int) -> None:
        """IncompatibleData unless this is the file with which the log was sealed."""
        if self.id != id_:
            raise IncompatibleData(
                f"{self.path} does not hold the keys of this log: what is sealed could not be read. Put the right file"
                " there (keys are backed up apart from the data), or name it with VIGIE_INGEST_KEYS"
            )

    def cipher(self, member_id: str) -> AESGCM | None:
        """The cipher of a member's key; None when there is none (any more)."""
        found = self._ciphers.get(member_id)
        if found is None:
            self.prefetch([member_id])
            found = self._ciphers.get(member_id)
        return found

    def prefetch(self, member_ids: Collection[str]) -> None:
        """Look up the keys of many members with one query."""
        if len(self._ciphers) >= CACHED_CIPHERS:
            self._ciphers = {member_id: AESGCM(key) for member_id, key in dict(self._minted).items()}
        missing = [member_id for member_id in member_ids if member_id not in self._ciphers]
        if not missing:
            return
        with reading(self._engine) as connection:
            sql = f"SELECT member_id, key FROM keys WHERE member_id {_AMONG}"
            for member_id, key in connection.exec_driver_sql(sql, (_json(missing),)):
                self._ciphers[member_id] = AESGCM(key)

    def mint(self, member_id: str) -> AESGCM:
        """A new member's cipher. What is sealed with it may only be committed after `commit`."""
        key = self._minted[member_id] = AESGCM.generate_key(KEY_BITS)
        found = self._ciphers[member_id] = AESGCM(key)
        return found

    def commit(self) -> None:
        """Make the minted keys durable."""
        if not self._minted:
            return
        with transaction(self._engine) as connection:
            connection.exec_driver_sql("INSERT INTO keys VALUES (?, ?)", sorted(self._minted.items()))
        self._minted.clear()

    def forget(self) -> None:
        """Drop minted keys that were not committed."""
        for member_id in self._minted:
            self._ciphers.pop(member_id, None)
        self._minted.clear()

    def destroy(self, member_ids: Sequence[str], erasure_id: str) -> bool:
        """Overwrite the keys of members; safe to repeat. False when the write-ahead log could not be emptied yet."""
        with erasing(self._engine) as connection:
            connection.exec_driver_sql(f"DELETE FROM keys WHERE member_id {_AMONG}", (_json(member_ids),))
            rows = [(member_id, erasure_id) for member_id in member_ids]
            connection.exec_driver_sql("INSERT OR IGNORE INTO destroyed VALUES (?, ?)", rows)
        for member_id in member_ids:
            self._ciphers.pop(member_id, None)
        return scrub(self._engine)

    def count(self, member_ids: Sequence[str]) -> int:
        """How many of the members have a key."""
        with reading(self._engine) as connection:
            sql = f"SELECT count(*) FROM keys WHERE member_id {_AMONG}"
            return int(connection.exec_driver_sql(sql, (_json(member_ids),)).scalar_one())

    def destroyed(self) -> dict[str, str]:
        """Member -> erasure, of every key ever destroyed."""
        with reading(self._engine) as connection:
            rows = connection.exec_driver_sql("SELECT member_id, erasure_id FROM destroyed")
            return {row[0]: row[1] for row in rows}

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()


def _json(values: Collection[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
