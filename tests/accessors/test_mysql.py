"""The accessor for MySQL and MariaDB: what every accessor promises, tables of every shape, and what can go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

import pymysql
import pytest
from mariadb_server import MariaDbServer, ask, connected, fresh_database
from one_table import bound, create, delete, rows, update
from projects import sql, synchronizer

from accessors import mysql_dialect, sql_dialect
from accessors.mysql import MySqlAccessor
from evsync import plugins
from evsync.accessor import HEADER, Change, Row, Verdict
from evsync.binding import Binding, Description, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import Refused, Retry, Unreachable
from evsync.store import Store
from evsync.testing.conformance import EDGES, THING, AccessorConformance, always, thing
from evsync.values import ABSENT

accessor = MySqlAccessor()


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="class")
def one_database() -> Iterator[str]:
    """For tests that each have a table with a name of its own."""
    with fresh_database() as url:
        yield url


class TestMySql(AccessorConformance):
    # What MySQL's types have no room for; that such values are refused is tested with the values.
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),  # BIGINT has 64 bits
        "float": (0.0, 1.0, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308),  # no NaN, no infinity, no -0.0
        "time": (time(0), time(12, 30), time.max),  # TIME has no offset
        # DATETIME has none either, unless the option zone says in which it is.
        "datetime": (datetime(1, 1, 1), datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.max),
    }
    options: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _database(self, one_database: str) -> None:
        self.url = one_database

    def make_store(self, tmp_path: Path) -> Store:
        places = {THING: PlaceSpec(options={"table": f"Things of {tmp_path.name} 100%"} | self.options)}
        store = Store("db", self.url, root=tmp_path, places=places, accessor=MySqlAccessor())
        store.bind(self.binding())
        return store


@pytest.mark.slow
class TestMySqlAssigningIds(TestMySql):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


@pytest.mark.slow
class TestMySqlInUtc(TestMySql):
    options: ClassVar[Mapping[str, str]] = {"zone": "utc"}
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **TestMySql.edges,
        "datetime": (
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        ),
    }


# -- tables of every shape ------------------------------------------------------------------------------

Make = Callable[..., Store]


def run(url: str | Store, *statements: str) -> list[Any]:
    return ask(url if isinstance(url, str) else url.url, *statements)


@pytest.fixture
def make(database: str) -> Make:
    """A store over the tables that some SQL makes, with the type "t" bound."""

    def made(
        *statements: str,
        key: str | tuple[str, ...] = "k",
        id: str | None = None,
        options: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Store:
        if statements:
            run(database, *statements)
        places = {"t": PlaceSpec(options=options)} if options else {}
        store = Store("crm", database, places=places, accessor=accessor)
        return bound(store, key, id, **fields)

    return made


@pytest.mark.parametrize(
    ("columns", "id"),
    [
        ("(k varchar(9) PRIMARY KEY, v text)", "a"),
        ("(n int AUTO_INCREMENT PRIMARY KEY, k varchar(9), v text)", 1),
        ("(n bigint unsigned AUTO_INCREMENT PRIMARY KEY, k varchar(9), v text)", 1),
        ("(n decimal(4,2) PRIMARY KEY DEFAULT 1.5, k varchar(9), v text)", "1.50"),
        ("(n char(3) PRIMARY KEY DEFAULT 'x', k varchar(9), v text)", "x"),
        ("(n uuid PRIMARY KEY DEFAULT '12345678-1234-5678-1234-567812345678', k varchar(9), v text)",
         "12345678-1234-5678-1234-567812345678"),
        ("(n date PRIMARY KEY DEFAULT '2024-01-01', k varchar(9), v text)", "2024-01-01"),
        ("(n binary(2) PRIMARY KEY DEFAULT 'ab', k varchar(9), v text)", "YWI="),
        ("(k varchar(9), v varchar(9), PRIMARY KEY (k, v))", None),
        ("(k varchar(9) UNIQUE NOT NULL, v text)", None),
    ],
)  # fmt: skip
def test_the_id_is_the_primary_key_if_it_has_one_column(make: Make, columns: str, id: Any) -> None:
    store = make(f"CREATE TABLE t {columns}", v="str")
    assert accessor.add(store, Data("t", {"k": "a", "v": "b"})).id == id
    assert rows(store) == [(id, None, None, None, "a", "b")]
    assert [data.id for data in accessor.find(store, "t")] == [id]
    if id is not None:
        found = accessor.get(store, "t", id)
        assert found is not None
        assert found.id == id
    accessor.remove(store, Data("t", {"k": "a"}, id=id))
    assert rows(store) == []


def test_the_binding_may_name_another_column_as_the_id(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, code varchar(9) UNIQUE)",
        "INSERT INTO t VALUES ('a', 'X1')",
        id="code",
    )
    assert rows(store) == [("X1", None, None, None, "a")]
    found = accessor.get(store, "t", "X1")
    assert found is not None
    assert found.fields == {"k": "a"}


@pytest.mark.parametrize("id", ["nobody", "1.5", "", "99999999999", "²", "-", 10**30, "a\0b", "\ud800", "1x"])
@pytest.mark.parametrize("kind", ["int", "varchar(40)", "uuid", "date"])
def test_an_id_that_no_record_can_have_leads_to_none(make: Make, kind: str, id: Any) -> None:
    one = {"int": "1", "varchar(40)": "one", "uuid": str(UUID(int=1)), "date": "2024-01-01"}[kind]
    store = make(
        f"CREATE TABLE t (n {kind} PRIMARY KEY, k varchar(9))", f"INSERT INTO t VALUES ('{one}', 'a')"
    )
    assert accessor.get(store, "t", id) is None
    outcomes = accessor.apply(store, "t", [delete(id), delete(one)])
    assert [outcome.state for outcome in outcomes] == ["written", "written"]
    assert rows(store) == []


@pytest.mark.parametrize(
    "columns",
    [
        "(k varchar(9) PRIMARY KEY, v text)",
        "(k varchar(9) UNIQUE NOT NULL, v text)",
        "(n int AUTO_INCREMENT PRIMARY KEY, k varchar(9), v text)",
        "(k varchar(9), v varchar(9), PRIMARY KEY (k, v))",
        "(a int DEFAULT 1, b int DEFAULT 2, k varchar(9) UNIQUE, v text, PRIMARY KEY (a, b, k))",
        "(n uuid PRIMARY KEY DEFAULT uuid(), k varchar(9), v text)",
        "(k varchar(9) PRIMARY KEY, v text) PARTITION BY KEY (k) PARTITIONS 2",
    ],
)
def test_a_table_of_any_shape_is_written(make: Make, columns: str) -> None:
    store = make(f"CREATE TABLE t {columns}", v="str")
    accessor.apply(store, "t", [create(k=k, v="1") for k in "abcde"])
    ids = {row[HEADER]: row[0] for row in rows(store)}
    outcomes = accessor.apply(
        store,
        "t",
        [
            update(ids["a"], {"k": "a"}, v="2"),
            update(ids["b"], {"k": "b"}, k="B", v="3"),
            delete(ids["c"], k="c"),
            update(None, {"k": "d"}, v="4"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert sorted(row[HEADER:] for row in rows(store)) == [("B", "3"), ("a", "2"), ("d", "4"), ("e", "1")]


def test_names_may_be_anything(make: Make) -> None:
    names = ("select", "a b?", "ro'w$1", "UP`PER", "%", "%s", "a:b", 'q"q')
    columns = ", ".join("`{}` varchar(9)".format(name.replace("`", "``")) for name in names[1:])
    table = 'my "table" `ü`.%s:x'
    store = make(
        "CREATE TABLE `{}` (`select` varchar(9) PRIMARY KEY, {})".format(table.replace("`", "``"), columns),
        key="select", options={"table": table}, **dict.fromkeys(names[1:], "str"),
    )  # fmt: skip
    given = {name: name for name in names}
    accessor.add(store, Data("t", given))
    outcome = accessor.apply(store, "t", [update("select", {"select": "select"}, **{"a b?": "y"})])[0]
    assert outcome.row is not None
    assert dict(zip(store.binding("t").locals, outcome.row[HEADER:], strict=True)) == given | {"a b?": "y"}
    assert rows(store) == [outcome.row]
    assert [data.id for data in accessor.find(store, "t", {"%": "%"})] == ["select"]
    accessor.remove(store, Data("t", {"select": "select"}))
    assert rows(store) == []
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([[given[name] for name in store.binding("t").locals]])
    assert len(rows(store)) == 1
    assert list(accessor.discover(store)) == [table]


def test_a_table_may_be_in_another_database(make: Make) -> None:
    with fresh_database() as other:
        name = other.rpartition("/")[2]
        store = make(f"CREATE TABLE `{name}`.t (k varchar(9) PRIMARY KEY)", options={"schema": name})
        accessor.add(store, Data("t", {"k": "a"}))
        assert [row[0] for row in rows(store)] == ["a"]
        assert run(other, "SELECT k FROM t") == [("a",)]


def test_a_composite_key_is_found_whatever_its_types(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9), l int, m timestamp(6), v text, PRIMARY KEY (k, l, m))",
        key=("k", "l", "m"), l="int", m="datetime", v="str",
    )  # fmt: skip
    noon, east = datetime(2024, 1, 1, 12, tzinfo=UTC), timezone(timedelta(hours=2))
    keys = [{"k": k, "l": n, "m": noon} for k in "ab" for n in (1, 2)]
    accessor.apply(
        store, "t", [Change("create", None, one, one | {"v": ""}, always("write")) for one in keys]
    )
    outcomes = accessor.apply(
        store,
        "t",
        [
            update(None, {"k": "b", "l": 1, "m": noon.astimezone(east)}, v="x"),
            update(None, {"k": "a", "l": 2, "m": noon}, l=3),
            update(None, {"k": "nobody", "l": 2**40, "m": noon}, l=3),
            delete(None, k="a", l=1, m=noon),
        ],
    )
    assert [outcome.state for outcome in outcomes] == ["written", "written", "failed", "written"]
    assert sorted((row[HEADER], row[HEADER + 1], row[-1]) for row in rows(store)) == [
        ("a", 3, ""), ("b", 1, "x"), ("b", 2, ""),
    ]  # fmt: skip


def test_a_key_is_found_in_another_spelling_of_it(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k decimal(10,2) PRIMARY KEY, v int)", "INSERT INTO t VALUES (1.5, 1)",
        k="decimal", v="int",
    )  # fmt: skip
    [outcome] = accessor.apply(store, "t", [update(None, {"k": Decimal("1.5")}, v=2)])
    assert outcome.row is not None
    assert outcome.row[HEADER:] == (Decimal("1.50"), 2)
    assert accessor.get_by_name(store, "t", {"k": Decimal("15E-1")}) is not None
    assert [data.id for data in accessor.find(store, "t", {"k": Decimal("1.500")})] == ["1.50"]


@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_bin"])
def test_keys_that_are_one_to_the_database_are_never_written_over(make: Make, collation: str) -> None:
    store = make(
        f"CREATE TABLE t (k varchar(9) COLLATE {collation} PRIMARY KEY, v int)",
        "INSERT INTO t VALUES ('ann', 1), ('blank ', 1)",
        v="int",
    )
    other = {"utf8mb4_general_ci": "Ann", "utf8mb4_bin": "blank"}[collation]  # _bin pads with blanks
    assert accessor.get_by_name(store, "t", {"k": other}) is None
    assert accessor.get(store, "t", other) is None
    assert list(accessor.find(store, "t", {"k": other})) == []
    created, changed, deleted, good = accessor.apply(
        store,
        "t",
        [create(k=other, v=2), update(None, {"k": other}, v=2), delete(None, k=other), create(k="c")],
    )
    assert [outcome.state for outcome in (created, changed, deleted, good)] == [
        "failed", "failed", "written", "written",
    ]  # fmt: skip
    assert "Duplicate" in str(created.error)
    assert sorted(row[HEADER:] for row in rows(store)) == [("ann", 1), ("blank ", 1), ("c", None)]
    [renamed] = accessor.apply(store, "t", [update("ann", {"k": "ann"}, k="ANN")])
    assert renamed.error is None


def test_generated_columns_are_read_and_never_written(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, s varchar(20) AS (concat(k, k)) STORED, v int)",
        s="str",
        v="int",
    )
    [outcome] = accessor.apply(store, "t", [create(k="a", s="other", v=1)])
    assert outcome.row == ("a", None, None, None, "a", "aa", 1)
    assert not outcome.exact
    accessor.update(store, Data("t", {"k": "b", "s": "other"}, id="a"))
    assert rows(store) == [("b", None, None, None, "b", "bb", 1)]
    described = accessor.describe(store, "t")
    assert described is not None
    assert (list(described.columns), described.generated) == (["k", "s", "v"], frozenset({"s"}))


def test_invisible_columns_are_columns(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int INVISIBLE)", v="int")
    accessor.apply(store, "t", [create(k="a", v=1)])
    assert rows(store) == [("a", None, None, None, "a", 1)]
    assert accessor.describe(store, "t") == Description({"k": "str", "v": "int"}, ("k",))


def test_a_number_counts_on_unless_a_value_is_given(make: Make) -> None:
    store = make("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9) UNIQUE)", n="int")
    outcomes = accessor.apply(
        store,
        "t",
        [
            create(k="a"),
            create(k="b", n=7),
            create(k="z", n=0),
            create(k="c", n=None),
            create(k="d", n=ABSENT),
        ],
    )
    assert [outcome.id for outcome in outcomes] == [1, 7, 0, 8, 9]
    assert accessor.update(store, Data("t", {"k": "B", "n": 7}, id=7)).fields == {"k": "B", "n": 7}
    assert accessor.update(store, Data("t", {"n": 18}, id=7)).id == 18


def test_a_record_of_which_only_the_database_knows_the_key_is_found_again(make: Make) -> None:
    store = make("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9), v int)", v="int")
    one, two = accessor.apply(store, "t", [create(k=None, v=1), create(k=None, v=2)])
    assert (one.id, two.id) == (1, 2)
    assert [row[-1] for row in rows(store)] == [1, 2]


def test_a_view_is_read_but_not_written(make: Make) -> None:
    store = make(
        "CREATE TABLE x (k varchar(9))", "INSERT INTO x VALUES ('a')", "CREATE VIEW t AS SELECT k FROM x"
    )
    assert rows(store) == [(None, None, None, None, "a")]
    assert accessor.get_by_name(store, "t", {"k": "a"}) is not None
    with pytest.raises(Unreachable, match="view"):
        accessor.add(store, Data("t", {"k": "b"}))
    with pytest.raises(Unreachable, match="view"), accessor.loading(store, "t"):
        pass
    assert "view" in (accessor.check(store, "t") or "")


def test_a_table_without_any_key_is_read_but_not_written(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9))", "INSERT INTO t VALUES ('a'), ('a'), (NULL)")
    assert [row[HEADER] for row in rows(store)] == ["a", "a", None]
    with pytest.raises(Unreachable, match="no key") as caught:
        accessor.add(store, Data("t", {"k": "b"}))
    assert "primary key" in caught.value.hint
    assert "no key" in (accessor.check(store, "t") or "")


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_a_table_without_transactions_is_read_but_not_written(make: Make, engine: str) -> None:
    store = make(f"CREATE TABLE t (k varchar(9) PRIMARY KEY) ENGINE = {engine}", "INSERT INTO t VALUES ('a')")
    assert [row[0] for row in rows(store)] == ["a"]
    with pytest.raises(Unreachable, match=f"{engine}.*undo") as caught:
        accessor.apply(store, "t", [create(k="b")])
    assert "InnoDB" in caught.value.hint
    assert engine in (accessor.check(store, "t") or "")


def test_changed_at_and_changed_by_are_told(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, changed_at timestamp NULL, changed_by varchar(9))",
        "INSERT INTO t VALUES ('a', '2024-01-02 03:04:05', 'ann'), ('b', NULL, NULL)",
        changed_at="datetime", changed_by="str",
    )  # fmt: skip
    assert rows(store)[0] == ("a", None, "2024-01-02 03:04:05+00:00", "ann", "a")
    one, two = accessor.find(store, "t")
    assert (one.changed_at, one.changed_by) == (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "ann")
    assert (two.changed_at, two.changed_by) == (None, None)


def test_find_matches_null_and_nothing_that_cannot_be(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v int, w uuid)",
        "INSERT INTO t (k, v) VALUES ('a', 1), ('b', NULL)",
        v="int", w="uuid",
    )  # fmt: skip
    assert [data.id for data in accessor.find(store, "t", {"v": None})] == ["b"]
    assert [data.id for data in accessor.find(store, "t", {"v": 1})] == ["a"]
    assert list(accessor.find(store, "t", {"v": 2**70})) == []
    assert list(accessor.find(store, "t", {"k": "a\0b"})) == []
    assert list(accessor.find(store, "t", {"k": "\ud800"})) == []
    with pytest.raises(Refused):
        list(accessor.find(store, "t", {"x": 1}))


def test_more_records_than_a_statement_takes(make: Make) -> None:
    store = make("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9) UNIQUE, v int)", v="int")
    names = [f"k{number}" for number in range(3001)]
    created = accessor.apply(store, "t", [create(k=k, v=1) for k in names])
    assert [(o.state, o.exact) for o in created] == [("written", True)] * 3001
    assert len({outcome.id for outcome in created}) == 3001
    by_id = [update(o.id, {"k": k}, v=2) for o, k in zip(created, names, strict=True)][:601]
    by_name = [update(None, {"k": k}, v=2) for k in names[601:]]
    assert {outcome.state for outcome in accessor.apply(store, "t", by_id + by_name)} == {"written"}
    assert run(store, "SELECT v, count(*) FROM t GROUP BY v") == [(2, 3001)]
    outcomes = accessor.apply(store, "t", [delete(None, k=k) for k in names])
    assert {(outcome.state, outcome.row) for outcome in outcomes} == {("written", None)}
    assert rows(store) == []


# -- what apply answers ---------------------------------------------------------------------------------


def test_what_is_stored_as_given_is_not_told_again(make: Make) -> None:
    store = make("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9), v double)", v="float")
    whole, part, null, absent = accessor.apply(
        store, "t", [create(k="a", v=1.5), create(k="b"), create(k="c", v=None), create(k="d", v=ABSENT)]
    )
    assert (whole.state, whole.exact, whole.row, whole.id) == ("written", True, None, 1)
    assert (part.exact, part.row, part.id) == (False, (2, None, None, None, "b", None), 2)
    assert (null.exact, null.row, null.id) == (True, None, 3)
    assert (absent.exact, absent.row) == (False, (4, None, None, None, "d", None))


TRIGGER = "CREATE TRIGGER x {} ON t FOR EACH ROW {}"


def test_what_a_trigger_makes_of_a_record_is_told(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v varchar(9))",
        TRIGGER.format("BEFORE INSERT", "SET new.v = upper(new.v)"),
        v="str",
    )
    [outcome] = accessor.apply(store, "t", [create(k="a", v="b")])
    assert (outcome.exact, outcome.row) == (False, ("a", None, None, None, "a", "B"))
    assert accessor.add(store, Data("t", {"k": "d", "v": "e"})).fields == {"k": "d", "v": "E"}


def test_beside_a_trigger_a_column_still_alters_nothing_in_silence(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v decimal(10,2), w char(3), at datetime)",
        TRIGGER.format("BEFORE INSERT", "SET new.at = '2024-01-01'"),
        v="decimal", w="str", at="datetime",
    )  # fmt: skip
    given = datetime(2000, 1, 1)
    good, *bad = accessor.apply(
        store,
        "t",
        [
            create(k="a", v=Decimal("1.5"), at=given), create(k="b", v=Decimal("1.005"), at=given),
            create(k="c", w="a ", at=given), create(k="d", at=given.replace(microsecond=1)),
        ],
    )  # fmt: skip
    assert good.row == ("a", None, None, None, "2024-01-01 00:00:00", "a", Decimal("1.50"), None)
    assert [type(outcome.error) for outcome in bad] == [Refused] * 3


def test_a_record_whose_key_a_trigger_alters_is_refused(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY)",
        TRIGGER.format("BEFORE INSERT", "SET new.k = concat(new.k, 'x')"),
    )
    outcomes = accessor.apply(store, "t", [create(k="a")])
    assert "not found again" in str(outcomes[0].error)
    assert rows(store) == []


def test_refused_records_leave_the_others_written(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v int CHECK (v < 5), w varchar(3))",
        TRIGGER.format(
            "BEFORE INSERT", "IF new.k = 'g' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no g'; END IF"
        ),
        v="int", w="str",
    )  # fmt: skip
    outcomes = accessor.apply(
        store,
        "t",
        [
            create(k="a", v=1), create(k="b", v=9), create(k="c", w="long"), create(k="d", w="\ud800"),
            create(k="e", v=2**40), create(k="f", v=2), create(k="g", v=2), create(k="h", v=None, w="ok"),
        ],
    )  # fmt: skip
    assert [outcome.state for outcome in outcomes] == [
        "written", "failed", "failed", "failed", "failed", "written", "failed", "written",
    ]  # fmt: skip
    assert {type(outcome.error) for outcome in outcomes} == {type(None), Refused}
    assert "CONSTRAINT" in str(outcomes[1].error)
    assert "'w' (varchar(3)) cannot hold '\\ud800'" in str(outcomes[3].error)
    assert "no g" in str(outcomes[6].error)
    assert run(store, "SELECT k FROM t ORDER BY k") == [("a",), ("f",), ("h",)]


def test_many_refused_records_among_many(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int CHECK (v % 7 <> 3))", v="int")
    outcomes = accessor.apply(store, "t", [create(k=str(n), v=n) for n in range(60)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.state == "failed"] == list(range(3, 60, 7))
    assert len(rows(store)) == 60 - len(range(3, 60, 7))


def test_a_second_record_of_one_key_is_refused_even_without_a_constraint(make: Make) -> None:
    store = make(
        "CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9))", "INSERT INTO t VALUES (1, 'a')"
    )
    one, two, three = accessor.apply(store, "t", [create(k="a"), create(k="b"), create(k="b")])
    assert isinstance(one.error, Refused)
    assert (two.state, three.state) == ("written", "failed")
    with pytest.raises(Refused, match="already"):
        accessor.add(store, Data("t", {"k": "a"}))
    assert [row[HEADER] for row in rows(store)] == ["a", "b"]


def test_a_key_may_be_given_up_and_taken_in_one_batch(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int)", "INSERT INTO t VALUES ('a', 1)", v="int")
    outcomes = accessor.apply(
        store, "t", [update("a", {"k": "a"}, k="b"), create(k="c", v=2), delete("c", k="c")]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "written", "written"]
    assert [row[HEADER:] for row in rows(store)] == [("b", 1), ("c", 2)]  # "c" was not there to delete


def test_an_orphan_is_refused_and_the_others_are_written(make: Make) -> None:
    store = make(
        "CREATE TABLE parent (p varchar(9) PRIMARY KEY)",
        "INSERT INTO parent VALUES ('p')",
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, p varchar(9) REFERENCES parent (p))",
        p="str",
    )
    outcomes = accessor.apply(
        store, "t", [create(k="a", p="p"), create(k="b", p="nobody"), create(k="c", p=None)]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
    assert isinstance(outcomes[1].error, Refused)
    assert {row[HEADER] for row in rows(store)} == {"a", "c"}


def test_a_record_larger_than_the_server_takes_is_refused_alone(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v longblob)", v="bytes")
    large = bytes(run(store, "SELECT @@max_allowed_packet")[0][0])
    one, two = accessor.apply(store, "t", [create(k="a", v=large), create(k="b", v=b"x")])
    assert isinstance(one.error, Refused)
    assert "max_allowed_packet" in one.error.hint
    assert two.state == "written"


def test_an_unknown_column_is_refused_with_the_nearest(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, colour text)")
    with pytest.raises(Refused) as caught:
        accessor.add(store, Data("t", {"k": "a", "color": "red"}))
    assert "'colour'" in caught.value.hint


# -- changed meanwhile ----------------------------------------------------------------------------------


def test_an_update_over_a_change_made_meanwhile_is_refused(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v int, other int)",
        "INSERT INTO t VALUES ('a', 1, 0)",
        v="int",
    )
    old = accessor.get_by_name(store, "t", {"k": "a"})
    run(store, "UPDATE t SET other = 9")
    accessor.update(store, Data("t", {"v": 2}, id="a"), old)  # a column that is not ours may change
    with pytest.raises(Refused, match="meanwhile"):
        accessor.update(store, Data("t", {"v": 3}, id="a"), old)
    assert run(store, "SELECT * FROM t") == [("a", 2, 9)]


def test_what_is_judged_cannot_change_before_it_is_written(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int)", "INSERT INTO t VALUES ('a', 1)", v="int")
    seen: list[Any] = []

    def judge(row: Row | None) -> Verdict:
        assert row is not None
        seen.append(row[-1])
        with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
            run(store, "SET innodb_lock_wait_timeout = 0", "UPDATE t SET v = 9")
        return "write"

    [outcome] = accessor.apply(store, "t", [Change("update", None, {"k": "a"}, {"v": 2}, judge)])
    assert (outcome.state, seen) == ("written", [1])
    assert run(store, "SELECT v FROM t") == [(2,)]


# -- loading --------------------------------------------------------------------------------------------


def test_a_batch_with_a_record_that_cannot_be_is_not_written_at_all(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, v int CHECK (v < 5), w decimal(4,2))", v="int", w="decimal"
    )
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([["a", 1, None]])
        for bad in (
            ["b", 9, None], ["b\ud800", 1, None], ["a", 1, None], [None, 1, None], ["b", 2**40, None],
            ["b", 1, Decimal("1.005")], ["b", 1, Decimal("1.5")],
        ):  # fmt: skip
            assert not load([["good", 1, None], bad])
        assert load([["c", 1, Decimal("1.50")]])
    assert [row[0] for row in rows(store)] == ["a", "c"]


def test_a_record_that_somebody_else_added_meanwhile_is_not_loaded_over(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int)", v="int")
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([["a", 1]])
        run(store, "INSERT INTO t VALUES ('b', 7)")
        assert not load([["b", 1], ["c", 1]])
    assert sorted(row[HEADER:] for row in rows(store)) == [("a", 1), ("b", 7)]


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE t (n int AUTO_INCREMENT PRIMARY KEY, k varchar(9) UNIQUE, v text)",),
        ("CREATE TABLE t (k varchar(9) PRIMARY KEY, v text AS (k))",),
        ("CREATE TABLE t (k varchar(9) PRIMARY KEY, v text)", TRIGGER.format("BEFORE INSERT", "SET new.v = 'x'")),
    ],
)  # fmt: skip
def test_a_table_that_may_store_something_else_is_not_loaded(make: Make, statements: tuple[str, ...]) -> None:
    with accessor.loading(make(*statements, v="str"), "t") as load:
        assert load is None


# -- what the tables say of themselves ------------------------------------------------------------------


def test_describe_tells_types_and_keys_in_the_tables_order(make: Make) -> None:
    store = make("CREATE TABLE t (z int, a varchar(9), k varchar(9), b bool, m json, PRIMARY KEY (k, a))")
    described = accessor.describe(store, "t")
    assert described == Description(
        {"z": "int", "a": "str", "k": "str", "b": "bool", "m": "json"}, ("k", "a")
    )
    assert list(described.columns) == ["z", "a", "k", "b", "m"]


def test_describe_of_what_is_not_there_is_none(make: Make) -> None:
    assert accessor.describe(make("CREATE TABLE x (k text)"), "t") is None


def test_discover_names_the_tables(make: Make) -> None:
    store = make("CREATE TABLE b (n int)", "CREATE TABLE a (k int)", "CREATE VIEW v AS SELECT 1")
    assert accessor.discover(store) == {"a": {}, "b": {}}


def test_create_makes_a_table_that_has_ids_of_its_own_or_is_known_by_its_key(make: Make) -> None:
    store = make(key=("k", "l"), l="decimal", v="json", options={"table": "x"})
    accessor.create(store, "t")
    assert accessor.describe(store, "t") == Description({"k": "str", "l": "decimal", "v": "json"}, ("k", "l"))
    given = {"k": "a ", "l": Decimal("1.50"), "v": [1]}
    assert accessor.add(store, Data("t", given)).fields["l"] == "1.50"
    accessor.add(store, Data("t", given | {"k": "a"}))
    accessor.add(store, Data("t", given | {"k": "A"}))  # letters and blanks count
    store = make(id="id", v="datetime", changed_at="datetime", changed_by="str")
    accessor.create(store, "t")
    assert accessor.describe(store, "t") == Description(
        {"id": "int", "k": "str", "v": "datetime", "changed_at": "datetime", "changed_by": "str"}, ("id",)
    )
    assert accessor.add(store, Data("t", {"k": "a"})).id == 1
    outcomes = accessor.apply(store, "t", [create(k="b"), create(k="b")])
    assert [outcome.state for outcome in outcomes] == ["written", "failed"]


# -- what can go wrong ----------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_dialect, "LOCK_SECONDS", 0.01)


READING: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: accessor.get(store, "t", 1),
    "get_by_name": lambda store: accessor.get_by_name(store, "t", {"k": "a"}),
    "find": lambda store: list(accessor.find(store, "t")),
    "scan": rows,
}
WRITING: dict[str, Callable[[Store], Any]] = {
    "add": lambda store: accessor.add(store, Data("t", {"k": "a"})),
    "update": lambda store: accessor.update(store, Data("t", {"k": "a"})),
    "remove": lambda store: accessor.remove(store, Data("t", {"k": "a"})),
    "apply": lambda store: accessor.apply(store, "t", [create(k="a")]),
    "loading": lambda store: accessor.loading(store, "t").__enter__(),
}
OPERATIONS = READING | WRITING
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def told(error: BaseException) -> str:
    """Everything that a report or a traceback would show of an error."""
    return "".join(traceback.format_exception(error)) + getattr(error, "hint", "")


@every_operation
def test_a_server_that_does_not_answer_is_unreachable(make: Make, operation: Callable[[Store], Any]) -> None:
    store = make()
    store.url = store.shown_url = "mysql://me:geheim@127.0.0.1:1/db"
    with pytest.raises(Unreachable, match="does not answer") as caught:
        operation(store)
    assert "geheim" not in told(caught.value)
    assert "me:***@127.0.0.1:1/db" in told(caught.value)


@pytest.mark.parametrize("sign", ["@", "/", ":", "%", "?", "#", " "])
def test_not_even_a_part_of_a_password_is_told(make: Make, sign: str) -> None:
    store = make()
    store.url = store.shown_url = f"mysql://me:ge{sign}heim@127.0.0.1:1/db"
    with pytest.raises(Unreachable) as caught:
        rows(store)
    assert "heim" not in told(caught.value)


def test_all_schemes_lead_to_a_database(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY)")
    for scheme in ("mysql", "mariadb"):
        store.url = f"{scheme}:{store.url.partition(':')[2]}"
        assert rows(store) == []
        assert isinstance(plugins.accessor(scheme), MySqlAccessor)


def test_a_url_that_cannot_be_is_explained(make: Make) -> None:
    store = make()
    store.url = store.shown_url = store.url + "?colour=red"
    with pytest.raises(Unreachable, match="colour"):
        rows(store)


@pytest.fixture
def user(database: str) -> Iterator[str]:
    """The URL of the same database for a user who may connect, and nothing else."""
    if "EVSYNC_TEST_MARIADB" in os.environ:
        pytest.skip("makes users, and needs to know how they are let in")
    parts = urlsplit(database)
    name = parts.path.lstrip("/")
    run(database, f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY 'right'")
    yield f"mysql://{name}:right@127.0.0.1:{parts.port}/{name}"
    run(database, f"DROP USER '{name}'@'127.0.0.1'")


def test_a_port_that_is_no_number_is_told_as_that_of_a_url() -> None:
    store = bound(Store("crm", "mysql://u:geheim@127.0.0.1:abc/db", accessor=accessor))
    with pytest.raises(Unreachable, match="the url is not one") as caught:
        rows(store)
    assert "geheim" not in told(caught.value)


def test_a_server_that_is_frozen_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MariaDbServer()
    try:
        server.start()
        ask(server.url, "CREATE DATABASE app")
        monkeypatch.setattr(mysql_dialect, "CONNECT_SECONDS", 1)
        store = bound(
            Store("crm", server.url.replace("/mysql", "/app"), places={"t": PlaceSpec()}, accessor=accessor)
        )
        assert server._process is not None
        server._process.send_signal(signal.SIGSTOP)
        with pytest.raises(Unreachable, match="does not answer"):
            rows(store)
        server._process.send_signal(signal.SIGCONT)
    finally:
        server.close()


def test_a_wrong_password_is_unreachable_and_not_told(make: Make, user: str) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY)")
    store.url = store.shown_url = user.replace(":right@", ":geheim@")
    with pytest.raises(Unreachable, match="does not let us in") as caught:
        rows(store)
    assert "geheim" not in told(caught.value)


def test_missing_rights_are_told(make: Make, user: str) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY)", "INSERT INTO t VALUES ('a')")
    database, name = store.url, user.rpartition("/")[2]
    store.url = store.shown_url = user
    with pytest.raises(Unreachable, match="does not let us"):
        rows(store)
    run(database, f"GRANT SELECT ON t TO '{name}'@'127.0.0.1'")
    assert [row[0] for row in rows(store)] == ["a"]
    with pytest.raises(Unreachable, match="does not let us") as caught:
        accessor.apply(store, "t", [create(k="b")])
    assert "GRANT" in caught.value.hint
    assert "INSERT" in (accessor.check(store, "t") or "")
    run(database, f"GRANT INSERT, UPDATE, DELETE ON t TO '{name}'@'127.0.0.1'")
    assert accessor.check(store, "t") is None
    assert [done.state for done in accessor.apply(store, "t", [create(k="b")])] == ["written"]
    own = store.url
    store.url = database
    accessor.install(store)
    store.url = own
    run(database, f"GRANT SELECT ON _evsync_written TO '{name}'@'127.0.0.1'")
    with pytest.raises(Unreachable, match=r"INSERT.* command denied") as caught:
        accessor.apply(store, "t", [create(k="c")])
    assert "GRANT INSERT, UPDATE ON `_evsync_written`" in caught.value.hint
    run(database, f"GRANT INSERT, UPDATE ON _evsync_written TO '{name}'@'127.0.0.1'")
    run(database, "SET GLOBAL read_only = ON")
    try:
        assert "read-only" in (accessor.check(store, "t") or "")
        with pytest.raises(Unreachable, match="read-only"):
            accessor.add(store, Data("t", {"k": "b"}))
    finally:
        run(database, "SET GLOBAL read_only = OFF")


def test_an_unknown_database_is_unreachable(make: Make) -> None:
    store = make()
    store.url = store.url.rpartition("/")[0] + "/nowhere"
    with pytest.raises(Unreachable, match="no such database"):
        accessor.describe(store, "t")


@every_operation
def test_a_missing_table_is_unreachable_and_the_nearest_is_named(
    make: Make, operation: Callable[[Store], Any]
) -> None:
    store = make("CREATE TABLE customers (k text)", options={"table": "customer"})
    with pytest.raises(Unreachable, match="'customer'") as caught:
        operation(store)
    assert caught.value.hint == "did you mean 'customers'?"


def test_a_missing_column_is_unreachable_never_a_constant(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9), colour text)", color="str")
    with pytest.raises(Unreachable, match="'color'") as caught:
        rows(store)
    assert "'colour'" in caught.value.hint


def test_a_locked_table_is_a_retry(make: Make, impatient: None) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY)")
    with closing(connected(store.url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES t WRITE")
        for operation in (READING["scan"], WRITING["apply"]):
            with pytest.raises(Retry, match="locked"):
                operation(store)


def test_a_locked_row_is_a_retry_and_hinders_no_reader(make: Make, impatient: None) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int)", "INSERT INTO t VALUES ('a', 1)", v="int")
    with closing(connected(store.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 2")
        assert [row[-1] for row in rows(store)] == [1]
        for write in (
            lambda: accessor.update(store, Data("t", {"v": 3}, id="a")),
            lambda: accessor.remove(store, Data("t", {}, id="a")),
            lambda: accessor.apply(store, "t", [update("a", {"k": "a"}, v=3)]),
        ):
            with pytest.raises(Retry):
                write()


def test_a_deadlock_is_a_retry_of_the_whole_batch(make: Make) -> None:
    deadlock = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'"
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY)",
        TRIGGER.format("BEFORE INSERT", f"IF new.k = 'b' THEN {deadlock}; END IF"),
    )
    with pytest.raises(Retry, match="Deadlock"):
        accessor.apply(store, "t", [create(k="a"), create(k="b")])
    assert rows(store) == []


def test_a_scan_that_is_cut_off_is_an_error_never_the_end(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT seq, repeat('x', 1000) FROM seq_1_to_20000",
        k="int", v="str",  # 20 MB: more than is on its way
    )  # fmt: skip
    scan = accessor.scan(store, "t")
    next(scan)
    for (number,) in run(
        store,
        "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    ):
        run(store, f"KILL {number}")
    with pytest.raises(Unreachable, match="does not answer any more"):
        list(scan)


def test_a_connection_lost_while_writing_writes_nothing(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY, v int)", "INSERT INTO t VALUES ('a', 1)", v="int")

    def judge(row: Row | None) -> Verdict:
        for (number,) in run(
            store,
            "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
        ):
            run(store, f"KILL {number}")
        return "write"

    with pytest.raises(Unreachable, match="does not answer any more"):
        accessor.apply(
            store, "t", [update("a", {"k": "a"}, v=2), Change("create", None, {"k": "b"}, {"k": "b"}, judge)]
        )
    assert rows(store) == [("a", None, None, None, "a", 1)]


def test_a_scan_that_is_left_leaves_nothing_behind(make: Make) -> None:
    store = make("CREATE TABLE t (k varchar(9) PRIMARY KEY)", "INSERT INTO t SELECT seq FROM seq_1_to_10000")
    for reading in (
        accessor.scan(store, "t"),
        accessor.find(store, "t"),
        accessor.find(store, "t", {"k": "5"}),
    ):
        next(reading)
        reading.close()  # type: ignore[attr-defined]
    run(store, "SET lock_wait_timeout = 5", "DROP TABLE t")


def test_the_settings_of_a_server_change_no_value(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY, z timestamp NULL, v varchar(9))",
        "SET GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', GLOBAL time_zone = '+05:00'",
        z="datetime", v="str",
    )  # fmt: skip
    try:
        accessor.add(store, Data("t", {"k": "a", "z": datetime(2024, 1, 1, tzinfo=UTC), "v": 'a"b\\'}))
        assert rows(store) == [("a", None, None, None, "a", 'a"b\\', "2024-01-01 00:00:00+00:00")]
        with pytest.raises(Refused):
            accessor.add(store, Data("t", {"k": "b", "v": "longer than nine"}))
    finally:
        run(store, "SET GLOBAL sql_mode = DEFAULT, GLOBAL time_zone = DEFAULT")


def test_without_the_driver_what_to_install_is_told() -> None:
    program = (
        "import sys; sys.modules['{}'] = None\n"
        "from evsync import plugins\nfrom evsync.errors import ConfigError\n"
        "try: plugins.accessor('mysql')\n"
        "except ConfigError as error: print(error.message, error.hint)"
    )
    for module in ("pymysql", "sqlalchemy"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(module)], capture_output=True, text=True, check=True
        )
        assert module in done.stdout
        assert "pip install 'evsync[mysql]'" in done.stdout


@pytest.mark.slow
def test_a_server_that_crashed_and_came_back_has_what_was_written() -> None:
    server = MariaDbServer(innodb_flush_log_at_trx_commit="1")
    try:
        server.start()
        store = Store("crm", server.url.replace("/mysql", "/evsync"), accessor=accessor)
        run(server.url, "CREATE DATABASE evsync")
        store.bind(Binding("t", ("k",), (Field("k", "k", "str"),)))
        accessor.create(store, "t")
        accessor.apply(store, "t", [create(k="a")])
        server.kill()
        with pytest.raises(Unreachable):
            rows(store)
        server.start()
        assert [row[0] for row in rows(store)] == ["a"]
        server.restart()
        assert [row[0] for row in rows(store)] == ["a"]
    finally:
        server.close()


# -- with other stores ----------------------------------------------------------------------------------


def test_sqlite_and_mysql_stay_in_step(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE clients (id int AUTO_INCREMENT PRIMARY KEY, email varchar(40) UNIQUE NOT NULL,"
        " full_name text, balance numeric(10,2), active boolean, joined date)",
        "INSERT INTO clients (email, full_name, balance, active, joined)"
        " VALUES ('ann@x', 'Ann', 1.50, true, '2024-02-29'), ('bob@x', NULL, NULL, false, NULL)",
    )
    crm = tmp_path / "crm.db"
    sql(
        crm,
        "CREATE TABLE customer (email TEXT PRIMARY KEY, name TEXT, balance DECIMAL TEXT, active BOOLEAN, joined DATE)",
    )
    sql(crm, "INSERT INTO customer VALUES ('cid@x', 'Cid', '7.25', 1, '2023-01-01')")
    config = f"""
        [types.customer]
        key = ["email"]
        fields = {{ email = "str", name = "str", balance = "decimal", active = "bool", joined = "date" }}
        [stores.shop]
        url = "{database}"
        [stores.shop.types.customer]
        table = "clients"
        fields = {{ name = "full_name" }}
        [stores.crm]
        url = "sqlite:crm.db"
        types.customer = {{}}
    """
    everybody = "SELECT email, full_name, cast(balance AS char), active FROM clients ORDER BY email"
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        assert run(database, everybody) == [
            ("ann@x", "Ann", "1.50", 1), ("bob@x", None, None, 0), ("cid@x", "Cid", "7.25", 1),
        ]  # fmt: skip
        run(database, "UPDATE clients SET balance = 2.00 WHERE email = 'ann@x'")
        run(database, "DELETE FROM clients WHERE email = 'cid@x'")
        sql(crm, "UPDATE customer SET name = 'Anne' WHERE email = 'ann@x'")
        sql(crm, "INSERT INTO customer VALUES ('eve@x', 'Eve', '3.005', 0, NULL)")  # too fine for the shop
        sync.sync()
        assert run(database, everybody) == [("ann@x", "Anne", "2.00", 1), ("bob@x", None, None, 0)]
        assert sql(crm, "SELECT email, balance FROM customer ORDER BY email") == [
            ("ann@x", "2.00"), ("bob@x", None), ("eve@x", "3.005"),
        ]  # fmt: skip
        [failure] = sync.failures("shop")
        assert "cannot hold Decimal('3.005')" in str(failure)
        sql(crm, "UPDATE customer SET balance = '3.01' WHERE email = 'eve@x'")
        sync.sync()
        assert ("eve@x", "Eve", "3.01", 0) in run(database, everybody)
        assert sync.verify()["ok"]


def test_a_new_table_is_made_and_filled_from_another_store(database: str, tmp_path: Path) -> None:
    crm = tmp_path / "crm.db"
    sql(crm, "CREATE TABLE thing (k TEXT PRIMARY KEY, n INTEGER, d DECIMAL TEXT, j JSON TEXT)")
    for number in range(3):
        sql(crm, "INSERT INTO thing VALUES (?, ?, ?, ?)", f"k{number}", number, "1.50", '{"a": [1]}')
    config = f"""
        [types.thing]
        key = ["k"]
        [stores.crm]
        url = "sqlite:crm.db"
        types.thing = {{}}
        [stores.copy]
        url = "{database}"
        types.thing = {{ table = "Copied things" }}
    """
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
    assert run(database, "SELECT k, n, d, j FROM `Copied things` ORDER BY k") == [
        (f"k{number}", number, "1.50", '{"a":[1]}') for number in range(3)
    ]
