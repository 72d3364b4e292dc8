"""The merge as one table: what a did, what b did, and the policy, against what stands afterwards.

In all cases both stores held the record `START`, in line with revision 1; what a did stands in the journal
already (*theirs*), what b did was just found in store b (*mine*).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.projections.merge import (
    Clash,
    Decision,
    Held,
    Origin,
    Rules,
    Sighting,
    decide,
    differing,
    same_record,
    view,
)
from evsync.values import ABSENT

Fields = dict[str, Any]
START: Fields = {"v": "0", "w": "0"}
GONE = None
SAME: Fields = {}


def edited(record: Fields | None, edit: Fields | None) -> Fields | None:
    """What an edit makes of a record; ABSENT takes a field away."""
    if record is None or edit is None:
        return None
    return {name: value for name, value in {**record, **edit}.items() if value is not ABSENT}


def sighting(**more: Any) -> Sighting:
    """b's record, in line with revision 1, of which nobody changed anything so far."""
    given: dict[str, Any] = {
        "store": "b",
        "type": "thing",
        "key": "k",
        "mapped": ("v", "w"),
        "types": {"v": "str", "w": "str", "x": "str", "d": "decimal", "t": "datetime"},
        "content": START,
        "held": Held(1, True),
        "had": START,
        "ancestor": START,
        "theirs": START,
        "head": 2,
        "origin": lambda field: Origin("a"),
        **more,
    }
    return Sighting(**given)


def longest(clash: Clash) -> Any:
    return max(clash.theirs or "", clash.mine or "", key=len)


RULES: dict[str, Any] = {"prefer": ("b", "a"), "custom": {"mine:longest": longest}}

No = None
Case = tuple[Fields | None, Fields | None, str, str, Fields | None, Literal["decided", "open"] | None, str]

