"""Checks the journal against itself: chain, positions, fold, and what it knows of the stores."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from evsync.journal import chain
from evsync.journal.journal import Journal
from evsync.values import ABSENT, decode, same

Problem = dict[str, Any]
Progress = Callable[[str, int, int | None], None]

MOST = 100  # problems told; one altered event early on can break everything behind it


def verify(journal: Journal, progress: Progress | None = None) -> dict[str, Any]:
    """The document of `evsync verify`. One scan in order of the positions, at constant memory."""
    problems: list[Problem] = []
    for check in (_chain, _fold, _replicas):
        for problem in check(journal, progress):
            problems.append(problem)
            if len(problems) >= MOST:
                break
    events = journal.connection.execute("SELECT count(*) FROM event").fetchone()[0]
    seq, hash = _head(journal)
    return {
        "ok": not problems,
        "events": events,
        "head": seq,
        "hash": hash.hex(),
        "problems": problems[:MOST],
    }


def _problem(seq: int, kind: str, detail: str) -> Problem:
    return {"seq": seq, "kind": kind, "detail": detail}


def _head(journal: Journal) -> tuple[int, bytes]:
    """The journal's end, whatever was done to it; no hash if it is not there."""
    row = journal.connection.execute("SELECT seq, hash FROM head").fetchone() or (0, b"")
    return row[0] if isinstance(row[0], int) else 0, row[1] if isinstance(row[1], bytes) else b""


def _chain(journal: Journal, progress: Progress | None) -> Iterator[Problem]:
    """Positions without a gap, payloads and entries that hash to what is stored, times that never decrease."""
    db = journal.connection
    last, hash = _head(journal)
    names = dict(db.execute("SELECT id, name FROM name"))
    digests: dict[int | None, bytes | None] = {None: None}
    digests |= {id: chain.shape_digest(text) for id, text in db.execute("SELECT id, fields FROM shape")}
    previous, expected, time = chain.GENESIS, 1, 0
    prefixes: dict[tuple[Any, ...], bytes] = {}  # events written together have nearly all columns in common
    payload_hash, payload_hash_of_after, link = chain.payload_hash, chain.payload_hash_of_after, chain.link
    for row in db.execute(
        "SELECT seq, key, base, occurred_at, after, before, conflict, payload_hash, hash, op, store, type,"
        " after_shape, before_shape, changed, actor, run, observed_at FROM event ORDER BY seq"
    ):
        seq, key, base, occurred_at, after, before, conflict, payload_stored, stored = row[:9]
        alike = row[9:]
        if seq != expected:
            gap = f"event {expected}" if seq == expected + 1 else f"events {expected} to {seq - 1}"
            yield _problem(expected, "missing", f"{gap} removed")
        expected = seq + 1
        try:
            if before is None and conflict is None and after is not None:
                payload = payload_hash_of_after(after.encode())
            else:
                payload = payload_hash(_bytes(before), _bytes(after), _bytes(conflict))
            prefix = prefixes.get(alike)
            if prefix is None:
                if len(prefixes) > 10_000:
                    prefixes.clear()
                prefix = prefixes[alike] = _prefix(alike, names, digests)
            entered = payload if payload_stored == b"" else payload_stored
            computed = link(previous, prefix, seq, base, key.encode(), occurred_at, entered)
        except (KeyError, AttributeError, TypeError, OverflowError, ValueError, struct.error) as error:
            yield _problem(seq, "altered", f"a column holds what was never written: {error!r}")
        else:
            if payload != entered:
                yield _problem(seq, "altered", "the payload is not the one that was journalled")
            if computed != stored:
                yield _problem(
                    seq,
                    "altered",
                    "the event is not the one that was journalled behind its predecessor: altered, inserted or reordered",
                )
        observed_at = alike[-1]
        if isinstance(observed_at, int):
            if observed_at < time:
                yield _problem(seq, "time", "observed before its predecessor")
            time = observed_at
        previous = stored  # go on from what is stored, so that one break is told once
        if progress and seq % 5_000 == 0:
            progress("checking the chain", seq, last)
    if expected - 1 < last:
        count = last - expected + 1
        yield _problem(expected, "missing", f"the last {count} event{'' if count == 1 else 's'} removed")
    elif previous != hash or expected - 1 != last:
        yield _problem(last, "head", "the head is not the hash of the last event")


