"""The second half of an ingest: decide what the staged differences mean, and append.

Each batch is one transaction: events, heads and replicas together. Killed between two of them, the next run
finds the first one's records unchanged and goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from evsync.journal.event import Fields, NewEvent, Revision, Shape
from evsync.journal.journal import Journal
from evsync.journal.query import origin
from evsync.projections.merge import Decision, Held, Origin, Rules, Sighting, decide, same_record, view
from evsync.projections.reader import Reader
from evsync.projections.replicas import BindingState, Replica, Replicas
from evsync.projections.staging import Progress, Staged
from evsync.store import Store
from evsync.values import decode, encode

BATCH = 5_000  # events in one transaction


class Counts(msgspec.Struct):
    """What an ingest did to a store, in records. `conflicts` are counted besides."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    adopted: int = 0
    unchanged: int = 0
    conflicts: int = 0
    quarantined: int = 0

    def add(self, other: Counts) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Found(NamedTuple):
    """A difference between a store and what is known of it: one row of what was staged. `text` None: the
    record is gone. `names` None: all fields of the binding. `replica` and `was`: the replica's row number and
    fingerprint when this was found."""

    key: str
    id: int | str | None
    names: str | None
    text: str | None
    fingerprint: bytes | None
    changed_at: int | None
    changed_by: str | None
    place: str | None
    replica: int | None
    was: bytes | None