# a, b, policy of fields, policy of deletes → the record afterwards, the conflict, what is remembered of b
CASES: list[Case] = [
    # different fields are merged, whatever the policy
    ({"v": "1"}, {"w": "2"}, "newest", "edit-wins", {"v": "1", "w": "2"}, No, "behind"),
    ({"v": "1"}, {"w": "2"}, "first", "delete-wins", {"v": "1", "w": "2"}, No, "behind"),
    ({"v": "1"}, {"w": "2"}, "manual", "manual", {"v": "1", "w": "2"}, No, "behind"),
    ({"v": "1"}, {"w": ABSENT}, "manual", "manual", {"v": "1"}, No, "behind"),
    ({"v": ABSENT}, {"w": "2"}, "manual", "manual", {"w": "2"}, No, "behind"),
    (
        {"x": "1"},
        {"v": "2"},
        "manual",
        "manual",
        {"v": "2", "w": "0", "x": "1"},
        No,
        "in-line",
    ),  # b does not map x
    # both to the same value: no conflict
    ({"v": "1"}, {"v": "1"}, "newest", "edit-wins", {"v": "1", "w": "0"}, No, "in-line"),
    ({"v": "1"}, {"v": "1"}, "manual", "manual", {"v": "1", "w": "0"}, No, "in-line"),
    ({"v": None}, {"v": None}, "manual", "manual", {"v": None, "w": "0"}, No, "in-line"),
    ({"v": ABSENT}, {"v": ABSENT}, "manual", "manual", {"w": "0"}, No, "in-line"),
    ({"v": "1"}, {"v": "1", "w": "2"}, "manual", "manual", {"v": "1", "w": "2"}, No, "in-line"),
    # only one did anything
    (SAME, {"v": "2"}, "manual", "manual", {"v": "2", "w": "0"}, No, "in-line"),
    # one field to two values: the policy
    ({"v": "1"}, {"v": "2"}, "newest", "edit-wins", {"v": "2", "w": "0"}, "decided", "in-line"),
    ({"v": "1"}, {"v": "2"}, "first", "edit-wins", {"v": "1", "w": "0"}, "decided", "behind"),
    ({"v": "1"}, {"v": "2"}, "prefer", "edit-wins", {"v": "2", "w": "0"}, "decided", "in-line"),
    ({"v": "1"}, {"v": "2"}, "manual", "edit-wins", {"v": "1", "w": "0"}, "open", "behind"),
    ({"v": "123"}, {"v": "2"}, "mine:longest", "edit-wins", {"v": "123", "w": "0"}, "decided", "behind"),
    ({"v": "1"}, {"v": "234"}, "mine:longest", "edit-wins", {"v": "234", "w": "0"}, "decided", "in-line"),
    # null, absent and a value are three
    ({"v": None}, {"v": "2"}, "newest", "edit-wins", {"v": "2", "w": "0"}, "decided", "in-line"),
    ({"v": "1"}, {"v": None}, "newest", "edit-wins", {"v": None, "w": "0"}, "decided", "in-line"),
    ({"v": "1"}, {"v": ABSENT}, "newest", "edit-wins", {"w": "0"}, "decided", "in-line"),
    ({"v": "1"}, {"v": ABSENT}, "first", "edit-wins", {"v": "1", "w": "0"}, "decided", "behind"),
    ({"v": ABSENT}, {"v": None}, "first", "edit-wins", {"w": "0"}, "decided", "behind"),
    # a conflict in one field holds up no other
    ({"v": "1", "w": "1"}, {"v": "2"}, "first", "edit-wins", {"v": "1", "w": "1"}, "decided", "behind"),
    ({"v": "1"}, {"v": "2", "w": "2"}, "first", "edit-wins", {"v": "1", "w": "2"}, "decided", "behind"),
    ({"v": "1"}, {"v": "2", "w": "2"}, "manual", "edit-wins", {"v": "1", "w": "2"}, "open", "behind"),
    (
        {"v": "1", "w": "1"},
        {"v": "2", "w": "2"},
        "newest",
        "edit-wins",
        {"v": "2", "w": "2"},
        "decided",
        "in-line",
    ),
    # edited by a, deleted by b
    ({"v": "1"}, GONE, "newest", "edit-wins", {"v": "1", "w": "0"}, "decided", "nothing"),
    ({"v": "1"}, GONE, "newest", "delete-wins", None, "decided", "nothing"),
    ({"v": "1"}, GONE, "newest", "manual", {"v": "1", "w": "0"}, "open", "disputed"),
    ({"x": "1"}, GONE, "newest", "edit-wins", {"v": "0", "w": "0", "x": "1"}, "decided", "nothing"),
    # deleted by a, edited by b
    (GONE, {"v": "2"}, "first", "edit-wins", {"v": "2", "w": "0"}, "decided", "in-line"),
    (GONE, {"v": "2"}, "newest", "delete-wins", None, "decided", "behind"),
    (GONE, {"v": "2"}, "newest", "manual", None, "open", "behind"),
    # deleted by both; deleted by b, who had seen everything
    (GONE, GONE, "newest", "edit-wins", None, No, "nothing"),
    (GONE, GONE, "manual", "manual", None, No, "nothing"),
    (SAME, GONE, "newest", "edit-wins", None, No, "nothing"),
    (SAME, GONE, "manual", "manual", None, No, "nothing"),
]


def decided(a: Fields | None, b: Fields | None, fields: str, delete: Any, **more: Any) -> Decision:
    return decide(
        sighting(theirs=edited(START, a), content=edited(START, b), **more),
        Rules(fields=fields, delete=delete, **RULES),
    )


@pytest.mark.parametrize(("a", "b", "fields", "delete", "after", "conflict", "remember"), CASES)
def test_two_stores_at_once(
    a: Fields | None,
    b: Fields | None,
    fields: str,
    delete: str,
    after: Fields | None,
    conflict: str | None,
    remember: str,
) -> None:
    decision = decided(a, b, fields, delete)
    assert decision.op == ("delete" if b is GONE else "update")
    assert decision.after == after
    assert (decision.conflict and ("open" if decision.conflict["open"] else "decided")) == conflict
    assert decision.remember == remember
    assert not decision.adopted
    # `changed` is just what the event changes in the canonical record, as far as the record stays
    theirs = edited(START, a)
    if theirs is not None and after is not None:
        assert list(decision.changed) == differing(theirs, after)
    elif theirs is not None:
        assert list(decision.changed) == sorted(theirs)


@pytest.mark.parametrize(
    ("fields", "chosen", "basis"),
    [
        ("newest", "2", "newest: b's came later to the journal (neither gives a time)"),
        ("first", "1", "first: what the journal had stays"),
        ("prefer", "2", "prefer: b stands before a"),
        ("manual", "1", "manual: left open"),
        ("mine:longest", "1", "mine:longest answered"),
    ],
)
def test_a_decision_records_all_values_the_policy_the_choice_and_why(
    fields: str, chosen: str, basis: str
) -> None:
    assert decided({"v": "1"}, {"v": "2"}, fields, "edit-wins").conflict == {
        "fields": {"v": {"base": "0", "theirs": "1", "mine": "2", "chosen": chosen}},
        "policy": fields,
        "open": fields == "manual",
        "basis": basis,
    }


