"""Undo: the inverse of an event, merged into what became of the record since."""

from __future__ import annotations

from typing import Any

import pytest
from projects import canonical, did, dump, events, head, held, last, memory, together

from evsync import undoing
from evsync.binding import PlaceSpec
from evsync.errors import NotFound, UsageError
from evsync.journal.event import Revision
from evsync.projections.merge import Rules
from evsync.store import Store
from evsync.synchronizer import Synchronizer
from evsync.undoing import Target, inverse

TYPES = {"id": "int", "name": "str", "n": "int"}
PEN = {"id": 1, "name": "pen", "n": 1}


def synced(*records: dict[str, Any], **more: Any) -> Synchronizer:
    """Two stores that both hold these; the events are those of store one."""
    one, two = memory("one", *map(dict, records)), memory("two")
    sync = together(one, two, fields=TYPES, journal=None, **more)
    sync.sync()
    return sync


def one(sync: Synchronizer) -> dict[Any, dict[str, Any]]:
    return held(sync.stores["one"])


def step(sync: Synchronizer, **fields: Any) -> int:
    """Edit the pen in store one; answers with the event."""
    one(sync)[1,].update(fields)
    sync.sync()
    return head(sync)


def both_hold(sync: Synchronizer, record: dict[str, Any] | None) -> bool:
    sync.replay(allow_deletes=True)
    stores: list[Store] = list(sync.stores.values())
    return canonical(sync, "1") == record and all(held(store).get((1,)) == record for store in stores)


def quiet(sync: Synchronizer) -> bool:
    before = head(sync)
    replay = sync.sync()["replay"]
    return head(sync) == before and not did(replay, "one") and not did(replay, "two")


def test_what_a_store_computes_is_not_undone_but_follows() -> None:
    one, two = memory("one", {"id": 1, "v": "ab", "n": 2}, place=PlaceSpec(read_only=("n",))), memory("two")
    with together(one, two) as sync:
        sync.sync()
        held(one)[1,].update(v="x", n=1)
        sync.sync()
        sync.undo(head(sync))
        assert canonical(sync, "1") == {"id": 1, "v": "ab", "n": 1}
        sync.replay()
        held(one)[1,].update(n=2)  # as the store does it
        sync.sync()
        assert held(one) == held(two)
        held(one)[1,].update(n=3)
        sync.sync()
        report = sync.undo(head(sync))
        assert (report["undone"], "change it there" in report["reason"]) == (0, True)


# -- what an undo means ----------------------------------------------------------------------------------

UNDOING = [
    # before the event, after it, now → the record, and the sides of the conflict
    ({"n": 1}, {"n": 2}, {"n": 2}, {"n": 1}, None),
    ({"n": 1}, {"n": 2}, {"n": 2, "m": 5}, {"n": 1, "m": 5}, None),
    ({}, {"n": 2}, {"n": 2, "m": 5}, {"m": 5}, None),
    ({"n": 1}, {}, {}, {"n": 1}, None),
    (None, {"n": 2}, {"n": 2}, None, None),
    ({"n": 1}, None, None, {"n": 1}, None),
    ({"n": 1}, {"n": 2}, {"n": 3}, {"n": 3}, {"n": {"base": 2, "theirs": 3, "mine": 1, "chosen": 3}}),
    (
        {"n": 1, "m": 1}, {"n": 2, "m": 2}, {"n": 3, "m": 2}, {"n": 3, "m": 1},
        {"n": {"base": 2, "theirs": 3, "mine": 1, "chosen": 3}},
    ),
    (None, {"n": 2}, {"n": 3}, {"n": 3}, {}),
    ({"n": 1}, {"n": 2}, None, None, {"n": {"base": 2, "mine": 1}}),
    ({"n": 1}, None, {"n": 3}, {"n": 3}, {"n": {"theirs": 3, "mine": 1, "chosen": 3}}),
    ({"n": 1}, None, {"m": 3}, {"n": 1, "m": 3}, None),
]  # fmt: skip


def target(post: dict[str, Any] | None) -> Target:
    return Target(5, "update", "thing", "1", Revision(5, post, None, None))


@pytest.mark.parametrize("prior, post, now, after, sides", UNDOING)
def test_an_undo_is_a_three_way_merge(prior: Any, post: Any, now: Any, after: Any, sides: Any) -> None:
    found = inverse(target(post), prior, now, 9, {"n": "int", "m": "int"})
    assert (found.after, found.nothing) == (after, None)
    assert (found.conflict and found.conflict["fields"]) == sides
    if found.conflict is not None:
        assert (found.conflict["policy"], found.conflict["open"]) == ("undo", True)
        assert "event 5" in found.conflict["basis"]


