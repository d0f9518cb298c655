"""Undoing a merge, inside the writer's transaction: the link stops standing and the customer falls apart by the rest.

From then on the map is as if the merge had not been. The pair stays parted whatever its identities do later; undoing
the undo joins it again.
"""

from vigie_contracts.errors import Conflict, InvalidInput, NotFound
from vigie_contracts.events import MapChanged, MapMove, decode_record
from vigie_contracts.reads import UndoAnswer, UndoRequest

from vigie_ingest import link_store, store
from vigie_ingest.identity import Party, Rules, components, refusal_of_merge, survivor
from vigie_ingest.link_store import Link
from vigie_ingest.resolver import UNDONE
from vigie_ingest.store import Connection

MAX_REASON = 500
MAX_KEY = 200


def repeated(connection: Connection, asked: UndoRequest) -> UndoAnswer | None:
    """The answer that a request with the same key had; None for a new one.

    InvalidInput for a key that is none; Conflict when it was another record's; NotFound when what it did was erased.
    """
    key = asked.idempotency_key
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY:
        raise InvalidInput(f"an idempotency key has 1 to {MAX_KEY} characters; a UUID is a good one")
    found = link_store.undo_of(connection, key)
    if found is None:
        return None
    number, undoes = found
    if undoes != asked.number:
        raise Conflict(f"this idempotency key undid record {undoes}; give the undo of {asked.number} a key of its own")
    record = decode_record(store.payloads(connection, [number])[number])
    if not isinstance(record, MapChanged):
        raise NotFound(f"record {undoes} was undone by record {number}, and the person was erased since")
    return UndoAnswer(number=number, undoes=undoes, known_at_us=record.known_at_us, moves=record.moves, already=True)


def undo(connection: Connection, rules: Rules, number: int, reason: str, now_us: int, own_number: int) -> MapChanged:
    """Take back the merge or the undo at `number` of the log and give the record to append at `own_number`.

    NotFound when no merge and no undo lies there; Conflict when it is taken back already or the rules refuse the merge;
    InvalidInput without a reason.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= MAX_REASON:
        raise InvalidInput(f"say why in 1 to {MAX_REASON} characters, without personal data; the log keeps it")
    made = link_store.by_number(connection, number)
    if made is not None:
        return _part(connection, made, reason, now_us, own_number)
    undone = link_store.by_undo(connection, number)
    if undone is not None:
        return _restore(connection, rules, undone, reason, now_us)
    raise NotFound(f"record {number} of the log of events is no merge, and no undo that still counts")


def _part(connection: Connection, made: Link, reason: str, now_us: int, own_number: int) -> MapChanged:
    if not made.stands:
        raise Conflict(f"the merge {made.number} was undone already, by record {made.undone_number}")
    party = store.party_of(connection, made.one_no)
    link_store.put(connection, made._replace(undone_number=own_number, changed_at_us=now_us, reason=reason))
    standing = [link for link in link_store.touching(connection, _numbers(party)) if link.stands]
    moves: list[MapMove] = []
    for group in components(party.members, [(link.one_no, link.other_no) for link in standing]):
        to = group[0].member_id
        if to != party.customer_id:
            store.move(connection, group, to, now_us, "undo")
            moves += [MapMove(member.member_id, party.customer_id, to) for member in group]
    store.add_meta(connection, [(UNDONE, 1)])
    return _record(connection, made, moves, now_us, "undo", made.number, reason)


def _restore(connection: Connection, rules: Rules, undone: Link, reason: str, now_us: int) -> MapChanged:
    assert undone.undone_number is not None
    one, other = store.party_of(connection, undone.one_no), store.party_of(connection, undone.other_no)
    moves: list[MapMove] = []
    if one.customer_id != other.customer_id:
        refusal = refusal_of_merge(one, other, rules)
        if refusal is not None:
            raise Conflict(refusal)
        kept, absorbed = survivor(one, other)
        store.move(connection, absorbed.members, kept.customer_id, now_us, "restored")
        moves = [MapMove(member.member_id, absorbed.customer_id, kept.customer_id) for member in absorbed.members]
    link_store.put(connection, undone._replace(undone_number=None, changed_at_us=now_us, reason=reason))
    store.add_meta(connection, [(UNDONE, -1)])
    return _record(connection, undone, moves, now_us, "restored", undone.undone_number, reason)


def _record(
    connection: Connection, link: Link, moves: list[MapMove], now_us: int, because: str, undoes: int, reason: str
) -> MapChanged:
    names = store.member_names(connection, (link.one_no, link.other_no))
    between = (names[link.one_no], names[link.other_no])
    return MapChanged(moves=moves, known_at_us=now_us, because=because, between=between, undoes=undoes, reason=reason)


def _numbers(party: Party) -> list[int]:
    return [member.number for member in party.members]
