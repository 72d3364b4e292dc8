"""SQLite: `sqlite:path`, one table per type, the table's name in the option `table`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar

from accessors import sqlite_capture as capture
from accessors import sqlite_feed as feed
from accessors import sqlite_relations as related
from accessors import sqlite_schema as schema
from accessors.applying import in_halves
from accessors.captures import scan_from
from accessors.marks import database_mark
from accessors.sqlite_connection import connected, reading, writable, writing
from accessors.sqlite_loading import Loading, can_be_loaded
from accessors.sqlite_records import Records
from accessors.sqlite_writing import Writing, applied
from accessors.tables import TableAccessor, told
from accessors.waiting import changing
from evsync.accessor import (
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
from evsync.binding import Description
from evsync.errors import Retry, StoreError, Unreachable
from evsync.store import Store


class SqliteAccessor(TableAccessor):
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

    # -- opening ---------------------------------------------------------------------------------------

    @contextmanager
    def read_from(self, store: Store, type: str) -> Iterator[Records]:
        with reading(store) as connection:
            yield Records(connection, store, type)

    @contextmanager
    def write_to(self, store: Store, type: str) -> Iterator[Writing]:
        with writing(store) as connection:
            yield Writing(_writable(connection, store, type))

    # -- everything at once ----------------------------------------------------------------------------

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """Writes the changes in one transaction; a record that is refused does not stop the others."""
        return in_halves(changes, lambda some, _: _apply(store, type, some))

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
        if feed.mode(store, type) == "scan" or not store.path.is_file():
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
        return scan_from(
            reading(store), feed.position_now, lambda connection: Records(connection, store, type).batches()
        )

    def check_position(self, store: Store, since: Mapping[str, str]) -> None:
        """See evsync.accessor.CanCheckPosition."""
        with reading(store) as connection:
            feed.check(connection, store, since)

    def acknowledge(self, store: Store, position: str) -> None:
        """Take out of the queue what is journalled. If the file is busy just now, the next time will do."""
        with suppress(Retry), writing(store) as connection:
            if capture.is_installed(connection):
                told = feed.captured_tables(connection, store)
                capture.prune(connection, told, feed.number_of(position))

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
            return told(error)
        return None


def _writable(connection: sqlite3.Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type)
    records.check_writable()
    return records


def _apply(store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
    """Raises Refused if the transaction as a whole was refused."""
    with writing(store) as connection:
        return applied(changes, _writable(connection, store, type))
