"""Ingest: what is journalled of what changed in the stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from projects import (
    FIELDS,
    KINDS,
    Row,
    canonical,
    did,
    dump,
    entry,
    events,
    head,
    held,
    last,
    make,
    memory,
    put,
    sql,
    synchronizer,
    thing,
    together,
)

from accessors.memory import MemoryAccessor
from evsync import Data, Store, Synchronizer
from evsync.binding import PlaceSpec
from evsync.errors import BrokenStore, GuardTripped, UsageError
from evsync.projections.merge import Rules
from evsync.report import exit_code

ANN: Row = {"id": "ann", "name": "Ann", "n": 1}
BEN: Row = {"id": "ben", "name": "Ben", "n": 2}
CEM: Row = {"id": "cem", "name": "Cem", "n": 3}
NOTHING: Row = {
    "created": 0,
    "updated": 0,
    "deleted": 0,
    "adopted": 0,
    "unchanged": 0,
    "conflicts": 0,
    "quarantined": 0,
    "adoption": None,
}
FIRST = {"matched": 0, "differ": 0, "new": 2, "missing": 0, "ambiguous": 0}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def numbered(folder: Path, config: str = "") -> Synchronizer:
    """One SQLite store that deals out ids, with Ann and Ben in it."""
    sql(folder / "one.db", "create table thing (nr integer primary key, id text, name text, n int)")
    sql(folder / "one.db", "insert into thing (id, name, n) values ('ann', 'Ann', 1), ('ben', 'Ben', 2)")
    return synchronizer(
        folder,
        f"""
        [types.thing]
        key = ["id"]
        fields = {{ id = "str", name = "str", n = "int" }}
        [stores.one]
        url = "sqlite:one.db"
        {config}
        [stores.one.types.thing]
        """,
    )


# -- counts and documents -------------------------------------------------------------------------------


def test_first_everything_is_created(kind: str, tmp_path: Path, noon: Any) -> None:
    with together(make(kind, "one", tmp_path, ANN, BEN), fields=FIELDS) as sync:
        report = sync.ingest()
        assert report == {
            "command": "ingest", "ok": True, "dry_run": False, "run": 1, "first": 1, "last": 2,
            "stores": [{"store": "one", **NOTHING, "created": 2, "adoption": FIRST, "error": None}],
        }  # fmt: skip
        assert exit_code(report) == 0
        assert events(
            sync, "seq", "op", "store", "key", "base", "before", "after", "changed", "actor", "run"
        ) == [
            (1, "create", "one", "ann", 0, None, ANN, ["id", "n", "name"], None, 1),
            (2, "create", "one", "ben", 0, None, BEN, ["id", "n", "name"], None, 1),
        ]


def test_then_only_what_changed(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN, CEM)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, {**ANN, "n": 5}, {"id": "dan", "name": None, "n": 4}, CEM)
        report = sync.ingest()
        assert entry(report, "one") == {
            "store": "one", **NOTHING, "created": 1, "updated": 1, "deleted": 1, "unchanged": 1, "error": None,
        }  # fmt: skip
        assert (report["first"], report["last"], report["run"]) == (4, 6, 2)
        assert events(sync, "op", "key", "base", "before", "after", "changed", since="4") == [
            ("update", "ann", 1, {"n": 1}, {**ANN, "n": 5}, ["n"]),
            ("delete", "ben", 2, BEN, None, ["id", "n", "name"]),
            ("create", "dan", 0, None, {"id": "dan", "name": None, "n": 4}, ["id", "n", "name"]),
        ]


def test_where_nothing_changed_nothing_is_journalled(kind: str, tmp_path: Path) -> None:
    with together(make(kind, "one", tmp_path, ANN, BEN), fields=FIELDS) as sync:
        sync.ingest()
        hash = sync.journal().head().hash
        report = sync.ingest()
        assert did(report, "one") == {"unchanged": 2}
        assert (report["first"], report["last"]) == (None, None)
        assert sync.journal().head().hash == hash


def test_the_order_of_the_rows_changes_nothing(kind: str, tmp_path: Path, noon: Any) -> None:
    hashes = set()
    for number, records in enumerate(([ANN, BEN, CEM], [CEM, ANN, BEN])):
        (tmp_path / str(number)).mkdir()
        with together(make(kind, "one", tmp_path / str(number), *records), fields=FIELDS) as sync:
            sync.ingest()
            put(sync.stores["one"], *[{**record, "n": 9} for record in records])
            sync.ingest()
            hashes.add(sync.journal().head().hash)
    assert len(hashes) == 1


def test_what_was_deleted_and_comes_back_is_created_upon_its_deletion(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, BEN)
        sync.ingest()
        put(store, ANN, BEN)
        assert did(sync.ingest(), "one") == {"created": 1, "unchanged": 1}
        assert (last(sync)["op"], last(sync)["base"]) == ("create", 3)


def test_null_absent_and_empty_are_three_contents() -> None:
    store = memory("one", {"id": "a", "name": None})
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        for fields in ({"id": "a"}, {"id": "a", "name": ""}, {"id": "a", "name": None}):
            put(store, fields)
            assert did(sync.ingest(), "one") == {"updated": 1}
            assert last(sync)["after"] == fields
            assert last(sync)["changed"] == ["name"]


def test_when_and_by_whom_a_store_says_it_was(tmp_path: Path) -> None:
    sql(tmp_path / "one.db", "create table thing (id text primary key, n int, at text, who text)")
    sql(tmp_path / "one.db", "insert into thing values ('a', 1, '2026-01-01T10:00:00+01:00', 'eve')")
    config = """
    [types.thing]
    key = ["id"]
    [stores.one]
    url = "sqlite:one.db"
    [stores.one.types.thing]
    changed_at = "at"
    changed_by = "who"
    """
    with synchronizer(tmp_path, config) as sync:
        sync.ingest()
        assert last(sync)["occurred_at"] == "2026-01-01T09:00:00Z"
        assert last(sync)["actor"] == "eve"
        assert last(sync)["after"] == {"id": "a", "n": 1}
        sql(tmp_path / "one.db", "update thing set at = 'later', who = 'tom'")
        assert did(sync.ingest(), "one") == {"unchanged": 1}  # never compared


def test_ignored_columns_and_columns_of_others_are_out(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,n,secret,extra\na,1,x,y\n")
    place = PlaceSpec(ignore=("secret",))
    store = Store("one", "csv:one.csv", places={"thing": place}, root=tmp_path)
    with together(store, fields={"id": "str", "n": "int", "secret": "str"}) as sync:
        sync.ingest()
        (tmp_path / "one.csv").write_text("id,n,secret,extra\na,1,X,Y\n")
        assert did(sync.ingest(), "one") == {"unchanged": 1}
        assert canonical(sync, "a") == {"id": "a", "n": 1}


# -- several stores -------------------------------------------------------------------------------------


def test_equal_content_is_adopted_without_an_event(kind: str, tmp_path: Path) -> None:
    one, other = make(kind, "one", tmp_path, ANN, BEN), make("memory", "other", tmp_path, BEN, CEM)
    with together(one, other, fields=FIELDS) as sync:
        report = sync.ingest()
        assert did(report, "one") == {"created": 2}
        assert did(report, "other") == {"adopted": 1, "created": 1}
        assert head(sync) == 3
        assert [replica["in_step"] for replica in sync.show("thing", "ben")["replicas"]] == [True, True]


@pytest.mark.parametrize(
    ("adopt", "n", "basis"),
    [
        ("first", 2, "first: what the journal had stays"),
        ("newest", 5, "newest: other's came later to the journal (neither gives a time)"),
        ("prefer", 5, "prefer: other stands before one"),
        ("manual", 2, "manual: left open"),
    ],
)
def test_differing_content_is_adopted_by_policy_and_recorded(
    tmp_path: Path, adopt: str, n: int, basis: str
) -> None:
    one, other = make("csv", "one", tmp_path, BEN), make("json", "other", tmp_path, {**BEN, "n": 5})
    rules = {"thing": Rules(adopt=adopt, prefer=("other",))}
    with together(one, other, fields=FIELDS, rules=rules) as sync:
        report = sync.ingest()
        assert did(report, "other") == {"adopted": 1, "conflicts": 1}
        assert canonical(sync, "ben") == {**BEN, "n": n}
        assert last(sync)["conflict"] == {
            "fields": {"n": {"theirs": 2, "mine": 5, "chosen": n}}, "policy": adopt, "open": adopt == "manual", "basis": basis,
        }  # fmt: skip
        assert exit_code(report) == (4 if adopt == "manual" else 0)


def test_a_store_that_knows_some_fields_adds_its_own_and_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "mail.csv").write_text("id,town\nann,Ulm\n")
    mail = Store("mail", "csv:mail.csv", places={"thing": PlaceSpec()}, root=tmp_path)
    crm = make("sqlite", "crm", tmp_path, ANN)
    with together(crm, mail, fields={**FIELDS, "town": "str"}) as sync:
        assert did(sync.ingest(), "mail") == {"adopted": 1}
        assert canonical(sync, "ann") == {**ANN, "town": "Ulm"}
        assert (last(sync)["op"], last(sync)["store"], last(sync)["changed"]) == ("update", "mail", ["town"])
        (tmp_path / "mail.csv").write_text("id,town\nann,Bonn\n")
        put(crm, {**ANN, "n": 9})
        sync.ingest()
        assert canonical(sync, "ann") == {**ANN, "n": 9, "town": "Bonn"}
        assert not list(sync.log(conflicts=True))


def test_edits_of_two_stores_between_two_runs_meet_in_the_journal(kind: str, tmp_path: Path) -> None:
    one, other = make(kind, "one", tmp_path, ANN), make("memory", "other", tmp_path, ANN)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        put(one, {**ANN, "n": 5, "name": "Anna"})
        put(other, {**ANN, "n": 7})
        report = sync.ingest()
        assert did(report, "one") == {"updated": 1}
        assert did(report, "other") == {"updated": 1, "conflicts": 1}
        assert canonical(sync, "ann") == {"id": "ann", "name": "Anna", "n": 7}
        conflict = {
            "fields": {"n": {"base": 1, "theirs": 5, "mine": 7, "chosen": 7}},
            "policy": "newest",
            "open": False,
            "basis": "newest: other's came later to the journal (neither gives a time)",
        }
        assert last(sync)["conflict"] == conflict
        assert last(sync)["base"] == 1


def test_newest_goes_by_the_times_that_both_stores_tell(tmp_path: Path) -> None:
    place = PlaceSpec(changed_at="at")
    one, other = (memory(name, {"id": "a", "n": 1, "at": 0}, place=place) for name in ("one", "other"))
    with together(one, other, fields={"id": "str", "n": "int"}) as sync:
        sync.ingest()
        put(one, {"id": "a", "n": 5, "at": 200})
        put(other, {"id": "a", "n": 7, "at": 100})
        sync.ingest()
        assert canonical(sync, "a") == {"id": "a", "n": 5}


def test_an_edit_against_a_deletion(kind: str, tmp_path: Path) -> None:
    one, other = make(kind, "one", tmp_path, ANN, BEN), make("memory", "other", tmp_path, ANN, BEN)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        put(one, {**ANN, "n": 5}, BEN)
        put(other, BEN)
        assert did(sync.ingest(), "other") == {"deleted": 1, "conflicts": 1, "unchanged": 1}
        assert canonical(sync, "ann") == {**ANN, "n": 5}


def test_the_types_are_those_of_the_first_store_that_tells(tmp_path: Path) -> None:
    sql(
        tmp_path / "one.db", "create table thing (id text primary key, n integer, d decimal(9, 2), r real, x)"
    )
    sql(tmp_path / "one.db", "insert into thing values ('a', 7, '1.5', 2, 'x')")
    (tmp_path / "other.csv").write_text("id,n,r\na,7,2.0\nb,08,2\n")
    config = """
    [types.thing]
    key = ["id"]
    [stores.one]
    url = "sqlite:one.db"
    [stores.one.types.thing]
    [stores.other]
    url = "csv:other.csv"
    [stores.other.types.thing]
    """
    with synchronizer(tmp_path, config) as sync:
        report = sync.ingest()
        assert did(report, "other") == {"adopted": 1, "created": 1}
        assert canonical(sync, "b") == {"id": "b", "n": 8, "r": 2.0}
        types = dict(sync.journal().connection.execute("select name, value_type from field"))
        assert (types["n"], types["r"], types["d"]) == ("int", "float", "decimal")
    # and they stay, whatever the first store says later
    sql(tmp_path / "one.db", "drop table thing")
    sql(tmp_path / "one.db", "create table thing (id text primary key, n text, d text, r text, x)")
    sql(tmp_path / "one.db", "insert into thing values ('a', '7', '1.5', '2.0', 'x')")
    with synchronizer(tmp_path, config) as sync:
        assert did(sync.ingest(), "one") == {"unchanged": 1}


def test_the_types_of_a_store_that_declares_none_are_those_its_values_suggest() -> None:
    store = memory("one", {"id": 1, "r": 1, "t": True}, {"id": 2, "r": 1.5, "t": None})
    with Synchronizer([store], [thing()], None) as sync:
        sync.ingest()
        types = dict(sync.journal().connection.execute("select name, value_type from field"))
        assert types == {"id": "int", "r": "float", "t": "bool"}


# -- rows that cannot be taken --------------------------------------------------------------------------


def test_a_bad_row_is_put_aside_and_the_others_go_on(kind: str, tmp_path: Path, noon: Any) -> None:
    store = make(kind, "one", tmp_path, ANN, {**BEN, "n": "many"}, CEM)
    with together(store, fields=FIELDS) as sync:
        report = sync.ingest()
        assert did(report, "one") == {"created": 2, "quarantined": 1}
        assert report["ok"]
        assert exit_code(report) == 4
        ((row, error),) = sync.journal().connection.execute("select row, error from quarantine")
        assert error == "field 'n': 'many' is not of type int"
        assert '"n":"many"' in row
        assert sync.status()["stores"][0]["quarantined"] == 1


def test_a_row_that_became_bad_is_no_deletion_and_comes_back_when_it_is_repaired(
    kind: str, tmp_path: Path
) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, ANN, {**BEN, "n": "many"})
        for _ in range(2):
            assert did(sync.ingest(), "one") == {"unchanged": 1, "quarantined": 1}
        assert head(sync) == 2
        put(store, ANN, {**BEN, "n": 5})
        report = sync.ingest()
        assert did(report, "one") == {"unchanged": 1, "updated": 1}
        assert exit_code(report) == 0
        assert sync.status()["stores"][0]["quarantined"] == 0
        put(store, ANN, {**BEN, "n": "many"})
        sync.ingest()
        put(store, ANN, {**BEN, "n": 5})  # just as it was
        assert did(sync.ingest(), "one") == {"unchanged": 2}


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_row_that_lost_its_key_may_be_the_record_that_vanished(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN, CEM)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, ANN, {**BEN, "id": None}, CEM)
        for _ in range(2):
            assert did(sync.ingest(), "one") == {"unchanged": 2, "quarantined": 1}
        assert canonical(sync, "ben") == BEN
        # another record that vanishes later is gone: the row cannot be two
        put(store, ANN, {**BEN, "id": None})
        assert did(sync.ingest(), "one") == {"unchanged": 1, "deleted": 1, "quarantined": 1}
        assert last(sync)["key"] == "cem"
        # once the row is gone too, so is the record
        put(store, ANN)
        assert did(sync.ingest(), "one") == {"unchanged": 1, "deleted": 1}
        assert last(sync)["key"] == "ben"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_row_that_gets_its_key_back_is_that_record(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, ANN, {**BEN, "id": None})
        sync.ingest()
        put(store, ANN, {**BEN, "n": 5})
        assert did(sync.ingest(), "one") == {"unchanged": 1, "updated": 1}


def test_a_null_key_in_a_store_with_its_own_ids_is_known_by_the_id(tmp_path: Path) -> None:
    with numbered(tmp_path) as sync:
        sync.ingest()
        sql(tmp_path / "one.db", "update thing set id = null where nr = 2")
        assert did(sync.ingest(), "one") == {"unchanged": 1, "quarantined": 1}
        sql(tmp_path / "one.db", "delete from thing where nr = 1")
        sql(tmp_path / "one.db", "insert into thing values (3, 'cem', 'Cem', 3)")
        assert did(sync.ingest(), "one") == {"created": 1, "deleted": 1, "quarantined": 1}


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("csv", ["line 2", "line 4"]),
        ("json", ["line 2", "line 4"]),
        ("memory", ["id 1", "id 3"]),
        ("sqlite", ["id 1", "id 3"]),
    ],
)
def test_two_records_of_one_key_stop_the_store_and_both_are_named(
    kind: str, places: list[str], tmp_path: Path
) -> None:
    twice = [ANN, BEN, {**ANN, "n": 9}]
    if kind == "memory":
        store = memory("one", *twice, assign_ids=True)
    elif kind == "sqlite":
        sql(tmp_path / "one.db", "create table thing (nr integer primary key, id text, name text, n int)")
        for record in twice:
            sql(tmp_path / "one.db", "insert into thing (id, name, n) values (?, ?, ?)", *record.values())
        store = Store("one", "sqlite:one.db", places={"thing": PlaceSpec()}, root=tmp_path)
    else:
        store = make(kind, "one", tmp_path, *twice)
    with together(store, memory("other", CEM), fields=FIELDS) as sync:
        report = sync.ingest()
        error = entry(report, "one")["error"]
        assert "two records have the key 'ann'" in error
        assert all(place in error for place in places), error
        assert not report["ok"]
        assert did(report, "other") == {"created": 1}
        assert events(sync, "store") == [("other",)]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_known_record_that_is_there_twice_now_stops_the_store_too(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        for again in (ANN, {**ANN, "n": 9}):
            put(store, ANN, BEN, again)
            assert "two records have the key 'ann'" in entry(sync.ingest(), "one")["error"]
        assert head(sync) == 2


# -- guards ---------------------------------------------------------------------------------------------


def stopped(sync: Synchronizer, **options: Any) -> GuardTripped:
    """An ingest that a guard stops, having journalled and remembered nothing."""
    before = dump(sync)
    with pytest.raises(GuardTripped) as caught:
        sync.ingest(**options)
    assert dump(sync) == before
    return caught.value


def test_a_store_that_shows_nothing_any_more_stops_the_run(kind: str, tmp_path: Path) -> None:
    store, other = make(kind, "one", tmp_path, ANN, BEN), memory("other", CEM)
    with together(store, other, fields=FIELDS) as sync:
        sync.ingest()
        put(store)
        put(other, {**CEM, "n": 9})
        guard = stopped(sync)
        assert "store 'one', type 'thing': it held 2 records and now shows none" in guard.message
        assert guard.hint.endswith("evsync ingest one --allow-deletes")
        assert guard.exit_code == 6
        assert guard.document is not None
        assert guard.document["ok"] is False
        assert guard.document["stores"] == [
            {
                "store": "one",
                **NOTHING,
                "error": "type 'thing': it held 2 records and now shows none",
            },
            {"store": "other", **NOTHING, "error": None},
        ]
        assert did(sync.ingest(["other"]), "other") == {"updated": 1}  # alone it may
        assert did(sync.ingest(allow_deletes=True), "one") == {"deleted": 2}


@pytest.mark.parametrize("fields", [FIELDS, None])
def test_so_it_does_when_it_was_emptied_between_two_programs(
    kind: str, tmp_path: Path, fields: dict[str, str] | None
) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=fields, journal=tmp_path / "evsync.db") as sync:
        sync.ingest()
    put(store)
    with together(store, fields=fields, journal=tmp_path / "evsync.db") as sync:
        assert "it held 2 records and now shows none" in stopped(sync).message
        assert did(sync.ingest(allow_deletes=True), "one") == {"deleted": 2}


@pytest.mark.parametrize(
    ("limit", "left", "stops"),
    [
        ("50%", 2, False),
        ("50%", 1, True),
        (1, 3, False),
        (1, 2, True),
        (0, 3, True),
        ("0%", 3, True),
        ("75%", 1, False),
    ],
)
def test_too_many_records_gone_stop_the_run(limit: int | str, left: int, stops: bool) -> None:
    four = [{"id": str(number), "n": number} for number in range(4)]
    store = memory("one", *four, max_deletes=limit)
    with together(store, fields={"id": "str", "n": "int"}) as sync:
        sync.ingest()
        put(store, *four[:left])
        if stops:
            assert f"{4 - left} of 4 known records are gone, more than max_deletes" in stopped(sync).message
            assert did(sync.ingest(allow_deletes=True), "one") == {"deleted": 4 - left, "unchanged": left}
        else:
            assert did(sync.ingest(), "one") == {"deleted": 4 - left, "unchanged": left}


def test_another_mapping_stops_the_run_until_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,name,nick\nann,Ann,Annie\n")

    def linked(**place: Any) -> Synchronizer:
        store = Store("one", "csv:one.csv", places={"thing": PlaceSpec(**place)}, root=tmp_path)
        return together(store, fields={"id": "str", "name": "str"}, journal=tmp_path / "evsync.db")

    with linked() as sync:
        sync.ingest()
    with linked(fields={"name": "nick"}) as sync:
        guard = stopped(sync)
        assert "field 'name' was 'name' (str), now 'nick' (str)" in guard.message
        assert guard.hint.endswith("evsync ingest one --allow-mapping")
        stopped(sync, allow_deletes=True)  # which is another matter
        assert did(sync.ingest(allow_mapping=True), "one") == {"updated": 1}
        assert canonical(sync, "ann") == {"id": "ann", "name": "Annie"}
        assert did(sync.ingest(), "one") == {"unchanged": 1}


def test_a_field_mapped_since_adds_what_it_shows_and_overrides_nothing(tmp_path: Path) -> None:
    def linked(*only: str) -> Synchronizer:
        one = memory("one", {**ANN, "name": "Anna"}, {**BEN, "name": "Bea"}, place=PlaceSpec(only=only))
        other = memory("other", ANN, {"id": "ben", "n": 2})
        return together(other, one, fields=FIELDS, journal=tmp_path / "evsync.db")

    with linked("n") as sync:
        sync.ingest()
        assert head(sync) == 2
    with linked("n", "name") as sync:
        stopped(sync)
        sync.ingest(allow_mapping=True)
        assert canonical(sync, "ann") == ANN  # `adopt`: what is in the journal stays
        assert canonical(sync, "ben") == {**BEN, "name": "Bea"}


def test_the_first_ingest_has_nothing_to_guard() -> None:
    store = memory("one", max_deletes=0)
    with together(store, fields=FIELDS) as sync:
        assert did(sync.ingest(), "one") == {}


# -- trouble --------------------------------------------------------------------------------------------


class Breaking(MemoryAccessor):
    """Its connection is cut after so many records."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        for number, data in enumerate(super().find(store, type, match)):
            if number == self.after:
                raise BrokenStore("the connection was cut")
            yield data


