"""An ingest from a store's own change feed: it costs by the change, and sees every step instead of the last state.

As with a scan, everything is read and guarded before anything is journalled. The position in the feed is
saved in the transaction of the events that it stands behind; only then is the source told that it may forget
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evsync.accessor import CanAcknowledge, CanFeed, Fed
from evsync.binding import Binding
from evsync.data import join_key
from evsync.journal.journal import Journal
from evsync.projections.ingest import BATCH, Found, Ingest
from evsync.projections.reader import BadRow, Reader, key_text, moment_of
from evsync.projections.references import References, is_referenced, reader_of
from evsync.projections.replicas import BindingState, Replica, Replicas, set_position
from evsync.projections.spool import Spool
from evsync.projections.staging import Progress, Staged, from_store, quarantined
from evsync.store import Store
from evsync.values import dump, encode


class Step(NamedTuple):
    """One change out of a feed. `number` puts them in order; `text` None: the record was deleted."""

    number: str
    position: str
    key: str | None
    id: int | str | None
    names: str | None
    text: str | None
    fingerprint: bytes | None
    changed_at: int | None
    changed_by: str | None


def stage_feed(
    journal: Journal,
    store: Store,
    type: str,
    state: BindingState,
    accessor: CanFeed,
    progress: Progress | None,
) -> Staged:
    """Read what the feed has behind the position last saved. Raises StoreError, PositionLost among them."""
    assert state.position is not None
    reader = reader_of(journal, store, type)
    spool = Spool()
    staged = Staged(spool)
    staged.by_feed, staged.position = True, state.position
    gone: set[Any] = set()
    references = References(journal, store) if is_referenced(store, type) else None
    for number, fed in enumerate(from_store(store, accessor.changes(store, type, state.position))):
        staged.position = fed.position
        staged.found += 1
        step = _step(f"{number:020d}", fed, reader, staged)
        if step is not None:
            spool.add([step])
            local = step.key if step.id is None else step.id
            (gone.add if step.text is None else gone.discard)(local)
            if references is not None and step.text is not None and local is not None:
                found = Replicas(journal, state.id).by_id([local]).get(local)
                key = step.key if found is None else found.key
                references.expect(type, [(local, str(key))])
        if progress:
            progress(f"following {store.name} {type}", number + 1, None)
    staged.gone = len(gone)
    if gone:  # else nobody asks, and counting costs by the record
        staged.known = Replicas(journal, state.id).count()
    spool.close()
    return staged


def enter_feed(ingest: Ingest, staged: Staged, progress: Progress | None) -> None:
    """Enter the steps in their order, and save the position with them."""
    ingest.counts.quarantined += len(staged.bad)
    steps = map(Step._make, iter(staged.different))
    done = 0
    accessor = ingest.store.accessor(ingest.type)
    position = staged.position
    for batch in _apart(steps):
        with ingest.journal.write():
            ingest.batch(list(_found(ingest, batch)))
            set_position(ingest.journal, ingest.state.id, batch[-1].position)
        done += len(batch)
        if progress:
            progress(f"journalling {ingest.store.name} {ingest.type}", done, staged.different.count)
    staged.different.discard()
    assert position is not None
    with ingest.journal.write():
        set_position(ingest.journal, ingest.state.id, position)
    if isinstance(accessor, CanAcknowledge) and not ingest.journal.rehearsing:
        accessor.acknowledge(ingest.store, ingest.type, position)


def _step(number: str, fed: Fed, reader: Reader, staged: Staged) -> Step | None:
    if fed.row is None:
        key = _key(reader.binding, fed.name)
        id = None if fed.id is None or str(fed.id) == key else fed.id
        return Step(
            number, fed.position, key, id, None, None, None, moment_of(fed.changed_at), fed.changed_by
        )
    try:
        record = reader.read(fed.row)
    except BadRow as bad:
        staged.bad.append(quarantined(reader, bad))
        return None
    names = None if record.names is reader.binding.names else encode(record.names).decode()
    return Step(
        number,
        fed.position,
        record.key,
        record.id,
        names,
        record.text,
        record.fingerprint,
        record.changed_at,
        record.changed_by,
    )


def _key(binding: Binding, name: dict[str, Any]) -> str | None:
    if not name:
        return None
    parts = []
    for field, local in zip(binding.key, binding.key_locals, strict=True):
        conversion = binding.convert.get(field)
        type_name = binding.local_types[local] if conversion is None else conversion.type
        typed = name[local]
        wire = dump(type_name, typed) if conversion is None else conversion.wire_of(typed)
        parts.append(key_text(type_name, wire))
    return join_key(parts)


def _apart(steps: Iterator[Step]) -> Iterator[Sequence[Step]]:
    """The steps in batches in which no record comes twice, as each is decided by what the one before has left."""
    batch: list[Step] = []
    met: set[Any] = set()
    for step in steps:
        called = {name for name in (step.key, step.id) if name is not None}
        if met & called or len(batch) >= BATCH:
            yield batch
            batch, met = [], set()
        batch.append(step)
        met |= called
    if batch:
        yield batch


def _found(ingest: Ingest, batch: Sequence[Step]) -> Iterator[Found]:
    known = _known(ingest.replicas, batch)
    for step in batch:
        replica = known.get(step.number)
        if step.text is None and replica is None:
            ingest.counts.unchanged += 1
            continue
        if replica is not None and step.text is not None and replica.fingerprint == step.fingerprint:
            ingest.counts.unchanged += 1
            continue
        key = replica.key if replica is not None else step.key
        assert key is not None, "a record without a key was put aside when it was read"
        yield Found(
            key,
            step.id,
            step.names,
            step.text,
            step.fingerprint,
            step.changed_at,
            step.changed_by,
            None,
            None if replica is None else replica.row,
            None if replica is None else replica.fingerprint,
        )


def _known(replicas: Replicas, batch: Sequence[Step]) -> dict[str, Replica]:
    locals_ = [local for step in batch if (local := step.key if step.id is None else step.id) is not None]
    by_id = replicas.by_id(locals_)
    by_key = replicas.by_key([step.key for step in batch if step.key is not None])
    found = {}
    for step in batch:
        local = step.key if step.id is None else step.id
        replica = None if local is None else by_id.get(local)
        if replica is None and step.key is not None:
            replica = by_key.get(step.key)
        if replica is not None:
            found[step.number] = replica
    return found
