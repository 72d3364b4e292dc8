"""Entering records that nobody knew, as in a first ingest: while one batch is written the next one is hashed.

What decides is left out: a record that nobody knew is created as it was found. Should anybody else write to the journal
in between, that may no longer be so, and the rest goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from evsync.journal.event import Head, Shape
from evsync.journal.journal import Journal, Linked, clock
from evsync.projections.replicas import Replicas

Row = tuple[Any, ...]
"""One row of what was staged, in the order of `ingest.Found`."""


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
        if not all(row[2] is None and row[3] is not None and row[6] is None for row in rows):
            return [*self.wait(), *rows]  # some lack a field, or somebody is known to have changed them
        now = max(clock(), self.head.observed_at)
        creations = self._journal.creations(self._store, self._type, self._shape, self._run, now)
        linked = creations.link(
            self.head._replace(observed_at=now), [(row[0], row[3], row[5]) for row in rows]
        )
        replicas: list[Any] = []
        for seq, row in enumerate(rows, self.head.seq + 1):
            replicas += (row[0], seq, row[4], row[1])
        left = self.wait()
        if left:
            return [*left, *rows]
        self._writing = self._thread.submit(self._write, self.head, linked, replicas)
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

    def close(self) -> None:
        """Let go of the thread, once it is done."""
        self._thread.shutdown()

    def _write(self, head: Head, linked: Linked, replicas: Sequence[Any]) -> bool:
        with self._journal.write():
            if not self._journal.append_linked(head, linked):
                return False
            self._replicas.add_flat(replicas)
        return True