def test_a_read_that_breaks_off_is_no_deletion_and_stops_no_other_store() -> None:
    accessor = Breaking()
    one, other = memory("one", ANN, BEN, CEM, accessor=accessor), memory("other", ANN)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        accessor.after = 1
        put(one, {**ANN, "n": 5}, CEM)
        put(other, {**ANN, "name": "Anna"})
        report = sync.ingest(allow_deletes=True)
        assert entry(report, "one") == {"store": "one", **NOTHING, "error": "the connection was cut"}
        assert did(report, "other") == {"updated": 1}
        assert (report["ok"], exit_code(report)) == (False, 1)
        assert events(sync, "store", "op")[3:] == [("other", "update")]
        accessor.after = None
        assert did(sync.ingest(), "one") == {"updated": 1, "deleted": 1, "unchanged": 1}
        assert canonical(sync, "ann") == {"id": "ann", "name": "Anna", "n": 5}


def test_a_first_read_that_breaks_off_journals_nothing_of_that_store() -> None:
    accessor = Breaking(after=2)
    with together(memory("one", ANN, BEN, CEM, accessor=accessor), fields=FIELDS) as sync:
        assert entry(sync.ingest(), "one")["error"] == "the connection was cut"
        assert head(sync) == 0
        accessor.after = None
        assert did(sync.ingest(), "one") == {"created": 3}


