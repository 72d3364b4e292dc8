"""The projector: carries one store from its cursor to a position of the journal.

Effects come first, the cursor after them; in between the journal notes towards which position a write is
under way, so that a run that was killed finds its own writes again instead of taking them for the store's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from evsync.errors import GuardTripped
from evsync.journal.journal import Journal
from evsync.projections.cycles import cuts
from evsync.projections.guards import too_many_deletes
from evsync.projections.ingest import Ingest
from evsync.projections.merge import Rules
from evsync.projections.noting import recall
from evsync.projections.projection import Options, Projection, Written
from evsync.projections.references import reader_of
from evsync.projections.replicas import (
    binding_state,
)
from evsync.projections.staging import Progress, stage
from evsync.store import Store


def replay(
    journal: Journal,
    store: Store,
    types: Sequence[str],
    options: Options,
    written: Written,
    progress: Progress | None = None,
) -> None:
    """Bring `types` (parents before children) of `store` to the journal's state, counting into `written`.
    Raises StoreError for trouble with the store as a whole; what was done until then is counted and remembered.
    Raises GuardTripped for a rebuild that would delete too much, before anything is written."""
    head = journal.head().seq
    until = head if options.until is None else min(options.until, head)
    if not options.dry_run and not options.rebuild:
        for type in types:
            _recover(journal, store, type)
    if options.each and not options.dry_run:
        # All at once: a statement that is still open would lock the tables that a pass works with.
        for step_until in list(_one_event_a_record(journal, store, types, until)):
            _pass(journal, store, types, step_until, options, written, progress)
    _pass(journal, store, types, until, options, written, progress)


def guard_rebuild(
    journal: Journal, store: Store, types: Sequence[str], options: Options
) -> Iterator[GuardTripped]:
    """The guards of a rebuild, asked ahead of it. Raises StoreError if the store cannot be read."""
    rehearsal = msgspec.structs.replace(options, rebuild=True, dry_run=True)
    head = journal.head().seq
    until = head if options.until is None else min(options.until, head)
    for type in types:
        try:
            Projection(journal, store, type, until, rehearsal, Written(), None, "evsync_todo_0").collect()
        except GuardTripped as guard:
            yield guard


def _recover(journal: Journal, store: Store, type: str) -> None:
    """A run that was killed left writes of which nobody knows whether they took place: look, before more is written."""
    state = recall(journal, store, type, binding_state(journal, store.name, type))
    if state is not None and state.intents:
        reader = reader_of(journal, store, type)
        found = stage(journal, store, type, state)
        Ingest(journal, store, type, reader, Rules(), state, 0).recover(found)


def _pass(
    journal: Journal,
    store: Store,
    types: Sequence[str],
    until: int,
    options: Options,
    written: Written,
    progress: Progress | None,
) -> None:
    projections = [
        Projection(journal, store, type, until, options, written, progress, f"evsync_todo_{number}")
        for number, type in enumerate(types)
    ]
    for projection in projections:
        projection.collect()
    for projection in projections:
        projection.run(deletes=False)
    _untangle(projections)
    for projection in reversed(projections):
        projection.run(deletes=True)
    _settle(projections)
    for projection in projections:
        projection.finish()


def _settle(projections: Sequence[Projection], only_waiting: bool = False) -> None:
    """What failed is tried again after the rest, as long as that helps any: it may have waited for a neighbour."""
    left = sum(projection.left(only_waiting) for projection in projections)
    while left:
        for projection in projections:
            projection.retry(only_waiting)
        now = sum(projection.left(only_waiting) for projection in projections)
        if now >= left:
            return
        left = now


def _untangle(projections: Sequence[Projection]) -> None:
    """Records that refer to each other in a circle: one of each circle is written without, and then once more."""
    if projections and projections[0].options.dry_run:
        return
    refused: set[tuple[str, str]] = set()
    while True:
        _settle(projections, only_waiting=True)
        waiting = {
            (projection.type, key): parents
            for projection in projections
            for key, parents in projection.waiting.items()
        }
        chosen = [record for record in cuts(waiting, refused) if record not in refused]
        if not chosen:
            return
        for projection in projections:
            keys = [key for type, key in chosen if type == projection.type]
            if keys:
                refused |= {(projection.type, key) for key in projection.write_without(keys)}


def _one_event_a_record(journal: Journal, store: Store, types: Sequence[str], until: int) -> Iterator[int]:
    """Positions such that no record has two events between one and the next: the steps of `--each`."""
    states = [binding_state(journal, store.name, type) for type in types]
    start = min((0 if state is None else state.cursor for state in states), default=0)
    met: set[tuple[int, str]] = set()
    rows = journal.connection.execute(
        "SELECT seq, type, key FROM event WHERE seq > ? AND seq <= ? AND op <> 'read' ORDER BY seq",
        (start, until),
    )
    numbers = {journal.known_name(type) for type in types}
    for seq, type, key in rows:
        if type not in numbers:
            continue
        if (type, key) in met or len(met) >= 50_000:
            yield seq - 1
            met.clear()
        met.add((type, key))


def guard_leaving(journal: Journal, store: Store, types: Sequence[str], options: Options) -> None:
    """Raises GuardTripped if more records than `max_deletes` would be removed only because they do not pass the
    store's filter: a filter is easily wrong."""
    until = journal.head().seq
    until = until if options.until is None else min(options.until, until)
    for number, type in enumerate(types):
        if store.binding(type).where is None:
            continue
        table = f"evsync_leaving_{number}"
        projection = Projection(journal, store, type, until, options, Written(), None, table)
        projection.collect()
        known, leaving = projection.replicas.count(), projection.leaving()
        reason = too_many_deletes(known, leaving, store.most_deletes(type))
        if reason:
            raise GuardTripped(
                f"stopped before anything was written: store {store.name!r}, type {type!r}: {leaving} of its {known}"
                f" records do not pass its filter and would be removed there, {reason.partition(', ')[2]}",
                f"see them with: evsync replay --store {store.name} --dry-run --allow-deletes;"
                " if that is meant, add --allow-deletes",
            )
