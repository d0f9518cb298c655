"""What all tests share: where real data lies, and a quiet environment."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS, PROCESSES = "e2e", "integration"

# Tests start their own processes with their own settings; what a developer exported must not leak in.
# VIGIE_TEST_DATA stays (every program knows the name): pytest's workers inherit it.
TEST_DATA = os.environ.get("VIGIE_TEST_DATA")
for name in [name for name in os.environ if name.startswith("VIGIE_") and name != "VIGIE_TEST_DATA"]:
    del os.environ[name]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"


# A busy machine is no reason to fail: examples are counted, not timed.
settings.register_profile("vigie", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vigie")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole systems first, single functions last, each in random order: then both workers end at the same time."""
    items.sort(key=lambda item: (SYSTEMS, PROCESSES, item.path.parent.name).index(item.path.parent.name))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture(scope="session")
def feature_repo() -> Path:
    """The shipped feature repository."""
    return ROOT / "feature_repo"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data sets; skips, with the reason, where it is not there."""
    if TEST_DATA is None or not (ROOT / TEST_DATA).is_dir():
        pytest.skip("VIGIE_TEST_DATA does not name the folder of real data sets")
    return (ROOT / TEST_DATA).resolve()