@pytest.mark.parametrize("gone", ["sqlite", "csv", "json"])
def test_a_store_that_is_not_there_any_more_is_an_error_and_stops_no_other(gone: str, tmp_path: Path) -> None:
    one, other = make(gone, "one", tmp_path, ANN), make("memory", "other", tmp_path, BEN)
    with together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        sync.ingest()
    one.path.unlink()
    put(other, {**BEN, "n": 5})
    with together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        report = sync.ingest(allow_deletes=True)
        assert entry(report, "one")["error"]
        assert did(report, "other") == {"updated": 1}
        assert (report["ok"], exit_code(report)) == (False, 3)
        assert canonical(sync, "ann") == ANN


def test_a_store_that_nobody_could_create_is_an_error_from_the_start(tmp_path: Path) -> None:
    one = Store("one", "csv:nowhere/one.csv", places={"thing": PlaceSpec()}, root=tmp_path, role="source")
    with together(one, memory("other", BEN), fields=FIELDS) as sync:
        report = sync.ingest()
        assert "one.csv" in entry(report, "one")["error"]
        assert did(report, "other") == {"created": 1}
        assert exit_code(report) == 3


# -- roles and choices ----------------------------------------------------------------------------------


def test_a_target_is_never_read_as_a_source() -> None:
    target = memory("target", ANN, role="target")
    with together(memory("one", BEN), target, fields=FIELDS) as sync:
        report = sync.ingest()
        assert [one["store"] for one in report["stores"]] == ["one"]
        assert events(sync, "key") == [("ben",)]
        with pytest.raises(UsageError, match="cannot ingest store 'target'"):
            sync.ingest(["target"])