def test_a_side_without_a_value_is_left_out_and_null_is_a_value() -> None:
    conflict = decided({"v": None}, {"v": ABSENT}, "newest", "edit-wins").conflict
    assert conflict is not None
    assert conflict["fields"] == {"v": {"base": "0", "theirs": None}}


def test_an_edit_of_what_is_gone_records_what_was_edited() -> None:
    wins, loses = (
        decided(GONE, {"v": "2"}, "newest", policy).conflict for policy in ("edit-wins", "delete-wins")
    )
    assert wins == {
        "fields": {"v": {"base": "0", "mine": "2", "chosen": "2"}},
        "policy": "edit-wins",
        "open": False,
        "basis": "edit-wins: b changed v of a record that was deleted elsewhere",
    }
    assert loses == {
        "fields": {"v": {"base": "0", "mine": "2"}},
        "policy": "delete-wins",
        "open": False,
        "basis": "delete-wins: b changed v of a record that was deleted elsewhere",
    }


@pytest.mark.parametrize(
    ("policy", "basis"),
    [
        ("edit-wins", "edit-wins: b deleted the record without having seen the change of v, w"),
        ("delete-wins", "delete-wins: b deleted the record without having seen the change of v, w"),
        ("manual", "manual: left open, b deleted the record without having seen the change of v, w"),
    ],
)
def test_a_delete_without_having_seen_the_edit_says_what_was_not_seen(policy: str, basis: str) -> None:
    assert decided({"v": "1", "w": ABSENT}, GONE, "newest", policy).conflict == {
        "fields": {},
        "policy": policy,
        "open": policy == "manual",
        "basis": basis,
    }


def test_a_store_that_only_has_not_heard_of_the_deletion_revives_nothing() -> None:
    """b maps a further field since, which is empty: its record reads otherwise, and nobody changed it."""
    seen = sighting(theirs=None, mapped=("v", "w", "x"), fresh=frozenset("x"))
    for policy in ("edit-wins", "delete-wins", "manual"):
        assert decide(seen, Rules(delete=policy)) == Decision(None, None, (), "behind")  # type: ignore[arg-type]


def test_each_field_may_have_its_own_policy() -> None:
    rules = Rules(fields="newest", by_field={"v": "manual"})
    decision = decide(sighting(theirs={"v": "1", "w": "1"}, content={"v": "2", "w": "2"}), rules)
    assert decision.after == {"v": "1", "w": "2"}
    assert decision.conflict is not None
    assert decision.conflict["policy"] == {"v": "manual", "w": "newest"}
    assert decision.conflict["open"]
    assert decision.conflict["basis"] == (
        "v: manual: left open; w: newest: b's came later to the journal (neither gives a time)"
    )
    assert decision.conflict["fields"]["w"]["chosen"] == "2"


@pytest.mark.parametrize(
    ("theirs_at", "mine_at", "after"),
    [(5, 6, "2"), (6, 5, "1"), (5, 5, "2"), (None, 5, "2"), (9, None, "2"), (None, None, "2"), (-5, -6, "1")],
)
def test_newest_goes_by_the_stores_times_if_both_tell_and_by_the_journal_otherwise(
    theirs_at: int | None, mine_at: int | None, after: str
) -> None:
    decision = decided(
        {"v": "1"},
        {"v": "2"},
        "newest",
        "edit-wins",
        origin=lambda field: Origin("a", theirs_at),
        occurred_at=mine_at,
    )
    assert decision.after == {"v": after, "w": "0"}


@pytest.mark.parametrize(
    ("prefer", "theirs_store", "after"),
    [
        (("b", "a"), "a", "2"),
        (("a", "b"), "a", "1"),
        (("b",), "a", "2"),
        (("a",), "a", "1"),
        ((), "a", "1"),  # nobody is preferred: what stands stays
        (("c",), "a", "1"),
        (("a", "b"), "c", "2"),  # it is the store that last changed this field that counts
        (("b",), "b", "1"),
    ],
)
def test_prefer_goes_by_the_list(prefer: tuple[str, ...], theirs_store: str, after: str) -> None:
    seen = sighting(
        theirs={"v": "1", "w": "0"}, content={"v": "2", "w": "0"}, origin=lambda field: Origin(theirs_store)
    )
    decision = decide(seen, Rules(fields="prefer", prefer=prefer))
    assert decision.after == {"v": after, "w": "0"}