class Ingest:
    """Enters what was found in one type of one store into the journal."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        type: str,
        reader: Reader,
        rules: Rules,
        state: BindingState,
        run: int,
    ) -> None:
        self.journal, self.store, self.type = journal, store, type
        self.reader, self.rules, self.state, self.run = reader, rules, state, run
        self.binding = reader.binding
        self.replicas = Replicas(journal, state.id)
        self.types = {field.name: field.type for field in self.binding.fields}
        mapped_before = None if state.mapping is None else set(state.mapping.get("fields", {}))
        self.fresh: frozenset[str] = (
            frozenset() if mapped_before is None else frozenset(self.binding.names) - mapped_before
        )
        self.counts = Counts()
        self._had_replicas = False
        self._full_shape: Shape | None = None

    def enter(self, staged: Staged, progress: Progress | None = None) -> Counts:
        """Enter everything that was staged, in order of the keys."""
        self.counts.unchanged += staged.unchanged
        self.counts.quarantined += len(staged.bad)
        rows = iter(staged.different)
        done = 0
        while batch := list(map(Found._make, islice(rows, BATCH))):
            with self.journal.write():
                self.batch(batch)
            done += len(batch)
            if progress:
                progress(f"journalling {self.store.name} {self.type}", done, staged.different.count)
        staged.different.discard()
        if staged.moved:
            with self.journal.write():
                self.replicas.rename(staged.moved)
        return self.counts

    def batch(self, batch: Sequence[Found], actor: str | None = None) -> None:
        """Enter these, each key once, inside `write`. `actor`: who did it, where that is known better than
        the store knows it."""
        self._full_shape = None  # its number is only good within the transaction that may have assigned it
        keys = [found.key for found in batch]
        replicas = self.replicas.by_key(keys) if self._replicas_exist() else {}
        heads = self.journal.heads(self.type, keys) if self.journal.has_type(self.type) else {}
        if not replicas and not heads and not self.state.intents and self._all_new(batch):
            self._create(batch, actor)
            return
        fresh = [f for f in batch if self._still(f, replicas.get(f.key))]
        own = self._own_writes(fresh)
        ancestors = self.journal.revisions(
            r.seq for f in fresh if (r := replicas.get(f.key)) is not None and f.key not in own
        )
        events: list[NewEvent] = []
        remember: list[tuple[Found, Decision | None, int, int, Fields | None]] = []
        for found in fresh:
            replica, head = replicas.get(found.key), heads.get(found.key)
            if found.key in own:
                self.counts.unchanged += 1
                remember.append((found, None, -1, *own[found.key]))
            elif replica is None and (head is None or head.fields is None):
                if found.text is None:
                    continue
                events.append(self._creation(found, head, actor))
                self.counts.created += 1
                remember.append((found, None, len(events) - 1, 0, None))
            else:
                content = self._content(found)
                decision = self._decide(found, content, replica, head, ancestors)
                position = -1
                if decision.op is not None:
                    events.append(self._event(found, decision, replica, head, actor))
                    position = len(events) - 1
                self._count(decision)
                base = replica.seq if replica else 0
                if decision.op is None and head is not None and decision.remember != "behind":
                    base = head.seq
                remember.append((found, decision, position, base, content))
        first = self.journal.append(events, self.run) if events else 0
        self._remember(remember, first)

    @staticmethod
    def _all_new(batch: Sequence[Found]) -> bool:
        return all(found.replica is None and found.text is not None for found in batch)

    def _create(self, batch: Sequence[Found], actor: str | None) -> None:
        """Records that nobody knows: no decision, as in nearly all of a first ingest."""
        first = self.journal.append([self._creation(found, None, actor) for found in batch], self.run)
        self.replicas.add(
            [(found.key, seq, found.fingerprint, found.id) for seq, found in enumerate(batch, first)]
        )
        self.counts.created += len(batch)

    # -- deciding --------------------------------------------------------------------------------------

    def _replicas_exist(self) -> bool:
        """Once there are replicas there always are; asked in every transaction until then."""
        self._had_replicas = self._had_replicas or self.replicas.any()
        return self._had_replicas

    @staticmethod
    def _still(found: Found, replica: Replica | None) -> bool:
        """Whether nobody else entered this record since it was staged; if so, the next ingest will see."""
        if found.replica is None:
            return replica is None
        return replica is not None and replica.row == found.replica and replica.fingerprint == found.was

    def recover(self, staged: Staged) -> None:
        """Of what was staged take only our own writes whose end we did not see; the rest is for an ingest."""
        rows = iter(staged.different)
        while batch := [Found(*row) for row in islice(rows, BATCH)]:
            with self.journal.write():
                replicas = self.replicas.by_key([found.key for found in batch])
                fresh = [found for found in batch if self._still(found, replicas.get(found.key))]
                own = self._own_writes(fresh)
                self._remember([(f, None, -1, *own[f.key]) for f in fresh if f.key in own], 0)
        staged.different.discard()

    def _own_writes(self, batch: Sequence[Found]) -> dict[str, tuple[int, Fields | None]]:
        """What is no change of the store's, but our own write whose end we did not see: key → revision, and what the
        store made of it where that is not the same: null is how many a store writes an absent value."""
        own: dict[str, tuple[int, Fields | None]] = {}
        for intent in self.state.intents:
            heads = self.journal.heads(self.type, [f.key for f in batch], intent)
            for found in batch:
                head = heads.get(found.key)
                then = None if head is None else view(head.fields, self.binding.names)
                content = self._content(found)
                if same_record(_filled(then), _filled(content)):
                    kept = None if same_record(then, content) else content
                    own[found.key] = (0 if head is None else head.seq, kept)
        return own

    def _content(self, found: Found) -> Fields | None:
        if found.text is None:
            return None
        names = self.binding.names if found.names is None else tuple(decode(found.names))
        return dict(zip(names, decode(found.text), strict=True))

    def _decide(
        self,
        found: Found,
        content: Fields | None,
        replica: Replica | None,
        head: Revision | None,
        ancestors: dict[int, Fields],
    ) -> Decision:
        held = had = None
        ancestor: Fields = {}
        if replica is not None:
            held = Held(replica.seq, replica.in_line)
            ancestor = ancestors.get(replica.seq, {})
            if replica.fingerprint is None:
                had = {}
            elif replica.content is not None:
                had = replica.content
            else:
                had = view(ancestor, self.binding.names) or {}
            if self.fresh:  # a field mapped since then: nothing was held, nothing was seen
                ancestor = {name: value for name, value in ancestor.items() if name not in self.fresh}
                had = {name: value for name, value in had.items() if name not in self.fresh}
        return decide(
            Sighting(
                store=self.store.name,
                type=self.type,
                key=found.key,
                mapped=self.binding.names,
                types=self.types,
                content=content,
                held=held,
                had=had,
                ancestor=ancestor,
                theirs=None if head is None else head.fields,
                head=0 if head is None else head.seq,
                origin=lambda field: Origin(*origin(self.journal, self.type, found.key, field)),
                occurred_at=found.changed_at,
                fresh=self.fresh,
            ),
            self.rules,
        )

    def _count(self, decision: Decision) -> None:
        counts = self.counts
        if decision.adopted:
            counts.adopted += 1
        elif decision.op == "create":
            counts.created += 1
        elif decision.op == "update":
            counts.updated += 1
        elif decision.op == "delete":
            counts.deleted += 1
        else:
            counts.unchanged += 1
        if decision.conflict is not None:
            counts.conflicts += 1

    # -- events ----------------------------------------------------------------------------------------

    def _shape(self, names: Sequence[str], other: Shape | None = None) -> Shape:
        """The shape of these fields. The store's own types for what it maps, else those of the payload that
        the value was taken from."""
        others = {} if other is None else dict(zip(other.names, other.types, strict=True))
        names = tuple(sorted(names))
        return self.journal.shape(
            names, tuple(self.types.get(name) or others.get(name, "json") for name in names)
        )

    def _creation(self, found: Found, head: Revision | None, actor: str | None) -> NewEvent:
        if found.names is not None:
            shape = self._shape(tuple(decode(found.names)))
        elif self._full_shape is None:
            shape = self._full_shape = self._shape(self.binding.names)
        else:
            shape = self._full_shape
        return NewEvent(
            "create",
            self.store.name,
            self.type,
            found.key,
            0 if head is None else head.seq,
            after=found.text,
            after_shape=shape,
            changed=shape,
            occurred_at=found.changed_at,
            actor=actor or found.changed_by,
        )

    def _event(
        self,
        found: Found,
        decision: Decision,
        replica: Replica | None,
        head: Revision | None,
        actor: str | None,
    ) -> NewEvent:
        assert decision.op is not None
        event = NewEvent(
            decision.op,
            self.store.name,
            self.type,
            found.key,
            replica.seq if replica is not None else 0,
            occurred_at=found.changed_at,
            actor=actor or found.changed_by,
        )
        other = None if head is None else head.shape
        theirs = (head.fields if head is not None else None) or {}
        if decision.after is not None:
            event.after_shape = self._shape(tuple(decision.after), other)
            event.after = _values(decision.after, event.after_shape)
        old = theirs if decision.after is None else {n: theirs[n] for n in decision.changed if n in theirs}
        if old:
            event.before_shape = self._shape(tuple(old), other)
            event.before = _values(old, event.before_shape)
        event.changed = self._shape(decision.changed, other)
        if decision.conflict is not None:
            event.conflict = encode(decision.conflict).decode()
        return event

    # -- replicas --------------------------------------------------------------------------------------

    def _remember(
        self, decided: Sequence[tuple[Found, Decision | None, int, int, Fields | None]], first: int
    ) -> None:
        put: list[tuple[str, int, bytes | None, Any, bool, Fields | None]] = []
        add: list[tuple[str, int, bytes | None, Any]] = []
        forget: list[str] = []
        pend: list[str] = []
        for found, decision, position, base, content in decided:
            seq = first + position if position >= 0 else base
            remember = "in-line" if decision is None else decision.remember
            if decision is None and position < 0:  # our own write
                pend.append(found.key)  # the store may be meant to be elsewhere by now
                remember = "in-line" if content is None else "normalised"
            if found.text is None and decision is None:
                forget.append(found.key)  # our own deletion
            elif found.replica is None and remember in ("in-line", "at-head"):
                add.append((found.key, seq, found.fingerprint, found.id))
            elif remember in ("in-line", "at-head"):
                put.append((found.key, seq, found.fingerprint, found.id, True, None))
            elif remember == "normalised":
                put.append((found.key, seq, found.fingerprint, found.id, True, content))
            elif remember == "behind":
                put.append((found.key, base, found.fingerprint, found.id, False, content))
                pend.append(found.key)
            elif remember == "disputed":
                put.append((found.key, base, None, found.id, False, None))
            else:
                forget.append(found.key)
        self.replicas.forget(forget)
        # Two records may swap their ids; nobody holds one while they are dealt out.
        self.replicas.rename(
            [(None, f.replica) for f, *_ in decided if f.replica is not None and f.id is not None]
        )
        self.replicas.add(add)
        self.replicas.put(put)
        self.replicas.pend(pend)


def _filled(fields: Fields | None) -> Fields | None:
    return None if fields is None else {name: value for name, value in fields.items() if value is not None}


def _values(fields: Fields, shape: Shape) -> str:
    return encode([fields[name] for name in shape.names]).decode()
