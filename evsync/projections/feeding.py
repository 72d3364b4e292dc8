"""Entering what a store's feed has told, step by step.

A transaction of the store's is journalled in one of the journal's. The position in the feed is saved in the transaction of
the events that it stands behind; only then is the source told that it may forget them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from evsync.accessor import CanAcknowledge
from evsync.errors import Retry
from evsync.journal.event import Fields
from evsync.projections.following import Following
from evsync.projections.ingest import BATCH, Found, Ingest
from evsync.projections.merge import view
from evsync.projections.reader import Reader
from evsync.projections.replicas import Quarantined, Replica, Replicas, binding_state, set_position
from evsync.projections.staging import Progress
from evsync.projections.steps import CHANGED, DELETED, EMPTIED, Local, Step, names_of, place, values_of
from evsync.values import encode


def enter_feed(
    following: Following, ingests: Mapping[str, Ingest], dry_run: bool, progress: Progress | None
) -> None:
    """Enter the steps in their order, and save the positions with them. Raises Retry where another process has journalled
    some of them meanwhile."""
    entering, at = _Entering(following, ingests), following.positions
    for type, ingest in ingests.items():
        ingest.counts.quarantined += len(following.staged[type].bad)
    journal, store = next(iter(ingests.values())).journal, following.store
    steps = map(Step._make, iter(following.steps))
    step, done = next(steps, None), 0
    while step is not None:
        with journal.write():
            _stand_still(ingests, at)
            begun, whole = done, None
            while step is not None:
                entering.take(step)
                done += 1
                whole = step if step.whole else None
                step = next(steps, None)
                if whole is not None and done - begun >= BATCH:
                    break
            entering.flush()
            if whole is not None:
                at = _advance(ingests, at, whole.position, midway=True)
        if progress:
            progress(f"journalling {store.name}", done, following.steps.count)
    following.steps.discard()
    reached = following.reached
    if reached is not None:
        with journal.write():
            _stand_still(ingests, at)
            _advance(ingests, at, reached)
    accessor = store.accessor(next(iter(ingests)))
    if isinstance(accessor, CanAcknowledge) and following.acknowledges and not dry_run:
        known = [ingest.state.position for ingest in ingests.values() if ingest.state.position is not None]
        accessor.acknowledge(store, reached or min(known, key=place))


def _advance(
    ingests: Mapping[str, Ingest], at: Mapping[str, str | None], position: str, *, midway: bool = False
) -> dict[str, str | None]:
    """Save the position, but for a type that was scanned later than the others and is ahead of them; answers with where
    each is now."""
    now = dict(at)
    for type, ingest in ingests.items():
        before = at[type]
        if before is None or place(before) <= place(position):
            set_position(ingest.journal, ingest.state.id, position, midway=midway)
            now[type] = position
    return now


def _stand_still(ingests: Mapping[str, Ingest], at: Mapping[str, str | None]) -> None:
    """Raises Retry if the positions are no longer those from which it was read; inside `write`."""
    for type, ingest in ingests.items():
        state = binding_state(ingest.journal, ingest.store.name, type)
        if state is not None and state.position != at[type]:
            raise Retry(
                f"store {ingest.store.name!r}: another process has journalled its changes meanwhile",
                "run again when it is done",
            )


class _Entering:
    """Enters steps in batches of one type in which no record comes twice, as each is decided by what the one before
    has left."""

    def __init__(self, following: Following, ingests: Mapping[str, Ingest]) -> None:
        self._following, self._ingests = following, ingests
        self._aside: set[str] = set()
        self._batch: list[Step] = []
        self._met: set[Local] = set()

    def take(self, step: Step) -> None:
        """Enter a step, at the latest with the next `flush`; inside `write`."""
        called = {name for name in (step.key, step.id, step.was) if name is not None}
        if self._batch and (
            self._batch[0].type != step.type
            or step.kind == EMPTIED
            or len(self._batch) >= BATCH
            or not self._met.isdisjoint(called)
        ):
            self.flush()
        if step.kind == EMPTIED:
            self._empty(step)
            return
        self._batch.append(step)
        self._met |= called

    def flush(self) -> None:
        batch, self._batch, self._met = self._batch, [], set()
        while batch:
            ingest = self._ingests[batch[0].type]
            known = _known(ingest.replicas, batch)
            some, batch = _apart(batch, known)
            for step in some:
                replica = known.get(step.number)
                if replica is not None and _is_taken(step, replica):
                    self._put_aside(ingest, step, replica)
            found = list(_found(ingest, [s for s in some if s.number not in self._aside], known))
            if found:
                ingest.batch(found)

    def _put_aside(self, ingest: Ingest, step: Step, replica: Replica) -> None:
        """A record under a key that is another one's name, though that one has given it up."""
        self._aside.add(step.number)
        ingest.counts.quarantined += 1
        row = dict(zip(names_of(ingest.reader, step), values_of(step), strict=True))
        error = (
            f"its key {replica.key!r} is the name of another record, the one with the id {replica.id!r}, since that"
            " was first seen under it: give one of the two another key"
        )
        self._following.staged[step.type].bad.append(
            Quarantined(str(step.id), step.id, encode(row).decode(), error, [])
        )

    def _empty(self, step: Step) -> None:
        """All records of the type were deleted at once."""
        ingest = self._ingests[step.type]
        for replicas in _chunks(ingest.replicas, BATCH):
            written = ingest.replicas.written([replica.key for replica in replicas])
            ingest.batch(
                [_deletion(step, replica) for replica in replicas if written.get(replica.key, "") < step.made]
            )


