"""A store that is met for the first time, entered while it is read.

There is nothing that it could have lost, so no guard has to see all of it first; and where a scan shows one state of
the store (see Accessor.snapshot), what was read is true even if the rest cannot be read. Its rows are handed on as
they come, for as long as they come in order of their keys: then none stands twice. From the first batch on that is not in
order, the rest is put in order before it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import lt
from typing import Any

from evsync.accessor import Row
from evsync.projections.spool import Order, Spool, places

AHEAD = 5_000
"""Rows that are read before anything is entered. A store of no more, or one not in order, is read through first."""

Found = tuple[Any, ...]
"""What was found, in the order of `ingest.Found`."""


def read_ahead(batches: Iterator[Sequence[Row]]) -> tuple[list[Sequence[Row]], bool]:
    """The first batches, and whether they are more than a store has that is read through first."""
    ahead: list[Sequence[Row]] = []
    rows = 0
    for batch in batches:
        ahead.append(batch)
        rows += len(batch)
        if rows > AHEAD:
            return ahead, True
    return ahead, False


def in_order(places: Sequence[Any], last: Any = None) -> bool:
    """Whether these come one behind the other, and behind `last`."""
    return all(map(lt, places, islice(places, 1, None))) and (
        last is None or not places or bool(last < places[0])
    )


class Stream:
    """A store's rows as they are read, in place of a `Spool`. `read` makes of a batch what is to be entered."""

    def __init__(
        self,
        batches: Iterable[Sequence[Row]],
        read: Callable[[Sequence[Row]], list[Found]],
        order: Order,
    ) -> None:
        self.count: int | None = None  # nobody knows yet
        self.in_order = True
        self._order = order
        self._found = (read(batch) for batch in batches)

    def batches(self, size: int) -> Iterator[list[Found]]:
        """What was found, at least `size` at once where there are as many; once `in_order` is False, each may
        have a key that came before. Raises StoreError if the read breaks off, Doubled."""
        gathered: list[Found] = []
        last = None
        for found in self._found:
            now = places(self._order, found)
            if not in_order(now, last):
                if gathered:
                    yield gathered
                self.in_order = False
                yield from self._rest(found, size)
                return
            last = now[-1] if now else last
            gathered += found
            if len(gathered) >= size:
                yield gathered
                gathered = []
        if gathered:
            yield gathered

    def _rest(self, found: Sequence[Found], size: int) -> Iterator[list[Found]]:
        rest = Spool(self._order)
        try:
            rest.add(found)
            for more in self._found:
                rest.add(more)
            rest.close()
            yield from rest.batches(size)
        finally:
            rest.discard()

    def __iter__(self) -> Iterator[Found]:
        for batch in self.batches(1):
            yield from batch

    def discard(self) -> None:
        """Let go of the store."""
        self._found.close()
