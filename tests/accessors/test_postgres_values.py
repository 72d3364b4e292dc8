"""Values in PostgreSQL: each type read as it stands, written so that it stands as it was given, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from postgres_server import fresh_database

from accessors.postgres import PostgresAccessor
from accessors.postgres_values import Column, array_text, decoder, encoder, likeness, type_of
from evsync.accessor import HEADER
from evsync.binding import Binding, Field
from evsync.data import Data
from evsync.errors import BadValue, Refused
from evsync.store import Store, native
from evsync.values import dump

accessor = PostgresAccessor()

EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with fresh_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE EXTENSION citext")
            connection.execute("CREATE EXTENSION hstore")
            connection.execute("CREATE TYPE mood AS ENUM ('sad', 'it''s \"fine\"')")
            connection.execute("CREATE DOMAIN price AS numeric(8,2) CHECK (VALUE >= 0)")
            connection.execute("CREATE DOMAIN cheap AS price CHECK (VALUE < 100)")
            connection.execute("CREATE DOMAIN tags AS text[]")
            connection.execute("CREATE TYPE pair AS (a int, b text)")
        yield url


@pytest.fixture
def columns(database: str) -> Iterator[Callable[..., Store]]:
    """A store with the type "t", whose one field v lies in a column of this type."""

    def made(declared: str, value_type: str | None = None) -> Store:
        with psycopg.connect(database) as connection:
            connection.execute(f"CREATE TABLE t (k int PRIMARY KEY, v {declared})")
        store = Store("crm", database, accessor=accessor)
        described = accessor.describe(store, "t")
        assert described is not None
        kind = value_type or described.columns["v"]
        assert kind is not None
        store.bind(Binding("t", ("k",), (Field("k", "k", "int"), Field("v", "v", kind))))
        return store

    yield made
    with psycopg.connect(database) as connection:
        connection.execute("DROP TABLE IF EXISTS t")


def run(store: Store, sql: str, *values: Any) -> list[Any]:
    with psycopg.connect(store.url, options="-c intervalstyle=iso_8601 -c timezone=UTC") as connection:
        cursor = connection.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def typed(store: Store, raw: Any) -> Any:
    return native(accessor, store.binding("t").local_types["v"], raw)


# -- every type, there and back -------------------------------------------------------------------------

# The column's type; its value type; what SQL writes; the typed value; how SQL shows it, if not as it wrote it.
EVERY_TYPE: list[tuple[str, str, str, Any, str | None]] = [
    ("smallint", "int", "-32768", -32768, None),
    ("integer", "int", "2147483647", 2147483647, None),
    ("bigint", "int", "-9223372036854775808", -(2**63), None),
    ("serial", "int", "7", 7, None),
    ("oid", "int", "4294967295", 4294967295, None),
    ("numeric", "decimal", "0.00", Decimal("0.00"), None),
    ("numeric", "decimal", "12345678901234567890.0123456789", Decimal("12345678901234567890.0123456789"), None),
    ("numeric", "decimal", "NaN", Decimal("NaN"), None),
    ("numeric", "decimal", "-Infinity", Decimal("-Infinity"), None),
    ("numeric(10,2)", "decimal", "1.50", Decimal("1.50"), None),
    ("price", "decimal", "1.50", Decimal("1.50"), None),
    ("cheap", "decimal", "99.99", Decimal("99.99"), None),
    ("real", "float", "0.1", 0.1, None),
    ("real", "float", "-Infinity", float("-inf"), None),
    ("double precision", "float", "5e-324", 5e-324, None),
    ("double precision", "float", "0.30000000000000004", 0.1 + 0.2, None),
    ("double precision", "float", "-0", -0.0, None),
    ("double precision", "float", "NaN", float("nan"), None),
    ("boolean", "bool", "true", True, None),
    ("boolean", "bool", "false", False, None),
    ("text", "str", "", "", None),
    ("text", "str", "line\nline\\\t'\"😀%s$1{}", "line\nline\\\t'\"😀%s$1{}", None),
    ("text", "str", "\\N", "\\N", None),
    ("text", "str", "\\.", "\\.", None),
    ("varchar(5)", "str", "äöü😀x", "äöü😀x", None),
    ("char(5)", "str", "ab", "ab", "ab   "),
    ("char", "str", "x", "x", None),
    ('"char"', "str", "x", "x", None),
    ("name", "str", "x", "x", None),
    ("citext", "str", "MixEd", "MixEd", None),
    ("mood", "str", "it's \"fine\"", "it's \"fine\"", None),
    ("bytea", "bytes", "\\x00ff5c27", b"\x00\xff\\'", None),
    ("bytea", "bytes", "\\x", b"", None),
    ("date", "date", "0001-01-01", date(1, 1, 1), None),
    ("date", "date", "9999-12-31", date.max, None),
    ("time", "time", "23:59:59.999999", time.max, None),
    ("time(0)", "time", "12:30:00", time(12, 30), None),
    ("timetz", "time", "01:02:03.000004+05:30", time(1, 2, 3, 4, EAST), None),
    ("timetz", "time", "01:02:03+00", time(1, 2, 3, tzinfo=UTC), None),
    ("timestamp", "datetime", "0001-01-01 00:00:00", datetime(1, 1, 1), None),
    ("timestamp", "datetime", "2024-02-29 23:59:59.999999", datetime(2024, 2, 29, 23, 59, 59, 999999), None),
    ("timestamptz", "datetime", "2024-01-01 12:00:00.5+00", datetime(2024, 1, 1, 12, 0, 0, 500000, UTC), None),
    ("interval", "str", "P1Y2M3DT4H5M6.789S", "P1Y2M3DT4H5M6.789S", None),
    ("uuid", "uuid", "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678"), None),
    ("json", "json", '{"a":[1,-0.0,"\\u0000"]}', {"a": [1, -0.0, "\0"]}, None),
    ("jsonb", "json", '{"a": [1, 0.5, "ä"]}', {"a": [1, 0.5, "ä"]}, None),
    ("jsonb", "json", '"null"', "null", None),
    ("integer[]", "json", "{}", [], None),
    ("integer[]", "json", "{1,NULL,-3}", [1, None, -3], None),
    ("bigint[]", "json", "{{1,2},{3,4}}", [[1, 2], [3, 4]], None),
    ("double precision[]", "json", "{1.5,NaN}", [1.5, "NaN"], None),
    ("boolean[]", "json", "{t,NULL,f}", [True, None, False], None),
    ("numeric(6,2)[]", "json", "{1.50,-2.00}", ["1.50", "-2.00"], None),
    ("text[]", "json", '{"","NULL",NULL,"a\\"b","c\\\\d","{e,f}"," g "}',
     ["", "NULL", None, 'a"b', "c\\d", "{e,f}", " g "], None),
    ("text[][]", "json", "{{a,b},{c,NULL}}", [["a", "b"], ["c", None]], None),
    ("tags", "json", "{a,b}", ["a", "b"], None),
    ("price[]", "json", "{1.50}", ["1.50"], None),
    ("mood[]", "json", '{sad,"it\'s \\"fine\\""}', ["sad", "it's \"fine\""], None),
    ("date[]", "json", "{2024-01-01,infinity}", ["2024-01-01", "infinity"], None),
    ("uuid[]", "json", "{12345678-1234-5678-1234-567812345678}", ["12345678-1234-5678-1234-567812345678"], None),
    ("timestamptz[]", "json", '{"2024-01-01 12:00:00+00"}', ["2024-01-01 12:00:00+00"], None),
    ("bytea[]", "json", '{"\\\\x00ff"}', ["\\x00ff"], None),
    ("jsonb[]", "json", '{"{\\"a\\": 1}"}', ['{"a": 1}'], None),
    ("box[]", "json", "{(1,1),(0,0);(3,3),(2,2)}", ["(1,1),(0,0)", "(3,3),(2,2)"], None),
    ("int2vector", "str", "1 2 3", "1 2 3", None),
    ("inet", "str", "10.0.0.1", "10.0.0.1", None),
    ("cidr", "str", "10.0.0.0/8", "10.0.0.0/8", None),
    ("macaddr", "str", "08:00:2b:01:02:03", "08:00:2b:01:02:03", None),
    ("int4range", "str", "[1,5)", "[1,5)", None),
    ("tstzrange", "str", '["2024-01-01 00:00:00+00",)', '["2024-01-01 00:00:00+00",)', None),
    ("int4multirange", "str", "{[1,5),[7,9)}", "{[1,5),[7,9)}", None),
    ("money", "str", "$1,234.50", "$1,234.50", None),
    ("bit(3)", "str", "101", "101", None),
    ("bit varying", "str", "10101", "10101", None),
    ("point", "str", "(1.5,-2)", "(1.5,-2)", None),
    ("polygon", "str", "((0,0),(1,1),(1,0))", "((0,0),(1,1),(1,0))", None),
    ("tsvector", "str", "'a':1 'fat':2", "'a':1 'fat':2", None),
    ("pair", "str", '(1,"a,b")', '(1,"a,b")', None),
    ("hstore", "str", '"a"=>"1", "b"=>NULL', '"a"=>"1", "b"=>NULL', None),
    ("pg_lsn", "str", "0/16B3748", "0/16B3748", None),
]  # fmt: skip
every_type = pytest.mark.parametrize(
    ("declared", "kind", "sql", "value", "shown"), EVERY_TYPE, ids=[f"{c[0]}-{c[2]}" for c in EVERY_TYPE]
)


@every_type
def test_what_sql_wrote_is_read(
    columns: Callable[..., Store], declared: str, kind: str, sql: str, value: Any, shown: str | None
) -> None:
    store = columns(declared)
    assert store.binding("t").local_types["v"] == kind
    run(store, "INSERT INTO t VALUES (1, %s)", sql)
    run(store, "INSERT INTO t (k, v) VALUES (2, %s)", sql if declared == "serial" else None)
    scanned = {row[HEADER]: row[HEADER + 1] for batch in accessor.scan(store, "t") for row in batch}
    found = accessor.get(store, "t", 1)
    assert found is not None
    for raw in (scanned[1], found.fields["v"]):
        assert repr(dump(kind, typed(store, raw))) == repr(dump(kind, value))
    assert scanned[2] is None or declared == "serial"


@every_type
def test_what_we_write_is_what_sql_shows(
    columns: Callable[..., Store], declared: str, kind: str, sql: str, value: Any, shown: str | None
) -> None:
    store = columns(declared)
    stored = accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert repr(dump(kind, typed(store, stored.fields["v"]))) == repr(dump(kind, value))
    accessor.add(store, Data("t", {"k": 2, "v": typed(store, stored.fields["v"])}))
    for k in (1, 2):
        [(text,)] = run(store, f"SELECT format('%s', v) FROM t WHERE k = {k}")
        assert text == (shown or sql) or (declared, text) in (("boolean", sql[0]), ("timestamptz", sql))


# -- other spellings, and other values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "value", "stored"),
    [
        ("numeric(10,2)", Decimal("1.5"), "1.50"),
        ("numeric", Decimal("1E+2"), "100"),
        ("numeric", Decimal("-0"), "0"),
        ("timestamptz", datetime(2024, 1, 1, 12, tzinfo=EAST), "2024-01-01 06:30:00+00"),
        ("interval", "90 minutes", "PT1H30M"),
        ("inet", "10.0.0.1/32", "10.0.0.1"),
        ("inet", "0::1", "::1"),
        ("macaddr", "08-00-2B-01-02-03", "08:00:2b:01:02:03"),
        ("int4range", "(0,4]", "[1,5)"),
        ("money", "1234.5", "$1,234.50"),
        ("tsvector", "fat cat", "'cat' 'fat'"),
        ("point", "1.50, 2", "(1.5,2)"),
        ("numeric(6,2)[]", ["1.5", "-2"], ["1.50", "-2.00"]),
        ("timestamptz[]", ["2024-01-01T12:00:00Z"], ["2024-01-01 12:00:00+00"]),
        ("double precision[]", [1, 2.5], [1.0, 2.5]),
        ("interval[]", ["1 day"], ["P1D"]),
        ("jsonb", {"b": 1, "a": 1e2}, '{"a": 100.0, "b": 1}'),
    ],
)
def test_another_spelling_of_the_same_value_is_fine_and_told(
    columns: Callable[..., Store], declared: str, value: Any, stored: Any
) -> None:
    store = columns(declared)
    assert accessor.add(store, Data("t", {"k": 1, "v": value})).fields["v"] == stored


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("smallint", 32768),
        ("bigint", 2**63),
        ("numeric(10,2)", Decimal("1.005")),
        ("numeric(4,2)", Decimal("100")),
        ("numeric(10,2)", Decimal("sNaN")),
        ("price", Decimal("-1")),
        ("price", Decimal("0.001")),
        ("real", 0.1 + 0.2),
        ("real", 1e39),
        ("varchar(3)", "abcd"),
        ("varchar(3)", "abc "),
        ("char(3)", "ab "),
        ("mood", "glad"),
        ("text", "a\0b"),
        ("text", "\ud800"),
        ("json", "\ud800"),
                ("time", time(12, tzinfo=UTC)),
        ("time(0)", time(12, 0, 0, 1)),
        ("timetz", time(12)),
        ("timestamp", datetime(2024, 1, 1, tzinfo=UTC)),
        ("timestamp(0)", datetime(2024, 1, 1, 0, 0, 0, 1)),
        ("timestamptz", datetime(2024, 1, 1)),
        ("timestamptz(3)", datetime(2024, 1, 1, 0, 0, 0, 1, UTC)),
        ("interval(0)", "PT0.5S"),
        ("interval", "soon"),
        ("interval day", "P1DT2H"),
        ("money", "1.005"),
        ("bit(3)", "1"),
        ("cidr", "10.0.0.1/8"),
        ("jsonb", {"a": -0.0}),
        ("jsonb", "\0"),
        ("text[]", [1]),
        ("text[]", "a"),
        ("text[]", {"a": 1}),
        ("text[]", [{"a": 1}]),
        ("text[]", [[]]),
        ("text[]", [["a"], ["b", "c"]]),
        ("text[]", ["a\0"]),
        ("varchar(2)[]", ["abc"]),
        ("numeric(6,2)[]", [1.5]),
        ("numeric(6,2)[]", ["1.005"]),
        ("integer[]", [1.5]),
        ("integer[]", [True]),
        ("real[]", [0.1 + 0.2]),
        ("timestamp(0)[]", ["2024-01-01 00:00:00.5"]),
    ],
)  # fmt: skip
def test_a_value_that_a_column_cannot_hold_is_refused(
    columns: Callable[..., Store], declared: str, value: Any
) -> None:
    store = columns(declared)
    with pytest.raises(Refused, match="column 'v'"):
        accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert run(store, "SELECT * FROM t") == []


def test_the_refusal_says_what_would_have_come_of_it(columns: Callable[..., Store]) -> None:
    store = columns("numeric(10,2)")
    with pytest.raises(Refused) as caught:
        accessor.add(store, Data("t", {"k": 1, "v": Decimal("1.005")}))
    assert "column 'v' (numeric(10,2)) cannot hold Decimal('1.005'): it would become '1.01'" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("declared", "value_type", "value", "stored"),
    [
        ("double precision", "decimal", Decimal("0.1"), "0.1"),
        ("numeric", "float", 0.1, "0.1"),
        ("integer", "bool", True, "1"),
        ("text", "bool", True, "true"),
        ("text", "bytes", b"\x00\xff", "AP8="),
        ("text", "int", 7, "7"),
        ("text", "datetime", datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        ("text", "json", {"a": 1}, '{"a":1}'),
        ("bytea", "str", "\\x00ff", "\\x00ff"),
        ("text[]", "str", "{a,b}", "{a,b}"),
        ("jsonb", "str", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_column_may_hold_another_type_if_it_reads_back_the_same(
    columns: Callable[..., Store], declared: str, value_type: str, value: Any, stored: str
) -> None:
    store = columns(declared, value_type)
    answer = accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert typed(store, answer.fields["v"]) == value
    assert run(store, "SELECT format('%s', v) FROM t") == [(stored,)]


@pytest.mark.parametrize(
    ("declared", "value_type", "value"),
    [
        ("integer", "str", "007"),
        ("double precision", "decimal", Decimal("0.1000000000000000055")),
        ("timestamp", "date", date(2024, 1, 1)),
        ("date", "datetime", datetime(2024, 1, 1, 12)),
        ("boolean", "int", 1),
    ],
)
def test_a_column_of_another_type_refuses_what_it_would_alter(
    columns: Callable[..., Store], declared: str, value_type: str, value: Any
) -> None:
    store = columns(declared, value_type)
    with pytest.raises(Refused):
        accessor.add(store, Data("t", {"k": 1, "v": value}))


@pytest.mark.parametrize(
    ("declared", "sql"),
    [
        ("date", "infinity"),
        ("date", "0044-03-15 BC"),
        ("date", "10000-01-01"),
        ("timestamp", "-infinity"),
        ("timestamptz", "0044-03-15 12:00:00+00 BC"),
        ("timestamp", "294276-01-01"),
        ("time", "24:00:00"),
        ("json", "1e999"),
        ("integer[]", "[0:1]={1,2}"),
    ],
)
def test_what_has_no_counterpart_costs_its_own_row_only(
    columns: Callable[..., Store], declared: str, sql: str
) -> None:
    store = columns(declared)
    run(store, "INSERT INTO t VALUES (1, %s), (2, NULL)", sql)
    scanned = {row[HEADER]: row[HEADER + 1] for batch in accessor.scan(store, "t") for row in batch}
    assert scanned[2] is None
    with pytest.raises(BadValue):
        typed(store, scanned[1])


# -- text and values, without a server ------------------------------------------------------------------


def column(kind: str, **more: Any) -> Column:
    return Column("v", kind, more.pop("declared", kind), kind, **more)


@pytest.mark.parametrize(
    ("element", "text", "items"),
    [
        ("int4", "{}", []),
        ("int4", "{1,NULL}", [1, None]),
        ("text", "{{a},{NULL}}", [["a"], [None]]),
        ("text", '{"NULL",null}', ["NULL", "null"]),
        ("text", '{"\\"","\\\\",","}', ['"', "\\", ","]),
        ("text", '{"{","}"}', ["{", "}"]),
        ("text", '{"a\nb"}', ["a\nb"]),
        ("bpchar", '{"ab ","c "}', ["ab", "c"]),
    ],
)
def test_the_text_of_an_array_is_a_list(element: str, text: str, items: Any) -> None:
    decode = decoder(column("_x", element=element))
    assert decode is not None
    assert decode(text) == items


def test_an_array_that_does_not_count_from_one_stays_text() -> None:
    decode = decoder(column("_int4", element="int4"))
    assert decode is not None
    assert decode("[0:1]={1,2}") == "[0:1]={1,2}"


@pytest.mark.parametrize("item", ["", "NULL", 'a"b', "a\\b", "{}", ",", " ", "\n", "ä"])
def test_any_text_is_the_element_of_an_array(item: str) -> None:
    decode = decoder(column("_text", element="text"))
    assert decode is not None
    assert decode(array_text([item, None])) == [item, None]
    assert decode(encoder(column("_text", element="text"), "json")([[item]])) == [[item]]


def test_the_value_type_is_the_columns_own_or_text() -> None:
    assert [type_of(column(kind)) for kind in ("int8", "_int8", "other", "money", "enum")] == [
        "int", "str", "str", "str", "str",
    ]  # fmt: skip
    assert type_of(column("_int8", element="int8")) == "json"


@pytest.mark.parametrize(
    ("kind", "value_type", "typed", "given", "stored", "expected"),
    [
        ("text", "str", "a", "a", "a", "same"),
        ("text", "str", "a", "a", "A", "other"),
        ("text", "str", None, None, "A", "other"),
        ("text", "str", "a", "a", None, "other"),
        ("bytea", "bytes", b"a", "\\x61", "\\x61", "same"),
        ("numeric", "decimal", Decimal("1.5"), "1.5", "1.50", "alike"),
        ("numeric", "decimal", Decimal("1.5"), "1.5", "1.51", "other"),
        ("float8", "float", 1e22, "1e+22", "10000000000000000000000", "same"),
        ("date", "date", date(1, 1, 1), "0001-01-01", "infinity", "other"),
        ("interval", "str", "1 day", "1 day", "P1D", "unsure"),
        ("int4", "str", "007", "007", "7", "other"),
        ("json", "json", {"a": 1, "b": 2}, '{"a":1,"b":2}', '{"b": 2, "a": 1}', "same"),
        ("jsonb", "json", [-0.0], "[-0.0]", "[0.0]", "other"),
        ("money", "str", "5", "5", "$5.00", "alike"),
        ("money", "str", "-5", "-5", "-$5.00", "alike"),
        ("money", "str", "5", "5", "$5.01", "other"),
    ],
)
def test_given_and_stored_are_compared_by_what_they_mean(
    kind: str, value_type: str, typed: Any, given: str | None, stored: str | None, expected: str
) -> None:
    assert likeness(column(kind), value_type, typed, given, stored) == expected
