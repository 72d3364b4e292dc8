"""In what MySQL and MariaDB are unlike other databases.

Every session is strict: what a column cannot hold is an error. Of a trigger's body the mode of its own creation is in
force, so the application's triggers do as ever. Dates and times come as the text that the server writes, in UTC where
they are instants; `0000-00-00` and a time of 838 hours stay text, which puts that one row aside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import mysql

from accessors import mysql_marks as marks
from accessors import sql_dialect
from accessors.mysql_certain import certain_encoder
from accessors.mysql_server import is_mariadb, log_end
from accessors.sql_dialect import Dialect
from accessors.sql_errors import busy, number_of, said_by, sqlstate_of, translated, where_of
from accessors.sql_values import Column, Kind, value_type_of
from evsync.errors import BrokenStore, Refused, StoreError, Unreachable
from evsync.store import Store

if TYPE_CHECKING:
    from accessors.sql_schema import Table

MODE: Final = (
    "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 300
"""How long a statement may take without a word from the server: one that is frozen must not hold up the others for ever."""

READER_SECONDS: Final = 3600
"""How long the server waits for us to read on, where its own answer would be a minute."""

NOTE: Final = "evsync: "
"""Begins the comment of a column that we made, whose type does not say what stands in it."""

_KEY_BYTES: Final = 3072  # of all columns of an index
_CHARACTER_BYTES: Final = 4

_BUSY: Final = frozenset({1020, 1040, 1114, 1203, 1205, 1206, 1213, 1226, 1317, 1637, 1969, 3024, 3572})
_DENIED: Final = frozenset({1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 4151})
_READ_ONLY: Final = frozenset({1290, 1792, 1836})
_GONE: Final = frozenset({1053, 1077, 1152, 1153, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055})
_BROKEN: Final = frozenset({126, 127, 144, 145, 1030, 1034, 1194, 1195, 1712, 1877, 1932})
_MISSING: Final = frozenset({1049, 1051, 1054, 1146})

_HERE: Final = frozenset({None, "", "localhost", "127.0.0.1", "::1"})


class MySql(Dialect):
    """MySQL from 8.0 and MariaDB from 10.6, by whichever driver."""

    compares_tuples = True
    finds = frozenset({"int", "bool"})  # of texts it finds some that are equal only to it

    # -- connections -----------------------------------------------------------------------------------

    def arguments(self, url: sa.URL) -> dict[str, Any]:
        mode, driver = f"SET SESSION sql_mode = '{MODE}'", url.get_driver_name()
        if driver != "pymysql":
            return {"init_command": mode} if driver == "mysqldb" else {}
        found = {
            "charset": "utf8mb4",
            "conv": _conversions(),
            "init_command": mode,
            "connect_timeout": CONNECT_SECONDS,
            "binary_prefix": True,
        }
        if "read_timeout" not in url.query:
            found["read_timeout"] = CONNECT_SECONDS  # until the connection is settled
        if url.host in _HERE and not any(name.startswith("ssl") for name in url.query):
            # What does not leave the machine needs no TLS, for which PyMySQL would read all authorities each time: 50 ms.
            found["ssl_disabled"] = True
        return found

    def settle(self, connection: sa.Connection) -> None:
        seconds = max(0 if is_mariadb(connection) else 1, round(sql_dialect.LOCK_SECONDS))
        connection.exec_driver_sql(
            f"SET SESSION sql_mode = '{MODE}', time_zone = '+00:00', innodb_lock_wait_timeout = {seconds}, "
            f"lock_wait_timeout = {max(1, seconds)}, net_write_timeout = {READER_SECONDS}"
        )
        driver: Any = connection.connection.dbapi_connection
        if getattr(driver, "_read_timeout", None) == CONNECT_SECONDS:  # PyMySQL's, as we have set it
            driver._read_timeout = ANSWER_SECONDS

    def begin_reading(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def begin_writing(self, connection: sa.Connection) -> None:
        """Without locks on the gaps between records, except where the log is of statements, which needs them."""
        row = connection.exec_driver_sql("SELECT @@log_bin, @@binlog_format").first()
        connection.rollback()
        level = "REPEATABLE READ" if row and row[0] and row[1] == "STATEMENT" else "READ COMMITTED"
        connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {level}")
        connection.exec_driver_sql("START TRANSACTION")

    def mark(self, connection: sa.Connection, store: Store) -> bool:
        return marks.mark(connection, store)

    def place_in_log(self, connection: sa.Connection, store: Store) -> str | None:
        end = log_end(connection, store)
        return None if end is None else end.place

    def translated(self, error: exc.SQLAlchemyError, store: Store, *, by_record: bool = False) -> StoreError:
        original = error.orig if isinstance(error, exc.StatementError) else None
        number, said, where = number_of(original), said_by(error), where_of(store)
        if number is None or not isinstance(error, exc.DBAPIError):
            return translated(error, store, by_record=by_record)
        if number in _BUSY:
            return busy(where, said)
        if number in _DENIED:
            return Unreachable(f"{where} does not let us: {said}", "GRANT what is missing, or ask who may")
        if number in _READ_ONLY:
            return Unreachable(
                f"{where} is read-only: {said}", 'name the primary server, or set role = "source"'
            )
        if number in _BROKEN:
            return BrokenStore(
                f"{where} cannot be read: {said}", "see the server's log; CHECK TABLE tells more"
            )
        if number in _GONE or number == 0 or isinstance(error, exc.InterfaceError):
            return Unreachable(f"{where} does not answer any more: {said}", "check that the server runs")
        known = isinstance(error, exc.IntegrityError | exc.DataError)
        if known or by_record or sqlstate_of(original)[:2] in ("22", "23", "45"):
            return Refused(f"{where}: {said}")
        if number == 1046:
            return Unreachable(
                f"{where}: the url names no database", "the form is mysql://user@host/database"
            )
        if number in _MISSING:
            return Unreachable(f"{where}: {said}", "the table was changed while it was used: try again")
        return Unreachable(f"{where}: {said}")

    def not_connected(self, error: exc.SQLAlchemyError, store: Store) -> StoreError | None:
        original = error.orig if isinstance(error, exc.StatementError) else None
        number, said, where = number_of(original), said_by(error), where_of(store)
        if isinstance(error, exc.InvalidRequestError) and "MariaDB" in said:
            return Unreachable(f"{where} is MySQL, not MariaDB", "begin the url with mysql://")
        if number in _BUSY:
            return busy(where, said)
        if number == 1049:
            return Unreachable(f"{where}: there is no such database: {said}", "check the url, or create it")
        if number in _DENIED:
            return Unreachable(f"{where} does not let us in: {said}", "check user and password in the url")
        return None

    def abandon(self, driver: Any, cursor: Any) -> None:
        """PyMySQL would read all the rest first, even of a connection that is lost."""
        unread = getattr(cursor, "_result", None)
        if unread is None or not getattr(unread, "unbuffered_active", False):
            return
        unread.unbuffered_active, unread.connection, driver._result = False, None, None
        with suppress(Exception):  # it may be closed already
            driver.close()

    # -- tables ----------------------------------------------------------------------------------------

    def refined(self, connection: sa.Connection, table: Table) -> Table:
        """What `information_schema` tells: names as they are (SQLAlchemy leaves the backticks in them doubled), types
        it does not know, whether JSON is meant by a text, triggers, and whether there are transactions."""
        told = connection.execute(_COLUMNS, {"schema": table.schema, "name": table.name}).all()
        json = self._json_columns(connection, table)
        names = dict(zip(table.columns, (row[0] for row in told), strict=True))
        columns = {}
        for (_, column), (name, data_type, declared, extra, nullable, digits, length, note) in zip(
            table.columns.items(), told, strict=True
        ):
            kind = _kind(data_type, declared)
            value_type = "bool" if declared == "bit(1)" else value_type_of(kind)
            if kind == "text" and name in json:
                value_type = "json"
            elif kind in ("text", "char", "bytes") and note.startswith(NOTE):
                kind, value_type = "text", note.removeprefix(NOTE)
            columns[name] = Column(
                name, kind, value_type, declared, column.type, True, length, digits,
                nullable == "YES", column.generated, "auto_increment" in extra,
            )  # fmt: skip
        engine, triggers = connection.execute(
            _TABLE, {"schema": table.schema, "name": table.name}
        ).one_or_none() or ("", 0)
        return table._replace(
            columns=columns,
            primary_key=tuple(names.get(name, name) for name in table.primary_key),
            unique=tuple(names.get(name, name) for name in table.unique),
            triggered=bool(triggers),
            hindrance=None if table.is_view else _hindrance(engine),
        )

    def ensure_database(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql("SHOW TABLES")

    def _json_columns(self, connection: sa.Connection, table: Table) -> set[str]:
        """MariaDB's JSON is a text that is checked."""
        if not is_mariadb(connection):
            return set()
        checks = connection.execute(_CHECKS, {"schema": table.schema, "name": table.name})
        return {name for name, clause in checks if clause == f"json_valid(`{name.replace('`', '``')}`)"}

    def selected(self, column: Column, named: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """A FLOAT is shown with six digits, however many it has."""
        return named + sa.literal_column("0e0") if column.kind == "single" else named

    def certain_encoder(self, column: Column, value_type: str) -> Callable[[Any], Any] | None:
        return certain_encoder(column, value_type)

    def column_type(self, value_type: str, key_columns: int) -> sa.types.TypeEngine[Any]:
        """DECIMAL pads every number to its scale, and has no more than 65 digits: so a decimal is kept as text, which
        tells 1.5 from 1.50 and is never rounded. A text cannot be a key unless it has a length."""
        if key_columns and value_type in ("str", "decimal", "json", "bytes"):
            length = (_KEY_BYTES // key_columns - 8) // _CHARACTER_BYTES
            return sa.VARBINARY(length) if value_type == "bytes" else mysql.VARCHAR(length)
        return _COLUMN_TYPES[value_type]

    def comment(self, value_type: str, key_columns: int) -> str | None:
        untold = value_type in ("decimal", "uuid") or (key_columns and value_type == "json")
        return NOTE + value_type if untold else None

    def table_options(self, connection: sa.Connection) -> dict[str, Any]:
        """Texts are compared letter by letter, blanks at the end included, where the server can do that."""
        has = {row[0] for row in connection.exec_driver_sql("SHOW COLLATION WHERE Charset = 'utf8mb4'")}
        collation = next((name for name in _COLLATIONS if name in has), "utf8mb4_bin")
        return {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": collation}

    def hindrance(self, connection: sa.Connection) -> str | None:
        read_only = connection.exec_driver_sql("SELECT @@read_only").scalar()
        if str(read_only) in ("0", "OFF"):
            return None
        return 'the server is read-only: name the primary server, or set role = "source"'

    def too_large(self, connection: sa.Connection) -> int | None:
        found = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar()
        return None if found is None else int(found)


_COLLATIONS: Final = ("utf8mb4_0900_bin", "utf8mb4_nopad_bin")

_COLUMNS: Final = sa.text(
    "SELECT column_name, data_type, column_type, extra, is_nullable, coalesce(datetime_precision, numeric_scale),"
    " character_maximum_length, column_comment"
    " FROM information_schema.columns WHERE table_schema = coalesce(:schema, database()) AND table_name = :name"
    " ORDER BY ordinal_position"
)
_CHECKS: Final = sa.text(
    "SELECT constraint_name, check_clause FROM information_schema.check_constraints"
    " WHERE constraint_schema = coalesce(:schema, database()) AND table_name = :name AND level = 'Column'"
)
_TABLE: Final = sa.text(
    "SELECT t.engine, (SELECT count(*) FROM information_schema.triggers g"
    " WHERE g.event_object_schema = t.table_schema AND g.event_object_table = t.table_name)"
    " FROM information_schema.tables t WHERE t.table_schema = coalesce(:schema, database()) AND t.table_name = :name"
)

_KINDS: Final[dict[str, Kind]] = {
    "tinyint": "int", "smallint": "int", "mediumint": "int", "int": "int", "bigint": "int", "bit": "bit",
    "year": "year", "decimal": "decimal", "float": "single", "double": "float", "date": "date", "time": "time",
    "datetime": "datetime", "timestamp": "zoned", "char": "char", "varchar": "text", "tinytext": "text",
    "text": "text", "mediumtext": "text", "longtext": "text", "enum": "text", "set": "text", "binary": "bytes",
    "varbinary": "bytes", "tinyblob": "bytes", "blob": "bytes", "mediumblob": "bytes", "longblob": "bytes",
    "json": "json", "uuid": "uuid", "geometry": "bytes", "point": "bytes", "linestring": "bytes",
    "polygon": "bytes", "multipoint": "bytes", "multilinestring": "bytes", "multipolygon": "bytes",
    "geometrycollection": "bytes", "geomcollection": "bytes", "vector": "bytes",
}  # fmt: skip

_COLUMN_TYPES: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "str": mysql.LONGTEXT(),
    "int": sa.BigInteger(),
    "float": mysql.DOUBLE(),
    "decimal": mysql.TEXT(),
    "bool": sa.Boolean(),
    "date": sa.Date(),
    "time": mysql.TIME(fsp=6),
    "datetime": mysql.DATETIME(fsp=6),
    "uuid": sa.CHAR(36),
    "bytes": mysql.LONGBLOB(),
    "json": mysql.JSON(),
}


def _conversions() -> dict[Any, Any]:
    """PyMySQL's, without those that make dates and times of what is none, or lose what it is."""
    from pymysql.constants import FIELD_TYPE
    from pymysql.converters import conversions

    kinds = (FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.TIME, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP)
    return {kind: one for kind, one in conversions.items() if kind not in kinds}


def _kind(data_type: str, declared: str) -> Kind:
    return "bool" if declared.startswith("tinyint(1)") else _KINDS.get(data_type, "other")


def _hindrance(engine: str | None) -> str | None:
    if engine in ("InnoDB", "ROCKSDB", "ndbcluster", "TokuDB", "SPIDER"):
        return None
    return f"is of the engine {engine}, which cannot undo what a refused record has done"