@pytest.mark.parametrize(
    "prior, post, now, nothing",
    [
        ({"n": 1}, {"n": 1}, {"n": 1}, "event 5 changed nothing"),
        ({"n": 1}, {"n": 2}, {"n": 1}, "already as it was before event 5"),
        (None, {"n": 2}, None, "already as it was before event 5"),
        ({"n": 1}, {"n": 2}, {"n": 1, "m": 5}, "what event 5 changed is already as it was"),
        ({"n": 1}, None, {"n": 1, "m": 5}, "what event 5 changed is already as it was"),
    ],
)
def test_there_may_be_nothing_to_undo(prior: Any, post: Any, now: Any, nothing: str) -> None:
    found = inverse(target(post), prior, now, 9, {"n": "int", "m": "int"})
    assert (found.conflict, found.after) == (None, None)
    assert nothing in (found.nothing or "")


# -- one event -------------------------------------------------------------------------------------------


def test_a_change_is_undone_in_all_stores() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        report = sync.undo(changed, actor="eve")
        assert report == {
            "command": "undo", "ok": True, "dry_run": False, "run": last(sync)["run"], "first": 3, "last": 3,
            "undone": 1, "conflicts": 0, "reason": None,
            "events": [
                {"seq": 3, "op": "undo", "type": "thing", "key": "1", "changed": ["n"], "undoes": 2, "open": False}
            ],
        }  # fmt: skip
        assert report.exit_code == 0
        event = last(sync)
        assert {name: event[name] for name in ("op", "store", "actor", "base", "before", "after", "conflict")} == {
            "op": "undo", "store": "evsync", "actor": "eve", "base": changed, "before": {"n": 2}, "after": PEN,
            "conflict": None,
        }  # fmt: skip
        assert both_hold(sync, PEN)
        assert quiet(sync)
        assert sync.verify()["ok"]
        assert sync.blame("thing", "1")["fields"][1]["store"] == "evsync"


def test_a_creation_is_undone_by_a_deletion_and_back() -> None:
    with synced(PEN) as sync:
        sync.undo(1)
        assert (last(sync)["before"], last(sync)["after"], last(sync)["changed"]) == (PEN, None, sorted(PEN))
        assert both_hold(sync, None)
        sync.undo(head(sync))
        assert (last(sync)["after"], last(sync)["changed"]) == (PEN, sorted(PEN))
        assert both_hold(sync, PEN)
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_a_deletion_is_undone() -> None:
    with synced(PEN, {"id": 2, "name": "ink", "n": 2}, {"id": 3, "name": "cap", "n": 3}) as sync:
        del one(sync)[1,]
        sync.sync()
        sync.undo(head(sync))
        assert both_hold(sync, PEN)
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_what_was_changed_elsewhere_since_stays() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        step(sync, name="quill")
        assert sync.undo(changed)["undone"] == 1
        assert both_hold(sync, {"id": 1, "name": "quill", "n": 1})


def test_an_undo_is_undone() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        sync.undo(changed)
        sync.undo(head(sync))
        assert both_hold(sync, {**PEN, "n": 2})
        sync.undo(changed)  # it holds again, so it can be undone again
        assert both_hold(sync, PEN)
        assert sync.verify()["ok"]


def test_an_event_is_undone_once() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        undone = sync.undo(changed)["last"]
        step(sync, n=2)  # somebody wants it so: that is another event
        before = dump(sync)
        report = sync.undo(changed)
        assert (report["run"], report["first"], report["events"], report["undone"]) == (None, None, [], 0)
        assert report["reason"] == f"event {changed} is undone already, by event {undone}"
        assert report.exit_code == 0
        assert dump(sync) == before


def test_a_merge_is_undone() -> None:
    with synced(PEN) as sync:
        one(sync)[1,]["n"] = 2
        held(sync.stores["two"])[1,]["n"] = 3
        sync.sync()
        merge = last(sync)
        assert merge["conflict"]["fields"]["n"]["chosen"] == 3
        sync.undo(merge["seq"])
        assert both_hold(sync, {**PEN, "n": 2})


def test_a_decision_by_hand_is_undone() -> None:
    with synced(PEN, rules={"thing": Rules(fields="manual")}) as sync:
        one(sync)[1,]["n"] = 2
        held(sync.stores["two"])[1,]["n"] = 3
        sync.sync()
        decided = sync.resolve("thing", "1", take="two")["seq"]
        assert both_hold(sync, {**PEN, "n": 3})
        sync.undo(decided)
        assert both_hold(sync, {**PEN, "n": 2})
        assert quiet(sync)
        assert sync.verify()["ok"]


