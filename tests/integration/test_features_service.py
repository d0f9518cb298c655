"""services/features as its own process: values, the archive, kills at every failpoint, the sweep on a running clock."""

import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from vigie_cli.commands.features import features as features_command
from vigie_contracts.events import Change, Erased, Event
from vigie_contracts.instants import DAY_US
from vigie_features.archive import load_manifest
from vigie_features.failpoints import DEFINE_FAILPOINTS, FAILPOINTS
from vigie_kit import installation
from vigie_kit.sqlite_log import SqliteLogReader
from vigie_tiles import oracle
from vigie_tiles.reader import TileReader
from vigie_tiles.redis_tiles import RedisTiles

from tests.integration.features_fixtures import FeaturesProcess, rows, set_clock, state
from tests.servers import free_port, redis_server, until
from tests.unit.features.features_world import FEATURE_REPO, LAYOUT, NOW_US, TABLE, EventsLog, entries, event, records
from tests.unit.features.test_archive import archived, expected, shortened

COUNT = 300
RECORDS = records(21, count=COUNT)
FEATURES = ("login_count_30d", "login_recency", "tenure_days", "age_band", "card_spend_30d", "active_days_30d")


def prepared(data: Path) -> int:
    """An installation whose log holds RECORDS; the log's last number."""
    data.mkdir(parents=True, exist_ok=True)
    set_clock(data)
    return EventsLog(data).append(RECORDS)


def hints(data: Path) -> list[Change]:
    log = SqliteLogReader(data / "features.db", "changes")
    return [msgspec.json.decode(entry.payload, type=Change) for entry in log.read({}, 100_000)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[tuple[Any, ...]]]]:
    """What a run that nobody disturbed leaves behind."""
    data = tmp_path_factory.mktemp("undisturbed")
    number = prepared(data)
    with FeaturesProcess(data) as process:
        process.applied(number)
        assert process.stop() == 0
    return data, state(data)


def test_values_over_http_are_the_oracles(tmp_path: Path) -> None:
    number = prepared(tmp_path)
    features = TABLE.select(FEATURES)
    with FeaturesProcess(tmp_path) as process:
        process.applied(number)
        answer = process.post("/internal/read", customer_ids=["m00", "m01", "m11", "nobody"], features=list(FEATURES))
    log = [(entry.position, record) for entry, record in zip(entries(RECORDS), RECORDS, strict=True)]
    assert [row["present"] for row in answer["rows"]] == [True, True, True, False]
    for row in answer["rows"]:
        assert row["read_point"] == {"t_us": NOW_US, "pos": {"0": number}}
        assert row["values"] == [
            oracle.value(feature, log, row["customer_id"], NOW_US, "Europe/Paris") for feature in features
        ]


def test_the_archive_of_the_process_is_exactly_the_log(undisturbed: tuple[Path, Any]) -> None:
    data, _ = undisturbed
    log = SqliteLogReader(data / "ingest.db", "events").read({}, 10_000)
    assert shortened(archived(data / "archive")) == expected(log, RECORDS)
    assert load_manifest(data / "archive").end == {0: COUNT}


def test_no_customer_is_hinted_twice_for_one_cause(undisturbed: tuple[Path, Any]) -> None:
    found = [(hint.customer_id, hint.cause) for hint in hints(undisturbed[0])]
    assert len(found) == len(set(found))


