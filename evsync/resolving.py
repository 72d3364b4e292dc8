"""Decisions by hand: what becomes of a record with an open conflict. Stores follow at the next replay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from evsync import __version__
from evsync.binding import nearest
from evsync.decided import changed_between, event_of, forget_deleted, types_of
from evsync.errors import BadValue, EvsyncError, NotFound, UsageError
from evsync.journal.conflicts import Dispute, last_decision, open_disputes
from evsync.journal.event import OWN, Fields, Revision
from evsync.journal.journal import Journal
from evsync.journal.query import show_fields, similar_keys
from evsync.projections.holding import Holding, holding
from evsync.settling import side_of
from evsync.values import ABSENT, parse_json, wire_of


class Choice(msgspec.Struct, frozen=True):
    """What was decided: one of `take` (a store), `keep`, or `set` (raw values) with `unset`."""

    take: str | None = None
    set: Mapping[str, Any] = {}
    unset: Sequence[str] = ()
    keep: bool = False


class Situation(msgspec.Struct, frozen=True):
    """What is decided about: the canonical record, the last one that existed, the fields in dispute, and whether
    it is in dispute that the record exists."""

    canonical: Fields | None
    last: Fields
    fields: frozenset[str]
    existence: bool


def resolved(now: Situation, choice: Choice, taken: Holding | None) -> Fields | None:
    """The record as it will be. `choice.set` holds wire values here; `taken`: the side of the store that is taken."""
    if choice.keep:
        return now.canonical
    if taken is None:
        after = dict(now.last)
        after.update(choice.set)
        for name in choice.unset:
            after.pop(name, None)
        return after
    if taken.fields is None:
        return None
    names = now.fields if now.canonical is not None else taken.types.keys()
    after = dict(now.last)
    for name in names & taken.types.keys():
        value = taken.fields.get(name, ABSENT)
        if value is ABSENT:
            after.pop(name, None)
        else:
            after[name] = value
    return after


def check(choice: Choice) -> None:
    """Raises UsageError unless just one thing was decided."""
    ways = (choice.take is not None, bool(choice.set or choice.unset), choice.keep)
    if sum(ways) != 1:
        raise UsageError(
            "say what to do with the record: " + ("one thing only" if any(ways) else "nothing was given"),
            "--take STORE, or --set FIELD=VALUE and --unset FIELD, or --keep",
        )
    both = sorted(set(choice.set) & set(choice.unset))
    if both:
        raise UsageError(f"the field {both[0]!r} cannot be both set and unset")


def parsed(assignments: Sequence[str], types: Mapping[str, str]) -> dict[str, Any]:
    """The values in texts FIELD=VALUE, as `resolve` takes them: a `json` field's text is JSON. Raises UsageError."""
    found: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{text!r} sets nothing", "write: --set FIELD=VALUE")
        if name in found:
            raise UsageError(f"the field {name!r} is set twice")
        try:
            found[name] = parse_json(value) if types.get(name) == "json" else value
        except BadValue as bad:
            raise UsageError(
                f"field {name!r}: {bad.message}", "a json field takes JSON: '\"text\"'"
            ) from None
    return found


def resolve(
    journal: Journal,
    type: str,
    key: str,
    choice: Choice,
    *,
    stores: Collection[str],
    key_fields: Collection[str],
    declared: Mapping[str, str],
    actor: str | None,
) -> dict[str, Any]:
    """Append the decision; answers with the document of `evsync resolve`. `stores`: those that hold the type;
    `declared`: its fields as configured. Raises NotFound, UsageError, or EvsyncError if nothing is open."""
    check(choice)
    with journal.write():
        head = journal.heads(type, [key]).get(key)
        if head is None:
            raise NotFound(
                f"the journal knows no {type} {key!r}",
                nearest(key, similar_keys(journal, type, key)) or "see: evsync conflicts --open",
            )
        disputes = open_disputes(journal, type=type, key=key)
        if not disputes:
            raise _nothing_open(journal, type, key)
        fields = frozenset[str]().union(*(dispute.fields for dispute in disputes))
        existence = head.fields is None or any(not dispute.fields for dispute in disputes)
        last = head if head.fields is not None else _last_existing(journal, type, key)
        now = Situation(head.fields, last.fields or {}, fields, existence)
        types = {**declared, **types_of(journal, type, last)}
        set_types = {**types, **declared}
        fixed = set(key_fields) - fields
        choice = _checked(choice, type, fixed, set_types)
        taken = None if choice.take is None else _taken(journal, head, now, choice.take, stores, disputes)
        after = resolved(now, choice, taken)
        named = {**types, **(taken.types if taken is not None else {n: set_types[n] for n in choice.set})}
        conflict = {
            "fields": _told(journal, disputes, head, after),
            "policy": "resolve",
            "open": False,
            "basis": _basis(choice, existence),
            "settles": [dispute.seq for dispute in disputes],
        }
        event = event_of(
            journal, "resolve", type, key, head.seq, head, after, named, conflict=conflict, actor=actor
        )
        run = journal.begin_run("resolve", __version__)
        seq = journal.append([event], run)
        journal.end_run(run, {"resolved": len(disputes)})
        if after is None:
            forget_deleted(journal, type, key)
        return {
            "command": "resolve",
            "ok": True,
            "seq": seq,
            "type": type,
            "key": key,
            "before": _shown(head),
            "after": _shown(journal.heads(type, [key])[key]),
            "changed": list(changed_between(head.fields, after)),
        }


