"""What is put down in MySQL of the records written, in the transaction that writes them (see `CanNote`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from sqlalchemy import exc

from accessors import mysql_marks as marks
from accessors.sql_connection import Connection, opened
from accessors.sql_errors import number_of
from evsync.accessor import Note, Noted, Outcome
from evsync.store import Store

TABLE: Final = f"{marks.PREFIX}notes"
LONGEST: Final = 2_000_000  # characters, which any server takes in one statement

_DENIED: Final = frozenset({1044, 1046, 1142, 1143, 1146, 1227})
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS `{TABLE}` (`place` CHAR(32) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,"
    " `number` BIGINT NOT NULL, `note` LONGTEXT CHARACTER SET utf8mb4 NOT NULL, `position` VARCHAR(100)) ENGINE = InnoDB"
    " COMMENT = 'evsync: what it has written last'"
)
_PUT: Final = f"REPLACE INTO `{TABLE}` (`place`, `number`, `note`, `position`) VALUES (%s, %s, %s, %s)"
_ASK: Final = f"SELECT `number`, `note`, `position` FROM `{TABLE}` WHERE `place` = %s"


@lru_cache(maxsize=64)
def make_room(store: Store) -> None:
    """Make the table, ahead of any transaction as that would end it. Where the user may not, nothing is put down."""
    with opened(store) as connection, _unless_denied():
        connection.sql.exec_driver_sql(_CREATE)


@contextmanager
def _unless_denied() -> Iterator[None]:
    """No right, or no table, is no trouble; everything else is."""
    try:
        yield
    except exc.DBAPIError as error:
        if number_of(error.orig) not in _DENIED:
            raise


def drop(connection: Connection) -> bool:
    """Whether there was such a table, and it is gone now."""
    there = connection.sql.exec_driver_sql(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = database() AND table_name = %s",
        (TABLE,),
    ).first()
    if there:
        connection.sql.exec_driver_sql(f"DROP TABLE `{TABLE}`")
    return there is not None


def put_down(connection: Connection, store: Store, note: Note, outcomes: Sequence[Outcome]) -> None:
    """Replace the note of this place, if there is room."""
    text = note.text(outcomes)
    if len(text) > LONGEST:
        return  # the next run does without
    followed = marks.is_there(connection.sql)
    position = connection.dialect.place_in_log(connection.sql, store) if followed else None
    with _unless_denied():
        connection.sql.exec_driver_sql(_PUT, (note.place, note.number, text, position))


def noted(connection: Connection, place: str) -> Noted | None:
    """The note of this place."""
    row = None
    with _unless_denied():
        row = connection.sql.exec_driver_sql(_ASK, (place,)).first()
    return None if row is None else Noted(row[0], row[1], row[2])
