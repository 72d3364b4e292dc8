"""Stores that hold only the records that pass their filter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from projects import (
    KINDS,
    Row,
    at_rest,
    canonical,
    content,
    did,
    dump,
    entry,
    events,
    held,
    make,
    memory,
    placed,
    put,
    rows,
    sql,
    synchronizer,
    together,
)

from evsync import Data, Store
from evsync.errors import ConfigError, GuardTripped
from evsync.projections.merge import Rules

FIELDS = {"id": "str", "name": "str", "n": "int"}
LOW: Row = {"id": "low", "name": "Low", "n": 1}
HIGH: Row = {"id": "high", "name": "High", "n": 9}
MIN_5 = {"n": {"min": 5}}


def filtered(store: Store, where: Mapping[str, Any] = MIN_5, **more: Any) -> Store:
    return placed(store, where=where, **more)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_a_store_holds_what_passes_and_nothing_else(kind: str, tmp_path: Path) -> None:
    one, few = memory("one", LOW, HIGH), filtered(make(kind, "few", tmp_path, max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        assert did(sync.sync()["replay"], "few") == {"created": 1}
        assert content(few) == [HIGH]
        assert at_rest(sync)
        # a record that leaves the filter leaves this store only; one that enters is created there
        put(one, {**LOW, "n": 7}, {**HIGH, "n": 2})
        assert did(sync.sync()["replay"], "few") == {"created": 1, "deleted": 1}
        assert content(few) == [{**LOW, "n": 7}]
        assert canonical(sync, "high") == {**HIGH, "n": 2}
        assert len(rows(one)) == 2
        assert at_rest(sync)
        assert sync.verify()["ok"]


def test_a_record_edited_out_of_the_filter_goes_to_the_journal_and_then_leaves(
    kind: str, tmp_path: Path
) -> None:
    one, few = memory("one", LOW, HIGH), filtered(make(kind, "few", tmp_path, max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        put(few, {**HIGH, "n": 3})
        report = sync.sync()
        assert did(report["ingest"], "few") == {"updated": 1}
        assert did(report["replay"], "few") == {"deleted": 1}
        assert content(few) == []
        assert rows(one) == [{**HIGH, "n": 3}, LOW]
        assert at_rest(sync)


def test_a_record_created_outside_the_filter_goes_to_the_journal_and_then_leaves(
    kind: str, tmp_path: Path
) -> None:
    one, few = memory("one"), filtered(make(kind, "few", tmp_path, LOW, HIGH, max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        assert did(sync.ingest(["few"]), "few") == {"created": 2}
        put(few, {**LOW, "name": "Lower"}, HIGH)  # once more, before it is gone
        report = sync.sync()
        assert did(report["ingest"], "few") == {"updated": 1, "unchanged": 1}
        assert entry(report["ingest"], "few")["conflicts"] == 0
        assert did(report["replay"], "few") == {"deleted": 1}
        assert content(few) == [HIGH]
        assert rows(one) == [HIGH, {**LOW, "name": "Lower"}]
        assert at_rest(sync)


def test_what_is_adopted_outside_the_filter_leaves() -> None:
    one, few = memory("one", LOW), filtered(memory("few", LOW, max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        report = sync.sync()
        assert did(report["ingest"], "few") == {"adopted": 1}
        assert did(report["replay"], "few") == {"deleted": 1}
        assert (rows(one), rows(few)) == ([LOW], [])
        assert at_rest(sync)


def test_a_filter_may_ask_for_a_field_that_the_store_does_not_hold(tmp_path: Path) -> None:
    one = memory("one", LOW, HIGH)
    few = filtered(memory("few", max_deletes="100%"), only=("name",))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        assert rows(few) == [{"id": "high", "name": "High"}]
        put(few, {"id": "high", "name": "Higher"}, {"id": "new", "name": "New"})
        assert did(sync.sync()["replay"], "few") == {"deleted": 1}  # `new` has no n
        assert rows(one) == [{**HIGH, "name": "Higher"}, LOW, {"id": "new", "name": "New"}]
        assert at_rest(sync)


def test_what_a_store_deletes_is_deleted_unless_it_does_not_belong_there() -> None:
    one, few = memory("one", LOW, HIGH), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS, rules={"thing": Rules(delete="delete-wins")}) as sync:
        sync.sync()
        put(one, LOW, {**HIGH, "n": 2})
        sync.ingest(["one"])
        put(few)  # somebody removes it there before a replay can
        sync.ingest(["few"], allow_deletes=True)
        assert canonical(sync, "high") == {**HIGH, "n": 2}
        put(one, LOW, HIGH)
        sync.sync()
        put(few)
        sync.ingest(["few"], allow_deletes=True)
        assert canonical(sync, "high") is None


@pytest.mark.parametrize("allowed", [True, False])
def test_a_filter_that_would_empty_a_store_stops_the_replay(kind: str, allowed: bool, tmp_path: Path) -> None:
    one, few = memory("one", LOW), filtered(make(kind, "few", tmp_path, LOW))
    with together(one, few, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        sync.ingest()
        before = dump(sync)
        if allowed:
            assert did(sync.replay(allow_deletes=True), "few") == {"deleted": 1}
            assert content(few) == []
            return
        for dry_run in (True, False):
            with pytest.raises(GuardTripped, match="1 of its 1 records do not pass its filter") as caught:
                sync.replay(dry_run=dry_run)
            assert "--allow-deletes" in caught.value.hint
            assert caught.value.exit_code == 6
            report: Any = caught.value.document
            assert (report["command"], report["ok"]) == ("replay", False)
            assert "do not pass its filter" in entry(report, "few")["error"]
        assert content(few) == [LOW]
        assert dump(sync) == before


def test_a_filter_stops_a_sync_before_it_writes_with_the_document_of_a_sync() -> None:
    one, few = memory("one", LOW, HIGH), filtered(memory("few", LOW))
    with together(one, few, fields=FIELDS) as sync:
        with pytest.raises(GuardTripped) as caught:
            sync.sync()
        report: Any = caught.value.document
        assert (report["command"], report["ok"]) == ("sync", False)
        assert did(report["ingest"], "one") == {"created": 2}
        assert "do not pass its filter" in entry(report["replay"], "few")["error"]
        assert rows(few) == [LOW]
        sync.sync(allow_deletes=True)
        assert rows(few) == [HIGH]
        assert at_rest(sync)


def test_records_that_are_gone_everywhere_do_not_count_against_the_filter() -> None:
    one, few = memory("one", HIGH, {**HIGH, "id": "higher"}), filtered(memory("few"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        put(one, HIGH)
        put(one, LOW)
        sync.ingest(["one"], allow_deletes=True)
        assert did(sync.replay(["few"]), "few") == {"deleted": 2}


def test_another_filter_is_another_mapping(tmp_path: Path) -> None:
    path = tmp_path / "evsync.db"
    one, few = memory("one", LOW, HIGH), memory("few", max_deletes="100%")
    with together(one, few, fields=FIELDS, journal=path) as sync:
        sync.sync()
        assert len(rows(few)) == 2
    for store in (one, few):
        store._observers.clear()
    with together(one, filtered(few), fields=FIELDS, journal=path) as sync:
        for run in (sync.ingest, sync.replay):
            with pytest.raises(GuardTripped, match=r"its mapping changed.*filter was none, now"):
                run()
        sync.sync(allow_mapping=True)
        assert rows(few) == [HIGH]
        assert at_rest(sync)
    with together(one, filtered(few, {"n": {"max": 5}}), fields=FIELDS, journal=path) as sync:
        sync.sync(allow_mapping=True)
        assert rows(few) == [LOW]
        assert at_rest(sync)
    with together(one, filtered(few, {}), fields=FIELDS, journal=path) as sync:
        sync.sync(allow_mapping=True)
        assert rows(few) == [HIGH, LOW]
        assert at_rest(sync)


def test_show_diff_and_rebuild_know_the_filter() -> None:
    one, few = memory("one", LOW, HIGH), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        for key in ("low", "high"):
            assert all(found["in_step"] for found in sync.show("thing", key)["replicas"]), key
        assert sync.diff("few") == sync.diff("one", "few") == sync.diff("few", "one") == {"differences": []}
        put(few, HIGH, LOW)
        [extra] = sync.diff("few")["differences"]
        assert (extra["kind"], extra["key"]) == ("extra", "low")
        plan = entry(sync.replay(["few"], rebuild=True, dry_run=True), "few")["plan"]
        assert [(step["action"], step["key"]) for step in plan] == [("delete", "low")]
        sync.replay(["few"], rebuild=True)
        assert rows(few) == [HIGH]
        assert at_rest(sync)
        put(one, {**LOW, "n": 8}, {**HIGH, "n": 1})
        sync.ingest(["one"])
        for key in ("low", "high"):
            in_step = {r["store"]: r["in_step"] for r in sync.show("thing", key)["replicas"]}
            assert in_step == {"one": True, "few": False}
        assert [found["kind"] for found in sync.diff("few")["differences"]] == ["extra", "missing"]


def test_a_dry_run_plans_what_enters_and_leaves() -> None:
    one, few = memory("one", LOW, HIGH), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**LOW, "n": 8}, {**HIGH, "n": 1})
        sync.ingest(["one"])
        plan = entry(sync.replay(["few"], dry_run=True), "few")["plan"]
        assert [(step["action"], step["key"]) for step in plan] == [("create", "low"), ("delete", "high")]
        assert rows(few) == [HIGH]


def test_a_store_comes_back_to_what_passed_in_the_past() -> None:
    one, few = memory("one", HIGH), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**HIGH, "n": 1})
        sync.sync()
        assert rows(few) == []
        sync.replay(["few"], until=1)
        assert rows(few) == [HIGH]
        sync.replay(["few"])
        assert rows(few) == []


def test_operations_through_the_api_know_the_filter() -> None:
    one, few = memory("one"), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        few.add(Data("thing", dict(LOW)), actor="ann")
        assert canonical(sync, "low") == LOW
        sync.sync()
        assert (rows(one), rows(few)) == ([LOW], [])
        assert at_rest(sync)


def test_a_source_with_a_filter_is_only_read() -> None:
    source, other = filtered(memory("source", LOW, HIGH, role="source")), memory("other")
    with together(source, other, fields=FIELDS) as sync:
        sync.sync()
        assert len(rows(source)) == len(rows(other)) == 2
        assert at_rest(sync)


def test_a_filter_over_fields_taken_from_the_stores_names_one_of_them() -> None:
    one, few = memory("one", LOW, HIGH), filtered(memory("few", HIGH), {"nn": 1})
    with (
        together(one, few) as sync,
        pytest.raises(
            ConfigError, match="store 'few', type 'thing': the filter names the unknown field 'nn'"
        ),
    ):
        sync.ingest()
    one, few = memory("one", LOW, HIGH), filtered(memory("few", HIGH))
    with together(one, few) as sync:
        sync.sync()
        assert rows(few) == [HIGH]


CONFIG = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "str"
n = "int"
[stores.one]
url = "sqlite:one.db"
[stores.one.types.thing]
[stores.few]
url = "csv:few.csv"
[stores.few.types.thing]
where = { n = { min = 5, not = [6, 7] } }
"""


def test_a_filter_from_the_configuration(tmp_path: Path) -> None:
    sql(tmp_path / "one.db", "create table thing (id text primary key, n integer)")
    sql(tmp_path / "one.db", "insert into thing values ('a', 4), ('b', 5), ('c', 6), ('d', 8)")
    with synchronizer(tmp_path, CONFIG) as sync:
        sync.sync()
    assert (tmp_path / "few.csv").read_text() == "id,n\nb,5\nd,8\n"
    with synchronizer(tmp_path, CONFIG) as sync:
        assert at_rest(sync)
        assert events(sync, "op") == [("create",)] * 4


def test_a_run_that_was_killed_while_records_left_takes_nothing_for_a_deletion(tmp_path: Path) -> None:
    one, few = memory("one", HIGH), filtered(memory("few", max_deletes="100%"))
    with together(one, few, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**HIGH, "n": 1})
        sync.ingest(["one"])
        journal = sync.journal()
        with journal.write():  # as a replay that got no further leaves it
            journal.connection.execute("UPDATE binding SET intents = '[2]' WHERE store = 'few'")
        held(few).clear()
        sync.sync(allow_deletes=True)
        assert canonical(sync, "high") == {**HIGH, "n": 1}
        assert at_rest(sync)
