"""Entering records that nobody knew, as in a first ingest: while one batch is written the next one is hashed.

What decides is left out: a record that nobody knew is created as it was found. Should anybody else write to the journal
in between, that may no longer be so, and the rest goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import itemgetter
from typing import Any

from evsync.journal.creations import Linked
from evsync.journal.event import Head, Shape
from evsync.journal.journal import Journal, clock
from evsync.projections.replicas import Replicas

Row = tuple[Any, ...]
"""One row of what was staged, in the order of `ingest.Found`."""


_LINKED = itemgetter(0, 3, 5)  # key, payload, when it changed
_SPECIAL = itemgetter(2, 6)  # names of its fields, if not all; who changed it
_ID = itemgetter(1)
_FINGERPRINT = itemgetter(4)


class Creating:
    """Takes batches of what was staged. `head`: the journal's end, behind which nobody knows any of the records."""

    def __init__(
        self, journal: Journal, replicas: Replicas, head: Head, shape: Shape, store: str, type: str, run: int
    ) -> None:
        self.head = head
        self.created = 0
        self._journal, self._replicas = journal, replicas
        self._shape, self._store, self._type, self._run = shape, store, type, run
        self._thread = ThreadPoolExecutor(1, "evsync-journal")
        self._writing: Future[bool] | None = None
        self._rows: Sequence[Row] = ()

    def take(self, rows: Sequence[Row]) -> list[Row]:
        """Enter these; answers with those that were not, and are to be entered the ordinary way. Raises JournalError."""
        if set(map(_SPECIAL, rows)) != {(None, None)}:
            return [*self.wait(), *rows]  # some lack a field, or somebody is known to have changed them
        now = max(clock(), self.head.observed_at)
        creations = self._journal.creations(self._store, self._type, self._shape, self._run, now)
        linked = creations.link(self.head._replace(observed_at=now), list(map(_LINKED, rows)))
        left = self.wait()
        if left:
            return [*left, *rows]
        self._writing = self._thread.submit(self._write, self.head, linked, rows)
        self._rows, self.head = rows, linked.head
        return []

    def wait(self) -> Sequence[Row]:
        """Wait until all is written; answers with what was not, since somebody else wrote to the journal before."""
        if self._writing is None:
            return ()
        writing, self._writing = self._writing, None
        if not writing.result():
            return self._rows
        self.created += len(self._rows)
        return ()

    def close(self) -> int:
        """Let go of the thread, once it is done; answers with how many were created, once."""
        self._thread.shutdown()
        writing, self._writing = self._writing, None
        if writing is not None and writing.exception() is None and writing.result():
            self.created += len(self._rows)  # reading broke off meanwhile
        created, self.created = self.created, 0
        return created

    def _write(self, head: Head, linked: Linked, rows: Sequence[Row]) -> bool:
        with self._journal.write():
            if not self._journal.append_linked(head, linked):
                return False
            if set(map(_ID, rows)) != {None}:
                self._replicas.add(
                    [(row[0], seq, row[4], row[1]) for seq, row in enumerate(rows, head.seq + 1)]
                )
            else:
                prints = b"".join(map(_FINGERPRINT, rows))
                self._replicas.add_created(head.seq + 1, linked.head.seq, prints)
        return True
