"""SQLite: `sqlite:path`, one table per type, the table's name in the option `table`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ClassVar

from accessors import sqlite_capture as capture
from accessors import sqlite_feed as feed
from accessors import sqlite_relations as related
from accessors import sqlite_schema as schema
from accessors.marks import database_mark
from accessors.sqlite_connection import connected, reading, writable, writing
from accessors.sqlite_loading import Loading, can_be_loaded
from accessors.sqlite_records import Found, Handle, Records
from accessors.waiting import changing
from evsync.accessor import (
    Accessor,
    Captured,
    Change,
    Fed,
    Load,
    Missed,
    Outcome,
    Reached,
    Relations,
    Row,
    Way,
)
from evsync.binding import Description, nearest
from evsync.data import Data
from evsync.errors import ConfigError, Refused, Retry, StoreError, Unreachable
from evsync.store import Store

MODES = ("auto", "triggers", "scan")


class SqliteAccessor(Accessor):
    """Reads and writes tables of any shape; views are read only.

    The store's own id is the column that the binding names, else the primary key's one column, else the
    rowid; a record of a composite primary key has none and is found by its key fields. An iteration that is
    not finished holds a read lock: end it before writing to the same file.
    """

    json_is_text = True
    snapshot = True
    batch = 5000
    options: ClassVar[Mapping[str, str]] = {
        "table": "the table's name; left out: the type's",
        "capture": "how changes are found: auto, triggers or scan",
    }

    # -- the six methods -------------------------------------------------------------------------------

    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        with reading(store) as connection:
            records = Records(connection, store, type)
            found = records.one(id, None)
            return None if found is None else records.data(found.row)

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        with reading(store) as connection:
            records = Records(connection, store, type)
            found = records.one(None, name)
            return None if found is None else records.data(found.row)

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        with reading(store) as connection:
            records = Records(connection, store, type)
            for row in records.matching(match or {}):
                yield records.data(row)

    def add(self, store: Store, data: Data) -> Data:
        """Raises Refused if there is a record with this key, or the table does not want it."""
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            if all(local in data.fields for local in records.binding.key_locals):
                _refuse_if_there(records, records.one(None, data.fields))
            return _stored(records, records.insert(data.fields))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is gone or no longer `old`, or the table does not want it."""
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, (data if old is None else old).fields)
            if found is None:
                raise Refused(f"{records}: there is no such record to update")
            if old is not None and not records.same(found.row, old.fields):
                raise Refused(f"{records}: the record was changed meanwhile")
            return _stored(records, records.update(found.handle, data.fields))

    def remove(self, store: Store, data: Data) -> None:
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, data.fields)
            if found is not None:
                records.delete(found.handle)

    # -- everything at once ----------------------------------------------------------------------------

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]:
        """All rows, of one state of the store."""
        with reading(store) as connection:
            yield from Records(connection, store, type).batches()

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """Writes the changes in one transaction; a record that is refused does not stop the others."""
        try:
            return _apply(store, type, changes) if changes else []
        except Refused as error:
            # The transaction as a whole was refused: by a deferred constraint, or a trigger that rolled it
            # back. Nothing is written yet; halve it until the record is found whose fault it is.
            if len(changes) == 1:
                return [Outcome("failed", error=error)]
            middle = len(changes) // 2
            return [*self.apply(store, type, changes[:middle]), *self.apply(store, type, changes[middle:])]

    @contextmanager
    def loading(self, store: Store, type: str) -> Iterator[Load | None]:
        """See evsync.accessor.CanLoad."""
        with writable(store) as connection:
            records = _writable(connection, store, type)
            yield Loading(connection, records) if can_be_loaded(connection, records) else None

    def mark(self, store: Store, type: str) -> str | None:
        """See evsync.accessor.CanMark. What a view or a virtual table shows may depend on more than the file."""
        with reading(store) as connection:
            table = schema.load(connection, schema.table_name(store, type))
        return None if table is None or not table.is_stored else database_mark(store.path)

    # -- the feed --------------------------------------------------------------------------------------

    def feeds(self, store: Store, type: str) -> bool:
        """See evsync.accessor.CanFeed."""
        if mode(store, type) == "scan" or not store.path.is_file():
            return False
        with reading(store) as connection:
            return feed.is_captured(connection, store, type)

    def position(self, store: Store, type: str) -> str:
        with reading(store) as connection:
            return feed.position_now(connection)

    def changes(
        self, store: Store, since: Mapping[str, str], until: str | None = None
    ) -> Iterator[Fed | Reached | Missed]:
        with reading(store) as connection:
            yield from feed.changes(connection, store, since, until)

    def scan_at(self, store: Store, type: str) -> tuple[str, Generator[Sequence[Row], None, None]]:
        """See evsync.accessor.CanScanAt: the position and the rows are of one read transaction."""
        stack = ExitStack()
        connection = stack.enter_context(reading(store))
        position = feed.position_now(connection)

        def rows() -> Generator[Sequence[Row], None, None]:
            with stack:
                yield ()
                yield from Records(connection, store, type).batches()

        begun = rows()
        next(begun)  # from here on it closes the connection, read to the end or not
        return position, begun

    def acknowledge(self, store: Store, position: str) -> None:
        """Take out of the queue what is journalled. If the file is busy just now, the next time will do."""
        with suppress(Retry), writing(store) as connection:
            if capture.is_installed(connection):
                number = feed.number_of(position)
                connection.execute(f"DELETE FROM {capture.QUEUE} WHERE n <= ?", (number,))

    def install(self, store: Store) -> list[str]:
        """Set up the queue and the triggers. Raises Unreachable for what has no key, or is no table."""
        with writing(store) as connection:
            wanted = []
            for type in store.types:
                records = _writable(connection, store, type)
                table, binding = records.table, records.binding
                names = [*binding.key_locals, *([binding.id] if binding.id else [])]
                wanted.append((table, capture.identity_of(table, names)))
            return capture.install(connection, wanted)

    def uninstall(self, store: Store) -> list[str]:
        with writing(store) as connection:
            return capture.uninstall(connection)

    def captured(self, store: Store) -> Captured:
        with reading(store) as connection:
            return feed.status(connection, store)

    def ways(self, store: Store) -> list[Way]:
        with reading(store) as connection:
            return related.ways(connection, store)

    def waking(self, store: Store, stop: Callable[[], bool]) -> Iterator[None]:
        """See evsync.accessor.CanWake. The version that SQLite tells changes with each commit of somebody else."""
        with connected(store) as connection:
            yield from changing(lambda: connection.execute("PRAGMA data_version").fetchone(), stop)

    # -- the tables ------------------------------------------------------------------------------------

    def describe(self, store: Store, type: str) -> Description | None:
        if not store.path.is_file():
            return None
        with reading(store) as connection:
            table = schema.load(connection, schema.table_name(store, type))
            return None if table is None else schema.describe(connection, table)

    def create(self, store: Store, type: str) -> None:
        if not store.path.parent.is_dir():
            raise Unreachable(
                f"store {store.name!r}: there is no directory {store.path.parent}", "make it first"
            )
        with writing(store, create=True) as connection:
            name = schema.table_name(store, type)
            if schema.load(connection, name) is None:
                connection.execute(schema.creation(name, store.binding(type)))

    def discover(self, store: Store) -> dict[str, dict[str, str]]:
        """Every table of the user's, a type each."""
        from sqlite_utils import Database  # takes longer to import than most commands to run

        with reading(store) as connection:
            database = Database(connection, recursive_triggers=False)
            names = [name for name in database.table_names() if not name.startswith("sqlite_")]
            virtual = tuple(f"{name}_" for name in names if database.table(name).virtual_table_using)
            return {name: {} for name in names if not name.startswith((capture.PREFIX, *virtual))}

    def relations(self, store: Store, type: str) -> Relations:
        with reading(store) as connection:
            return related.relations(connection, schema.existing(connection, store, type))

    def left_out(self, store: Store) -> dict[str, str]:
        taken = set(self.discover(store))
        with reading(store) as connection:
            return related.left_out(connection, taken)

    def why_not_created(self, store: Store) -> str | None:
        return related.why_not_created(store.path)

    def check(self, store: Store, type: str) -> str | None:
        try:
            with writing(store) as connection:
                _writable(connection, store, type)
        except StoreError as error:
            return f"{error.message}: {error.hint}" if error.hint else error.message
        return None