def asked(function: Any, theirs: Any = "1", mine: Any = "2", base: Any = "0", **more: Any) -> Decision:
    """What becomes of field f, of type `kind`, if this function decides."""
    kind = more.pop("kind", "str")
    had = edited({}, {"f": base})
    seen = sighting(
        mapped=("f",), types={"f": kind}, had=had, ancestor=had,
        theirs=edited({}, {"f": theirs}), content=edited({}, {"f": mine}), **more,
    )  # fmt: skip
    return decide(seen, Rules(fields="m:f", custom={"m:f": function}))


def test_a_function_is_given_everything_typed() -> None:
    given: list[Clash] = []

    def policy(clash: Clash) -> Any:
        given.append(clash)
        return clash.theirs + clash.mine

    decision = asked(
        policy,
        "1.10",
        "2.25",
        ABSENT,
        kind="decimal",
        origin=lambda field: Origin("a", 7, 10),
        occurred_at=8_000_000,
    )
    seven, eight = (
        datetime(1970, 1, 1, 0, 0, 0, 7, tzinfo=UTC),
        datetime(1970, 1, 1, 0, 0, 8, tzinfo=UTC),
    )
    assert given == [
        Clash("thing", "k", "f", ABSENT, Decimal("1.10"), Decimal("2.25"), "a", "b", seven, eight)
    ]
    assert isinstance(given[0].theirs, Decimal)
    assert decision.after == {"f": "3.35"}
    assert decision.remember == "behind"
    assert decision.conflict == {
        "fields": {"f": {"theirs": "1.10", "mine": "2.25", "chosen": "3.35"}},
        "policy": "m:f",
        "open": False,
        "basis": "m:f answered",
    }


def test_a_function_may_take_the_field_away() -> None:
    decision = asked(lambda clash: ABSENT)
    assert decision.after == {}
    assert decision.conflict == {
        "fields": {"f": {"base": "0", "theirs": "1", "mine": "2"}},
        "policy": "m:f",
        "open": False,
        "basis": "m:f answered, and took the field away",
    }


@pytest.mark.parametrize("answer", [KeyboardInterrupt, SystemExit])
def test_an_interruption_inside_a_function_goes_through(answer: type[BaseException]) -> None:
    def policy(clash: Clash) -> Any:
        raise answer

    with pytest.raises(answer):
        asked(policy)


@pytest.mark.parametrize(
    ("error", "basis"),
    [
        (ValueError("no idea"), "m:f raised ValueError: no idea; left open"),
        (ValueError(), "m:f raised ValueError; left open"),
        (KeyError("two\n  lines"), "m:f raised KeyError: 'two\\n lines'; left open"),
    ],
)
def test_a_function_that_raises_leaves_the_conflict_open(error: Exception, basis: str) -> None:
    def policy(clash: Clash) -> Any:
        raise error

    decision = asked(policy)
    assert (decision.after, decision.changed, decision.remember) == ({"f": "1"}, (), "behind")
    assert decision.conflict == {
        "fields": {"f": {"base": "0", "theirs": "1", "mine": "2", "chosen": "1"}},
        "policy": "m:f",
        "open": True,
        "basis": basis,
    }


@pytest.mark.parametrize(
    ("kind", "answer", "basis"),
    [
        ("str", None, "m:f answered nothing (None); left open"),
        ("str", 1.5, "m:f answered what cannot be: 1.5 is not of type str; left open"),
        ("int", "many", "m:f answered what cannot be: 'many' is not of type int; left open"),
        ("json", {1}, "m:f answered what cannot be: {1} is not of type json: Object of type set is not JSON serializable; left open"),
    ],
)  # fmt: skip
def test_a_function_that_answers_nonsense_leaves_the_conflict_open(
    kind: str, answer: Any, basis: str
) -> None:
    sides = {"str": ("1", "2", "0")}.get(kind, (1, 2, 0))
    decision = asked(lambda clash: answer, *sides, kind=kind)
    assert decision.after == {"f": sides[0]}
    assert decision.conflict is not None
    assert (decision.conflict["open"], decision.conflict["basis"]) == (True, basis)


def test_what_cannot_be_written_down_is_nonsense() -> None:
    conflict = asked(lambda clash: "\ud800").conflict
    assert conflict is not None
    assert conflict["open"]
    assert conflict["basis"].startswith("m:f answered what cannot be: ")


