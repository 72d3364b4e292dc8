"""An ingest from a store's own change feed: it costs by the change, and sees every step instead of the last state.

As with a scan, everything is read and guarded before anything is journalled. All types of a store come in one
sequence, in the order in which the store committed them, and a transaction of the store's is journalled in one of the
journal's. The position in the feed is saved in the transaction of the events that it stands behind; only then is
the source told that it may forget them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from evsync.accessor import HEADER, KEPT, CanAcknowledge, CanFeed, Fed, Missed, Reached
from evsync.data import join_key
from evsync.errors import Retry
from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.ingest import BATCH, Found, Ingest
from evsync.projections.merge import view
from evsync.projections.reader import BadRow, Reader, key_text, moment_of
from evsync.projections.references import References, is_referenced, reader_of
from evsync.projections.replicas import (
    BindingState,
    Quarantined,
    Replica,
    Replicas,
    binding_state,
    set_position,
)
from evsync.projections.spool import Spool
from evsync.projections.staging import Progress, Staged, from_store, quarantined
from evsync.store import Store
from evsync.values import ABSENT, decode, dump, encode

Local = int | str

CHANGED, DELETED, EMPTIED = 0, 1, 2


class Step(NamedTuple):
    """One change out of a feed, as it is staged. `number` puts them in order. `kind`: CHANGED, DELETED, or EMPTIED, all
    records of the type at once. `was`: what the store called the record before. `kept`: whether fields that are not among
    `names` are as they were, not absent. `made`: where the feed stood when it was made."""

    number: str
    type: str
    position: str
    whole: bool
    own: bool
    kind: int
    key: str | None
    id: Local | None
    was: Local | None
    names: str | None
    text: str | None
    fingerprint: bytes | None
    kept: bool
    changed_at: int | None
    changed_by: str | None
    made: str

    @property
    def local(self) -> Local | None:
        """What the store calls the record now."""
        return self.key if self.id is None else self.id


class Following:
    """What a store's feed has behind the positions last saved."""

    def __init__(self, journal: Journal, store: Store, states: Mapping[str, BindingState]) -> None:
        self.store = store
        self.steps = Spool()
        self.staged = {type: Staged(self.steps, by_feed=True) for type in states}
        self.told: dict[str, set[Local]] = {}  # of types with quarantined rows, what was told anew
        self.reached: str | None = None
        self.acknowledges = True  # not while the store is still being read: it may have to wait for that
        self.missed: dict[str, str] = {}  # types of which changes may have gone by unseen, and why
        self._journal, self._states = journal, states
        self.positions = {type: state.position for type, state in states.items()}
        self._readers = {type: reader_of(journal, store, type) for type in states}
        self._references = {
            type: References(journal, store) if is_referenced(store, type) else None for type in states
        }
        self._gone: dict[str, set[Local]] = {type: set() for type in states}
        for type, state in states.items():
            if Replicas(journal, state.id).any_quarantined():
                self.told[type] = set()

    def read(self, accessor: CanFeed, until: str | None, progress: Progress | None) -> None:
        """Read it all. Raises StoreError, PositionLost among them."""
        since = {type: state.position for type, state in self._states.items() if state.position is not None}
        number = 0
        for fed in from_store(self.store, accessor.changes(self.store, since, until)):
            if isinstance(fed, Reached):
                if self.reached is None or place(self.reached) <= place(fed.position):
                    self.reached = fed.position
                continue
            if isinstance(fed, Missed):
                self.missed[fed.type] = fed.why
                continue
            for step in self._steps(fed):
                # A plain tuple: only such are written to a disk.
                self.steps.add([tuple(step._replace(number=f"{number:020d}"))])
                number += 1
            if fed.whole:
                self.reached = fed.position
            if progress:
                progress(f"following {self.store.name}", number, None)
        for type, staged in self.staged.items():
            staged.position = self.reached or since.get(type)
            self._count(type, staged)
        self.steps.close()

    def _count(self, type: str, staged: Staged) -> None:
        """How many of the known records are gone. What we removed ourselves is not known any more."""
        gone, replicas = list(self._gone[type]), Replicas(self._journal, self._states[type].id)
        if not gone and not staged.emptied:
            return  # nobody asks, and counting costs by the record
        staged.known = replicas.count()
        staged.gone = staged.known if staged.emptied else replicas.count_called(gone)

    def _steps(self, fed: Fed) -> Iterator[Step]:
        type, staged = fed.type, self.staged[fed.type]
        staged.found += 1
        reader = self._readers[type]
        if fed.emptied:
            staged.emptied = True
            self._gone[type].clear()
            yield _bare(fed, EMPTIED, None, None, None)
            return
        key = _key(reader, fed.name)
        was = key if fed.id is None or str(fed.id) == key else fed.id
        if fed.row is None:
            if was is not None:
                self._gone[type].add(was)
            yield _bare(fed, DELETED, key, None if was == key else was, was)
            return
        kept = KEPT in fed.row
        row = tuple(ABSENT if value is KEPT else value for value in fed.row) if kept else fed.row
        try:
            record = reader.read(row)
        except BadRow as bad:
            staged.bad.append(quarantined(reader, bad))
            return
        local = record.key if record.id is None else record.id
        if type in self.told and isinstance(row[0], int | str):
            self.told[type].add(row[0])
        if record.id is None and was is not None and str(was) != record.key:
            # Called by what stands in its key: another key is another record, as in a scan.
            self._gone[type].add(was)
            yield _bare(fed, DELETED, str(was), None, was)._replace(whole=False)
            was = None
        self._gone[type].discard(local)
        references = self._references[type]
        if references is not None:
            replica = Replicas(self._journal, self._states[type].id).by_id([local]).get(local)
            references.expect(type, [(local, record.key if replica is None else replica.key)])
        yield Step(
            "",
            type,
            fed.position,
            fed.whole,
            fed.own,
            CHANGED,
            record.key,
            record.id,
            was,
            None if record.names is reader.binding.names else encode(record.names).decode(),
            record.text,
            record.fingerprint,
            kept,
            record.changed_at,
            record.changed_by,
            _made(fed),
        )


