"""Asks the guards about what was read of a store, before anything is journalled.

What looks at every difference is only worked out where a guard would trip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from evsync.binding import Binding
from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.guards import emptied, mapping_changed, too_many_changes, too_many_deletes
from evsync.projections.ingest import BATCH, Found, Ingest
from evsync.projections.merge import Rules, view
from evsync.projections.references import reader_of
from evsync.projections.replicas import BindingState, Replicas
from evsync.projections.spool import Spool
from evsync.projections.staging import Staged
from evsync.store import Store
from evsync.values import decode, encode


class Allowed(NamedTuple):
    """What a person said is meant, for this one run."""

    deletes: bool = False
    mapping: bool = False
    changes: bool = False


class Tripped(NamedTuple):
    """A guard that tripped: why, what would have come of going on, and the option that allows it."""

    reason: str
    ahead: str
    option: str


def guard(
    journal: Journal,
    store: Store,
    type: str,
    staged: Staged,
    state: BindingState | None,
    allowed: Allowed = Allowed(),  # noqa: B008  (nobody can change it)
) -> list[Tripped]:
    """Every reason why what was staged looks like an accident."""
    binding = store.binding(type)
    found = []
    remapped = mapping_changed(
        None if state is None else state.mapping, binding.as_document(), binding.open, binding.contract
    )
    if remapped and not allowed.mapping:
        found.append(
            Tripped(remapped, "what it reads otherwise now would be taken for edits", "--allow-mapping")
        )
    if not allowed.deletes:
        reason = _deletes(journal, store, type, staged, state)
        if reason:
            ahead = f"{staged.gone} record{_s(staged.gone)} would be deleted in the other stores too"
            found.append(Tripped(reason, ahead, "--allow-deletes"))
    # Under another mapping everything may well look changed.
    if not remapped and not allowed.changes and not staged.by_feed:
        reason = _changes(journal, store, type, staged, state)
        if reason:
            ahead = "their new values would be written to the other stores too"
            found.append(Tripped(reason, ahead, "--allow-changes"))
    return found


def _deletes(
    journal: Journal, store: Store, type: str, staged: Staged, state: BindingState | None
) -> str | None:
    limit = store.most_deletes(type)
    if not staged.by_feed and (reason := emptied(staged.known, staged.found)):
        return reason
    if state is None or not too_many_deletes(staged.known, staged.gone, limit):
        return None
    gone = staged.gone
    if not staged.by_feed:
        gone -= _own(journal, store, type, staged, state, deletes=True)
        if too_many_deletes(staged.known, gone, limit):
            gone -= renamed(journal, store, type, staged, state)
    return too_many_deletes(staged.known, gone, limit)


def _changes(
    journal: Journal, store: Store, type: str, staged: Staged, state: BindingState | None
) -> str | None:
    limit = store.most_changes(type)
    reason = too_many_changes(staged.known, staged.changed, staged.unchanged, limit)
    if reason is None or state is None or not state.intents:
        return reason
    own = _own(journal, store, type, staged, state, deletes=False)
    return too_many_changes(staged.known, staged.changed - own, staged.unchanged + own, limit)


def _own(
    journal: Journal, store: Store, type: str, staged: Staged, state: BindingState, *, deletes: bool
) -> int:
    """How many of the deletions or changes are our own writes, by a run that was killed."""
    if not state.intents:
        return 0
    reader = reader_of(journal, store, type)
    ingest = Ingest(journal, store, type, reader, Rules(), state, 0)
    return sum(
        len(ingest.own_writes([f for f in batch if f.replica is not None and (f.text is None) is deletes]))
        for batch in _batches(staged)
    )


def renamed(journal: Journal, store: Store, type: str, staged: Staged, state: BindingState) -> int:
    """How many of the records that are gone came up again under another key: where a gone record and a new one, in a
    store without ids of its own, have the same content but for the key fields, and no third one has."""
    binding = store.binding(type)
    sides = Spool()
    try:
        for number, batch in enumerate(_batches(staged)):
            sides.add(_sides(journal, binding, Replicas(journal, state.id), batch, number))
        sides.close()
        found = 0
        for _, alike in groupby(sides, key=lambda row: row[1]):
            of_each = [side for _, _, side in islice(alike, 3)]
            found += sorted(of_each) == ["gone", "new"]
        return found
    finally:
        sides.discard()


def _sides(
    journal: Journal,
    binding: Binding,
    replicas: Replicas,
    batch: Sequence[Found],
    number: int,
) -> Iterator[tuple[str, str, str]]:
    """(a name of its own, what is compared, "gone" or "new") of each record that is the one or the other."""
    held = replicas.by_key([found.key for found in batch if found.text is None])
    revisions = journal.revisions(replica.seq for replica in held.values())
    for position, found in enumerate(batch):
        content: Fields | None
        if found.text is None:
            replica = held.get(found.key)
            if replica is None:
                continue
            content = replica.content or view(revisions.get(replica.seq), binding.names)
            side = "gone"
        elif found.replica is None and found.id is None:
            names = binding.names if found.names is None else decode(found.names)
            content = dict(zip(names, decode(found.text), strict=True))
            side = "new"
        else:
            continue
        rest = {name: value for name, value in (content or {}).items() if name not in binding.key}
        if any(value is not None for value in rest.values()):
            digest = hashlib.sha256(encode(sorted(rest.items()))).hexdigest()
            yield f"{digest} {number:x} {position:x}", digest, side


def _batches(staged: Staged) -> Iterator[list[Found]]:
    for batch in staged.different.batches(BATCH):
        yield list(map(Found._make, batch))


def _s(count: int) -> str:
    return "" if count == 1 else "s"
