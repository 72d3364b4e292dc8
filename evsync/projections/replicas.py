"""What evsync knows of the stores: replicas, cursors, bindings, failures, quarantined rows.

All of it lives in the journal's file, so that it is committed together with the events it follows from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from evsync.journal.creations import insert_many
from evsync.journal.event import Fields
from evsync.journal.journal import CHUNK, Journal
from evsync.values import decode, encode

LOST = "lost"
"""In place of a position in a feed: for a while nobody captured the changes behind it."""

LONGEST_WAIT = 86_400_000_000
"""Microseconds, the most that a failed write waits for its next attempt."""


class Replica(NamedTuple):
    """What a store holds for a key. `row` is the row's own number in the table. `fingerprint` is None if the store deleted the record and that is in
    dispute; `content` is given only where revision `seq` says otherwise."""

    row: int
    key: str
    seq: int
    fingerprint: bytes | None
    id: int | str | None
    in_line: bool
    content: Fields | None

    @property
    def known_as(self) -> int | str:
        """What the store calls the record."""
        return self.key if self.id is None else self.id


class BindingState(NamedTuple):
    """A binding's row: its number, the mapping last used, up to where it was replayed, towards which
    positions writes were under way whose end nobody saw, up to where the store's own feed was journalled, and which of
    the store's notes was the last (see `noting`)."""

    id: int
    mapping: dict[str, Any] | None
    cursor: int
    intents: tuple[int, ...]
    position: str | None
    noted: int


class Quarantined(NamedTuple):
    """A row that could not be read: where it is, what the store calls it, the raw row as JSON, and why.

    `hides`: records that vanished at the same time; as nobody can tell whether it is one of them, none of
    them counts as deleted while the row is there."""

    place: str
    id: int | str | None
    row: str
    error: str
    hides: list[str]


_COLUMNS = "rowid, key, seq, fingerprint, id, in_line, content"


def _replica(row: Sequence[Any]) -> Replica:
    number, key, seq, fingerprint, id, in_line, content = row
    return Replica(
        number, key, seq, fingerprint, id, bool(in_line), None if content is None else decode(content)
    )


