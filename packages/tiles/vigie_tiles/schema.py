"""The tables of features.db that hold tiles. Only services/features writes them; everybody else reads.

`tiles`: one blob a member. `customers`: when a quiet customer's features move next. `members`: the map member ->
customer with its history (`until_us` null = now; a member without a row is its own customer). `applied`: per lane the
last number of the log "events" that the tiles hold. `installation`: single values; under WATERMARK the instant up to
which the sweep has visited everybody who was due.
"""

FEATURES_DB = "features.db"
WATERMARK = "sweep_watermark_us"

_TILES = "CREATE TABLE IF NOT EXISTS {} (member_id TEXT PRIMARY KEY, blob BLOB NOT NULL, newest_us INTEGER NOT NULL)"
NEXT_TILES = _TILES.format("tiles_next")
"""Tiles that are folded for a changed feature table and not read by anybody yet."""

DDL: tuple[str, ...] = (
    _TILES.format("tiles"),
    NEXT_TILES,
    "CREATE TABLE IF NOT EXISTS customers ("
    "customer_id TEXT PRIMARY KEY, next_change_at_us INTEGER NOT NULL, newest_us INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS customers_by_next_change ON customers (next_change_at_us)",
    "CREATE TABLE IF NOT EXISTS members ("
    "member_id TEXT NOT NULL, customer_id TEXT NOT NULL, from_us INTEGER NOT NULL, until_us INTEGER)",
    "CREATE UNIQUE INDEX IF NOT EXISTS members_now ON members (member_id) WHERE until_us IS NULL",
    "CREATE INDEX IF NOT EXISTS members_by_customer ON members (customer_id) WHERE until_us IS NULL",
    "CREATE INDEX IF NOT EXISTS members_history ON members (member_id, from_us)",
    "CREATE TABLE IF NOT EXISTS applied (lane INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS installation (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
"""Statements that create the tables; safe to run again."""
