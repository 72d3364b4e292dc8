"""Open conflicts, and how they end: decided by hand, or by agreement."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from projects import (
    canonical,
    did,
    dump,
    events,
    head,
    held,
    last,
    memory,
    rows,
    synchronizer,
    thing,
    together,
)

from evsync.binding import PlaceSpec
from evsync.data import Data
from evsync.errors import ConfigError, EvsyncError, NotFound, UsageError
from evsync.projections.merge import Rules
from evsync.synchronizer import Synchronizer

TYPES = {"id": "int", "name": "str", "n": "int"}
MANUAL = {"thing": Rules(fields="manual", delete="manual")}
PEN = {"id": 1, "name": "pen", "n": 1}


def three(*stores: str, **more: Any) -> Synchronizer:
    """Stores that all hold one pen, in step; conflicts wait for a decision."""
    sync = together(
        *(memory(name, dict(PEN)) for name in stores or ("one", "two", "six")),
        fields=TYPES, rules=MANUAL, journal=None, **more,
    )  # fmt: skip
    sync.sync()
    return sync


def pen(sync: Synchronizer, store: str) -> dict[str, Any] | None:
    return held(sync.stores[store]).get((1,))


def edit(sync: Synchronizer, store: str, **fields: Any) -> None:
    found = pen(sync, store)
    assert found is not None
    found.update(fields)


def parted(sync: Synchronizer) -> None:
    """Store two counts 3 where the journal, after store one, says 2."""
    edit(sync, "one", n=2)
    edit(sync, "two", n=3)
    assert did(sync.ingest(), "two")["conflicts"] == 1


def is_open(sync: Synchronizer) -> list[bool]:
    return [conflict["open"] for conflict in sync.conflicts()]


def all_hold(sync: Synchronizer, record: dict[str, Any] | None) -> bool:
    return all(pen(sync, store) == record for store in sync.stores) and canonical(sync, "1") == record


def quiet(sync: Synchronizer) -> bool:
    """Whether another round journals and writes nothing."""
    before = head(sync)
    report = sync.sync()
    return head(sync) == before and not any(
        did(report["replay"], name) for name in sync.stores if sync.stores[name].role != "source"
    )


# -- what is listed --------------------------------------------------------------------------------------


def test_a_conflict_is_listed_with_its_sides_and_open_until_it_is_decided() -> None:
    with three() as sync:
        parted(sync)
        [conflict] = sync.conflicts()
        assert {name: conflict[name] for name in ("type", "key", "store", "open", "policy", "settled_by")} == {
            "type": "thing", "key": "1", "store": "two", "open": True, "policy": "manual", "settled_by": None,
        }  # fmt: skip
        assert conflict["fields"] == {"n": {"base": 1, "theirs": 2, "mine": 3, "chosen": 2}}
        seq = sync.resolve("thing", "1", keep=True)["seq"]
        [conflict] = sync.conflicts()
        assert (conflict["open"], conflict["settled_by"]) == (False, seq)
        assert list(sync.conflicts(only_open=True)) == []


def test_conflicts_are_listed_by_type_record_and_store() -> None:
    with three() as sync:
        parted(sync)
        assert [len(list(sync.conflicts(store=name))) for name in ("one", "two", "evsync")] == [0, 1, 0]
        assert len(list(sync.conflicts("thing", "1"))) == 1
        with pytest.raises(UsageError, match="no store 'tow'"):
            sync.conflicts(store="tow")
        with pytest.raises(NotFound):
            sync.conflicts("thing", "2")


def test_the_values_are_shown_in_their_types() -> None:
    moments = {"one": "2026-01-01T10:00:00+02:00", "two": "2026-01-01T11:00:00+02:00"}
    stores = [memory(name, {"id": 1, "at": "2026-01-01T00:00:00Z"}) for name in moments]
    with together(*stores, fields={"id": "int", "at": "datetime"}, rules=MANUAL, journal=None) as sync:
        sync.sync()
        for name, moment in moments.items():
            edit(sync, name, at=moment)
        sync.ingest()
        wanted = {
            "base": "2026-01-01T00:00:00Z", "theirs": "2026-01-01T08:00:00Z", "mine": "2026-01-01T09:00:00Z",
            "chosen": "2026-01-01T08:00:00Z",
        }  # fmt: skip
        assert next(sync.conflicts())["fields"]["at"] == wanted
        assert last(sync)["conflict"]["fields"]["at"] == wanted


def test_a_later_open_conflict_of_the_same_store_and_fields_takes_the_place_of_the_former() -> None:
    with three() as sync:
        parted(sync)
        edit(sync, "two", n=4)
        sync.ingest()
        assert is_open(sync) == [False, True]
        first, second = sync.conflicts()
        assert first["settled_by"] == second["seq"]
        sync.resolve("thing", "1", take="two")
        assert is_open(sync) == [False, False]
        sync.replay()
        assert all_hold(sync, {**PEN, "n": 4})


def test_conflicts_about_different_fields_stand_side_by_side() -> None:
    with three() as sync:
        parted(sync)
        edit(sync, "one", name="pencil")
        edit(sync, "two", name="crayon")
        sync.ingest()
        assert is_open(sync) == [True, True]
        sync.resolve("thing", "1", take="two")
        sync.replay()
        assert all_hold(sync, {"id": 1, "name": "crayon", "n": 3})


# -- by agreement ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who, value", [("two", 2), ("one", 3)])
def test_an_open_conflict_ends_when_one_side_takes_the_others_value(who: str, value: int) -> None:
    with three() as sync:
        parted(sync)
        edit(sync, who, n=value)
        sync.ingest()
        assert is_open(sync) == [False]
        settled = last(sync)
        assert (settled["op"], settled["store"], settled["changed"]) == ("resolve", "evsync", [])
        assert settled["conflict"]["policy"] == "agreed"
        assert settled["conflict"]["open"] is False
        assert settled["conflict"]["fields"]["n"]["mine"] == value
        assert settled["after"] == {**PEN, "n": value}
        sync.replay()
        assert all_hold(sync, {**PEN, "n": value})
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_one_stores_agreement_does_not_end_anothers_conflict() -> None:
    with three() as sync:
        edit(sync, "one", n=2)
        edit(sync, "two", n=3)
        edit(sync, "six", n=4)
        sync.ingest()
        edit(sync, "two", n=2)
        sync.ingest()
        assert [(c["store"], c["open"]) for c in sync.conflicts()] == [("two", False), ("six", True)]
        sync.replay()
        assert [pen(sync, name)["n"] for name in ("one", "two", "six")] == [2, 2, 4]  # type: ignore[index]


def test_deleted_on_both_sides_is_agreement_and_the_record_may_come_again() -> None:
    with three() as sync:
        edit(sync, "one", n=2)
        held(sync.stores["two"]).clear()
        sync.ingest(allow_deletes=True)
        assert is_open(sync) == [True]
        held(sync.stores["one"]).clear()
        held(sync.stores["six"]).clear()
        sync.ingest(allow_deletes=True)
        assert is_open(sync)[0] is False
        assert canonical(sync, "1") is None
        held(sync.stores["two"])[1,] = dict(PEN)
        sync.ingest(["two"])
        assert (last(sync)["op"], last(sync)["conflict"]) == ("create", None)
        assert sync.verify()["ok"]


def test_a_record_that_is_back_where_it_was_deleted_is_agreement() -> None:
    with three() as sync:
        edit(sync, "one", n=2)
        held(sync.stores["two"]).clear()
        sync.ingest(allow_deletes=True)
        held(sync.stores["two"])[1,] = {**PEN, "n": 2}
        sync.ingest()
        assert is_open(sync) == [False]
        sync.replay()
        assert all_hold(sync, {**PEN, "n": 2})
        assert quiet(sync)


def test_nothing_is_settled_while_the_sides_differ_nor_in_a_dry_run() -> None:
    with three() as sync:
        parted(sync)
        sync.replay()
        assert quiet(sync)
        edit(sync, "two", n=2)
        before = dump(sync)
        sync.ingest(dry_run=True)
        assert dump(sync) == before
        assert is_open(sync) == [True]


def test_no_store_is_called_evsync(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be called 'evsync'"):
        together(memory("evsync"))
    text = '[types.t]\nkey = ["id"]\n[stores.evsync]\nurl = "csv:x.csv"\n[stores.evsync.types.t]\n'
    with pytest.raises(ConfigError, match=r"\[stores.evsync\]: a store cannot be called"):
        synchronizer(tmp_path, text)


# -- by hand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decision, n",
    [
        ({"take": "two"}, 3),
        ({"take": "one"}, 2),
        ({"keep": True}, 2),
        ({"set": {"n": "7"}}, 7),
    ],
)
def test_all_stores_follow_a_decision(decision: dict[str, Any], n: int) -> None:
    with three() as sync:
        parted(sync)
        sync.replay()
        assert pen(sync, "two") == {**PEN, "n": 3}  # left alone while it is open
        document = sync.resolve("thing", "1", **decision, actor="eve")
        assert document == {
            "command": "resolve", "ok": True, "seq": head(sync), "type": "thing", "key": "1",
            "before": {**PEN, "n": 2}, "after": {**PEN, "n": n}, "changed": ["n"] if n != 2 else [],
        }  # fmt: skip
        event = last(sync)
        assert (event["op"], event["store"], event["actor"], event["base"]) == (
            "resolve", "evsync", "eve", head(sync) - 1,
        )  # fmt: skip
        assert event["conflict"]["fields"]["n"] == {"base": 1, "theirs": 2, "mine": 3, "chosen": n}
        assert event["before"] == ({"n": 2} if n != 2 else None)
        sync.replay()
        assert all_hold(sync, {**PEN, "n": n})
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_fields_that_are_not_in_dispute_may_be_set_and_unset_too() -> None:
    with three() as sync:
        parted(sync)
        sync.resolve("thing", "1", set={"name": "quill"}, unset=["n"])
        sync.replay()
        assert canonical(sync, "1") == {"id": 1, "name": "quill"}
        assert {name: sync.blame("thing", "1")["fields"][1][name] for name in ("field", "store", "seq")} == {
            "field": "name", "store": "evsync", "seq": head(sync),
        }  # fmt: skip


def test_one_decision_settles_the_conflicts_of_two_stores() -> None:
    with three() as sync:
        edit(sync, "one", n=2)
        edit(sync, "two", n=3)
        edit(sync, "six", n=4)
        sync.ingest()
        assert is_open(sync) == [True, True]
        sync.resolve("thing", "1", take="six")
        assert is_open(sync) == [False, False]
        sync.replay()
        assert all_hold(sync, {**PEN, "n": 4})


def test_a_store_that_changed_meanwhile_is_not_overwritten() -> None:
    with three() as sync:
        parted(sync)
        sync.resolve("thing", "1", take="one")
        edit(sync, "two", n=9)
        assert did(sync.replay(), "two") == {"skipped": 1}
        assert pen(sync, "two") == {**PEN, "n": 9}
        sync.ingest()
        assert is_open(sync) == [False, True]


@pytest.mark.parametrize("take, record", [("two", None), ("one", {**PEN, "n": 2})])
def test_edited_here_deleted_there(take: str, record: dict[str, Any] | None) -> None:
    """Store one edited, then store two deleted."""
    with three() as sync:
        edit(sync, "one", n=2)
        held(sync.stores["two"]).clear()
        sync.ingest(allow_deletes=True)
        assert next(sync.conflicts())["fields"] == {}
        sync.resolve("thing", "1", take=take)
        sync.replay(allow_deletes=True)
        assert all_hold(sync, record)
        assert quiet(sync)
        assert sync.verify()["ok"]


@pytest.mark.parametrize(
    "decision, record",
    [
        ({"take": "two"}, {**PEN, "n": 3}),
        ({"take": "one"}, None),
        ({"keep": True}, None),
        ({"set": {"name": "quill"}}, {**PEN, "name": "quill"}),
    ],
)
def test_deleted_here_edited_there(decision: dict[str, Any], record: dict[str, Any] | None) -> None:
    """Store one deleted, then store two edited."""
    with three() as sync:
        held(sync.stores["one"]).clear()
        edit(sync, "two", n=3)
        sync.ingest(allow_deletes=True)
        assert (canonical(sync, "1"), is_open(sync)) == (None, [True])
        document = sync.resolve("thing", "1", **decision)
        assert (document["before"], document["after"]) == (None, record)
        sync.replay(allow_deletes=True)
        assert all_hold(sync, record)
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_a_revived_record_keeps_what_the_store_does_not_map() -> None:
    whole, part = (
        memory("whole", dict(PEN)),
        memory("part", {"id": 1, "n": 1}, place=PlaceSpec(only=("id", "n"))),
    )
    with together(whole, part, fields=TYPES, rules=MANUAL, journal=None) as sync:
        sync.sync()
        held(whole).clear()
        edit(sync, "part", n=3)
        sync.ingest(allow_deletes=True)
        sync.resolve("thing", "1", take="part")
        sync.replay()
        assert rows(whole) == [{**PEN, "n": 3}]


def test_a_store_that_holds_none_of_the_disputed_fields_has_no_side() -> None:
    part = memory("part", {"id": 1, "name": "pen"}, place=PlaceSpec(only=("id", "name")))
    stores = memory("one", dict(PEN)), memory("two", dict(PEN)), part
    with together(*stores, fields=TYPES, rules=MANUAL, journal=None) as sync:
        sync.sync()
        parted(sync)
        with pytest.raises(EvsyncError, match="does not hold what is in dispute: n"):
            sync.resolve("thing", "1", take="part")
        sync.resolve("thing", "1", take="two")
        sync.replay()
        assert [row["n"] for row in (*rows(stores[0]), *rows(stores[1]))] == [3, 3]
        assert rows(part) == [{"id": 1, "name": "pen"}]


def test_a_store_with_ids_of_its_own_follows() -> None:
    own = memory("own", {"code": "a", "n": 1}, key=("code",), assign_ids=True)
    other = memory("other", {"code": "a", "n": 1}, key=("code",))
    types = [thing({"code": "str", "n": "int"}, ("code",))]
    with Synchronizer([own, other], types, None, rules=MANUAL) as sync:
        sync.sync()
        held(own)[1]["n"], held(other)["a",]["n"] = 2, 3
        sync.ingest()
        sync.resolve("thing", "a", take="other")
        sync.replay()
        assert rows(own) == rows(other) == [{"code": "a", "n": 3}]
        held(own).clear()
        held(other)["a",]["n"] = 4
        sync.ingest(["other"])
        sync.ingest(["own"], allow_deletes=True)
        sync.resolve("thing", "a", keep=True)
        sync.replay()
        assert rows(own) == rows(other) == [{"code": "a", "n": 4}]
        assert quiet(sync)


def test_values_are_read_by_the_types_of_their_fields() -> None:
    fields = {"id": "int", "n": "decimal"}
    stores = [memory(name, {"id": 1, "n": Decimal("1")}) for name in ("one", "two")]
    with together(*stores, fields=fields, rules=MANUAL, journal=None) as sync:
        sync.sync()
        for store, number in zip(stores, ("2", "3"), strict=True):
            held(store)[1,]["n"] = Decimal(number)
        sync.ingest()
        with pytest.raises(UsageError, match="field 'n': 'many' is not of type decimal"):
            sync.resolve("thing", "1", set={"n": "many"})
        sync.resolve("thing", "1", set={"n": "7.50"})
        sync.replay()
        assert held(stores[1])[1,]["n"] == Decimal("7.50")
        assert last(sync)["after"]["n"] == "7.50"


@pytest.mark.parametrize(
    "decision, message",
    [
        ({}, "nothing was given"),
        ({"keep": True, "take": "one"}, "one thing only"),
        ({"set": {"n": 1}, "unset": ["n"]}, "both set and unset"),
        ({"take": "tow"}, "no store 'tow' that holds"),
        ({"take": "evsync"}, "no undo is open here"),
        ({"set": {"m": 1}}, "has no field 'm'"),
        ({"unset": ["m"]}, "has no field 'm'"),
        ({"set": {"id": 2}}, "part of the key"),
        ({"set": {"n": "x"}}, "not of type int"),
    ],
)
def test_what_cannot_be_decided_changes_nothing(decision: dict[str, Any], message: str) -> None:
    with three() as sync:
        parted(sync)
        before = dump(sync)
        with pytest.raises(UsageError, match=message):
            sync.resolve("thing", "1", **decision)
        assert dump(sync) == before


def test_only_an_open_conflict_can_be_decided() -> None:
    with three() as sync:
        with pytest.raises(EvsyncError, match="no open conflict") as caught:
            sync.resolve("thing", "1", keep=True)
        assert caught.value.hint == "see: evsync conflicts --open"
        assert caught.value.exit_code == 1
        parted(sync)
        seq = sync.resolve("thing", "1", keep=True)["seq"]
        with pytest.raises(EvsyncError, match="no open conflict") as caught:
            sync.resolve("thing", "1", keep=True)
        assert f"evsync undo {seq}" in caught.value.hint
        with pytest.raises(NotFound, match="knows no thing '2'"):
            sync.resolve("thing", "2", keep=True)
        with pytest.raises(UsageError, match="no type 'think'"):
            sync.resolve("think", "1", keep=True)


def test_a_store_that_was_never_read_has_nothing_to_take() -> None:
    stores = memory("one", dict(PEN)), memory("two", dict(PEN)), memory("new", role="target")
    with together(*stores, fields=TYPES, rules=MANUAL, journal=None) as sync:
        sync.ingest()
        edit(sync, "one", n=2)
        edit(sync, "two", n=3)
        sync.ingest()
        with pytest.raises(EvsyncError, match="'new' is not known to hold"):
            sync.resolve("thing", "1", take="new")


def test_a_journal_that_is_not_there_is_not_created_by_a_decision(tmp_path: Path) -> None:
    with together(memory("one"), fields=TYPES, journal=tmp_path / "j.db") as sync:
        for decide in (lambda: sync.resolve("thing", "1", keep=True), lambda: sync.undo(1)):
            with pytest.raises(NotFound):
                decide()
        assert not (tmp_path / "j.db").exists()


def test_a_dry_run_tells_the_decision_and_changes_nothing() -> None:
    with three() as sync:
        parted(sync)
        before = dump(sync)
        rehearsed = sync.resolve("thing", "1", take="two", dry_run=True)
        assert dump(sync) == before
        assert rehearsed == sync.resolve("thing", "1", take="two")


def test_a_store_is_brought_to_a_state_before_and_after_a_decision() -> None:
    with three() as sync:
        parted(sync)
        seq = sync.resolve("thing", "1", take="two")["seq"]
        sync.replay()
        sync.replay(["six"], seq - 1)
        assert pen(sync, "six") == {**PEN, "n": 2}
        sync.replay(["six"], seq)
        assert pen(sync, "six") == {**PEN, "n": 3}
        assert events(sync, "seq", op="resolve") == [(seq,)]


def test_operations_through_the_api_go_on_after_a_decision() -> None:
    with three() as sync:
        parted(sync)
        sync.resolve("thing", "1", take="two")
        sync.replay()
        sync.stores["one"].update(Data("thing", {"id": 1, "n": 8}))
        sync.sync()
        assert all_hold(sync, {**PEN, "n": 8})
        assert is_open(sync) == [False]