class Replicas:
    """The replicas of one binding."""

    def __init__(self, journal: Journal, binding: int) -> None:
        self._db: sqlite3.Connection = journal.connection
        self.binding = binding

    def count(self) -> int:
        """How many records the store holds, as far as is known."""
        return int(
            self._db.execute(
                "SELECT count(*) FROM replica WHERE binding = ? AND fingerprint IS NOT NULL", (self.binding,)
            ).fetchone()[0]
        )

    def disputed(self) -> int:
        """How many records the store deleted though it may not have been to."""
        return int(
            self._db.execute(
                "SELECT count(*) FROM replica WHERE binding = ? AND fingerprint IS NULL", (self.binding,)
            ).fetchone()[0]
        )

    def any(self) -> bool:
        """Whether anything is known of this binding."""
        return (
            self._db.execute("SELECT 1 FROM replica WHERE binding = ? LIMIT 1", (self.binding,)).fetchone()
            is not None
        )

    def any_quarantined(self) -> bool:
        """Whether a row of this binding is put aside."""
        return (
            self._db.execute("SELECT 1 FROM quarantine WHERE binding = ? LIMIT 1", (self.binding,)).fetchone()
            is not None
        )

    def count_called(self, names: Sequence[int | str]) -> int:
        """How many records are known that the store calls so."""
        found = {replica.row for replica in self._where("id", names)}
        keys = [name for name in names if isinstance(name, str)]
        return len(found | {replica.row for replica in self._where("key", keys) if replica.id is None})

    def last_row(self) -> int:
        """The highest row number in use by any binding."""
        return int(self._db.execute("SELECT coalesce(max(rowid), 0) FROM replica").fetchone()[0])

    def has_ids(self) -> bool:
        """Whether the store calls any record otherwise than by its key."""
        return (
            self._db.execute(
                "SELECT 1 FROM replica WHERE binding = ? AND id IS NOT NULL LIMIT 1", (self.binding,)
            ).fetchone()
            is not None
        )

    def by_key(self, keys: Sequence[str]) -> dict[str, Replica]:
        """The replicas of these keys."""
        return {replica.key: replica for replica in self._where("key", keys)}

    def by_id(self, ids: Sequence[int | str]) -> dict[int | str, Replica]:
        """The replicas that the store calls so, where that is not the key."""
        return {replica.id: replica for replica in self._where("id", ids) if replica.id is not None}

    def _where(self, column: str, values: Sequence[Any]) -> Iterator[Replica]:
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            extra = " AND id IS NOT NULL" if column == "id" else ""
            for row in self._db.execute(
                f"SELECT {_COLUMNS} FROM replica WHERE binding = ? AND {column} IN ({marks}){extra}",
                (self.binding, *chunk),
            ):
                yield _replica(row)

    def fingerprints(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes | None, int | str | None]]:
        """Row number, fingerprint and id of these keys: the quick half of `by_key`."""
        found = {}
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            marks = ",".join("?" * len(chunk))
            for key, row, fingerprint, id in self._db.execute(
                f"SELECT key, rowid, fingerprint, id FROM replica WHERE binding = ? AND key IN ({marks})",
                (self.binding, *chunk),
            ):
                found[key] = (row, fingerprint, id)
        return found

    def following(self, row: int, count: int) -> list[tuple[int, str, bytes | None, int | str | None]]:
        """Row number, key, fingerprint and id of the next replicas behind a row."""
        return self._db.execute(
            "SELECT rowid, key, fingerprint, id FROM replica WHERE rowid > ? AND +binding = ? ORDER BY rowid LIMIT ?",
            (row, self.binding, count),
        ).fetchall()

    def rows(self) -> Iterator[tuple[int, str]]:
        """Row number and key of each record that the store holds."""
        yield from self._db.execute(
            "SELECT rowid, key FROM replica WHERE binding = ? AND fingerprint IS NOT NULL", (self.binding,)
        )

    def all(self) -> Iterator[Replica]:
        """Every replica, in order of the keys."""
        for row in self._db.execute(
            f"SELECT {_COLUMNS} FROM replica WHERE binding = ? ORDER BY key",
            (self.binding,),
        ):
            yield _replica(row)

    def put(
        self, rows: Iterable[tuple[str, int, bytes | None, int | str | None, bool, Fields | None]]
    ) -> None:
        """Remember (key, seq, fingerprint, id, in_line, content) of each, inside `write`."""
        self._unmark()
        self._db.executemany(
            "INSERT INTO replica (binding, key, seq, fingerprint, id, in_line, content) VALUES (?,?,?,?,?,?,?)"
            " ON CONFLICT (binding, key) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,"
            " id = excluded.id, in_line = excluded.in_line, content = excluded.content",
            (
                (
                    self.binding,
                    key,
                    seq,
                    print_,
                    id,
                    in_line,
                    None if content is None else encode(content).decode(),
                )
                for key, seq, print_, id, in_line, content in rows
            ),
        )

    def add(self, rows: Iterable[tuple[str, int, bytes | None, int | str | None]]) -> None:
        """Remember (key, seq, fingerprint, id) of records the store was not known to hold, inside `write`."""
        self._unmark()
        self._db.executemany(
            f"INSERT INTO replica (binding, key, seq, fingerprint, id) VALUES ({self.binding},?,?,?,?)", rows
        )

    def add_flat(self, values: Sequence[Any]) -> None:
        """The same, the four values of all rows in one sequence."""
        self._unmark()
        insert = "INSERT INTO replica (binding, key, seq, fingerprint, id) VALUES "
        insert_many(self._db, insert, f"({self.binding},?,?,?,?)", 4, values)

    def add_created(self, first: int, last: int, fingerprints: bytes) -> None:
        """The same for the records of the events `first` to `last`, known by their keys; their fingerprints one behind
        the other."""
        self._unmark()
        self._db.execute(
            "INSERT INTO replica (binding, key, seq, fingerprint)"
            " SELECT ?1, key, seq, substr(?2, (seq - ?3) * 16 + 1, 16) FROM event WHERE seq BETWEEN ?3 AND ?4",
            (self.binding, fingerprints, first, last),
        )

    def forget(self, keys: Iterable[str], retire: bool = False) -> None:
        """The store no longer holds these, inside `write`. `retire`: keep in mind what it called them, as other records may
        still refer to them."""
        self._unmark()
        keys = list(keys)
        if retire:
            self._db.executemany(
                "INSERT OR REPLACE INTO retired SELECT binding, id, key FROM replica"
                " WHERE binding = ? AND key = ? AND id IS NOT NULL",
                ((self.binding, key) for key in keys),
            )
        self._db.executemany(
            "DELETE FROM replica WHERE binding = ? AND key = ?", ((self.binding, key) for key in keys)
        )

    def rename(self, moves: Iterable[tuple[int | str | None, int]]) -> None:
        """The store calls these by another id now: (id, row), inside `write`. Two may swap theirs."""
        self._unmark()
        moves = list(moves)
        self._db.executemany("UPDATE replica SET id = NULL WHERE rowid = ?", ((row,) for _, row in moves))
        self._db.executemany("UPDATE replica SET id = ? WHERE rowid = ?", moves)

    def release(self, named: Iterable[tuple[str, int | str]]) -> None:
        """(key, id): no record but this one is called so any more, inside `write`."""
        self._db.executemany(
            "UPDATE replica SET id = NULL WHERE binding = ? AND id = ? AND key <> ?",
            ((self.binding, id, key) for key, id in named),
        )

    def unclear(self) -> set[str]:
        """Records that the store is not known to hold, though it has a row that may be one of them."""
        named = {key for keys in self.hidden().values() for key in keys}
        return named - self.fingerprints(sorted(named)).keys() if named else set()

    # -- records to look at again ----------------------------------------------------------------------

    def _unmark(self) -> None:
        """What is known of the store is no longer what was read there when it was marked."""
        self._db.execute("UPDATE binding SET mark = NULL WHERE id = ? AND mark IS NOT NULL", (self.binding,))

    def pend(self, keys: Iterable[str]) -> None:
        """Look at these again in the next replay, inside `write`."""
        self._db.executemany(
            "INSERT OR IGNORE INTO pending VALUES (?, ?)", ((self.binding, key) for key in keys)
        )

    def settle(self, keys: Iterable[str]) -> None:
        """No need to look at these again, inside `write`."""
        self._db.executemany(
            "DELETE FROM pending WHERE binding = ? AND key = ?", ((self.binding, key) for key in keys)
        )

    def any_left_over(self) -> bool:
        """Whether any record of this binding is to be looked at again, or failing."""
        return bool(
            self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM pending WHERE binding = ?) OR"
                " EXISTS (SELECT 1 FROM failure WHERE binding = ?)",
                (self.binding, self.binding),
            ).fetchone()[0]
        )

    # -- failures --------------------------------------------------------------------------------------

    def failed(
        self,
        key: str,
        seq: int,
        action: str,
        error: str,
        now: int,
        state: str = "refused",
        wait: float | None = None,
        again: bool = False,
    ) -> None:
        """Keep a failed write, inside `write`. `wait`: seconds until the next try; by default it doubles with each attempt,
        from 30 s to a day. `again`: it failed in this run before, and all of that is one attempt."""
        attempts = self._db.execute(
            "SELECT attempts FROM failure WHERE binding = ? AND key = ?", (self.binding, key)
        ).fetchone()
        count = 1 if attempts is None else attempts[0] + (not again)
        grown = min(30_000_000 * 2 ** min(count - 1, 12), LONGEST_WAIT)
        pause = grown if wait is None else min(int(wait * 1_000_000), LONGEST_WAIT)
        self._db.execute(
            "INSERT OR REPLACE INTO failure VALUES (?,?,?,?,?,?,?,?)",
            (self.binding, key, seq, action, error, count, now + pause, state),
        )

    def mended(self, keys: Iterable[str]) -> None:
        """These no longer fail, inside `write`."""
        self._db.executemany(
            "DELETE FROM failure WHERE binding = ? AND key = ?", ((self.binding, key) for key in keys)
        )

    def failures(self) -> int:
        """How many records of this binding are failing."""
        return int(
            self._db.execute("SELECT count(*) FROM failure WHERE binding = ?", (self.binding,)).fetchone()[0]
        )

    # -- quarantined rows ------------------------------------------------------------------------------

    def hidden(self) -> dict[tuple[str, str], list[str]]:
        """The records that each quarantined row, (row, error), may be one of."""
        return {
            (row, error): decode(hides)
            for row, error, hides in self._db.execute(
                "SELECT row, error, hides FROM quarantine WHERE binding = ? AND hides IS NOT NULL",
                (self.binding,),
            )
        }

    def wrote(self, keys: Iterable[str], position: str | None) -> None:
        """These records were just written, or removed, by us, when the store's feed stood there (None: it has none);
        inside `write`."""
        if position is not None:
            self._db.executemany(
                "INSERT OR REPLACE INTO written VALUES (?, ?, ?)",
                [(self.binding, key, position) for key in keys],
            )

    def written(self, keys: Sequence[str]) -> dict[str, str]:
        """Where the feed stood when we last wrote these records, as far as that is not journalled yet."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            found.update(
                self._db.execute(
                    f"SELECT key, position FROM written WHERE binding = ? AND key IN ({','.join('?' * len(chunk))})",
                    (self.binding, *chunk),
                )
            )
        return found

    def quarantine_more(self, rows: Sequence[Quarantined], ids: Collection[int | str], now: int) -> None:
        """These rows could not be read, and what the store calls `ids` was told anew; inside `write`."""
        self._db.executemany(
            "DELETE FROM quarantine WHERE binding = ? AND id = ?", [(self.binding, id) for id in ids]
        )
        self._quarantine(rows, {}, now)

    def quarantine(self, rows: Sequence[Quarantined], now: int) -> None:
        """These rows are what could not be read this time, inside `write`."""
        kept = {
            (row, error): seen
            for row, error, seen in self._db.execute(
                "SELECT row, error, seen_at FROM quarantine WHERE binding = ?", (self.binding,)
            )
        }
        self._db.execute("DELETE FROM quarantine WHERE binding = ?", (self.binding,))
        self._quarantine(rows, kept, now)

    def _quarantine(self, rows: Sequence[Quarantined], kept: Mapping[tuple[str, str], int], now: int) -> None:
        self._db.executemany(
            "INSERT INTO quarantine VALUES (?,?,?,?,?,?,?)",
            (
                (
                    self.binding,
                    bad.place,
                    bad.id,
                    bad.row,
                    bad.error,
                    kept.get((bad.row, bad.error), now),
                    encode(bad.hides).decode() if bad.hides else None,
                )
                for bad in rows
            ),
        )


def binding_state(journal: Journal, store: str, type: str) -> BindingState | None:
    """What is known of a type in a store, None if nothing yet."""
    row = journal.connection.execute(
        "SELECT id, mapping, cursor, intents, position, noted FROM binding WHERE store = ? AND type = ?",
        (store, type),
    ).fetchone()
    if row is None:
        return None
    id, mapping, cursor, intents, position, noted = row
    return BindingState(
        id, mapping and decode(mapping), cursor, tuple(decode(intents)) if intents else (), position, noted
    )


def ensure_binding(journal: Journal, store: str, type: str) -> BindingState:
    """The same, entered if it is new; inside `write`."""
    found = binding_state(journal, store, type)
    if found is None:
        journal.connection.execute("INSERT INTO binding (store, type) VALUES (?, ?)", (store, type))
        found = binding_state(journal, store, type)
        assert found is not None
    return found


def set_mapping(journal: Journal, binding: int, mapping: Mapping[str, Any]) -> None:
    """The mapping that was used, inside `write`."""
    journal.connection.execute(
        "UPDATE binding SET mapping = ? WHERE id = ?", (encode(mapping).decode(), binding)
    )


def look_at_all(journal: Journal, binding: int, type: str) -> None:
    """The next replay is to look at every record, since another filter or direction may call for something else
    in the store; inside `write`."""
    journal.connection.execute(
        "INSERT OR IGNORE INTO pending SELECT DISTINCT ?, key FROM event WHERE type = ? AND op <> 'read'",
        (binding, journal.known_name(type)),
    )
    journal.connection.execute(
        "UPDATE replica SET in_line = 0 WHERE binding = ? AND content IS NOT NULL", (binding,)
    )


def add_intent(journal: Journal, state: BindingState, until: int) -> None:
    """A write towards position `until` begins, inside `write`."""
    if until not in state.intents:
        journal.connection.execute(
            "UPDATE binding SET intents = ? WHERE id = ?",
            (encode([*state.intents, until]).decode(), state.id),
        )


def clear_intents(journal: Journal, binding: int) -> None:
    """No write is under way any more, inside `write`."""
    journal.connection.execute("UPDATE binding SET intents = NULL WHERE id = ?", (binding,))


def set_noted(journal: Journal, binding: int, number: int) -> None:
    """The store's note of this number is remembered, inside `write`."""
    journal.connection.execute("UPDATE binding SET noted = ? WHERE id = ?", (number, binding))


