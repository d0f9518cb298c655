"""`secrets.json`: the tokens and the write key of an installation, readable by its owner only."""

import secrets
from pathlib import Path

import msgspec
from vigie_contracts.errors import IncompatibleData, NotFound
from vigie_kit.files import replace_file

FILE = "secrets.json"
MODE = 0o600
SOURCE_ID = "default"


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Random secrets, made once. The write key lets applications send events, the API token lets clients query."""

    service_token: str
    api_token: str
    write_key: str


def load(data: Path) -> Credentials:
    """Read them; NotFound when nothing was set up here, IncompatibleData when the file is damaged."""
    path = data / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist; `vigie up --data {data}` makes it") from error
    except msgspec.DecodeError as error:
        raise IncompatibleData(
            f"{path} is damaged: {error}. Restore it from a backup, or delete it for new keys."
        ) from error


def load_or_create(data: Path) -> Credentials:
    """Read them, or make new ones with permissions 0600."""
    if (data / FILE).exists():
        return load(data)
    made = Credentials(
        service_token=secrets.token_urlsafe(32), api_token=secrets.token_urlsafe(24), write_key=secrets.token_hex(16)
    )
    data.mkdir(parents=True, exist_ok=True)
    replace_file(data / FILE, msgspec.json.format(msgspec.json.encode(made)), mode=MODE)
    return made


def too_open(data: Path) -> bool:
    """Whether anybody but the owner may read or change the file."""
    return bool((data / FILE).stat().st_mode & 0o077)
