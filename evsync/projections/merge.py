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
from evsync.projections.choice import (
    Choice,
    Side,
    answered,
    newest,
    preferred,
    sentence,
    time_of,
    typed,
)
from evsync.projections.choice import Clash as Clash
from evsync.projections.choice import Origin as Origin
from evsync.values import ABSENT, equivalent, same

Policy = str
"""newest, first, prefer, manual, or module:function."""


class Rules(msgspec.Struct, frozen=True):
    """The policies that apply to one type. `by_field` goes before `fields`; where a record is seen for the first
    time in a store, `adopt` decides for all of its fields."""

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
    `head`: the revision that says so, 0 for none. `origin`: who last changed a canonical field. `occurred_at`:
    when the store says that it happened; `now`: when evsync saw it, None if no store's clock is to be doubted."""

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
    now: Callable[[], int] | None = None
    fresh: frozenset[str] = frozenset()  # fields that the store maps since this run only: first sight of them
    write_only: frozenset[str] = frozenset()  # fields whose values are never taken from this store
    holds: Callable[[Fields], bool] = lambda record: True  # whether a record passes the store's filter

    def view(self, record: Fields | None) -> Fields | None:
        """A canonical record as the store should hold it; None if it should not."""
        return None if record is None or not self.holds(record) else view(record, self.mapped)


Remember = Literal["in-line", "at-head", "as-before", "normalised", "behind", "disputed", "nothing"]
"""What is to be remembered of the store:

- in-line: it holds what the new event says;
- at-head: it holds what the journal said already;
- as-before: it still holds just what the revision says with which it was in line;
- normalised: it holds its own version of that revision (of the new event's; without one of the head's if it was
  adopted, else of that with which it was in line);
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
        after = {name: value for name, value in content.items() if name not in seen.write_only}
        return Decision("create", after, tuple(sorted(after)), _held(seen, content, after, None))
    if content is None:
        if theirs is not None and not seen.holds(theirs):
            return Decision(None, theirs, (), "nothing")  # it does not belong there
        return _deleted(seen, rules)
    if seen.held is not None and not _changed(seen, content):
        return Decision(None, theirs, (), _unchanged(seen, content, theirs, seen.held))
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
    """The fields that are taken for the store's own changes."""
    had, silent = seen.had or {}, _silent(seen, content)
    return {
        name
        for name in seen.mapped
        if name not in silent and not same(content.get(name, ABSENT), had.get(name, ABSENT))
    }


def _silent(seen: Sighting, content: Fields) -> set[str]:
    """The fields that say nothing, whatever the store holds there: it is not asked for them; or its column is new,
    and in this record empty or as in the journal."""
    if seen.held is None or not seen.fresh:
        return set(seen.write_only)
    theirs = seen.theirs or {}
    known = {
        name
        for name in seen.fresh
        if content.get(name) is None or same(content.get(name, ABSENT), theirs.get(name, ABSENT))
    }
    return {*seen.write_only, *known}


def _spoken(seen: Sighting, content: Fields, shown: Fields) -> Fields:
    """What the store holds but for the nulls that stand for absent values in silent fields."""
    silent = _silent(seen, content)
    return {
        name: value
        for name, value in content.items()
        if value is not None or name not in silent or name in shown
    }


def _unchanged(seen: Sighting, content: Fields, theirs: Fields | None, held: Held) -> Remember:
    """The store did nothing of its own; the mapping changed, or a silent field."""
    shown = seen.view(theirs)
    if shown is None or not held.in_line:
        return "behind"
    spoken = _spoken(seen, content, shown)
    if any(not same(spoken.get(name, ABSENT), shown.get(name, ABSENT)) for name in _silent(seen, content)):
        return "behind"
    if not seen.fresh and same_record(view(seen.ancestor, seen.mapped), content):
        return "as-before"
    return "normalised"


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
    names = ", ".join(sorted(_unseen(seen, theirs)))
    conflict = _dispute(
        rules, {}, f"{seen.store} deleted the record without having seen the change of {names}"
    )
    if rules.delete == "delete-wins":
        return Decision("delete", None, tuple(sorted(theirs)), "nothing", conflict)
    # The edit wins: the record stays, and a replay will create it again in this store.
    return Decision("delete", theirs, (), "disputed" if rules.delete == "manual" else "nothing", conflict)


def _edited_what_is_gone(seen: Sighting, content: Fields, rules: Rules) -> Decision:
    mine = _changed(seen, content)
    if not mine:  # it only has not heard of the deletion yet
        return Decision(None, None, (), "behind")
    # A store that never was in line with the journal has no revision to start from: all that it holds is its own.
    stands = mine if seen.ancestor else mine | (content.keys() - _silent(seen, content))
    after = _apply(seen.ancestor, content, stands) if rules.delete == "edit-wins" else None
    conflict = _dispute(
        rules,
        {name: _sides(seen.ancestor, None, content, after, name) for name in sorted(mine)},
        f"{seen.store} changed {', '.join(sorted(mine))} of a record that was deleted elsewhere",
    )
    changed = tuple(sorted(stands)) if after is not None else ()
    return Decision("update", after, changed, _held(seen, content, after, conflict), conflict)


