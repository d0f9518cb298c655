"""`vigie doctor` finds what is wrong, in sentences."""

import socket
from pathlib import Path

import pytest
from vigie_cli import credentials, diagnosis
from vigie_kit import installation


def test_a_machine_without_an_installation_is_fine(tmp_path: Path) -> None:
    data = tmp_path / "not" / "yet"
    findings = [
        diagnosis.disk(data, least=1), diagnosis.durability(data), diagnosis.databases(data),
        diagnosis.data_directory(data), diagnosis.secrets(data),
    ]  # fmt: skip
    assert [finding.ok for finding in findings] == [True] * 5
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_python_is_checked(version: tuple[int, int], ok: bool) -> None:
    assert diagnosis.python(version).ok is ok


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    found = diagnosis.disk(tmp_path, least=10**18)
    assert not found.ok
    assert "Vigie wants 1000000000 GB" in found.sentence


def test_keys_that_others_can_read_are_said(tmp_path: Path) -> None:
    credentials.load_or_create(tmp_path)
    assert diagnosis.secrets(tmp_path).ok
    (tmp_path / "secrets.json").chmod(0o644)
    found = diagnosis.secrets(tmp_path)
    assert (found.ok, found.sentence) == (
        False, f"Others may read {tmp_path / 'secrets.json'}; run `chmod 600 {tmp_path / 'secrets.json'}`.",
    )  # fmt: skip


def test_a_damaged_database_and_a_newer_installation_are_said(tmp_path: Path) -> None:
    (tmp_path / "ingest.db").write_bytes(b"this is no database" * 100)
    assert diagnosis.databases(tmp_path).sentence == (
        "Databases that cannot be trusted: ingest.db (file is not a database); restore them from a backup."
    )
    (tmp_path / installation.FILE).write_text('{"format": 7}')
    assert not diagnosis.data_directory(tmp_path).ok


def test_a_busy_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = diagnosis.listening(tmp_path, port)
    assert not found.ok
    assert f"{port} (gateway)" in found.sentence


def test_the_shipped_feature_repository_loads_and_a_wrong_one_is_said(feature_repo: Path, tmp_path: Path) -> None:
    found = diagnosis.repository(feature_repo)
    assert found.ok, found.sentence
    (tmp_path / "catalogue.toml").write_text("[[micro_conversion]]\nnonsense = 1\n")
    wrong = diagnosis.repository(tmp_path)
    assert not wrong.ok
    assert "catalogue.toml" in wrong.sentence
