"""Opening an SQLite file, and saying in our words what SQLite says went wrong.

A connection is opened for each operation and closed after it. Only `create` makes a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from accessors import sqlite_capture as capture
from evsync.binding import nearest
from evsync.errors import BrokenStore, Refused, Retry, StoreError, Unreachable
from evsync.store import Store

BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's lock before we call it a Retry."""

_RECORD_ERRORS = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE")


@contextmanager
def reading(store: Store) -> Iterator[sqlite3.Connection]:
    """A connection inside one read transaction: whatever is read belongs to one state of the store.

    Raises Unreachable, BrokenStore or Retry for what SQLite says meanwhile."""
    with _opened(store, "rw") as connection:  # "ro" could not tidy up after a crash or in a WAL database
        connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        yield connection


@contextmanager
def writing(store: Store, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection inside one write transaction, committed at the end, or rolled back if anything is raised."""
    with writable(store, create=create) as connection, transaction(connection):
        yield connection
        # Nobody else writes before this is committed: what is in the queue of this record is older, or ours.
        store.written_at = f"{capture.last(connection):020d}" if capture.is_installed(connection) else None


@contextmanager
def writable(store: Store, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection for transactions that write."""
    with _opened(store, "rwc" if create else "rw") as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        # Else a row that REPLACE pushes out fires no delete trigger, and the store's own history misses it.
        connection.execute("PRAGMA recursive_triggers=ON")
        yield connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction, committed at the end, or rolled back if anything is raised."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def connected(store: Store) -> Iterator[sqlite3.Connection]:
    """A connection that begins nothing by itself."""
    with _opened(store, "rw") as connection:
        yield connection


@contextmanager
def _opened(store: Store, mode: str) -> Iterator[sqlite3.Connection]:
    path = store.path
    if mode != "rwc" and not path.is_file():
        raise _missing(store, path)
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        with closing(
            sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as connection:
            connection.text_factory = text
            yield connection
    except sqlite3.Error as error:
        raise translated(error, store) from error


def text(raw: bytes) -> str | bytes:
    """Text as SQLite holds it; bytes if it is not UTF-8, so that one bad row does not hide the others."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def translated(error: sqlite3.Error, store: Store) -> StoreError:
    """What SQLite says, by what is to be done about it: Refused, Retry, Unreachable or BrokenStore."""
    name = getattr(error, "sqlite_errorname", None) or ""
    where = f"store {store.name!r} ({store.path})"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Retry(f"{where} is locked by another program", "try again, or end what holds it")
    if name.startswith("SQLITE_NOTADB"):
        return BrokenStore(f"{where} is not an SQLite database", "check the url of the store")
    if name.startswith("SQLITE_READONLY"):
        return Unreachable(f"{where} is read-only", "make the file and its directory writable")
    if name.startswith("SQLITE_FULL"):
        return Unreachable(f"{where}: the disk or the database is full; nothing was written", "make room")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_AUTH")):
        return Unreachable(
            f"{where} cannot be opened: {error}", "check the path and the rights on its directory"
        )
    if isinstance(error, sqlite3.IntegrityError) or name.startswith(_RECORD_ERRORS):
        return Refused(f"{where}: {error}")
    if str(error).startswith("no such table") and capture.PREFIX in str(error):
        # No record's fault: Unreachable, so that none is put down as refused.
        return Unreachable(
            f"{where} cannot be written: the capture was taken away by half, and its triggers fail: {error}",
            f"set it up again: evsync capture install {store.name}; or take the rest away:"
            f" evsync capture remove {store.name}",
        )
    return BrokenStore(f"{where} cannot be read: {error}", "try: PRAGMA integrity_check")


def _missing(store: Store, path: Path) -> Unreachable:
    if path.is_dir():
        return Unreachable(f"store {store.name!r}: {path} is a directory", "name the file in it")
    if not path.parent.is_dir():
        return Unreachable(f"store {store.name!r}: there is no directory {path.parent}", "check the url")
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    return Unreachable(
        f"store {store.name!r}: there is no file {path}", nearest(path.name, beside) or "check the url"
    )
