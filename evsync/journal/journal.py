"""The journal's file: opening it, appending to it, reading states out of it.

Positions and hashes are assigned inside `BEGIN IMMEDIATE`, from the one-row table `head`, so that any number of processes
may write at once without a gap or a fork. The file is in WAL mode, so that readers never wait; every commit
is synced to disk before it is reported.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evsync.errors import JournalBusy, JournalError
from evsync.journal import chain, schema
from evsync.journal.creations import Creations, Linked
from evsync.journal.event import Fields, Head, NewEvent, Revision, Shape, read_shape, shape_text
from evsync.values import decode, encode, micros

BUSY_SECONDS = 60.0
"""How long a writer waits for another one."""

CHECKPOINT = 8_000  # pages in the write-ahead log, 32 MB: a page that is written often is copied once

CHUNK = 500  # bound parameters in one statement


class Journal:
    """An open journal. Use `open`; close it, or use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, shown: str) -> None:
        self.connection = connection
        self.shown = shown
        self.path: Path | None = None  # the file, where others may open it as well
        self._names: dict[str, int] = {}
        self._spare: dict[str, int] = {}
        self._shapes: dict[tuple[tuple[str, ...], tuple[str, ...]], Shape] = {}
        self._shape_of: dict[int, Shape] = {}
        self.rehearsing = False  # a dry run: nothing will stay
        self.temporary = False  # stands in for a file that is missing or cannot be written
        self.missing = False  # the first of these

    @classmethod
    def open(cls, path: Path | None, *, create: bool = True) -> Journal:
        """Open the journal at `path`, creating it if need be; None, or a missing file without `create`:
        an empty one in memory. Raises JournalError with what is wrong."""
        shown = str(path) if path else "the journal in memory"
        missing = path is None or not path.exists()
        if path is not None and path.is_dir():
            raise JournalError(
                f"{shown} is a folder, not a journal", "set `journal` in evsync.toml to a file"
            )
        if path is not None and not missing and 0 < path.stat().st_size < 512:
            # SQLite would take so short a file for an empty one, and write over it.
            raise JournalError(
                f"{shown} is no evsync journal: it is no database",
                "set `journal` in evsync.toml to another path",
            )
        target = ":memory:" if path is None or (missing and not create) else str(path)
        connection: sqlite3.Connection | None = None
        try:
            # Whoever has another thread write waits for it; no two use the connection at once.
            connection = sqlite3.connect(
                target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            journal = cls(connection, shown)
            journal.temporary = journal.missing = path is not None and target == ":memory:"
            journal.path = None if target == ":memory:" else path
            journal._prepare(readonly=not create and not missing)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if path is not None and not create and _is_beyond_writing(error):
                return cls._open_copy(path, shown)
            raise _explain(error, shown) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return journal

    @classmethod
    def _open_copy(cls, path: Path, shown: str) -> Journal:
        """A journal where nothing may be written, not even the files that SQLite needs beside it: a backup, say.
        It is read as it stands."""
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None
        )
        journal = cls(connection, shown)
        journal.temporary = True
        try:
            schema.check(connection, shown)
            journal.head()
        except sqlite3.Error as error:
            connection.close()
            raise _explain(error, shown) from error
        except BaseException:
            connection.close()
            raise
        return journal

    def _prepare(self, readonly: bool) -> None:
        execute = self.connection.execute
        execute("PRAGMA cache_size = -32000")
        execute("PRAGMA temp_store = FILE")
        execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        execute("PRAGMA foreign_keys = OFF")
        if execute("PRAGMA user_version").fetchone()[0] == schema.FORMAT and (
            execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        ):
            execute("PRAGMA synchronous = FULL")
            return
        # In one transaction: what another process creates meanwhile is seen as a whole or not at all.
        execute("BEGIN")
        try:
            schema.check(self.connection, self.shown)
        finally:
            execute("ROLLBACK")
        if not readonly:
            _insist(lambda: execute("PRAGMA journal_mode = WAL"))
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        try:
            schema.migrate(self.connection, self.shown, chain.GENESIS)
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- writing ---------------------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[None]:
        """A write transaction: commits at the end, rolls back on any exception.

        Raises JournalBusy or JournalError instead of what SQLite says."""
        begin, commit, rollback = (
            ("SAVEPOINT step", "RELEASE step", "ROLLBACK TO step")
            if self.rehearsing
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        try:
            self.connection.execute(begin)
            try:
                yield
                self.connection.execute(commit)
            except BaseException:
                self._forget()
                if self.connection.in_transaction:
                    self.connection.execute(rollback)
                raise
        except sqlite3.Error as error:
            raise _explain(error, self.shown) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One transaction around what is read inside: all of it belongs to one state of the journal, and is read
        quicker. It takes no lock. What is kept in temporary tables meanwhile stays."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Whatever is written inside is undone at the end: a dry run."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _explain(error, self.shown) from error
        self.rehearsing = True
        try:
            yield
        finally:
            self.rehearsing = False
            self._forget()
            self.connection.execute("ROLLBACK")

    def _forget(self) -> None:
        self._names.clear()
        self._shapes.clear()
        self._shape_of.clear()

    def append(self, events: Sequence[NewEvent], run: int, now: int | None = None) -> int:
        """Append events, inside `write`; answers with the position of the first.

        `now`: microseconds; by default the clock. A clock that went back is held at the last event's time."""
        head = self.head()
        observed_at = max(clock() if now is None else now, head.observed_at)
        seq, previous = head.seq, head.hash
        alike: dict[tuple[Any, ...], _Alike] = {}
        last: _Alike | None = None
        rows: list[tuple[Any, ...]] = []
        for event in events:
            seq += 1
            # Most events of a batch have all but key and payload in common, down to the very objects.
            if last is None or not last.covers(event):
                if rows:
                    self.connection.executemany(last.insert if last else "", rows)
                    rows = []
                group = _group(event)
                last = alike.get(group)
                if last is None:
                    last = alike[group] = self._alike(event, run, observed_at)
            before, after, conflict = event.before, event.after, event.conflict
            if before is None and conflict is None and after is not None:
                payload = chain.payload_hash_of_after(after.encode())
            else:
                payload = chain.payload_hash(
                    None if before is None else before.encode(),
                    None if after is None else after.encode(),
                    None if conflict is None else conflict.encode(),
                )
            key, base, occurred_at = event.key, event.base, event.occurred_at
            previous = chain.link(previous, last.prefix, seq, base, key.encode(), occurred_at, payload)
            rows.append((seq, key, base, occurred_at, after, before, conflict, previous))
        if last is not None:
            self.connection.executemany(last.insert, rows)
        self.connection.execute(
            "UPDATE head SET seq = ?, hash = ?, observed_at = ?", (seq, previous, observed_at)
        )
        return head.seq + 1

    def _alike(self, event: NewEvent, run: int, observed_at: int) -> _Alike:
        after_shape, before_shape, changed = event.after_shape, event.before_shape, event.changed
        prefix = chain.entry_prefix(
            event.op,
            event.store,
            event.type,
            None if after_shape is None else after_shape.digest,
            None if before_shape is None else before_shape.digest,
            None if changed is None else changed.digest,
            event.actor,
            run,
            observed_at,
        )
        constants = {
            "op": _literal(event.op),
            "store": str(self.name_id(event.store)),
            "type": str(self.name_id(event.type)),
            "observed_at": str(observed_at),
            "actor": _literal(event.actor),
            "run": str(run),
            "after_shape": "NULL" if after_shape is None else str(after_shape.id),
            "before_shape": "NULL" if before_shape is None else str(before_shape.id),
            "changed": "NULL" if changed is None else str(changed.id),
            "payload_hash": "x''",  # the payload is there to be hashed
        }
        insert = (
            f"INSERT INTO event (seq, key, base, occurred_at, after, before, conflict, hash,"
            f" {', '.join(constants)}) VALUES (?,?,?,?,?,?,?,?, {', '.join(constants.values())})"
        )
        return _Alike(
            event.op,
            event.store,
            event.type,
            event.actor,
            after_shape,
            before_shape,
            changed,
            prefix,
            constants,
            insert,
        )

    def creations(self, store: str, type: str, shape: Shape, run: int, now: int) -> Creations:
        """How to append creations of records in one shape; the names and the shape stand in the journal already."""
        alike = self._alike(NewEvent("create", store, type, "", 0, "", shape, changed=shape), run, now)
        return Creations(alike.prefix, alike.constants)

    def append_linked(self, head: Head, linked: Linked) -> bool:
        """Append creations that were linked to `head`, inside `write`. False if the journal has another head by now."""
        if self.head() != head:
            return False
        linked.insert_into(self.connection)
        self.connection.execute("UPDATE head SET seq = ?, hash = ?, observed_at = ?", linked.head)
        return True

    def begin_run(self, command: str, version: str) -> int:
        """Enter a run into the table of runs, inside `write`; answers with its number."""
        spare = self._spare.pop(command, None)
        if spare is not None:
            self.connection.execute(
                "UPDATE run SET started_at = ?, ended_at = NULL, counts = NULL WHERE id = ?", (clock(), spare)
            )
            return spare
        cursor = self.connection.execute(
            "INSERT INTO run (command, version, started_at) VALUES (?, ?, ?)", (command, version, clock())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def reuse_run(self, command: str, run: int) -> None:
        """The next run of this process that is called so takes the place of this one, which did nothing."""
        self._spare[command] = run

    def end_run(self, run: int, counts: dict[str, Any]) -> None:
        """Note a run's end and what it did, inside `write`."""
        self.connection.execute(
            "UPDATE run SET ended_at = ?, counts = ? WHERE id = ?", (clock(), encode(counts).decode(), run)
        )

    def run_of(self, seq: int) -> int | None:
        """The run that wrote this event."""
        row = self.connection.execute("SELECT run FROM event WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else int(row[0])

    # -- names and shapes ------------------------------------------------------------------------------

    def name_id(self, name: str) -> int:
        """The number that stands for a store or type, assigned inside `write` if it is new."""
        found = self._names.get(name) or self.known_name(name)
        if found is None:
            cursor = self.connection.execute("INSERT INTO name (name) VALUES (?)", (name,))
            assert cursor.lastrowid is not None
            found = cursor.lastrowid
        self._names[name] = found
        return found

    def known_name(self, name: str) -> int | None:
        """The number that stands for a store or type, None if the journal never saw it."""
        row = self.connection.execute("SELECT id FROM name WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def shape(self, names: tuple[str, ...], types: tuple[str, ...]) -> Shape:
        """The shape of these fields, assigned inside `write` if it is new."""
        found = self._shapes.get((names, types))
        if found is None:
            text = shape_text(names, types)
            row = self.connection.execute("SELECT id FROM shape WHERE fields = ?", (text,)).fetchone()
            if row is None:
                cursor = self.connection.execute("INSERT INTO shape (fields) VALUES (?)", (text,))
                assert cursor.lastrowid is not None
                row = (cursor.lastrowid,)
            if len(self._shapes) > 10_000:  # records that each have other fields must not fill the memory
                self._shapes.clear()
            found = self._shapes[names, types] = read_shape(row[0], text)
        return found

    def shape_of(self, id: int) -> Shape:
        """The shape that is stored under this number."""
        found = self._shape_of.get(id)
        if found is None:
            text = self.connection.execute("SELECT fields FROM shape WHERE id = ?", (id,)).fetchone()[0]
            if len(self._shape_of) > 10_000:
                self._shape_of.clear()
            found = self._shape_of[id] = read_shape(id, text)
        return found

    def fields(self, shape: int | None, text: str | None) -> Fields | None:
        """The record that a payload spells."""
        if text is None or shape is None:
            return None
        return dict(zip(self.shape_of(shape).names, decode(text), strict=True))

    def pack(self, fields: Fields, types: dict[str, str]) -> tuple[str, Shape]:
        """A record as a payload, inside `write`: its values in order of the names, and their shape."""
        names = tuple(sorted(fields))
        shape = self.shape(names, tuple(types.get(name, "json") for name in names))
        return encode([fields[name] for name in names]).decode(), shape

    # -- reading ---------------------------------------------------------------------------------------

    def head(self) -> Head:
        """The journal's end; position 0 if it is empty."""
        return Head(*self.connection.execute("SELECT seq, hash, observed_at FROM head").fetchone())

    def has_type(self, type: str) -> bool:
        """Whether any event is about this type."""
        number = self.known_name(type)
        return number is not None and (
            self.connection.execute(
                "SELECT 1 FROM event WHERE type = ? AND op <> 'read' LIMIT 1", (number,)
            ).fetchone()
            is not None
        )

    def count(self, type: str, until: int) -> int:
        """How many events there are about a type up to a position, reads left out."""
        return int(
            self.connection.execute(
                "SELECT count(*) FROM event WHERE type = ? AND op <> 'read' AND seq <= ?",
                (self.known_name(type), until),
            ).fetchone()[0]
        )

    def heads(self, type: str, keys: Sequence[str], until: int | None = None) -> dict[str, Revision]:
        """The last revision (not after position `until`) of each of these records that has one."""
        number = self.known_name(type)
        found: dict[str, Revision] = {}
        if number is None:
            return found
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            marks = ",".join(["(?)"] * len(chunk))
            for key, seq, shape, text in self.connection.execute(
                f"WITH wanted (key) AS (VALUES {marks}) SELECT e.key, e.seq, e.after_shape, e.after FROM wanted"
                " CROSS JOIN event e ON e.seq = (SELECT seq FROM event WHERE type = ? AND key = wanted.key"
                " AND op <> 'read' AND seq <= ? ORDER BY seq DESC LIMIT 1)",
                (*chunk, number, _LAST if until is None else until),
            ):
                found[key] = Revision(seq, self.fields(shape, text), text, shape and self.shape_of(shape))
        return found

    def revisions(self, seqs: Iterable[int]) -> dict[int, Fields]:
        """The state after each of these events; {} where the record is gone, and at position 0."""
        wanted = sorted(set(seqs))
        found: dict[int, Fields] = {0: {}}
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            for seq, shape, text in self.connection.execute(
                f"SELECT seq, after_shape, after FROM event WHERE seq IN ({marks})",
                chunk,
            ):
                found[seq] = self.fields(shape, text) or {}
        return found


_LAST = 2**63 - 1


class _Alike(NamedTuple):
    """What events have in common: hashed once, and part of the statement that inserts them."""

    op: str
    store: str
    type: str
    actor: str | None
    after_shape: Shape | None
    before_shape: Shape | None
    changed: Shape | None
    prefix: bytes
    constants: dict[str, str]
    insert: str

    def covers(self, event: NewEvent) -> bool:
        return (
            event.after_shape is self.after_shape
            and event.before_shape is self.before_shape
            and event.changed is self.changed
            and event.op is self.op
            and event.store is self.store
            and event.type is self.type
            and event.actor is self.actor
        )


def _group(event: NewEvent) -> tuple[Any, ...]:
    shapes = (event.after_shape, event.before_shape, event.changed)
    return (event.op, event.store, event.type, event.actor, *(None if s is None else s.id for s in shapes))


def _literal(text: str | None) -> str:
    """A text in SQL, byte for byte: as a blob's hexadecimal digits, so that no character needs escaping."""
    return "NULL" if text is None else f"CAST(x'{text.encode().hex()}' AS TEXT)"


def clock() -> int:
    """Now, in microseconds since 1970."""
    return micros(datetime.now(UTC))


def _is_beyond_writing(error: sqlite3.Error) -> bool:
    return any(words in str(error) for words in ("readonly", "read-only", "unable to open"))


def _insist(attempt: Any) -> None:
    """Changing the journal mode ignores SQLite's busy timeout, so two processes that create one journal
    at the same moment have to try again by hand."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            attempt()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _explain(error: sqlite3.Error, shown: str) -> JournalError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return JournalBusy(
            f"{shown} is locked by another process, for more than {BUSY_SECONDS:.0f} seconds",
            "wait for it to end, or find it with: lsof " + shown,
        )
    if "not a database" in text or "malformed" in text:
        return JournalError(
            f"{shown} is no evsync journal: {text}", "set `journal` in evsync.toml to another path"
        )
    if "full" in text:
        return JournalError(
            f"{shown}: no room left on the disk", "free some space and run again: nothing was lost"
        )
    if "readonly" in text or "read-only" in text:
        return JournalError(
            f"{shown} cannot be written: it is read-only", "check its rights and its folder's"
        )
    if "unable to open" in text:
        return JournalError(f"{shown} cannot be opened", "check that its folder exists and your rights to it")
    return JournalError(f"{shown}: {text}", "")