def test_only_the_stores_named_are_read() -> None:
    with together(memory("one", ANN), memory("other", BEN), fields=FIELDS) as sync:
        assert [one["store"] for one in sync.ingest(["other", "other"])["stores"]] == ["other"]
        assert events(sync, "store") == [("other",)]
        with pytest.raises(UsageError, match="there is no store 'othr'") as caught:
            sync.ingest(["othr"])
        assert caught.value.hint == "did you mean 'other'?"


# -- a dry run ------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_the_run_does_and_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "evsync.db"
    one, other = make(kind, "one", tmp_path, ANN, BEN), memory("other", {**ANN, "n": 9}, {**CEM, "n": "many"})
    with together(one, other, fields=FIELDS, journal=path) as sync:
        first = sync.ingest(dry_run=True)
        assert not path.exists()
        assert {**first, "dry_run": False, "run": 1} == sync.ingest()
        put(one, {**ANN, "n": 4}, CEM)
        before = dump(sync)
        second = sync.ingest(dry_run=True)
        assert (second["dry_run"], second["run"]) == (True, None)
        assert dump(sync) == before
        third = sync.ingest()
        assert (third["stores"], third["first"], third["last"]) == (
            second["stores"],
            second["first"],
            second["last"],
        )
        assert did(third, "one") == {"created": 1, "updated": 1, "deleted": 1}


