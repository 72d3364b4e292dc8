"""Many creations at once: linked to the chain without touching the journal, then inserted by a few large statements.

While SQLite works through a statement another thread can go on, so the fewer there are the better.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain as flat
from itertools import count
from typing import Any, NamedTuple

from evsync.journal import chain
from evsync.journal.event import Head

ROWS = 500  # rows inserted by one statement; the longer it is, the slower SQLite prepares it


class Linked(NamedTuple):
    """Creations with their positions and hashes, ready to be inserted: the values of all rows in one sequence,
    the statement, what it says for one row, how many values that takes, and the head behind them."""

    values: list[Any]
    insert: str
    mark: str
    width: int
    head: Head

    def insert_into(self, connection: sqlite3.Connection) -> None:
        """Insert them, inside a write transaction."""
        insert_many(connection, self.insert, self.mark, self.width, self.values, [self.head.observed_at])


class Creations:
    """Links creations of one store, type and shape to the chain: no I/O. `prefix`: see chain.entry_prefix; `constants`:
    the same columns as SQL literals."""

    def __init__(self, prefix: bytes, constants: Mapping[str, str]) -> None:
        # Only the time differs from batch to batch: as a parameter it leaves the statement prepared.
        constants = {
            "observed_at": "?1",
            **{name: constants[name] for name in constants if name != "observed_at"},
        }
        self._prefix = prefix
        names = ", ".join(constants)
        self._insert = f"INSERT INTO event ({names}, base, seq, key, occurred_at, after, hash) VALUES "
        self._mark = f"({', '.join(constants.values())}, 0, ?,?,?,?,?)"

    def link(self, head: Head, events: Sequence[tuple[str, str, int | None]]) -> Linked:
        """Link (key, payload, occurred_at) of each to `head`, observed when that was."""
        first = head.seq + 1
        hashes = list(chain.link_creations(head.hash, self._prefix, first, events))
        keys, payloads, moments = zip(*events, strict=True)
        rows = zip(count(first), keys, moments, payloads, hashes, strict=False)
        values = list(flat.from_iterable(rows))
        last = Head(head.seq + len(events), hashes[-1], head.observed_at)
        return Linked(values, self._insert, self._mark, 5, last)


def insert_many(
    connection: sqlite3.Connection,
    insert: str,
    mark: str,
    width: int,
    values: Sequence[Any],
    constants: Sequence[Any] = (),
) -> None:
    """Insert rows by statements of many rows each. `values`: those of all rows, one after the other; `width`: how many each
    row has; `constants`: the values of `?1`, `?2` …, the same in every row."""
    limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - len(constants)
    most = min(ROWS, limit // width)
    full = insert + ",".join([mark] * most)
    for start in range(0, len(values), most * width):
        some = values[start : start + most * width]
        rows = len(some) // width
        statement = full if rows == most else insert + ",".join([mark] * rows)
        connection.execute(statement, [*constants, *some] if constants else some)
