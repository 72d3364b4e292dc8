"""Capturing the changes of MySQL and MariaDB out of the binary log: the server writes it by itself, if it is told how; of ours
there is a small table only, by which our own transactions are known again."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import exc

from accessors import mysql_marks as marks
from accessors import sql_schema as schema
from accessors.captures import capture_mode
from accessors.mysql_server import left_out, log_end
from accessors.mysql_settings import Wrong, kept_for, variables, wrong_settings
from accessors.mysql_snapshot import located_snapshot
from accessors.sql_connection import Connection, opened, transaction
from accessors.sql_errors import number_of, where_of
from accessors.sql_schema import Table
from evsync.accessor import Captured
from evsync.errors import StoreError, Unreachable
from evsync.store import Store

MODES = ("auto", "binlog", "scan")

_NOT_TOLD = frozenset({1064, 1142, 1227})  # a server that does not know the statement; no right to it


def mode(store: Store, type: str) -> str:
    """How changes are to be found, as configured. Raises ConfigError."""
    return capture_mode(store, type, MODES)


def is_captured(connection: Connection, store: Store, type: str) -> bool:
    """Whether the changes of a type's table are captured. Raises Unreachable where the log was set up to tell them, but does not
    any more."""
    if not (marks.is_there(connection.sql) or needs_no_marks(store, type)):
        return False
    table = schema.load(connection, store, type)
    if table is None:
        return False
    wrong = wrong_settings(variables(connection.sql), replica=False) or wrong_table(connection, store, table)
    if wrong is not None:
        raise Unreachable(f"{where_of(store)}: {wrong.message}", wrong.hint)
    return True


def needs_no_marks(store: Store, type: str) -> bool:
    """Whether nothing of ours can be in the log, so that nothing is to be set up: a user who may only read will do."""
    return store.role == "source" and mode(store, type) == "binlog"


# -- what the server has to be like ------------------------------------------------------------------------------


def wrong_table(connection: Connection, store: Store, table: Table) -> Wrong | None:
    """Why the changes of a table are not in the log."""
    if table.is_view:
        return Wrong(
            f"{table.name!r} is a view, whose changes are not in the log", "name the table behind it"
        )
    only, never = left_out(connection.sql, store)
    within = table.schema or connection.sql.exec_driver_sql("SELECT database()").scalar()
    if (only and within not in only) or within in never:
        return Wrong(
            f"the database {within!r} is left out of the binary log",
            "see binlog_do_db and binlog_ignore_db in my.cnf",
        )
    row = connection.sql.exec_driver_sql(
        "SELECT engine, table_type FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        (within, table.name),
    ).first()
    engine, kind = row or ("", "")
    if engine != "InnoDB":
        return Wrong(
            f"{table.name!r} is of the engine {engine}, of which no snapshot goes with the log",
            "ALTER TABLE … ENGINE = InnoDB",
        )
    if kind == "SYSTEM VERSIONED":
        return Wrong(
            f"{table.name!r} keeps its versions, which stand in the log among its rows",
            f'set capture = "scan" in [stores.{store.name}]',
        )
    return None


def is_replica(connection: sa.Connection) -> bool:
    """Whether the server gets its changes from another one, as far as we may know."""
    try:
        return connection.exec_driver_sql("SHOW REPLICA STATUS").first() is not None
    except exc.DBAPIError as error:
        if number_of(error.orig) not in _NOT_TOLD:
            raise
        connection.rollback()
        return False


# -- setting it up, taking it away, saying how it stands ---------------------------------------------------------


def install(store: Store) -> list[str]:
    """Look whether the server tells its changes, and to us; and have our own known again. Raises StoreError."""
    with opened(store) as connection:
        sql, where = connection.sql, where_of(store)
        found = variables(sql)
        wrong = wrong_settings(found, replica=is_replica(sql))
        for type in store.types if wrong is None else ():
            wrong = wrong or wrong_table(connection, store, schema.existing(connection, store, type))
        if wrong is not None:
            raise Unreachable(f"{where}: {wrong.message}", wrong.hint)
        if not sql.exec_driver_sql("SELECT database()").scalar():
            raise Unreachable(f"{where}: the url names no database", "mysql://user@host/database")
        with located_snapshot(store):
            pass  # which says whether we may have all that is needed
        if marks.is_there(sql) or needs_no_marks(store, next(iter(store.types), "")):
            return []
        marks.create(sql)
        sql.commit()
        with transaction(connection):
            marks.mark(sql, store)
        return [f"the table {marks.TABLE}; the log is kept {kept_for(found)}"]


def uninstall(store: Store) -> list[str]:
    """Drop our table."""
    with opened(store) as connection:
        if not marks.is_there(connection.sql):
            return []
        marks.drop(connection.sql)
        return [f"the table {marks.TABLE}"]


def status(store: Store) -> Captured:
    """How the capture of a store stands."""
    asked, way = mode(store, next(iter(store.types), "")), f"evsync capture install {store.name}"
    with opened(store) as connection:
        if not marks.is_there(connection.sql) and not needs_no_marks(store, next(iter(store.types), "")):
            if asked == "binlog":
                return Captured("binlog", False, f"there is no table {marks.TABLE!r}", way, absent=True)
            return Captured("scan", True, "by comparing: an ingest sees the last state, not each step")
        types: list[str] = []
        try:
            for type in store.types:
                if not is_captured(connection, store, type):
                    return Captured(
                        "binlog",
                        False,
                        f"type {type!r}: there is no such table",
                        "check the configuration",
                        types=types,
                    )
                types.append(type)
            end = log_end(connection.sql, store)
        except StoreError as error:
            return Captured("binlog", False, error.message, error.hint, types=types)
        if asked == "scan":
            detail = f"there is a table {marks.TABLE!r}, but the configuration says scan"
            return Captured("binlog", False, detail, f"evsync capture remove {store.name}", types=types)
        found = variables(connection.sql)
        stands = "" if end is None else f", which stands at {end.file}:{end.offset}"
        detail = f"every change, by the binary log{stands} and is kept {kept_for(found)}"
        return Captured("binlog", True, detail, "", types=types)
