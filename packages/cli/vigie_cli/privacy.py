"""A person across the whole system: found, counted in every place, erased with a proof, exported.

The proof in `erasures/ID.json` is also the memory of an erasure that was interrupted: it is written before anything is
erased, holds no value of the person, and `finish` does whatever is left and looks once more into every place.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from vigie_contracts.errors import IncompatibleData, NotFound, Unavailable
from vigie_contracts.instants import format_instant
from vigie_contracts.reads import CustomerRow, CustomersAnswer, CustomersRequest, Lookup
from vigie_contracts.subjects import Erasure, ErasureRequest, Holdings, Subject, SubjectData
from vigie_kit.failpoints import hit
from vigie_kit.files import replace_file

from vigie_cli.connection import Connection

FOLDER = "erasures"
PARTS = ("ingest", "features", "scoring")
NAMESPACES = ("user_id", "anonymous_id")
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.2
SHORTEST_NEEDLE = 6
TRAINING, LOGS = "training sets", "text logs"
ELSEWHERE = {
    "backups": "A backup of the data made before holds sealed parts whose keys are destroyed, and the header of each"
    " record under a random id. Identities and quarantine lie in it as they were: let it expire. When it is put back,"
    " ingest erases the person again at its start, as long as the keys' file is the present one.",
    "keys' backups": "A copy of keys.db made before still holds the keys: replace it by one of now.",
    "models": "Models keep trees and, without any id, a few example vectors; train anew to leave the person's out.",
    "Feast registry, promotion ledger": "They hold definitions and figures, nothing about a person.",
    "refused rows": "Rows that `vigie import` did not accept lie in DATA/imports as the files had them; look there, or"
    " delete the folder.",
    "receipts": "A hash remains of each message, so that a late copy is recognised and dropped.",
    "outside": "What was exported, imported from files, or delivered to partners lies with whoever has it. Partners who"
    " follow the scores were sent a last update: CONSENT_WITHDRAWN.",
}
"""Places that are not looked into, and what is true of them."""


class ProvenPlace(msgspec.Struct, kw_only=True):
    """A place: how much of the person was found before (null when that is not known any more) and is found now."""

    part: str
    place: str
    erased_by: str
    found_before: int | None = None
    found_after: int | None = None
    verified: bool = False


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version, and whether the person's history can have been in what it learned from."""

    model: str
    version: str
    rows_in_the_kept_set: int
    may_have_learned_from_the_person: bool


class Proof(msgspec.Struct, kw_only=True):
    """What was done in every place. `number`: the record of the erasure in the log "events"."""

    erasure_id: str
    status: Literal["begun", "complete"]
    customer_id: str
    member_ids: list[str]
    begun_at: str
    completed_at: str | None = None
    number: int = 0
    places: list[ProvenPlace] = []
    models: list[Model] = []
    elsewhere: dict[str, str] = msgspec.field(default_factory=ELSEWHERE.copy)


class Person:
    """A customer of a running system."""

    def __init__(self, system: Connection, row: CustomerRow) -> None:
        self.system = system
        self.row = row
        self.subject = Subject(customer_id=row.customer_id, member_ids=row.member_ids)

    def values(self) -> list[str]:
        """Ids, identities and personal attributes as text: what must not stand in a text log."""
        stated = [str(row.value) for row in self.row.attributes if row.pii is not None]
        return [*self.row.member_ids, *(row.value for row in self.row.identities), *stated]


def find(system: Connection, customer: str) -> Person:
    """By user id, anonymous id or customer id, in this order; NotFound names the way out."""
    lookups = [Lookup(namespace=namespace, value=customer) for namespace in NAMESPACES]
    answers: list[CustomerRow | None] = []
    for asked in (CustomersRequest(lookups=lookups), CustomersRequest(customer_ids=[customer])):
        answers += _ask(system, "ingest", "/internal/customers", asked, CustomersAnswer).customers
    found = next((row for row in answers if row is not None), None)
    if found is None:
        open_ = len(begun(system.data))
        hint = f"; {open_} erasure(s) were begun and not finished: `vigie erase --resume`" if open_ else ""
        raise NotFound(f"nobody is known under {customer!r}{hint}")
    return Person(system, found)


def plan(person: Person) -> Proof:
    """All places with what lies there now; nothing is changed."""
    subject, now = person.subject, datetime.now(UTC)
    proof = Proof(
        erasure_id=f"{now:%Y%m%dT%H%M%S}-{person.row.customer_id}",
        status="begun",
        customer_id=subject.customer_id,
        member_ids=subject.member_ids,
        begun_at=now.isoformat(timespec="seconds"),
    )
    proof.places = [
        ProvenPlace(part=part, place=place.name, erased_by=place.erased_by, found_before=place.found)
        for part, held in _holdings(person.system, subject).items()
        for place in held.places
    ]
    kept = _training().snapshots(person.system.addresses.mlflow, subject.member_ids)
    proof.models = [
        Model(
            model=one.model,
            version=one.version,
            rows_in_the_kept_set=one.rows,
            may_have_learned_from_the_person=one.learned_until_us is not None
            and person.row.first_seen_us <= one.learned_until_us,
        )
        for one in kept
    ]
    rows, lines = sum(one.rows for one in kept), _count(_logs(person.system.data), person.values())
    proof.places.append(_place("mlflow", TRAINING, "kept sets written anew without the rows", rows))
    proof.places.append(_place("all", LOGS, "ids and values overwritten in place", lines))
    return proof


def erase(person: Person, proof: Proof, progress: Callable[[str], None]) -> Path:
    """Erase by a plan; the path of the proof. Unavailable when a part does not follow: `--resume` goes on."""
    _save(person.system.data, proof)
    hit("cli.erasure_begun")
    return finish(person.system, proof, progress, person.values())


