"""MySQL and MariaDB: `mysql://user@host/database`, one table per type, its name in the option `table`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import ClassVar

import pymysql  # noqa: F401 - the driver behind the URLs: what to install is told before the first of them is opened

from accessors import mysql_capture as capture
from accessors import mysql_noting as noting
from accessors.applying import in_halves
from accessors.captures import scan_from
from accessors.mysql_feed import changes, check
from accessors.mysql_offer import ways
from accessors.mysql_positions import Position
from accessors.mysql_server import log_end
from accessors.mysql_snapshot import located_snapshot
from accessors.sql import SqlAccessor, apply_on
from accessors.sql_connection import Connection, opened, reading, writing
from accessors.sql_records import Records
from accessors.waiting import changing
from evsync.accessor import Captured, Change, Fed, Missed, Note, Noted, Outcome, Reached, Row, Way
from evsync.store import Store


class MySqlAccessor(SqlAccessor):
    """Reads and writes tables of any shape that have a key and transactions; views are read only.

    A scan is of a consistent snapshot. Where the server writes a binary log of rows, changes can be captured out of it.
    """

    snapshot = True
    options: ClassVar[Mapping[str, str]] = {
        "table": "the table's name; left out: the type's",
        "schema": "another database of the same server; left out: the one in the url",
        "zone": "utc, if DATETIME columns are meant in UTC",
        "capture": "how changes are found: auto, binlog or scan",
    }

    # -- with a note of it -----------------------------------------------------------------------------

    def apply_noted(self, store: Store, type: str, changes: Sequence[Change], note: Note) -> list[Outcome]:
        """See evsync.accessor.CanNote."""
        noting.make_room(store)

        def apply(some: Sequence[Change], before: Sequence[Outcome]) -> list[Outcome]:
            with writing(store) as connection:
                outcomes = apply_on(connection, store, type, some)
                if any(outcome.state == "written" for outcome in outcomes):
                    noting.put_down(connection, store, note, [*before, *outcomes])
                return outcomes

        return in_halves(changes, apply)

    def noted(self, store: Store, type: str, place: str) -> Noted | None:
        with reading(store) as connection:
            return noting.noted(connection, place)

    # -- the feed --------------------------------------------------------------------------------------

    def feeds(self, store: Store, type: str) -> bool:
        """See evsync.accessor.CanFeed."""
        if capture.mode(store, type) == "scan":
            return False
        with opened(store) as connection:
            return capture.is_captured(connection, store, type)

    def position(self, store: Store, type: str) -> str:
        with located_snapshot(store) as (_, position):
            return position.text

    def changes(
        self, store: Store, since: Mapping[str, str], until: str | None = None
    ) -> Iterator[Fed | Reached | Missed]:
        return changes(store, since, until)

    def check_position(self, store: Store, since: Mapping[str, str]) -> None:
        """See evsync.accessor.CanCheckPosition."""
        check(store, since)

    def scan_at(self, store: Store, type: str) -> tuple[str, Generator[Sequence[Row], None, None]]:
        """See evsync.accessor.CanScanAt."""
        return scan_from(
            located_snapshot(store),
            lambda snapshot: snapshot[1].text,
            lambda snapshot: Records(snapshot[0], store, type).batches(),
        )

    def install(self, store: Store) -> list[str]:
        """Look whether the server tells its changes, and have our own known again."""
        return capture.install(store)

    def uninstall(self, store: Store) -> list[str]:
        done = capture.uninstall(store)
        with opened(store) as connection:
            return [*done, f"the table {noting.TABLE}"] if noting.drop(connection) else done

    def captured(self, store: Store) -> Captured:
        return capture.status(store)

    def waking(self, store: Store, stop: Callable[[], bool]) -> Iterator[None]:
        """See evsync.accessor.CanWake: the log grows with every change."""
        with opened(store) as connection:
            yield from changing(lambda: _log_end(connection, store), stop)

    def ways(self, store: Store) -> list[Way]:
        """See evsync.accessor.CanOfferCapture."""
        with opened(store) as connection:
            return ways(connection, store)


def _log_end(connection: Connection, store: Store) -> Position | None:
    try:
        return log_end(connection.sql, store)
    finally:
        connection.sql.rollback()
