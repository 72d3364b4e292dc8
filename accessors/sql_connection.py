"""Connecting to a database by SQLAlchemy.

A connection is opened for each operation and closed after it; the engine behind it, which knows what the server can do, is
kept for each URL. Only `create` makes a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.sql_dialect import Dialect, dialect_of
from accessors.sql_errors import URL_FORM, not_connected, said_by, unusable_url, where_of
from evsync.errors import Unreachable
from evsync.store import Store

DRIVERS = {"mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}
"""Schemes that are the beginning of SQLAlchemy's URL themselves, with the driver that we use."""


class Connection(NamedTuple):
    """An open connection of SQLAlchemy's, and what is particular about the database."""

    sql: sa.Connection
    dialect: Dialect


class _Source(NamedTuple):
    """What connections to one database are made of."""

    engine: sa.Engine
    dialect: Dialect


@contextmanager
def reading(store: Store) -> Iterator[Connection]:
    """A connection inside one read transaction; whatever is read belongs to one state where the database can do that.

    Raises Unreachable, BrokenStore or Retry for what the database says meanwhile."""
    with opened(store) as connection:
        connection.dialect.begin_reading(connection.sql)
        yield connection


@contextmanager
def writing(store: Store) -> Iterator[Connection]:
    """A connection inside one write transaction, committed at the end, or rolled back if anything is raised."""
    with opened(store) as connection, transaction(connection):
        followed = connection.dialect.mark(connection.sql, store)
        yield connection
        # Rows that were written are locked: what others did to them stands before this in the log.
        store.written_at = connection.dialect.place_in_log(connection.sql, store) if followed else None


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A write transaction, committed at the end, or rolled back if anything is raised."""
    connection.dialect.begin_writing(connection.sql)
    try:
        yield
        connection.sql.commit()
    finally:
        roll_back(connection)


def roll_back(connection: Connection) -> None:
    """End what transaction is open, without a word where the connection is lost."""
    with suppress(exc.SQLAlchemyError):
        connection.sql.rollback()


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """What is done inside is undone if anything is raised; the transaction goes on."""
    point = connection.sql.begin_nested()
    try:
        yield
    except BaseException:
        with suppress(exc.SQLAlchemyError):
            # What went wrong may have ended the transaction as well.
            if connection.sql.get_nested_transaction() is point:
                point.rollback()
        raise
    point.commit()


@contextmanager
def opened(store: Store, *, create: bool = False) -> Iterator[Connection]:
    """A connection on which no transaction has begun. What the database says goes wrong on it is said in our words."""
    source = _source(store, create=create)
    connection = _connected(source, store)
    try:
        yield connection
    except exc.SQLAlchemyError as error:
        raise source.dialect.translated(error, store) from error
    finally:
        roll_back(connection)
        with suppress(exc.SQLAlchemyError):
            connection.sql.close()


def url_of(store: Store) -> sa.URL:
    """The URL as SQLAlchemy has it. Raises Unreachable for what is none, without telling any of it."""
    scheme = store.scheme
    text = store.url if scheme in DRIVERS else store.url.partition(":")[2]
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise unusable_url(error, store) from None
    # An @ in a host comes of a password with an unescaped @: what would be looked for is a part of it.
    if any("@" in str(part) for part in (url.host, url.database) if part):
        raise Unreachable(f"{where_of(store)} does not answer: the url names no such host", URL_FORM)
    return url.set(drivername=DRIVERS[scheme]) if scheme in DRIVERS else url


def is_there(store: Store) -> bool:
    """Whether the file is there in which the database lies; a server is only known by asking it."""
    file = _file(store, url_of(store))
    return file is None or file.is_file()


def _file(store: Store, url: sa.URL) -> Path | None:
    file = dialect_of(url.get_backend_name()).file(url)
    return None if file is None else store.root / file


def _source(store: Store, *, create: bool) -> _Source:
    url = url_of(store)
    file = _file(store, url)
    if file is not None:
        url = url.set(database=str(file))
        if not create and not file.is_file():
            raise Unreachable(f"{where_of(store)}: there is no file {file}", "check the url")
        if not file.parent.is_dir():
            raise Unreachable(f"{where_of(store)}: there is no directory {file.parent}", "make it first")
    try:
        return _source_of(url)
    except (exc.ArgumentError, ImportError) as error:
        raise unusable_url(error, store) from None
    except TypeError as error:  # a parameter that the dialect does not know
        raise Unreachable(f"{where_of(store)}: the url is not understood: {error}", URL_FORM) from None


@lru_cache(maxsize=64)
def _source_of(url: sa.URL) -> _Source:
    dialect = dialect_of(url.get_backend_name())
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool,
        pool_reset_on_return=None,  # we roll back ourselves
        hide_parameters=True,
        connect_args=dialect.arguments(url),
    )
    return _Source(engine, dialect)


def _connected(source: _Source, store: Store) -> Connection:
    password = source.engine.url.password
    try:
        connection = Connection(source.engine.connect(), source.dialect)
    except exc.SQLAlchemyError as error:
        better = source.dialect.not_connected(error, store)
        raise (better or not_connected(error, store, str(password or ""))) from None
    except (TypeError, ValueError, OSError) as error:  # a parameter that the driver does not know
        said = " ".join(str(error).split()).replace(str(password), "***") if password else str(error)
        raise Unreachable(f"{where_of(store)} does not answer: {said}", URL_FORM) from None
    try:
        source.dialect.settle(connection.sql)
        connection.sql.commit()
    except exc.SQLAlchemyError as error:
        with suppress(exc.SQLAlchemyError):
            connection.sql.close()
        raise Unreachable(
            f"{where_of(store)} does not take our settings: {said_by(error)}", "check its version"
        ) from None
    return connection
