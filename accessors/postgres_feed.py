"""PostgreSQL's write-ahead log as a feed.

A position is a place in the log. Where a scan was made, the transactions that it saw are told apart from those behind it by
the snapshot of the scan: it is part of the position until the log is past it. So no transaction is in both, or in neither, though
some were open all the while.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from accessors import postgres_capture as capture
from accessors.postgres_connection import Connection, mark_of, slot_name
from accessors.postgres_records import Records
from accessors.postgres_stream import stream
from accessors.postgres_values import typed_of
from accessors.postgres_wal import (
    Begin,
    Changed,
    Commit,
    Message,
    Relation,
    Snapshot,
    Truncated,
    Value,
    lsn_of,
    said,
    values_of,
)
from evsync.accessor import KEPT, Fed, Missed, Reached
from evsync.errors import BadValue, PositionLost
from evsync.store import Store


class Seen(NamedTuple):
    """What a scan has seen of a type, and a place in the log behind all of that."""

    snapshot: Snapshot
    behind: int


def position_at(lsn: int, seen: Mapping[str, Seen]) -> str:
    """A place in the log, with the scans that it is not past yet."""
    left = {type: [one.snapshot.text, one.behind] for type, one in seen.items() if one.behind > lsn}
    return f"{lsn:020d}" + (f" {json.dumps(left, separators=(',', ':'))}" if left else "")


def lsn_in(position: str) -> int:
    return int(position.partition(" ")[0])


def seen_in(position: str) -> dict[str, Seen]:
    rest = position.partition(" ")[2]
    return {
        type: Seen(Snapshot(text), behind)
        for type, (text, behind) in (json.loads(rest) if rest else {}).items()
    }


def begin_scan(connection: Connection, store: Store, type: str) -> str:
    """The position of a scan on this connection, whose transaction begins with this."""
    row = connection.execute(b"SELECT pg_current_snapshot(), pg_current_wal_insert_lsn()").fetchone()
    assert row is not None
    found = capture.slot(connection, slot_name(connection, store))
    behind = lsn_of(row[1])
    start = behind if found is None else found.confirmed
    return position_at(min(start, behind), {type: Seen(Snapshot(row[0]), behind)})


def check(connection: Connection, store: Store, since: Mapping[str, str]) -> tuple[capture.Slot, int]:
    """The slot, and where the log ends. Raises PositionLost if it does not reach back to the positions."""
    found = capture.slot(connection, slot_name(connection, store))
    row = connection.execute(b"SELECT pg_current_wal_flush_lsn()").fetchone()
    assert row is not None
    target = lsn_of(row[0])
    for type, position in since.items():
        start, seen = lsn_in(position), seen_in(position).get(type)
        covered = seen is not None and found is not None and seen.behind >= found.confirmed
        if (
            found is None
            or found.status == "lost"
            or start > target
            or (start < found.confirmed and not covered)
        ):
            raise PositionLost(
                f"store {store.name!r}, type {type!r}: the log does not reach back to the last ingest; what happened"
                " since cannot be told step by step",
                f"evsync capture install {store.name}, then go on by comparing:"
                f" evsync ingest {store.name} --accept-gap; if another project follows the same slot, give each its own:"
                f' slot = "…" in [stores.{store.name}]',
            )
    assert found is not None
    return found, target


def changes(
    connection: Connection, store: Store, since: Mapping[str, str], until: str | None
) -> Iterator[Fed | Reached | Missed]:
    """What was committed behind the positions. Raises PositionLost, and StoreError where it cannot be followed."""
    name = slot_name(connection, store)
    found, target = check(connection, store, since)
    seen = {type: one for type in since if (one := seen_in(since[type]).get(type)) is not None}
    starts = {type: lsn_in(position) for type, position in since.items()}
    readings: dict[tuple[str, str], list[_Reading]] = {}
    for type in since:
        reading = _Reading(Records(connection, store, type), starts[type], seen.get(type))
        table = reading.records.table
        readings.setdefault((table.schema, table.name), []).append(reading)
    # What is visible to the scan is read, and no more.
    last = None if until is None else next(iter(seen_in(until).values()), None)
    begin = max(found.confirmed, min(starts.values()))
    reached = begin
    for fed in _followed(store, name, begin, target, readings, seen, last):
        if isinstance(fed, int):
            reached = fed
            continue
        if isinstance(fed, Fed) and fed.whole:  # it may have been committed behind the target
            reached = lsn_in(fed.position)
        yield fed
    if last is None:
        reached = max(reached, target)
    yield Reached(position_at(reached, seen))


def _followed(
    store: Store,
    name: str,
    begin: int,
    target: int,
    readings: Mapping[tuple[str, str], list[_Reading]],
    seen: Mapping[str, Seen],
    last: Seen | None,
) -> Iterator[Fed | Missed | int]:
    """The changes; and for each transaction of which nothing is told, where it ended."""
    relations: dict[int, Relation] = {}
    transaction, own = Begin(0, datetime.min.replace(tzinfo=UTC), 0), False
    mark = mark_of(name, store)
    held: Fed | None = None  # until it is known whether it is the last of its transaction
    for _, data in stream(store, name, name, begin, target):
        one = said(data)
        if isinstance(one, Changed | Truncated):
            ids = one.relations if isinstance(one, Truncated) else (one.relation,)
            for id in ids:
                relation = relations[id]
                for reading in readings.get((relation.schema, relation.name), ()):
                    fed = reading.fed(one, relation, transaction, own)
                    if fed is not None:
                        if held is not None:
                            yield held
                        held = fed
        elif isinstance(one, Begin):
            if last is not None and not last.snapshot.sees(one.xid):
                return
            transaction, own = one, False
        elif isinstance(one, Commit):
            if held is None:
                yield one.lsn
            else:
                held.position, held.whole = position_at(one.lsn, seen), True
                yield held
                held = None
            if one.lsn >= target:
                return
        elif isinstance(one, Relation):
            relations[one.id] = one
            for reading in readings.get((one.schema, one.name), ()):
                lacking = reading.lacking(one)
                if lacking is not None:
                    yield Missed(
                        reading.records.type,
                        f"{reading.records}: the log does not tell the column {lacking!r}",
                    )
        elif isinstance(one, Message):
            own = own or one.prefix == mark


class _Reading:
    """Makes of what the log says what it says of one type."""

    def __init__(self, records: Records, since: int, seen: Seen | None) -> None:
        self.records, self._since, self._seen = records, since, seen
        binding = records.binding
        self._columns = (records.id_column, None, binding.changed_at, binding.changed_by, *binding.locals)

    def lacking(self, relation: Relation) -> str | None:
        """A column that is bound, but not told."""
        return next(
            (name for name in self._columns if name is not None and name not in relation.columns), None
        )

    def fed(self, said: Changed | Truncated, relation: Relation, transaction: Begin, own: bool) -> Fed | None:
        if transaction.lsn < self._since or (self._seen and self._seen.snapshot.sees(transaction.xid)):
            return None
        type = self.records.type
        position = f"{transaction.lsn:020d}"
        at = transaction.at
        if isinstance(said, Truncated):
            return Fed(type, position, None, None, {}, at, None, whole=False, own=own, emptied=True)
        old = {} if said.old is None else dict(values_of(relation, said.old))
        if not said.whole:
            old = {column: value for column, value in old.items() if column in relation.key}
        id, name = self._called(old)
        if said.new is None:
            return Fed(type, position, None, id, name, at, None, whole=False, own=own)
        new = dict(values_of(relation, said.new))
        for column, value in new.items():
            if value is KEPT and column in old:
                new[column] = old[column]
        # Of a column that the log does not tell nothing is known.
        raw: list[Value] = [None if name is None else new.get(name, KEPT) for name in self._columns]
        row = list(self.records.decoded_one(raw))
        if row[2] is None:
            row[2] = at
        return Fed(type, position, tuple(row), id, name, whole=False, own=own)

    def _called(self, old: Mapping[str, Value]) -> tuple[int | str | None, dict[str, Any]]:
        records = self.records
        column = records.id_column
        id = None if column is None else old.get(column)
        name: dict[str, Any] = {}
        types = records.binding.local_types
        for local in records.binding.key_locals:
            raw = old.get(local)
            if raw is None or raw is KEPT:
                name = {}
                break
            try:
                name[local] = typed_of(types[local], records.decoded_key(local, str(raw)))
            except BadValue:
                name = {}
                break
        return (records.id_of((id,)) if isinstance(id, str) else None), name