CHAINS = {
    "writer": [name for name in FAILPOINTS if name.split(".")[1].split("_")[0] in ("before", "after")],
    "archive": [name for name in FAILPOINTS if "archive" in name],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_killed_at_one_place_after_the_other_everything_ends_as_if_undisturbed(
    chain: str, tmp_path: Path, undisturbed: tuple[Path, dict[str, list[tuple[Any, ...]]]]
) -> None:
    assert len(CHAINS[chain]) == 4
    number = prepared(tmp_path)
    for name in CHAINS[chain]:
        FeaturesProcess(tmp_path, failpoint=name).wait_killed()
    with FeaturesProcess(tmp_path) as again:
        again.applied(number)
    assert state(tmp_path) == undisturbed[1]
    log = SqliteLogReader(tmp_path / "ingest.db", "events").read({}, 10_000)
    assert shortened(archived(tmp_path / "archive")) == expected(log, RECORDS)
    listed = {file.name for file in load_manifest(tmp_path / "archive").files} | {"manifest.json"}
    assert {path.name for path in (tmp_path / "archive").iterdir()} == listed


@pytest.mark.parametrize("name", ["features.sweep_before_commit", "features.sweep_after_commit"])
def test_a_kill_in_the_sweep_after_an_outage_visits_everybody_exactly_once(
    name: str, tmp_path: Path, undisturbed: tuple[Path, Any]
) -> None:
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    before = len(hints(tmp_path))
    set_clock(tmp_path, NOW_US + 45 * DAY_US)
    FeaturesProcess(tmp_path, failpoint=f"{name}:2", sweep_page="3").wait_killed()
    with FeaturesProcess(tmp_path, sweep_page="3") as process:
        watermark = until("the sweep to be done", lambda: swept(process))
    assert watermark == NOW_US + 45 * DAY_US
    visited = [hint.customer_id for hint in hints(tmp_path)[before:]]
    assert sorted(visited) == [row[0] for row in rows(tmp_path, "SELECT customer_id FROM customers ORDER BY 1")]
    assert {hint.why for hint in hints(tmp_path)[before:]} == {"sweep"}


def swept(process: FeaturesProcess) -> int | None:
    """The watermark once it has reached the standing clock."""
    if not process.ready():
        return None
    status = process.get("/internal/status")
    return status["watermark_us"] if status["watermark_us"] == status["business_now_us"] else None


def test_on_a_fast_clock_a_quiet_customer_is_swept_again_and_again(tmp_path: Path) -> None:
    set_clock(tmp_path, NOW_US, rate=200_000.0)
    EventsLog(tmp_path).append([event("quiet", "app.logged_in", NOW_US - DAY_US, event_id="1")])
    with FeaturesProcess(tmp_path) as process:
        until("five sweeps", lambda: process.ready() and sum(hint.why == "sweep" for hint in hints(tmp_path)) >= 5)
        values = process.post("/internal/read", customer_ids=["quiet"], features=["login_recency", "login_count_90d"])
    instants = [row["read_point"]["t_us"] for row in values["rows"]]
    assert instants[0] > NOW_US
    assert values["rows"][0]["values"][0] >= 24


NEW_FEATURE = "articles_on_anything_7d"


def with_a_row_more(folder: Path) -> Path:
    """A feature repository that declares NEW_FEATURE too, which needs cells that no other row needs."""
    shutil.copytree(FEATURE_REPO, folder)
    table = folder / "features.toml"
    row = (
        f'{{ name = "{NEW_FEATURE}", measure = "count", events = ["article.read"], window_days = 7,'
        ' where = { direction = "in" }, description = "Articles", concept = "learning" },\n]'
    )
    head, _, _ = table.read_text().rpartition("]")
    table.write_text(head + row)
    return folder


def articles_read(data: Path, customer_id: str) -> int:
    """What NEW_FEATURE must say, from the records."""
    mapped = "SELECT member_id FROM members WHERE until_us IS NULL AND customer_id = ?"
    own = {row[0] for row in rows(data, mapped, customer_id)} | {customer_id}
    return sum(
        isinstance(one, Event)
        and one.member_id in own
        and one.name == "article.read"
        and one.properties["direction"] == "in"
        and one.effective_at_us >= (NOW_US // 3_600_000_000 - 7 * 24) * 3_600_000_000
        for one in RECORDS
    )


def is_live(process: FeaturesProcess) -> bool:
    """Whether nothing is folded for any more."""
    return process.get("/internal/catalogue")["awaited"] == []


@pytest.mark.parametrize("failpoint", ["", "features.rebuild_before_commit:3", "features.rebuild_after_commit:3"])
def test_a_row_that_is_applied_while_it_serves_is_null_until_it_is_live(
    failpoint: str, tmp_path: Path, undisturbed: tuple[Path, dict[str, list[tuple[Any, ...]]]]
) -> None:
    data, repo = tmp_path / "data", tmp_path / "repo"
    shutil.copytree(undisturbed[0], data)
    shutil.copytree(FEATURE_REPO, repo)
    asked = {"customer_ids": ["m00"], "features": ["login_count_30d", NEW_FEATURE]}
    with FeaturesProcess(data, feature_repo=repo, failpoint=failpoint) as process:
        process.applied(COUNT)
        before = process.post("/internal/read", customer_ids=["m00"], features=["login_count_30d"])["rows"][0]["values"]
        shutil.rmtree(repo)
        with_a_row_more(repo)
        told = process.post("/internal/apply")
        assert (told["awaited"], told["until"]) == ([NEW_FEATURE], COUNT)
        if failpoint:
            process.wait_killed()
        else:
            seen = []
            until("the feature", lambda: seen.append(process.post("/internal/read", **asked)) or is_live(process))
            assert {tuple(one["rows"][0]["values"]) for one in seen} <= {
                (before[0], None), (before[0], articles_read(data, "m00"))
            }  # fmt: skip
            assert process.post("/internal/apply") == {"features": told["features"], "awaited": [], "until": COUNT}
    with FeaturesProcess(data, feature_repo=repo) as process:
        process.applied(COUNT)
        until("the feature", lambda: is_live(process))
        assert process.post("/internal/read", **asked)["rows"][0]["values"] == [*before, articles_read(data, "m00")]
    folded, as_before = state(data), undisturbed[1]
    for name in ("members", "applied", "memberships", "sizes", "segments", "changes"):
        assert folded[name] == as_before[name]
    assert rows(data, "SELECT count(*) FROM tiles_next") == [(0,)]


@pytest.mark.parametrize("failpoint", ["", "features.rebuild_before_commit:4", "features.rebuild_after_commit:4"])
def test_damaged_tiles_are_made_whole_by_a_replay_that_a_kill_does_not_end(
    failpoint: str, tmp_path: Path, undisturbed: tuple[Path, dict[str, list[tuple[Any, ...]]]]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(undisturbed[0], data)
    with contextlib.closing(sqlite3.connect(data / "features.db")) as db, db:
        db.execute("UPDATE tiles SET blob = substr(blob, 1, 20) WHERE member_id = 'm00'")
    with FeaturesProcess(data, failpoint=failpoint) as process:
        process.applied(COUNT)
        with pytest.raises(AssertionError, match="a tile is cut short: rebuild the tiles with `vigie replay tiles`"):
            process.post("/internal/read", customer_ids=["m00"], features=["login_count_30d"])
        told = process.post("/internal/replay", projection="tiles")
        assert (told["awaited"], told["until"]) == ([], COUNT)
        if failpoint:
            process.wait_killed()
        else:
            until("the replay", lambda: "next_features" not in process.get("/internal/status")["offsets"])
    with FeaturesProcess(data) as process:
        process.applied(COUNT)
        until("the replay", lambda: "next_features" not in process.get("/internal/status")["offsets"])
    assert state(data) == undisturbed[1]


def test_tiles_that_cannot_be_read_are_folded_anew_and_everybody_is_hinted(
    tmp_path: Path, undisturbed: tuple[Path, dict[str, list[tuple[Any, ...]]]]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(undisturbed[0], data)
    with contextlib.closing(sqlite3.connect(data / "features.db")) as db, db:
        db.execute("UPDATE installation SET value = 'another' WHERE key = 'layout_hash'")
    with FeaturesProcess(data, failpoint="features.rebuild_before_commit:3") as process:
        process.wait_killed()
    with FeaturesProcess(data) as process:
        process.applied(COUNT)
    rebuilt, before = state(data), undisturbed[1]
    for name in ("members", "applied", "memberships", "sizes", "segments"):
        assert rebuilt[name] == before[name]
    added = hints(data)[len(before["changes"]) :]
    assert [(hint.customer_id, hint.why) for hint in added] == [(row[0], "rebuild") for row in before["customers"]]


def test_parity_says_when_it_compared_nothing(undisturbed: tuple[Path, Any]) -> None:
    where = ["--data", str(undisturbed[0]), "--feature-repo", str(FEATURE_REPO)]
    assert CliRunner().invoke(features_command, ["apply", *where]).exit_code == 0
    asked = ["parity", *where, "--customers", "5"]
    told = CliRunner().invoke(features_command, asked)
    assert (told.exit_code, "nothing was compared (no stored score yet)" in " ".join(told.output.split())) == (1, True)
    assert CliRunner().invoke(features_command, [*asked, "--scores", "0"]).exit_code == 0


def test_the_process_keeps_a_copy_in_redis_and_folds_on_while_redis_is_away(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    number = prepared(data)
    copy = RedisTiles(f"redis://127.0.0.1:{port}/0", installation.load(data).created_at, LAYOUT)
    origin = TileReader(data / "features.db", LAYOUT)
    with FeaturesProcess(data, redis_url=f"redis://127.0.0.1:{port}/0") as process:
        missing = f"Redis at 127.0.0.1:{port} does not answer"
        until("the process to miss Redis", lambda: missing in process.unready())
        until("the state", lambda: rows(data, "SELECT number FROM applied") == [(number,)])
        with redis_server(tmp_path, port):
            process.applied(number)
            until("the copy", lambda: copy.position(0) == number)
            last = EventsLog(data).append([event("m03", "card.used", NOW_US - 1, event_id="last")])
            until("the copy to follow", lambda: copy.position(0) == last)
            asked = sorted({row.member_id for row in RECORDS if isinstance(row, Event)})
            here, there = (place.read(asked, TABLE.features, NOW_US) for place in (origin, copy))
            assert there.pos == here.pos == {0: last}
            assert there.matrix.values.tolist() == here.matrix.values.tolist()
            assert there.matrix.valid.tolist() == here.matrix.valid.tolist()
            _erased_from_redis(process, data, copy)
            assert process.stop() == 0
    copy.close()
    origin.close()


def _erased_from_redis(process: FeaturesProcess, data: Path, copy: RedisTiles) -> None:
    """The proof of an erasure names the copy, and waits until it has come to the erasure."""

    def held(number: int) -> tuple[bool, int]:
        answer = process.post("/internal/holdings", customer_id="m03", member_ids=["m03"], number=number)
        return answer["reached"], {place["name"]: place["found"] for place in answer["places"]}["copy in Redis"]

    before = copy.position(0) or 0
    until("the archive to follow too", lambda: held(before)[0])
    assert held(before)[1] > 0
    assert held(before + 1)[0] is False
    erased = EventsLog(data).append(
        [Erased(erasure_id="r1", customer_id="m03", member_ids=["m03"], known_at_us=NOW_US - 1)]
    )
    until("everything to come to the erasure", lambda: held(erased) == (True, 0))


def test_a_segment_that_is_defined_among_kills_is_entered_by_everybody_inside_exactly_once(
    tmp_path: Path, undisturbed: tuple[Path, Any]
) -> None:
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    before = len(rows(tmp_path, "SELECT number FROM log_segments"))
    asked = {"key": "opened", "name": {"en": "Opened"}, "definition": "tenure_days is not null", "expected_version": 0}
    for name in DEFINE_FAILPOINTS:
        process = FeaturesProcess(tmp_path, failpoint=name)
        until("features to be ready", process.ready)
        with pytest.raises(httpx.HTTPError):
            process.post("/internal/segment-define", **asked)
        process.wait_killed()
    for name in ("features.rebuild_before_commit:2", "features.rebuild_after_commit:2"):
        FeaturesProcess(tmp_path, failpoint=name).wait_killed()
    with FeaturesProcess(tmp_path) as process:
        process.applied(COUNT)
        until("the walk", lambda: not process.post("/internal/segment-define", **asked)["segment"]["evaluating"])
        again = process.post("/internal/segment-define", **asked)
        members = process.post("/internal/segment-members", key="opened", limit=1000)["memberships"]
        seen = process.post("/internal/segment-preview", definition=asked["definition"], limit=100)
    assert (again["changed"], again["segment"]["version"]) == (False, 1)
    customers = [row["customer_id"] for row in members]
    assert customers == seen["customer_ids"]
    moves = rows(tmp_path, f"SELECT customer_id, key, version, entered FROM segment_moves WHERE number > {before}")
    assert sorted(moves) == [(customer_id, "opened", 1, 1) for customer_id in customers]
    assert len(moves) == again["segment"]["size"] > 1


def test_internal_routes_need_the_token_and_refuse_in_words(tmp_path: Path) -> None:
    prepared(tmp_path)
    with FeaturesProcess(tmp_path) as process:
        process.applied(COUNT)
        base = f"http://127.0.0.1:{process.port}"
        assert httpx.get(f"{base}/internal/status").status_code == 401
        assert httpx.get(f"{base}/livez").status_code == 200
        headers = {"Authorization": "Bearer test-token"}

        def refusal(path: str, **body: Any) -> tuple[int, str]:
            answer = httpx.post(f"{base}{path}", json=body, headers=headers)
            return answer.status_code, answer.json()["detail"]

        assert refusal("/internal/read", customer_ids=["m00"], features=["nonsense"]) == (
            400,
            "no such feature: nonsense",
        )
        assert refusal("/internal/read", customer_ids=["m"] * 1001)[0] == 400
        assert refusal("/internal/engagement", customer_ids=[], window_days=3) == (
            400,
            "a window has 1, 7, 30, 90 days, not 3",
        )
        assert refusal("/internal/segment-members", key="at_risk")[0] == 404
        catalogue = process.get("/internal/catalogue")
        assert [feature["name"] for feature in catalogue["features"]] == [feature.name for feature in TABLE.features]


def test_a_start_without_an_installation_says_what_to_do(tmp_path: Path) -> None:
    process = FeaturesProcess(tmp_path)
    assert process.child.wait(60) == 2
    assert "holds no Vigie installation" in process.log.read_text()
