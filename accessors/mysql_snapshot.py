"""A snapshot of which it is known where the binary log stood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa

from accessors.mysql_following import known_again
from accessors.mysql_positions import Position
from accessors.mysql_server import is_mariadb, log_end
from accessors.sql_connection import Connection, opened, reading
from accessors.sql_errors import where_of
from evsync.errors import Unreachable
from evsync.store import Store


@contextmanager
def located_snapshot(store: Store) -> Iterator[tuple[Connection, Position]]:
    """A connection inside a read transaction, and the place behind the last transaction that it sees.

    MariaDB tells it. MySQL does not: there nobody may commit for the moment between our looking at the log and the beginning of
    our transaction."""
    with ExitStack() as stack:
        with opened(store) as other:
            place = None if is_mariadb(other.sql) else _held_still(other.sql, store)
            connection = stack.enter_context(reading(store))
            if is_mariadb(other.sql):
                place = _seen(connection.sql)
            else:
                other.sql.exec_driver_sql("UNLOCK TABLES")
        if place is None:
            raise Unreachable(
                f"{where_of(store)} writes no binary log", f"evsync capture install {store.name}"
            )
        yield connection, known_again(store, place)


def _held_still(connection: sa.Connection, store: Store) -> Position | None:
    connection.exec_driver_sql("FLUSH TABLES WITH READ LOCK")
    return log_end(connection, store)


def _seen(connection: sa.Connection) -> Position | None:
    told = dict(map(tuple, connection.exec_driver_sql("SHOW STATUS LIKE 'binlog_snapshot_%%'").all()))
    told = {name.lower(): value for name, value in told.items()}
    file = told.get("binlog_snapshot_file")
    return Position(file, int(told["binlog_snapshot_position"])) if file else None
