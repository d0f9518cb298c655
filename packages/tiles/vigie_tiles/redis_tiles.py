"""The serving copy of tiles in Redis: what features.db held at one position, written after its commit, read at once.

Four hashes of one feature table in the hash slot of an installation (`{vigie:…}`), which the key `live` names with the
table's rows: `applied` (lane -> number), `tiles` (member -> blob), `moved` (member -> its customer, where that is
another id) and `joined` (customer -> its other members, JSON).
A write names the position it starts from: one that comes late, twice or after a gap changes nothing. The copy is lost
when any of its hashes is (a restart without persistence, an eviction); then reads say so until it is filled again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import uuid4

import redis
from redis.exceptions import RedisError, WatchError
from vigie_contracts.errors import Conflict, InvalidInput, Unavailable
from vigie_contracts.features import FeatureSpec

from vigie_tiles import codec
from vigie_tiles.layout import Layout
from vigie_tiles.live import Following, Met, rows_of
from vigie_tiles.reader import TileRead, finalised

TIMEOUT_SECONDS = 10.0
LOST = "holds no whole copy of these tiles; the features service fills it when it runs with VIGIE_REDIS_URL"
_WHOLE = "\0whole"
"""A field of every hash, so that an evicted hash differs from an empty one."""
_READ = """
local function many(key, names)
  local found = {}
  for first = 1, #names, 4000 do
    local part = redis.call('HMGET', key, unpack(names, first, math.min(first + 3999, #names)))
    for place = 1, #part do found[first + place - 1] = part[place] end
  end
  return found
end
for place = 1, 4 do
  if redis.call('HEXISTS', KEYS[place], '\\0whole') == 0 then return false end
end
local moved, joined = many(KEYS[3], ARGV), many(KEYS[4], ARGV)
local counts, members = {}, {}
for place, customer in ipairs(ARGV) do
  local before = #members
  if not moved[place] then members[#members + 1] = customer end
  if joined[place] then
    for _, member in ipairs(cjson.decode(joined[place])) do members[#members + 1] = member end
  end
  counts[place] = #members - before
end
return {redis.call('HGETALL', KEYS[1]), counts, many(KEYS[2], members)}
"""


@dataclass(frozen=True)
class Delta:
    """New values of a copy: None, or no member, removes. `joined` are members whose own id is not the customer's."""

    tiles: Mapping[str, bytes | None] = field(default_factory=dict)
    moved: Mapping[str, str | None] = field(default_factory=dict)
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict)


class _Keys(NamedTuple):
    applied: str
    tiles: str
    moved: str
    joined: str


class RedisTiles:
    """One copy in one Redis: `read` for everybody, `commit` and `refill` for the features service alone.

    Every method raises Unavailable, in a sentence, when Redis does not answer.
    """

    def __init__(self, url: str, created_at: str, layout: Layout) -> None:
        """`url`: redis://host:port/number; `created_at`: the installation's, so that two can share a Redis."""
        self._following = Following(layout)
        self._created_at = created_at
        try:
            self._client: Any = redis.Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS)
        except ValueError as error:
            raise InvalidInput(f"the address of Redis is wrong ({error}); write redis://host:port/0") from error
        pool = self._client.connection_pool.connection_kwargs
        self._where = f"Redis at {pool.get('host', 'its socket')}:{pool.get('port', '')}".removesuffix(":")
        self._script: Callable[..., Any] = self._client.register_script(_READ)

    def read(self, customer_ids: Sequence[str], features: Sequence[FeatureSpec], now_us: int) -> TileRead:
        """As TileReader.read, from one instant of the copy; Unavailable when the copy is lost."""
        asked = list(dict.fromkeys(customer_ids))
        with self._spoken():
            met = self._following.now
            found = self._script(keys=self._keys(met), args=asked)
            if found is None and self._follow(met):
                met = self._following.now
                found = self._script(keys=self._keys(met), args=asked)
        if found is None:
            raise Unavailable(f"{self._where} {LOST}")
        applied, counts, blobs = found
        rest = iter(blobs)
        own = {
            customer: [blob for blob in islice(rest, count) if blob is not None]
            for customer, count in zip(asked, counts, strict=True)
        }
        tiles = [[(blob, codec.newest_us(blob)) for blob in own[customer]] for customer in customer_ids]
        pos = {
            int(lane): int(number) for lane, number in zip(applied[::2], applied[1::2], strict=True) if lane.isdigit()
        }
        return finalised(met.layout, features, tiles, pos, now_us)

    def position(self, lane: int) -> int | None:
        """What the copy holds of a lane; None when it is lost or was never filled."""
        keys = self._keys(self._following.now)
        with self._spoken(), self._client.pipeline() as pipe:
            for key in keys[1:]:
                pipe.hexists(key, _WHOLE)
            *whole, number = pipe.hget(keys.applied, lane).execute()
        return int(number) if all(whole) and number is not None else None

    def count(self, member_ids: Sequence[str]) -> int:
        """How many fields of the copy, the one being read, name these members."""
        if not member_ids:
            return 0
        with self._spoken(), self._client.pipeline() as pipe:
            for key in self._keys(self._following.now)[1:]:
                pipe.hmget(key, list(member_ids))
            return sum(value is not None for values in pipe.execute() for value in values)

    def commit(self, lane: int, expected: int, number: int, delta: Delta) -> None:
        """Move the copy from `expected` to `number`, whole or not at all; Conflict when it stands elsewhere."""
        keys = self._keys(self._following.now)
        with self._spoken(), self._client.pipeline() as pipe:
            try:
                pipe.watch(keys.applied)
                held = pipe.hget(keys.applied, lane)
                if held is None or int(held) != expected:
                    stands = "nowhere" if held is None else f"at {int(held)}"
                    raise Conflict(f"{self._where} stands {stands}, not at {expected}: this write is late or has a gap")
                pipe.multi()
                _put(pipe, keys, delta)
                pipe.hset(keys.applied, lane, number)
                pipe.execute()
            except WatchError as error:
                raise Conflict(f"{self._where} was moved by another writer at the same time") from error

    def refill(self, lane: int, number: int, parts: Iterable[Delta]) -> None:
        """Replace the copy by what `parts` hold at `number`, at once when all have come.

        Conflict when the copy already stands further: an older state never replaces a newer one.
        """
        met = self._following.now
        keys, filling = self._keys(met), self._keys(met, f":filling:{uuid4().hex}")
        with self._spoken(), self._client.pipeline() as pipe:
            try:
                for part in chain([Delta()], parts):
                    _put(pipe, filling, part)
                    pipe.execute()
                pipe.watch(keys.applied)
                held = pipe.hget(keys.applied, lane)
                if held is not None and int(held) > number:
                    raise Conflict(
                        f"{self._where} stands at {int(held)}, further than features.db at {number}: were data restored"
                        f" from a backup? Then delete the keys {self.prefix}:* and the copy is filled again"
                    )
                pipe.multi()
                pipe.hset(filling.applied, mapping={_WHOLE: 1, str(lane): number})
                pipe.hset(self._live_key, mapping={"live": met.live, "rows": rows_of(met.layout.table)})
                for old, new in zip(keys, filling, strict=True):
                    pipe.rename(new, old)
                pipe.execute()
                self._forget_others(keys)
            except WatchError as error:
                raise Conflict(f"{self._where} was moved by another writer at the same time") from error
            finally:
                self._client.unlink(*filling)

    @property
    def live(self) -> str:
        """The hash of the feature table whose tiles are copied."""
        return self._following.now.live

    @property
    def prefix(self) -> str:
        """What the names of this installation's keys begin with."""
        return f"{{vigie:{hashlib.sha256(self._created_at.encode()).hexdigest()[:16]}}}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def _live_key(self) -> str:
        return f"{self.prefix}:live"

    def _follow(self, met: Met) -> bool:
        """Take over the feature table of the copy; whether it is another one."""
        live, rows = self._client.hmget(self._live_key, "live", "rows")
        if live is None or rows is None or live.decode() == met.live:
            return False
        self._following.at(live.decode(), lambda: rows)
        return True

    def _keys(self, met: Met, suffix: str = "") -> _Keys:
        return _Keys(*(f"{self.prefix}:{met.live}:{part}{suffix}" for part in _Keys._fields))

    def _forget_others(self, keys: _Keys) -> None:
        """Delete this installation's copies for earlier tables, which nobody keeps (nor erases anybody from)."""
        names = {key.encode() for key in (*keys, self._live_key)}
        others = [name for name in self._client.scan_iter(f"{self.prefix}:*", count=1000) if name not in names]
        if others:
            self._client.unlink(*others)

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Redis' errors as one sentence, without a traceback of its client."""
        try:
            yield
        except WatchError:
            raise
        except RedisError as error:
            raise Unavailable(f"{self._where} does not answer ({error}): is it running?") from error


def _put(pipe: Any, keys: _Keys, delta: Delta) -> None:
    """Queue new values and removals; every hash gets its mark, also one without rows."""
    joined = {customer: json.dumps(list(members)) if members else None for customer, members in delta.joined.items()}
    rows: Sequence[Mapping[str, bytes | str | None]] = (delta.tiles, delta.moved, joined)
    for key, values in zip(keys[1:], rows, strict=True):
        kept = {name: value for name, value in values.items() if value is not None}
        gone = [name for name, value in values.items() if value is None]
        pipe.hset(key, mapping={_WHOLE: 1} | kept)
        if gone:
            pipe.hdel(key, *gone)