def _prefix(alike: tuple[Any, ...], names: dict[int, str], digests: dict[int | None, bytes | None]) -> bytes:
    op, store, type, after_shape, before_shape, changed, actor, run, observed_at = alike
    return chain.entry_prefix(
        op,
        names[store],
        names[type],
        digests[after_shape],
        digests[before_shape],
        digests[changed],
        actor,
        run,
        observed_at,
    )


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _fold(journal: Journal, progress: Progress | None) -> Iterator[Problem]:
    """Each event's `before` is what its record was, and its `base` an earlier event of the same record."""
    db = journal.connection
    total, _ = _head(journal)
    record: tuple[int, str] | None = None
    state: dict[str, Any] = {}
    seqs: set[int] = set()
    for (seq,) in db.execute(
        "SELECT seq FROM event NOT INDEXED WHERE op <> 'read'"
        " AND NOT ((after IS NULL OR json_valid(after)) AND (before IS NULL OR json_valid(before)))"
    ):
        yield _problem(seq, "fold", "the payload cannot be read")
    # Of a record that was only created there is nothing else to check.
    for count, (seq, type, key, base, after_shape, after, before_shape, before) in enumerate(
        db.execute(
            "WITH told AS (SELECT type, key FROM event WHERE op <> 'read' GROUP BY type, key HAVING count(*) > 1"
            " UNION SELECT type, key FROM event NOT INDEXED"
            " WHERE op <> 'read' AND (base <> 0 OR before IS NOT NULL))"
            " SELECT e.seq, e.type, e.key, e.base, e.after_shape, e.after, e.before_shape, e.before"
            " FROM told t CROSS JOIN event e INDEXED BY event_record"
            " ON e.type = t.type AND e.key = t.key AND e.op <> 'read' ORDER BY t.type, t.key, e.seq"
        ),
        1,
    ):
        if record != (type, key):
            record, state, seqs = (type, key), {}, set()
        try:
            old = journal.fields(before_shape, before)
            new = journal.fields(after_shape, after)
        except (ValueError, TypeError):
            continue
        if base and base not in seqs:
            yield _problem(seq, "fold", f"its base {base} is no earlier event of {key!r}")
        for name, value in (old or {}).items():
            if not same(state.get(name, ABSENT), value):
                yield _problem(seq, "fold", f"`before` says that {name!r} was otherwise than it was")
                break
        state = new or {}
        seqs.add(seq)
        if progress and count % 5_000 == 0:
            progress("checking the states", count, total)


def _replicas(journal: Journal, progress: Progress | None) -> Iterator[Problem]:
    """What a store is taken to hold rests on an event of that record; no cursor is ahead of the journal."""
    db = journal.connection
    for key, seq, store in db.execute(
        "SELECT r.key, r.seq, b.store FROM replica r JOIN binding b ON b.id = r.binding"
        " LEFT JOIN name n ON n.name = b.type LEFT JOIN event e ON e.seq = r.seq AND e.key = r.key AND e.type = n.id"
        " WHERE r.seq > 0 AND e.seq IS NULL"
    ):
        yield _problem(
            seq, "replica", f"store {store!r} is taken to hold {key!r} at {seq}, which is no event of it"
        )
    for content, store, key in db.execute(
        "SELECT r.content, b.store, r.key FROM replica r JOIN binding b ON b.id = r.binding WHERE r.content IS NOT NULL"
    ):
        try:
            decode(content)
        except ValueError:
            yield _problem(0, "replica", f"what store {store!r} is taken to hold of {key!r} cannot be read")
    for store, cursor in db.execute(
        "SELECT store, cursor FROM binding WHERE cursor > (SELECT seq FROM head)"
    ):
        yield _problem(
            cursor, "cursor", f"store {store!r} was replayed up to {cursor}, behind the journal's end"
        )
