"""Conflicts: which were decided, which are open now, and what ended them.

An open conflict ends by a later `resolve` of its record (one that names what it settles ends only that), or by
a later open conflict of the same store that covers its fields. One that an undo left open ends, too, when a later
undo of the same event succeeds. An undo never ends a store's conflict: nobody looked at the store's side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from evsync.journal.journal import Journal
from evsync.values import decode, moment, shown

SIDES = ("base", "theirs", "mine", "chosen")


class Dispute(msgspec.Struct, frozen=True):
    """A conflict that was left open when it was journalled. `record` is the decision record; without fields in
    it the question is whether the record exists, and `store` is for deleting it."""

    seq: int
    op: str
    store: str
    type: str
    key: str
    record: dict[str, Any]
    base: int = 0

    @property
    def fields(self) -> frozenset[str]:
        """The fields in dispute."""
        return frozenset(self.record["fields"])


class Later(msgspec.Struct, frozen=True):
    """A later event of the same record, as far as it may end a conflict."""

    seq: int
    op: str
    store: str
    base: int
    record: dict[str, Any] | None


def ended_by(dispute: Dispute, later: Iterable[Later]) -> int | None:
    """The position of the first of these events, in order, that ends the conflict; None if none does."""
    return next((event.seq for event in later if _ends(dispute, event)), None)


def _ends(dispute: Dispute, event: Later) -> bool:
    record = event.record
    if event.op == "resolve":
        settles = None if record is None else record.get("settles")
        return settles is None or dispute.seq in settles
    if event.store != dispute.store:
        return False
    if record is not None and record["open"]:
        # Without fields: the store deleted the record, and no longer holds what was in dispute.
        return dispute.fields <= frozenset(record["fields"]) or not record["fields"]
    return event.op == "undo" == dispute.op and event.base == dispute.base


_DISPUTES = (
    "SELECT e.seq, e.op, s.name, t.name, e.key, e.conflict, e.base, e.type FROM event e JOIN name s ON s.id = e.store"
    " JOIN name t ON t.id = e.type WHERE e.conflict IS NOT NULL AND json_extract(e.conflict, '$.open')"
)


def open_disputes(
    journal: Journal, store: str | None = None, type: str | None = None, key: str | None = None
) -> list[Dispute]:
    """The conflicts that are open now, oldest first."""
    found = []
    where, values = _where(store, type, key)
    if (
        type is not None and key is not None
    ):  # by the record's own history, however many conflicts others have
        where += " AND e.type = ? AND e.op <> 'read'"
        values.append(journal.known_name(type))
    for seq, op, named, of, record_key, conflict, base, number in journal.connection.execute(
        f"{_DISPUTES}{where} ORDER BY e.seq", values
    ).fetchall():
        dispute = Dispute(seq, op, named, of, record_key, decode(conflict), base)
        if ended_by(dispute, _later(journal, number, dispute)) is None:
            found.append(dispute)
    return found


def _where(store: str | None, type: str | None, key: str | None) -> tuple[str, list[Any]]:
    wanted = [
        (column, value)
        for column, value in (("s.name", store), ("t.name", type), ("e.key", key))
        if value is not None
    ]
    return "".join(f" AND {column} = ?" for column, _ in wanted), [value for _, value in wanted]


def _later(journal: Journal, number: int, dispute: Dispute) -> Iterator[Later]:
    for seq, op, store, base, conflict in journal.connection.execute(
        "SELECT e.seq, e.op, s.name, e.base, e.conflict FROM event e"
        " JOIN name s ON s.id = e.store WHERE e.type = ? AND e.key = ? AND e.op <> 'read' AND e.seq > ?"
        " AND (e.conflict IS NOT NULL OR e.op IN ('resolve', 'undo')) ORDER BY e.seq",
        (number, dispute.key, dispute.seq),
    ).fetchall():
        yield Later(seq, op, store, base, conflict and decode(conflict))


def conflicts(
    journal: Journal,
    type: str | None = None,
    key: str | None = None,
    store: str | None = None,
    only_open: bool = False,
) -> Iterator[dict[str, Any]]:
    """The documents of `evsync conflicts`, oldest first. What settled a conflict is named in it, and is no
    conflict of its own."""
    where, values = _where(store, type, key)
    for row in journal.connection.execute(
        "SELECT e.seq, e.op, s.name, t.name, e.key, e.conflict, e.base, e.type, e.actor, e.observed_at, e.after_shape,"
        " e.before_shape, e.changed FROM event e INDEXED BY event_conflict JOIN name s ON s.id = e.store"
        " JOIN name t ON t.id = e.type"
        f" WHERE e.conflict IS NOT NULL AND e.op <> 'resolve'{where} ORDER BY e.seq",
        values,
    ):
        seq, op, named, of, record_key, conflict, base, number, actor, observed_at = row[:10]
        dispute = Dispute(seq, op, named, of, record_key, decode(conflict), base)
        ended = ended_by(dispute, _later(journal, number, dispute)) if dispute.record["open"] else None
        is_open = dispute.record["open"] and ended is None
        if only_open and not is_open:
            continue
        told = shown_record(journal, dispute.type, dispute.record, row[10:])
        yield {
            "seq": dispute.seq,
            "op": dispute.op,
            "type": dispute.type,
            "key": dispute.key,
            "store": dispute.store,
            "open": is_open,
            "settled_by": ended,
            "policy": told["policy"],
            "basis": told.get("basis"),
            "actor": actor,
            "observed_at": moment(observed_at),
            "fields": told["fields"],
        }


def last_decision(journal: Journal, type: str, key: str) -> int | None:
    """The last event of a record that decided a conflict."""
    found: int | None = journal.connection.execute(
        "SELECT max(seq) FROM event WHERE type = ? AND key = ? AND op <> 'read' AND conflict IS NOT NULL",
        (journal.known_name(type), key),
    ).fetchone()[0]
    return found


def shown_record(
    journal: Journal, type: str, record: dict[str, Any], shapes: Iterable[int | None]
) -> dict[str, Any]:
    """A decision record as JSON output shows it: its values by the types in these shapes of its event, else by
    those fixed for the type."""
    fields = record.get("fields") or {}
    if not fields:
        return record
    types = declared_types(journal, type)
    for number in shapes:
        if number is not None:
            shape = journal.shape_of(number)
            types.update(zip(shape.names, shape.types, strict=True))
    return {
        **record,
        "fields": {
            name: {side: _shown(types.get(name, "json"), sides[side]) for side in SIDES if side in sides}
            for name, sides in fields.items()
        },
    }


def _shown(type_name: str, wire: Any) -> Any:
    # A side may come from before the field had this type.
    try:
        return shown(type_name, wire)
    except (ValueError, AttributeError):
        return wire


def declared_types(journal: Journal, type: str) -> dict[str, str]:
    """The value types fixed for a type's fields."""
    return dict(journal.connection.execute("SELECT name, value_type FROM field WHERE type = ?", (type,)))