@pytest.mark.parametrize("sides", [(None, "2", "0"), ("1", None, "0"), ("1", "2", None), ("1", "2", ABSENT)])
def test_a_function_may_answer_null_where_one_side_has_no_value(sides: tuple[Any, Any, Any]) -> None:
    decision = asked(lambda clash: None, *sides)
    assert decision.after == {"f": None}
    assert decision.conflict is not None
    assert not decision.conflict["open"]


def test_an_answer_is_taken_in_any_form_that_its_type_reads() -> None:
    assert asked(lambda clash: 3, "1", "2", "0", kind="decimal").after == {"f": "3"}
    assert asked(lambda clash: "2026-01-31", "2026-01-01", "2026-01-02", None, kind="date").after == {
        "f": "2026-01-31"
    }


def test_a_function_that_alters_what_it_was_given_alters_nothing_else() -> None:
    def policy(clash: Clash) -> Any:
        clash.mine.append("x")
        clash.base.clear()
        return clash.theirs + clash.mine

    decision = asked(policy, ["1"], ["2"], ["0"], kind="json")
    assert decision.after == {"f": ["1", "2", "x"]}
    assert decision.conflict is not None
    assert decision.conflict["fields"]["f"] == {
        "base": ["0"],
        "theirs": ["1"],
        "mine": ["2"],
        "chosen": ["1", "2", "x"],
    }


def test_a_function_that_fails_holds_up_no_other_field() -> None:
    def policy(clash: Clash) -> Any:
        raise ValueError("no idea")

    seen = sighting(theirs={"v": "1", "w": "1"}, content={"v": "2", "w": "2"})
    decision = decide(seen, Rules(by_field={"v": "m:f"}, custom={"m:f": policy}))
    assert decision.after == {"v": "1", "w": "2"}
    assert decision.changed == ("w",)
    assert decision.conflict is not None
    assert decision.conflict["open"]


# -- new, and new again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [START, {"v": None}, {}])
def test_what_nobody_knows_is_created(content: Fields) -> None:
    decision = decide(
        sighting(content=content, held=None, had=None, ancestor={}, theirs=None, head=0), Rules()
    )
    assert decision == Decision("create", content, tuple(sorted(content)), "in-line")


def test_what_was_deleted_and_comes_back_where_it_was_not_held_is_created() -> None:
    decision = decide(
        sighting(held=None, had=None, ancestor={}, theirs=None, head=2), Rules(delete="delete-wins")
    )
    assert (decision.op, decision.after, decision.conflict) == ("create", START, None)


# -- adoption -------------------------------------------------------------------------------------------


def adopted(content: Fields, theirs: Fields, adopt: str = "first", **more: Any) -> Decision:
    seen = sighting(content=content, held=None, had=None, ancestor={}, theirs=theirs, **more)
    return decide(seen, Rules(adopt=adopt, fields="manual", **RULES))


@pytest.mark.parametrize("adopt", ["first", "newest", "prefer", "manual", "mine:longest"])
def test_equal_content_is_adopted_without_an_event(adopt: str) -> None:
    assert adopted(START, START, adopt) == Decision(None, START, (), "at-head", adopted=True)
    wide = {**START, "x": "1"}  # of which b sees a part
    assert adopted(START, wide, adopt) == Decision(None, wide, (), "at-head", adopted=True)


def test_another_way_of_writing_the_same_is_no_difference() -> None:
    mapped = ("d", "t")
    theirs = {"d": "1.50", "t": "2024-02-29T10:00:00+02:00"}
    decision = adopted({"d": "1.5", "t": "2024-02-29T08:00:00Z"}, theirs, "manual", mapped=mapped)
    assert decision == Decision(None, theirs, (), "normalised", adopted=True)


def test_a_store_that_lacks_a_field_gets_it() -> None:
    assert adopted({"v": "0"}, START) == Decision(None, START, (), "behind", adopted=True)


def test_a_field_that_only_the_store_has_is_taken_from_it() -> None:
    decision = adopted(START, {"v": "0", "x": "1"})
    assert (decision.op, decision.after, decision.changed) == (
        "update",
        {"v": "0", "w": "0", "x": "1"},
        ("w",),
    )
    assert (decision.conflict, decision.adopted, decision.remember) == (None, True, "in-line")