def test_a_dry_run_is_guarded_too() -> None:
    store = memory("one", ANN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store)
        stopped(sync, dry_run=True)


# -- ids of the store's own -----------------------------------------------------------------------------


def replicas(sync: Synchronizer) -> dict[str, Any]:
    return dict(sync.journal().connection.execute("select key, id from replica order by key"))


def test_a_key_edited_where_the_id_is_known_is_an_update_and_the_key_stays(tmp_path: Path) -> None:
    with numbered(tmp_path) as sync:
        sync.ingest()
        sql(tmp_path / "one.db", "update thing set id = 'bob' where nr = 2")
        assert did(sync.ingest(), "one") == {"updated": 1, "unchanged": 1}
        assert (last(sync)["op"], last(sync)["key"], last(sync)["changed"]) == ("update", "ben", ["id"])
        assert canonical(sync, "ben") == {"id": "bob", "name": "Ben", "n": 2}
        sql(tmp_path / "one.db", "update thing set n = 9 where nr = 2")
        assert did(sync.ingest(), "one") == {"updated": 1, "unchanged": 1}
        assert last(sync)["key"] == "ben"
        sql(tmp_path / "one.db", "delete from thing where nr = 2")
        sync.ingest()
        assert (last(sync)["op"], last(sync)["key"]) == ("delete", "ben")


