"""The PostgreSQL accessor: what every accessor promises, tables of every shape, and what can go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from postgres_server import WITH_PASSWORD, PostgresServer, database_url, fresh_database
from projects import sql, synchronizer

from accessors import postgres_connection
from accessors.postgres import PostgresAccessor
from evsync import plugins
from evsync.accessor import HEADER, Change, Row, Verdict
from evsync.binding import Binding, Description, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import Refused, Retry, Unreachable
from evsync.store import Store
from evsync.testing.conformance import EDGES, THING, AccessorConformance, always, thing
from evsync.values import ABSENT

accessor = PostgresAccessor()

only_our_server = pytest.mark.skipif(
    "EVSYNC_TEST_POSTGRES" in os.environ, reason="makes roles, and needs to know how they are let in"
)


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture(scope="class")
def one_database() -> Iterator[str]:
    """For tests that each have a table with a name of its own."""
    with fresh_database() as url:
        yield url


class TestPostgres(AccessorConformance):
    # What PostgreSQL's types have no room for; that such values are refused is tested below.
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "str": tuple(text for text in EDGES["str"] if "\0" not in text),  # no text holds NUL
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),  # bigint has 64 bits
        # numeric knows neither exponents nor a negative zero: 1E+2 comes back as 100, -0 as 0.
        "decimal": tuple(
            map(Decimal, ("0", "0.00", "1.50", "1E-7", "12345678901234567890.123", "NaN", "Infinity"))
        ),
        "time": (time(0), time(12, 30), time.max),  # `time` has no offset
        # timestamptz holds instants, told in UTC.
        "datetime": (
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        ),
    }

    @pytest.fixture(autouse=True)
    def _database(self, one_database: str) -> None:
        self.url = one_database

    def make_store(self, tmp_path: Path) -> Store:
        places = {THING: PlaceSpec(options={"table": f"Things of {tmp_path.name} 100%"})}
        store = Store("db", self.url, root=tmp_path, places=places, accessor=PostgresAccessor())
        store.bind(self.binding())
        return store


class TestPostgresAssigningIds(TestPostgres):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


# -- tables of every shape ------------------------------------------------------------------------------

Make = Callable[..., Store]


def run(url: str | Store, sql: str, *values: Any) -> list[Any]:
    with psycopg.connect(url if isinstance(url, str) else url.url) as connection:
        cursor = connection.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def make(database: str) -> Make:
    """A store over the tables that some SQL makes, with the type "t" bound."""

    def made(
        sql: str,
        *,
        key: str | tuple[str, ...] = "k",
        id: str | None = None,
        options: Mapping[str, str] | None = None,
        **fields: str,
    ) -> Store:
        if sql:
            run(database, sql)
        places = {"t": PlaceSpec(options=options)} if options else {}
        store = Store("crm", database, places=places, accessor=accessor)
        keys = (key,) if isinstance(key, str) else key
        types = dict.fromkeys(keys, "str") | fields
        at, by = (name if types.pop(name, None) else None for name in ("changed_at", "changed_by"))
        store.bind(Binding("t", keys, tuple(Field(n, n, types[n]) for n in sorted(types)), id, at, by))
        return store

    return made


def rows(store: Store) -> list[Row]:
    return [row for batch in accessor.scan(store, "t") for row in batch]


def create(**values: Any) -> Change:
    return Change("create", None, {"k": values.get("k")}, values, always("write"))


def update(id: int | str | None, name: Mapping[str, Any], **values: Any) -> Change:
    return Change("update", id, dict(name), values, always("write"))


def delete(id: int | str | None, **name: Any) -> Change:
    return Change("delete", id, name, {}, always("write"))


@pytest.mark.parametrize(
    ("columns", "id"),
    [
        ("(k text, v text)", None),
        ("(k text PRIMARY KEY, v text)", "a"),
        ("(n int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, k text, v text)", 1),
        ("(n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k text, v text)", 1),
        ("(n smallserial PRIMARY KEY, k text, v text)", 1),
        ("(n numeric PRIMARY KEY DEFAULT 1.50, k text, v text)", "1.50"),
        ("(n char(3) PRIMARY KEY DEFAULT 'x', k text, v text)", "x"),
        ("(n uuid PRIMARY KEY DEFAULT '12345678-1234-5678-1234-567812345678', k text, v text)",
         "12345678-1234-5678-1234-567812345678"),
        ("(k text, v text, PRIMARY KEY (k, v))", None),
        ("(k text, v text, PRIMARY KEY (k) INCLUDE (v))", "a"),
        ("(k text UNIQUE NOT NULL, v text)", None),
        ("(k text PRIMARY KEY, v text) PARTITION BY HASH (k);"
         "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)", "a"),
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


def test_the_binding_may_name_another_column_as_the_id(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, code text UNIQUE); INSERT INTO t VALUES ('a', 'X1')", id="code"
    )
    assert rows(store) == [("X1", None, None, None, "a")]
    found = accessor.get(store, "t", "X1")
    assert found is not None
    assert found.fields == {"k": "a"}


@pytest.mark.parametrize("id", ["nobody", "1.5", "", "99999999999", "²", "-", 10**30, "a\0b", "\ud800"])
@pytest.mark.parametrize("kind", ["int", "text", "uuid", "date"])
def test_an_id_that_no_record_can_have_leads_to_none(make: Make, kind: str, id: Any) -> None:
    one = {"int": "1", "text": "one", "uuid": str(UUID(int=1)), "date": "2024-01-01"}[kind]
    store = make(f"CREATE TABLE t (n {kind} PRIMARY KEY, k text); INSERT INTO t VALUES ('{one}', 'a')")
    assert accessor.get(store, "t", id) is None
    outcomes = accessor.apply(store, "t", [delete(id), delete(one)])
    assert [outcome.state for outcome in outcomes] == ["written", "written"]
    assert rows(store) == []


@pytest.mark.parametrize(
    "columns",
    [
        "(k text, v text)",
        "(k text PRIMARY KEY, v text)",
        "(n serial PRIMARY KEY, k text, v text)",
        "(n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k text, v text)",
        "(k text, v text, PRIMARY KEY (k, v))",
        "(a int DEFAULT 1, b int DEFAULT 2, k text UNIQUE, v text, PRIMARY KEY (a, b, k))",
        "(n date PRIMARY KEY DEFAULT '2024-01-01'::date + trunc(random() * 100000)::int, k text, v text)",
        "(k text, v text) PARTITION BY HASH (k);"
        "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
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
    store = make(
        'CREATE SCHEMA "Ä.%"; CREATE TABLE "Ä.%"."my ""table"" ü.%s" '
        '("select" text PRIMARY KEY, "a b?" text, "ro\'w$1" int, "evsync" text, "UPPER" text, "%" text)',
        key="select", options={"table": 'my "table" ü.%s', "schema": "Ä.%"},
        **{"a b?": "str", "ro'w$1": "int", "evsync": "str", "UPPER": "str", "%": "str"},
    )  # fmt: skip
    given = {"select": "k", "a b?": "x", "ro'w$1": 1, "evsync": "r", "UPPER": "u", "%": "%s"}
    accessor.add(store, Data("t", given))
    outcome = accessor.apply(store, "t", [update("k", {"select": "k"}, **{"a b?": "y"})])[0]
    assert outcome.row is not None
    assert dict(zip(store.binding("t").locals, outcome.row[HEADER:], strict=True)) == given | {"a b?": "y"}
    assert rows(store) == [outcome.row]
    assert [data.id for data in accessor.find(store, "t", {"%": "%s"})] == ["k"]
    accessor.remove(store, Data("t", {"select": "k"}))
    assert rows(store) == []


def test_a_point_in_the_name_of_a_table_is_a_part_of_it(make: Make) -> None:
    store = make(
        'CREATE TABLE "public.t" (k text PRIMARY KEY); CREATE TABLE t (k text)', options={"table": "public.t"}
    )
    accessor.add(store, Data("t", {"k": "a"}))
    assert run(store, 'SELECT k FROM "public.t"') == [("a",)]


def test_a_schema_is_found_by_the_option_or_by_the_search_path(make: Make) -> None:
    sql = "CREATE SCHEMA one; CREATE TABLE one.t (k text PRIMARY KEY); INSERT INTO one.t VALUES ('in one');"
    store = make(sql, options={"schema": "one"})
    assert [row[0] for row in rows(store)] == ["in one"]
    plain = make("")
    with pytest.raises(Unreachable) as caught:
        rows(plain)
    assert caught.value.hint == "set the option schema: it is in one"
    plain.url += "?options=-csearch_path%3Done"
    assert [row[0] for row in rows(plain)] == ["in one"]


def test_a_composite_key_is_found_whatever_its_types(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k varchar(9), l int, m timestamptz, v text, PRIMARY KEY (k, l, m))",
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


@pytest.mark.parametrize("key", ["a\0", "\ud800"])
def test_a_key_that_is_no_text_is_refused_and_found_nowhere(make: Make, key: str) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY); INSERT INTO t VALUES ('a')")
    assert accessor.get_by_name(store, "t", {"k": key}) is None
    outcomes = accessor.apply(
        store, "t", [create(k=key), update(None, {"k": key}, k="b"), delete(None, k=key)]
    )
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "written"]
    assert len(rows(store)) == 1


def test_a_key_is_found_in_another_spelling_of_it(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k numeric(10,2) PRIMARY KEY, v int); INSERT INTO t VALUES (1.5, 1)",
        k="decimal",
        v="int",
    )
    [outcome] = accessor.apply(store, "t", [update(None, {"k": Decimal("1.5")}, v=2)])
    assert outcome.row == ("1.50", None, None, None, "1.50", 2)
    assert accessor.get_by_name(store, "t", {"k": Decimal("15E-1")}) is not None
    assert [data.id for data in accessor.find(store, "t", {"k": Decimal("1.500")})] == ["1.50"]


def test_generated_columns_are_read_and_never_written(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, s text GENERATED ALWAYS AS (k || k) STORED, v int)",
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


@pytest.mark.parametrize("generated", ["ALWAYS", "BY DEFAULT"])
def test_an_identity_column_counts_unless_a_value_is_given(make: Make, generated: str) -> None:
    store = make(
        f"CREATE TABLE t (n int GENERATED {generated} AS IDENTITY PRIMARY KEY, k text UNIQUE)", n="int"
    )
    outcomes = accessor.apply(
        store, "t", [create(k="a"), create(k="b", n=7), create(k="c", n=None), create(k="d", n=ABSENT)]
    )
    assert [outcome.id for outcome in outcomes] == [1, 7, 2, 3]
    assert accessor.update(store, Data("t", {"k": "B", "n": 7}, id=7)).fields == {"k": "B", "n": 7}
    if generated == "ALWAYS":
        with pytest.raises(Refused, match='"n"'):
            accessor.update(store, Data("t", {"n": 8}, id=7))
    else:
        assert accessor.update(store, Data("t", {"n": 8}, id=7)).id == 8


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_read_but_not_written(make: Make, kind: str) -> None:
    store = make(f"CREATE TABLE x (k text); INSERT INTO x VALUES ('a'); CREATE {kind} t AS SELECT k FROM x")
    assert rows(store) == [(None, None, None, None, "a")]
    assert accessor.get_by_name(store, "t", {"k": "a"}) is not None
    with pytest.raises(Unreachable, match="view"):
        accessor.add(store, Data("t", {"k": "b"}))
    with pytest.raises(Unreachable, match="view"), accessor.loading(store, "t"):
        pass
    assert "view" in (accessor.check(store, "t") or "")


def test_changed_at_and_changed_by_are_told(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, changed_at timestamptz, changed_by text);"
        "INSERT INTO t VALUES ('a', '2024-01-02 03:04:05+00', 'ann'), ('b', 'infinity', NULL)",
        changed_at="datetime", changed_by="str",
    )  # fmt: skip
    assert rows(store)[0] == ("a", None, "2024-01-02 03:04:05+00", "ann", "a")
    one, two = accessor.find(store, "t")
    assert (one.changed_at, one.changed_by) == (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "ann")
    assert (two.changed_at, two.changed_by) == (None, None)


def test_find_matches_null_and_nothing_that_cannot_be(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v int, w uuid); INSERT INTO t VALUES ('a', 1), ('b', NULL)",
        v="int", w="uuid",
    )  # fmt: skip
    assert [data.id for data in accessor.find(store, "t", {"v": None})] == ["b"]
    assert list(accessor.find(store, "t", {"v": 2**70})) == []
    assert list(accessor.find(store, "t", {"k": "a\0b"})) == []
    with pytest.raises(Refused):
        list(accessor.find(store, "t", {"x": 1}))


def test_more_records_than_a_statement_takes(make: Make) -> None:
    store = make("CREATE TABLE t (n serial PRIMARY KEY, k text UNIQUE, v int)", v="int")
    names = [f"k{number}" for number in range(7001)]
    created = accessor.apply(store, "t", [create(k=k, v=1) for k in names])
    assert [outcome.id for outcome in created] == list(range(1, 7002))
    by_id = [update(o.id, {"k": k}, v=2) for o, k in zip(created, names, strict=True)][:601]
    by_name = [update(None, {"k": k}, v=2) for k in names[601:]]
    assert {outcome.state for outcome in accessor.apply(store, "t", by_id + by_name)} == {"written"}
    assert run(store, "SELECT v, count(*) FROM t GROUP BY v") == [(2, 7001)]
    outcomes = accessor.apply(store, "t", [delete(None, k=k) for k in names])
    assert {(outcome.state, outcome.row) for outcome in outcomes} == {("written", None)}
    assert rows(store) == []


# -- what apply answers ---------------------------------------------------------------------------------


def test_what_is_stored_as_given_is_not_told_again(make: Make) -> None:
    store = make("CREATE TABLE t (n serial PRIMARY KEY, k text, v float)", v="float")
    whole, part, null, absent = accessor.apply(
        store, "t", [create(k="a", v=1.5), create(k="b"), create(k="c", v=None), create(k="d", v=ABSENT)]
    )
    assert (whole.state, whole.exact, whole.row, whole.id) == ("written", True, None, 1)
    assert (part.exact, part.row, part.id) == (False, (2, None, None, None, "b", None), 2)
    assert (null.exact, null.row, null.id) == (True, None, 3)
    assert (absent.exact, absent.row) == (False, (4, None, None, None, "d", None))


def test_another_spelling_is_told(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v numeric(10,2))", v="decimal")
    [outcome] = accessor.apply(store, "t", [create(k="a", v=Decimal("1.5"))])
    assert (outcome.exact, outcome.row) == (False, ("a", None, None, None, "a", "1.50"))


@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_what_a_trigger_makes_of_a_record_is_told(make: Make, when: str) -> None:
    body = {
        "BEFORE": "new.v = upper(new.v); RETURN new;",
        "AFTER": "UPDATE t SET v = upper(v) WHERE k = new.k AND v <> upper(v); RETURN new;",
    }[when]
    store = make(
        f"CREATE TABLE t (k text PRIMARY KEY, v text); {_trigger(when, 'INSERT OR UPDATE', body)}", v="str"
    )
    [outcome] = accessor.apply(store, "t", [create(k="a", v="b")])
    assert (outcome.exact, outcome.row) == (False, ("a", None, None, None, "a", "B"))
    [outcome] = accessor.apply(store, "t", [update("a", {"k": "a"}, v="c")])
    assert outcome.row == ("a", None, None, None, "a", "C")
    assert accessor.add(store, Data("t", {"k": "d", "v": "e"})).fields == {"k": "d", "v": "E"}


def test_beside_a_trigger_a_column_still_alters_nothing_in_silence(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v numeric(10,2), at timestamptz);"
        + _trigger("BEFORE", "INSERT OR UPDATE", "new.at = '2024-01-01 00:00:00+00'; RETURN new;"),
        v="decimal", at="datetime",
    )  # fmt: skip
    given = datetime(2000, 1, 1, tzinfo=UTC)
    good, bad = accessor.apply(
        store, "t", [create(k="a", v=Decimal("1.5"), at=given), create(k="b", v=Decimal("1.005"), at=given)]
    )
    assert good.row == ("a", None, None, None, "2024-01-01 00:00:00+00", "a", "1.50")
    assert isinstance(bad.error, Refused)


def test_a_key_that_a_trigger_alters_is_told(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1), ('b', 1);"
        + _trigger("BEFORE", "UPDATE", "new.k = upper(new.k); RETURN new;"),
        v="int",
    )
    outcomes = accessor.apply(store, "t", [update(k, {"k": k}, v=2) for k in "ab"])
    assert [(outcome.error, outcome.id) for outcome in outcomes] == [(None, "A"), (None, "B")]


def test_a_record_that_a_trigger_takes_away_is_told_to_be_gone(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY);"
        + _trigger("AFTER", "INSERT", "DELETE FROM t WHERE k = new.k AND k = 'b'; RETURN new;")
    )
    kept, gone = accessor.apply(store, "t", [create(k="a"), create(k="b")])
    assert (kept.row, gone.row) == (("a", None, None, None, "a"), None)
    with pytest.raises(Refused, match="trigger"):
        accessor.add(store, Data("t", {"k": "b"}))


@pytest.mark.parametrize("verb", ["INSERT", "UPDATE", "DELETE"])
def test_a_record_that_a_trigger_ignores_is_no_success(make: Make, verb: str) -> None:
    name = "old" if verb == "DELETE" else "new"
    body = f"IF {name}.k = 'b' THEN RETURN NULL; END IF; RETURN {name};"
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1), ('b', 1), ('c', 1);"
        + ("DELETE FROM t;" if verb == "INSERT" else "")
        + _trigger("BEFORE", verb, body),
        v="int",
    )
    changes = {
        "INSERT": [create(k=k, v=2) for k in "abc"],
        "UPDATE": [update(k, {"k": k}, v=2) for k in "abc"],
        "DELETE": [delete(k, k=k) for k in "abc"],
    }[verb]
    outcomes = accessor.apply(store, "t", changes)
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
    assert "ignored" in str(outcomes[1].error)


def _trigger(when: str, verbs: str, body: str) -> str:
    return (
        f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"CREATE TRIGGER x {when} {verbs} ON t FOR EACH ROW EXECUTE FUNCTION f();"
    )


def test_refused_records_leave_the_others_written(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v int CHECK (v < 5), w varchar(3));"
        + _trigger("BEFORE", "INSERT", "IF new.k = 'g' THEN RAISE 'no g'; END IF; RETURN new;"),
        v="int", w="str",
    )  # fmt: skip
    outcomes = accessor.apply(
        store,
        "t",
        [
            create(k="a", v=1), create(k="b", v=9), create(k="c", w="long"), create(k="d", w="x\0"),
            create(k="e", v=2**40), create(k="f", v=2), create(k="g", v=2), create(k="h", v=None, w="ok"),
        ],
    )  # fmt: skip
    assert [outcome.state for outcome in outcomes] == [
        "written", "failed", "failed", "failed", "failed", "written", "failed", "written",
    ]  # fmt: skip
    assert {type(outcome.error) for outcome in outcomes} == {type(None), Refused}
    assert "check" in str(outcomes[1].error)
    assert "'w' (character varying(3)) cannot hold 'x\\x00'" in str(outcomes[3].error)
    assert "no g" in str(outcomes[6].error)
    assert run(store, "SELECT k FROM t ORDER BY k") == [("a",), ("f",), ("h",)]


def test_many_refused_records_among_many(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int CHECK (v % 7 <> 3))", v="int")
    outcomes = accessor.apply(store, "t", [create(k=str(n), v=n) for n in range(300)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.state == "failed"] == list(range(3, 300, 7))
    assert len(rows(store)) == 300 - len(range(3, 300, 7))


def test_a_second_record_of_one_key_is_refused_even_without_a_constraint(make: Make) -> None:
    store = make("CREATE TABLE t (k text); INSERT INTO t VALUES ('a')")
    [outcome] = accessor.apply(store, "t", [create(k="a")])
    assert isinstance(outcome.error, Refused)
    with pytest.raises(Refused, match="already"):
        accessor.add(store, Data("t", {"k": "a"}))
    assert len(rows(store)) == 1


def test_a_key_may_be_given_up_and_taken_in_one_batch(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1)", v="int")
    outcomes = accessor.apply(
        store, "t", [update("a", {"k": "a"}, k="b"), create(k="c", v=2), delete("c", k="c")]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "written", "written"]
    assert [row[HEADER:] for row in rows(store)] == [("b", 1), ("c", 2)]  # "c" was not there to delete


def test_two_changes_of_one_record_in_a_batch(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1)", v="int")
    outcomes = accessor.apply(store, "t", [update("a", {"k": "a"}, v=2), update("a", {"k": "a"}, v=3)])
    assert [outcome.state for outcome in outcomes] == ["written", "written"]
    assert rows(store)[0][HEADER:] == ("a", 3)


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_an_orphan_is_refused_and_the_others_are_written(make: Make, deferred: str) -> None:
    store = make(
        "CREATE TABLE parent (p text PRIMARY KEY); INSERT INTO parent VALUES ('p');"
        f"CREATE TABLE t (k text PRIMARY KEY, p text REFERENCES parent {deferred})",
        p="str",
    )
    outcomes = accessor.apply(
        store, "t", [create(k="a", p="p"), create(k="b", p="nobody"), create(k="c", p=None)]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
    assert isinstance(outcomes[1].error, Refused)
    assert [row[HEADER] for row in rows(store)] == ["a", "c"]
    with pytest.raises(Refused, match="nobody"):
        accessor.add(store, Data("t", {"k": "b", "p": "nobody"}))


def test_updating_what_is_gone_is_refused(make: Make) -> None:
    store = make("CREATE TABLE t (n int PRIMARY KEY, k text)")
    [outcome] = accessor.apply(store, "t", [update(5, {"k": "a"}, k="b")])
    assert isinstance(outcome.error, Refused)


def test_an_unknown_column_is_refused_with_the_nearest(make: Make) -> None:
    store = make("CREATE TABLE t (k text, colour text)")
    with pytest.raises(Refused) as caught:
        accessor.add(store, Data("t", {"k": "a", "color": "red"}))
    assert "'colour'" in caught.value.hint


# -- changed meanwhile ----------------------------------------------------------------------------------


def test_an_update_over_a_change_made_meanwhile_is_refused(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, v int, other int); INSERT INTO t VALUES ('a', 1, 0)", v="int"
    )
    old = accessor.get_by_name(store, "t", {"k": "a"})
    run(store, "UPDATE t SET other = 9")
    accessor.update(store, Data("t", {"v": 2}, id="a"), old)  # a column that is not ours may change
    with pytest.raises(Refused, match="meanwhile"):
        accessor.update(store, Data("t", {"v": 3}, id="a"), old)
    assert run(store, "SELECT * FROM t") == [("a", 2, 9)]


@pytest.mark.parametrize("columns", ["(k text PRIMARY KEY, v int)", "(k text, v int)"])
def test_what_is_judged_cannot_change_before_it_is_written(make: Make, impatient: None, columns: str) -> None:
    store = make(f"CREATE TABLE t {columns}; INSERT INTO t VALUES ('a', 1)", v="int")
    seen: list[Any] = []

    def judge(row: Row | None) -> Verdict:
        assert row is not None
        seen.append(row[-1])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            run(store, "SET lock_timeout = '10ms'; UPDATE t SET v = 9")
        return "write"

    [outcome] = accessor.apply(store, "t", [Change("update", None, {"k": "a"}, {"v": 2}, judge)])
    assert (outcome.state, seen) == ("written", [1])
    assert run(store, "SELECT v FROM t") == [(2,)]


def test_a_change_under_way_elsewhere_is_waited_for_and_then_judged(make: Make) -> None:
    store = make("CREATE TABLE t (k text, v int); INSERT INTO t VALUES ('a', 1)", v="int")
    seen: list[Any] = []

    def judge(row: Row | None) -> Verdict:
        assert row is not None
        seen.append(row[-1])
        return "write"

    with psycopg.connect(store.url) as other, ThreadPoolExecutor() as pool:
        other.execute("UPDATE t SET v = 5")
        pending = pool.submit(
            accessor.apply, store, "t", [Change("update", None, {"k": "a"}, {"v": 6}, judge)]
        )
        while not run(store, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert not pending.done()
        other.commit()
        assert [outcome.state for outcome in pending.result()] == ["written"]
    assert seen == [5]
    assert run(store, "SELECT v FROM t") == [(6,)]


# -- loading --------------------------------------------------------------------------------------------


def test_loading_takes_any_text(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v text, w bytea)", v="str", w="bytes")
    texts = ["", "\\", "\\N", "\\.", "\t", "\n", "\r\n", "a\\tb", "😀", None]
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([[str(n), text, b"\\\t\n"] for n, text in enumerate(texts)])
    assert [row[HEADER + 1] for row in rows(store)] == texts
    assert {row[HEADER + 2] for row in rows(store)} == {b"\\\t\n"}


def test_a_batch_with_a_record_that_cannot_be_is_not_written_at_all(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int CHECK (v < 5))", v="int")
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([["a", 1]])
        for bad in (["b", 9], ["b\0", 1], ["b\ud800", 1], ["a", 1], [None, 1], ["b", 2**40]):
            assert not load([["good", 1], bad])
        assert load([["c", 1]])
    assert [row[0] for row in rows(store)] == ["a", "c"]


def test_a_record_that_somebody_else_added_meanwhile_is_not_loaded_over(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int)", v="int")
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([["a", 1]])
        run(store, "INSERT INTO t VALUES ('b', 7)")
        assert not load([["b", 1], ["c", 1]])
    assert sorted(row[HEADER:] for row in rows(store)) == [("a", 1), ("b", 7)]


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ("(k text, v text)", {"v": "str"}),
        ("(n serial PRIMARY KEY, k text UNIQUE, v text)", {"v": "str"}),
        ("(k text PRIMARY KEY, v varchar(3))", {"v": "str"}),
        ("(k text PRIMARY KEY, v char(3))", {"v": "str"}),
        ("(k text PRIMARY KEY, v numeric(10,2))", {"v": "decimal"}),
        ("(k text PRIMARY KEY, v jsonb)", {"v": "json"}),
        ("(k text PRIMARY KEY, v real)", {"v": "float"}),
        ("(k text PRIMARY KEY, v text GENERATED ALWAYS AS (k) STORED)", {"v": "str"}),
        ("(k text PRIMARY KEY, v text); " + _trigger("BEFORE", "INSERT", "RETURN new;"), {"v": "str"}),
        ("(k text PRIMARY KEY, v text); CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING", {"v": "str"}),
        ("(k text PRIMARY KEY, v text); ALTER TABLE t ENABLE ROW LEVEL SECURITY", {"v": "str"}),
    ],
)
def test_a_table_that_may_store_something_else_is_not_loaded(
    make: Make, columns: str, fields: dict[str, str]
) -> None:
    with accessor.loading(make(f"CREATE TABLE t {columns}", **fields), "t") as load:
        assert load is None


# -- what the tables say of themselves ------------------------------------------------------------------


def test_describe_tells_types_and_keys_in_the_tables_order(make: Make) -> None:
    store = make(
        "CREATE TABLE t (z int, a text, gone int, k text, m varchar(3)[], PRIMARY KEY (k, a));"
        "ALTER TABLE t DROP COLUMN gone"
    )
    assert accessor.describe(store, "t") == Description(
        {"z": "int", "a": "str", "k": "str", "m": "json"}, ("k", "a")
    )
    assert list(accessor.describe(store, "t").columns) == ["z", "a", "k", "m"]  # type: ignore[union-attr]


def test_describe_of_what_is_not_there_is_none(make: Make) -> None:
    assert accessor.describe(make("CREATE TABLE x (k text)"), "t") is None
    assert accessor.describe(make("", options={"table": "pg_class"}), "t") is None


def test_discover_names_the_users_tables(make: Make) -> None:
    store = make(
        "CREATE TABLE b (n int); CREATE TABLE a (k int) PARTITION BY HASH (k);"
        "CREATE TABLE a0 PARTITION OF a FOR VALUES WITH (MODULUS 1, REMAINDER 0); CREATE VIEW v AS SELECT 1;"
        "CREATE SCHEMA s; CREATE TABLE s.c (k int); CREATE TABLE s.b (k int)"
    )
    assert accessor.discover(store) == {
        "a": {},
        "b": {},
        "s.b": {"table": "b", "schema": "s"},
        "s.c": {"table": "c", "schema": "s"},
    }


def test_create_makes_a_table_that_has_ids_of_its_own_or_is_known_by_its_key(make: Make) -> None:
    store = make("CREATE SCHEMA s", options={"schema": "s"}, k="int", v="json")
    accessor.create(store, "t")
    assert accessor.describe(store, "t") == Description({"k": "int", "v": "json"}, ("k",))
    assert accessor.add(store, Data("t", {"k": 7, "v": [1]})).id == 7
    store = make("", id="id", v="datetime", changed_at="datetime", changed_by="str")
    accessor.create(store, "t")
    assert accessor.describe(store, "t") == Description(
        {"id": "int", "k": "str", "v": "datetime", "changed_at": "datetime", "changed_by": "str"}, ("id",)
    )
    assert accessor.add(store, Data("t", {"k": "a"})).id == 1
    outcomes = accessor.apply(store, "t", [create(k="b"), create(k="b")])
    assert [outcome.state for outcome in outcomes] == ["written", "failed"]


def test_create_in_a_schema_that_is_not_there_is_unreachable(make: Make) -> None:
    with pytest.raises(Unreachable) as caught:
        accessor.create(make("", options={"schema": "nowhere"}), "t")
    assert "CREATE SCHEMA" in caught.value.hint


# -- what can go wrong ----------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_connection, "LOCK_SECONDS", 0.01)


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


@every_operation
def test_a_server_that_does_not_answer_is_unreachable(make: Make, operation: Callable[[Store], Any]) -> None:
    store = make("")
    store.url = store.shown_url = "postgresql://me:geheim@127.0.0.1:1/db?password=geheim2"
    with pytest.raises(Unreachable, match="does not answer") as caught:
        operation(store)
    assert "geheim" not in told(caught.value)
    assert "me:***@127.0.0.1:1/db?password=***" in told(caught.value)


def told(error: BaseException) -> str:
    """Everything that a report or a traceback would show of an error."""
    return "".join(traceback.format_exception(error)) + getattr(error, "hint", "")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:ge@heim@127.0.0.1:1/db",
        "postgresql://me:ge/heim@127.0.0.1:1/db",
        "postgresql://me:ge:heim@127.0.0.1:1/db",
        "postgresql://me:ge%heim@127.0.0.1:1/db",
        "postgresql://me:ge?heim@127.0.0.1:1/db",
        "postgresql://me:ge#heim@127.0.0.1:1/db",
        "postgresql://me:ge heim@127.0.0.1:1/db",
        "postgresql://me@127.0.0.1:1/db?pasword=heim&password=heim",
    ],
)
def test_not_even_a_part_of_a_password_is_told(make: Make, url: str) -> None:
    store = make("")
    store.url = store.shown_url = url
    with pytest.raises(Unreachable) as caught:
        rows(store)
    assert "heim" not in told(caught.value).replace("pasword=heim", "")


def test_both_schemes_lead_to_a_database(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY)")
    store.url = store.url.replace("postgresql:", "postgres:")
    assert rows(store) == []
    for scheme in ("postgresql", "postgres"):
        assert isinstance(plugins.accessor(scheme), PostgresAccessor)


def test_a_url_that_cannot_be_is_explained(make: Make) -> None:
    store = make("")
    store.url = store.shown_url = "postgresql://127.0.0.1/db?sslmod=require"
    with pytest.raises(Unreachable, match="sslmod"):
        rows(store)


@only_our_server
def test_a_wrong_password_is_unreachable_and_not_told(make: Make) -> None:
    store = make(f"CREATE TABLE t (k text); DROP ROLE IF EXISTS {WITH_PASSWORD}")
    run(store, f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD 'right'; GRANT ALL ON t TO {WITH_PASSWORD}")
    name = store.url.rpartition("/")[2]
    try:
        store.url = store.shown_url = database_url(name, user=WITH_PASSWORD, password="right")
        assert rows(store) == []
        store.url = store.shown_url = database_url(name, user=WITH_PASSWORD, password="geheim")
        with pytest.raises(Unreachable, match="does not let us in") as caught:
            rows(store)
        assert "geheim" not in told(caught.value)
        store.url = store.shown_url = database_url(name, user=WITH_PASSWORD)
        with pytest.raises(Unreachable, match="does not let us in"):
            rows(store)
    finally:
        run(database_url(name), f"DROP OWNED BY {WITH_PASSWORD}; DROP ROLE {WITH_PASSWORD}")


def test_an_unknown_database_is_unreachable(make: Make) -> None:
    store = make("")
    store.url = database_url("nowhere")
    with pytest.raises(Unreachable, match="there is no database 'nowhere'"):
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
    store = make("CREATE TABLE t (k text, colour text)", color="str")
    with pytest.raises(Unreachable, match="'color'") as caught:
        rows(store)
    assert "'colour'" in caught.value.hint


@every_operation
def test_a_locked_table_is_a_retry(make: Make, impatient: None, operation: Callable[[Store], Any]) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY); INSERT INTO t VALUES ('a')")
    with psycopg.connect(store.url) as other:
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Retry, match="locked"):
            operation(store)


def test_a_locked_row_is_a_retry_and_hinders_no_reader(make: Make, impatient: None) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY, v int); INSERT INTO t VALUES ('a', 1)", v="int")
    with psycopg.connect(store.url) as other:
        other.execute("UPDATE t SET v = 2")
        assert [row[-1] for row in rows(store)] == [1]
        for write in (
            lambda: accessor.update(store, Data("t", {"v": 3}, id="a")),
            lambda: accessor.remove(store, Data("t", {}, id="a")),
            lambda: accessor.apply(store, "t", [update("a", {"k": "a"}, v=3)]),
        ):
            with pytest.raises(Retry):
                write()


@pytest.fixture
def reader(make: Make) -> Iterator[Store]:
    """A store as a user sees it who may connect, and nothing else."""
    store = make("CREATE TABLE t (k text PRIMARY KEY); INSERT INTO t VALUES ('a')")
    database = store.url
    role = database.rpartition("/")[2]
    run(database, f"CREATE ROLE {role} LOGIN")
    store.url = database_url(role, user=role)
    yield store
    run(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


@only_our_server
def test_missing_rights_are_named_with_what_to_run(reader: Store) -> None:
    role = reader.url.rpartition("/")[2]
    with pytest.raises(Unreachable, match="permission denied") as caught:
        rows(reader)
    assert caught.value.hint == f"run: GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {role}"
    assert accessor.discover(reader) == {}
    run(database_url(role), f"GRANT SELECT ON t TO {role}")
    assert [row[0] for row in rows(reader)] == ["a"]
    assert accessor.discover(reader) == {"t": {}}
    with pytest.raises(Unreachable, match="permission denied"):
        accessor.apply(reader, "t", [create(k="b")])
    assert f'GRANT INSERT, UPDATE, DELETE ON "public"."t" TO "{role}"' in (accessor.check(reader, "t") or "")


@only_our_server
def test_a_row_that_a_policy_keeps_out_is_refused(reader: Store) -> None:
    role = reader.url.rpartition("/")[2]
    run(
        database_url(role),
        f"GRANT ALL ON t TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON t USING (true) WITH CHECK (k < 'x')",
    )
    outcomes = accessor.apply(reader, "t", [create(k="b"), create(k="y"), create(k="c")])
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
    assert "policy" in str(outcomes[1].error)


def test_a_database_that_is_read_only_is_unreachable_for_writing(make: Make) -> None:
    store = make("CREATE TABLE t (k text PRIMARY KEY)")
    store.url += "?options=-cdefault_transaction_read_only%3Don"
    assert rows(store) == []
    with pytest.raises(Unreachable, match="read-only"):
        accessor.add(store, Data("t", {"k": "a"}))
    assert "read-only" in (accessor.check(store, "t") or "")


def test_a_scan_that_is_cut_off_is_an_error_never_the_end(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text, v text); INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i",
        v="str",  # 20 MB: more than is on its way
    )
    scan = accessor.scan(store, "t")
    next(scan)
    run(store, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
               " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
    with pytest.raises(Unreachable, match="does not answer any more"):
        list(scan)


def test_a_scan_that_is_left_leaves_nothing_behind(make: Make) -> None:
    store = make("CREATE TABLE t (k text); INSERT INTO t SELECT i FROM generate_series(1, 100000) i")
    for reading in (
        accessor.scan(store, "t"),
        accessor.find(store, "t"),
        accessor.find(store, "t", {"k": "5"}),
    ):
        next(reading)
        reading.close()  # type: ignore[attr-defined]
    run(store, "SET lock_timeout = '5s'; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")


def test_text_that_is_not_utf8_hides_no_other_row(make: Make) -> None:
    store = make("")
    name = store.url.rpartition("/")[2] + "_ascii"
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode()
        )
        try:
            store.url = database_url(name)
            run(store, "CREATE TABLE t (k text); INSERT INTO t VALUES ('ü'), (E'\\xff')")
            assert [row[HEADER] for row in rows(store)] == ["ü", "\udcff"]
            assert [data.fields["k"] for data in accessor.find(store, "t", {"k": "ü"})] == ["ü"]
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_the_settings_of_a_role_change_no_value(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k text PRIMARY KEY, d date, z timestamptz, f float, i interval, b bytea);"
        "INSERT INTO t VALUES ('a', '2024-02-01', '2024-02-01 12:00+00', 0.1::float + 0.2, '1 day', '\\x00')",
        d="date", z="datetime", f="float", i="str", b="bytes",
    )  # fmt: skip
    plain = rows(store)
    store.url += (
        "?options=-cdatestyle%3DGerman%20-ctimezone%3DAsia/Tokyo%20-cextra_float_digits%3D0"
        "%20-cintervalstyle%3Dpostgres%20-cbytea_output%3Descape&client_encoding=LATIN1"
    )
    assert rows(store) == plain


def test_without_psycopg_what_to_install_is_told() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from evsync import plugins\nfrom evsync.errors import ConfigError\n"
        "try: plugins.accessor('postgresql')\n"
        "except ConfigError as error: print(error.message, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "needs psycopg" in done.stdout
    assert "pip install 'evsync[postgres]'" in done.stdout


def test_a_server_that_crashed_and_came_back_has_what_was_written() -> None:
    server = PostgresServer(fsync="on")
    try:
        server.start()
        store = Store("crm", server.url, accessor=accessor)
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


def test_sqlite_csv_and_postgres_stay_in_step(database: str, tmp_path: Path) -> None:
    run(
        database,
        "CREATE TABLE clients (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email varchar(40) UNIQUE NOT NULL,"
        " full_name text, balance numeric(10,2), active boolean, joined date);"
        "INSERT INTO clients (email, full_name, balance, active, joined)"
        " VALUES ('ann@x', 'Ann', 1.50, true, '2024-02-29'), ('bob@x', NULL, NULL, false, NULL)",
    )
    crm = tmp_path / "crm.db"
    sql(
        crm,
        "CREATE TABLE customer (email TEXT PRIMARY KEY, name TEXT, balance DECIMAL TEXT, active BOOLEAN, joined DATE)",
    )
    sql(crm, "INSERT INTO customer VALUES ('cid@x', 'Cid', '7.25', 1, '2023-01-01')")
    (tmp_path / "list.csv").write_text("email,name,balance,active,joined\ndan@x,Dän,0.10,true,2022-12-31\n")
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
        [stores.list]
        url = "csv:."
        types.customer = {{ file = "list.csv", null = "-" }}
    """
    everybody = "SELECT email, full_name, balance::text, active, joined::text FROM clients ORDER BY email"
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        assert run(database, everybody) == [
            ("ann@x", "Ann", "1.50", True, "2024-02-29"), ("bob@x", None, None, False, None),
            ("cid@x", "Cid", "7.25", True, "2023-01-01"), ("dan@x", "Dän", "0.10", True, "2022-12-31"),
        ]  # fmt: skip
        assert sql(crm, "SELECT name, balance FROM customer ORDER BY email") == [
            ("Ann", "1.50"), (None, None), ("Cid", "7.25"), ("Dän", "0.10"),
        ]  # fmt: skip
        run(database, "UPDATE clients SET balance = 2.00 WHERE email = 'dan@x'")
        run(database, "DELETE FROM clients WHERE email = 'cid@x'")
        sql(crm, "UPDATE customer SET name = 'Anne' WHERE email = 'ann@x'")
        sql(crm, "INSERT INTO customer VALUES ('eve@x', 'Eve', '3.005', 0, NULL)")  # too fine for the shop
        sync.sync()
        assert run(database, everybody) == [
            ("ann@x", "Anne", "1.50", True, "2024-02-29"), ("bob@x", None, None, False, None),
            ("dan@x", "Dän", "2.00", True, "2022-12-31"),
        ]  # fmt: skip
        lines = (tmp_path / "list.csv").read_text(encoding="utf-8").splitlines()
        assert sorted(lines[1:]) == [
            "ann@x,Anne,1.50,true,2024-02-29", "bob@x,-,-,false,-", "dan@x,Dän,2.00,true,2022-12-31",
            "eve@x,Eve,3.005,false,-",
        ]  # fmt: skip
        assert sql(crm, "SELECT email FROM customer ORDER BY email") == [
            ("ann@x",),
            ("bob@x",),
            ("dan@x",),
            ("eve@x",),
        ]
        [failure] = sync.failures("shop")
        assert "cannot hold Decimal('3.005')" in str(failure)
        sql(crm, "UPDATE customer SET balance = '3.01' WHERE email = 'eve@x'")
        sync.sync()
        assert ("eve@x", "Eve", "3.01", False, None) in run(database, everybody)
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
    assert run(database, 'SELECT k, n, d::text, j FROM "Copied things" ORDER BY k') == [
        (f"k{number}", number, "1.50", {"a": [1]}) for number in range(3)
    ]
