"""What the erasure command does by itself: text logs, and the memory of what was begun."""

from pathlib import Path

import msgspec
from vigie_cli import privacy
from vigie_cli.privacy import Proof


def test_ids_and_values_are_overwritten_in_place_as_whole_words_only(tmp_path: Path) -> None:
    log = tmp_path / "ingest.log"
    log.write_text('{"user":"sim-0001"} sim-00012 x-sim-0001 (sim-0001) né@bank.example 12345\n')
    needles = ["sim-0001", "né@bank.example", "12345"]
    assert privacy._count([log], needles) == 3
    with log.open("ab") as appending:
        privacy._overwrite(log, needles)
        appending.write(b"later\n")
    assert log.read_bytes().decode() == (
        f'{{"user":"########"}} sim-00012 x-sim-0001 (########) {"#" * 16} 12345\nlater\n'
    )
    assert privacy._count([log], needles) == 0


def test_without_a_value_that_is_long_enough_a_file_stays_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "ingest.log"
    log.write_text("u1 u1")
    privacy._overwrite(log, ["u1"])
    assert (log.read_text(), privacy._count([log], ["u1"])) == ("u1 u1", 0)


def test_only_erasures_without_an_end_are_resumed_oldest_first(tmp_path: Path) -> None:
    folder = tmp_path / privacy.FOLDER
    assert privacy.begun(tmp_path) == []
    folder.mkdir()
    for name, status in (("2", "begun"), ("1", "begun"), ("3", "complete")):
        proof = Proof(erasure_id=name, status=status, customer_id="c", member_ids=["c"], begun_at="")  # type: ignore[arg-type]
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(proof))
    assert [proof.erasure_id for proof in privacy.begun(tmp_path)] == ["1", "2"]
