"""Connecting to PostgreSQL, and saying in our words what PostgreSQL says went wrong.

A connection is opened for each operation and closed after it. Every transaction begins by fixing the settings on which
the text of values depends; they are of the transaction, so a pooler may stand in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import unquote

from accessors.captures import project_of
from evsync.errors import BrokenStore, ConfigError, Refused, Retry, StoreError, Unreachable
from evsync.store import Store
from evsync.urls import without_password

try:
    import psycopg
    from psycopg import postgres
    from psycopg.abc import AdaptContext
    from psycopg.adapt import AdaptersMap, Loader
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
    from psycopg.types.none import NoneDumper
    from psycopg.types.string import StrDumperUnknown, TextLoader
except ImportError as missing:  # psycopg itself, or libpq
    raise ConfigError(
        f"a PostgreSQL store needs psycopg: {missing}", "install it: pip install 'evsync[postgres]'"
    ) from missing

CONNECT_SECONDS = 10
LOCK_SECONDS = 5.0
"""How long PostgreSQL waits for another program's lock before we call it a Retry."""

Connection = psycopg.Connection[tuple[Any, ...]]
InUse = psycopg.errors.ObjectInUse
NoRight = psycopg.errors.InsufficientPrivilege
Taken = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable)


SETTINGS: Final = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""On these depends what the text of a value looks like."""


class _AnyText(Loader):
    """Text of a database without an encoding: what is not UTF-8 comes as surrogates, which puts that one row aside."""

    def load(self, data: Any) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


class _Text:
    """Where psycopg takes its adapters from: text out and, of an unknown type, text in, which the server casts."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(types=postgres.types)
        self.adapters.register_dumper(str, StrDumperUnknown)
        self.adapters.register_dumper(type(None), NoneDumper)
        self.adapters.register_loader(0, TextLoader)  # 0: every type that has none of its own

    @property
    def connection(self) -> None:
        return None


_TEXT: Final[AdaptContext] = _Text()