def _dispute(rules: Rules, fields: dict[str, Any], what: str) -> dict[str, Any]:
    """The record of an edit against a delete."""
    manual = rules.delete == "manual"
    basis = f"{rules.delete}: {'left open, ' if manual else ''}{what}"
    return {"fields": fields, "policy": rules.delete, "open": manual, "basis": basis}


def _merged(seen: Sighting, content: Fields, theirs: Fields, rules: Rules) -> Decision:
    mine, unseen = _changed(seen, content), _unseen(seen, theirs)
    adopting = seen.held is None
    if not mine and not adopting:  # it only has not heard of their change yet
        held = _held(seen, content, theirs, None)
        return Decision(None, theirs, (), "at-head" if held == "in-line" else held)
    if adopting:  # at first sight, another way of writing the same value is no difference
        alike = {
            name for name in mine & theirs.keys() if equivalent(seen.types[name], content[name], theirs[name])
        }
    else:
        alike = {name for name in mine if same(content.get(name, ABSENT), theirs.get(name, ABSENT))}
    clash = (mine & unseen) - alike
    chosen = {name: _choose(seen, rules, adopting, name, theirs, content) for name in sorted(clash)}
    if adopting and not clash and not mine - unseen:
        shown = seen.view(theirs)
        if same_record(shown, content):
            return Decision(None, theirs, (), "at-head", adopted=True)
        if shown is not None:
            spoken = _spoken(seen, content, shown)
            as_written = all(same(spoken.get(n, ABSENT), shown.get(n, ABSENT)) for n in seen.write_only)
            if as_written and shown.keys() == spoken.keys():
                return Decision(None, theirs, (), "normalised", adopted=True)
        return Decision(None, theirs, (), "behind", adopted=True)
    after = _apply(theirs, content, mine - clash - (alike if adopting else set()))
    for name, choice in chosen.items():
        _put(after, name, choice.value)
    conflict = None
    if clash:
        policies = {choice.policy for choice in chosen.values()}
        conflict = {
            "fields": {name: _sides(seen.ancestor, theirs, content, after, name) for name in sorted(clash)},
            "policy": policies.pop()
            if len(policies) == 1
            else {name: choice.policy for name, choice in chosen.items()},
            "open": any(choice.open for choice in chosen.values()),
            "basis": sentence({name: choice.basis for name, choice in chosen.items()}),
        }
    changed = tuple(name for name in differing(theirs, after) if name in mine)
    return Decision("update", after, changed, _held(seen, content, after, conflict), conflict, adopting)


def _choose(
    seen: Sighting, rules: Rules, adopting: bool, name: str, theirs: Fields, content: Fields
) -> Choice:
    policy = rules.adopt if adopting or name in seen.fresh else rules.by_field.get(name, rules.fields)
    their_value, my_value = theirs.get(name, ABSENT), content.get(name, ABSENT)
    if policy == "manual":
        return Choice(their_value, policy, "manual: left open", True)
    if policy == "first":
        return Choice(their_value, policy, "first: what the journal had stays")
    origin = seen.origin(name)
    mine_side = Side(seen.store, seen.occurred_at, None if seen.now is None else seen.now())
    their_side = Side(origin.store, origin.occurred_at, origin.observed_at)
    if policy in ("newest", "prefer"):
        stands, basis = (
            newest(mine_side, their_side)
            if policy == "newest"
            else preferred(mine_side, their_side, rules.prefer)
        )
        return Choice(my_value if stands else their_value, policy, basis)
    wires = seen.ancestor.get(name, ABSENT), their_value, my_value
    base_typed, theirs_typed, mine_typed = (typed(seen.types[name], wire) for wire in wires)
    clash = Clash(
        seen.type,
        seen.key,
        name,
        base_typed,
        theirs_typed,
        mine_typed,
        origin.store,
        seen.store,
        time_of(origin.occurred_at),
        time_of(seen.occurred_at),
    )
    return answered(policy, rules.custom[policy], seen.types[name], clash, wires)


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
    shown = seen.view(after)
    if same_record(shown, content):
        return "in-line"
    if shown is not None and same_record(shown, _spoken(seen, content, shown)):
        return "normalised"
    if seen.held is None or not seen.held.seq or not seen.held.in_line or conflict or shown is None:
        return "behind"
    # A store that normalises: the fields it did not touch are still its version of an unmoved canonical value.
    ancestor = view(seen.ancestor, seen.mapped) or {}
    had, spoken, silent = seen.had or {}, _spoken(seen, content, shown), _silent(seen, content)
    untouched = all(
        same(shown.get(name, ABSENT), spoken.get(name, ABSENT))
        or (
            same(shown.get(name, ABSENT), ancestor.get(name, ABSENT))
            and (name not in silent or same(content.get(name, ABSENT), had.get(name, ABSENT)))
        )
        for name in seen.mapped
    )
    return "normalised" if untouched else "behind"
