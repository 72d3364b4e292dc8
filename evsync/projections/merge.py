"""What an observed change means: the three-way merge, as one pure function.

`decide` compares what a store holds now with what it held before (*had*), with the record at the revision it
was last in line with (the *ancestor*) and with the canonical record (*theirs*), and answers with the event to be
appended, if any, and with what is to be remembered of the store. It knows no store, no journal, no clock.

The store *changed* a field if what it holds differs from what it had. It *has not seen* a field if the
canonical value differs from the ancestor's and from what the store had. A field that it changed without
having seen it, to another value than theirs, is a conflict; a policy decides. So two edits in one store
around somebody else's are no conflict, nor is a store's own way of writing a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from evsync.journal.event import Fields
from evsync.values import ABSENT, equivalent, same

Policy = str
"""newest, first, prefer, manual, or module:function."""


class Origin(msgspec.Struct, frozen=True):
    """Where a field's canonical value came from: the store, and when it says that it happened (microseconds)."""

    store: str
    occurred_at: int | None = None


class Clash(msgspec.Struct, frozen=True):
    """One conflict, as a custom function gets it. Values are typed; ABSENT is a value too."""

    type: str
    key: str
    field: str
    base: Any
    theirs: Any
    mine: Any
    theirs_store: str
    mine_store: str
    theirs_at: int | None
    mine_at: int | None


class Rules(msgspec.Struct, frozen=True):
    """The policies that apply to one type."""

    fields: Policy = "newest"
    delete: Literal["edit-wins", "delete-wins", "manual"] = "edit-wins"
    adopt: Policy = "first"
    prefer: tuple[str, ...] = ()
    by_field: Mapping[str, Policy] = {}
    custom: Mapping[Policy, Callable[[Clash], Any]] = {}


class Held(msgspec.Struct, frozen=True):
    """What is remembered of a record in a store: the last revision that it was in line with, and whether it
    still is (False: a merge has to be written back)."""

    seq: int
    in_line: bool


class Sighting(msgspec.Struct, frozen=True):
    """A record seen in a store, with all that it is judged by.

    `mapped`: the fields that the store holds. `content`: what it holds, None if the record is gone. `held` and
    `had`: what it held, None if it never did. `theirs`: the canonical record, None if it does not exist;
    `head`: the revision that says so, 0 for none. `origin`: who last changed a canonical field."""

    store: str
    type: str
    key: str
    mapped: Sequence[str]
    types: Mapping[str, str]
    content: Fields | None
    held: Held | None
    had: Fields | None
    ancestor: Fields
    theirs: Fields | None
    head: int
    origin: Callable[[str], Origin]
    occurred_at: int | None = None
    fresh: frozenset[str] = frozenset()  # fields that the store maps since this run only: first sight of them


Remember = Literal["in-line", "at-head", "normalised", "behind", "disputed", "nothing"]
"""What is to be remembered of the store:

- in-line: it holds what the new event says;
- at-head: it holds what the journal said already;
- normalised: it holds its own version of that revision (of the new event's, or of the head's without one);
- behind: it is still in line with its old base only; the merge has to be written back;
- disputed: it deleted the record, and whether it may is open;
- nothing: it does not hold the record."""


class Decision(msgspec.Struct, frozen=True):
    """`op` None: no event. `changed`: the canonical fields that the event changes."""

    op: Literal["create", "update", "delete"] | None
    after: Fields | None
    changed: tuple[str, ...]
    remember: Remember
    conflict: dict[str, Any] | None = None
    adopted: bool = False


def decide(seen: Sighting, rules: Rules) -> Decision:
    """What the sighting means. The caller has made sure that something differs from what is remembered."""
    content, theirs = seen.content, seen.theirs
    if seen.held is None and theirs is None:
        assert content is not None, "a record that nobody knows cannot be gone"
        return Decision("create", dict(content), tuple(sorted(content)), "in-line")
    if content is None:
        return _deleted(seen, rules)
    if theirs is None:
        return _edited_what_is_gone(seen, content, rules)
    return _merged(seen, content, theirs, rules)


def view(record: Fields | None, mapped: Sequence[str]) -> Fields | None:
    """A canonical record as a store with these fields would hold it."""
    return None if record is None else {name: record[name] for name in mapped if name in record}


def same_record(one: Fields | None, other: Fields | None) -> bool:
    """Whether two records are written alike."""
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())


def differing(one: Fields, other: Fields) -> list[str]:
    """The fields, sorted, in which two records differ."""
    return sorted(
        name for name in one.keys() | other.keys() if not same(one.get(name, ABSENT), other.get(name, ABSENT))
    )


def _changed(seen: Sighting, content: Fields) -> set[str]:
    had = seen.had or {}
    return {name for name in seen.mapped if not same(content.get(name, ABSENT), had.get(name, ABSENT))}


def _unseen(seen: Sighting, theirs: Fields) -> set[str]:
    had = seen.had or {}
    mapped = set(seen.mapped)
    return {
        name
        for name in seen.ancestor.keys() | theirs.keys()
        if not same(theirs.get(name, ABSENT), seen.ancestor.get(name, ABSENT))
        and not (name in mapped and same(theirs.get(name, ABSENT), had.get(name, ABSENT)))
    }


def _apply(record: Fields, content: Fields, names: set[str]) -> Fields:
    after = dict(record)
    for name in names:
        _put(after, name, content.get(name, ABSENT))
    return after


def _put(record: Fields, name: str, value: Any) -> None:
    if value is ABSENT:
        record.pop(name, None)
    else:
        record[name] = value


