"""Reading the queue of captured changes (see `sqlite_capture`) as a feed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accessors import sqlite_capture as capture
from accessors import sqlite_schema as schema
from accessors.captures import capture_mode
from accessors.sqlite_capture import DELETED, IN_THE_WAY, Captured
from accessors.sqlite_connection import text
from accessors.sqlite_schema import Table, quoted
from accessors.sqlite_values import native
from evsync.accessor import Captured as State
from evsync.accessor import Fed, Missed, Reached
from evsync.binding import Binding
from evsync.errors import BadValue, PositionLost
from evsync.store import Store

BATCH = 1000

MODES = ("auto", "triggers", "scan")


def position_at(number: int, token: str) -> str:
    """A place in the queue; `token` tells the queue from one that was set up anew."""
    return f"{number:020d} {token}"


def position_now(connection: sqlite3.Connection) -> str:
    """Where the queue ends."""
    return position_at(capture.last(connection), capture.token(connection))


def number_of(position: str) -> int:
    """The place in the queue that a position means."""
    return int(position.partition(" ")[0])


def check(connection: sqlite3.Connection, store: Store, since: Mapping[str, str]) -> None:
    """Raises PositionLost if the queue does not reach back to there."""
    why = capture.lacking(connection)
    if why is not None or not capture.is_installed(connection):
        raise PositionLost(
            f"store {store.name!r}, {store.path}: {why or 'the capture was taken away'};"
            " what happened since the last ingest cannot be told step by step",
            f"set it up again: evsync capture install {store.name}; then go on by comparing:"
            f" evsync ingest {store.name} --accept-gap",
        )
    token, end = capture.token(connection), capture.last(connection)
    for position in since.values():
        if position.partition(" ")[2] != token or number_of(position) > end:
            raise PositionLost(
                f"store {store.name!r}: the queue of changes in {store.path} is not the one that was read before;"
                " what happened in between cannot be told step by step",
                f"go on by comparing: evsync ingest {store.name} --accept-gap",
            )
    tables, reaches = capture.tables(connection), capture.reaches(connection)
    for type in since:
        captured = _captured(tables, schema.table_name(store, type))
        reach = capture.Reach() if captured is None else reaches.get(captured.table, capture.Reach())
        if reach.pruned > number_of(since[type]):
            raise PositionLost(
                f"store {store.name!r}, type {type!r}: changes of {schema.table_name(store, type)!r} were taken out of the queue in {store.path} by"
                " another evsync or for another store, or the journal is an older one; what they were cannot be told any more",
                f"go on by comparing: evsync ingest {store.name} --accept-gap; of those that read one table only one can use its"
                ' triggers: set capture = "scan" for the others',
            )


def changes(
    connection: sqlite3.Connection, store: Store, since: Mapping[str, str], until: str | None
) -> Iterator[Fed | Reached | Missed]:
    """What is in the queue behind `since`. Raises PositionLost if the queue does not reach back to there."""
    check(connection, store, since)
    token, end = capture.token(connection), capture.last(connection)
    end = end if until is None else number_of(until)
    tables, reaches = capture.tables(connection), capture.reaches(connection)
    readers: dict[str, list[_Reading]] = {}
    for type in since:
        captured = _captured(tables, schema.table_name(store, type))
        assert captured is not None
        reach = reaches.get(captured.table, capture.Reach())
        table = schema.existing(connection, store, type)
        reading = _Reading(connection, store.binding(type), table, captured, number_of(since[type]))
        readers.setdefault(captured.table, []).append(reading)
        why = capture.amiss(connection, captured)
        if why is None and reach.since > number_of(since[type]):
            why = "its triggers were set up again since"
        if why is not None:
            yield Missed(type, f"store {store.name!r}, table {captured.table!r}: {why}")
    connection.text_factory = text
    cursor = connection.execute(
        f"SELECT * FROM {capture.QUEUE} WHERE n > ? AND n <= ? ORDER BY n",
        (min(map(number_of, since.values())), end),
    )
    names = [column[0] for column in cursor.description]
    for one in (reading for some in readers.values() for reading in some):
        one.find_columns(names)
    while rows := cursor.fetchmany(BATCH):
        for row in rows:
            for reading in readers.get(row[1], ()):
                fed = reading.fed(row, token)
                if fed is not None:
                    yield fed
    yield Reached(position_at(end, token))


def captured_tables(connection: sqlite3.Connection, store: Store) -> list[str]:
    """The tables of a store's types that are captured, as they are called in the queue."""
    tables = capture.tables(connection)
    found = (_captured(tables, schema.table_name(store, type)) for type in store.types)
    return [one.table for one in found if one is not None]


def _captured(tables: Mapping[str, Captured], name: str) -> Captured | None:
    """SQLite minds no case."""
    return next((found for table, found in tables.items() if table.lower() == name.lower()), None)


def is_captured(connection: sqlite3.Connection, store: Store, type: str) -> bool:
    """Whether the changes of a type's table are captured."""
    if not capture.is_installed(connection):
        return False
    return _captured(capture.tables(connection), schema.table_name(store, type)) is not None


def mode(store: Store, type: str) -> str:
    """How changes are to be found, as configured. Raises ConfigError."""
    return capture_mode(store, type, MODES)


