"""What a server of MySQL or MariaDB says of itself and of its binary log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.mysql_positions import Position
from accessors.sql_errors import number_of

_UNKNOWN_STATEMENT: Final = 1064


def is_mariadb(connection: sa.Connection) -> bool:
    """Whether it is MariaDB, whichever scheme the URL begins with."""
    dialect: Any = connection.dialect
    return bool(getattr(dialect, "is_mariadb", False))


def log_end(connection: sa.Connection) -> Position | None:
    """Where the binary log ends now; None where none is written."""
    row = _log_status(connection)
    return None if row is None else Position(row[0], int(row[1]))


def left_out(connection: sa.Connection) -> tuple[set[str], set[str]]:
    """The databases that alone are logged, and those that are not; both empty where all are."""
    row = _log_status(connection)
    only, never = (row[2], row[3]) if row is not None else ("", "")
    return _names(only), _names(never)


def _log_status(connection: sa.Connection) -> Sequence[Any] | None:
    try:
        return connection.exec_driver_sql("SHOW MASTER STATUS").first()
    except exc.DBAPIError as error:
        if number_of(error.orig) != _UNKNOWN_STATEMENT:
            raise
    return connection.exec_driver_sql("SHOW BINARY LOG STATUS").first()  # MySQL since 8.4


def _names(told: str | None) -> set[str]:
    return {name.strip() for name in (told or "").split(",") if name.strip()}