def set_mark(journal: Journal, binding: int, mark: str | None) -> None:
    """What the store was like when all that is known of it was read, inside `write`."""
    journal.connection.execute("UPDATE binding SET mark = ? WHERE id = ?", (mark, binding))


def mark_of(journal: Journal, binding: int) -> str | None:
    """The same, as it was set; None if it does not hold any more."""
    found: str | None = journal.connection.execute(
        "SELECT mark FROM binding WHERE id = ?", (binding,)
    ).fetchone()[0]
    return found


def set_cursor(journal: Journal, binding: int, position: int) -> None:
    """The binding was replayed up to `position`; inside `write`."""
    journal.connection.execute("UPDATE binding SET cursor = ? WHERE id = ?", (position, binding))


def set_position(journal: Journal, binding: int, position: str | None, *, midway: bool = False) -> None:
    """The store's own feed is journalled up to `position` (None: it is not followed); inside `write`, with the events it
    stands behind. `midway`: what was read of it goes on, and may tell of what we wrote before."""
    db = journal.connection
    db.execute("UPDATE binding SET position = ? WHERE id = ?", (position, binding))
    if position is None:
        db.execute("DELETE FROM written WHERE binding = ?", (binding,))
    elif not midway:
        db.execute(
            "DELETE FROM written WHERE binding = ? AND position <= ?", (binding, position.partition(" ")[0])
        )