def _chunks(replicas: Replicas, size: int) -> Iterator[list[Replica]]:
    """All replicas, those that are there when it begins: entering forgets them meanwhile."""
    last = 0
    while rows := replicas.following(last, size):
        last = rows[-1][0]
        keys = [key for _, key, fingerprint, _ in rows if fingerprint is not None]
        yield list(replicas.by_key(keys).values())


def _deletion(step: Step, replica: Replica) -> Found:
    return Found(
        replica.key,
        replica.id,
        None,
        None,
        None,
        step.changed_at,
        step.changed_by,
        None,
        replica.row,
        replica.fingerprint,
    )


def _apart(batch: Sequence[Step], known: Mapping[str, Replica]) -> tuple[list[Step], list[Step]]:
    """The first steps, of which no two are of one record, and the rest."""
    met: set[int] = set()
    for number, step in enumerate(batch):
        replica = known.get(step.number)
        if replica is not None:
            if replica.row in met:
                return list(batch[:number]), list(batch[number:])
            met.add(replica.row)
    return list(batch), []


def _is_taken(step: Step, replica: Replica) -> bool:
    """Whether what was found under a new record's key is another record that the store still holds."""
    return (
        step.kind == CHANGED
        and step.was is None
        and None not in (step.id, replica.id, replica.fingerprint)
        and step.id != replica.id
    )


def _found(ingest: Ingest, batch: Sequence[Step], known: Mapping[str, Replica]) -> Iterator[Found]:
    written = ingest.replicas.written(
        [replica.key for replica in known.values()] + [step.key for step in batch if step.key is not None]
    )
    contents = _contents(ingest, [known[s.number] for s in batch if s.kept and s.number in known])
    computes = bool(ingest.binding.unwritten)  # then our own write shows what the store made of it
    for step in batch:
        replica = known.get(step.number)
        key = replica.key if replica is not None else step.key
        ours = _is_ours(step, written.get(key or ""))
        if (ours and not (computes and step.kind == CHANGED)) or (step.kind == DELETED and replica is None):
            ingest.counts.unchanged += 1
            continue
        if step.kind == DELETED:
            assert replica is not None
            yield _deletion(step, replica)
            continue
        if step.kept and replica is not None:
            step = _filled(ingest.reader, step, contents.get(replica.key, {}))
        assert key is not None, "a record without a key was put aside when it was read"
        id = None if str(step.local) == key else step.local
        if replica is not None and replica.fingerprint == step.fingerprint and replica.id == id:
            ingest.counts.unchanged += 1
            continue
        yield Found(
            key,
            id,
            step.names,
            step.text,
            step.fingerprint,
            step.changed_at,
            step.changed_by,
            None,
            None if replica is None else replica.row,
            None if replica is None else replica.fingerprint,
        )


def _is_ours(step: Step, written: str | None) -> bool:
    """Whether we wrote this, or wrote the record since: what the store holds is known better already."""
    return written is not None and (step.own or step.made <= written)


def _contents(ingest: Ingest, replicas: Collection[Replica]) -> dict[str, Fields]:
    """What the store held of these records, by key."""
    if not replicas:
        return {}
    revisions = ingest.journal.revisions(replica.seq for replica in replicas)
    return {
        replica.key: replica.content or view(revisions.get(replica.seq), ingest.binding.names) or {}
        for replica in replicas
    }


def _filled(reader: Reader, step: Step, before: Fields) -> Step:
    """The step with the values that the feed has left out."""
    told = dict(zip(names_of(reader, step), values_of(step), strict=True))
    names = [name for name in reader.binding.names if name in told or name in before]
    content = {name: told[name] if name in told else before[name] for name in names}
    return step._replace(
        names=encode(names).decode(),
        text=encode(list(content.values())).decode(),
        fingerprint=reader.fingerprint_of(content),
    )


def _known(replicas: Replicas, batch: Sequence[Step]) -> dict[str, Replica]:
    """The replicas of the records, by the steps' numbers."""
    called = [name for step in batch for name in (step.was, step.local) if name is not None]
    by_id = replicas.by_id(called)
    keys = [key for step in batch for key in (step.key, step.was) if isinstance(key, str)]
    by_key = replicas.by_key(keys)
    found = {}
    for step in batch:
        replica = None
        for name in (step.was, step.local):
            if replica is None and name is not None:
                replica = by_id.get(name)
                if replica is None and isinstance(name, str) and (same := by_key.get(name)) is not None:
                    replica = same if same.known_as == name else None
        if replica is None and step.key is not None:
            replica = by_key.get(step.key)
        if replica is not None:
            found[step.number] = replica
    return found
