"""JSON texts with half a surrogate pair in an escape: a text that somebody cut inside an emoji.

Such a text is no valid Unicode (RFC 8259, section 8.2), so that a decoder refuses the body that holds it, whole.
"""

import re

from vigie_ingest.domain import Draft, Unacceptable

LOST = "\\ufffd"
"""As what half a pair is read: the escape of U+FFFD, which is as long, so that nothing else moves."""
NOTE = "its text holds U+FFFD, which stands for a character that was cut or lost"

_ESCAPES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)


def mended(body: bytes) -> bytes:
    """The body with each half of a surrogate pair replaced; the same object when it holds none."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    found = _ESCAPES.sub(lambda match: match[1] or LOST.encode(), body)
    return body if found == body else found


def is_lossy(body: bytes) -> bool:
    """Whether a text in it holds U+FFFD."""
    return LOST.encode() in body or "\ufffd".encode() in body


def note_loss(draft: Draft) -> None:
    """Say it on the receipt. Unacceptable when an id was cut: it would no longer tell two of them apart."""
    ids = (draft.event_id, draft.user_id, draft.anonymous_id, draft.previous_id, draft.group_id)
    if any("\ufffd" in value for value in ids if value is not None):
        raise Unacceptable("malformed", "an id holds half a surrogate pair; it was cut inside a character")
    draft.notes = (*draft.notes, NOTE)
