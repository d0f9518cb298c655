"""Values and names without what may be personal in them: their shape stays."""

import re
from typing import Any

EXAMPLE_CHARACTERS = 24
NAME_CHARACTERS = 60
_PLAIN_NAME = re.compile(r"[^\W\d][\w .$-]*")
_MANY_DIGITS = re.compile(r"\d{4}")


def shown_name(name: str) -> str:
    """A property's name; one that may itself be personal (an address, a number) is masked."""
    if _PLAIN_NAME.fullmatch(name) and not _MANY_DIGITS.search(name) and len(name) <= NAME_CHARACTERS:
        return name
    return masked(name)


def masked(value: Any) -> str:
    """The value with letters as `a` or `A` and digits as `9`; lists and objects by their size."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list | dict):
        return f"{len(value)} items"
    text = str(value)
    shown = "".join(_mask(character) for character in text[:EXAMPLE_CHARACTERS])
    return shown + ("…" if len(text) > EXAMPLE_CHARACTERS else "")


def _mask(character: str) -> str:
    if character.isnumeric():
        return "9"
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return character if character.isascii() and character.isprintable() else "·"