def _shown(revision: Revision) -> dict[str, Any] | None:
    if revision.fields is None or revision.shape is None:
        return None
    return show_fields(revision.shape, list(revision.fields.values()))


def _nothing_open(journal: Journal, type: str, key: str) -> EvsyncError:
    decided = last_decision(journal, type, key)
    return EvsyncError(
        f"{type} {key!r} has no open conflict",
        "see: evsync conflicts --open"
        if decided is None
        else f"its last conflict was decided by event {decided}; to take that back: evsync undo {decided}",
    )


def _last_existing(journal: Journal, type: str, key: str) -> Revision:
    row = journal.connection.execute(
        "SELECT seq, after_shape, after FROM event WHERE type = ? AND key = ? AND op <> 'read'"
        " AND after IS NOT NULL ORDER BY seq DESC LIMIT 1",
        (journal.known_name(type), key),
    ).fetchone()
    if row is None:
        return Revision(0, None, None, None)
    seq, shape, text = row
    return Revision(seq, journal.fields(shape, text), text, journal.shape_of(shape))


def _checked(choice: Choice, type: str, fixed: Collection[str], types: Mapping[str, str]) -> Choice:
    """The choice with its values in wire form."""
    for name in (*choice.set, *choice.unset):
        if name not in types:
            raise UsageError(
                f"the type {type!r} has no field {name!r}",
                nearest(name, types) or f"the fields are: {', '.join(sorted(types))}",
            )
        if name in fixed:
            raise UsageError(f"the field {name!r} is part of the key, and the key stays")
    values = {}
    for name, raw in choice.set.items():
        try:
            values[name] = wire_of(types[name], raw)
        except BadValue as bad:
            raise UsageError(
                f"field {name!r}: {bad.message}", f"give a value of type {types[name]}"
            ) from None
    return Choice(choice.take, values, tuple(choice.unset), choice.keep)


def _taken(
    journal: Journal,
    head: Revision,
    now: Situation,
    store: str,
    stores: Collection[str],
    disputes: Sequence[Dispute],
) -> Holding:
    """The side of the store; that of evsync itself is what an undo wanted."""
    type, key = disputes[0].type, disputes[0].key
    if store == OWN:
        own = [dispute for dispute in disputes if dispute.store == OWN]
        if not own:
            raise UsageError(
                "no undo is open here, so evsync itself has no side", f"the stores are: {', '.join(stores)}"
            )
        found = side_of(journal, own[-1], head)
    elif store not in stores:
        raise UsageError(
            f"there is no store {store!r} that holds the type {type!r}",
            nearest(store, stores) or f"the stores are: {', '.join(stores)}",
        )
    else:
        found = holding(journal, store, type, key)
    if found is None or (found.fields is None and not found.deleted and now.canonical is not None):
        raise EvsyncError(
            f"store {store!r} is not known to hold {type} {key!r}, so there is nothing to take from it",
            f"ingest it first: evsync ingest {store}; or decide with --set or --keep",
        )
    if (
        found.fields is not None
        and now.fields
        and not now.fields & found.types.keys()
        and now.canonical is not None
    ):
        raise EvsyncError(
            f"store {store!r} does not hold what is in dispute: {', '.join(sorted(now.fields))}",
            "take another store's side, or decide with --set or --keep",
        )
    return found


def _basis(choice: Choice, existence: bool) -> str:
    if choice.keep:
        return "decided by hand: the journal's state stays"
    if choice.take == OWN:
        return "decided by hand: what the undo wanted"
    if choice.take is not None:
        return f"decided by hand: taken from store {choice.take!r}"
    return "decided by hand: set to " + ("a value" if len(choice.set) + len(choice.unset) == 1 else "values")


def _told(
    journal: Journal, disputes: Sequence[Dispute], head: Revision, after: Fields | None
) -> dict[str, dict[str, Any]]:
    """The sides as they are now; of several conflicts about one field the newest one's."""
    told: dict[str, dict[str, Any]] = {}
    for dispute in disputes:
        side = side_of(journal, dispute, head)
        for name, then in dispute.record["fields"].items():
            mine = then.get("mine", ABSENT) if side is None else (side.fields or {}).get(name, ABSENT)
            sides = {
                "base": then.get("base", ABSENT),
                "theirs": (head.fields or {}).get(name, ABSENT),
                "mine": mine,
                "chosen": (after or {}).get(name, ABSENT),
            }
            told[name] = {side: value for side, value in sides.items() if value is not ABSENT}
    return told