def follow(
    journal: Journal,
    store: Store,
    states: Mapping[str, BindingState],
    progress: Progress | None,
    until: str | None = None,
) -> Following:
    """Read what the feed of these types has behind the positions last saved. Raises StoreError, PositionLost among them."""
    found = Following(journal, store, states)
    accessor = store.accessor(next(iter(states)))
    assert isinstance(accessor, CanFeed)
    found.read(accessor, until, progress)
    return found


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


def place(position: str) -> str:
    """What of a position says which is the later one."""
    return position.partition(" ")[0]


def _bare(fed: Fed, kind: int, key: str | None, id: Local | None, was: Local | None) -> Step:
    at, by = moment_of(fed.changed_at), fed.changed_by
    return Step("", fed.type, fed.position, fed.whole, fed.own, kind, key, id, was, None, None, None, False, at, by, _made(fed))  # fmt: skip


def _made(fed: Fed) -> str:
    return fed.made or place(fed.position)


def _key(reader: Reader, name: dict[str, Any]) -> str | None:
    binding = reader.binding
    if not name:
        return None
    if any(field.name in binding.key for field in binding.translated):  # in the journal it holds their keys
        return reader.key_of((*[None] * HEADER, *(name.get(local, ABSENT) for local in binding.locals)))
    parts = []
    for field, local in zip(binding.key, binding.key_locals, strict=True):
        conversion = binding.convert.get(field)
        type_name = binding.local_types[local] if conversion is None else conversion.type
        typed = name[local]
        wire = dump(type_name, typed) if conversion is None else conversion.wire_of(typed)
        parts.append(key_text(type_name, wire))
    return join_key(parts)


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
        row = dict(zip(_names(ingest.reader, step), _values(step), strict=True))
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
    told = dict(zip(_names(reader, step), _values(step), strict=True))
    names = [name for name in reader.binding.names if name in told or name in before]
    content = {name: told[name] if name in told else before[name] for name in names}
    return step._replace(
        names=encode(names).decode(),
        text=encode(list(content.values())).decode(),
        fingerprint=reader.fingerprint_of(content),
    )


def _names(reader: Reader, step: Step) -> Sequence[str]:
    names: Sequence[str] = reader.binding.names if step.names is None else decode(step.names)
    return names


def _values(step: Step) -> Sequence[Any]:
    values: Sequence[Any] = decode(step.text or "[]")
    return values


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
