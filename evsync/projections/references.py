"""References between records whose ids differ from store to store.

In the journal a reference holds the key of the record it means; in a store that has ids of its own for such
records, it holds that id. Which is which is known from the replicas; while several types of a store are being read, from
what was read already, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evsync.errors import BadValue, EvsyncError, Refused
from evsync.journal.journal import Journal
from evsync.projections.reader import Reader
from evsync.projections.replicas import Replicas, binding_state
from evsync.store import Store

PARENTS, MATCHED = "evsync_parents", "evsync_matched"
REMEMBERED = 50_000  # translations kept at hand


class Unknown(BadValue):
    """A store's record refers to one that is not known there."""

    def __init__(self, store: str, type: str, local: object) -> None:
        EvsyncError.__init__(self, f"store {store!r} has no {type} with the id {local!r}")


class Waits(Refused):
    """The record refers to one that the store does not hold (yet)."""

    code = "postponed"

    def __init__(self, type: str, key: str, detail: str = "") -> None:
        super().__init__(f"it waits for {type} {key!r}, which this store does not hold{detail}")
        self.type = type
        self.key = key


class References:
    """The identity map of one store, for the types that others refer to."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self.journal, self.store = journal, store
        self._bindings: dict[str, int] = {}
        self._keys: dict[tuple[str, int | str], str] = {}
        self._ids: dict[tuple[str, str], int | str] = {}

    def key_of(self, type: str, local: Any) -> str:
        """The key of the record that the store calls `local`. Raises Unknown if there is none."""
        if not isinstance(local, int | str):
            local = str(local)
        found = self._keys.get((type, local))
        if found is None:
            found = self._look_up(type, local)
            if found is None:
                raise Unknown(self.store.name, type, local)
            if len(self._keys) >= REMEMBERED:
                self._keys.clear()
            self._keys[type, local] = found
        return found

    def id_of(self, type: str, key: str) -> int | str:
        """What the store calls the record of this key. Raises Waits if it does not hold it."""
        found = self._ids.get((type, key))
        if found is None:
            replica = Replicas(self.journal, self._binding(type)).by_key([key]).get(key)
            if replica is None or replica.fingerprint is None:
                raise Waits(type, key, self._fate(type, key))
            found = replica.known_as
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            self._ids[type, key] = found
        return found

    def expect(self, type: str, read: Iterable[tuple[int | str, str]]) -> None:
        """Records (id, key) that were read and will be known once they are entered."""
        _prepare(self.journal)
        self.journal.connection.executemany(
            f"INSERT OR REPLACE INTO temp.{PARENTS} VALUES (?, ?, ?, ?)",
            ((self.store.name, type, id, key) for id, key in read),
        )

    def _look_up(self, type: str, local: int | str) -> str | None:
        for id in _spellings(local):
            row = None
            if _prepared(self.journal):
                row = self.journal.connection.execute(
                    f"SELECT key FROM temp.{PARENTS} WHERE store = ? AND type = ? AND id = ?",
                    (self.store.name, type, id),
                ).fetchone()
            binding = self._binding(type)
            row = (
                row
                or self.journal.connection.execute(
                    "SELECT key FROM replica WHERE binding = ? AND id = ?", (binding, id)
                ).fetchone()
            )
            if row is not None:
                return str(row[0])
        found = Replicas(self.journal, binding).by_key([str(local)]).get(str(local))
        if found is not None and found.id is None:
            return found.key
        for id in _spellings(local):
            row = self.journal.connection.execute(
                "SELECT key FROM retired WHERE binding = ? AND id = ?", (binding, id)
            ).fetchone()
            if row is not None:
                return str(row[0])
        return None

    def _binding(self, type: str) -> int:
        found = self._bindings.get(type)
        if found is None:
            state = binding_state(self.journal, self.store.name, type)
            if state is None:
                return -1
            found = self._bindings[type] = state.id
        return found

    def _fate(self, type: str, key: str) -> str:
        """Why it may never come."""
        head = self.journal.heads(type, [key]).get(key)
        if head is None:
            return ": the journal knows no such record"
        return f": it was deleted, by event {head.seq}" if head.fields is None else ""


def reader_of(journal: Journal, store: Store, type: str) -> Reader:
    """The reader of a type in a store, references translated."""
    binding = store.binding(type)
    translate = References(journal, store) if binding.translated else None
    return Reader(binding, store.accessor(type), translate)


def forget_expected(journal: Journal) -> None:
    """Begin anew: nothing was read yet."""
    for table in (PARENTS, MATCHED):
        journal.connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def note_matches(journal: Journal, store: Store, type: str) -> None:
    """Keep which records were read under another key than they were entered under (see `matching`): what refers to them
    was read before that was known."""
    if not _prepared(journal, "evsync_match"):
        return
    journal.connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {MATCHED} (store TEXT, type TEXT, row TEXT, key TEXT)"
    )
    journal.connection.execute(
        f"INSERT INTO temp.{MATCHED} SELECT ?, ?, row, key FROM temp.evsync_match", (store.name, type)
    )


def matches(journal: Journal, store: Store, type: str) -> dict[str, str]:
    """The key a record was read under → the key that it has."""
    if not _prepared(journal, MATCHED):
        return {}
    return dict(
        journal.connection.execute(
            f"SELECT row, key FROM temp.{MATCHED} WHERE store = ? AND type = ?", (store.name, type)
        )
    )


def is_referenced(store: Store, type: str) -> bool:
    """Whether another record of this store refers to records of this type by the store's own id."""
    return any(
        field.references == type
        for other in store.types
        if store.is_bound(other)
        for field in store.binding(other).translated
    )


def _spellings(local: int | str) -> list[int | str]:
    """One id as different columns may hold it: 7 and "7"."""
    if isinstance(local, bool) or not isinstance(local, str):
        return [local, str(local)]
    if local.isascii() and local.isdigit() and str(int(local)) == local and int(local) < 2**63:
        return [local, int(local)]
    return [local]


def _prepare(journal: Journal) -> None:
    journal.connection.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {PARENTS} (store TEXT, type TEXT, id, key TEXT NOT NULL,"
        " PRIMARY KEY (store, type, id)) WITHOUT ROWID"
    )


def _prepared(journal: Journal, table: str = PARENTS) -> bool:
    return (
        journal.connection.execute("SELECT 1 FROM temp.sqlite_master WHERE name = ?", (table,)).fetchone()
        is not None
    )
