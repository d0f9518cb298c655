from dataclasses import dataclass, field
from pathlib import Path

import pytest
from vigie_contracts.errors import InvalidInput
from vigie_kit.settings import read


@dataclass(frozen=True)
class Settings:
    service_token: str
    data: Path = Path(".vigie")
    ingest_port: int = 8701
    ingest_rate: float = 1.5
    ingest_strict: bool = False
    ingest_write_keys: tuple[str, ...] = ()
    ingest_note: str | None = None
    other: str = field(default="", metadata={"env": "VIGIE_LOG_LEVEL"})


def test_fields_come_from_the_environment_in_their_types() -> None:
    found = read(
        Settings,
        {
            "VIGIE_SERVICE_TOKEN": "t",
            "VIGIE_DATA": "/d",
            "VIGIE_INGEST_PORT": "9",
            "VIGIE_INGEST_RATE": "2.5",
            "VIGIE_INGEST_STRICT": "yes",
            "VIGIE_INGEST_WRITE_KEYS": "a=b, c=d,",
            "VIGIE_INGEST_NOTE": "n",
            "VIGIE_LOG_LEVEL": "DEBUG",
        },
    )
    assert found == Settings("t", Path("/d"), 9, 2.5, True, ("a=b", "c=d"), "n", "DEBUG")


def test_defaults_hold_where_nothing_is_said() -> None:
    assert read(Settings, {"VIGIE_SERVICE_TOKEN": "t", "PATH": "/bin"}) == Settings("t")


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "the setting VIGIE_SERVICE_TOKEN is missing; set it in the environment"),
        ({"VIGIE_SERVICE_TOKEN": "t", "VIGIE_INGEST_PORT": "many"}, "VIGIE_INGEST_PORT must be a int, not 'many'"),
        (
            {"VIGIE_SERVICE_TOKEN": "t", "VIGIE_INGEST_STRICT": "perhaps"},
            "VIGIE_INGEST_STRICT must be true or false, not 'perhaps'",
        ),
        (
            {"VIGIE_SERVICE_TOKEN": "t", "VIGIE_INGEST_PROT": "1"},
            "VIGIE_INGEST_PROT is no setting of this program. Did you mean VIGIE_INGEST_PORT?",
        ),
        ({"VIGIE_SERVICE_TOKEN": "t", "VIGIE_XYLOPHONE_JJ": "1"}, "VIGIE_XYLOPHONE_JJ is no setting of this program."),
    ],
)
def test_a_wrong_environment_is_refused_in_a_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        read(Settings, environ)
    assert error.value.message == sentence


def test_other_services_settings_are_ignored() -> None:
    assert read(Settings, {"VIGIE_SERVICE_TOKEN": "t", "VIGIE_SCORING_PORT": "1", "VIGIE_MLFLOW_URI": "x"}) == Settings(
        "t"
    )