def test_a_key_edited_where_the_key_is_the_id_is_another_record(kind: str, tmp_path: Path) -> None:
    store = make(kind, "one", tmp_path, ANN, BEN)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, ANN, {**BEN, "id": "bob"})
        assert did(sync.ingest(), "one") == {"created": 1, "deleted": 1, "unchanged": 1}


def test_ids_dealt_out_anew_only_move_the_map(tmp_path: Path) -> None:
    with numbered(tmp_path) as sync:
        sync.ingest()
        assert replicas(sync) == {"ann": 1, "ben": 2}
        sql(tmp_path / "one.db", "update thing set nr = nr + 10")
        assert did(sync.ingest(), "one") == {"unchanged": 2}
        assert replicas(sync) == {"ann": 11, "ben": 12}
        sql(tmp_path / "one.db", "update thing set n = 9 where nr = 12")
        assert did(sync.ingest(), "one") == {"unchanged": 1, "updated": 1}
        assert last(sync)["key"] == "ben"


def test_rowids_that_a_vacuum_renumbers_only_move_the_map(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    sql(path, "create table thing (id text, name text, n int)")
    for number in range(6):
        sql(path, "insert into thing values (?, 'x', ?)", f"k{number}", number)
    store = Store("one", f"sqlite:{path}", places={"thing": PlaceSpec()})
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        sql(path, "delete from thing where id in ('k1', 'k3')")
        sync.ingest()
        before = head(sync)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("vacuum")
        assert sql(path, "select rowid, id from thing") == [(1, "k0"), (2, "k2"), (3, "k4"), (4, "k5")]
        assert did(sync.ingest(), "one") == {"unchanged": 4}
        assert head(sync) == before
        assert replicas(sync) == {"k0": 1, "k2": 2, "k4": 3, "k5": 4}


def test_ids_that_two_records_swapped_only_move_the_map(tmp_path: Path) -> None:
    with numbered(tmp_path) as sync:
        sync.ingest()
        for old, new in ((1, 9), (2, 1), (9, 2)):
            sql(tmp_path / "one.db", "update thing set nr = ? where nr = ?", new, old)
        assert did(sync.ingest(), "one") == {"unchanged": 2}
        assert replicas(sync) == {"ann": 2, "ben": 1}
        assert head(sync) == 2


def test_keys_that_two_records_swapped_are_two_updates(tmp_path: Path) -> None:
    """The ids say that they are the same records; nothing of the content says otherwise."""
    with numbered(tmp_path) as sync:
        sync.ingest()
        sql(tmp_path / "one.db", "update thing set id = case id when 'ann' then 'ben' else 'ann' end")
        assert did(sync.ingest(), "one") == {"updated": 2}
        assert canonical(sync, "ann") == {**ANN, "id": "ben"}


def test_one_record_replaced_by_another_under_its_id_and_key_is_an_update(tmp_path: Path) -> None:
    with numbered(tmp_path) as sync:
        sync.ingest()
        sql(tmp_path / "one.db", "delete from thing where nr = 2")
        sql(tmp_path / "one.db", "insert into thing values (7, 'ben', 'New Ben', 2)")
        assert did(sync.ingest(), "one") == {"updated": 1, "unchanged": 1}
        assert replicas(sync)["ben"] == 7


# -- composite keys -------------------------------------------------------------------------------------


def test_a_key_of_several_parts(tmp_path: Path) -> None:
    store = memory("one", {"a": "x/y", "b": 1, "n": 1}, {"a": "x", "b": 2, "n": 2}, key=("a", "b"))
    with together(store, fields={"a": "str", "b": "int", "n": "int"}, key=("a", "b")) as sync:
        sync.ingest()
        assert events(sync, "key") == [("x%2Fy/1",), ("x/2",)]
        held(store)[("x/y", 1)]["n"] = 5
        assert did(sync.ingest(), "one") == {"updated": 1, "unchanged": 1}
        assert canonical(sync, "x%2Fy/1") == {"a": "x/y", "b": 1, "n": 5}


# -- at once --------------------------------------------------------------------------------------------


def test_who_ingests_second_finds_what_the_first_journalled(tmp_path: Path) -> None:
    store = make("csv", "one", tmp_path, ANN, BEN)
    path = tmp_path / "evsync.db"
    with (
        together(store, fields=FIELDS, journal=path) as one,
        together(store, fields=FIELDS, journal=path) as other,
    ):
        assert did(one.ingest(), "one") == {"created": 2}
        assert did(other.ingest(), "one") == {"unchanged": 2}
        put(store, {**ANN, "n": 5}, BEN)
        other.ingest()
        assert did(one.ingest(), "one") == {"unchanged": 2}
        assert head(one) == 3
        assert one.verify()["ok"]


def test_a_great_many_records(tmp_path: Path) -> None:
    """More than fit into one batch of anything."""
    many = [{"id": f"k{number:05}", "name": "x", "n": number} for number in range(6_000)]
    store = make("csv", "one", tmp_path, *many)
    with together(store, fields=FIELDS) as sync:
        assert did(sync.ingest(), "one") == {"created": 6_000}
        put(store, *[{**record, "n": record["n"] + (record["n"] % 3 == 0)} for record in many[1:]])
        assert did(sync.ingest(), "one") == {"deleted": 1, "updated": 1_999, "unchanged": 4_000}
        assert sync.verify()["ok"]


@pytest.mark.parametrize("id", [None, "nr"])
def test_a_key_that_is_no_text_puts_its_row_aside_and_no_other(tmp_path: Path, id: str | None) -> None:
    file = tmp_path / "web.json"
    file.write_text('[{"id": "a", "nr": "1"}]')
    place = PlaceSpec(id=id, ignore=("nr",))
    store = Store("web", "json:web.json", places={"thing": place}, root=tmp_path)
    with together(store, fields={"id": "str"}) as sync:
        assert did(sync.ingest(), "web") == {"created": 1}
        file.write_text(r'[{"id": "a", "nr": "1"}, {"id": "\ud800", "nr": "\ud800"}, {"id": "b", "nr": "2"}]')
        assert did(sync.ingest(), "web") == {"created": 1, "unchanged": 1, "quarantined": 1}
        [row] = sync.quarantine("web")
        assert "field 'id'" in row["error"]
        assert did(sync.ingest(), "web") == {"unchanged": 2, "quarantined": 1}
