"""PostgreSQL: `postgresql://user@host/database`, one table per type, its name in the option `table`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from accessors import postgres_capture as capture
from accessors import postgres_feed as feed
from accessors import postgres_schema as schema
from accessors.applying import applied, in_halves
from accessors.postgres_connection import (
    Connection,
    opened,
    reading,
    slot_name,
    transaction,
    writing,
)
from accessors.postgres_loading import loading
from accessors.postgres_records import Records
from accessors.postgres_writing import Writing
from accessors.waiting import changing
from accessors.waiting import until as waited
from evsync.accessor import Accessor, Captured, Change, Fed, Load, Outcome, Reached, Row
from evsync.binding import Description
from evsync.data import Data
from evsync.errors import Refused, StoreError
from evsync.store import Store


class PostgresAccessor(Accessor):
    """Reads and writes tables of any shape; views are read only.

    The store's own id is the column that the binding names, else the primary key's one column; a record of a composite
    primary key, or of none, has no id and is found by its key fields.
    """

    json_is_text = True
    snapshot = True
    batch = 5000
    options: ClassVar[Mapping[str, str]] = {
        "table": "the table's name; left out: the type's",
        "schema": "the schema it stands in; left out: what search_path finds, mostly public",
        "capture": "how changes are found: auto, wal or scan",
        "slot": "the name of the replication slot and of the publication, for capture by wal",
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
            named = all(local in data.fields for local in records.binding.key_locals)
            found = records.one(None, data.fields) if named else None
            return _stored(records, Writing(records, told=True).one("create", data.fields, found))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is gone or no longer `old`, or the table does not want it."""
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, (data if old is None else old).fields)
            if found is not None and old is not None and not records.same(found.row, old.fields):
                raise Refused(f"{records}: the record was changed meanwhile")
            return _stored(records, Writing(records, told=True).one("update", data.fields, found))

    def remove(self, store: Store, data: Data) -> None:
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, data.fields)
            if found is not None:
                Writing(records).one("delete", {}, found)

    # -- everything at once ----------------------------------------------------------------------------

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]:
        """All rows, of one state of the store."""
        with reading(store) as connection:
            yield from Records(connection, store, type).batches()

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """Writes the changes in one transaction; a record that is refused does not stop the others."""
        return in_halves(changes, lambda some: _apply(store, type, some))

    @contextmanager
    def loading(self, store: Store, type: str) -> Iterator[Load | None]:
        """See evsync.accessor.CanLoad."""
        with opened(store) as connection:
            with transaction(connection):
                records = _writable(connection, store, type)
            yield loading(connection, records)

    # -- the feed --------------------------------------------------------------------------------------

    def feeds(self, store: Store, type: str) -> bool:
        """See evsync.accessor.CanFeed."""
        if capture.mode(store, type) == "scan":
            return False
        with reading(store) as connection:
            return capture.is_captured(connection, store, type)

    def position(self, store: Store, type: str) -> str:
        with reading(store) as connection:
            return feed.begin_scan(connection, store, type)

    def changes(
        self, store: Store, since: Mapping[str, str], until: str | None = None
    ) -> Iterator[Fed | Reached]:
        with reading(store) as connection:
            yield from feed.changes(connection, store, since, until)

    def scan_at(self, store: Store, type: str) -> tuple[str, Generator[Sequence[Row], None, None]]:
        """See evsync.accessor.CanScanAt: the position says which transactions the scan sees."""
        with ExitStack() as beginning:
            connection = beginning.enter_context(reading(store))
            position = feed.begin_scan(connection, store, type)
            stack = beginning.pop_all()

        def rows() -> Generator[Sequence[Row], None, None]:
            with stack:
                yield ()
                yield from Records(connection, store, type).batches()

        begun = rows()
        next(begun)  # from here on it closes the connection, read to the end or not
        return position, begun

    def acknowledge(self, store: Store, position: str) -> None:
        """Let the server forget what is journalled. If the slot is still busy, the next time will do."""
        with opened(store) as connection:
            name = slot_name(connection, store)
            found = capture.slot(connection, name)
            if found is not None and found.ours and feed.lsn_in(position) > found.confirmed:
                # The process that served us may take a moment to let go of the slot.
                waited(lambda: capture.advance(connection, name, feed.lsn_in(position)), 1.0)

    def install(self, store: Store) -> list[str]:
        """Set up the publication and the slot."""
        with opened(store) as connection:
            return capture.install(connection, store)

    def uninstall(self, store: Store) -> list[str]:
        with opened(store) as connection:
            return capture.uninstall(connection, store)

    def captured(self, store: Store) -> Captured:
        with reading(store) as connection:
            return capture.status(connection, store)

    def waking(self, store: Store, stop: Callable[[], bool]) -> Iterator[None]:
        """See evsync.accessor.CanWake: the log grows with every change."""
        with opened(store) as connection:
            asked = b"SELECT pg_current_wal_flush_lsn()"
            yield from changing(lambda: connection.execute(asked).fetchone(), stop)

    # -- the tables ------------------------------------------------------------------------------------

    def describe(self, store: Store, type: str) -> Description | None:
        with reading(store) as connection:
            table = schema.load(connection, schema.table_name(store, type), schema.schema_name(store, type))
            return None if table is None else schema.describe(table)

    def create(self, store: Store, type: str) -> None:
        with writing(store) as connection:
            name, within = schema.table_name(store, type), schema.schema_name(store, type)
            if schema.load(connection, name, within) is None:
                connection.execute(schema.creation(name, within, store.binding(type)).encode())

    def discover(self, store: Store) -> dict[str, dict[str, str]]:
        """Every table that the user may read, a type each."""
        with reading(store) as connection:
            return schema.discover(connection)

    def check(self, store: Store, type: str) -> str | None:
        try:
            with writing(store) as connection:
                return schema.hindrance(connection, _writable(connection, store, type).table)
        except StoreError as error:
            return f"{error.message}: {error.hint}" if error.hint else error.message


def _writable(connection: Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type, locked=True)
    records.check_writable()
    return records


def _stored(records: Records, row: Row | None) -> Data:
    if row is None:
        raise Refused(f"{records}: the record was written, but a trigger took it away")
    return records.data(row)


def _apply(store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
    """Raises Refused if the transaction as a whole was refused."""
    with writing(store) as connection:
        records = _writable(connection, store, type)
        return applied(changes, records, Writing(records))
