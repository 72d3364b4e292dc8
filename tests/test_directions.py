"""Fields that go one way only: taken from a store but never written there, or the other way round."""

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
    entry,
    events,
    held,
    last,
    make,
    memory,
    placed,
    put,
    rows,
    sql,
    together,
)

from accessors.memory import MemoryAccessor
from evsync import Data, Store
from evsync.binding import PlaceSpec
from evsync.errors import ConfigError, GuardTripped, Unreachable

ORDER = {"id": "str", "n": "int", "total": "int"}
FIELDS = {"id": "str", "name": "str", "n": "int"}
ANN: Row = {"id": "ann", "name": "Ann", "n": 1}
BEN: Row = {"id": "ben", "name": "Ben", "n": 2}


class Computing(MemoryAccessor):
    """Computes the total itself, whenever it writes a record: a trigger, a formula."""

    def __init__(self, times: int = 10) -> None:
        self.times = times
        self.written: list[Mapping[str, Any]] = []

    def add(self, store: Store, data: Data) -> Data:
        self.written.append(dict(data.fields))
        data.fields["total"] = data.fields["n"] * self.times
        return super().add(store, data)

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        self.written.append(dict(data.fields))
        if "n" in data.fields:
            data.fields["total"] = data.fields["n"] * self.times
        return super().update(store, data, old)


def shop(*rows_: Row, times: int = 10, name: str = "shop", **more: Any) -> Store:
    return placed(memory(name, *rows_, accessor=Computing(times), **more), read_only=("total",))


# -- read only ------------------------------------------------------------------------------------------


def test_what_a_store_computes_by_our_write_goes_to_the_journal() -> None:
    one, store = memory("one", {"id": "a", "n": 2}), shop()
    with together(one, store, fields=ORDER) as sync:
        sync.sync()
        assert rows(store) == [{"id": "a", "n": 2, "total": 20}]
        assert did(sync.sync()["ingest"], "shop") == {"updated": 1}
        assert (last(sync)["store"], last(sync)["changed"]) == ("shop", ["total"])
        assert rows(one) == [{"id": "a", "n": 2, "total": 20}]
        assert at_rest(sync)
        put(one, {"id": "a", "n": 3, "total": 20})
        sync.sync()
        sync.sync()
        assert rows(one) == rows(store) == [{"id": "a", "n": 3, "total": 30}]
        assert at_rest(sync)
        accessor: Any = store.accessor("thing")
        assert all("total" not in written for written in accessor.written)


def test_a_value_set_elsewhere_is_never_written_there() -> None:
    one, store = memory("one", {"id": "a", "n": 2, "total": 5}), shop()
    with together(one, store, fields=ORDER) as sync:
        sync.sync()
        sync.sync()
        assert canonical(sync, "a") == {"id": "a", "n": 2, "total": 20}
        put(one, {"id": "a", "n": 2, "total": 7})
        report = sync.sync()
        assert did(report["replay"], "shop") == {}
        assert canonical(sync, "a") == {"id": "a", "n": 2, "total": 7}
        assert rows(store) == [{"id": "a", "n": 2, "total": 20}]
        assert at_rest(sync)
        assert sync.diff("shop") == {"differences": []}  # its own version of it
        # an edit of another field still goes there, and the total that this makes comes back
        put(one, {"id": "a", "n": 4, "total": 7})
        sync.sync()
        sync.sync()
        assert rows(one) == rows(store) == [{"id": "a", "n": 4, "total": 40}]
        assert at_rest(sync)


def test_two_stores_that_compute_otherwise_come_to_rest() -> None:
    one, store, other = memory("one", {"id": "a", "n": 2}), shop(), shop(times=7, name="other")
    with together(one, store, other, fields=ORDER) as sync:
        for _ in range(3):
            sync.sync()
        assert at_rest(sync)
        assert (held(store)[("a",)]["total"], held(other)[("a",)]["total"]) == (20, 14)
        assert canonical(sync, "a") == rows(one)[0]


def test_where_nothing_is_computed_the_value_of_the_others_stands(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), placed(make(kind, "other", tmp_path), read_only=("n",))
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        assert [row.get("n") for row in content(other)] == [None, None]
        assert at_rest(sync)
        assert canonical(sync, "ann") == ANN
        put(one, {**ANN, "name": "Anna"}, BEN)
        sync.sync()
        assert at_rest(sync)
        put(other, {**ANN, "name": "Anna", "n": 5}, {"id": "ben", "name": "Ben"})  # now somebody fills it in
        sync.sync()
        assert canonical(sync, "ann") == {**ANN, "name": "Anna", "n": 5}
        assert canonical(sync, "ben") == BEN
        assert at_rest(sync)


