"""Reading a store's own change feed: it costs by the change, and sees every step instead of the last state.

All types of a store come in one sequence, in the order in which the store committed them. As with a scan, everything is read
before anything is journalled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evsync.accessor import HEADER, KEPT, CanFeed, Fed, Missed, Reached
from evsync.data import join_key
from evsync.journal.journal import Journal
from evsync.projections.reader import BadRow, Reader, key_text, moment_of
from evsync.projections.references import References, is_referenced, reader_of
from evsync.projections.replicas import BindingState, Replicas
from evsync.projections.spool import Spool
from evsync.projections.staging import Progress, Staged, from_store, quarantined
from evsync.projections.steps import CHANGED, DELETED, EMPTIED, Local, Step, place
from evsync.store import Store
from evsync.values import ABSENT, dump, encode


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
        # What came again after all were deleted, and under which key.
        self._back: dict[str, dict[Local, str]] = {type: {} for type in states}
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
        if not staged.emptied:
            staged.gone = replicas.count_called(gone)
            return
        back = self._back[type]
        again = (*replicas.by_id(list(back)).values(), *replicas.by_key(list(back.values())).values())
        staged.gone = staged.known - len({replica.row for replica in again})

    def _steps(self, fed: Fed) -> Iterator[Step]:
        type, staged = fed.type, self.staged[fed.type]
        staged.found += 1
        reader = self._readers[type]
        if fed.emptied:
            staged.emptied = True
            self._gone[type].clear()
            self._back[type].clear()
            yield _bare(fed, EMPTIED, None, None, None)
            return
        key = _key(reader, fed.name)
        was = key if fed.id is None or str(fed.id) == key else fed.id
        if fed.row is None:
            if was is not None:
                self._gone[type].add(was)
                self._back[type].pop(was, None)
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
            # Called by what stands in its key: another key is another record, as in a scan; but nothing was deleted.
            gone = _bare(fed, DELETED, str(was), None, was)
            yield gone._replace(whole=False, changed_at=record.changed_at, changed_by=record.changed_by)
            self._back[type].pop(was, None)
            was = None
        self._gone[type].discard(local)
        if staged.emptied:
            self._back[type][local] = record.key
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
