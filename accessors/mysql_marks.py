"""How our own transactions are known again in the binary log: each puts a row into a table of ours, which is there while
changes are captured."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.captures import project_of
from accessors.sql_errors import number_of, said_by, where_of
from evsync.errors import Unreachable
from evsync.store import Store

PREFIX: Final = "_evsync_"
TABLE: Final = f"{PREFIX}written"
WHO: Final = "who"

_MARK: Final = (
    f"INSERT INTO `{TABLE}` (`{WHO}`, `times`) VALUES (%s, 1) ON DUPLICATE KEY UPDATE `times` = `times` + 1"
)
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS `{TABLE}` (`{WHO}` VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY,"
    " `times` BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB COMMENT = 'evsync: who has written here'"
)
_NO_TABLE: Final = frozenset({1046, 1146})
_DENIED: Final = 1142


def who(store: Store) -> str:
    """As whom a store is written: two projects that write to one database see what the other one does."""
    return f"{store.name} {project_of(store)}"[-190:]


def is_there(connection: sa.Connection) -> bool:
    """Whether the table is in the database of the connection."""
    asked = "SELECT 1 FROM information_schema.tables WHERE table_schema = database() AND table_name = %s"
    return connection.exec_driver_sql(asked, (TABLE,)).first() is not None


def create(connection: sa.Connection) -> None:
    connection.exec_driver_sql(_CREATE)


def drop(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS `{TABLE}`")


def mark(connection: sa.Connection, store: Store) -> bool:
    """Mark the transaction that has just begun as ours, where the store is followed; whether it is."""
    if not _may_be_followed(store):
        return False
    try:
        connection.exec_driver_sql(_MARK, (who(store),))
    except exc.DBAPIError as error:
        number = number_of(error.orig)
        # Who may not see the table is denied it, whether it is there or not; and who cannot see it does not follow the log.
        if number in _NO_TABLE or (number == _DENIED and not is_there(connection)):
            return False
        if number == _DENIED:
            raise Unreachable(
                f"{where_of(store)} does not let us write: {said_by(error)}",
                f"GRANT INSERT, UPDATE ON `{TABLE}`, by which evsync knows again what it wrote itself",
            ) from error
        raise
    return True


def _may_be_followed(store: Store) -> bool:
    """Who only compares, or only writes, needs none of the rights that it takes."""
    capturing = any(store.option(type, "capture", "auto") != "scan" for type in store.types)
    return capturing and store.role != "target" and store.scheme in ("mysql", "mariadb")