def test_each_side_gives_what_the_other_lacks() -> None:
    decision = adopted({"v": "0"}, {"w": "0"})
    assert (decision.after, decision.changed, decision.conflict) == (START, ("v",), None)
    assert decision.remember == "behind"


@pytest.mark.parametrize(
    ("adopt", "after", "conflict", "remember"),
    [
        ("first", "1", "decided", "behind"),
        ("newest", "2", "decided", "in-line"),
        ("prefer", "2", "decided", "in-line"),
        ("manual", "1", "open", "behind"),
        ("mine:longest", "1", "decided", "behind"),
    ],
)
def test_differing_content_is_decided_by_adopt(adopt: str, after: str, conflict: str, remember: str) -> None:
    decision = adopted({"v": "2", "w": "0"}, {"v": "1", "w": "0"}, adopt)
    assert (decision.op, decision.after, decision.adopted) == ("update", {"v": after, "w": "0"}, True)
    assert decision.changed == (("v",) if after == "2" else ())
    assert decision.conflict is not None
    assert decision.conflict["open"] == (conflict == "open")
    assert decision.conflict["policy"] == adopt
    assert decision.conflict["fields"]["v"] == {"theirs": "1", "mine": "2", "chosen": after}
    assert decision.remember == remember


def test_what_is_written_otherwise_stays_as_it_stands_beside_a_real_difference() -> None:
    decision = adopted({"d": "1.5", "v": "2"}, {"d": "1.50", "v": "1"}, "newest", mapped=("d", "v"))
    assert decision.after == {"d": "1.50", "v": "2"}
    assert decision.changed == ("v",)


def test_null_against_a_value_at_first_sight_is_a_difference() -> None:
    decision = adopted({"v": None, "w": "0"}, START, "first")
    assert decision.after == START
    assert decision.conflict is not None


# -- a store's own way of writing -----------------------------------------------------------------------


def test_what_a_store_made_of_a_value_is_no_change_of_it() -> None:
    """b trims: it was given " 1 " at revision 1 and holds "1". Then it changes w."""
    decision = decide(
        sighting(had={"v": "1", "w": "0"}, ancestor={"v": " 1 ", "w": "0"}, theirs={"v": " 1 ", "w": "0"}, content={"v": "1", "w": "5"}),
        Rules(fields="manual"),
    )  # fmt: skip
    assert decision.after == {"v": " 1 ", "w": "5"}
    assert decision.changed == ("w",)
    assert decision.conflict is None
    assert decision.remember == "normalised"


def test_a_normalising_store_that_missed_a_change_is_behind() -> None:
    decision = decide(
        sighting(had={"v": "1", "w": "0"}, ancestor={"v": " 1 ", "w": "0"}, theirs={"v": " 2 ", "w": "0"}, content={"v": "1", "w": "5"}),
        Rules(fields="manual"),
    )  # fmt: skip
    assert (decision.after, decision.remember) == ({"v": " 2 ", "w": "5"}, "behind")


def test_canonical_state_moving_to_what_the_store_made_of_it_was_seen() -> None:
    decision = decide(
        sighting(had={"v": "1", "w": "0"}, ancestor={"v": " 1 ", "w": "0"}, theirs={"v": "1", "w": "0"}, content={"v": "2", "w": "0"}),
        Rules(fields="manual"),
    )  # fmt: skip
    assert (decision.after, decision.conflict) == ({"v": "2", "w": "0"}, None)


# -- more than one edit ---------------------------------------------------------------------------------


def test_two_edits_in_one_store_around_anothers_are_no_conflict() -> None:
    """a changed w, b changed v, and b changes v again before the merge came back to it."""
    decision = decide(
        sighting(
            held=Held(1, False), had={"v": "1", "w": "0"}, ancestor=START, theirs={"v": "1", "w": "a"}, content={"v": "2", "w": "0"}
        ),
        Rules(fields="manual", delete="manual"),
    )  # fmt: skip
    assert (decision.after, decision.conflict) == ({"v": "2", "w": "a"}, None)
    assert decision.remember == "behind"


def test_an_edit_on_top_of_a_lost_one_is_a_conflict_again() -> None:
    decision = decide(
        sighting(held=Held(1, False), had={"v": "2", "w": "0"}, theirs={"v": "1", "w": "0"}, content={"v": "3", "w": "0"}),
        Rules(fields="manual"),
    )  # fmt: skip
    assert decision.after == {"v": "1", "w": "0"}
    assert decision.conflict is not None
    assert decision.conflict["open"]


