"""Checks the chain of a journal: positions without a gap, and every event the one that was journalled.

Events that were written together have all columns in common but a few, and follow each other. SQLite counts whether a
stretch is of that kind, and its creations are hashed in one go; where they are not, or do not hash to
what is stored, the stretch is gone through event by event.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from typing import Any

from evsync.journal import chain

Problem = dict[str, Any]
Progress = Callable[[str, int, int | None], None]

STRETCH = 5_000  # events looked at together

_ALIKE = (
    "op",
    "store",
    "type",
    "after_shape",
    "before_shape",
    "changed",
    "actor",
    "run",
    "observed_at",
)
_EVENTS = (
    "SELECT seq, key, base, occurred_at, after, before, conflict, payload_hash, hash,"
    f" {', '.join(_ALIKE)} FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
)
_COUNTED = (
    "SELECT count(*), max(seq), sum(base IS 0 AND before IS NULL AND conflict IS NULL AND payload_hash IS x''"
    f" AND {' AND '.join(f'{name} IS ?' for name in _ALIKE)}) FROM event WHERE seq BETWEEN ? AND ?"
)
_CREATIONS = "SELECT key, after, occurred_at, hash FROM event WHERE seq BETWEEN ? AND ? ORDER BY seq"
_STRANGE = (KeyError, AttributeError, TypeError, OverflowError, ValueError, struct.error)
"""What comes of hashing a value of a kind that was never written."""


def problem(seq: int, kind: str, detail: str) -> Problem:
    """One entry of what `verify` tells."""
    return {"seq": seq, "kind": kind, "detail": detail}


def stored_head(db: sqlite3.Connection) -> tuple[int, bytes]:
    """The journal's end, whatever was done to it; no hash if it is not there."""
    row = db.execute("SELECT seq, hash FROM head").fetchone() or (0, b"")
    return row[0] if isinstance(row[0], int) else 0, row[1] if isinstance(row[1], bytes) else b""


def broken(db: sqlite3.Connection, progress: Progress | None = None) -> Iterator[Problem]:
    """Where the chain does not hold: a scan in order of the positions, at constant memory."""
    last, hash = stored_head(db)
    check = _Check(db)
    before_the_first = db.execute("SELECT 1 FROM event WHERE seq < 1 LIMIT 1").fetchone() is not None
    position = -(2**63) if before_the_first else 0
    while True:
        if position == check.expected - 1 and check.creations():
            position = check.expected - 1
        elif rows := db.execute(_EVENTS, (position, STRETCH)).fetchall():
            for row in rows:
                yield from check.event(row)
            position = rows[-1][0]
        else:
            break
        if progress:
            progress("checking the chain", position, last)
    if check.expected - 1 < last:
        count = last - check.expected + 1
        yield problem(check.expected, "missing", f"the last {count} event{'' if count == 1 else 's'} removed")
    elif check.previous != hash or check.expected - 1 != last:
        yield problem(last, "head", "the head is not the hash of the last event")


class _Check:
    """Where the check stands: the next position, the hash and the time of the event before it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.expected, self.previous, self._time = 1, chain.GENESIS, 0
        self._db = db
        self._names = dict(db.execute("SELECT id, name FROM name"))
        self._digests: dict[int | None, bytes | None] = {None: None}
        self._digests |= {
            id: chain.shape_digest(text) for id, text in db.execute("SELECT id, fields FROM shape")
        }
        self._prefixes: dict[tuple[Any, ...], bytes] = {}

    def creations(self) -> bool:
        """Go on over the next stretch, if it is nothing but creations written together and all is well with them."""
        first, end = self.expected, self.expected + STRETCH - 1
        alike = self._db.execute(f"SELECT {', '.join(_ALIKE)} FROM event WHERE seq = ?", (first,)).fetchone()
        if alike is None or not isinstance(alike[-1], int) or alike[-1] < self._time:
            return False
        count, last, fitting = self._db.execute(_COUNTED, (*alike, first, end)).fetchone()
        if not count == fitting == last - first + 1:
            return False
        rows = self._db.execute(_CREATIONS, (first, end)).fetchall()
        try:
            hashes = chain.link_creations(
                self.previous, self._prefix(alike), first, [row[:3] for row in rows]
            )
            if any(hash != row[3] for hash, row in zip(hashes, rows, strict=True)):
                return False
        except _STRANGE:
            return False
        self.expected, self.previous, self._time = last + 1, rows[-1][3], alike[-1]
        return True

    def event(self, row: tuple[Any, ...]) -> Iterator[Problem]:
        """Go on over one event."""
        seq, key, base, occurred_at, after, before, conflict, payload_stored, stored = row[:9]
        alike = row[9:]
        if seq != self.expected:
            gap = (
                f"event {self.expected}"
                if seq == self.expected + 1
                else f"events {self.expected} to {seq - 1}"
            )
            yield problem(self.expected, "missing", f"{gap} removed")
        self.expected = seq + 1
        try:
            payload = chain.payload_hash(_bytes(before), _bytes(after), _bytes(conflict))
            entered = payload if payload_stored == b"" else payload_stored
            computed = chain.link(
                self.previous, self._prefix(alike), seq, base, key.encode(), occurred_at, entered
            )
        except _STRANGE as error:
            yield problem(seq, "altered", f"a column holds what was never written: {error!r}")
        else:
            if payload != entered:
                yield problem(seq, "altered", "the payload is not the one that was journalled")
            if computed != stored:
                yield problem(
                    seq,
                    "altered",
                    "the event is not the one that was journalled behind its predecessor: altered, inserted or reordered",
                )
        observed_at = alike[-1]
        if isinstance(observed_at, int):
            if observed_at < self._time:
                yield problem(seq, "time", "observed before its predecessor")
            self._time = observed_at
        self.previous = stored  # go on from what is stored, so that one break is told once

    def _prefix(self, alike: tuple[Any, ...]) -> bytes:
        prefix = self._prefixes.get(alike)
        if prefix is None:
            if len(self._prefixes) > 10_000:
                self._prefixes.clear()
            op, store, type, after_shape, before_shape, changed, actor, run, observed_at = alike
            prefix = self._prefixes[alike] = chain.entry_prefix(
                op,
                self._names[store],
                self._names[type],
                self._digests[after_shape],
                self._digests[before_shape],
                self._digests[changed],
                actor,
                run,
                observed_at,
            )
        return prefix


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()
