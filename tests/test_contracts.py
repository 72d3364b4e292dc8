"""Columns that come, go or change in a store: what a type's contract makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import Row, at_rest, canonical, did, entry, events, held, last, memory, rows, sql, together

from evsync import Store, Synchronizer
from evsync.binding import Contract, PlaceSpec, TypeSpec
from evsync.errors import GuardTripped
from evsync.projections.guards import mapping_changed
from evsync.report import Report

ANN: Row = {"id": "ann", "name": "Ann"}
BEN: Row = {"id": "ben", "name": "Ben"}
DECLARED = {"id": "str", "name": "str", "phone": "str"}


class Project:
    """A table and a file with the same things, and their journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table("create table thing (id text primary key, name text)")
        self.table("insert into thing values ('ann', 'Ann'), ('ben', 'Ben')")
        self.write("id,name\nann,Ann\nben,Ben\n")
        self.place: dict[str, PlaceSpec] = {"crm": PlaceSpec(), "list": PlaceSpec()}
        self.fields: dict[str, str] | None = None
        self.contract: Contract = "evolve"

    def table(self, statement: str) -> list[tuple[Any, ...]]:
        return sql(self.folder / "crm.db", statement)

    def write(self, text: str) -> None:
        (self.folder / "list.csv").write_text(text)

    def read(self) -> str:
        return (self.folder / "list.csv").read_text()

    def linked(self) -> Synchronizer:
        urls = {"crm": "sqlite:crm.db", "list": "csv:list.csv"}
        stores = [
            Store(name, url, places={"thing": self.place[name]}, root=self.folder)
            for name, url in urls.items()
        ]
        spec = TypeSpec("thing", ("id",), self.fields, contract=self.contract)
        return Synchronizer(stores, [spec], self.folder / "evsync.db")

    def sync(self, **options: Any) -> Report:
        with self.linked() as sync:
            return sync.sync(**options)

    def ingest(self, **options: Any) -> Report:
        with self.linked() as sync:
            return sync.ingest(**options)

    def stopped(self, *runs: str) -> str:
        """The message of the guard that stops these runs, which journal and write nothing."""
        before, messages = self.count(), set()
        for run in runs or ("ingest", "sync"):
            with self.linked() as sync, pytest.raises(GuardTripped) as caught:
                getattr(sync, run)()
            assert "--allow-mapping" in caught.value.hint
            messages.add(caught.value.message)
        assert self.count() == before
        assert len(messages) == 1
        return messages.pop()

    def count(self) -> int:
        with self.linked() as sync:
            return sync.journal().head().seq

    def canonical(self, key: str) -> Row | None:
        with self.linked() as sync:
            return canonical(sync, key)

    def at_rest(self) -> bool:
        with self.linked() as sync:
            return at_rest(sync) and sync.verify()["ok"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.sync()
    assert made.count() == 2
    return made


# -- evolve ---------------------------------------------------------------------------------------------


def test_a_column_that_was_added_becomes_a_field_by_itself(project: Project) -> None:
    project.table("alter table thing add column phone text")
    report = project.sync()
    assert did(report["ingest"], "crm") == {"unchanged": 2}  # it is empty: nothing to tell
    assert project.at_rest()
    project.table("update thing set phone = '1' where id = 'ann'")
    assert did(project.sync()["ingest"], "crm") == {"updated": 1, "unchanged": 1}
    assert project.canonical("ann") == {**ANN, "phone": "1"}
    assert project.canonical("ben") == BEN
    assert project.read() == "id,name\nann,Ann\nben,Ben\n"  # a partial view
    assert project.at_rest()


def test_what_a_new_column_holds_is_journalled_at_first_sight(project: Project) -> None:
    project.table("alter table thing add column phone text default '0'")
    assert did(project.sync()["ingest"], "crm") == {"updated": 2}
    with project.linked() as sync:
        assert last(sync)["changed"] == ["phone"]
        assert {found["field"] for found in sync.blame("thing", "ann")["fields"]} == {"id", "name", "phone"}
    assert project.at_rest()
    project.write("id,name,phone\nann,Ann,7\nben,Ben,\n")  # the other store gets it, too
    report = project.sync()
    assert entry(report["ingest"], "list")["conflicts"] == 1  # adopted: what the journal has stays
    assert project.read() == "id,name,phone\nann,Ann,0\nben,Ben,0\n"
    assert project.canonical("ben") == {**BEN, "phone": "0"}
    assert project.at_rest()


def test_a_replay_before_the_ingest_hides_no_new_column(project: Project) -> None:
    project.table("alter table thing add column phone text default '0'")
    project.write("id,name\nann,Anna\nben,Ben\n")
    with project.linked() as sync:
        sync.ingest(["list"])
        assert did(sync.replay(["crm"]), "crm") == {"skipped": 1}
    assert project.table("select name, phone from thing") == [("Ann", "0"), ("Ben", "0")]
    project.sync()
    assert project.canonical("ann") == {"id": "ann", "name": "Anna", "phone": "0"}
    assert project.table("select name, phone from thing") == [("Anna", "0"), ("Ben", "0")]
    assert project.at_rest()


def test_a_dry_run_sees_the_new_column_and_leaves_no_trace(project: Project) -> None:
    project.table("alter table thing add column phone text default '0'")
    assert did(project.ingest(dry_run=True), "crm") == {"updated": 2}
    assert project.count() == 2
    assert did(project.ingest(), "crm") == {"updated": 2}


def test_a_new_column_of_a_type_with_declared_fields_is_taken_if_it_is_declared(project: Project) -> None:
    project.fields = DECLARED
    project.sync(allow_mapping=True)
    project.table("alter table thing add column phone text default '0'")
    project.table("alter table thing add column fax text default '9'")
    project.sync()
    assert project.canonical("ann") == {**ANN, "phone": "0"}
    assert project.at_rest()


def test_a_column_that_was_there_before_is_no_drift_but_another_configuration(project: Project) -> None:
    project.table("alter table thing add column phone text default '0'")
    project.place["crm"] = PlaceSpec(ignore=("phone",))
    project.sync()
    project.place["crm"] = PlaceSpec()
    assert "field 'phone' is new" in project.stopped()
    project.sync(allow_mapping=True)
    assert project.canonical("ann") == {**ANN, "phone": "0"}
    assert project.at_rest()


def test_a_new_column_of_a_target_is_for_a_rebuild_to_fill(tmp_path: Path) -> None:
    sql(tmp_path / "t.db", "create table thing (id text primary key)")
    one = memory("one", ANN)
    for step in range(2):
        target = Store("t", "sqlite:t.db", places={"thing": PlaceSpec()}, root=tmp_path, role="target")
        with Synchronizer(
            [one, target], [TypeSpec("thing", ("id",), DECLARED)], tmp_path / "evsync.db"
        ) as sync:
            if step:
                with pytest.raises(GuardTripped, match="field 'name' is new") as caught:
                    sync.sync()
                assert "--rebuild" in caught.value.hint
                sync.replay(["t"], rebuild=True)
            sync.sync()
        sql(tmp_path / "t.db", "alter table thing add column name text") if not step else None
    assert sql(tmp_path / "t.db", "select * from thing") == [("ann", "Ann")]


# -- gone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contract", ["evolve", "freeze", "quarantine"])
@pytest.mark.parametrize("fields", [None, {"id": "str", "name": "str"}])
@pytest.mark.parametrize(
    "change", ["alter table thing drop column name", "alter table thing rename column name to full_name"]
)
def test_a_column_that_is_gone_is_never_taken_for_edits(
    change: str, fields: dict[str, str] | None, contract: Contract, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.fields, project.contract = fields, contract
    project.sync()
    project.table(change)
    message = project.stopped()
    assert "column 'name', which held the field 'name', is gone" in message
    assert 'map it: fields = { name = "…" }' in message
    report = project.sync(allow_mapping=True)  # then it is simply no longer mapped there
    if not (contract == "quarantine" and "rename" in change):
        assert did(report["ingest"], "crm").keys() == {
            "updated" if "rename" in change and fields is None else "unchanged"
        }
        known = project.canonical("ann")
        assert known is not None
        assert known["name"] == "Ann"
        project.write("id,name\nann,Anna\nben,Ben\n")
        project.sync()
        assert project.at_rest()


def test_a_column_with_another_name_is_mapped_again(project: Project) -> None:
    project.table("alter table thing rename column name to full_name")
    project.stopped()
    project.place["crm"] = PlaceSpec(fields={"name": "full_name"})
    assert "field 'name' was 'name' (str), now 'full_name' (str)" in project.stopped()
    assert did(project.sync(allow_mapping=True)["ingest"], "crm") == {"unchanged": 2}
    assert project.count() == 2
    assert project.at_rest()


def test_a_column_that_came_back_adds_what_it_shows_and_overrides_nothing(project: Project) -> None:
    project.table("alter table thing drop column name")
    project.sync(allow_mapping=True)
    assert project.count() == 2  # nothing was journalled of it
    project.write("id,name\nann,Anna\nben,Ben\n")
    project.sync()
    project.table("alter table thing add column name text")
    report = project.sync()
    assert did(report["replay"], "crm") == {"updated": 2}
    assert project.table("select * from thing") == [("ann", "Anna"), ("ben", "Ben")]
    assert project.canonical("ann") == {"id": "ann", "name": "Anna"}
    assert project.at_rest()


@pytest.mark.parametrize(
    ("place", "column"),
    [({"fields": {"name": "full_name"}}, "full_name"), ({"id": "nr"}, "nr"), ({"only": ("name",)}, "name")],
)
def test_a_gone_column_that_the_configuration_names_stops_that_store_only(
    place: dict[str, Any], column: str, project: Project
) -> None:
    if column != "name":
        project.table(f"alter table thing add column {column} text ")
        project.table(f"update thing set {column} = name")
    project.place["crm"] = PlaceSpec(**place)
    project.sync(allow_mapping=True)
    project.table(f"alter table thing drop column {column}")
    project.write("id,name\nann,Anna\nben,Ben\n")
    for run in ("ingest", "sync"):
        with project.linked() as sync:
            report = getattr(sync, run)()
            part = report if run == "ingest" else report["ingest"]
            assert f"column {column!r}" in entry(part, "crm")["error"]
            assert (report["ok"], report.exit_code) == (False, 2)
    assert project.canonical("ann") == {"id": "ann", "name": "Anna"}


# -- freeze ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [None, {"id": "str", "name": "str"}])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.table("alter table thing add column phone text"), "store 'crm', type 'thing': its mapping changed since the last run: column 'phone' is new"),
        (lambda p: p.write("id,name,phone\nann,Ann,\nben,Ben,\n"), "store 'list', type 'thing': its mapping changed since the last run: column 'phone' is new"),
        (lambda p: [p.table(s) for s in (
            "alter table thing rename to old", "create table thing (id text primary key, name integer)",
            "insert into thing select * from old", "drop table old",
        )], "column 'name' was declared str, now int"),
    ],
)  # fmt: skip
def test_a_frozen_type_stops_at_any_change_of_columns(
    change: Callable[[Project], None], told: str, fields: dict[str, str] | None, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.fields, project.contract = fields, "freeze"
    project.sync()
    assert project.at_rest()
    change(project)
    assert told in project.stopped()
    project.sync(allow_mapping=True)
    assert project.at_rest()


def test_a_new_column_of_a_frozen_type_is_taken_once_it_is_allowed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.contract = "freeze"
    project.sync()
    project.table("alter table thing add column phone text default '0'")
    project.sync(allow_mapping=True)
    assert project.canonical("ann") == {**ANN, "phone": "0"}
    assert project.at_rest()


def test_a_column_without_a_declared_type_may_hold_what_it_likes(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.table("alter table thing add column note")
    project.contract = "freeze"
    project.fields = {"id": "str", "name": "str", "note": "json"}
    project.table("update thing set note = '1'")
    project.sync()
    project.table("update thing set note = 2")
    project.sync()
    assert project.at_rest()


# -- quarantine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [None, {"id": "str", "name": "str"}])
@pytest.mark.parametrize("store", ["crm", "list"])
def test_rows_with_a_value_that_is_not_part_of_the_type_wait(
    store: str, fields: dict[str, str] | None, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.fields, project.contract = fields, "quarantine"
    project.sync()
    assert project.at_rest()
    if store == "crm":
        project.table("alter table thing add column phone text")
        project.table("update thing set phone = '1', name = 'Anna' where id = 'ann'")
        project.table("update thing set name = 'Benno' where id = 'ben'")
    else:
        project.write("id,name,phone\nann,Anna,1\nben,Benno,\n")
    report = project.sync()
    assert did(report["ingest"], store) == {"updated": 1, "quarantined": 1}
    assert report.exit_code == 4
    assert project.canonical("ann") == ANN
    assert project.canonical("ben") == {"id": "ben", "name": "Benno"}
    with project.linked() as sync:
        [(error, row)] = sync.journal().connection.execute("select error, row from quarantine")
        assert error == "field 'phone' is not part of 'thing'"
        assert json.loads(row) == {"id": "ann", "name": "Anna", "phone": "1"}
        # through the API as well
        one = next(found for found in sync.stores[store].find("thing") if found.fields["id"] == "ben")
        one.fields["name"] = "Ben"
        sync.stores[store].update(one)
    if store == "crm":
        project.table("update thing set phone = null")
    else:
        project.write("id,name,phone\nann,Anna,\nben,Ben,\n")
    project.sync()
    assert project.canonical("ann") == {"id": "ann", "name": "Anna"}
    assert project.at_rest()


def test_a_row_that_waits_is_not_written_over(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.contract = "quarantine"
    project.sync()
    project.table("alter table thing add column phone text")
    project.table("update thing set phone = '1' where id = 'ann'")
    project.write("id,name\nann,Anna\nben,Benno\n")
    assert did(project.sync()["replay"], "crm") == {"updated": 1, "skipped": 1}
    assert project.table("select name from thing") == [("Ann",), ("Benno",)]


def test_what_a_store_leaves_out_makes_no_row_wait(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.contract = "quarantine"
    project.sync()
    project.table("alter table thing add column phone text default '1'")
    project.place["crm"] = PlaceSpec(ignore=("phone",))
    assert did(project.sync()["ingest"], "crm") == {"unchanged": 2}


def test_another_contract_takes_the_column_once_it_is_allowed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.contract = "quarantine"
    project.sync()
    project.table("alter table thing add column phone text default '1'")
    project.sync()
    project.contract = "evolve"
    assert "field 'phone' is new" in project.stopped()
    project.sync(allow_mapping=True)
    assert project.canonical("ann") == {**ANN, "phone": "1"}
    assert project.at_rest()


def test_a_store_that_cannot_describe_itself_is_known_by_its_records() -> None:
    one, other = memory("one", ANN, {**BEN, "phone": "1"}), memory("other")
    spec = TypeSpec("thing", ("id",), {"id": "str", "name": "str"}, contract="quarantine")
    with Synchronizer([one, other], [spec], None) as sync:
        assert did(sync.sync()["ingest"], "one") == {"created": 1, "quarantined": 1}
        assert rows(other) == [ANN]


# -- stores whose records have fields of their own ------------------------------------------------------


def loose(folder: Path, contract: Contract, fields: dict[str, str] | None = None) -> Synchronizer:
    store = Store("loose", "json:loose.json", places={"thing": PlaceSpec()}, root=folder)
    return Synchronizer(
        [store], [TypeSpec("thing", ("id",), fields, contract=contract)], folder / "evsync.db"
    )


def write(folder: Path, *records: Row) -> None:
    (folder / "loose.json").write_text(json.dumps(list(records)))


def test_fields_of_records_come_and_go(tmp_path: Path) -> None:
    write(tmp_path, ANN, BEN)
    for records in ([ANN, {**BEN, "phone": "1"}], [{"id": "ann"}, BEN], [ANN, BEN]):
        with loose(tmp_path, "evolve") as sync:
            sync.sync()
        write(tmp_path, *records)
        with loose(tmp_path, "evolve") as sync:
            sync.sync()
            assert canonical(sync, "ann") == records[0]
            assert canonical(sync, "ben") == records[1]
            assert at_rest(sync)


def test_a_field_that_others_had_long_since_is_written_to_all_records(tmp_path: Path) -> None:
    one = memory("one", {**ANN, "phone": "1"}, {**BEN, "phone": "2"})
    fields = {"id": "str", "name": "str", "phone": "str"}

    def linked() -> Synchronizer:
        store = Store("loose", "json:loose.json", places={"thing": PlaceSpec()}, root=tmp_path)
        return together(one, store, fields=fields, journal=tmp_path / "evsync.db")

    write(tmp_path, ANN, BEN)
    with linked() as sync:
        sync.sync()
    write(tmp_path, {**ANN, "phone": "1"}, BEN)  # one record shows that the store may hold it
    with linked() as sync:
        sync.sync()
    assert json.loads((tmp_path / "loose.json").read_text()) == [{**ANN, "phone": "1"}, {**BEN, "phone": "2"}]
    with linked() as sync:
        assert at_rest(sync)
        assert events(sync, "op", store="loose") == []


@pytest.mark.parametrize("fields", [None, {"id": "str", "name": "str"}])
def test_a_record_with_an_unknown_field_waits(fields: dict[str, str] | None, tmp_path: Path) -> None:
    write(tmp_path, ANN)
    with loose(tmp_path, "quarantine", fields) as sync:
        sync.sync()
    write(tmp_path, {**ANN, "name": "Anna"}, {**BEN, "phone": 1.5})
    with loose(tmp_path, "quarantine", fields) as sync:
        assert did(sync.sync()["ingest"], "loose") == {"updated": 1, "quarantined": 1}
        assert canonical(sync, "ann") == {"id": "ann", "name": "Anna"}


def test_a_frozen_type_takes_no_field_by_itself(tmp_path: Path) -> None:
    write(tmp_path, ANN)
    with loose(tmp_path, "freeze") as sync:
        sync.sync()
    write(tmp_path, {**ANN, "phone": "1"})
    with loose(tmp_path, "freeze") as sync:
        with pytest.raises(GuardTripped, match="field 'phone' is new"):
            sync.sync()
        sync.sync(allow_mapping=True)
        assert canonical(sync, "ann") == {**ANN, "phone": "1"}


# -- other changes --------------------------------------------------------------------------------------


def test_values_that_no_longer_fit_are_put_aside(project: Project) -> None:
    project.fields = {"id": "str", "name": "str", "n": "int"}
    project.table("alter table thing add column n integer default 1")
    project.sync(allow_mapping=True)
    project.table("alter table thing rename to old")
    project.table("create table thing (id text primary key, name text, n text)")
    project.table("insert into thing select * from old")
    project.table("drop table old")
    project.table("update thing set n = 'many' where id = 'ann'")
    project.table("update thing set n = '5' where id = 'ben'")
    report = project.sync()
    assert did(report["ingest"], "crm") == {"updated": 1, "quarantined": 1}
    assert project.canonical("ben") == {**BEN, "n": 5}
    assert project.canonical("ann") == {**ANN, "n": 1}


def test_a_field_declared_later_was_absent_before(tmp_path: Path) -> None:
    one = memory("one", {**ANN, "phone": "1"}, {**BEN, "phone": None})
    with together(one, fields={"id": "str", "name": "str"}, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
    with together(one, fields=DECLARED, journal=tmp_path / "evsync.db") as sync:
        with pytest.raises(GuardTripped, match="field 'phone' is new"):
            sync.sync()
        sync.sync(allow_mapping=True)
        assert canonical(sync, "ann") == {**ANN, "phone": "1"}
        assert sync.show("thing", "ann", at=1)["fields"] == ANN  # absent, not null
        assert events(sync, "op", "before", "changed", key="ann") == [
            ("create", None, ["id", "name"]),
            ("update", None, ["phone"]),
        ]
        assert sync.verify()["ok"]
        assert at_rest(sync)
        held(one)[("ben",)]["phone"] = "2"
        sync.sync()
        assert canonical(sync, "ben") == {**BEN, "phone": "2"}


BEFORE: dict[str, Any] = {
    "key": ["id"], "fields": {"id": ["id", "str"], "name": ["n", "str"]}, "id": None, "options": {},
    "columns": {"id": "str", "n": "str", "x": None},
}  # fmt: skip


@pytest.mark.parametrize(
    ("contract", "fields", "columns", "told"),
    [
        ("evolve", {"y": ["y", "str"]}, {"y": "str"}, None),
        ("freeze", {"y": ["y", "str"]}, {"y": "str"}, "column 'y' is new"),
        ("quarantine", {"y": ["y", "str"]}, {"y": "str"}, "field 'y' is new"),
        ("evolve", {"x": ["x", "str"]}, {}, "field 'x' is new"),
        ("freeze", {"x": ["x", "str"]}, {}, "field 'x' is new"),
        ("evolve", {}, {"y": None}, None),
        ("quarantine", {}, {"y": None}, None),
        ("freeze", {}, {"y": None}, "column 'y' is new"),
        ("evolve", {}, {"x": "int"}, None),
        ("freeze", {}, {"x": "int"}, "column 'x' was declared none, now int"),
    ],
)
def test_which_changes_of_columns_are_told(
    contract: str, fields: dict[str, Any], columns: dict[str, Any], told: str | None
) -> None:
    now = {**BEFORE, "fields": {**BEFORE["fields"], **fields}, "columns": {**BEFORE["columns"], **columns}}
    reason = mapping_changed(BEFORE, now, contract=contract)
    assert reason == (told and f"its mapping changed since the last run: {told}")


def test_a_store_of_which_no_columns_were_known_is_not_frozen_to_them() -> None:
    before = {name: told for name, told in BEFORE.items() if name != "columns"}
    assert mapping_changed(before, BEFORE, contract="freeze") is None
