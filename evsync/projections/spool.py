"""Rows put in order of their keys on disk: an external merge sort, at a memory that does not grow.

Rows are tuples whose first member is the key, a text. They are gathered into runs, each sorted and written
away; closing merges the runs into one sequence and finds keys that stand twice. Few rows never reach a disk.
"""

from __future__ import annotations

import heapq
import marshal
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import IO, Any

Row = tuple[Any, ...]

RUN = 25_000  # rows sorted in memory at once
BLOCK = 250  # rows read back at once, of each run

_key = itemgetter(0)


class Doubled(Exception):
    """A key that stands twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Spool:
    """Rows to be read back in order of their keys. `add` them, `close` it, iterate; `discard` it in the end."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._runs: list[IO[bytes]] = []
        self._merged: IO[bytes] | None = None
        self.count = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows in any order."""
        self._rows.extend(rows)
        if len(self._rows) >= RUN:
            self._spill()

    def close(self) -> None:
        """All rows are in. Raises Doubled."""
        if not self._runs:
            self._rows.sort(key=_key)
            self.count = len(self._rows)
            for _ in _without_doubles(self._rows):
                pass
            return
        self._spill()
        merged = heapq.merge(*map(_read, self._runs), key=_key)
        self._merged = _file()
        self.count = _write(self._merged, _without_doubles(merged))
        for run in self._runs:
            run.close()
        self._runs = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows) if self._merged is None else _read(self._merged)

    def discard(self) -> None:
        """Let go of everything."""
        for file in (*self._runs, self._merged):
            if file is not None:
                file.close()
        self._rows, self._runs, self._merged = [], [], None

    def _spill(self) -> None:
        if self._rows:
            self._rows.sort(key=_key)
            run = _file()
            self._runs.append(run)
            _write(run, self._rows)
            self._rows = []


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="evsync-")


def _write(file: IO[bytes], rows: Iterable[Row]) -> int:
    """Blocks of rows, each behind its length in bytes; the last, if only an empty one, is shorter and tells the end."""
    count = 0
    rows = iter(rows)
    while True:
        block = list(islice(rows, BLOCK))
        data = marshal.dumps(block)
        file.write(len(data).to_bytes(8, "big"))
        file.write(data)
        count += len(block)
        if len(block) < BLOCK:
            return count


def _read(file: IO[bytes]) -> Iterator[Row]:
    file.seek(0)
    while True:
        size = int.from_bytes(file.read(8), "big")
        block = marshal.loads(file.read(size))  # noqa: S302  (a nameless file that nobody else can write)
        yield from block
        if len(block) < BLOCK:
            return


def _without_doubles(rows: Iterable[Row]) -> Iterator[Row]:
    last = None
    for row in rows:
        if row[0] == last:
            raise Doubled(row[0])
        last = row[0]
        yield row
