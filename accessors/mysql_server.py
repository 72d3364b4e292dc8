"""What a server of MySQL or MariaDB says of itself and of its binary log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.mysql_positions import Position
from accessors.sql_errors import number_of, where_of
from evsync.errors import Unreachable
from evsync.store import Store

_UNKNOWN_STATEMENT, _NO_RIGHT = 1064, 1227


def is_mariadb(connection: sa.Connection) -> bool:
    """Whether it is MariaDB, whichever scheme the URL begins with."""
    dialect: Any = connection.dialect
    return bool(getattr(dialect, "is_mariadb", False))


def log_end(connection: sa.Connection, store: Store) -> Position | None:
    """Where the binary log ends now; None where none is written. Raises Unreachable where we may not know."""
    row = _log_status(connection, store)
    return None if row is None else Position(row[0], int(row[1]))


def left_out(connection: sa.Connection, store: Store) -> tuple[set[str], set[str]]:
    """The databases that alone are logged, and those that are not; both empty where all are."""
    row = _log_status(connection, store)
    only, never = (row[2], row[3]) if row is not None else ("", "")
    return _names(only), _names(never)


def _log_status(connection: sa.Connection, store: Store) -> Sequence[Any] | None:
    try:
        return connection.exec_driver_sql("SHOW MASTER STATUS").first()
    except exc.DBAPIError as error:
        number = number_of(error.orig)
        if number == _UNKNOWN_STATEMENT:
            return connection.exec_driver_sql("SHOW BINARY LOG STATUS").first()  # MySQL since 8.4
        if number != _NO_RIGHT:
            raise
    right = "BINLOG MONITOR" if is_mariadb(connection) else "REPLICATION CLIENT"
    raise Unreachable(
        f"{where_of(store)} does not tell us where its binary log stands",
        f"GRANT {right}, REPLICATION SLAVE ON *.* TO the user",
    )


def _names(told: str | None) -> set[str]:
    return {name.strip() for name in (told or "").split(",") if name.strip()}