@contextmanager
def reading(store: Store) -> Iterator[Connection]:
    """A connection inside one read transaction: whatever is read belongs to one state of the store.

    Raises Unreachable, BrokenStore or Retry for what PostgreSQL says meanwhile."""
    with opened(store) as connection:
        begin(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection


@contextmanager
def writing(store: Store) -> Iterator[Connection]:
    """A connection inside one write transaction, committed at the end, or rolled back if anything is raised."""
    with opened(store) as connection, transaction(connection):
        followed = _is_followed(connection, store)
        yield connection
        # Rows that were written are locked: what others did to them stands before this in the log.
        store.written_at = _place_in_log(connection) if followed else None


def slot_name(connection: Connection, store: Store) -> str:
    """The replication slot by which a store is followed: the option `slot`, else made of the names of the database
    and the store, as slots are of a whole server. Raises ConfigError."""
    return _named_slot(store) or _plain(f"evsync_{connection.info.dbname}_{store.name}", 63)


def mark_of(slot: str, store: Store) -> str:
    """What our own transactions put into the log, so that who follows that slot knows them again. Another project is somebody
    else, even if it calls the store the same."""
    return f"evsync {slot} {project_of(store)}"


def queue_name(store: Store) -> str:
    """The queue into which triggers put the store's changes."""
    return f"{_captured_as(store)}_queue"


def state_name(store: Store) -> str:
    """The table that says of the queue how it stands."""
    return f"{_captured_as(store)}_state"


def _captured_as(store: Store) -> str:
    return "_evsync_" + _plain(_named_slot(store) or store.name, 40)


def _named_slot(store: Store) -> str | None:
    """The option `slot`, if it is given. Raises ConfigError for what PostgreSQL would not take."""
    name: str | None = store.option("", "slot")
    if name is None or re.fullmatch(r"[a-z0-9_]{1,40}", str(name)):
        return name
    raise ConfigError(
        f"store {store.name!r}: {name!r} cannot be the name of a slot",
        f"at most 40 lower-case letters, digits and _, such as: {_plain(str(name), 40) or 'evsync'}",
    )


def _plain(name: str, length: int) -> str:
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[:length]


def queue_schema(connection: Connection, store: Store) -> str | None:
    """Where the store's queue is, if there is one: in the schema `evsync` or, where that could not be had, in that of
    its table."""
    found = connection.execute(f"SELECT ({_QUEUE_SCHEMA})".encode(), [state_name(store)]).fetchone()
    return None if found is None else found[0]


_QUEUE_SCHEMA = """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind = 'r'
  AND EXISTS (SELECT 1 FROM pg_class q WHERE q.relnamespace = n.oid
    AND q.relname = regexp_replace(c.relname, 'state$', 'queue'))
ORDER BY n.nspname <> 'evsync', NOT pg_table_is_visible(c.oid), n.nspname LIMIT 1
"""


def _is_followed(connection: Connection, store: Store) -> bool:
    """Whether somebody will read of this transaction in the log, where it is marked as ours, or in a queue."""
    slot = slot_name(connection, store)
    found = connection.execute(
        f"SELECT ({_QUEUE_SCHEMA}), (SELECT pg_logical_emit_message(true, $2, '')"
        " FROM pg_replication_slots WHERE slot_name = $3)".encode(),
        [state_name(store), mark_of(slot, store), slot],
    ).fetchone()
    return found is not None and found != (None, None)


def _place_in_log(connection: Connection) -> str:
    row = connection.execute(b"SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    return f"{int(row[0] if row else 0):020d}"


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A write transaction, committed at the end, or rolled back if anything is raised."""
    begin(connection, "ISOLATION LEVEL READ COMMITTED")
    try:
        yield
        if connection.execute("COMMIT").statusmessage != "COMMIT":  # PostgreSQL rolled back without an error
            raise psycopg.InternalError("the transaction was rolled back")
    finally:
        roll_back(connection)


def begin(connection: Connection, mode: str) -> None:
    """Begin a transaction. A large table takes as long as it takes, whatever limit the user's statements have; only
    for a lock we do not wait long."""
    settings = SETTINGS | {
        "lock_timeout": f"{max(1, round(LOCK_SECONDS * 1000))}ms",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
    }
    sets = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in settings.items())
    connection.execute(f"BEGIN {mode}{sets}".encode())


def roll_back(connection: Connection) -> None:
    """End what transaction is open. Told rather than left to the end of the connection: so its locks are gone when
    we go on."""
    if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """What is done inside is undone if anything is raised; the transaction goes on."""
    connection.execute("SAVEPOINT evsync")
    try:
        yield
    except BaseException:
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.execute("ROLLBACK TO SAVEPOINT evsync; RELEASE SAVEPOINT evsync")
        raise
    connection.execute("RELEASE SAVEPOINT evsync")


@contextmanager
def opened(store: Store) -> Iterator[Connection]:
    """A connection on which no transaction has begun. What PostgreSQL says goes wrong on it is said in our words."""
    connection = _connected(store)
    try:
        yield connection
    except psycopg.Error as error:
        raise translated(error, store, connection.info.user) from error
    finally:
        roll_back(connection)
        connection.close()


def _connected(store: Store) -> Connection:
    where = f"store {store.name!r} ({shown(store)})"
    try:
        parts = conninfo_to_dict(store.url)
    except psycopg.Error as error:
        said = "" if _may_hold_password(store.url) else f": {_one_line(error)}"
        raise Unreachable(f"{where}: the url is not one that libpq understands{said}", _URL) from None
    try:
        connection = psycopg.connect(
            store.url,
            autocommit=True,
            prepare_threshold=None,  # a pooler may give each transaction another session
            cursor_factory=psycopg.RawCursor,  # $1 marks a value, so a name may hold a %
            context=_TEXT,
            connect_timeout=parts.get("connect_timeout") or CONNECT_SECONDS,
            application_name=parts.get("application_name") or "evsync",
            client_encoding="UTF8",
        )
    except psycopg.Error as error:
        raise _not_connected(error, where, parts) from None
    if connection.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
        connection.adapters.register_loader(0, _AnyText)
        connection.execute("SET client_encoding = 'SQL_ASCII'")  # else PostgreSQL would insist on UTF-8
    return connection


# -- what went wrong ----------------------------------------------------------------------------------------

_URL = "postgresql://user:password@host:5432/database; in a user or a password write @ as %40, : as %3A, / as %2F, % as %25"
_TOO_MANY = re.compile(r"too many (clients|connections)|connection slots are reserved")
_DENIED = re.compile(r"permission denied for (\w+) (.+)")
_PRIVILEGES = {
    "schema": "USAGE, CREATE",
    "sequence": "USAGE, SELECT",
    "function": "EXECUTE",
    "database": "CONNECT",
}
_UNKNOWN_DATABASE = re.compile(r'database "(.*)" does not exist')


def shown(store: Store) -> str:
    """The store's URL as it may be printed."""
    return without_password(store.shown_url)


def _may_hold_password(url: str) -> bool:
    return "@" in unquote(url) or "password" in unquote(url).lower()


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def _not_connected(error: psycopg.Error, where: str, parts: dict[str, Any]) -> StoreError:
    said = _one_line(error)
    # An @ or a : in the host comes of a password with an unescaped @: what libpq looked for is a part of it.
    misread = any("@" in str(parts.get(name) or "") for name in ("host", "port", "dbname", "user"))
    for name in ("password", "sslpassword"):
        if parts.get(name):
            said = said.replace(str(parts[name]), "***")
    if misread:
        return Unreachable(f"{where} does not answer: the url names no such host", _URL)
    if (error.sqlstate or "").startswith("53") or _TOO_MANY.search(said):
        return Retry(f"{where} takes no connection now: {said}", "try again")
    unknown = _UNKNOWN_DATABASE.search(said)
    if unknown:
        return Unreachable(f"{where}: there is no database {unknown[1]!r}", "check the url, or create it")
    if "authentication" in said or "no password supplied" in said or "pg_hba.conf" in said or "role " in said:
        return Unreachable(f"{where} does not let us in: {said}", "check user and password in the url")
    return Unreachable(f"{where} does not answer: {said}", "check the url, and that the server runs")


def translated(error: psycopg.Error, store: Store, user: str = "") -> StoreError:
    """What PostgreSQL says, by what is to be done about it: Refused, Retry, Unreachable or BrokenStore."""
    code = error.sqlstate or ""
    where = f"store {store.name!r} ({shown(store)})"
    said = error.diag.message_primary or _one_line(error)
    if error.diag.message_detail:
        said += f" ({error.diag.message_detail})"
    if code == "42501" and error.diag.source_function == "ExecWithCheckOptions":
        return Refused(f"{where}: {said}")  # a policy of the table does not let this one row in
    if code == "42501":
        return Unreachable(f"{where}: {said}", _grant(error.diag.message_primary or "", user))
    if code == "25006":
        return Unreachable(f"{where} is read-only: {said}", 'name the primary server, or set role = "source"')
    if code.startswith(("40", "55", "53", "57014", "25P")):
        return Retry(f"{where} is locked or busy: {said}", "try again, or end what holds it")
    if isinstance(error, psycopg.DataError) or code.startswith(
        ("22", "23", "P0", "44", "27", "2F", "38", "39", "09", "21", "54", "428C9")
    ):
        return Refused(f"{where}: {said}")
    if code.startswith("XX"):
        return BrokenStore(f"{where} cannot be read: {said}", "see the server's log")
    if code.startswith("3F"):
        return Unreachable(f"{where}: {said}", "check the option schema, or: CREATE SCHEMA")
    if code.startswith("42"):
        return Unreachable(f"{where}: {said}", "the table was changed while it was used: try again")
    if code.startswith(("08", "57P")) or (not code and isinstance(error, psycopg.OperationalError)):
        return Unreachable(f"{where} does not answer any more: {said}", "check that the server runs")
    return Unreachable(f"{where}: {said}")


def _grant(said: str, user: str) -> str:
    found = _DENIED.match(said)
    if found is None:
        return "ask the owner of the table for the rights"
    kind, name = found.groups()
    if kind in ("table", "view", "relation"):
        return f"run: GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {user or 'the user'}"
    privileges = _PRIVILEGES.get(kind)
    return (
        f"run: GRANT {privileges} ON {kind.upper()} {name} TO {user or 'the user'}"
        if privileges
        else f"ask the owner of the {kind} for the rights"
    )
