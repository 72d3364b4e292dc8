"""Every pair of operations under every policy, against a statement of the rules that is not the engine's.

The statement goes by what each side *touched*, the engine by comparing states. In all cases both stores held
`START`, in line with revision 1, unless the record is new to store b. What a did stands in the journal already
(*theirs*); what b did was just found in store b (*mine*).
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.policies import DELETE_POLICIES, FIELD_POLICIES
from evsync.projections.merge import Clash, Decision, Held, Origin, Rules, Sighting, decide
from evsync.values import ABSENT

Fields = dict[str, Any]
START: Fields = {"v": "0", "w": "0"}

# What each operation touches. a, which creates again what it deleted, leaves w away.
MINE: dict[str, Fields | None] = {
    "nothing": {},
    "creates": {"v": "=", "w": "0"},
    "edits v": {"v": "b"},
    "edits w": {"w": "b"},
    "agrees": {"v": "="},
    "deletes": None,
}
THEIRS: dict[str, Fields | None] = {
    "nothing": {},
    "creates": {"v": "a", "w": ABSENT},
    "edits v": {"v": "a"},
    "edits w": {"w": "a"},
    "agrees": {"v": "="},
    "deletes": None,
}


def fails(clash: Clash) -> Any:
    raise ValueError("no idea")


class Policy(NamedTuple):
    """A policy of fields as the table knows it: the value that wins ("mine", "theirs" or another), and how."""

    name: str
    wins: str
    open: bool = False
    mine_at: int | None = None
    theirs_at: int | None = None
    prefer: tuple[str, ...] = ()


POLICIES = {
    "newest": Policy("newest", "mine"),
    "newest, mine later": Policy("newest", "mine", mine_at=2, theirs_at=1),
    "newest, theirs later": Policy("newest", "theirs", mine_at=1, theirs_at=2),
    "newest, at once": Policy("newest", "mine", mine_at=2, theirs_at=2),
    "newest, theirs ahead": Policy("newest", "mine", mine_at=1, theirs_at=10**15),
    "newest, mine ahead": Policy("newest", "mine", mine_at=10**15, theirs_at=1),
    "first": Policy("first", "theirs"),
    "prefer b": Policy("prefer", "mine", prefer=("b", "a")),
    "prefer a": Policy("prefer", "theirs", prefer=("a", "b")),
    "prefer nobody": Policy("prefer", "theirs"),
    "manual": Policy("manual", "theirs", open=True),
    "function": Policy("rules:third", "third"),
    "function fails": Policy("rules:fails", "theirs", open=True),
}
RULES = list(product(POLICIES, DELETE_POLICIES))
FUNCTIONS = {"rules:third": lambda clash: "third", "rules:fails": fails}
NOW = 1_000


class Expected(NamedTuple):
    op: str | None
    after: Fields | None
    changed: set[str]
    remember: str
    clash: dict[str, Fields] | None = None
    policy: str = ""
    open: bool = False


def touched(record: Fields, touches: Fields) -> Fields:
    return {name: value for name, value in {**record, **touches}.items() if value is not ABSENT}


def states(mine: str, theirs: str) -> tuple[Fields | None, Fields | None, bool]:
    """What b holds now, what the journal has, and whether b held the record before."""
    known = mine != "creates"
    my, their = MINE[mine], THEIRS[theirs]
    content = None if my is None else touched(START if known else {}, my)
    if their is None or (not known and theirs == "nothing"):
        return content, None, known
    return content, touched(START, their), known


def expected(mine: str, theirs: str, policy: Policy, delete: str) -> Expected:
    """The rules: what one side touched stands; what both touched to different values the policy decides."""
    content, canonical, known = states(mine, theirs)
    my, their = MINE[mine], THEIRS[theirs]
    if canonical is None and not known:
        return Expected("create", content, set(content or ()), "in-line")
    if my is None or content is None:
        if canonical is None or not their:  # it deletes what it has seen, or what is gone anyhow
            return Expected("delete", None, set(canonical or ()), "nothing")
        if delete == "delete-wins":
            return Expected("delete", None, set(canonical), "nothing", {}, delete)
        open = delete == "manual"
        return Expected("delete", canonical, set(), "disputed" if open else "nothing", {}, delete, open)
    if mine == "nothing":  # it has not heard of it; a replay will tell it
        return Expected(None, canonical, set(), "behind" if canonical is None else "as-before")
    if canonical is None:
        clash = {name: {"base": "0", "mine": value} for name, value in my.items()}
        if delete != "edit-wins":
            return Expected("update", None, set(), "behind", clash, delete, delete == "manual")
        for name, value in my.items():
            clash[name]["chosen"] = value
        return Expected("update", content, set(my), "in-line", clash, delete)
    if not known:
        their = canonical  # at first sight of it all is new to b
    assert their is not None
    after, clashes = dict(canonical), {}
    for name, value in my.items():
        if name not in their or (not known and name not in canonical):
            after[name] = value
        elif their[name] != value:
            sides = {"base": "0"} if known else {}
            sides.update(theirs=their[name], mine=value)
            sides["chosen"] = sides.get(policy.wins, policy.wins)
            clashes[name] = {side: value for side, value in sides.items() if value is not ABSENT}
            after[name] = sides["chosen"]
    after = touched({}, after)
    if not known and after == canonical and not clashes:
        return Expected(None, canonical, set(), "at-head" if content == canonical else "behind")
    return Expected(
        "update",
        after,
        {name for name in my if after.get(name, ABSENT) != canonical.get(name, ABSENT)},
        "in-line" if content == after else "behind",
        clashes or None,
        policy.name,
        bool(clashes) and policy.open,
    )


def decision_of(mine: str, theirs: str, policy: Policy, delete: Any) -> Decision:
    content, canonical, known = states(mine, theirs)
    other = "first" if policy.name == "manual" else "manual"  # which must not be asked
    return decide(
        Sighting(
            store="b",
            type="thing",
            key="k",
            mapped=("v", "w"),
            types={"v": "str", "w": "str"},
            content=content,
            held=Held(1, True) if known else None,
            had=START if known else None,
            ancestor=START if known else {},
            theirs=canonical,
            head=2,
            origin=lambda field: Origin("a", policy.theirs_at, NOW),
            occurred_at=policy.mine_at,
            now=lambda: NOW,
        ),
        Rules(
            fields=policy.name if known else other,
            adopt=other if known else policy.name,
            delete=delete,
            prefer=policy.prefer,
            custom=FUNCTIONS,
        ),
    )


@pytest.mark.parametrize(("policy", "delete"), RULES)
def test_every_pair_of_operations_under_every_policy(policy: str, delete: str) -> None:
    for mine, theirs in product(MINE, THEIRS):
        wanted = expected(mine, theirs, POLICIES[policy], delete)
        decision = decision_of(mine, theirs, POLICIES[policy], delete)
        assert (decision.op, decision.after) == (wanted.op, wanted.after), (mine, theirs)
        assert set(decision.changed) == wanted.changed, (mine, theirs)
        assert decision.remember == wanted.remember, (mine, theirs)
        assert list(decision.changed) == sorted(decision.changed), (mine, theirs)
        assert (decision.conflict is None) == (wanted.clash is None), (mine, theirs)
        if decision.conflict is not None:
            basis = decision.conflict.pop("basis")
            clash = {"fields": wanted.clash, "policy": wanted.policy, "open": wanted.open}
            assert decision.conflict == clash, (mine, theirs)
            assert basis.startswith(wanted.policy), (mine, theirs)
            assert ("left open" in basis) == wanted.open, (mine, theirs)


@pytest.mark.parametrize(("policy", "delete"), RULES)
def test_the_value_that_lost_is_in_the_event(policy: str, delete: str) -> None:
    """Mine and theirs: in the record as it is afterwards, or beside the choice, or what the event replaced."""
    for mine, theirs in product(MINE, THEIRS):
        _, canonical, _ = states(mine, theirs)
        decision = decision_of(mine, theirs, POLICIES[policy], delete)
        told = decision.conflict["fields"] if decision.conflict else {}
        after = decision.after or {}
        for name, value in (MINE[mine] or {}).items():
            assert value == after.get(name) or value == told[name]["mine"], (mine, theirs)
        for name, value in (canonical or {}).items():
            assert value == after.get(name) or name in decision.changed, (mine, theirs)
            if name in told and value != after.get(name):
                assert told[name]["theirs"] == value, (mine, theirs)


def test_the_table_knows_every_policy() -> None:
    assert {policy.name for policy in POLICIES.values()} >= set(FIELD_POLICIES)


# -- whatever was done ----------------------------------------------------------------------------------

VALUES = st.sampled_from(["0", "1", "2", None, ABSENT])
EDITS = st.none() | st.fixed_dictionaries({}, optional={"v": VALUES, "w": VALUES})


def seen_in(store: str, content: Fields | None, theirs: Fields | None, times: dict[str, int]) -> Sighting:
    """A store's change of START, after the other one's."""
    (other,) = {"a", "b"} - {store}
    return Sighting(
        store=store, type="thing", key="k", mapped=("v", "w"), types={"v": "str", "w": "str"},
        content=content, held=Held(1, True), had=START, ancestor=START, theirs=theirs, head=2,
        origin=lambda field: Origin(other, times.get(other)), occurred_at=times.get(store),
    )  # fmt: skip


def largest(clash: Clash) -> Any:
    return max(clash.theirs or "", clash.mine or "")


FAIR = [
    Rules(fields="prefer", prefer=("a", "b")),
    Rules(fields="prefer", prefer=("b",), delete="delete-wins"),
    Rules(fields="rules:largest", custom={"rules:largest": largest}),
    Rules(fields="newest", delete="delete-wins"),
]


@given(EDITS, EDITS, st.sampled_from(FAIR), st.sampled_from([{"a": 1, "b": 2}, {"a": 2, "b": 1}]))
def test_where_a_policy_does_not_go_by_the_order_the_order_makes_no_difference(
    a: Fields | None, b: Fields | None, rules: Rules, times: dict[str, int]
) -> None:
    contents = {store: None if edit is None else touched(START, edit) for store, edit in (("a", a), ("b", b))}
    if START in contents.values():  # that store did nothing
        return
    after = {}
    for first, second in (("a", "b"), ("b", "a")):
        alone = decide(seen_in(first, contents[first], START, times), rules)
        assert (alone.after, alone.conflict) == (contents[first], None)
        after[first] = decide(seen_in(second, contents[second], alone.after, times), rules)
    assert after["a"].after == after["b"].after
    assert (after["a"].conflict is None) == (after["b"].conflict is None)


@given(EDITS, EDITS, st.sampled_from(sorted(POLICIES)), st.sampled_from(DELETE_POLICIES))
def test_a_decision_is_the_same_each_time_and_a_merge_without_a_conflict_in_each_order(
    a: Fields | None, b: Fields | None, policy: str, delete: Any
) -> None:
    name, _, _, mine_at, theirs_at, prefer = POLICIES[policy]
    rules = Rules(fields=name, delete=delete, prefer=prefer, custom=FUNCTIONS)
    times = {} if mine_at is None or theirs_at is None else {"a": theirs_at, "b": mine_at}
    one, other = (None if edit is None else touched(START, edit) for edit in (a, b))
    forth = decide(seen_in("b", other, one, times), rules)
    assert decide(seen_in("b", other, one, times), rules) == forth
    back = decide(seen_in("a", one, other, times), rules)
    if START not in (one, other):
        assert (forth.conflict is None) == (back.conflict is None)
        if forth.conflict is None:
            assert forth.after == back.after


@given(EDITS, EDITS, st.sampled_from(sorted(POLICIES)), st.sampled_from(DELETE_POLICIES))
def test_no_value_of_mine_is_lost(a: Fields | None, b: Fields | None, policy: str, delete: Any) -> None:
    name, _, _, mine_at, theirs_at, prefer = POLICIES[policy]
    rules = Rules(fields=name, delete=delete, prefer=prefer, custom=FUNCTIONS)
    times = {} if mine_at is None or theirs_at is None else {"a": theirs_at, "b": mine_at}
    one, other = (None if edit is None else touched(START, edit) for edit in (a, b))
    decision = decide(seen_in("b", other, one, times), rules)
    told = decision.conflict["fields"] if decision.conflict else {}
    for field, value in (other or {}).items():
        if value != START[field]:
            after = (decision.after or {}).get(field, ABSENT)
            assert after == value or told[field]["mine"] == value