def test_an_undo_leaves_the_conflict_of_a_store_open() -> None:
    with synced(PEN, rules={"thing": Rules(fields="manual")}) as sync:
        one(sync)[1,]["n"] = 2
        held(sync.stores["two"])[1,]["n"] = 3
        sync.ingest()
        sync.undo(2)
        assert [(c["store"], c["open"]) for c in sync.conflicts()] == [("two", True)]
        sync.replay()
        assert [held(store)[1,]["n"] for store in sync.stores.values()] == [1, 3]


# -- changed since ---------------------------------------------------------------------------------------


def changed_since(sync: Synchronizer) -> int:
    """An event of two fields, of which one was changed again."""
    changed = step(sync, n=2, name="quill")
    step(sync, n=3)
    return changed


def test_what_was_changed_since_is_not_overwritten_but_left_open() -> None:
    with synced(PEN) as sync:
        changed = changed_since(sync)
        report = sync.undo(changed)
        assert (report["undone"], report["conflicts"], report.exit_code) == (0, 1, 4)
        assert [(event["changed"], event["open"]) for event in report["events"]] == [(["name"], True)]
        [conflict] = sync.conflicts()
        assert (conflict["store"], conflict["policy"], conflict["open"]) == ("evsync", "undo", True)
        assert conflict["fields"] == {"n": {"base": 2, "theirs": 3, "mine": 1, "chosen": 3}}
        assert both_hold(sync, {**PEN, "n": 3})
        assert sync.verify()["ok"]


def test_an_open_undo_holds_no_store_up_and_does_not_count_to_one() -> None:
    with synced(PEN) as sync:
        sync.undo(changed_since(sync))
        assert sync.sync().exit_code == 0
        assert [store["conflicts"] for store in sync.status()["stores"]] == [0, 0]
        step(sync, n=4)
        assert both_hold(sync, {**PEN, "n": 4})
        assert len(list(sync.conflicts(only_open=True))) == 1


@pytest.mark.parametrize(
    "decision, n",
    [({"take": "evsync"}, 1), ({"keep": True}, 3), ({"set": {"n": 9}}, 9), ({"take": "two"}, 3)],
)
def test_an_open_undo_is_decided_by_hand(decision: dict[str, Any], n: int) -> None:
    with synced(PEN) as sync:
        changed = changed_since(sync)
        sync.undo(changed)
        sync.resolve("thing", "1", **decision)
        assert list(sync.conflicts(only_open=True)) == []
        assert both_hold(sync, {**PEN, "n": n})
        assert sync.undo(changed)["reason"].startswith(f"event {changed} is undone already")


def test_the_same_conflict_is_not_journalled_twice() -> None:
    with synced(PEN) as sync:
        changed = changed_since(sync)
        sync.undo(changed)
        before = dump(sync)
        report = sync.undo(changed)
        assert (report["first"], report["conflicts"], report.exit_code) == (None, 1, 4)
        assert dump(sync) == before


def test_an_open_undo_ends_when_the_later_change_is_undone_and_it_can_take_place() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        later = step(sync, n=3)
        sync.undo(changed)
        sync.undo(later)
        assert sync.undo(changed)["undone"] == 1
        assert list(sync.conflicts(only_open=True)) == []
        assert both_hold(sync, PEN)


def test_an_open_undo_ends_when_somebody_makes_it_so() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        step(sync, n=3)
        sync.undo(changed)
        step(sync, n=1)
        assert list(sync.conflicts(only_open=True)) == []
        assert quiet(sync)


@pytest.mark.parametrize("decision, record", [({"take": "evsync"}, None), ({"keep": True}, {**PEN, "n": 2})])
def test_a_creation_that_was_changed_since_is_left_to_decide(decision: Any, record: Any) -> None:
    with synced(PEN) as sync:
        step(sync, n=2)
        assert sync.undo(1).exit_code == 4
        assert next(sync.conflicts())["fields"] == {}
        assert both_hold(sync, {**PEN, "n": 2})
        sync.resolve("thing", "1", **decision)
        assert both_hold(sync, record)


@pytest.mark.parametrize("decision, record", [({"take": "evsync"}, PEN), ({"keep": True}, None)])
def test_a_change_of_what_is_gone_by_now_is_left_to_decide(decision: Any, record: Any) -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        one(sync).clear()
        sync.ingest(allow_deletes=True)
        assert sync.undo(changed).exit_code == 4
        assert both_hold(sync, None)
        sync.resolve("thing", "1", **decision)
        assert both_hold(sync, record)


# -- a whole run -----------------------------------------------------------------------------------------

INK = {"id": 2, "name": "ink", "n": 2}


def a_run(sync: Synchronizer) -> int:
    """An ingest with a creation, two changes of one record in two stores, and a deletion."""
    one(sync)[3,] = {"id": 3, "name": "new", "n": 3}
    del one(sync)[2,]
    one(sync)[1,]["n"] = 2
    held(sync.stores["two"])[1,]["name"] = "quill"
    run: int = sync.ingest(allow_deletes=True)["run"]
    sync.replay(allow_deletes=True)
    return run


