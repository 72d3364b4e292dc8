"""What the doctor finds: each trouble in the store and type where it lies, with what to do; nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evsync import PlaceSpec, Store, Synchronizer, TypeSpec
from evsync.config import load_config

CONFIG = """
[types.contact]
key = ["email"]
[types.contact.fields]
email = "str"
name = "str"
age = "int"

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
table = "customers"
fields = { name = "full_name" }

[stores.mailing]
url = "csv:mailing.csv"
[stores.mailing.types.contact]
only = ["email", "name"]
"""

Check = dict[str, Any]


class Patient:
    """Two stores that are well, until a test makes them ill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sql("create table customers (email text, full_name text, age integer)")
        self.sql("insert into customers values ('ann@example.com', 'Ann', 31)")
        self.write("mailing.csv", "email,name\nann@example.com,Ann\n")
        self.configure()

    def configure(self, *changes: tuple[str, str]) -> None:
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.write("evsync.toml", text)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / "crm.db")) as connection, connection:
            connection.execute(statement)

    def opened(self) -> Synchronizer:
        return Synchronizer.from_config(load_config(self.folder / "evsync.toml"))

    def sync(self) -> None:
        with self.opened() as synchronizer:
            assert synchronizer.sync()["ok"]

    def examined(self) -> dict[str, Any]:
        with self.opened() as synchronizer:
            return synchronizer.doctor()

    def ill(self) -> list[Check]:
        document = self.examined()
        found = [check for check in document["checks"] if not check["ok"]]
        assert document["ok"] is (not found)
        for check in found:
            assert check["hint"], check
            assert check["detail"], check
        return found

    def only_trouble(self, store: str | None, check: str) -> Check:
        [found] = self.ill()
        assert (found["store"], found["check"]) == (store, check)
        assert found["type"] in ("contact", None)
        return found


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_well(patient: Patient) -> None:
    document = patient.examined()
    assert document["ok"] is True
    assert {tuple(check) for check in document["checks"]} == {
        ("store", "type", "check", "ok", "detail", "hint")
    }
    names = [(check["store"], check["check"]) for check in document["checks"]]
    assert names[0] == (None, "journal")
    for store in ("crm", "mailing"):
        assert [check for name, check in names if name == store] == [
            "reachable", "keys", "values", "mapping", "writable", "capture",
        ]  # fmt: skip
    told = {(check["store"], check["check"]): check["detail"] for check in document["checks"]}
    assert told["crm", "mapping"] == "age, email, name = full_name"
    assert told["crm", "reachable"] == "sqlite:crm.db, 1 record"


def test_it_writes_nothing(patient: Patient) -> None:
    before = listing(patient.folder)
    patient.examined()
    assert listing(patient.folder) == before
    patient.sync()
    before = listing(patient.folder)
    patient.examined()
    assert listing(patient.folder) == before


def missing_table(patient: Patient) -> None:
    patient.configure(('table = "customers"', 'table = "custmers"\nid = "email"'))
    patient.configure(("[stores.crm]\n", '[stores.crm]\nrole = "source"\n'), ('"customers"', '"custmers"'))


TROUBLES: list[tuple[Callable[[Patient], Any], str | None, str, str, str]] = [
    (missing_table, "crm", "reachable", "is not there", "[stores.crm]"),
    (
        lambda p: p.configure(("sqlite:crm.db", "sqlite:none/crm.db"), ("[stores.crm]\n", '[stores.crm]\nrole = "source"\n')),
        "crm", "reachable", "sqlite:none/crm.db", "[stores.crm]",
    ),
    (lambda p: p.configure(("full_name", "fullname")), "crm", "mapping", "'fullname'", "'full_name'"),
    (lambda p: p.write("mailing.csv", "email\nann@example.com\n"), "mailing", "mapping", "'name'", "email"),
    (lambda p: p.write("mailing.csv", 'email,name\na,"b\n'), "mailing", "reachable", "line 2", "quote"),
    (lambda p: p.write("mailing.csv", "email,name\n,Ann\n"), "mailing", "keys", "line 2: the key field 'email'", "correct"),
    (lambda p: p.write("mailing.csv", "email,name\na,A\nb,B\na,C\n"), "mailing", "keys", "line 2 and line 4", "key"),
    (
        lambda p: p.sql("insert into customers values ('ben@example.com', 'Ben', 'old')"),
        "crm", "values", "1 row would be quarantined; the first: id 2: field 'age': 'old'", "[types.contact.fields]",
    ),
    (lambda p: (p.folder / "crm.db").write_bytes(b"no database at all" * 99), "crm", "reachable", "not an SQLite", "url"),
    (lambda p: p.write("evsync.db", "no journal" * 99), None, "journal", "no evsync journal", "evsync.toml"),
    (
        lambda p: p.write("evsync.toml", 'journal = "none/evsync.db"\n' + CONFIG),
        None, "journal", "no folder", "create the folder",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "store", "check", "detail", "hint"), TROUBLES)
def test_one_trouble_is_found_alone(
    patient: Patient,
    break_it: Callable[[Patient], Any],
    store: str | None,
    check: str,
    detail: str,
    hint: str,
) -> None:
    break_it(patient)
    found = patient.only_trouble(store, check)
    assert detail in found["detail"]
    assert hint in found["hint"]


