"""The study of next-best-offer propensity: shown offers, and whether the same recommendation was accepted in time."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
from vigie_contracts.errors import InvalidInput
from vigie_contracts.features import FeatureTable
from vigie_contracts.instants import DAY_US
from vigie_contracts.models import PROPENSITY_MODEL
from vigie_contracts.offers import load_offers

from vigie_training import splits
from vigie_training.population import archive_views, denying, strings
from vigie_training.snapshots import LabelledRows
from vigie_training.splits import Split
from vigie_training.study import Study, base_rate_of_offer
from vigie_training.vectors import TrainingVectors

ACCEPTED_WITHIN_DAYS = 14
SPAN_US = ACCEPTED_WITHIN_DAYS * DAY_US
DEFINITION = "next-best-offer"
PRIMARY_METRIC = "auc"


def propensity_study(data: Path, feature_repo: Path, now_us: int, progress: Callable[[str], None]) -> Study:
    """Mature offer.shown events of declared offers, split by time. InvalidInput when they are too few."""
    offers = tuple(offer.code for offer in load_offers(feature_repo).offer)
    with archive_views(data / "archive") as db:
        rows, exclusions = shown_offers(db, offers, now_us)
    if not len(rows):
        raise InvalidInput("no offer was shown and could be answered yet: show offers and let 14 days pass, then train")
    split = splits.by_time(rows, SPAN_US)
    used = split.train | split.calibrate | split.test
    exclusions["rows between the slices, whose answers overlap (purge)"] = int((~used).sum())
    rows, split = rows.take(used), Split(split.train[used], split.calibrate[used], split.test[used])
    table = FeatureTable.load(feature_repo)
    progress(f"Reading {len(table.features)} features of {len(rows)} shown offers through Feast")
    vectors = TrainingVectors(data, feature_repo).at(rows.customer_ids, rows.as_of_us, table.features)
    return Study(
        kind="propensity",
        definition=DEFINITION,
        model_name=PROPENSITY_MODEL,
        title="acceptance of an offer that is shown",
        gap_days=0,
        horizon_days=ACCEPTED_WITHIN_DAYS,
        span_us=SPAN_US,
        primary_metric=PRIMARY_METRIC,
        split_kind="time",
        table=table,
        features=table.features,
        offers=offers,
        rows=rows,
        vectors=vectors,
        split=split,
        floor_name="the offer's base acceptance rate",
        floor=base_rate_of_offer,
        exclusions=exclusions,
    )


def shown_offers(
    db: duckdb.DuckDBPyConnection, offers: tuple[str, ...], now_us: int
) -> tuple[LabelledRows, dict[str, int]]:
    """Rows at the shown instant, ordered by it, and what was left out. The label window is [shown, shown + 14 d).

    Accepted means: `offer.accepted` of the same customer, offer and recommendation (without recommendation_id: offer).
    """
    found = db.sql(_SHOWN, params={"span": SPAN_US}).to_arrow_table()
    end_us = min(now_us, db.execute("SELECT max(known_at_us) FROM events").fetchall()[0][0] or 0)
    rows = LabelledRows(
        customer_ids=strings(found["customer_id"]),
        as_of_us=found["as_of_us"].to_numpy().astype(np.int64),
        labels=found["accepted"].to_numpy().astype(np.int8),
        offers=strings(found["offer"]),
    )
    denied = denying(db, "analytics")
    allowed = np.array([customer_id not in denied for customer_id in rows.customer_ids], dtype=bool)
    declared = np.isin(rows.offers.astype(str), offers) if rows.offers is not None else allowed
    mature = rows.as_of_us + SPAN_US <= end_us
    exclusions = {
        "shown offers of customers who deny analytics": int((~allowed).sum()),
        "shown offers that are not in offers.toml": int((~declared).sum()),
        "shown offers that may still be accepted": int((~mature).sum()),
    }
    return rows.take(allowed & declared & mature), exclusions


_SHOWN = """
WITH said AS (
  SELECT coalesce(c.customer_id, e.member_id) AS customer_id, e.name, e.effective_at_us AS at_us, e.event_id,
         e.lane, e.number,
         json_extract_string(e.properties, '$.offer') AS offer,
         coalesce(json_extract_string(e.properties, '$.recommendation_id'), '') AS recommendation
  FROM events e LEFT JOIN customer_of c USING (member_id)
  WHERE e.catalogued AND e.name IN ('offer.shown', 'offer.accepted')
)
SELECT s.customer_id, s.at_us AS as_of_us, s.offer,
       count(a.at_us) > 0 AS accepted
FROM (SELECT * FROM said WHERE name = 'offer.shown' AND offer IS NOT NULL) s
LEFT JOIN (SELECT * FROM said WHERE name = 'offer.accepted') a
  ON a.customer_id = s.customer_id AND a.offer = s.offer AND a.recommendation = s.recommendation
 AND a.at_us >= s.at_us AND a.at_us < s.at_us + $span
GROUP BY s.customer_id, s.at_us, s.offer, s.lane, s.number
ORDER BY s.at_us, s.customer_id, s.number
"""
