"""What a store really holds, under canonical keys: for `diff` and `replay --rebuild`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from evsync.errors import DuplicateKey
from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.reader import BadRow, Reader, id_beside
from evsync.projections.references import reader_of
from evsync.projections.replicas import BindingState, Replicas
from evsync.projections.staging import batches, called_now
from evsync.store import Store
from evsync.values import decode, encode


class Content(NamedTuple):
    """A record as a store holds it."""

    key: str
    id: int | str | None
    fields: Fields
    fingerprint: bytes


def load_contents(
    journal: Journal,
    store: Store,
    type: str,
    state: BindingState | None,
    table: str,
    *,
    to_come: bool = False,
) -> tuple[Reader, int]:
    """Read `type` of `store` into a temporary table; answers with the reader and the number of rows that
    cannot be read. `to_come`: there is nothing to read so far. Raises StoreError."""
    accessor, reader = store.accessor(type), reader_of(journal, store, type)
    replicas = Replicas(journal, -1 if state is None else state.id)
    db = journal.connection
    db.execute(f"DROP TABLE IF EXISTS temp.{table}")
    db.execute(f"CREATE TEMP TABLE {table} (key TEXT NOT NULL, id, names TEXT, text TEXT, fingerprint BLOB)")
    has_ids = replicas.has_ids()
    bad = 0
    for rows in () if to_come else batches(accessor, reader, store, type):
        records = []
        for row in rows:
            try:
                records.append(reader.read(row))
            except BadRow:
                bad += 1
        called = replicas.by_id([r.key if r.id is None else r.id for r in records]) if has_ids else {}
        known = [
            (r, r.key if (found := called.get(r.key if r.id is None else r.id)) is None else found.key)
            for r in records
        ]
        db.executemany(
            f"INSERT INTO temp.{table} VALUES (?,?,?,?,?)",
            ((key, id_beside(key, r), encode(r.names).decode(), r.text, r.fingerprint) for r, key in known),
        )
    for name, key in called_now(journal, type, reader, None).items():
        db.execute(
            f"UPDATE temp.{table} SET key = ?, id = coalesce(id, ?) WHERE key = ?"
            f" AND NOT EXISTS (SELECT 1 FROM temp.{table} WHERE key = ?)",
            (key, name, name, key),
        )
    try:
        db.execute(f"CREATE UNIQUE INDEX temp.{table}_key ON {table} (key)")
    except sqlite3.IntegrityError:
        raise DuplicateKey(
            f"store {store.name!r}, type {type!r}: two records have one key",
            f"evsync ingest {store.name} names them",
        ) from None
    return reader, bad


def contents(journal: Journal, table: str) -> Iterator[Content]:
    """What was loaded, in order of the keys."""
    for key, id, names, text, fingerprint in journal.connection.execute(
        f"SELECT key, id, names, text, fingerprint FROM temp.{table} ORDER BY key"
    ):
        yield Content(key, id, dict(zip(decode(names), decode(text), strict=True)), fingerprint)


def content_of(journal: Journal, table: str, keys: list[str]) -> dict[str, Content]:
    """What was loaded under these keys."""
    marks = ",".join("?" * len(keys))
    return {
        key: Content(key, id, dict(zip(decode(names), decode(text), strict=True)), fingerprint)
        for key, id, names, text, fingerprint in journal.connection.execute(
            f"SELECT key, id, names, text, fingerprint FROM temp.{table} WHERE key IN ({marks})",
            keys,
        )
    }
