"""The walk-through of examples/oulad on the real data: one module, and whole; both under the mark `large`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WALK = Path("examples/oulad/walkthrough.py")
AUC_TO_REACH, PR_AUC_TO_REACH = 0.681, 0.049


def walk(repository: Path, test_data: Path, work: Path, *arguments: str) -> dict[str, Any]:
    """Run it as a reader does; its figures. The exit code must be 0."""
    command = [sys.executable, str(repository / WALK), "--data", str(test_data / "oulad"), "--work", str(work)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIGIE_")}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=repository, env=environment, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    figures: dict[str, Any] = json.loads((work / "figures.json").read_text())
    return figures


def compared(figures: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """What was compared -> students, mismatches."""
    return {found["what"]: (found["students"], found["mismatches"]) for found in figures["parity"]}


def slices(figures: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Slice -> rows, students, positives."""
    return {
        part["name"]: (part["rows"], part["customers"], part["positives"]) for part in figures["training"]["slices"]
    }


def assert_students_at_risk_have_reasons(figures: dict[str, Any]) -> None:
    """Five scored students, the most at risk first, each with three reasons in words."""
    churns = [node["churn"] for node in figures["at_risk"]]
    assert [churn["__typename"] for churn in churns] == ["ChurnScore"] * 5
    probabilities = [churn["probability"] for churn in churns]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(0 < probability < 1 for probability in probabilities)
    assert [len(churn["reasons"]) for churn in churns] == [3] * 5
    assert all(": " in reason["text"] for churn in churns for reason in churn["reasons"])
    assert all(node["externalId"].endswith("-AAA-2014J") for node in figures["at_risk"])


@pytest.mark.large
@pytest.mark.timeout(900)
def test_one_module_goes_from_files_to_students_at_risk_with_reasons(
    repository: Path, test_data: Path, tmp_path: Path
) -> None:
    figures = walk(repository, test_data, tmp_path, "--courses", "small", "--live-days", "2", "--rate", "10000")
    imported = figures["imported"]
    assert imported["refused"] == 0
    assert imported["tables"]["profiles"] == 748
    assert figures["state"]["members"] >= 748
    assert 32 < figures["state"]["mean_bytes"] <= figures["state"]["most_bytes"] < 3_000
    assert figures["training"]["leaks"]["replay_mismatches"] == 0
    assert compared(figures) == {
        "stored with scores": (figures["parity"][0]["students"], 0),
        "served after the courses": (748, 0),
        "served during the course": (365, 0),
    }
    assert [point[0] for point in figures["gate"]["points"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert figures["live"]["sent"] == figures["live"]["accepted"]
    assert_students_at_risk_have_reasons(figures)


@pytest.mark.large
@pytest.mark.timeout(3_600)
def test_the_study_reaches_its_figures_and_training_and_serving_agree(
    repository: Path, test_data: Path, tmp_path: Path
) -> None:
    figures = walk(repository, test_data, tmp_path)
    assert (figures["imported"]["accepted"], figures["imported"]["refused"]) == (1_092_883, 0)
    assert figures["imported"]["tables"] == {
        "profiles": 4_752,
        "registrations": 4_749,
        "course_starts": 4_749,
        "withdrawals": 1_278,
        "submissions": 28_780,
        "clicks": 1_048_575,
    }
    assert slices(figures) == {"train": (27_728, 2_003, 949), "test": (31_967, 2_229, 728)}
    found = figures["training"]["figures"]
    assert found["auc"]["high"] >= AUC_TO_REACH
    assert found["pr_auc"]["high"] >= PR_AUC_TO_REACH
    assert compared(figures) == {
        "stored with scores": (1_000, 0),
        "served after the courses": (1_000, 0),
        "served during the course": (365, 0),
    }
    assert figures["gate"]["verdict"] == "overridden"
    assert figures["live"]["sent"] == figures["live"]["accepted"]
    assert_students_at_risk_have_reasons(figures)