def test_columns_that_a_table_computes_are_read_only_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    sql(path, "create table thing (id text primary key, n integer, total integer as (n * 10) stored)")
    store = Store("shop", "sqlite:shop.db", places={"thing": PlaceSpec()}, root=tmp_path)
    one = memory("one", {"id": "a", "n": 2, "total": 1})
    with together(one, store, fields=ORDER) as sync:
        report = sync.sync()
        assert did(report["replay"], "shop") == {"created": 1}
        sync.sync()
        assert rows(one) == [{"id": "a", "n": 2, "total": 20}]
        assert at_rest(sync)
        put(one, {"id": "a", "n": None, "total": 20})
        sync.sync()
        sync.sync()
        assert rows(one) == [{"id": "a", "n": None, "total": None}]
        assert at_rest(sync)
        sql(path, "update thing set n = 4")
        sync.sync()
        assert rows(one) == [{"id": "a", "n": 4, "total": 40}]
        assert at_rest(sync)
        assert sync.verify()["ok"]


def test_a_plan_leaves_out_what_is_never_written() -> None:
    one, store = memory("one", {"id": "a", "n": 2, "total": 5}), shop()
    with together(one, store, fields=ORDER) as sync:
        sync.ingest()
        [step] = entry(sync.replay(["shop"], dry_run=True), "shop")["plan"]
        assert (step["action"], step["fields"]) == ("create", ["id", "n"])
        assert rows(store) == []


def test_a_target_keeps_what_it_computes_for_itself() -> None:
    one, store = memory("one", {"id": "a", "n": 2, "total": 5}), shop(role="target")
    with together(one, store, fields=ORDER) as sync:
        sync.sync()
        put(one, {"id": "a", "n": 3, "total": 5})
        assert did(sync.sync()["replay"], "shop") == {"updated": 1}
        assert rows(store) == [{"id": "a", "n": 3, "total": 30}]
        assert canonical(sync, "a") == {"id": "a", "n": 3, "total": 5}
        assert at_rest(sync)


def test_a_rebuild_does_not_hide_what_a_store_computed() -> None:
    one, store = memory("one", {"id": "a", "n": 2}), shop()
    with together(one, store, fields=ORDER) as sync:
        sync.sync()
        held(store)[("a",)]["total"] = 99
        sync.replay(["shop"], rebuild=True)
        sync.sync()
        assert rows(one) == [{"id": "a", "n": 2, "total": 99}]
        assert at_rest(sync)


class Cut(Computing):
    """Its connection is cut after a write."""

    cut = False

    def add(self, store: Store, data: Data) -> Data:
        super().add(store, data)
        if self.cut:
            raise Unreachable("the connection was cut")
        return data


def test_a_write_whose_end_nobody_saw_is_still_our_own() -> None:
    accessor = Cut()
    accessor.cut = True
    one = memory("one", {"id": "a", "n": 2, "total": 5})
    store = placed(memory("shop", accessor=accessor), read_only=("total",))
    with together(one, store, fields=ORDER) as sync:
        sync.sync()
        accessor.cut = False
        for _ in range(2):
            report = sync.sync()
        assert entry(report["ingest"], "shop")["conflicts"] == 0
        assert rows(one) == [{"id": "a", "n": 2, "total": 20}]
        assert at_rest(sync)
        assert not any(conflict for (conflict,) in events(sync, "conflict"))


# -- write only -----------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_an_edit_of_a_field_that_is_only_written_is_undone(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), placed(make(kind, "other", tmp_path), write_only=("name",))
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        assert content(other) == [ANN, BEN]
        assert at_rest(sync)
        put(other, {**ANN, "name": "X"}, BEN)
        report = sync.sync()
        assert did(report["ingest"], "other") == {"unchanged": 2}
        assert did(report["replay"], "other") == {"updated": 1}
        assert content(other) == [ANN, BEN]
        assert at_rest(sync)
        put(other, {**ANN, "name": "X", "n": 7}, BEN)  # with an edit that counts
        report = sync.sync()
        assert did(report["ingest"], "other") == {"updated": 1, "unchanged": 1}
        assert last(sync)["changed"] == ["n"]
        assert content(other) == rows(one) == [{**ANN, "n": 7}, BEN]
        assert at_rest(sync)
        put(one, {**ANN, "name": "Anna", "n": 7}, BEN)
        sync.sync()
        assert content(other) == [{**ANN, "name": "Anna", "n": 7}, BEN]
        assert at_rest(sync)