def _deleted(seen: Sighting, rules: Rules) -> Decision:
    theirs = seen.theirs
    if theirs is None or not _unseen(seen, theirs):
        return Decision("delete", None, tuple(sorted(theirs or {})), "nothing")
    conflict: dict[str, Any] = {"fields": {}, "policy": rules.delete, "open": rules.delete == "manual"}
    if rules.delete == "delete-wins":
        return Decision("delete", None, tuple(sorted(theirs)), "nothing", conflict)
    # The edit wins: the record stays, and a replay will create it again in this store.
    return Decision("delete", theirs, (), "disputed" if rules.delete == "manual" else "nothing", conflict)


def _edited_what_is_gone(seen: Sighting, content: Fields, rules: Rules) -> Decision:
    mine = _changed(seen, content)
    after = _apply(seen.ancestor, content, mine) if rules.delete == "edit-wins" else None
    conflict = {
        "fields": {name: _sides(seen.ancestor, None, content, after, name) for name in sorted(mine)},
        "policy": rules.delete,
        "open": rules.delete == "manual",
    }
    changed = tuple(sorted(mine)) if after is not None else ()
    return Decision("update", after, changed, _held(seen, content, after, conflict), conflict)


def _merged(seen: Sighting, content: Fields, theirs: Fields, rules: Rules) -> Decision:
    mine, unseen = _changed(seen, content), _unseen(seen, theirs)
    adopting = seen.held is None
    if adopting:  # at first sight, another way of writing the same value is no difference
        alike = {
            name for name in mine & theirs.keys() if equivalent(seen.types[name], content[name], theirs[name])
        }
    else:
        alike = {name for name in mine if same(content.get(name, ABSENT), theirs.get(name, ABSENT))}
    clash = (mine & unseen) - alike
    chosen = {name: _choose(seen, rules, adopting, name, theirs, content) for name in sorted(clash)}
    if adopting and not clash and not mine - unseen:
        shown = view(theirs, seen.mapped)
        if same_record(shown, content):
            return Decision(None, theirs, (), "at-head", adopted=True)
        if shown is not None and shown.keys() == content.keys():
            return Decision(None, theirs, (), "normalised", adopted=True)
        return Decision(None, theirs, (), "behind", adopted=True)
    after = _apply(theirs, content, mine - clash - (alike if adopting else set()))
    for name, (value, _) in chosen.items():
        _put(after, name, value)
    conflict = None
    if clash:
        policies = {policy for _, (_, policy) in chosen.items()}
        conflict = {
            "fields": {name: _sides(seen.ancestor, theirs, content, after, name) for name in sorted(clash)},
            "policy": policies.pop() if len(policies) == 1 else {n: p for n, (_, p) in chosen.items()},
            "open": any(policy == "manual" for _, (_, policy) in chosen.items()),
        }
    changed = tuple(name for name in differing(theirs, after) if name in mine)
    return Decision("update", after, changed, _held(seen, content, after, conflict), conflict, adopting)


def _choose(
    seen: Sighting, rules: Rules, adopting: bool, name: str, theirs: Fields, content: Fields
) -> tuple[Any, Policy]:
    """The value that stands, and the policy that said so."""
    policy = rules.adopt if adopting or name in seen.fresh else rules.by_field.get(name, rules.fields)
    their_value, my_value = theirs.get(name, ABSENT), content.get(name, ABSENT)
    if policy in ("first", "manual"):
        return their_value, policy
    origin = seen.origin(name)
    if policy == "newest":
        if seen.occurred_at is not None and origin.occurred_at is not None:
            return (my_value if seen.occurred_at >= origin.occurred_at else their_value), policy
        return my_value, policy  # later in the journal
    if policy == "prefer":
        return (my_value if _rank(rules, seen.store) < _rank(rules, origin.store) else their_value), policy
    clash = Clash(
        seen.type,
        seen.key,
        name,
        seen.ancestor.get(name, ABSENT),
        their_value,
        my_value,
        origin.store,
        seen.store,
        origin.occurred_at,
        seen.occurred_at,
    )
    return rules.custom[policy](clash), policy


def _rank(rules: Rules, store: str) -> int:
    return rules.prefer.index(store) if store in rules.prefer else len(rules.prefer)


def _sides(
    base: Fields, theirs: Fields | None, mine: Fields, after: Fields | None, name: str
) -> dict[str, Any]:
    sides = {
        "base": base.get(name, ABSENT),
        "theirs": (theirs or {}).get(name, ABSENT),
        "mine": mine.get(name, ABSENT),
        "chosen": (after or {}).get(name, ABSENT),
    }
    return {side: value for side, value in sides.items() if value is not ABSENT}


def _held(seen: Sighting, content: Fields, after: Fields | None, conflict: Any) -> Remember:
    """After the store's own change: in line if the canonical record, seen through the store, is what it holds."""
    shown = view(after, seen.mapped)
    if same_record(shown, content):
        return "in-line"
    if seen.held is None or not seen.held.seq or not seen.held.in_line or conflict or shown is None:
        return "behind"
    # A store that normalises: the fields it did not touch are still its version of an unmoved canonical value.
    ancestor = view(seen.ancestor, seen.mapped) or {}
    untouched = all(
        same(shown.get(name, ABSENT), content.get(name, ABSENT))
        or same(shown.get(name, ABSENT), ancestor.get(name, ABSENT))
        for name in seen.mapped
    )
    return "normalised" if untouched else "behind"