def test_a_store_that_is_not_there_yet_is_no_trouble(patient: Patient) -> None:
    (patient.folder / "mailing.csv").unlink()
    [check] = [check for check in patient.examined()["checks"] if check["store"] == "mailing"]
    assert check["ok"]
    assert "a replay creates it" in check["detail"]


def test_a_store_that_is_not_there_any_more_is(patient: Patient) -> None:
    patient.sync()
    (patient.folder / "mailing.csv").unlink()
    found = patient.only_trouble("mailing", "reachable")
    assert "not there any more" in found["detail"]
    assert "--rebuild" in found["hint"]


def test_a_mapping_that_changed(patient: Patient) -> None:
    patient.sync()
    patient.configure(('fields = { name = "full_name" }', 'only = ["email", "age"]'))
    found = patient.only_trouble("crm", "mapping")
    assert "field 'name' is no longer mapped" in found["detail"]
    assert "evsync ingest crm --allow-mapping" in found["hint"]


def test_a_store_that_was_emptied(patient: Patient) -> None:
    patient.sync()
    patient.write("mailing.csv", "email,name\n")
    found = patient.only_trouble("mailing", "deletions")
    assert "now shows none" in found["detail"]
    assert "evsync ingest mailing --allow-deletes" in found["hint"]


def test_a_view_cannot_be_written(patient: Patient) -> None:
    patient.sql("create view people as select * from customers")
    patient.configure(('"customers"', '"people"'))
    assert "source" in patient.only_trouble("crm", "writable")["hint"]
    patient.configure(('"customers"', '"people"'), ("[stores.crm]\n", '[stores.crm]\nrole = "source"\n'))
    assert patient.ill() == []


def test_a_journal_with_its_tail_cut_off(patient: Patient) -> None:
    patient.sync()
    with closing(sqlite3.connect(patient.folder / "evsync.db")) as connection, connection:
        connection.execute("drop trigger event_stays")
        connection.execute("delete from event where seq = (select max(seq) from event)")
    assert "evsync verify" in patient.only_trouble(None, "journal")["hint"]


def test_a_journal_that_somebody_writes_to_is_no_trouble(patient: Patient) -> None:
    patient.sync()
    with closing(sqlite3.connect(patient.folder / "evsync.db", isolation_level=None)) as connection:
        connection.execute("begin immediate")
        assert patient.ill() == []


def test_every_store_is_examined_whatever_the_others_have(patient: Patient) -> None:
    (patient.folder / "crm.db").write_bytes(b"no database at all" * 99)
    patient.write("mailing.csv", "email,name\n,Ann\n")
    assert [(check["store"], check["check"]) for check in patient.ill()] == [
        ("crm", "reachable"),
        ("mailing", "keys"),
    ]


def test_an_accessor_that_fails_in_its_own_way_stops_nothing(tmp_path: Path) -> None:
    from accessors.memory import MemoryAccessor

    class Careless(MemoryAccessor):
        def find(self, *_: Any) -> Iterator[Any]:
            raise ZeroDivisionError("oops")

    places = {"thing": PlaceSpec()}
    stores = [
        Store("one", "memory:", accessor=Careless(), places=places),
        Store("two", "memory:", accessor=MemoryAccessor(), places=places),
    ]
    types = [TypeSpec("thing", ("name",), {"name": "str"})]
    with Synchronizer(stores, types, None) as synchronizer:
        document = synchronizer.doctor()
    [found] = [check for check in document["checks"] if not check["ok"]]
    assert (found["store"], found["detail"]) == ("one", "ZeroDivisionError: oops")
    assert [check["store"] for check in document["checks"][1:]].count("two") == 6


def test_without_stores(tmp_path: Path) -> None:
    (tmp_path / "evsync.toml").write_text("")
    with Synchronizer.from_config(load_config(tmp_path / "evsync.toml")) as synchronizer:
        [_, found] = synchronizer.doctor()["checks"]
    assert (found["check"], found["ok"]) == ("stores", False)


def test_records_that_refer_to_what_is_read_later_are_well_before_the_first_ingest(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "crm.db")) as connection:
        connection.executescript(
            "create table staff (id integer primary key, login text, boss integer, team integer);"
            "create table team (id integer primary key, name text);"
            "insert into staff values (1, 'yan', null, 5), (2, 'zoe', 1, 5); insert into team values (5, 'A')"
        )
    (tmp_path / "evsync.toml").write_text(
        '[types.staff]\nkey = ["login"]\nreferences = { boss = "staff", team = "team" }\n'
        '[types.team]\nkey = ["name"]\n'
        '[stores.crm]\nurl = "sqlite:crm.db"\n[stores.crm.types.staff]\n[stores.crm.types.team]\n',
        encoding="utf-8",
    )
    with Synchronizer.from_config(load_config(tmp_path / "evsync.toml")) as sync:
        document = sync.doctor()
        assert document["ok"], document
        with closing(sqlite3.connect(tmp_path / "crm.db")) as connection, connection:
            connection.execute("update staff set boss = 9 where id = 2")
        assert not sync.doctor()["ok"]