def note(journal: Journal, store: str, column: str, value: int) -> None:
    """Set `last_ingest` or `last_replay` of a store, inside `write`."""
    assert column in ("last_ingest", "last_replay")
    journal.connection.execute(
        f"INSERT INTO store (name, {column}) VALUES (?, ?)"
        f" ON CONFLICT (name) DO UPDATE SET {column} = excluded.{column}",
        (store, value),
    )


def only_elsewhere(journal: Journal, type: str, binding: int) -> int:
    """How many records of a type there are that a binding does not hold."""
    return int(
        journal.connection.execute(
            "SELECT count(*) FROM (SELECT max(seq) AS last FROM event WHERE type = ? AND op <> 'read' GROUP BY key)"
            " JOIN event e ON e.seq = last WHERE e.after IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM replica r WHERE r.binding = ? AND r.key = e.key)",
            (journal.known_name(type), binding),
        ).fetchone()[0]
    )


def mapped_fields(journal: Journal) -> dict[tuple[str, str], list[str]]:
    """By which fields each (store, type) was mapped when it was last ingested or replayed."""
    return {
        (store, type): list(decode(mapping)["fields"])
        for store, type, mapping in journal.connection.execute(
            "SELECT store, type, mapping FROM binding WHERE mapping IS NOT NULL"
        )
    }


def frozen_types(journal: Journal, type: str) -> dict[str, str]:
    """The value types of a type's fields, as fixed when they were first seen."""
    return dict(
        journal.connection.execute("SELECT name, value_type FROM field WHERE type = ? ORDER BY name", (type,))
    )


def freeze_types(journal: Journal, type: str, types: Mapping[str, str]) -> None:
    """Fix the value types of these fields, inside `write`."""
    journal.connection.executemany(
        "INSERT INTO field VALUES (?, ?, ?)"
        " ON CONFLICT (type, name) DO UPDATE SET value_type = excluded.value_type"
        " WHERE value_type <> excluded.value_type",
        ((type, name, value_type) for name, value_type in sorted(types.items())),
    )
