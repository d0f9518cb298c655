"""Cost of folding an event while the customers double and the rate of events stays: it must stay flat.

`python benchmarks/fold_growth.py PLOT.svg` also draws what it measured (docs/figures/fold-growth.svg).
"""

import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vigie_contracts.events import encode_record

CHECKOUT = Path(__file__).resolve().parent.parent
if str(CHECKOUT) not in sys.path:  # loaded by path, from whatever directory
    sys.path.append(str(CHECKOUT))

from benchmarks import bank_events, floors, fold  # noqa: E402

MEMBERS, CUSTOMERS, DAYS, BATCH, RUNS = (50_000, 100_000, 200_000, 400_000), 1_000, 60, 5_000, 5


def run(runs: int = RUNS, members: tuple[int, ...] = MEMBERS, batch: int = BATCH) -> Iterator[dict[str, Any]]:
    """A case a number of members: microseconds an event, medians of rounds that take every number in turn."""
    layout = bank_events.layout()
    arriving = bank_events.events(CUSTOMERS, 10_000)
    until = bank_events.START_US + DAYS * 86_400_000_000
    history = itertools.takewhile(lambda event: event.effective_at_us < until, arriving)
    state = {member: row.blob for member, row in bank_events.fold_all(layout, history).items()}
    known = (event for event in arriving if event.member_id in state)
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder, contextlib.ExitStack() as stack:
        places = []
        for count in members:
            for name in ("ours", "floor"):
                opened = fold.opened(Path(folder) / f"{name}-{count}.db", state, count // len(state))
                places.append(stack.enter_context(contextlib.closing(opened)))
        taken: dict[int, list[tuple[float, float]]] = {count: [] for count in members}
        for number in range(runs + 1):
            group = list(itertools.islice(known, batch))
            for place, count in enumerate(members):
                found = fold.spread(group, count // len(state), random.Random(number))
                payloads, keys = [encode_record(event) for event in found], [event.member_id for event in found]
                whole, _ = fold.step(places[2 * place], layout, payloads)
                least = floors.rewrite_blobs(places[2 * place + 1], payloads, keys, fold.GROWN)
                if number:  # the first round fills the caches
                    taken[count].append((whole / batch * 1e6, least / batch * 1e6))
    for count, found in taken.items():
        value, floor = (statistics.median(column) for column in zip(*found, strict=True))
        yield {
            "bench": "fold_growth",
            "case": f"members_{count}",
            "unit": "us/event",
            "value": value,
            "floor": floor,
            "peer": None,
            "ratio_to_floor": floor / value,
            "ratio_to_peer": None,
            "peer_name": None,
            "runs": runs,
            "note": f"{batch:,} events of as many members a batch",
        }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The measured rows as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    members = [int(row["case"].removeprefix("members_")) for row in rows]
    axes.plot(members, [row["value"] for row in rows], "o-", label="fold: decode, load, fold, store, commit")
    axes.plot(members, [row["floor"] for row in rows], "s--", label="floor: decode, load and store the same blobs")
    axes.set_xscale("log", base=2)
    axes.set_xticks(members, [f"{count:,}" for count in members])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("members with state")
    axes.set_ylabel("microseconds an event")
    axes.set_title("Cost of an event while the customers double")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    measured = []
    for row in run():
        print(json.dumps(row))
        measured.append(row)
    if len(sys.argv) > 1:
        draw(measured, Path(sys.argv[1]))
