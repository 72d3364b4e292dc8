"""Saying in our words what a database says went wrong, whichever driver says it.

What is to be done is read from the SQLSTATE where the driver tells one, else from the class of the error that PEP 249
demands of every driver. A dialect may know its own numbers better, see `sql_dialect`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import exc

from evsync.errors import BrokenStore, ConfigError, Refused, Retry, StoreError, Unreachable
from evsync.store import Store
from evsync.urls import without_password

_BUSY: Final = ("40", "55", "53", "57014", "25P", "HYT")
_REFUSED: Final = ("22", "23", "P0", "44", "27", "2F", "38", "39", "09", "21", "54", "428C9", "45")
_BUSY_WORDS: Final = ("locked", "deadlock", "timeout", "timed out", "busy", "conflict")


def shown(store: Store) -> str:
    """The store's URL as it may be printed."""
    return without_password(store.shown_url)


def where_of(store: Store) -> str:
    """The store as a message begins with it."""
    return f"store {store.name!r} ({shown(store)})"


def sqlstate_of(error: BaseException | None) -> str:
    """The five characters by which SQL names what went wrong; "" where the driver does not tell."""
    found = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if found is None and error is not None and error.args and isinstance(error.args[0], str):
        first = error.args[0]  # as ODBC tells it
        found = first if len(first) == 5 and first.isalnum() and first.isupper() else None
    return str(found or "")


def number_of(error: BaseException | None) -> int | None:
    """The database's own number of what went wrong, where the driver tells it."""
    first = error.args[0] if error is not None and error.args else None
    found = first if isinstance(first, int) else getattr(first, "code", None)
    return found if isinstance(found, int) else None


def said_by(error: exc.SQLAlchemyError) -> str:
    """What the driver says, in one line, without the statement and its values."""
    original = error.orig if isinstance(error, exc.StatementError) else None
    if original is None:
        return " ".join(str(error.args[0] if error.args else error).split())
    texts = [one for one in original.args if isinstance(one, str)]
    return " ".join((" ".join(texts) or str(original)).split())


def not_connected(error: exc.SQLAlchemyError, store: Store, password: str) -> StoreError:
    """Why a connection could not be opened; no password is told."""
    where, said = where_of(store), said_by(error)
    if password:
        said = said.replace(password, "***")
    return Unreachable(f"{where} does not answer: {said}", "check the url, and that the server runs")


def translated(error: exc.SQLAlchemyError, store: Store, *, by_record: bool = False) -> StoreError:
    """What went wrong in a connection, by what is to be done about it: Refused, Retry, Unreachable or BrokenStore."""
    where, said = where_of(store), said_by(error)
    original = error.orig if isinstance(error, exc.StatementError) else None
    code = sqlstate_of(original)
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return _gone(where, said)
    if code == "42501":
        return Unreachable(f"{where}: {said}", "ask the owner of the table for the rights")
    if code == "25006":
        return Unreachable(f"{where} is read-only: {said}", 'name the primary server, or set role = "source"')
    if code.startswith(_BUSY):
        return busy(where, said)
    if code.startswith(_REFUSED) or isinstance(error, exc.IntegrityError | exc.DataError):
        return Refused(f"{where}: {said}")
    if code.startswith("XX"):
        return BrokenStore(f"{where} cannot be read: {said}", "see the server's log")
    if code.startswith(("08", "57P")) or isinstance(error, exc.InterfaceError):
        return _gone(where, said)
    if isinstance(error, exc.OperationalError) and any(word in said.lower() for word in _BUSY_WORDS):
        return busy(where, said)
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return Refused(f"{where}: {said}")  # a value that the driver does not take
    if by_record:
        return Refused(f"{where}: {said}")
    if isinstance(error, exc.ProgrammingError):
        return Unreachable(f"{where}: {said}", "the table was changed while it was used: try again")
    return Unreachable(f"{where}: {said}")


def busy(where: str, said: str) -> Retry:
    return Retry(f"{where} is locked or busy: {said}", "try again, or end what holds it")


def _gone(where: str, said: str) -> Unreachable:
    return Unreachable(f"{where} does not answer any more: {said}", "check that the server runs")


def unusable_url(error: Exception, store: Store) -> StoreError | ConfigError:
    """Why no engine could be made of a URL: its form, an unknown dialect, or a driver that is not installed."""
    where = where_of(store)
    if isinstance(error, ImportError):
        driver = error.name or "it"
        return ConfigError(
            f"{where}: the driver is not installed: {error}", f"pip install {_EXTRAS.get(driver, driver)}"
        )
    if isinstance(error, exc.NoSuchModuleError):
        return ConfigError(
            f"{where}: SQLAlchemy knows no such database: {error}", "install its dialect, or check the url"
        )
    return Unreachable(f"{where}: the url is not one that SQLAlchemy understands", URL_FORM)


_EXTRAS: Final = {"pymysql": "'evsync[mysql]'", "psycopg": "'evsync[postgres]'"}

URL_FORM: Final = (
    "the form is dialect+driver://user:password@host:port/database;"
    " in a user or a password write @ as %40, : as %3A, / as %2F, % as %25"
)
