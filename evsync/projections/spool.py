"""Rows put in order of their keys on disk: an external merge sort, at a memory that does not grow.

Rows are tuples whose first member is the key, a text. They are gathered into runs, each sorted and written
away; closing merges the runs into one sequence and finds keys that stand twice. Few rows never reach a disk, and
rows that come in order are not written a second time.
"""

from __future__ import annotations

import heapq
import marshal
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from operator import itemgetter
from os import SEEK_END
from typing import IO, Any

Row = tuple[Any, ...]

RUN = 25_000  # rows sorted in memory at once
BLOCK = 250  # rows read back at once, of each run

_BEHIND = 1 << 20_000  # no key that can be a number is longer than 4,300 digits

Order = Callable[[Row], Any]
"""What rows are sorted by: their keys, or what these stand for."""

by_text: Order = itemgetter(0)


def by_number(row: Row) -> int:
    """The order of keys that are whole numbers; behind them what is none, as keys may be older than their type."""
    key: str = row[0]
    try:
        number = int(key)
    except ValueError:
        return _BEHIND + int.from_bytes(key.encode(), "big")
    return number if str(number) == key else _BEHIND + int.from_bytes(key.encode(), "big")


def places(order: Order, rows: Sequence[Row]) -> list[Any]:
    """Where rows stand in the order."""
    keys = [row[0] for row in rows]
    if order is by_text:
        return keys
    try:
        numbers = list(map(int, keys))
    except ValueError:
        return list(map(order, rows))
    return numbers if list(map(str, numbers)) == keys else list(map(order, rows))


class Doubled(Exception):
    """A key that stands twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Spool:
    """Rows to be read back in order of their keys. `add` them, `close` it, iterate; `discard` it in the end."""

    def __init__(self, order: Order = by_text) -> None:
        self._order = order
        self._rows: list[Row] = []
        self._file: IO[bytes] | None = None
        # Where each run begins; its first and last place in the order.
        self._runs: list[tuple[int, Any, Any]] = []
        self._sorted: list[int] = []  # where the runs begin that make up the sequence
        self._double: str | None = None
        self.count = 0
        self.in_order = True

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows in any order."""
        self._rows.extend(rows)
        if len(self._rows) >= RUN:
            self._spill()

    def close(self) -> None:
        """All rows are in. Raises Doubled."""
        try:
            self._close()
        except Doubled:
            self.discard()
            raise

    def _close(self) -> None:
        if self._runs:
            self._spill()
        else:
            self._sort()
        if self._double is not None:
            raise Doubled(self._double)
        if not self._runs:
            self.count = len(self._rows)
            return
        assert self._file is not None
        if all(one[2] < other[1] for one, other in pairwise(self._runs)):
            self._sorted = [start for start, _, _ in self._runs]
        else:
            runs = self._file
            merged = heapq.merge(*(_read(runs, start) for start, _, _ in self._runs), key=self._order)
            with runs:
                self._file = _file()
                self._sorted = [0]
                self.count = _write(self._file, _without_doubles(merged))
        self._runs = []

    def __iter__(self) -> Iterator[Row]:
        file = self._file
        if file is None:
            return iter(self._rows)
        return chain.from_iterable(_read(file, start) for start in self._sorted)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """The rows, `size` of them at once but for the last."""
        rows = iter(self)
        while batch := list(islice(rows, size)):
            yield batch

    def discard(self) -> None:
        """Let go of everything."""
        if self._file is not None:
            self._file.close()
        self._rows, self._runs, self._sorted, self._file = [], [], [], None

    def _sort(self) -> None:
        self._rows.sort(key=self._order)
        for one, other in pairwise(map(by_text, self._rows)):
            if one == other:
                self._double = one

    def _spill(self) -> None:
        if self._rows:
            self._sort()
            if self._file is None:
                self._file = _file()
            start = self._file.seek(0, SEEK_END)
            self._runs.append((start, self._order(self._rows[0]), self._order(self._rows[-1])))
            self.count += _write(self._file, self._rows)
            self._rows = []


def _file() -> IO[bytes]:
    import tempfile  # few stores are so large

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


def _read(file: IO[bytes], at: int) -> Iterator[Row]:
    """The rows of the run that begins there. Runs share the file: each finds its place anew."""
    while True:
        file.seek(at)
        size = int.from_bytes(file.read(8), "big")
        block = marshal.loads(file.read(size))  # noqa: S302  (a nameless file that nobody else can write)
        at += 8 + size
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