def test_an_edit_taken_back_before_the_merge_returned_is_an_edit() -> None:
    decision = decide(
        sighting(held=Held(1, False), had={"v": "2", "w": "0"}, theirs={"v": "2", "w": "a"}, content=START),
        Rules(fields="manual"),
    )
    assert (decision.after, decision.conflict) == ({"v": "0", "w": "a"}, None)


def test_what_a_store_cannot_see_it_can_still_not_delete_unseen() -> None:
    seen = sighting(content=None, theirs={**START, "x": "new"})
    assert decide(seen, Rules()).remember == "nothing"
    assert decide(seen, Rules()).after == {**START, "x": "new"}


# -- fields mapped since then ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "content", "after", "conflict"),
    [
        (
            {"v": "0", "w": "0", "x": "1"},
            {"v": "0", "w": "0", "x": "1"},
            {"v": "0", "w": "0", "x": "1"},
            False,
        ),
        ({"v": "0", "w": "0"}, {"v": "0", "w": "0", "x": "1"}, {"v": "0", "w": "0", "x": "1"}, False),
        (
            {"v": "0", "w": "0", "x": "1"},
            {"v": "0", "w": "0", "x": "2"},
            {"v": "0", "w": "0", "x": "1"},
            True,
        ),
    ],
)
def test_a_field_mapped_since_is_seen_for_the_first_time(
    theirs: Fields, content: Fields, after: Fields, conflict: bool
) -> None:
    decision = decide(
        sighting(mapped=("v", "w", "x"), theirs=theirs, content=content, fresh=frozenset("x")),
        Rules(adopt="first", fields="newest"),
    )
    assert decision.after == after
    assert (decision.conflict is not None) == conflict


@pytest.mark.parametrize(
    ("theirs", "content", "in_line", "remember"),
    [
        # empty, and nobody has a value: nothing to tell, nothing to write
        (START, {**START, "x": None}, True, "normalised"),
        # empty here, but not in the journal: to be filled, never taken for an edit to null
        ({**START, "x": "1"}, {**START, "x": None}, True, "behind"),
        ({**START, "x": "1"}, START, True, "behind"),
        # what the journal says already
        ({**START, "x": "1"}, {**START, "x": "1"}, True, "normalised"),
        ({**START, "x": "1"}, {**START, "x": "1"}, False, "behind"),
    ],
)
def test_a_field_mapped_since_that_says_nothing_new_makes_no_event(
    theirs: Fields, content: Fields, in_line: bool, remember: str
) -> None:
    decision = decide(
        sighting(
            mapped=("v", "w", "x"),
            theirs=theirs,
            content=content,
            fresh=frozenset("x"),
            held=Held(1, in_line),
        ),
        Rules(adopt="newest"),
    )
    assert (decision.op, decision.conflict, decision.remember) == (None, None, remember)


@pytest.mark.parametrize(("in_line", "remember"), [(True, "as-before"), (False, "behind")])
def test_a_field_that_is_no_longer_mapped_makes_no_event(in_line: bool, remember: str) -> None:
    seen = sighting(mapped=("v",), content={"v": "0"}, held=Held(1, in_line))
    assert decide(seen, Rules()) == Decision(None, START, (), remember)  # type: ignore[arg-type]


# -- fields that are only written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "theirs", "content", "after", "changed", "remember"),
    [
        # an edit of it is not taken, and to be undone
        (True, START, {**START, "w": "1"}, None, (), "behind"),
        (True, {**START, "v": "1"}, {**START, "w": "1"}, None, (), "behind"),
        # beside one that counts
        (True, START, {"v": "1", "w": "1"}, {"v": "1", "w": "0"}, ("v",), "behind"),
        (True, START, {"v": "1", "w": "0"}, {"v": "1", "w": "0"}, ("v",), "in-line"),
        # in a new record
        (False, None, {"v": "1", "w": "1"}, {"v": "1"}, ("v",), "behind"),
        (False, None, {"v": "1"}, {"v": "1"}, ("v",), "in-line"),
        (False, None, {"v": "1", "w": None}, {"v": "1"}, ("v",), "normalised"),
        # in a record that is adopted
        (False, START, {**START, "w": "1"}, None, (), "behind"),
        (False, START, START, None, (), "at-head"),
        (False, {"v": "0"}, {"v": "0", "w": None}, None, (), "normalised"),
        # in one that is gone elsewhere
        (True, None, {**START, "w": "1"}, None, (), "behind"),
    ],
)
def test_what_a_field_that_is_only_written_holds_is_not_taken(
    held: bool,
    theirs: Fields | None,
    content: Fields,
    after: Fields | None,
    changed: tuple[str, ...],
    remember: str,
) -> None:
    known = {} if held else {"held": None, "had": None, "ancestor": {}}
    seen = sighting(theirs=theirs, content=content, write_only=frozenset("w"), **known)
    decision = decide(seen, Rules())
    assert (decision.changed, decision.remember, decision.conflict) == (changed, remember, None)
    assert (decision.op is None) is (after is None)
    if after is not None:
        assert decision.after == after


