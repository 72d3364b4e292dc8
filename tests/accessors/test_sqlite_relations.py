"""What an SQLite file says of how its tables hang together, and of how their changes could be captured."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from accessors.sqlite import SqliteAccessor
from evsync.accessor import ForeignKey, Relations, Way
from evsync.binding import PlaceSpec
from evsync.store import Store

accessor = SqliteAccessor()
Make = Callable[..., Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(script: str, *types: str) -> Store:
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            connection.executescript(script)
        return Store("crm", "sqlite:db", root=tmp_path, places={type: PlaceSpec() for type in types})

    return made


# -- relations ---------------------------------------------------------------------------------------------


def test_foreign_keys_name_the_columns_at_both_ends(make: Make) -> None:
    store = make(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, email TEXT UNIQUE);"
        "CREATE TABLE lines (order_no, line, PRIMARY KEY (order_no, line));"
        "CREATE TABLE t (k TEXT PRIMARY KEY, a INTEGER REFERENCES PEOPLE, b TEXT REFERENCES people (EMAIL), c, d,"
        " FOREIGN KEY (c, d) REFERENCES lines)"
    )
    assert accessor.relations(store, "t").foreign_keys == (
        ForeignKey(("a",), "people", ("id",)),
        ForeignKey(("b",), "people", ("email",)),
        ForeignKey(("c", "d"), "lines", ("order_no", "line")),
    )


def test_a_foreign_key_to_a_table_that_is_not_there_is_told_all_the_same(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT PRIMARY KEY, a REFERENCES gone, b REFERENCES gone (x))")
    assert accessor.relations(store, "t").foreign_keys == (
        ForeignKey(("a",), "gone", ()),
        ForeignKey(("b",), "gone", ("x",)),
    )


def test_unique_is_what_tells_records_apart_without_nulls(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k INTEGER PRIMARY KEY, maybe TEXT UNIQUE, sure TEXT NOT NULL UNIQUE, nulls TEXT UNIQUE,"
        " p TEXT, x TEXT NOT NULL, y TEXT NOT NULL, g TEXT NOT NULL AS (x || y) UNIQUE, UNIQUE (x, y));"
        "CREATE UNIQUE INDEX partly ON t (p) WHERE p <> '';"
        "CREATE UNIQUE INDEX shortened ON t (lower(p));"
        "CREATE INDEX plain ON t (p);"
        "INSERT INTO t (maybe, sure, nulls, p, x, y) VALUES ('a', 'a', NULL, 'a', 'a', 'a')"
    )
    assert accessor.relations(store, "t").unique == (("sure",), ("x", "y"), ("maybe",))


@pytest.mark.parametrize(
    ("sql", "assigned"),
    [
        ("CREATE TABLE t (k INTEGER PRIMARY KEY)", True),
        ("CREATE TABLE t (k INTEGER PRIMARY KEY AUTOINCREMENT)", True),
        ("CREATE TABLE t (k INT PRIMARY KEY)", False),
        ("CREATE TABLE t (k TEXT PRIMARY KEY)", False),
        ("CREATE TABLE t (k INTEGER PRIMARY KEY) WITHOUT ROWID", False),
        ("CREATE TABLE t (k)", False),
    ],
)
def test_the_rowid_is_numbered_by_the_store(make: Make, sql: str, assigned: bool) -> None:
    assert accessor.relations(make(sql), "t") == Relations(assigned=assigned)


# -- what is left out, what could be done ------------------------------------------------------------------


def test_views_and_what_is_no_data_are_left_out_with_the_reason(make: Make) -> None:
    store = make(
        "CREATE TABLE a (k); CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE f USING fts5 (x);"
        "CREATE TABLE _evsync_queue (n)"
    )
    left_out = accessor.left_out(store)
    assert left_out["v"] == "a view"
    assert left_out["_evsync_queue"] == "evsync's own"
    assert left_out["f_data"] == "part of a virtual table"
    assert not {"a", "f"} & left_out.keys()


def test_whether_a_table_could_be_created(tmp_path: Path) -> None:
    assert accessor.why_not_created(Store("crm", "sqlite:new.db", root=tmp_path)) is None
    found = accessor.why_not_created(Store("crm", "sqlite:no/new.db", root=tmp_path))
    assert found == f"there is no directory {tmp_path / 'no'}: make it first"
    assert list(tmp_path.iterdir()) == []


def test_triggers_are_a_way_to_capture_and_nothing_is_set_up_by_asking(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT PRIMARY KEY)", "t")
    before = store.path.read_bytes()
    assert accessor.ways(store) == [Way("triggers", "every change can be told by triggers")]
    assert store.path.read_bytes() == before


def test_what_capture_lacks_is_said(make: Make) -> None:
    store = make("CREATE VIEW v AS SELECT 1 AS k; CREATE VIRTUAL TABLE f USING fts5 (x)", "v", "f")
    [way] = accessor.ways(store)
    assert way.needs == (
        "v is a view, on which triggers cannot be set",
        "f is a virtual table, on which triggers cannot be set",
    )