def finish(system: Connection, proof: Proof, progress: Callable[[str], None], values: Sequence[str] = ()) -> Path:
    """Do what is left of an erasure, look into every place again, and write the proof. `values` as in `Person`."""
    request = ErasureRequest(erasure_id=proof.erasure_id, customer_id=proof.customer_id)
    progress("Ingest writes tombstones and destroys the keys")
    proof.number = _ask(system, "ingest", "/internal/erasures", request, Erasure).number
    hit("cli.erasure_asked")
    progress("Features and scoring forget")
    subject = Subject(customer_id=proof.customer_id, member_ids=proof.member_ids, number=proof.number)
    held = _followed(system, subject)
    hit("cli.erasure_followed")
    progress("Training sets and text logs")
    _training().forget(system.addresses.mlflow, proof.member_ids)
    needles = [*proof.member_ids, *values]
    for path in _logs(system.data):
        _overwrite(path, needles)
    hit("cli.erasure_overwritten")
    after = {(part, place.name): place.found for part, found in held.items() for place in found.places}
    kept = _training().snapshots(system.addresses.mlflow, proof.member_ids)
    after["mlflow", TRAINING] = sum(one.rows for one in kept)
    after["all", LOGS] = _count(_logs(system.data), needles)
    for place in proof.places:
        place.found_after = after.get((place.part, place.place))
        place.verified = place.found_after == 0
    if missing := [place.place for place in proof.places if not place.verified]:
        raise IncompatibleData(f"still found in: {', '.join(missing)}; run `vigie erase --resume`")
    proof.status, proof.completed_at = "complete", datetime.now(UTC).isoformat(timespec="seconds")
    return _save(system.data, proof)


def begun(data: Path) -> list[Proof]:
    """Erasures that were begun and not finished, oldest first."""
    paths = sorted((data / FOLDER).glob("*.json"))
    proofs = [msgspec.json.decode(path.read_bytes(), type=Proof) for path in paths]
    return [proof for proof in proofs if proof.status == "begun"]


def export(person: Person) -> dict[str, Any]:
    """Everything about a person from every place, in names that a person can read."""
    system, row = person.system, person.row
    found: dict[str, Any] = {
        "about": {
            "customer": row.customer_id,
            "known_as": [{"namespace": one.namespace, "value": one.value} for one in row.identities],
            "exported_at": format_instant(system.clock.now_us()),
            "how_to_read": "Each part of the system lists its places: `what` says what they are, `rows` what they hold."
            " All times are UTC. Amounts under `measures` are whole numbers of the smallest unit.",
        }
    }
    for part in PARTS:
        data = _ask(system, part, "/internal/subject", person.subject, SubjectData)
        found[part] = {name: msgspec.to_builtins(section) for name, section in data.sections.items()}
    found["training"] = {
        TRAINING: {
            "what": "Rows that were kept to compare models with each other.",
            "rows": _training().rows(system.addresses.mlflow, row.member_ids),
        }
    }
    return found


# ---- asking the parts -----------------------------------------------------------------------------------------------


def _ask(system: Connection, part: str, path: str, body: Any, answer: Any) -> Any:
    client = system.client(part)
    try:
        return client.post(path, body, answer)
    finally:
        client.close()


def _holdings(system: Connection, subject: Subject) -> dict[str, Holdings]:
    return {part: _ask(system, part, "/internal/holdings", subject, Holdings) for part in PARTS}


def _followed(system: Connection, subject: Subject) -> dict[str, Holdings]:
    """The holdings of all parts once they have come to the erasure."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        held = _holdings(system, subject)
        if all(found.reached for found in held.values()):
            return held
        if time.monotonic() > deadline:
            behind = [part for part, found in held.items() if not found.reached]
            raise Unavailable(f"{', '.join(behind)} did not come to the erasure yet; run `vigie erase --resume`")
        time.sleep(LOOK_SECONDS)


def _training() -> Any:
    """Imported late: MLflow takes seconds."""
    from vigie_training import erasure

    return erasure


# ---- files ----------------------------------------------------------------------------------------------------------


def _save(data: Path, proof: Proof) -> Path:
    path = data / FOLDER / f"{proof.erasure_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, msgspec.json.format(msgspec.json.encode(proof)), mode=0o600)
    return path


def _place(part: str, place: str, erased_by: str, found: int) -> ProvenPlace:
    return ProvenPlace(part=part, place=place, erased_by=erased_by, found_before=found)


def _logs(data: Path) -> list[Path]:
    return sorted((data / "logs").glob("*"))


def _pattern(needles: Iterable[str]) -> "re.Pattern[bytes] | None":
    """Whole words only; what is shorter than six characters would be found everywhere."""
    long = sorted({re.escape(one.encode()) for one in needles if len(one) >= SHORTEST_NEEDLE}, reverse=True)
    return re.compile(rb"(?<![\w-])(?:" + b"|".join(long) + rb")(?![\w-])") if long else None


def _count(paths: Iterable[Path], needles: Iterable[str]) -> int:
    pattern = _pattern(needles)
    return sum(len(pattern.findall(path.read_bytes())) for path in paths) if pattern else 0


def _overwrite(path: Path, needles: Iterable[str]) -> None:
    """In place and of the same length, so that a process that appends to the file is not disturbed."""
    pattern = _pattern(needles)
    if pattern is None:
        return
    with path.open("r+b") as file:
        for found in list(pattern.finditer(file.read())):
            file.seek(found.start())
            file.write(b"#" * (found.end() - found.start()))