def test_the_value_of_a_new_record_is_not_taken_either(kind: str, tmp_path: Path) -> None:
    one, other = memory("one"), placed(make(kind, "other", tmp_path, ANN), write_only=("name",))
    with together(one, other, fields=FIELDS) as sync:
        report = sync.sync()
        assert did(report["ingest"], "other") == {"created": 1}
        assert canonical(sync, "ann") == {"id": "ann", "n": 1}
        assert did(report["replay"], "other") == {"updated": 1}
        assert [row.get("name") for row in content(other)] == [None]
        assert at_rest(sync)


def test_an_empty_field_that_is_only_written_calls_for_nothing(kind: str, tmp_path: Path) -> None:
    one, other = memory("one"), placed(make(kind, "other", tmp_path), write_only=("name",))
    put(other, {"id": "ann", "n": 1, "name": None})
    with together(one, other, fields=FIELDS) as sync:
        assert did(sync.sync()["replay"], "other") == {}
        assert canonical(sync, "ann") == {"id": "ann", "n": 1}
        assert at_rest(sync)


def test_adopting_a_record_takes_nothing_of_it_and_writes_it_there(kind: str, tmp_path: Path) -> None:
    one = memory("one", ANN, BEN)
    other = placed(make(kind, "other", tmp_path, {**ANN, "name": "X"}, BEN), write_only=("name",))
    with together(one, other, fields=FIELDS) as sync:
        report = sync.sync()
        assert did(report["ingest"], "other") == {"adopted": 2}
        assert content(other) == rows(one) == [ANN, BEN]
        assert at_rest(sync)


def test_an_edit_of_it_does_not_bring_a_deleted_record_back() -> None:
    one, other = memory("one", ANN, BEN), placed(memory("other"), write_only=("name",))
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, BEN)
        sync.ingest(["one"])
        put(other, {**ANN, "name": "X"}, BEN)
        report = sync.sync()
        assert entry(report["ingest"], "other")["conflicts"] == 0
        assert rows(other) == [BEN]
        assert at_rest(sync)


# -- what is configured ---------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["read_only", "write_only"])
def test_another_direction_is_another_mapping(option: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN), memory("other")
    with together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
    placed(other, **{option: ("name",)})
    with together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        with pytest.raises(GuardTripped, match=f"{option} was none, now"):
            sync.ingest()
        sync.sync(allow_mapping=True)
        assert at_rest(sync)


def test_a_field_that_is_written_again_gets_what_the_others_hold(tmp_path: Path) -> None:
    one, store = memory("one", {"id": "a", "n": 2, "total": 20}), placed(memory("shop"), read_only=("total",))
    with together(one, store, fields=ORDER, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
        assert rows(store) == [{"id": "a", "n": 2}]
    placed(store, read_only=())
    with together(one, store, fields=ORDER, journal=tmp_path / "evsync.db") as sync:
        sync.sync(allow_mapping=True)
        assert rows(store) == rows(one) == [{"id": "a", "n": 2, "total": 20}]
        assert at_rest(sync)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"write_only": ("id",)}, "the key field 'id' cannot be 'write_only'"),
        ({"read_only": ("n",), "write_only": ("n",)}, "'n' is both 'read_only' and 'write_only'"),
    ],
)
def test_a_direction_that_makes_no_sense_is_refused(place: dict[str, Any], message: str) -> None:
    one, other = memory("one", ANN), placed(memory("other", ANN), **place)
    with together(one, other) as sync, pytest.raises(ConfigError, match=message):
        sync.ingest()


def test_a_direction_of_a_field_that_is_not_there_stops_that_store_only() -> None:
    one, other = memory("one", ANN), placed(memory("other", ANN), read_only=("nn",))
    with together(one, other) as sync:
        report = sync.ingest()
        assert entry(report, "other")["error"].endswith(
            "'read_only' names 'nn', which is no field of this store"
        )
        assert did(report, "one") == {"created": 1}
        assert report.exit_code == 2
