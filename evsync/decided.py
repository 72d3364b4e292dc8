"""An event that evsync itself decides: settled, resolved or undone, in no store but in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evsync.journal.conflicts import declared_types
from evsync.journal.event import OWN, Fields, NewEvent, Revision
from evsync.journal.journal import Journal
from evsync.projections.merge import differing
from evsync.values import encode


def changed_between(before: Fields | None, after: Fields | None) -> tuple[str, ...]:
    """The fields that an event changes, sorted: all, where the record goes."""
    return tuple(sorted(before or {})) if after is None else tuple(differing(before or {}, after))


def event_of(
    journal: Journal,
    op: str,
    type: str,
    key: str,
    base: int,
    head: Revision,
    after: Fields | None,
    types: Mapping[str, str],
    *,
    conflict: Mapping[str, Any] | None = None,
    actor: str | None = None,
) -> NewEvent:
    """The event that takes a record from `head` to `after`, inside `write`. `types`: of the values that are not the head's."""
    old = head.fields
    named = types_of(journal, type, head)
    changed = changed_between(old, after)
    event = NewEvent(op, OWN, type, key, base, actor=actor)
    if old is not None and changed:
        lost = {name: old[name] for name in changed if name in old}
        if lost:
            event.before, event.before_shape = journal.pack(lost, named)
    told = {**named, **{name: types[name] for name in changed if name in types}}
    if after is not None:
        event.after, event.after_shape = journal.pack(after, told)
    event.changed = journal.shape(changed, tuple(told.get(name, "json") for name in changed))
    if conflict is not None:
        event.conflict = encode(conflict).decode()
    return event


def types_of(journal: Journal, type: str, revision: Revision | None) -> dict[str, str]:
    """The value types of a revision's fields, and those fixed for the type's other fields."""
    types = declared_types(journal, type)
    if revision is not None and revision.shape is not None:
        types.update(zip(revision.shape.names, revision.shape.types, strict=True))
    return types


def forget_deleted(journal: Journal, type: str, key: str) -> None:
    """The record is gone by agreement, inside `write`: a store that deleted it is no longer in dispute, and may
    create it anew."""
    journal.connection.execute(
        "DELETE FROM replica WHERE key = ? AND fingerprint IS NULL"
        " AND binding IN (SELECT id FROM binding WHERE type = ?)",
        (key, type),
    )
