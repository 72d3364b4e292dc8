"""In what a kind of database is unlike the others, as far as SQLAlchemy leaves it to us.

`Dialect` is a database like any other; what is known better of one is said in a class of its own, found by the name
of SQLAlchemy's dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.sql import sqltypes
from sqlalchemy.types import UserDefinedType

from accessors import sqlite_values
from accessors.sql_errors import translated
from accessors.sql_values import Column, Kind
from evsync.errors import StoreError
from evsync.store import Store

if TYPE_CHECKING:
    from accessors.sql_schema import Table

LOCK_SECONDS = 5.0
"""How long a database waits for another program's lock before we call it a Retry, where that can be said."""


class Dialect:
    """A database of which nothing particular is known."""

    locks = True
    """Whether SELECT … FOR UPDATE locks what it finds."""

    compares_tuples = False
    """Whether `(a, b) IN ((1, 2), (3, 4))` is understood, and quick."""

    finds: frozenset[str] = frozenset({"int", "bool", "uuid"})
    """Value types of which the database finds at least what is equal to us, in a column of that type."""

    index_options: Mapping[str, Any] = MappingProxyType({})
    """What SQLAlchemy has to be told so that it tells of every unique index."""

    # -- connections -----------------------------------------------------------------------------------

    def arguments(self, url: sa.URL) -> dict[str, Any]:
        """What the driver is told besides the URL."""
        return {}

    def file(self, url: sa.URL) -> Path | None:
        """The file in which the database lies, where it is one."""
        return None

    def settle(self, connection: sa.Connection) -> None:
        """Fix the settings of a new connection on which it depends what values look like."""

    def begin_reading(self, connection: sa.Connection) -> None:
        """Begin a transaction in which, where that is possible, everything read belongs to one state."""

    def begin_writing(self, connection: sa.Connection) -> None:
        """Begin a transaction that writes."""

    def mark(self, connection: sa.Connection, store: Store) -> bool:
        """Mark the transaction that has begun as ours, where somebody follows the changes; whether somebody does."""
        return False

    def place_in_log(self, connection: sa.Connection, store: Store) -> str | None:
        """Where the database's own record of its changes stands now."""
        return None

    def translated(self, error: exc.SQLAlchemyError, store: Store, *, by_record: bool = False) -> StoreError:
        """What went wrong, in our words. `by_record`: while a record was written, so that an error in SQL is one in a
        trigger or a check, met by this record."""
        return translated(error, store, by_record=by_record)

    def not_connected(self, error: exc.SQLAlchemyError, store: Store) -> StoreError | None:
        """Why a connection could not be opened, where that is known better than that nobody answers."""
        return None

    def abandon(self, driver: Any, cursor: Any) -> None:
        """Make a driver's connection and cursor ready to be closed where a result is not read to its end."""

    # -- tables ----------------------------------------------------------------------------------------

    def refined(self, connection: sa.Connection, table: Table) -> Table:
        """A table as reflected, with what only this kind of database can tell of it."""
        return table

    def ensure_database(self, connection: sa.Connection) -> None:
        """Fail in the database's own way where the URL leads to a server, but to no database of it."""

    def numbers(self, connection: sa.Connection, table: Table) -> bool:
        """Whether the primary key, of one column, is counted on by the database."""
        return table.columns[table.primary_key[0]].assigned

    def zoned(self, column: Column) -> Column:
        """A column of times without an offset, of which the user says that they are in UTC."""
        return column._replace(kind="utc") if column.kind == "datetime" else column

    def selected(self, column: Column, named: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """A column as it is to be read, so that the driver tells its value exactly."""
        return named

    def certain_encoder(self, column: Column, value_type: str) -> Callable[[Any], Any] | None:
        """An encoder that raises Refused for every value that is not certain to be stored just as it is given; None
        where nobody knows."""
        return None

    def bound_type(self, column: Column) -> sa.types.TypeEngine[Any]:
        """As what the values of a column are given to the driver."""
        if isinstance(column.type, sqltypes.JSON) and not column.plain:
            type = column.type.copy()
            type.none_as_null = True  # else None would be JSON's null, which is a value
            return type
        return sqltypes.NullType() if column.plain else column.type

    def column_type(self, value_type: str, key_columns: int) -> sa.types.TypeEngine[Any]:
        """What a column is declared as when we create it; `key_columns`: among how many in the key, 0 if it is in none."""
        if value_type == "str":
            return sa.String(255) if key_columns else sa.Text()
        return _COLUMN_TYPES[value_type]

    def comment(self, value_type: str, key_columns: int) -> str | None:
        """What is to be noted at a column that we create because its type does not say it."""
        return None

    def table_options(self, connection: sa.Connection) -> dict[str, Any]:
        """What CREATE TABLE is to say besides, as SQLAlchemy names it."""
        return {}

    def hindrance(self, connection: sa.Connection) -> str | None:
        """Why nothing can be written just now, where the database would not say so by itself."""
        return None

    def too_large(self, connection: sa.Connection) -> int | None:
        """How many bytes one record may have at most, where more would cut the connection."""
        return None


_COLUMN_TYPES: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "int": sa.BigInteger(),
    "float": sa.Double(),
    "decimal": sa.Numeric(38, 15),
    "bool": sa.Boolean(),
    "date": sa.Date(),
    "time": sa.Time(),
    "datetime": sa.DateTime(timezone=True),
    "uuid": sa.Uuid(),
    "bytes": sa.LargeBinary(),
    "json": sa.JSON(),
}


