"""What is in the way of a sync: records that could not be written, rows that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from evsync.journal.journal import Journal
from evsync.values import decode, moment


def failures(journal: Journal, store: str | None = None) -> Iterator[dict[str, Any]]:
    """The documents of `evsync failures`: by store, type and key."""
    for *row, next_try, state in _rows(
        journal, "failure", "x.key, x.seq, x.action, x.error, x.attempts, x.next_try, x.state", store, "x.key"
    ):
        names = ("store", "type", "key", "seq", "action", "error", "attempts")
        yield {**dict(zip(names, row, strict=True)), "next_try": moment(next_try), "state": state}


def quarantined(journal: Journal, store: str | None = None) -> Iterator[dict[str, Any]]:
    """The documents of `evsync quarantine`: by store and type, in order of where the rows were found."""
    for in_store, type, id, row, error, seen_at in _rows(
        journal, "quarantine", "x.id, x.row, x.error, x.seen_at", store, "x.rowid"
    ):
        yield {
            "store": in_store,
            "type": type,
            "id": id,
            "row": decode(row),
            "error": error,
            "seen_at": moment(seen_at),
        }


def quarantined_as(
    journal: Journal,
    store: str,
    type: str,
    key: str,
    id: int | str | None,
    key_of: Callable[[dict[str, Any]], str | None],
) -> Iterator[str]:
    """Why rows of a store that are, or may be, this record could not be read. `id`: what the store calls it;
    `key_of`: the key that stands in a raw row, if one does."""
    for row_id, row, hides, error in journal.connection.execute(
        "SELECT x.id, x.row, x.hides, x.error FROM quarantine x JOIN binding b ON b.id = x.binding"
        " WHERE b.store = ? AND b.type = ? ORDER BY x.rowid",
        (store, type),
    ):
        if (
            (row_id is not None and str(row_id) == str(key if id is None else id))
            or (hides is not None and key in decode(hides))
            or key_of(decode(row)) == key
        ):
            yield error


def _rows(
    journal: Journal, table: str, columns: str, store: str | None, order: str
) -> Iterator[tuple[Any, ...]]:
    # Not `yield from`: left open, that would close the cursor, and fail where the journal is closed already.
    return journal.connection.execute(
        f"SELECT b.store, b.type, {columns} FROM {table} x JOIN binding b ON b.id = x.binding"
        f" WHERE ?1 IS NULL OR b.store = ?1 ORDER BY b.store, b.type, {order}",
        (store,),
    )
