"""Undo: the inverse of an event, merged into what became of the record since.

An undo is a three-way merge: its base is the record after the event, its own side the record before it, the
other side the record as it is now. What was changed since is not overwritten: there an open conflict is left.
The `base` of an undo event is the event that it undoes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec

from evsync import __version__
from evsync.decided import event_of, forget_deleted, types_of
from evsync.errors import NotFound, UsageError
from evsync.journal.conflicts import open_disputes
from evsync.journal.event import OWN, Fields, Revision
from evsync.journal.journal import Journal
from evsync.projections.merge import Decision, Held, Origin, Rules, Sighting, decide, same_record
from evsync.report import Report
from evsync.values import decode, same

BATCH = 2_000
"""Events undone in one transaction."""

LISTED = 1_000
"""Events that a report names; the others are counted."""

MANUAL = Rules(fields="manual", delete="manual", adopt="manual")


class Target(NamedTuple):
    """An event to be undone."""

    seq: int
    op: str
    type: str
    key: str
    after: Revision


class Inverse(msgspec.Struct, frozen=True):
    """What undoing an event means: the record as it will be, the conflict that is left, or why there is nothing to do."""

    after: Fields | None = None
    conflict: dict[str, Any] | None = None
    nothing: str | None = None


def inverse(
    target: Target, prior: Fields | None, now: Fields | None, head: int, types: dict[str, str]
) -> Inverse:
    """Undo the event on a record that was `prior` before it and is `now` at revision `head`."""
    post = target.after.fields
    if same_record(prior, post):
        return Inverse(nothing=f"event {target.seq} changed nothing")
    if same_record(prior, now):
        return Inverse(nothing=f"the record is already as it was before event {target.seq}")
    decision = decide(
        Sighting(
            store=OWN,
            type=target.type,
            key=target.key,
            mapped=tuple(sorted({*(prior or {}), *(post or {}), *(now or {})})),
            types=types,
            content=prior,
            held=None if post is None else Held(target.seq, True),
            had=post,
            ancestor=post or {},
            theirs=now,
            head=head,
            origin=lambda field: Origin(""),
        ),
        MANUAL,
    )
    conflict = _conflict(target, prior, decision)
    if conflict is None and same_record(decision.after, now):
        return Inverse(nothing=f"what event {target.seq} changed is already as it was before")
    return Inverse(decision.after, conflict)


def _conflict(target: Target, prior: Fields | None, decision: Decision) -> dict[str, Any] | None:
    if decision.conflict is None:
        return None
    if prior is None:
        basis = f"event {target.seq} created the record, which was changed since: it was not deleted"
    elif decision.after is None:
        basis = f"the record was deleted since event {target.seq}: it was not brought back"
    else:
        basis = f"these fields were changed since event {target.seq}: they were left as they are"
    return {**decision.conflict, "policy": "undo", "open": True, "basis": basis}


def undo(
    journal: Journal,
    seq: int | None,
    of_run: int | None,
    computed: Mapping[str, Collection[str]],
    *,
    actor: str | None,
    dry_run: bool,
) -> Report:
    """Undo an event, or all events of a run, newest first. `computed`: by type, the fields that a store computes, which follow
    when the others are undone. Raises NotFound or UsageError for one that cannot be."""
    if (seq is None) == (of_run is None):
        raise UsageError(
            "say what to undo: the position of an event, or a run", "evsync undo SEQ, or evsync undo --run N"
        )
    with journal.rehearsal() if dry_run else nullcontext():
        undoing = _Undoing(journal, computed, actor)
        if seq is not None:
            with journal.write():
                undoing.batch([_target(journal, seq)])
        else:
            assert of_run is not None
            for seqs in _batches(journal, of_run):
                with journal.write():
                    undoing.batch([_target(journal, one) for one in seqs])
        return undoing.report(dry_run)


def without_computed(prior: Fields | None, after: Fields | None, computed: Collection[str]) -> Fields | None:
    """A record before an event, but with the values after it in these fields."""
    if prior is None or after is None:
        return prior
    kept = {name: value for name, value in prior.items() if name not in computed}
    return kept | {name: after[name] for name in computed if name in after}


class _Undoing:
    """One run of `undo`."""

    def __init__(self, journal: Journal, computed: Mapping[str, Collection[str]], actor: str | None) -> None:
        self.journal, self.computed, self.actor = journal, computed, actor
        self.run: int | None = None
        self.first: int | None = None
        self.last: int | None = None
        self.undone = self.conflicts = 0
        self.events: list[dict[str, Any]] = []
        self.nothing: str | None = None

    def batch(self, targets: list[Target]) -> None:
        """Undo these, inside `write`."""
        for target in targets:
            self._one(target)

    def _one(self, target: Target) -> None:
        journal = self.journal
        head = journal.heads(target.type, [target.key])[target.key]
        by = undone_by(journal, target)
        if by is not None:
            self.nothing = f"event {target.seq} is undone already, by event {by}"
            return
        prior = _prior(journal, target)
        # The values come from three payloads, each with types of its own; the one restored counts most.
        types = {
            **types_of(journal, target.type, head),
            **_named(target.after),
            **_named(head),
            **_named(prior),
        }
        before = without_computed(prior.fields, target.after.fields, self.computed.get(target.type, ()))
        if same_record(before, target.after.fields) and not same_record(prior.fields, target.after.fields):
            self.nothing = (
                f"what event {target.seq} changed only flows from a store (read_only): change it there"
            )
            return
        found = inverse(target, before, head.fields, head.seq, types)
        if found.nothing is not None:
            self.nothing = found.nothing
            return
        if found.conflict is not None:
            self.conflicts += 1
            if same_record(found.after, head.fields) and self._known(target, found.conflict):
                self.nothing = f"undoing event {target.seq} is in conflict already, and waits for a decision"
                return
        if self.run is None:
            self.run = journal.begin_run("undo", __version__)
        event = event_of(
            journal, "undo", target.type, target.key, target.seq, head, found.after, types,
            conflict=found.conflict, actor=self.actor,
        )  # fmt: skip
        seq = journal.append([event], self.run)
        if found.after is None:
            forget_deleted(journal, target.type, target.key)
        self.first = seq if self.first is None else self.first
        self.last = seq
        self.undone += found.conflict is None
        if len(self.events) < LISTED:
            assert event.changed is not None
            self.events.append(
                {
                    "seq": seq,
                    "op": "undo",
                    "type": target.type,
                    "key": target.key,
                    "changed": list(event.changed.names),
                    "undoes": target.seq,
                    "open": found.conflict is not None,
                }
            )

    def _known(self, target: Target, conflict: dict[str, Any]) -> bool:
        """Whether just this is open already, so that to say it again would add nothing."""
        return any(
            same(_wanted(dispute.record), _wanted(conflict))
            for dispute in open_disputes(self.journal, OWN, target.type, target.key)
        )

    def report(self, dry_run: bool) -> Report:
        if self.run is not None:
            with self.journal.write():
                self.journal.end_run(self.run, {"undone": self.undone, "conflicts": self.conflicts})
        report = Report(
            command="undo",
            ok=True,
            dry_run=dry_run,
            run=None if dry_run else self.run,
            first=self.first,
            last=self.last,
            undone=self.undone,
            conflicts=self.conflicts,
            events=self.events,
            reason=None if self.undone or self.first else self.nothing,
        )
        report.exit_code = 4 if self.conflicts else 0
        return report


def _wanted(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"mine": sides["mine"]} if "mine" in sides else {} for name, sides in record["fields"].items()
    }


def _named(revision: Revision) -> dict[str, str]:
    shape = revision.shape
    return {} if shape is None else dict(zip(shape.names, shape.types, strict=True))


def _target(journal: Journal, seq: int) -> Target:
    row = journal.connection.execute(
        "SELECT e.op, t.name, e.key, e.after_shape, e.after FROM event e JOIN name t ON t.id = e.type"
        " WHERE e.seq = ?",
        (seq,),
    ).fetchone()
    if row is None:
        last = journal.head().seq
        raise NotFound(
            f"the journal has no event {seq}",
            f"its events are 1 to {last}: see evsync log"
            if last
            else "nothing was journalled so far: evsync ingest",
        )
    op, type, key, shape, text = row
    if op == "read":
        raise UsageError(
            f"event {seq} is a read: it changed nothing, so there is nothing to undo", "see: evsync log"
        )
    after = Revision(
        seq, journal.fields(shape, text), text, None if shape is None else journal.shape_of(shape)
    )
    return Target(seq, op, type, key, after)


def _prior(journal: Journal, target: Target) -> Revision:
    found = journal.heads(target.type, [target.key], target.seq - 1).get(target.key)
    return Revision(0, None, None, None) if found is None else found


def undone_by(journal: Journal, target: Target) -> int | None:
    """The undo that holds: one that left no conflict open, and that was not undone itself."""
    undos: dict[int, list[int]] = {}
    in_doubt = []
    for seq, base, conflict in journal.connection.execute(
        "SELECT seq, base, conflict FROM event WHERE type = ? AND key = ? AND op <> 'read' AND op = 'undo'"
        " AND seq > ? ORDER BY seq",
        (journal.known_name(target.type), target.key, target.seq),
    ):
        undos.setdefault(base, []).append(seq)
        if conflict is not None and decode(conflict)["open"]:
            in_doubt.append(seq)
    if not undos.get(target.seq):
        return None
    still_open = (
        {due.seq for due in open_disputes(journal, OWN, target.type, target.key)} if in_doubt else set()
    )
    holds: dict[int, bool] = {}
    for seq in sorted((one for found in undos.values() for one in found), reverse=True):
        # Whatever undoes an undo comes after it, so it is known already.
        holds[seq] = seq not in still_open and not any(holds[later] for later in undos.get(seq, ()))
    return next((seq for seq in undos[target.seq] if holds[seq]), None)


def _batches(journal: Journal, run: int) -> Iterator[list[int]]:
    """The positions of a run's events, newest first. Raises NotFound for a run that is unknown or wrote none."""
    command = journal.connection.execute("SELECT command FROM run WHERE id = ?", (run,)).fetchone()
    if command is None:
        raise NotFound(f"there is no run {run}", "each event names its run: evsync log --format json")
    first, last = journal.connection.execute(
        "SELECT min(seq), max(seq) FROM event WHERE run = ? AND op <> 'read'", (run,)
    ).fetchone()
    if first is None:
        raise NotFound(
            f"run {run} ({command[0]}) changed no record, so there is nothing to undo",
            "each event names its run: evsync log --format json",
        )
    end = last + 1
    while seqs := [
        row[0]
        for row in journal.connection.execute(
            "SELECT seq FROM event WHERE seq >= ? AND seq < ? AND run = ? AND op <> 'read' ORDER BY seq DESC LIMIT ?",
            (first, end, run, BATCH),
        )
    ]:
        end = seqs[-1]
        yield seqs
