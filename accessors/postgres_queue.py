"""Reading the queue of captured changes (see `postgres_triggers`) as a feed.

One reading is one transaction that sees one state of the database. What it tells is what the last reading, or the scan, did not
see: which transactions that were, their snapshots say. So nothing waits for a transaction that stays open, and nothing is
told twice or left out.

Transactions are told one after the other, in the order in which they put down their last change. That keeps the steps of
every record in order: who changes a record holds its lock until the end, so two transactions that both changed one did so one after the
other, commits included.

What we wrote ourselves is known by where the log stood then (`Fed.made`): up to `Store.written_at` all of that record is known.

A position is where the log stood at the reading, which never decreases; behind a blank stand the snapshots, by type, and, inside of
a reading, how far it was told.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any, Final, NamedTuple

from accessors import postgres_triggers as triggers
from accessors.postgres_connection import Connection
from accessors.postgres_record_text import fields_of
from accessors.postgres_records import Records
from accessors.postgres_triggers import DELETED, EMPTIED, INSERTED, Noted, Part, Queue
from accessors.postgres_values import typed_of
from accessors.postgres_wal import Snapshot
from evsync.accessor import Fed, Missed, Reached
from evsync.errors import BadValue, PositionLost
from evsync.store import Store

BATCH: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_CHANGES = """
DECLARE evsync NO SCROLL CURSOR FOR
SELECT q.n - '0/0', q.xid, max(q.n) OVER (PARTITION BY q.xid) - '0/0' AS last, q.rel, q.op, q.old_at, q.new_at, y.n - '0/0',
  CAST(extract(epoch FROM q.at) * 1000000 AS bigint), q.actor, q.old, q.new
FROM {queue} q LEFT JOIN (
  SELECT xid, rel, CAST(new_at AS text) AS place, max(n) AS n FROM {queue} WHERE late GROUP BY 1, 2, 3
) y ON y.xid = q.xid AND y.rel = q.rel AND y.place = CAST(q.old_at AS text) AND y.n > q.n
WHERE NOT ({seen}) AND {within}
ORDER BY last, q.xid, q.n
"""


class Told(NamedTuple):
    """How far a reading was told: of the transactions that `snapshot` sees, those up to `last` and `xid`, the last change
    of the last one and its number."""

    snapshot: str
    last: int
    xid: int


class Place(NamedTuple):
    """What a position says. `seen`: what was told or scanned of each type."""

    number: int
    queue: str
    seen: dict[str, str]
    told: tuple[Told, ...] = ()

    @property
    def text(self) -> str:
        rest: dict[str, Any] = {"queue": self.queue, "seen": self.seen}
        if self.told:
            rest["told"] = self.told
        return f"{self.number:020d} {json.dumps(rest, separators=(',', ':'))}"


class Event(NamedTuple):
    """A row of the queue. `last`: the last `n` of its transaction; `after`: that of the change by which the row came to be what this one
    found, where a trigger of the application's had this one put down before."""

    n: int
    xid: int
    last: int
    rel: str
    op: str
    old_at: str | None
    new_at: str | None
    after: int | None
    at: int
    actor: str | None
    old: str | None
    new: str | None


def is_place(position: str) -> bool:
    """Whether a position is one in a queue."""
    return position.partition(" ")[2].startswith('{"queue"')


def place_of(position: str) -> Place:
    number, _, rest = position.partition(" ")
    said = json.loads(rest)
    return Place(int(number), said["queue"], said["seen"], tuple(Told(*one) for one in said.get("told", ())))


def begin_scan(connection: Connection, queue: Queue, type: str) -> str:
    """The position of a scan on this connection, whose transaction begins with this."""
    snapshot, number = now(connection)
    return Place(number, queue.token, {type: snapshot}).text


def now(connection: Connection) -> tuple[str, int]:
    row = connection.execute(
        b"SELECT txid_current_snapshot(), pg_current_wal_insert_lsn() - '0/0'"
    ).fetchone()
    assert row is not None
    return row[0], int(row[1])


