"""Audit queries: who changed what, where, when, and what it was before.

All of them read the journal only. Documents are those of the command line's JSON output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from evsync.errors import UsageError
from evsync.journal.conflicts import open_disputes, shown_record
from evsync.journal.event import Fields, Shape
from evsync.journal.journal import Journal
from evsync.values import decode, micros, moment, shown

Document = dict[str, Any]


_LAST = 2**63 - 1


class Filter(msgspec.Struct, frozen=True):
    """Which events: each part that is not None has to hold. `since` and `until` are positions or times as text."""

    type: str | None = None
    key: str | None = None
    store: str | None = None
    op: str | None = None
    field: str | None = None
    actor: str | None = None
    run: int | None = None
    since: str | None = None
    until: str | None = None
    conflicts: bool = False
    after: int = 0  # a position: only events behind it


def position(journal: Journal, text: str) -> int:
    """The position that `text` names: a number as it is; a time (ISO 8601, UTC unless it says otherwise) as the last event observed by then."""
    if text.isascii() and text.isdigit():
        return min(int(text), _LAST)
    return _observed_by(journal, _time(text))


def log(journal: Journal, wanted: Filter, limit: int | None = None) -> Iterator[Document]:
    """Matching events as documents, oldest first; with `limit` the newest so many of them."""
    where, values = _conditions(journal, wanted)
    if where is None:
        return
    order = "DESC LIMIT ?" if limit is not None else "ASC"
    index = "INDEXED BY event_conflict " if wanted.conflicts else ""  # SQLite would rather scan in order
    # The newest few are picked by position alone; payloads are only read of those.
    for row in journal.connection.execute(
        "SELECT e.seq, e.op, s.name, t.name, e.key, e.base, e.before_shape, e.before, e.after_shape, e.after,"
        " e.changed, e.observed_at, e.occurred_at, e.actor, e.run, e.conflict"
        f" FROM (SELECT e.seq AS n FROM event e {index}WHERE {where} ORDER BY e.seq {order}) p"
        " JOIN event e ON e.seq = p.n JOIN name s ON s.id = e.store JOIN name t ON t.id = e.type"
        " ORDER BY e.seq",
        (*values, min(limit, _LAST)) if limit is not None else values,
    ):
        yield _document(journal, row)


def _document(journal: Journal, row: tuple[Any, ...]) -> Document:
    (seq, op, store, type, key, base, before_shape, before, after_shape, after, changed) = row[:11]
    observed_at, occurred_at, actor, run, conflict = row[11:]
    return {
        "seq": seq,
        "op": op,
        "store": store,
        "type": type,
        "key": key,
        "base": base,
        "before": _payload(journal, before_shape, before),
        "after": _payload(journal, after_shape, after),
        "changed": [] if changed is None else list(journal.shape_of(changed).names),
        "observed_at": moment(observed_at),
        "occurred_at": None if occurred_at is None else moment(occurred_at),
        "actor": actor,
        "run": run,
        "conflict": None
        if conflict is None
        else shown_record(journal, type, decode(conflict), (after_shape, before_shape, changed)),
    }


def _payload(journal: Journal, shape: int | None, text: str | None) -> Document | None:
    return None if text is None or shape is None else show_fields(journal.shape_of(shape), decode(text))


def show_fields(shape: Shape, values: list[Any]) -> Document:
    """A payload as JSON output shows it."""
    return {
        name: shown(type_name, value)
        for name, type_name, value in zip(shape.names, shape.types, values, strict=True)
    }


def _conditions(journal: Journal, wanted: Filter) -> tuple[str | None, tuple[Any, ...]]:
    """The WHERE clause; None if nothing can match."""
    clauses: list[str] = []
    values: list[Any] = []
    if wanted.after:  # left out where it says nothing, as it would keep SQLite from the other indexes
        clauses.append("e.seq > ?")
        values.append(wanted.after)
    if wanted.type is not None:
        number = journal.known_name(wanted.type)
        if number is None:
            return None, ()
        if wanted.key is not None:
            clauses.append(
                "e.seq IN (SELECT seq FROM event WHERE type = ? AND key = ? AND op <> 'read'"
                " UNION ALL SELECT seq FROM event WHERE type = ? AND key = ? AND op = 'read')"
            )
            values += [number, wanted.key, number, wanted.key]
        else:
            clauses.append("e.type = ?")
            values.append(number)
    elif wanted.key is not None:
        clauses.append("e.key = ?")
        values.append(wanted.key)
    if wanted.store is not None:
        number = journal.known_name(wanted.store)
        if number is None:
            return None, ()
        clauses.append("e.store = ?")
        values.append(number)
    if wanted.field is not None:
        shapes = shapes_with(journal, wanted.field)
        if not shapes:
            return None, ()
        clauses.append(f"e.changed IN ({','.join(map(str, shapes))})")
    if wanted.since is not None:
        clauses.append("e.seq >= ?")
        since = wanted.since
        values.append(
            min(int(since), _LAST)
            if since.isascii() and since.isdigit()
            else _observed_by(journal, _time(since) - 1) + 1
        )
    if wanted.until is not None:
        clauses.append("e.seq <= ?")
        values.append(position(journal, wanted.until))
    for column in ("op", "actor", "run"):
        value = getattr(wanted, column)
        if value is not None:
            clauses.append(f"e.{column} = ?")
            values.append(value)
    if wanted.conflicts:
        clauses.append("e.conflict IS NOT NULL")
    return " AND ".join(clauses) or "1", tuple(values)


def shapes_with(journal: Journal, field: str) -> list[int]:
    """The shapes that contain a field: what events with this in `changed` refer to."""
    return [
        row[0]
        for row in journal.connection.execute(
            "SELECT id FROM shape WHERE EXISTS (SELECT 1 FROM json_each(fields)"
            " WHERE json_extract(value, '$[0]') = ?)",
            (field,),
        )
    ]


def changed_in(journal: Journal, type: str, names: Iterable[str]) -> list[str]:
    """The keys of the records of which any of these fields was ever changed."""
    shapes = {str(shape) for name in names for shape in shapes_with(journal, name)}
    rows = journal.connection.execute(
        "SELECT DISTINCT key FROM event WHERE type = ? AND op NOT IN ('create', 'delete', 'read')"
        f" AND changed IN ({','.join(sorted(shapes))})",
        (journal.known_name(type),),
    )
    return [row[0] for row in rows]


def origin(journal: Journal, type: str, key: str, field: str) -> tuple[str, int | None, int | None]:
    """The store whose event last changed a field of a record, when the store said that it happened, and when it
    was observed; ("", None, None) if none did."""
    for store, occurred_at, observed_at, changed in _backwards(journal, type, key):
        if changed is not None and field in journal.shape_of(changed).names:
            return store, occurred_at, observed_at
    return "", None, None


def _backwards(journal: Journal, type: str, key: str) -> Iterator[tuple[str, int | None, int, int | None]]:
    yield from journal.connection.execute(
        "SELECT s.name, e.occurred_at, e.observed_at, e.changed FROM event e JOIN name s ON s.id = e.store"
        " WHERE e.type = ? AND e.key = ? AND e.op <> 'read' ORDER BY e.seq DESC",
        (journal.known_name(type), key),
    )


def blame(journal: Journal, type: str, key: str) -> list[Document]:
    """Per field of the record as it is: its value, and the event that made it so. Empty if it does not exist."""
    head = journal.heads(type, [key]).get(key)
    if head is None or head.fields is None or head.shape is None:
        return []
    waiting = dict(zip(head.shape.names, head.shape.types, strict=True))
    told: dict[str, Document] = {}
    for seq, store, actor, observed_at, changed in journal.connection.execute(
        "SELECT e.seq, s.name, e.actor, e.observed_at, e.changed FROM event e JOIN name s ON s.id = e.store"
        " WHERE e.type = ? AND e.key = ? AND e.op <> 'read' ORDER BY e.seq DESC",
        (journal.known_name(type), key),
    ):
        for name in () if changed is None else journal.shape_of(changed).names:
            if name in waiting:
                told[name] = {
                    "field": name,
                    "value": shown(waiting.pop(name), head.fields[name]),
                    "seq": seq,
                    "store": store,
                    "actor": actor,
                    "observed_at": moment(observed_at),
                }
        if not waiting:
            break
    return [told[name] for name in head.shape.names if name in told]


def similar_keys(journal: Journal, type: str, key: str, count: int = 50) -> list[str]:
    """A few known keys around `key`, to name the nearest to one who mistyped."""
    number = journal.known_name(type)
    rows = journal.connection.execute(
        "SELECT DISTINCT key FROM event WHERE type = ? AND op <> 'read' AND key >= ? ORDER BY key LIMIT ?",
        (number, key[:1], count),
    )
    return [row[0] for row in rows]


def types_known(journal: Journal) -> list[str]:
    """The types that any event is about, sorted."""
    return [
        row[0]
        for row in journal.connection.execute(
            "SELECT name FROM name n WHERE EXISTS (SELECT 1 FROM event WHERE type = n.id AND op <> 'read') ORDER BY name"
        )
    ]


def open_conflicts(
    journal: Journal, store: str | None = None
) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """Records with an open conflict: (type, key) → (position, store) of each decision that is still due."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for due in open_disputes(journal, store):
        found.setdefault((due.type, due.key), []).append((due.seq, due.store))
    return found


def state(
    journal: Journal, type: str, key: str, at: int | None = None
) -> tuple[int, Fields | None, Document | None]:
    """A record at a position (None: now): the revision that made it so (0: none), its fields, and those as shown."""
    head = journal.heads(type, [key], at).get(key)
    if head is None:
        return 0, None, None
    if head.fields is None or head.shape is None:
        return head.seq, None, None
    return head.seq, head.fields, show_fields(head.shape, list(head.fields.values()))


def _time(text: str) -> int:
    try:
        return micros(datetime.fromisoformat(text))
    except ValueError:
        raise UsageError(
            f"{text!r} is neither a position nor a time",
            "give a position such as 120, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
        ) from None


def _observed_by(journal: Journal, time: int) -> int:
    """The last position observed at or before `time`; times never decrease along the journal, so halving finds it."""
    low, high = 0, journal.head().seq
    while low < high:
        middle = (low + high + 1) // 2
        row = journal.connection.execute("SELECT observed_at FROM event WHERE seq = ?", (middle,)).fetchone()
        if row is not None and row[0] <= time:
            low = middle
        else:
            high = middle - 1
    return low
