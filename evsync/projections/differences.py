"""What differs between a store and the canonical state, or between two stores."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from evsync.journal.event import Fields, Revision
from evsync.journal.journal import Journal
from evsync.projections.contents import Content, contents, load_contents
from evsync.projections.merge import differing, same_record, view
from evsync.projections.replicas import Replicas, binding_state
from evsync.store import Store
from evsync.values import ABSENT, equivalent, shown

Difference = dict[str, Any]
_LAST = 2**63 - 1
CHUNK = 500


def from_state(
    journal: Journal, store: Store, type: str, at: int | None = None, *, to_come: bool = False
) -> Iterator[Difference]:
    """How `store` differs from the canonical state at a position (None: the head). `fields`: [canonical, store]. `to_come`:
    the type is not there, until a replay creates it."""
    state = binding_state(journal, store.name, type)
    reader, _ = load_contents(journal, store, type, state, "evsync_left", to_come=to_come)
    names = reader.binding.names
    types = {field.name: field.type for field in reader.binding.fields}
    replicas = Replicas(journal, -1 if state is None else state.id)
    for key, revision, content in _together(_states(journal, type, at), contents(journal, "evsync_left")):
        want = None if revision is None else reader.binding.view(revision.fields)
        holds = None if content is None else content.fields
        if same_record(want, holds):
            continue
        if want is not None and content is not None and revision is not None:
            replica = replicas.by_key([key]).get(key)
            if (
                replica is not None
                and replica.in_line
                and replica.fingerprint == content.fingerprint
                and same_record(view(journal.revisions([replica.seq])[replica.seq], names), want)
            ):
                continue  # its own way of writing just this
        yield _difference(type, key, want, holds, types)


def between(
    journal: Journal, left: Store, right: Store, type: str, to_come: Collection[str] = ()
) -> Iterator[Difference]:
    """How `right` differs from `left` in the fields that both hold. `fields`: [left, right]. What means the same, though each
    store writes it in its own way, is no difference: 3 and 3.00. `to_come`: the names of those where the type is not there yet."""
    readers = []
    for store, table in ((left, "evsync_left"), (right, "evsync_right")):
        state = binding_state(journal, store.name, type)
        reader, _ = load_contents(journal, store, type, state, table, to_come=store.name in to_come)
        readers.append(reader)
    names = sorted(set(readers[0].binding.names) & set(readers[1].binding.names))
    types = {field.name: field.type for field in readers[0].binding.fields}
    for key, one, other in _together(contents(journal, "evsync_left"), contents(journal, "evsync_right")):
        mine = None if one is None else view(one.fields, names)
        theirs = None if other is None else view(other.fields, names)
        without = readers[0].binding if one is None else readers[1].binding if other is None else None
        if without is not None and without.where is not None:
            head = journal.heads(type, [key]).get(key)
            if head is not None and head.fields is not None and not without.holds(head.fields):
                continue  # it does not belong there
        if not same_record(mine, theirs) and not _mean_the_same(mine, theirs, types):
            yield _difference(type, key, mine, theirs, types)


def _mean_the_same(one: Fields | None, other: Fields | None, types: dict[str, str]) -> bool:
    if one is None or other is None:
        return False
    return all(
        equivalent(types[name], one.get(name, ABSENT), other.get(name, ABSENT))
        for name in differing(one, other)
    )


def _states(journal: Journal, type: str, at: int | None) -> Iterator[tuple[str, Revision]]:
    number = journal.known_name(type)
    rows = journal.connection.execute(
        "SELECT DISTINCT key FROM event WHERE type = ? AND op <> 'read' AND seq <= ? ORDER BY key",
        (number, _LAST if at is None else at),
    )
    while keys := [row[0] for row in rows.fetchmany(CHUNK)]:
        heads = journal.heads(type, keys, at)
        for key in keys:
            if heads[key].fields is not None:
                yield key, heads[key]


def _together(left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    """Two streams in order of the keys as one: (key, of the left or None, of the right or None)."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if one is not None and (other is None or (one is not None and one[0].encode() < other[0].encode())):
            yield one[0], _value(one), None
            one = next(lefts, None)
        elif other is not None and (one is None or other[0].encode() < one[0].encode()):
            yield other[0], None, _value(other)
            other = next(rights, None)
        elif one is not None and other is not None:
            yield one[0], _value(one), _value(other)
            one, other = next(lefts, None), next(rights, None)


def _value(entry: Any) -> Any:
    return entry if isinstance(entry, Content) else entry[1]


def _difference(
    type: str, key: str, left: Fields | None, right: Fields | None, types: dict[str, str]
) -> Difference:
    kind = "missing" if right is None else "extra" if left is None else "different"
    one, other = left or {}, right or {}
    names = differing(one, other) if kind == "different" else sorted({**one, **other})
    return {
        "type": type,
        "key": key,
        "kind": kind,
        "fields": {
            name: [shown(types[name], one.get(name)), shown(types[name], other.get(name))] for name in names
        },
    }