def changes(
    connection: Connection, store: Store, queue: Queue, since: Mapping[str, str], until: str | None
) -> Iterator[Fed | Reached | Missed]:
    """What was committed behind the positions. Raises PositionLost if the queue does not reach back so far."""
    snapshot, number = now(connection)
    check(store, queue, since, snapshot, number)
    places = {type: place_of(position) for type, position in since.items()}
    if until is not None:  # what is visible to the scan is told, and no more
        end = place_of(until)
        (snapshot, number) = (next(iter(end.seen.values())), end.number)
    readings: dict[str, list[_Reading]] = {}
    for type in since:
        records = Records(connection, store, type)
        table = records.table
        parts = triggers.parts_of(connection, table)
        why = triggers.amiss(connection, queue, table, parts)
        noted = queue.tables.get((table.schema, table.name))
        if why is None and noted is not None and places[type].number < noted.since:
            why = "its triggers were set up again since"
        if why is not None:
            yield Missed(type, f"{records}: {why}")
        if noted is not None:
            reading = _Reading(records, noted, parts, places[type])
            for oid in noted.parts:
                readings.setdefault(oid, []).append(reading)
    seen = sorted({place.seen[type] for type, place in places.items()})
    told = tuple(dict.fromkeys(one for place in places.values() for one in place.told))
    reached = {type: place.seen[type] for type, place in places.items()}
    for _, events in groupby(_events(connection, queue, seen, snapshot), key=lambda event: event.xid):
        one = next(events)
        held: Fed | None = None  # until it is known whether it is the last of its transaction
        for event in in_turn(chain([one], events)):
            for reading in readings.get(event.rel, ()):
                fed = reading.fed(event, number)
                if isinstance(fed, Missed):
                    yield fed
                elif fed is not None:
                    if held is not None:
                        yield held
                    held = fed
        for reading in dict.fromkeys(chain.from_iterable(readings.values())):
            if reading.emptied:
                reading.emptied.clear()
                yield Missed(reading.records.type, f"{reading.records}: a part of it was emptied at once")
        if held is not None:
            here = Told(snapshot, one.last, one.xid)
            left = tuple(before for before in told if before[1:] > here[1:])
            held.position, held.whole = Place(number, queue.token, reached, (*left, here)).text, True
            yield held
    yield Reached(Place(number, queue.token, dict.fromkeys(since, snapshot)).text)


def check(store: Store, queue: Queue, since: Mapping[str, str], snapshot: str, number: int) -> None:
    """Raises PositionLost if the queue does not reach back to the positions; `snapshot`, `number`: as it is now."""
    for type, position in since.items():
        why = _lost(position, queue, snapshot, number)
        if why is not None:
            raise PositionLost(
                f"store {store.name!r}, type {type!r}: {why}; what happened since the last ingest cannot be told step by step",
                f"go on by comparing: evsync ingest {store.name} --accept-gap",
            )


def _lost(position: str, queue: Queue, snapshot: str, number: int) -> str | None:
    """Why what follows the position is not in the queue; or None."""
    if not is_place(position):
        return "its changes were captured in another way until now"
    place = place_of(position)
    if place.queue != queue.token:
        return "the queue of its changes is not the one that was read before"
    if place.number > number or any(_end(one) > _end(snapshot) for one in place.seen.values()):
        return "the database is an older one than that which was read before, as out of a backup"
    if place.number < queue.pruned:
        return "its changes were taken out of the queue by another evsync, or after the journal was restored from a backup"
    return None


def _end(snapshot: str) -> int:
    return int(snapshot.split(":")[1])


def _events(connection: Connection, queue: Queue, seen: Sequence[str], snapshot: str) -> Iterator[Event]:
    """What is in the queue, of transactions that not all of `seen` see, but `snapshot` does."""
    visible = "txid_visible_in_snapshot(q.xid, CAST(${} AS txid_snapshot))"
    sql = _CHANGES.format(
        queue=queue.sql,
        seen=" AND ".join(visible.format(number) for number, _ in enumerate(seen, 1)),
        within=visible.format(len(seen) + 1),
    )
    connection.execute(sql.encode(), [*seen, snapshot])
    while rows := connection.execute(f"FETCH {BATCH} FROM evsync".encode()).fetchall():
        for n, xid, last, rel, op, old_at, new_at, after, at, actor, old, new in rows:
            yield Event(
                int(n), int(xid), int(last), rel, op, old_at, new_at, None if after is None else int(after),
                int(at), actor, old, new,
            )  # fmt: skip
    connection.execute(b"CLOSE evsync")


