"""The second half of an ingest: decide what the staged differences mean, and append.

Each batch is one transaction: events, heads and replicas together. Killed between two of them, the next run
finds the first one's records unchanged and goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from evsync.binding import Binding
from evsync.errors import Refused
from evsync.journal.event import Fields, NewEvent, Revision, Shape
from evsync.journal.journal import Journal, clock
from evsync.journal.query import origin
from evsync.projections.creating import Creating, Row
from evsync.projections.matching import matched
from evsync.projections.merge import Decision, Held, Origin, Rules, Sighting, decide, same_record, view
from evsync.projections.reader import Reader, wire_of_key
from evsync.projections.references import is_referenced, matches, note_matches
from evsync.projections.replicas import BindingState, Replica, Replicas
from evsync.projections.spool import Doubled
from evsync.projections.staging import Progress, Staged
from evsync.projections.streaming import Stream
from evsync.store import Store
from evsync.values import decode, encode

BATCH = 5_000  # events in one transaction
OWN, HALVED = -1, -2  # in place of an event's position: our own write, or the first half of it


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


class Adoption(msgspec.Struct):
    """How a store that is met for the first time compares with the journal, in records: those alike in both, those
    that differ, those only here, those that the journal has alone, and those that nobody can attribute."""

    matched: int = 0
    differ: int = 0
    new: int = 0
    missing: int = 0
    ambiguous: int = 0

    def add(self, other: Adoption) -> None:
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
        match: Sequence[Sequence[str]] = (),
    ) -> None:
        self.journal, self.store, self.type = journal, store, type
        self.match = match
        self.reader, self.rules, self.state, self.run = reader, rules, state, run
        self.binding = reader.binding
        self.replicas = Replicas(journal, state.id)
        self.types = {field.name: field.type for field in self.binding.fields}
        mapped_before = None if state.mapping is None else set(state.mapping.get("fields", {}))
        self.fresh: frozenset[str] = (
            frozenset() if mapped_before is None else frozenset(self.binding.names) - mapped_before
        )
        self.retire = is_referenced(store, type)
        self.counts = Counts()
        self.alike = 0  # records adopted as they are
        self.ambiguous = 0
        self.complete = True  # nothing is left for the next ingest
        # Whether a new record is taken just as it is, and then in line.
        self._plain = self.binding.where is None and not self.binding.write_only
        self._had_replicas = False
        self._ids_may_be_taken = True
        self._streams = False
        self._full_shape: Shape | None = None

    def enter(self, staged: Staged, progress: Progress | None = None) -> Counts:
        """Enter everything that was staged, in order of the keys."""
        if self.match:
            self._match(staged)
        self._ids_may_be_taken = not staged.first_met
        self._streams = isinstance(staged.different, Stream)
        self.counts.unchanged += staged.unchanged
        done = 0
        if self.fresh and staged.known:
            with self.journal.write():
                remember_without(self.journal, self.replicas, self.binding.names, self.fresh)
        plain = staged.first_met and self._plain and not (self.state.intents or self.binding.translated)
        creating: Creating | None = None
        try:
            for batch in staged.different.batches(BATCH):
                if creating is None:
                    left: Sequence[Row] = batch
                elif staged.different.in_order:
                    left = creating.take(batch)
                else:
                    left = [*creating.wait(), *batch]
                if left:
                    creating = self._enter(left, plain and staged.different.in_order, creating)
                done += len(batch)
                if progress:
                    progress(f"journalling {self.store.name} {self.type}", done, staged.different.count)
            if creating is not None:
                creating = self._enter(creating.wait(), False, creating)
        finally:
            if creating is not None:
                self.counts.created += creating.close()
            staged.different.discard()
        self.counts.quarantined += len(staged.bad)
        if staged.moved:
            with self.journal.write():
                self.replicas.rename(staged.moved)
        return self.counts

    def _enter(self, rows: Sequence[Row], plain: bool, before: Creating | None) -> Creating | None:
        """Enter these the ordinary way. Answers with a quicker one for the rest, if they are `plain` and nobody else
        can know them: the type is new, or nobody has written since it was."""
        if before is not None:
            self.counts.created += before.close()
        if not rows:
            return None
        with self.journal.write():
            alone = (
                not self.journal.has_type(self.type) if before is None else before.head == self.journal.head()
            )
            self.batch(self._rekeyed(list(map(Found._make, rows))))
            if not (plain and alone):
                return None
            shape = self._shape(self.binding.names)
            head = self.journal.head()
        return Creating(self.journal, self.replicas, head, shape, self.store.name, self.type, self.run)

    def _match(self, staged: Staged) -> None:
        with self.journal.write():
            bad, waiting = matched(self.journal, self.type, self.binding, self.replicas, self.match, staged)
            self.replicas.pend(waiting)
            if self.retire:
                note_matches(self.journal, self.store, self.type)
        staged.bad += bad
        self.ambiguous += len(bad)

    def _rekeyed(self, batch: list[Found]) -> list[Found]:
        """The same with references to records that were matched with others since they were read."""
        for field in self.binding.translated:
            assert field.references is not None
            moved = matches(self.journal, self.store, field.references)
            for index, found in enumerate(batch) if moved else ():
                content = self._content(found)
                new = None if content is None else moved.get(str(content.get(field.name)))
                if content is not None and new is not None:
                    content[field.name] = wire_of_key(field.type, new)
                    text = encode(list(content.values())).decode()
                    print_ = self.reader.fingerprint_of(content)
                    batch[index] = found._replace(text=text, fingerprint=print_)
        return batch

    def adoption(self) -> Adoption:
        """How what was entered compares with the journal; `missing` is for later, when all stores are entered."""
        differ = self.counts.adopted - self.alike
        return Adoption(self.alike, differ, self.counts.created, 0, self.ambiguous)

    def batch(self, batch: Sequence[Found], actor: str | None = None) -> None:
        """Enter these, each key once, inside `write`. `actor`: who did it, where that is known better than
        the store knows it."""
        self._full_shape = None  # its number is only good within the transaction that may have assigned it
        keys = [found.key for found in batch]
        replicas = self.replicas.by_key(keys) if self._replicas_exist() else {}
        heads = self.journal.heads(self.type, keys) if self.journal.has_type(self.type) else {}
        if self._plain and not replicas and not heads and not self.state.intents and self._all_new(batch):
            self._create(batch, actor)
            return
        fresh = [f for f in batch if self._still(f, replicas.get(f.key))]
        if len(fresh) < len(batch):
            self.complete = False
            if self._streams:
                self._refuse_double(batch, replicas)
        own = self.own_writes(fresh)
        ancestors = self.journal.revisions(
            r.seq for f in fresh if (r := replicas.get(f.key)) is not None and f.key not in own
        )
        events: list[NewEvent] = []
        remember: list[tuple[Found, Decision | None, int, int, Fields | None]] = []
        for found in fresh:
            replica, head = replicas.get(found.key), heads.get(found.key)
            if found.key in own:
                self.counts.unchanged += 1
                position, seq, kept, fingerprint = own[found.key]
                remember.append((found._replace(fingerprint=fingerprint), None, position, seq, kept))
            elif replica is None and (head is None or head.fields is None) and found.text is None:
                continue
            elif self._plain and replica is None and (head is None or head.fields is None):
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
                if decision.adopted and decision.op is None and head is not None:
                    base = base if decision.remember == "behind" else head.seq
                remember.append((found, decision, position, base, content))
        first = self.journal.append(events, self.run) if events else 0
        self._remember(remember, first)

    @staticmethod
    def _all_new(batch: Sequence[Found]) -> bool:
        return all(found.replica is None and found.text is not None for found in batch)

    def _create(self, batch: Sequence[Found], actor: str | None) -> None:
        """Records that nobody knows: no decision, as in nearly all of a first ingest."""
        first = self.journal.append([self._creation(found, None, actor) for found in batch], self.run)
        self._release((found.key, found.id) for found in batch)
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

    def _refuse_double(self, batch: Sequence[Found], replicas: Mapping[str, Replica]) -> None:
        """Of a store that is entered while it is read, a record may come whose key came before. Raises Doubled."""
        for found in batch:
            replica = replicas.get(found.key)
            if replica is not None and self.journal.run_of(replica.seq) == self.run:
                raise Doubled(found.key)

    def recover(self, staged: Staged) -> None:
        """Of what was staged take only our own writes whose end we did not see; the rest is for an ingest."""
        rows = iter(staged.different)
        while batch := [Found(*row) for row in islice(rows, BATCH)]:
            with self.journal.write():
                replicas = self.replicas.by_key([found.key for found in batch])
                fresh = [found for found in batch if self._still(found, replicas.get(found.key))]
                own = self.own_writes(fresh)
                self._remember(
                    [
                        (f._replace(fingerprint=own[f.key][3]), None, *own[f.key][:3])
                        for f in fresh
                        if f.key in own
                    ],
                    0,
                )
        staged.different.discard()

    def own_writes(self, batch: Sequence[Found]) -> dict[str, tuple[int, int, Fields | None, bytes | None]]:
        """What is no change of the store's, but our own write whose end we did not see: key → how much of it (OWN or
        HALVED), revision, what the store made of it where that is not the same (null is how many a store writes an
        absent value), and what to know it by."""
        own: dict[str, tuple[int, int, Fields | None, bytes | None]] = {}
        for intent in self.state.intents:
            heads = self.journal.heads(self.type, [f.key for f in batch], intent)
            for found in batch:
                head = heads.get(found.key)
                then = None if head is None else self._as_written(head.fields)
                content = self._content(found)
                fingerprint = found.fingerprint
                if then is not None and content is not None and self.binding.unwritten:
                    content = as_if_written(self.binding, content, then)
                    fingerprint = self.reader.fingerprint_of(content)
                if same_record(_filled(then), _filled(content)):
                    as_wanted = head is not None and same_record(self.binding.view(head.fields), content)
                    kept = None if as_wanted else content
                    own[found.key] = (OWN, 0 if head is None else head.seq, kept, fingerprint)
                elif self._is_halved(_filled(then), _filled(content)):
                    own[found.key] = (HALVED, 0, content, fingerprint)
        return own

    def _is_halved(self, then: Fields | None, content: Fields | None) -> bool:
        """Whether this is a record as it is created while those that it refers to are not there yet."""
        if then is None or content is None or not self.binding.translated:
            return False
        unset = {field.name for field in self.binding.translated if field.name not in content}
        return same_record({n: value for n, value in then.items() if n not in unset}, content)

    def _as_written(self, record: Fields | None) -> Fields | None:
        """A canonical record as a write of it would be found in the store."""
        shown = self.binding.view(record)
        try:
            return shown if shown is None else self.reader.read_back(shown)
        except Refused:  # then it was never written
            return shown

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
                now=lambda: max(clock(), self.journal.head().observed_at),
                fresh=self.fresh,
                write_only=self.binding.write_only,
                holds=self.binding.holds,
            ),
            self.rules,
        )

    def _count(self, decision: Decision) -> None:
        counts = self.counts
        if decision.adopted:
            counts.adopted += 1
            self.alike += decision.conflict is None
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
            replica.seq
            if replica is not None
            else head.seq
            if head is not None and decision.op == "create"
            else 0,
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
                remember = "in-line" if content is None else "normalised" if position == OWN else "behind"
            if found.text is None and decision is None:
                forget.append(found.key)  # our own deletion
            elif found.replica is None and remember in ("in-line", "at-head"):
                add.append((found.key, seq, found.fingerprint, found.id))
            elif remember in ("in-line", "at-head", "as-before"):
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
        if forget:
            self.replicas.forget(forget, self.retire)
        # Two records may swap their ids; nobody holds one while they are dealt out.
        named = [(None, f.replica) for f, *_ in decided if f.replica is not None and f.id is not None]
        if named:
            self.replicas.rename(named)
        self._release([(key, id) for key, _, _, id in add] + [(row[0], row[3]) for row in put])
        if add:
            self.replicas.add(add)
        if put:
            self.replicas.put(put)
        if pend:
            self.replicas.pend(pend)

    def _release(self, named: Iterable[tuple[str, int | str | None]]) -> None:
        """An id that was dealt out again is no longer that of the record that had it, though its end, or its new id,
        may be entered in a later batch."""
        taken = [(key, id) for key, id in named if id is not None] if self._ids_may_be_taken else []
        if taken:
            self.replicas.release(taken)


def as_if_written(binding: Binding, content: Fields, want: Fields, had: Fields | None = None) -> Fields:
    """What a store holds, with what it was meant to hold in the fields that are never written there. Remembered so,
    the values that the store has computed for them are seen as its own change at the next ingest. Where nothing
    stands, and nothing stood in what it `had`, there was nothing computed."""
    computed = {
        name
        for name in binding.unwritten
        if content.get(name) is not None
        or (name in binding.generated and name in content)
        or (had or {}).get(name) is not None
    }
    known = {name: value for name, value in content.items() if name not in computed}
    return {**known, **{name: want[name] for name in computed if name in want}}


def remember_without(
    journal: Journal, replicas: Replicas, names: Sequence[str], fresh: frozenset[str]
) -> None:
    """Before fields are mapped for the first time, inside `write`: what is remembered by its revision alone would
    seem to hold them, if that revision has them."""
    behind: list[tuple[str, int, bytes | None, int | str | None, bool, Fields | None]] = []
    held = replicas.all()
    while chunk := list(islice(held, BATCH)):
        revisions = journal.revisions(replica.seq for replica in chunk)
        for replica in chunk:
            then = view(revisions.get(replica.seq), names) or {}
            if replica.fingerprint is None or not fresh & then.keys():
                continue
            content = then if replica.content is None else replica.content
            known = {name: value for name, value in content.items() if name not in fresh}
            behind.append((replica.key, replica.seq, replica.fingerprint, replica.id, False, known))
    replicas.put(behind)
    replicas.pend([entry[0] for entry in behind])


def _filled(fields: Fields | None) -> Fields | None:
    return None if fields is None else {name: value for name, value in fields.items() if value is not None}


def _values(fields: Fields, shape: Shape) -> str:
    return encode([fields[name] for name in shape.names]).decode()
