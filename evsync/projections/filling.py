"""The first replay into a store that holds nothing yet: records go there in whole batches, unplanned.

There is nothing to compare and nothing to overwrite, so it is enough to write what each record is, in the order of
the journal. Whatever is not that simple (a record that the store refuses, one that lacks a field, one whose key field was
changed since it was first seen) is left to the ordinary way, which is told its key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from evsync.accessor import Load
from evsync.binding import Binding
from evsync.data import join_key
from evsync.journal.event import Shape
from evsync.journal.journal import Journal
from evsync.projections.reader import Reader, key_text
from evsync.values import decode, encode

BATCH = 10_000  # records written at once, at most
CHARACTERS = 4_000_000  # of payloads, about as many as are written at once
FIRST = 1_000  # records in the first batch, as nobody knows yet how large they are

Heads = Sequence[tuple[str, int, int, str]]
"""(key, seq, shape, payload) of the last revision of each record that exists."""


class Filled(NamedTuple):
    """A batch: what the replicas are to remember of what was written (see `Replicas.add`), and the keys of the rest."""

    remember: list[tuple[str, int, bytes | None, int | str | None]]
    rest: list[str]


def is_simple(binding: Binding) -> bool:
    """Whether every record of the type belongs in the store just as its fields stand in the journal."""
    return not (
        binding.where is not None
        or binding.convert
        or binding.translated
        or binding.unwritten
        or binding.write_only
        or binding.strange
    )


def batches(journal: Journal, type: int, until: int) -> Iterator[Heads]:
    """The records of a type as they are at position `until`, in order of their last events."""
    last, count = 0, min(BATCH, FIRST)
    while found := journal.connection.execute(
        "SELECT key, seq, after_shape, after FROM event e WHERE seq > ? AND seq <= ? AND +type = ?"
        " AND op <> 'read' AND after IS NOT NULL AND NOT EXISTS (SELECT 1 FROM event later"
        " WHERE later.type = e.type AND later.key = e.key AND later.op <> 'read'"
        " AND later.seq > e.seq AND later.seq <= ?) ORDER BY seq LIMIT ?",
        (last, until, type, until, count),
    ).fetchall():
        last = found[-1][1]
        characters = sum(len(head[3]) for head in found)
        count = max(1, min(BATCH, CHARACTERS * len(found) // max(1, characters)))
        yield found


class Filling:
    """Writes batches of records by `load`."""

    def __init__(self, journal: Journal, reader: Reader, load: Load) -> None:
        self._journal, self._reader, self._load = journal, reader, load
        self._names = reader.binding.names
        types = {field.name: field.type for field in reader.binding.fields}
        self._key_at = [(self._names.index(name), types[name]) for name in reader.binding.key]

    def write(self, heads: Heads) -> Filled:
        """Write a batch, all of it that is plain."""
        shape = heads[0][2]
        if not all(head[2] == shape for head in heads):
            parts = [self.write([h for h in heads if h[2] == one]) for one in sorted({h[2] for h in heads})]
            return Filled(
                [r for part in parts for r in part.remember], [k for part in parts for k in part.rest]
            )
        names = self._journal.shape_of(shape).names
        texts = [head[3] for head in heads]
        rows = decode(f"[{','.join(texts)}]")
        if names != self._names:
            at = _positions(self._journal.shape_of(shape), self._names)
            if at is None:
                return Filled([], [head[0] for head in heads])
            rows = [[row[i] for i in at] for row in rows]
            texts = [encode(row).decode() for row in rows]
        called = [join_key([key_text(kind, row[at]) for at, kind in self._key_at]) for row in rows]
        rest = [head[0] for head, key in zip(heads, called, strict=True) if head[0] != key]
        if rest:  # the store calls them otherwise, which is to be remembered
            plain = [head[0] == key for head, key in zip(heads, called, strict=True)]
            heads, rows, texts = (list(compress(each, plain)) for each in (heads, rows, texts))
        if not heads:
            return Filled([], rest)
        prints = self._reader.fingerprints(texts)
        if not self._load(self._reader.typed(rows)):
            return Filled([], [*rest, *(head[0] for head in heads)])
        return Filled(
            [(head[0], head[1], print_, None) for head, print_ in zip(heads, prints, strict=True)], rest
        )


def _positions(shape: Shape, names: Sequence[str]) -> list[int] | None:
    """Where in a payload the values of these fields stand; None if it lacks one."""
    return [shape.names.index(name) for name in names] if set(names) <= set(shape.names) else None
