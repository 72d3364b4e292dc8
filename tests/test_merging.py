"""What two stores finally hold, whatever was done to a record in each, under every policy and in every role."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON, Row, canonical, did, events, head, held, last, memory, rows, together

from evsync.binding import PlaceSpec
from evsync.projections.merge import Rules
from evsync.store import Role, Store
from evsync.synchronizer import Synchronizer

Touches = Row | None
START: Row = {"v": "0", "w": "0"}
FIELDS = {"id": "str", "v": "str", "w": "str"}

# What is touched in the store that is ingested first, and in the other.
ONE: dict[str, Touches] = {
    "nothing": {},
    "edits v": {"v": "1"},
    "edits w": {"w": "1"},
    "agrees": {"v": "="},
    "deletes": None,
}
OTHER: dict[str, Touches] = {**ONE, "edits v": {"v": "2"}, "edits w": {"w": "2"}}
NEW: dict[str, Row | None] = {"nothing": None, "creates": {"v": "3", "w": "3"}, "creates half": {"v": "4"}}

POLICIES: dict[str, tuple[Rules, str]] = {
    "newest": (Rules("newest", "edit-wins", "newest"), "other"),
    "first": (Rules("first", "delete-wins", "first"), "one"),
    "prefer one": (Rules("prefer", "edit-wins", "prefer", ("one", "other")), "one"),
    "prefer other": (Rules("prefer", "delete-wins", "prefer", ("other", "one")), "other"),
    "manual": (Rules("manual", "manual", "manual"), "nobody"),
    "manual deletes": (Rules("newest", "manual", "newest"), "other"),
}
ROLES: list[tuple[Role, Role]] = [
    ("both", "both"),
    ("source", "both"),
    ("both", "source"),
    ("both", "target"),
    ("target", "both"),
    ("source", "target"),
]


def after(record: Row, touches: Touches) -> Row | None:
    return None if touches is None else {**record, **touches}


def merged(one: Touches, other: Touches, rules: Rules, winner: str) -> tuple[Row | None, bool]:
    """What becomes of START, by what each store touched; and whether a dispute about it stays open."""
    if one is None or other is None:
        edit = other if one is None else one
        if not edit:  # both deleted it, or one did and the other did nothing
            return None, False
        if rules.delete == "manual":  # what stood first stands
            return after(START, one), True
        return (after(START, edit) if rules.delete == "edit-wins" else None), False
    both = {name for name in one.keys() & other.keys() if one[name] != other[name]}
    stands = {**one, **other} if winner == "other" else {**other, **one}
    return {**START, **stands}, bool(both) and rules.fields == "manual"


def created(one: Row | None, other: Row | None, rules: Rules, winner: str) -> tuple[Row | None, bool]:
    """The same for records that either store came to hold by itself."""
    if one is None or other is None:
        return one or other, False
    differ = any(one[name] != other[name] for name in one.keys() & other.keys())
    stands = {**one, **other} if winner == "other" else {**other, **one}
    return stands, differ and rules.adopt == "manual"


def expected(
    before: Row | None, one: Touches, other: Touches, roles: tuple[Role, Role], rules: Rules, winner: str
) -> list[Row | None]:
    """What the two stores finally hold."""
    own = [after(before or {}, touches) for touches in (one, other)]
    did_something = [has != before for has in own]
    seen = [touches if role != "target" else {} for touches, role in zip((one, other), roles, strict=True)]
    if before is None:
        known = [has if role != "target" else None for has, role in zip(own, roles, strict=True)]
        stands, open = created(known[0], known[1], rules, winner)
    else:
        stands, open = merged(seen[0], seen[1], rules, winner)
    finally_held = []
    for number, role in enumerate(roles):
        keeps = (
            role == "source"
            or (role == "target" and did_something[number])  # left alone until a rebuild
            or (open and number == 1)  # it was found in dispute with what stood first
        )
        finally_held.append(own[number] if keeps else stands)
    return finally_held


def cases() -> Iterator[tuple[str, Row | None, Touches, Touches]]:
    """A record for each pair of operations: its key, what both held of it at first, and what each does."""
    for (a, one), (b, other) in product(ONE.items(), OTHER.items()):
        yield f"one {a}, other {b}", START, one, other
    for (a, one), (b, other) in product(NEW.items(), NEW.items()):
        yield f"one newly {a}, other newly {b}", None, one, other


def work(store: Store, touched: dict[str, Touches]) -> None:
    """Do to each record in the store what is to be done to it."""
    records = held(store)
    for key, touches in touched.items():
        if touches is None:
            records.pop((key,), None)
        elif touches:
            records[(key,)] = {**records.get((key,), {"id": key}), **touches}


def content(store: Store) -> dict[str, Row]:
    return {row["id"]: {name: value for name, value in row.items() if name != "id"} for row in rows(store)}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("roles", ROLES, ids="-".join)
def test_what_two_stores_finally_hold(roles: tuple[Role, Role], policy: str) -> None:
    rules, winner = POLICIES[policy]
    table = list(cases())
    at_first = [{"id": key, **before} for key, before, _, _ in table if before is not None]
    one, other = (
        memory(name, *(dict(row) for row in at_first), role=role)
        for name, role in zip(("one", "other"), roles, strict=True)
    )
    with together(one, other, fields=FIELDS, rules={"thing": rules}) as sync:
        sync.sync()
        work(one, {key: touches for key, _, touches, _ in table})
        work(other, {key: touches for key, _, _, touches in table})
        sync.sync()
        wanted = [expected(before, a, b, roles, rules, winner) for _, before, a, b in table]
        for number, store in enumerate((one, other)):
            assert content(store) == {
                key: stands[number]
                for (key, *_), stands in zip(table, wanted, strict=True)
                if stands[number] is not None
            }
        length = head(sync)
        sync.sync()
        assert head(sync) == length  # and there it stays


# -- more than two ---------------------------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[tuple[Synchronizer, list[Store]]]:
    """Three stores that hold one record, under `manual` for v, `newest` for w."""
    stores = [memory(name, {"id": "k", **START}) for name in ("a", "b", "c")]
    rules = {"thing": Rules(delete="manual", by_field={"v": "manual"})}
    with freeze_time(NOON), together(*stores, fields=FIELDS, rules=rules) as sync:
        sync.sync()
        yield sync, stores


def edit(store: Store, **fields: Any) -> None:
    held(store).setdefault(("k",), {"id": "k"}).update(fields)


def conflicts(sync: Synchronizer) -> list[tuple[str, bool, list[str]]]:
    return [
        (event["store"], event["conflict"]["open"], sorted(event["conflict"]["fields"]))
        for event in sync.log(conflicts=True)
    ]


def test_three_stores_at_once_each_with_a_field_of_its_own_are_no_conflict(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    edit(a, v="1")
    edit(b, w="2")
    sync.sync()
    assert [rows(store) for store in (a, b, c)] == [[{"id": "k", "v": "1", "w": "2"}]] * 3
    assert conflicts(sync) == []


def test_three_stores_at_once_with_one_field_are_two_conflicts(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    for number, store in enumerate((a, b, c), 1):
        edit(store, w=str(number))
    sync.sync()
    assert [rows(store)[0]["w"] for store in (a, b, c)] == ["3", "3", "3"]
    assert conflicts(sync) == [("b", False, ["w"]), ("c", False, ["w"])]
    assert last(sync)["conflict"]["fields"]["w"] == {"base": "0", "theirs": "2", "mine": "3", "chosen": "3"}


def test_an_open_conflict_holds_up_the_store_that_is_in_it_and_no_other(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    edit(a, v="1")
    edit(b, v="2", w="2")
    sync.sync()
    # v is open, w is decided; c has both, b waits with what it has
    assert canonical(sync, "k") == {"id": "k", "v": "1", "w": "2"}
    assert rows(a) == rows(c) == [{"id": "k", "v": "1", "w": "2"}]
    assert rows(b) == [{"id": "k", "v": "2", "w": "2"}]
    assert conflicts(sync) == [("b", True, ["v"])]


def test_an_open_conflict_beside_a_decided_one_is_one_event_that_is_open(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, _) = three
    edit(a, v="1", w="1")
    edit(b, v="2", w="2")
    sync.sync()
    assert canonical(sync, "k") == {"id": "k", "v": "1", "w": "2"}
    assert last(sync)["changed"] == ["w"]
    assert last(sync)["conflict"] == {
        "fields": {
            "v": {"base": "0", "theirs": "1", "mine": "2", "chosen": "1"},
            "w": {"base": "0", "theirs": "1", "mine": "2", "chosen": "2"},
        },
        "policy": {"v": "manual", "w": "newest"},
        "open": True,
        "basis": "v: manual: left open; w: newest: b's came later to the journal (neither gives a time)",
    }


def test_an_edit_on_top_of_an_open_conflict_is_a_further_one_if_it_is_of_the_field(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    edit(a, v="1")
    edit(b, v="2")
    sync.sync()
    edit(b, w="5")  # of another field: it flows
    sync.sync()
    assert [rows(store)[0]["w"] for store in (a, b, c)] == ["5", "5", "5"]
    assert conflicts(sync) == [("b", True, ["v"])]
    edit(b, v="3")
    sync.sync()
    assert conflicts(sync) == [("b", True, ["v"]), ("b", True, ["v"])]
    assert last(sync)["conflict"]["fields"]["v"] == {"base": "0", "theirs": "1", "mine": "3", "chosen": "1"}
    edit(a, v="9")  # the others go on
    sync.sync()
    assert [rows(store)[0]["v"] for store in (a, b, c)] == ["9", "3", "9"]


def test_a_store_that_edits_twice_before_the_other_is_seen_has_edited_once(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, _) = three
    edit(a, w="1")
    sync.ingest(["a"])
    edit(a, w="2")
    sync.ingest(["a"])
    edit(b, w="3")
    sync.sync()
    assert conflicts(sync) == [("b", False, ["w"])]
    assert last(sync)["conflict"]["fields"]["w"] == {"base": "0", "theirs": "2", "mine": "3", "chosen": "3"}


def test_two_edits_of_one_store_around_anothers_are_no_conflict(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    edit(a, v="1")
    sync.ingest(["a"])
    edit(b, w="2")
    sync.ingest(["b"])
    edit(a, v="3")
    sync.sync()
    assert conflicts(sync) == []
    assert [rows(store) for store in (a, b, c)] == [[{"id": "k", "v": "3", "w": "2"}]] * 3


def disputed(sync: Synchronizer, a: Store, b: Store) -> None:
    """b deleted what a edited, and whether it may is open."""
    edit(a, v="1")
    held(b).clear()
    sync.sync(allow_deletes=True)
    assert conflicts(sync) == [("b", True, [])]
    assert (rows(b), canonical(sync, "k")) == ([], {"id": "k", "v": "1", "w": "0"})


@pytest.mark.parametrize(
    ("again", "stands", "op"),
    [
        ({"v": "1", "w": "0"}, {"v": "1", "w": "0"}, []),  # just as the others have it
        ({"v": "1", "w": "7"}, {"v": "1", "w": "7"}, []),
        ({"v": "7", "w": "0"}, {"v": "1", "w": "0"}, ["v"]),  # v is for a human, as ever
    ],
)
def test_what_is_created_again_while_its_deletion_is_in_dispute_is_merged_and_that_dispute_ends(
    three: tuple[Synchronizer, list[Store]], again: Row, stands: Row, op: list[str]
) -> None:
    sync, (a, b, c) = three
    disputed(sync, a, b)
    edit(b, **again)
    sync.sync()
    assert last(sync, store="b")["op"] == "update"
    assert canonical(sync, "k") == {"id": "k", **stands}
    assert rows(a) == rows(c) == [{"id": "k", **stands}]
    assert rows(b) == [{"id": "k", **again}]  # nothing is written to it before somebody has decided
    assert [list(found["fields"]) for found in sync.conflicts(only_open=True)] == ([op] if op else [])
    length = head(sync)
    assert did(sync.ingest(), "b") == {"unchanged": 1}
    assert head(sync) == length


def test_a_deletion_in_dispute_that_the_others_follow_is_done(
    three: tuple[Synchronizer, list[Store]],
) -> None:
    sync, (a, b, c) = three
    disputed(sync, a, b)
    held(a).clear()
    sync.sync(allow_deletes=True)
    assert [rows(store) for store in (a, b, c)] == [[], [], []]
    assert canonical(sync, "k") is None
    assert events(sync, "op", "store")[-2:] == [("delete", "a"), ("resolve", "evsync")]
    assert list(sync.conflicts(only_open=True)) == []


def test_null_and_absent_are_two(three: tuple[Synchronizer, list[Store]]) -> None:
    sync, (a, b, c) = three
    edit(a, w=None)
    del held(b)[("k",)]["w"]
    sync.sync()
    assert [rows(store) for store in (a, b, c)] == [[{"id": "k", "v": "0"}]] * 3
    assert last(sync)["conflict"]["fields"] == {"w": {"base": "0", "theirs": None}}


# -- clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a_at", "b_at", "stands", "basis"),
    [
        ("2026-01-31T11:00:00Z", "2026-01-31T10:00:00Z", "1", "a says 2026-01-31T11:00:00Z, b 2026-01-31T10:00:00Z"),
        ("2026-01-31T10:00:00Z", "2026-01-31T11:00:00Z", "2", "b says 2026-01-31T11:00:00Z, a 2026-01-31T10:00:00Z"),
        ("2026-01-31T11:00:00Z", "2019-01-31T11:00:00Z", "1", "a says 2026-01-31T11:00:00Z, b 2019-01-31T11:00:00Z"),
        (
            "2031-01-01T00:00:00Z", "2026-01-31T11:00:00Z", "2",
            "a's clock says 2031-01-01T00:00:00Z, which lies ahead: by order in the journal (b says 2026-01-31T11:00:00Z)",
        ),
        (
            "2026-01-31T11:00:00Z", "2026-01-31T12:05:02Z", "2",
            "b's clock says 2026-01-31T12:05:02Z, which lies ahead: by order in the journal (a says 2026-01-31T11:00:00Z)",
        ),
    ],
)  # fmt: skip
def test_a_clock_that_lies_ahead_wins_nothing_by_it(a_at: str, b_at: str, stands: str, basis: str) -> None:
    place = PlaceSpec(changed_at="at")
    a, b = (
        memory(name, {"id": "k", "v": "0", "at": "2026-01-01T00:00:00Z"}, place=place) for name in ("a", "b")
    )
    with freeze_time(NOON) as clock, together(a, b, fields={"id": "str", "v": "str"}) as sync:
        sync.sync()
        edit(a, v="1", at=a_at)
        edit(b, v="2", at=b_at)
        sync.ingest(["a"])
        clock.move_to("2026-01-31T12:00:01Z")
        sync.ingest(["b"])
        assert canonical(sync, "k") == {"id": "k", "v": stands}
        assert last(sync)["conflict"]["basis"] == f"newest: {basis}"