class PostgreSql(Dialect):
    """What it writes as text is read as that text: the driver chokes on values that Python does not have."""

    compares_tuples = True
    finds = frozenset({"str", "int", "bool", "uuid"})

    _as_text: frozenset[str] = frozenset(
        {"date", "time", "timetz", "datetime", "zoned", "utc", "json", "other"}
    )

    def settle(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(
            "SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'iso_8601';"
            f" SET lock_timeout = '{max(1, round(LOCK_SECONDS * 1000))}ms'; SET statement_timeout = '0'"
        )

    def begin_reading(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def refined(self, connection: sa.Connection, table: Table) -> Table:
        found = connection.execute(
            sa.text(
                "SELECT EXISTS (SELECT 1 FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid"
                " JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relname = :name AND n.nspname = coalesce(CAST(:schema AS text), n.nspname)"
                " AND NOT g.tgisinternal AND g.tgenabled <> 'D')"
            ),
            {"name": table.name, "schema": table.schema},
        )
        return table._replace(triggered=bool(found.scalar()))

    def selected(self, column: Column, named: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        is_array = isinstance(column.type, sqltypes.ARRAY)
        return sa.cast(named, sa.Text()) if column.kind in self._as_text and not is_array else named

    def column_type(self, value_type: str, key_columns: int) -> sa.types.TypeEngine[Any]:
        if value_type in ("str", "decimal"):
            return sa.Text() if value_type == "str" else sa.Numeric()
        return super().column_type(value_type, key_columns)


class Sqlite(Dialect):
    """A file. Columns hold whatever text they are given, so times may have any offset."""

    locks = False  # the whole file is, see begin_writing
    finds = frozenset()
    index_options: Mapping[str, Any] = MappingProxyType({"include_auto_indexes": True})

    def file(self, url: sa.URL) -> Path | None:
        return Path(url.database) if url.database and url.database != ":memory:" else None

    def settle(self, connection: sa.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.isolation_level = None  # else it would begin transactions by itself, and too late
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {max(1, round(LOCK_SECONDS * 1000))}")

    def begin_reading(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    def begin_writing(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def zoned(self, column: Column) -> Column:
        return column

    def refined(self, connection: sa.Connection, table: Table) -> Table:
        """Types as they are declared, which says more than what SQLAlchemy makes of it."""
        told = {
            name: (declared, hidden)
            for name, declared, hidden in connection.execute(
                sa.text("SELECT name, type, hidden FROM pragma_table_xinfo(:name)"), {"name": table.name}
            )
        }
        columns = {name: _sqlite_column(column, *told[name]) for name, column in table.columns.items()}
        triggers = connection.execute(
            sa.text(
                "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name COLLATE NOCASE LIMIT 1"
            ),
            {"name": table.name},
        )
        return table._replace(columns=columns, triggered=triggers.first() is not None)

    def numbers(self, connection: sa.Connection, table: Table) -> bool:
        """Where the key is the rowid: then it needs no index."""
        if table.columns[table.primary_key[0]].declared.upper() != "INTEGER":
            return False
        asked = sa.text("SELECT 1 FROM pragma_index_list(:name) WHERE origin = 'pk'")
        return connection.execute(asked, {"name": table.name}).first() is None

    def column_type(self, value_type: str, key_columns: int) -> sa.types.TypeEngine[Any]:
        return sa.Integer() if value_type == "int" else _Declared(sqlite_values.COLUMN_TYPES[value_type])


class _Declared(UserDefinedType[Any]):
    """A type that stands in CREATE TABLE as it is given here."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self._declared = declared

    def get_col_spec(self, **_: Any) -> str:
        return self._declared


def _sqlite_column(column: Column, declared: str, hidden: int) -> Column:
    value_type = sqlite_values.type_of(declared) or "str"
    is_text = sqlite_values.affinity(declared) == "TEXT" or value_type in ("date", "time", "datetime", "json")
    kind: Kind = "text" if is_text else _SQLITE_KINDS.get(value_type, "other")
    return column._replace(
        kind=kind, value_type=value_type, declared=declared, plain=True, length=None, digits=None,
        generated=hidden > 1,
    )  # fmt: skip


_SQLITE_KINDS: Final[dict[str, Kind]] = {
    "int": "int", "float": "float", "decimal": "decimal", "bool": "bool", "bytes": "bytes",
}  # fmt: skip


_KNOWN: Final = {
    "postgresql": "accessors.sql_dialect:PostgreSql",
    "sqlite": "accessors.sql_dialect:Sqlite",
    "mysql": "accessors.mysql_dialect:MySql",
    "mariadb": "accessors.mysql_dialect:MySql",
}


def dialect_of(name: str) -> Dialect:
    """What is known of a database by the name that SQLAlchemy gives its kind."""
    place = _KNOWN.get(name)
    if place is None:
        return Dialect()
    module, _, found = place.partition(":")
    dialect: Dialect = getattr(import_module(module), found)()
    return dialect