def status(connection: sqlite3.Connection, store: Store) -> State:
    """How the capture of a store stands."""
    asked = mode(store, next(iter(store.types), ""))
    way = f"evsync capture install {store.name}"
    lacking = capture.lacking(connection)
    if lacking is not None:
        if asked == "scan":
            way = f"evsync capture remove {store.name}"
        return State("triggers", False, lacking, way)
    if not capture.is_installed(connection):
        if asked == "triggers":
            return State("triggers", False, "the triggers are not set up", way, absent=True)
        return State("scan", True, "by comparing: an ingest sees the last state, not each step")
    tables = capture.tables(connection)
    held = {type: _captured(tables, schema.table_name(store, type)) for type in store.types}
    names = captured_tables(connection, store)
    waiting = connection.execute(
        f"SELECT count(*) FROM {capture.QUEUE} WHERE tbl IN ({', '.join('?' * len(names))})", names
    ).fetchone()[0]
    captured = [type for type, found in held.items() if found is not None]
    for type, found in held.items():
        why = "its changes are not captured" if found is None else capture.amiss(connection, found)
        if why is not None:
            return State("triggers", False, f"type {type!r}: {why}", way, waiting, None, captured)
    if asked == "scan":
        detail = "triggers are set up, but the configuration says scan"
        return State("scan", False, detail, f"evsync capture remove {store.name}", waiting, None, captured)
    return State("triggers", True, "every change, by triggers", "", waiting, None, captured)


class _Reading:
    """Makes of the queue's rows what they say of one type."""

    def __init__(
        self, connection: sqlite3.Connection, binding: Binding, table: Table, captured: Captured, since: int
    ) -> None:
        self._connection, self._binding, self._table, self._captured = connection, binding, table, captured
        self._since = since
        self._id = binding.id or (table.primary_key[0] if len(table.primary_key) == 1 else None)
        if not table.primary_key and self._id is None:
            self._id = table.rowid
        self._called = captured.identity.index(self._id) if self._id in captured.identity else None
        self._old_key = [
            captured.identity.index(local) if local in captured.identity else None
            for local in binding.key_locals
        ]
        self._o: list[int] = []
        self._v: dict[str, int] = {}

    def find_columns(self, names: Sequence[str]) -> None:
        """Learn where in a row of the queue is what."""
        self._o = [names.index(f"o{n}") for n in range(len(self._captured.identity))]
        self._v = {column: names.index(f"v{n}") for n, column in enumerate(self._captured.columns)}

    def fed(self, row: Sequence[Any], token: str) -> Fed | None:
        number, _, op, at = row[:4]
        if number <= self._since:
            return None
        old = [row[index] for index in self._o]
        if op == IN_THE_WAY and (self._is_there(old) or self._comes_again(number, old)):
            return None
        position = position_at(number, token)
        id, name = self._was(old) if op != capture.INSERTED else (None, {})
        if op in (DELETED, IN_THE_WAY):
            return Fed(self._binding.type, position, None, id, name, at)
        return Fed(self._binding.type, position, self._row(row, old, at), id, name)

    def _row(self, row: Sequence[Any], old: Sequence[Any], at: str) -> tuple[Any, ...]:
        binding = self._binding

        def value(column: str) -> Any:
            return row[self._v[column]] if column in self._v else None

        id = None if self._id is None else value(self._id)
        changed_at = None if binding.changed_at is None else value(binding.changed_at)
        return (
            id if isinstance(id, int | str) else None,
            None,
            at if changed_at is None else changed_at,
            None if binding.changed_by is None else value(binding.changed_by),
            *(value(local) for local in binding.locals),
        )

    def _was(self, old: Sequence[Any]) -> tuple[int | str | None, dict[str, Any]]:
        id = None if self._called is None else old[self._called]
        name: dict[str, Any] = {}
        for local, index in zip(self._binding.key_locals, self._old_key, strict=True):
            if index is None:
                return (id if isinstance(id, int | str) else None), {}
            try:
                name[local] = native(self._binding.local_types[local], old[index])
            except BadValue:
                return (id if isinstance(id, int | str) else None), {}
        if any(value is None for value in name.values()):
            name = {}
        return (id if isinstance(id, int | str) else None), name

    def _comes_again(self, number: int, old: Sequence[Any]) -> bool:
        """Whether more is told of a row: then it was not driven out, or it is told what became of it."""
        names, columns = self._captured.identity, self._captured.columns
        was = " AND ".join(f"o{n} IS ?" for n in range(len(names)))
        now = " AND ".join(f"v{columns.index(name)} IS ?" for name in names if name in columns)
        sql = (
            f"SELECT 1 FROM {capture.QUEUE} WHERE n > ? AND tbl = ? AND ((op IN ('u', 'd') AND {was})"
            f" OR (op = 'i' AND {now or 0})) LIMIT 1"
        )
        held = [value for name, value in zip(names, old, strict=True) if name in columns]
        found = self._connection.execute(sql, [number, self._captured.table, *old, *held])
        return found.fetchone() is not None

    def _is_there(self, old: Sequence[Any]) -> bool:
        where = " AND ".join(
            f"{quoted(column) if column in self._table.columns else column} IS ?"
            for column in self._captured.identity
        )
        sql = f"SELECT 1 FROM {quoted(self._table.name)} WHERE {where} LIMIT 1"
        return self._connection.execute(sql, list(old)).fetchone() is not None