def mode(store: Store, type: str) -> str:
    """How changes are to be found, as configured. Raises ConfigError."""
    found = store.option(type, "capture", "auto")
    if found not in MODES:
        raise ConfigError(
            f"store {store.name!r}: unknown capture {found!r}",
            nearest(str(found), MODES) or f"the ways are: {', '.join(MODES)}",
        )
    return str(found)


def _writable(connection: sqlite3.Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type)
    records.check_writable()
    return records


def _stored(records: Records, handle: Handle) -> Data:
    row = records.at(handle)
    if row is None:
        raise Refused(f"{records}: the record was written, but a trigger took it away")
    return records.data(row)


def _refuse_if_there(records: Records, found: Found | None) -> None:
    if found is not None:
        raise Refused(f"{records}: there is a record with this key already")


def _apply(store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
    """Raises Refused if the transaction as a whole was refused."""
    with writing(store) as connection:
        records = _writable(connection, store, type)
        outcomes: list[Outcome] = []
        to_read: list[tuple[Outcome, Handle]] = []
        for change, found in zip(changes, _current(records, changes), strict=True):
            verdict = change.judge(None if found is None else found.row)
            if verdict != "write":
                outcomes.append(Outcome(verdict, None if found is None else found.row))
                continue
            try:
                outcome, handle = _written(records, change, found)
            except Refused as error:
                if not connection.in_transaction:  # it took everything before it along
                    raise
                outcome, handle = Outcome("failed", error=error), None
            outcomes.append(outcome)
            if handle is not None:
                to_read.append((outcome, handle))
        # Last, since a later write may touch an earlier one through a trigger.
        for outcome, handle in to_read:
            outcome.row = records.at(handle)
            if outcome.row is not None:
                outcome.id = outcome.row[0]
        return outcomes


def _current(records: Records, changes: Sequence[Change]) -> list[Found | None]:
    """The records of the changes as they are now."""
    if records.is_empty():
        return [None] * len(changes)
    by_id = records.by_id(change.id for change in changes if change.id is not None)
    by_name = records.by_name(change.name for change in changes if change.id is None)
    return [
        by_name.get(records.name_of(change.name)) if change.id is None else by_id.get(change.id)
        for change in changes
    ]


def _written(records: Records, change: Change, found: Found | None) -> tuple[Outcome, Handle | None]:
    """Write one change; answers with the outcome, and where its row has yet to be read, if it has to be."""
    if change.action == "delete":
        if found is not None:
            records.delete(found.handle)
        return Outcome("written", id=change.id), None
    if change.action == "create":
        _refuse_if_there(records, found)
        handle = records.insert(change.values)
    elif found is None:
        raise Refused(f"{records}: the record to update is gone")
    else:
        handle = records.update(found.handle, change.values)
    if records.is_certain(change.values):
        return Outcome("written", exact=True, id=records.id_at(handle, change.values)), None
    return Outcome("written"), handle
