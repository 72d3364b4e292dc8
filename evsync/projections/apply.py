"""Writing planned steps into a store through its accessor, and learning what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from evsync.accessor import Accessor, CanApply, CanNote, Change, Note, Outcome, Row, Verdict
from evsync.data import Data, join_key
from evsync.errors import BrokenStore, EvsyncError, Refused, Retry
from evsync.journal.event import Fields
from evsync.projections.merge import same_record
from evsync.projections.plan import Step
from evsync.projections.reader import BadRow, Reader, key_text
from evsync.projections.replicas import Replica
from evsync.store import Store
from evsync.values import ABSENT

ONE_BY_ONE = 500  # records between two notes of progress where an accessor cannot write in bulk


class Judge(msgspec.Struct):
    """Decides, inside the writing transaction, whether a record may be written: only if it is as it was when
    it was last ingested (`expected`, its fingerprint; None: not there). `wanted` is how it should be;
    if it is so already there is nothing to do. `force`: write whatever is there. `said`: the last verdict."""

    reader: Reader
    expected: bytes | None
    wanted: bytes | None
    force: bool = False
    said: Verdict | None = None

    def __call__(self, row: Row | None) -> Verdict:
        self.said = self._verdict(row)
        return self.said

    def _verdict(self, row: Row | None) -> Verdict:
        if row is None:
            found = None
        else:
            try:
                found = self.reader.read(row).fingerprint
            except BadRow:
                return "write" if self.force else "changed"
        if found == self.wanted:
            return "done"
        return "write" if self.force or found == self.expected else "changed"


class Effect(msgspec.Struct):
    """What a step did. `state` as in Outcome; then what the store holds now: `fingerprint` None if nothing,
    `content` where that is not just what was wanted, `id` where the store does not call it by its key."""

    step: Step
    state: str
    fingerprint: bytes | None = None
    content: Fields | None = None
    id: int | str | None = None
    error: Exception | None = None


def batch_size(accessor: Accessor) -> int:
    """How many steps to write at once."""
    return accessor.batch if isinstance(accessor, CanApply) else ONE_BY_ONE


def change_of(
    step: Step, replica: Replica | None, holds: Fields | None, reader: Reader, judge: Judge
) -> Change:
    """The change that a step asks of an accessor. `holds`: what the store holds now, by which it is found there."""
    known = holds if holds is not None else step.want or {}
    name = reader.native(known, reader.binding.key)
    values = {} if step.want is None else reader.native(step.want, step.fields)
    action = step.action
    assert action in ("create", "update", "delete")
    id = None if replica is None else replica.id
    if id is not None and holds is not None and str(id) == _key(reader, holds):
        id = None  # no id of the store's own: what stands in its key fields, and by that it is found
    return Change(action, id, name, values, judge)


class Noting(NamedTuple):
    """What the store is to put down of a batch: see `evsync.accessor.Note`, with effects for outcomes."""

    place: str
    number: int
    text: Callable[[Sequence[Effect]], str]


def write(
    store: Store,
    reader: Reader,
    steps: Sequence[Step],
    changes: Sequence[Change],
    judges: Sequence[Judge],
    noting: Noting | None = None,
) -> list[Effect]:
    """Write them; one effect per step. Raises StoreError where the store as a whole is in trouble."""
    type = reader.binding.type
    accessor = store.accessor(type)

    def effects(outcomes: Sequence[Outcome]) -> list[Effect]:
        return [
            _effect(reader, step, change, judge, outcome)
            for step, change, judge, outcome in zip(steps, changes, judges, outcomes, strict=False)
        ]

    if isinstance(accessor, CanApply):
        try:
            if noting is not None and isinstance(accessor, CanNote):
                note = Note(noting.place, noting.number, lambda outcomes: noting.text(effects(outcomes)))
                outcomes = accessor.apply_noted(store, type, changes, note)
            else:
                outcomes = accessor.apply(store, type, changes)
        except EvsyncError:
            raise
        except Exception as error:  # one that the accessor did not foresee is trouble with its store only
            raise BrokenStore(
                f"store {store.name!r}: writing broke off: {error.__class__.__name__}: {error}",
                "run again with --debug to see where",
            ) from error
    else:
        outcomes = [_one(store, accessor, reader, change) for change in changes]
    assert len(outcomes) == len(steps)
    return effects(outcomes)


def _one(store: Store, accessor: Accessor, reader: Reader, change: Change) -> Outcome:
    """The same by the six methods alone."""
    type = reader.binding.type
    try:
        found = accessor.get(store, type, change.id) if change.id is not None else None
        if found is None and change.name:
            found = accessor.get_by_name(store, type, change.name)
        verdict = change.judge(None if found is None else reader.row_of(found))
        if verdict != "write":
            row = None if found is None else reader.row_of(found)
            return Outcome(verdict, row, id=None if found is None else found.id)
        if change.action == "delete":
            if found is not None:
                accessor.remove(store, found)
            return Outcome("written")
        if found is None:
            values = {local: value for local, value in change.values.items() if value is not ABSENT}
            stored = accessor.add(store, Data(type, {**change.name, **values}))
        else:
            stored = accessor.update(store, Data(type, change.values, id=found.id), found)
        return Outcome("written", reader.row_of(stored), id=stored.id)
    except (Refused, Retry) as error:
        return Outcome("failed", error=error)
    except EvsyncError:
        raise
    except Exception as error:  # one that the accessor did not foresee is this record's trouble only
        return Outcome("failed", error=Refused(f"{error.__class__.__name__}: {error}"))


def _effect(reader: Reader, step: Step, change: Change, judge: Judge, outcome: Outcome) -> Effect:
    wanted, state = judge.wanted, outcome.state
    if state == "done" and judge.said == "write":
        state = "written"  # it came to the same, as where absent and null look alike: planned as a write, counted as one
    if outcome.state == "changed" and step.action == "create" and outcome.row is not None:
        error = _in_the_way(reader, step, outcome.row)
        if error is not None:
            return Effect(step, "failed", error=error)
    if outcome.state in ("failed", "changed"):
        return Effect(step, outcome.state, error=outcome.error)
    if step.want is None:
        return Effect(step, state)
    if outcome.row is None:
        local: int | str = (
            outcome.id
            if outcome.id is not None
            else change.id
            if change.id is not None
            else _key(reader, step.want)
        )
        back = reader.read_back(step.want)
        as_wanted = same_record(back, step.want)
        return Effect(
            step,
            state,
            wanted if as_wanted else reader.fingerprint_of(back),
            None if as_wanted else back,
            None if str(local) == step.key else local,
        )
    try:
        record = reader.read(outcome.row)
    except BadRow as bad:
        return Effect(
            step, "failed", error=Refused(f"the store made something unreadable of it: {bad.error}")
        )
    local = outcome.id if outcome.id is not None else record.id if record.id is not None else record.key
    return Effect(
        step,
        state,
        record.fingerprint,
        None if record.fingerprint == wanted else reader.fields_of(record),
        None if str(local) == step.key else local,
    )


def _in_the_way(reader: Reader, step: Step, row: Row) -> Refused | None:
    """Why a record cannot be created beside one that has another key, but the same one to the store: a column may mind no
    case, or no trailing zeros."""
    try:
        other = reader.read(row).key
    except BadRow:
        return None
    wanted = _key(reader, step.want or {})
    if other == wanted:
        return None
    return Refused(
        f"the store holds the record {other!r}, and {wanted!r} is the same key to it",
        "give one of the two another",
    )


def _key(reader: Reader, record: Fields) -> str:
    types = {field.name: field.type for field in reader.binding.fields}
    return join_key([key_text(types[name], record[name]) for name in reader.binding.key])
