"""PostgreSQL: `postgresql://user@host/database`, one table per type, its name in the option `table`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar

from accessors import postgres_capture as capture
from accessors import postgres_feed as feed
from accessors import postgres_noting as noting
from accessors import postgres_offer as offer
from accessors import postgres_queue as queue
from accessors import postgres_relations as related
from accessors import postgres_schema as schema
from accessors import postgres_triggers as triggers
from accessors import postgres_ways as ways
from accessors.applying import applied, in_halves
from accessors.captures import scan_from
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
from accessors.tables import TableAccessor, told
from accessors.waiting import changing
from accessors.waiting import until as waited
from evsync.accessor import (
    Captured,
    Change,
    Fed,
    Load,
    Missed,
    Note,
    Noted,
    Outcome,
    Reached,
    Relations,
    Row,
    Way,
)
from evsync.binding import Description
from evsync.errors import PositionLost, Retry, StoreError
from evsync.store import Store


class PostgresAccessor(TableAccessor):
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
        "capture": "how changes are found: auto, wal, triggers or scan",
        "slot": "the name of the replication slot and the publication, for capture by wal, or of the queue, by triggers",
    }

    # -- opening ---------------------------------------------------------------------------------------

    @contextmanager
    def read_from(self, store: Store, type: str) -> Iterator[Records]:
        with reading(store) as connection:
            yield Records(connection, store, type)

    @contextmanager
    def write_to(self, store: Store, type: str) -> Iterator[Writing]:
        with writing(store) as connection:
            yield Writing(_writable(connection, store, type), told=True)

    # -- everything at once ----------------------------------------------------------------------------

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """Writes the changes in one transaction; a record that is refused does not stop the others."""
        return in_halves(changes, lambda some, before: _apply(store, type, some, before, None))

    def apply_noted(self, store: Store, type: str, changes: Sequence[Change], note: Note) -> list[Outcome]:
        """See evsync.accessor.CanNote."""
        return in_halves(changes, lambda some, before: _apply(store, type, some, before, note))

    def noted(self, store: Store, type: str, place: str) -> Noted | None:
        with reading(store) as connection:
            table = schema.load(connection, schema.table_name(store, type), schema.schema_name(store, type))
            return None if table is None else noting.noted(connection, table, place)

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
        if ways.mode(store, type) == "scan":
            return False
        with reading(store) as connection:
            return ways.is_captured(connection, store, type)

    def position(self, store: Store, type: str) -> str:
        with reading(store) as connection:
            return _begin_scan(connection, store, type)

    def changes(
        self, store: Store, since: Mapping[str, str], until: str | None = None
    ) -> Iterator[Fed | Reached | Missed]:
        with reading(store) as connection:
            there = _queue_of(connection, store, since)
            if there is None:
                yield from feed.changes(connection, store, since, until)
            else:
                yield from queue.changes(connection, store, there, since, until)

    def scan_at(self, store: Store, type: str) -> tuple[str, Generator[Sequence[Row], None, None]]:
        """See evsync.accessor.CanScanAt: the position says which transactions the scan sees."""
        return scan_from(
            reading(store),
            lambda connection: _begin_scan(connection, store, type),
            lambda connection: Records(connection, store, type).batches(),
        )

    def check_position(self, store: Store, since: Mapping[str, str]) -> None:
        """See evsync.accessor.CanCheckPosition."""
        with reading(store) as connection:
            there = _queue_of(connection, store, since)
            if there is None:
                feed.check(connection, store, since)
            else:
                queue.check(store, there, since, *queue.now(connection))

    def acknowledge(self, store: Store, position: str) -> None:
        """Let the server forget what is journalled. If the slot or the queue is busy, the next time will do."""
        if queue.is_place(position):
            with suppress(Retry), opened(store) as connection, transaction(connection):
                there = triggers.queue(connection, store)
                if there is not None:
                    queue.acknowledge(connection, there, position)
            return
        with opened(store) as connection:
            name = slot_name(connection, store)
            found = capture.slot(connection, name)
            if found is not None and found.ours and feed.lsn_in(position) > found.confirmed:
                # The process that served us may take a moment to let go of the slot.
                waited(lambda: capture.advance(connection, name, feed.lsn_in(position)), 1.0)

    def install(self, store: Store) -> list[str]:
        """Set up the publication and the slot, or the queue and the triggers."""
        with opened(store) as connection:
            return ways.install(connection, store)

    def uninstall(self, store: Store) -> list[str]:
        with opened(store) as connection:
            return ways.uninstall(connection, store)

    def captured(self, store: Store) -> Captured:
        with reading(store) as connection:
            return ways.status(connection, store)

    def ways(self, store: Store) -> list[Way]:
        with reading(store) as connection:
            return offer.ways(connection, store)

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

    def relations(self, store: Store, type: str) -> Relations:
        with reading(store) as connection:
            return related.relations(connection, schema.existing(connection, store, type))

    def left_out(self, store: Store) -> dict[str, str]:
        with reading(store) as connection:
            return related.left_out(connection)

    def why_not_created(self, store: Store) -> str | None:
        with reading(store) as connection:
            return related.why_not_created(connection)

    def check(self, store: Store, type: str) -> str | None:
        try:
            with writing(store) as connection:
                return schema.hindrance(connection, _writable(connection, store, type).table)
        except StoreError as error:
            return told(error)


def _queue_of(connection: Connection, store: Store, since: Mapping[str, str]) -> triggers.Queue | None:
    """The queue that is read; None where it is the log. Raises PositionLost where it was another way until now."""
    there = triggers.queue(connection, store) if ways.way(connection, store) == "triggers" else None
    if there is None and any(map(queue.is_place, since.values())):
        raise PositionLost(
            f"store {store.name!r}: its changes were captured by triggers until now; what happened since the last"
            " ingest cannot be told step by step",
            f"go on by comparing: evsync ingest {store.name} --accept-gap",
        )
    return there


def _begin_scan(connection: Connection, store: Store, type: str) -> str:
    there = triggers.queue(connection, store) if ways.way(connection, store) == "triggers" else None
    if there is None:
        return feed.begin_scan(connection, store, type)
    return queue.begin_scan(connection, there, type)


def _writable(connection: Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type, locked=True)
    records.check_writable()
    return records


def _apply(
    store: Store, type: str, changes: Sequence[Change], before: Sequence[Outcome], note: Note | None
) -> list[Outcome]:
    """`before`: what became of the changes before these, which stand in the same note. Raises Refused if the transaction as
    a whole was refused."""
    with writing(store) as connection:
        records = _writable(connection, store, type)
        outcomes = applied(changes, records, Writing(records))
        if note is not None and any(outcome.state == "written" for outcome in outcomes):
            noting.put_down(
                connection, records.table, note.place, note.number, note.text([*before, *outcomes])
            )
        return outcomes
