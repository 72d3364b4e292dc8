"""Checks the journal against itself: chain, positions, fold, and what it knows of the stores."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Any

from evsync.journal.journal import Journal
from evsync.journal.unbroken import Problem, Progress, broken, problem, stored_head
from evsync.values import ABSENT, decode, same

MOST = 100  # problems told; one altered event early on can break everything behind it


def verify(journal: Journal, progress: Progress | None = None) -> dict[str, Any]:
    """The document of `evsync verify`. The chain is hashed by this thread; what is mostly SQLite's work is asked by
    another one meanwhile, in a connection of its own."""
    with ThreadPoolExecutor(1, "evsync-verify") as thread:
        states: Future[list[Problem]] | None = None
        if journal.path is not None and not journal.connection.in_transaction:
            states = thread.submit(_states_of, journal)
        with journal.reading():  # others may write meanwhile
            problems = list(islice(broken(journal.connection, progress), MOST))
            events = journal.connection.execute("SELECT count(*) FROM event").fetchone()[0]
            seq, hash = stored_head(journal.connection)
        problems += list(islice(_states(journal), MOST)) if states is None else states.result()
    return {
        "ok": not problems,
        "events": events,
        "head": seq,
        "hash": hash.hex(),
        "problems": problems[:MOST],
    }


def _states_of(journal: Journal) -> list[Problem]:
    assert journal.path is not None
    with Journal.open(journal.path, create=False) as other:
        return list(islice(_states(other), MOST))


def _states(journal: Journal) -> Iterator[Problem]:
    return chain(_fold(journal), _replicas(journal))


def _fold(journal: Journal) -> Iterator[Problem]:
    """Each event's `before` is what its record was, and its `base` an earlier event of the same record."""
    db = journal.connection
    record: tuple[int, str] | None = None
    state: dict[str, Any] = {}
    seqs: set[int] = set()
    for (seq,) in db.execute(
        "SELECT seq FROM event NOT INDEXED WHERE op <> 'read'"
        " AND NOT ((after IS NULL OR json_valid(after)) AND (before IS NULL OR json_valid(before)))"
    ):
        yield problem(seq, "fold", "the payload cannot be read")
    # Of a record that was only created there is nothing else to check.
    for seq, type, key, base, after_shape, after, before_shape, before in db.execute(
        "WITH told AS (SELECT type, key FROM event WHERE op <> 'read' GROUP BY type, key HAVING count(*) > 1"
        " UNION SELECT type, key FROM event NOT INDEXED"
        " WHERE op <> 'read' AND (base <> 0 OR before IS NOT NULL))"
        " SELECT e.seq, e.type, e.key, e.base, e.after_shape, e.after, e.before_shape, e.before"
        " FROM told t CROSS JOIN event e INDEXED BY event_record"
        " ON e.type = t.type AND e.key = t.key AND e.op <> 'read' ORDER BY t.type, t.key, e.seq"
    ):
        if record != (type, key):
            record, state, seqs = (type, key), {}, set()
        try:
            old = journal.fields(before_shape, before)
            new = journal.fields(after_shape, after)
        except (ValueError, TypeError):
            continue
        if base and base not in seqs:
            yield problem(seq, "fold", f"its base {base} is no earlier event of {key!r}")
        for name, value in (old or {}).items():
            if not same(state.get(name, ABSENT), value):
                yield problem(seq, "fold", f"`before` says that {name!r} was otherwise than it was")
                break
        state = new or {}
        seqs.add(seq)


def _replicas(journal: Journal) -> Iterator[Problem]:
    """What a store is taken to hold rests on an event of that record; no cursor is ahead of the journal."""
    db = journal.connection
    for key, seq, store in db.execute(
        "SELECT r.key, r.seq, b.store FROM replica r JOIN binding b ON b.id = r.binding"
        " LEFT JOIN name n ON n.name = b.type LEFT JOIN event e ON e.seq = r.seq AND e.key = r.key AND e.type = n.id"
        " WHERE r.seq > 0 AND e.seq IS NULL"
    ):
        yield problem(
            seq, "replica", f"store {store!r} is taken to hold {key!r} at {seq}, which is no event of it"
        )
    for content, store, key in db.execute(
        "SELECT r.content, b.store, r.key FROM replica r JOIN binding b ON b.id = r.binding WHERE r.content IS NOT NULL"
    ):
        try:
            decode(content)
        except ValueError:
            yield problem(0, "replica", f"what store {store!r} is taken to hold of {key!r} cannot be read")
    for store, cursor in db.execute(
        "SELECT store, cursor FROM binding WHERE cursor > (SELECT seq FROM head)"
    ):
        yield problem(
            cursor, "cursor", f"store {store!r} was replayed up to {cursor}, behind the journal's end"
        )