def in_turn(events: Iterable[Event]) -> Iterator[Event]:
    """The events of one transaction, each behind that by which its row came to be what it found."""
    waiting: dict[int, list[Event]] = {}
    made: dict[tuple[str, str | None], int] = {}  # by those that wait, and what they wait for

    def from_(event: Event) -> Iterator[Event]:
        yield event
        for one in waiting.pop(event.n, ()):
            made.pop((one.rel, one.new_at), None)
            yield from from_(one)

    for event in events:
        after = event.after
        if after is None and event.old_at is not None:
            after = made.get((event.rel, event.old_at))
        if after is None or after <= event.n:
            yield from from_(event)
        else:
            waiting.setdefault(after, []).append(event)
            if event.new_at is not None:
                made[event.rel, event.new_at] = after
    for left in waiting.values():
        yield from left


class _Reading:
    """Makes of the queue's rows what they say of one type. `emptied`: the tables it is stored in that the transaction has
    truncated, while there are others."""

    def __init__(self, records: Records, noted: Noted, parts: Mapping[str, Part], place: Place) -> None:
        self.records, self._noted, self._parts = records, noted, parts
        self._type, self._place = records.type, place
        self._seen = Snapshot(place.seen[records.type])
        self._xid, self._is_told = -1, False
        self.emptied: set[str] = set()
        binding = records.binding
        self._columns = (records.id_column, None, binding.changed_at, binding.changed_by, *binding.locals)

    def fed(self, event: Event, number: int) -> Fed | Missed | None:
        if event.xid != self._xid:
            self._xid, self._is_told = event.xid, self._was_told(event)
        if self._is_told:
            return None
        at = _EPOCH + timedelta(microseconds=event.at)
        made, position = f"{event.n:020d}", f"{number:020d}"
        if event.op == EMPTIED:
            self.emptied.add(event.rel)
            if not self.emptied.issuperset(self._noted.parts):
                return None
            self.emptied.clear()
            return Fed(self._type, position, None, None, {}, at, event.actor, False, emptied=True, made=made)
        old = None if event.op == INSERTED else self._by_column(event, event.old)
        new = None if event.op == DELETED else self._by_column(event, event.new)
        if (old is None and event.op != INSERTED) or (new is None and event.op != DELETED):
            return Missed(self._type, f"{self.records}: its columns have changed")
        id, name = (None, {}) if old is None else self._called(old)
        if new is None:
            return Fed(self._type, position, None, id, name, at, event.actor, False, made=made)
        raw = [None if column is None else new.get(column) for column in self._columns]
        row = list(self.records.decoded_one(raw))
        if row[2] is None:
            row[2] = at
        if row[3] is None:
            row[3] = event.actor
        return Fed(self._type, position, tuple(row), id, name, whole=False, made=made)

    def _was_told(self, event: Event) -> bool:
        """Whether the event's transaction was scanned, or told before."""
        return self._seen.sees(event.xid) or any(
            (event.last, event.xid) <= (one.last, one.xid) and Snapshot(one.snapshot).sees(event.xid)
            for one in self._place.told
        )

    def _by_column(self, event: Event, text: str | None) -> dict[str, str | None] | None:
        """None where it is not certain what columns the record had."""
        values = fields_of(text or "()")
        part = self._parts.get(event.rel)
        columns = triggers.shape(self._noted, event.rel, part, len(values), event.n)
        return None if columns is None else dict(zip(columns, values, strict=True))

    def _called(self, old: Mapping[str, str | None]) -> tuple[int | str | None, dict[str, Any]]:
        records = self.records
        column = records.id_column
        id = None if column is None else old.get(column)
        name: dict[str, Any] = {}
        for local in records.binding.key_locals:
            raw = old.get(local)
            try:
                typed = None if raw is None else records.decoded_key(local, raw)
                name[local] = None if typed is None else typed_of(records.binding.local_types[local], typed)
            except BadValue:
                name[local] = None
        if any(value is None for value in name.values()):
            name = {}
        return (None if id is None else records.id_of((id,))), name


def acknowledge(connection: Connection, queue: Queue, position: str) -> None:
    """Take out of the queue what was told, inside the caller's write transaction."""
    place = place_of(position)
    if place.queue != queue.token or place.told:
        return
    snapshots: Collection[str] = sorted(set(place.seen.values()))
    seen = " AND ".join(
        f"txid_visible_in_snapshot(xid, CAST(${number} AS txid_snapshot))"
        for number, _ in enumerate(snapshots, 1)
    )
    gone = connection.execute(f"DELETE FROM {queue.sql} WHERE {seen}".encode(), list(snapshots)).rowcount
    if gone:
        connection.execute(
            f"UPDATE {queue.state} SET pruned = greatest(pruned, CAST($1 AS numeric))".encode(),
            [str(place.number)],
        )
