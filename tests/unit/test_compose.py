"""docker-compose.yml without an engine: it parses, and starts what `vigie up` starts."""

import re
from dataclasses import fields
from pathlib import Path

import yaml
from vigie_gateway.settings import Settings as Gateway
from vigie_ingest.settings import Settings as Ingest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_process_has_a_health_check_and_only_three_are_published_on_loopback():
    services = COMPOSE["services"]
    running = {name: service for name, service in services.items() if name != "init"}
    assert set(running) == {"ingest", "features", "scoring", "gateway", "mlflow"}
    assert all("healthcheck" in service for service in running.values())
    published = {name: service["ports"] for name, service in running.items() if "ports" in service}
    assert set(published) == {"gateway", "ingest", "mlflow"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_each_process_is_started_as_a_module_that_exists():
    for name in ("ingest", "features", "scoring", "gateway"):
        assert COMPOSE["services"][name]["command"] == ["python", "-m", f"vigie_{name}"]
        assert COMPOSE["services"][name]["environment"][f"VIGIE_{name.upper()}_PORT"].isdigit()


def test_no_secret_stands_in_the_file_and_all_required_settings_do():
    text = (ROOT / "docker-compose.yml").read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == {"VIGIE_SERVICE_TOKEN", "VIGIE_WRITE_KEY", "VIGIE_API_TOKEN"}
    for settings, name in ((Gateway, "gateway"), (Ingest, "ingest")):
        given = COMPOSE["services"][name]["environment"]
        for field in fields(settings):
            variable = field.metadata.get("env", f"VIGIE_{field.name.upper()}")
            required = field.default.__class__.__name__ == "_MISSING_TYPE"
            assert not required or variable in given, variable