def test_its_own_way_of_writing_such_a_field_stays() -> None:
    had = {**START, "w": "0 "}
    seen = sighting(content={**had, "v": "1"}, had=had, write_only=frozenset("w"))
    assert decide(seen, Rules()).remember == "normalised"


# -- a filter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "theirs", "content", "op", "remember"),
    [
        (True, START, {**START, "v": "out"}, "update", "behind"),  # edited so that it leaves
        (True, {**START, "v": "out"}, {**START, "w": "1"}, "update", "behind"),  # edited while it is to leave
        (True, {**START, "v": "out"}, {**START, "v": "in"}, "update", "in-line"),  # brought back
        (False, None, {"v": "out"}, "create", "behind"),
        (False, {"v": "out"}, {"v": "out"}, None, "behind"),
        (False, {"v": "in"}, {"v": "in"}, None, "at-head"),
        (True, {**START, "v": "out"}, GONE, None, "nothing"),  # it does not belong there
        (True, {**START, "v": "in"}, GONE, "delete", "nothing"),
    ],
)
def test_what_does_not_pass_the_filter_is_to_leave(
    held: bool, theirs: Fields | None, content: Fields | None, op: str | None, remember: str
) -> None:
    known = {} if held else {"held": None, "had": None, "ancestor": {}}
    seen = sighting(theirs=theirs, content=content, holds=lambda record: record.get("v") != "out", **known)
    decision = decide(seen, Rules())
    assert (decision.op, decision.remember) == (op, remember)


# -- always ---------------------------------------------------------------------------------------------

VALUES = st.sampled_from(["0", "1", None, ABSENT])
RECORDS = st.fixed_dictionaries({"v": VALUES, "w": VALUES}).map(lambda record: edited({}, record))
STATES = st.none() | RECORDS


@given(
    theirs=STATES, content=STATES, had=RECORDS, ancestor=RECORDS, known=st.booleans(), in_line=st.booleans(),
    fields=st.sampled_from(["newest", "first", "prefer", "manual"]),
    delete=st.sampled_from(["edit-wins", "delete-wins", "manual"]),
)  # fmt: skip
def test_whatever_happens_no_value_found_is_lost(
    theirs: Fields | None, content: Fields | None, had: Fields, ancestor: Fields, known: bool, in_line: bool, fields: str, delete: Any
) -> None:  # fmt: skip
    if not known and content is None:
        return
    seen = sighting(
        theirs=theirs, content=content, ancestor=ancestor if known else {},
        held=Held(1, in_line) if known else None, had=had if known else None,
    )  # fmt: skip
    decision = decide(seen, Rules(fields=fields, delete=delete, adopt=fields, prefer=("a", "b")))
    sides = (decision.conflict or {"fields": {}})["fields"]
    for name, value in (content or {}).items():
        told = [decision.after or {}, *({name: side} for side in sides.get(name, {}).values())]
        if value != (had if known else {}).get(name, ABSENT):
            assert any(name in where and where[name] == value for where in told), name
    if decision.op is None:
        assert decision.after == theirs
    if decision.remember == "in-line":
        assert same_record(view(decision.after, seen.mapped), content)
    if decision.conflict is not None and decision.conflict["open"]:
        manual = {"manual"} & {fields, delete}
        assert manual
        assert "left open" in decision.conflict["basis"]


def test_records_compared() -> None:
    assert same_record(None, None)
    assert not same_record(None, {})
    assert not same_record({"a": None}, {})
    assert not same_record({"a": 1}, {"a": True})
    assert differing({"a": 1, "b": 1, "c": None}, {"a": 1.0, "b": 1, "d": 2}) == ["a", "c", "d"]
    assert view({"a": 1, "b": None, "c": 3}, ("b", "c", "d")) == {"b": None, "c": 3}
    assert view(None, ("a",)) is None