def contents(sync: Synchronizer) -> list[list[dict[str, Any]]]:
    return [sorted(held(store).values(), key=lambda row: row["id"]) for store in sync.stores.values()]


@pytest.mark.parametrize("batch", [1, 3, 2_000])
def test_a_run_is_undone_newest_first(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "BATCH", batch)
    with synced(PEN, INK) as sync:
        run = a_run(sync)
        wanted = [seq for (seq,) in events(sync, "seq", run=run)]
        report = sync.undo(run=run)
        assert (report["undone"], report["conflicts"]) == (4, 0)
        assert [event["undoes"] for event in report["events"]] == wanted[::-1]
        sync.replay(allow_deletes=True)
        assert contents(sync) == [[PEN, INK]] * 2
        assert quiet(sync)
        assert sync.verify()["ok"]
        sync.undo(run=report["run"])  # and all of it back
        sync.replay(allow_deletes=True)
        assert contents(sync) == [[{"id": 1, "name": "quill", "n": 2}, {"id": 3, "name": "new", "n": 3}]] * 2


def test_two_changes_of_one_field_in_one_run_are_undone_to_the_first_value() -> None:
    with synced(PEN) as sync:
        one(sync)[1,]["n"] = 2
        held(sync.stores["two"])[1,]["n"] = 3
        run = sync.ingest()["run"]
        assert sync.undo(run=run)["undone"] == 2
        assert both_hold(sync, PEN)
        assert sync.undo(run=run)["first"] is None


def test_an_undo_that_was_killed_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "BATCH", 1)
    with synced(PEN) as sync:
        one(sync)[1,]["n"] = 2
        held(sync.stores["two"])[1,]["n"] = 3
        run = sync.ingest()["run"]
        real = undoing._Undoing.batch

        def killed(self: Any, targets: Any) -> None:
            real(self, targets)
            if targets[0].seq == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(undoing._Undoing, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            sync.undo(run=run)
        assert events(sync, "base", op="undo") == [(3,)]
        monkeypatch.setattr(undoing._Undoing, "batch", real)
        assert sync.undo(run=run)["undone"] == 1
        assert both_hold(sync, PEN)
        assert sync.verify()["ok"]


def test_what_is_undone_already_is_left_out_of_a_run() -> None:
    with synced(PEN, INK) as sync:
        run = a_run(sync)
        first = events(sync, "seq", run=run)[0][0]
        sync.undo(first)
        assert first not in [event["undoes"] for event in sync.undo(run=run)["events"]]
        sync.replay(allow_deletes=True)
        assert contents(sync) == [[PEN, INK]] * 2


def test_a_report_names_only_so_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undoing, "LISTED", 2)
    with synced(PEN, INK) as sync:
        report = sync.undo(run=a_run(sync))
        assert (len(report["events"]), report["undone"]) == (2, 4)
        assert report["last"] - report["first"] == 3


# -- what cannot be undone -------------------------------------------------------------------------------


def test_a_dry_run_tells_the_undo_and_changes_nothing() -> None:
    with synced(PEN, INK) as sync:
        run = a_run(sync)
        before = dump(sync)
        rehearsed = sync.undo(run=run, dry_run=True)
        assert dump(sync) == before
        assert rehearsed["dry_run"] is True
        assert rehearsed["run"] is None
        done = sync.undo(run=run)
        assert rehearsed["events"] == done["events"]


def test_what_cannot_be_undone_is_told() -> None:
    with synced(PEN, audit_reads=("one",)) as sync:
        list(sync.stores["one"].find("thing"))
        read = last(sync)
        assert read["op"] == "read"
        with pytest.raises(UsageError, match="is a read"):
            sync.undo(read["seq"])
        with pytest.raises(NotFound, match=r"run \d+ \(api\) changed no record"):
            sync.undo(run=read["run"])
        with pytest.raises(NotFound, match="no event 99"):
            sync.undo(99)
        with pytest.raises(NotFound, match="no run 99"):
            sync.undo(run=99)
        for given in ({}, {"seq": 1, "run": 1}):
            with pytest.raises(UsageError, match="say what to undo"):
                sync.undo(**given)


def test_the_past_behind_an_undo_can_be_brought_back() -> None:
    with synced(PEN) as sync:
        changed = step(sync, n=2)
        sync.undo(changed)
        sync.replay()
        sync.replay(["two"], changed)
        assert held(sync.stores["two"])[1,]["n"] == 2
        sync.replay(["two"])
        assert held(sync.stores["two"])[1,]["n"] == 1
