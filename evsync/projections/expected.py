"""What is known of records, looked up ahead of them: stores mostly show their records in the order they had before."""

from __future__ import annotations

from collections.abc import Sequence

from evsync.projections.replicas import Replicas

Known = tuple[int, bytes | None, int | str | None]
"""Row number, fingerprint and id of a replica."""

BATCH = 4_000  # replicas read ahead at once
MOST = 8  # among so many replicas of other stores they are not looked for
KEPT = 20_000  # replicas read ahead that have not been asked for


class Expected:
    """Answers what `Replicas.fingerprints` answers, for most keys without a look-up of their own: replicas are read
    in the order in which they were made. When that turns out not to be the store's order, it is given up."""

    def __init__(self, replicas: Replicas, known: int, last_row: int) -> None:
        """`known`: how many replicas there are of this store; `last_row`: how many of all stores, roughly."""
        self._replicas = replicas
        self._ahead: dict[str, Known] = {}
        self._last = -1
        self._more = known * MOST >= last_row

    def fingerprints(self, keys: Sequence[str]) -> dict[str, Known]:
        """The replicas of these keys, each asked for once."""
        ahead = self._ahead
        while self._more and len(ahead) < len(keys):
            self._read_on()
        found = {}
        missing = []
        for key in keys:
            known = ahead.pop(key, None)
            if known is None:
                missing.append(key)
            else:
                found[key] = known
        if missing:
            found.update(self._replicas.fingerprints(missing))
        if len(ahead) > KEPT:
            self._more = False
            ahead.clear()
        return found

    def _read_on(self) -> None:
        rows = self._replicas.following(self._last, BATCH)
        self._more = len(rows) == BATCH
        if rows:
            self._last = rows[-1][0]
            self._ahead.update({key: (row, fingerprint, id) for row, key, fingerprint, id in rows})
