"""Following the binary log of a server from one place to another, over a connection of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Final

import pymysql
from sqlalchemy import exc

from accessors.mysql_log import FORMAT, Event, follow
from accessors.mysql_positions import Position, start_of
from accessors.mysql_transactions import Other, Transaction, Transactions
from accessors.sql_connection import opened
from accessors.sql_errors import where_of
from evsync.errors import PositionLost, Retry, StoreError, Unreachable
from evsync.store import Store

SILENT_SECONDS = 60.0
"""After which a server does not answer any more."""

BEHIND_SECONDS = 10.0
"""How long we wait for the log to be sent as far as it is said to reach."""

_FARTHEST: Final = 1 << 32
"""The first place in a file that cannot be asked for."""

_NOT_SENT: Final = 1236
_RIGHTS: Final = frozenset({1045, 1227})
_OURSELVES: Final = ("same server", "server_id", "server_uuid")


def transactions(
    store: Store, since: Position, target: str, wanted: Callable[[str, str], bool]
) -> Iterator[Transaction]:
    """The transactions behind `since` up to the place `target`, in the order of their commits. Raises PositionLost where
    the log is not there any more, or is another one; StoreError."""
    end = time.monotonic() + BEHIND_SECONDS
    while True:
        reader = Transactions(since, wanted)
        try:
            with closing(events(store, since.file, since.begin)) as some, closing(reader.of(some)) as told:
                for transaction in told:
                    if transaction.position.place > target:
                        return
                    since = transaction.position
                    yield transaction
                    end = time.monotonic() + BEHIND_SECONDS
        except Other:
            raise lost(store, "it is another log of the same name") from None
        if not reader.known:
            raise lost(store, "it ends before that")
        if since.place >= target:
            return
        if time.monotonic() > end:
            raise Retry(
                f"{where_of(store)} does not send its binary log as far as it says that it reaches",
                "try again",
            )
        time.sleep(0.02)


def known_again(store: Store, position: Position) -> Position:
    """The position with what tells its file from another one of the same name."""
    with closing(events(store, position.file, start_of(position.file).offset)) as some:
        for event in some:
            if event.type == FORMAT:
                return position._replace(born=event.at, server=event.server)
    raise Unreachable(f"{where_of(store)} does not send its binary log", "see the server's log")


def events(store: Store, file: str, start: int) -> Generator[Event, None, None]:
    """All that is written from a place on."""
    if start >= _FARTHEST:
        raise lost(store, "the place is more than 4 GiB into a file, from where no server sends it")
    with opened(store) as connection:
        driver: Any = connection.sql.connection.dbapi_connection
        driver._read_timeout = SILENT_SECONDS
        try:
            yield from follow(driver, file, start)
        except pymysql.Error as error:
            raise _translated(error, store, connection.dialect.translated) from error


def lost(store: Store, why: str, type: str | None = None) -> PositionLost:
    """What is said where it cannot be told any more what happened."""
    which = "" if type is None else f", type {type!r}"
    return PositionLost(
        f"store {store.name!r}{which}: the binary log does not reach back to the last ingest ({why}); what happened since"
        " cannot be told step by step",
        f"go on by comparing: evsync ingest {store.name} --accept-gap",
    )


def _translated(
    error: pymysql.Error, store: Store, otherwise: Callable[[exc.SQLAlchemyError, Store], StoreError]
) -> StoreError:
    number = error.args[0] if error.args else None
    said = " ".join(str(error.args[-1] if error.args else error).split())
    if number == _NOT_SENT and any(word in said for word in _OURSELVES):
        return Retry(f"{where_of(store)}: somebody else follows its log by our number: {said}", "try again")
    if number == _NOT_SENT:
        return lost(store, said)
    if number in _RIGHTS:
        return Unreachable(
            f"{where_of(store)} does not send us its binary log: {said}",
            "GRANT REPLICATION SLAVE ON *.* TO the user",
        )
    return otherwise(exc.OperationalError("", {}, error), store)
