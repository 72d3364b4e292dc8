"""Values in MySQL and MariaDB: each type read as it stands, written so that it stands as it was given, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from mariadb_server import ask, fresh_database

from accessors.mysql import MySqlAccessor
from evsync.accessor import HEADER
from evsync.binding import Binding, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import BadValue, Refused
from evsync.store import Store, native
from evsync.values import dump

accessor = MySqlAccessor()

EAST = timezone(timedelta(hours=5, minutes=30))
ID = "12345678-1234-5678-1234-567812345678"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture
def columns(database: str) -> Iterator[Callable[..., Store]]:
    """A store with the type "t", whose one field v lies in a column of this type."""

    def made(declared: str, value_type: str | None = None, **options: str) -> Store:
        ask(database, f"CREATE TABLE t (k int PRIMARY KEY, v {declared})")
        places: Mapping[str, PlaceSpec] = {"t": PlaceSpec(options=options)}
        store = Store("crm", database, places=dict(places), accessor=accessor)
        described = accessor.describe(store, "t")
        assert described is not None
        kind = value_type or described.columns["v"]
        assert kind is not None
        store.bind(Binding("t", ("k",), (Field("k", "k", "int"), Field("v", "v", kind))))
        return store

    yield made
    ask(database, "DROP TABLE IF EXISTS t")


def run(store: Store, sql: str) -> list[Any]:
    return ask(store.url, "SET time_zone = '+00:00'", sql)


def typed(store: Store, raw: Any) -> Any:
    return native(accessor, store.binding("t").local_types["v"], raw)


# -- every type, there and back -------------------------------------------------------------------------

# The column's type; its value type; what SQL writes; the typed value; how the server shows it, if not so.
EVERY_TYPE: list[tuple[str, str, str, Any]] = [
    ("tinyint", "int", "-128", -128),
    ("tinyint unsigned", "int", "255", 255),
    ("tinyint(1)", "bool", "1", True),
    ("boolean", "bool", "0", False),
    ("smallint", "int", "-32768", -32768),
    ("mediumint", "int", "8388607", 8388607),
    ("int", "int", "-2147483648", -(2**31)),
    ("bigint", "int", "-9223372036854775808", -(2**63)),
    ("bigint unsigned", "int", "18446744073709551615", 2**64 - 1),
    ("bit(1)", "bool", "b'1'", True),
    ("bit(5)", "int", "b'10101'", 21),
    ("bit(64)", "int", "18446744073709551615", 2**64 - 1),
    ("year", "int", "2024", 2024),
    ("decimal(10,2)", "decimal", "'1.50'", Decimal("1.50")),
    ("decimal(65,30)", "decimal", "'-0.000000000000000000000000000001'", Decimal("-1E-30")),
    ("decimal(5,0) unsigned", "decimal", "99999", Decimal(99999)),
    ("float", "float", "0.1", 0.1),
    ("float", "float", "16777217", 16777216.0),
    ("float", "float", "3.4e38", 3.4e38),
    ("float", "float", "0.333333343267", 0.33333334),
    ("double", "float", "'5e-324'", 5e-324),
    ("double", "float", "'0.30000000000000004'", 0.1 + 0.2),
    ("double", "float", "'1.7976931348623157e308'", 1.7976931348623157e308),
    ("char(5)", "str", "'ab'", "ab"),
    ("varchar(5)", "str", "'äöü😀x'", "äöü😀x"),
    ("varchar(5)", "str", "'a  '", "a  "),
    ("varchar(5) character set latin1", "str", "'äß'", "äß"),
    ("tinytext", "str", "''", ""),
    ("text", "str", "'line\\nline\\\\\\t\\'\"😀%s$1{}\\0'", "line\nline\\\t'\"😀%s$1{}\0"),
    ("mediumtext", "str", "'x'", "x"),
    ("longtext", "str", "'x'", "x"),
    ("enum('sad','it''s')", "str", "'it\\'s'", "it's"),
    ("set('a','b','c')", "str", "'a,c'", "a,c"),
    ("set('a','b','c')", "str", "''", ""),
    ("binary(3)", "bytes", "x'00ff5c'", b"\x00\xff\\"),
    ("varbinary(9)", "bytes", "x'00ff5c27'", b"\x00\xff\\'"),
    ("blob", "bytes", "x''", b""),
    ("longblob", "bytes", "x'80'", b"\x80"),
    ("date", "date", "'0001-01-01'", date(1, 1, 1)),
    ("date", "date", "'9999-12-31'", date.max),
    ("time", "time", "'12:30'", time(12, 30)),
    ("time(6)", "time", "'23:59:59.999999'", time.max),
    ("time(3)", "time", "'01:02:03.004'", time(1, 2, 3, 4000)),
    ("datetime", "datetime", "'2024-02-29 23:59:59'", datetime(2024, 2, 29, 23, 59, 59)),
    ("datetime(6)", "datetime", "'0001-01-01 00:00:00.000001'", datetime(1, 1, 1, 0, 0, 0, 1)),
    ("timestamp null", "datetime", "'2024-01-01 12:00:00'", datetime(2024, 1, 1, 12, tzinfo=UTC)),
    ("timestamp(6) null", "datetime", "'2024-01-01 12:00:00.5'",
     datetime(2024, 1, 1, 12, 0, 0, 500000, tzinfo=UTC)),
    ("json", "json", "'{\"a\": [1, 0.5, \"ä\"]}'", {"a": [1, 0.5, "ä"]}),
    ("json", "json", "'\"null\"'", "null"),
    ("json", "json", "'null'", None),
    ("uuid", "uuid", f"'{ID}'", UUID(ID)),
    ("inet6", "str", "'::1'", "::1"),
    ("inet4", "str", "'10.0.0.1'", "10.0.0.1"),
    ("point", "bytes", "point(1, 2)",
     bytes.fromhex("00000000" "01" "01000000" "000000000000f03f" "0000000000000040")),
]  # fmt: skip
every_type = pytest.mark.parametrize(
    ("declared", "kind", "sql", "value"), EVERY_TYPE, ids=[f"{c[0]}-{c[2]}" for c in EVERY_TYPE]
)


@every_type
def test_what_sql_wrote_is_read(
    columns: Callable[..., Store], declared: str, kind: str, sql: str, value: Any
) -> None:
    store = columns(declared)
    assert store.binding("t").local_types["v"] == kind
    run(store, f"INSERT INTO t VALUES (1, {sql}), (2, NULL)")
    scanned = {row[HEADER]: row[HEADER + 1] for batch in accessor.scan(store, "t") for row in batch}
    found = accessor.get(store, "t", 1)
    assert found is not None
    for raw in (scanned[1], found.fields["v"]):
        assert repr(dump(kind, typed(store, raw))) == repr(dump(kind, value))
    assert scanned[2] is None


@every_type
def test_what_we_write_is_what_sql_writes(
    columns: Callable[..., Store], declared: str, kind: str, sql: str, value: Any
) -> None:
    if value is None:
        pytest.skip("null is written as NULL")
    store = columns(declared)
    run(store, f"INSERT INTO t VALUES (1, {sql})")
    stored = accessor.add(store, Data("t", {"k": 2, "v": value}))
    assert repr(dump(kind, typed(store, stored.fields["v"]))) == repr(dump(kind, value))
    assert len(run(store, "SELECT DISTINCT hex(v) FROM t")) == 1 or kind == "json"


# -- other spellings, and other values ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "value", "stored"),
    [
        ("decimal(10,2)", Decimal("1.5"), Decimal("1.50")),
        ("decimal(10,2)", Decimal("1E+2"), Decimal("100.00")),
        ("decimal(10,2)", Decimal("-0"), Decimal("0.00")),
        ("double", -0.0, 0.0),
        ("timestamp null", datetime(2024, 1, 1, 12, tzinfo=EAST), "2024-01-01 06:30:00+00:00"),
    ],
)
def test_another_spelling_of_the_same_value_is_fine_and_told(
    columns: Callable[..., Store], declared: str, value: Any, stored: Any
) -> None:
    store = columns(declared)
    answer = accessor.add(store, Data("t", {"k": 1, "v": value})).fields["v"]
    assert repr(answer) == repr(stored)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("tinyint", 128),
        ("tinyint unsigned", -1),
        ("tinyint(1)", 2),
        ("bigint", 2**63),
        ("bigint unsigned", 2**64),
        ("bit(5)", 32),
        ("year", 24),
        ("year", 1900),
        ("decimal(10,2)", Decimal("1.005")),
        ("decimal(4,2)", Decimal(100)),
        ("decimal(10,2)", Decimal("NaN")),
        ("decimal(10,2)", Decimal("sNaN")),
        ("decimal(10,2)", Decimal("Infinity")),
        ("decimal(10,2) unsigned", Decimal(-1)),
        ("float", 0.1 + 0.2),
        ("float", 1e39),
        ("float(7,2)", 1.005),
        ("double", float("nan")),
        ("double", float("inf")),
        ("char(3)", "ab "),
        ("char(3)", "abcd"),
        ("varchar(3)", "abcd"),
        ("varchar(3)", "abc "),
        ("varchar(3)", "\ud800"),
        ("varchar(9) character set latin1", "😀"),
        ("varchar(9) character set latin1", "ł"),
        ("varchar(9) character set utf8mb3", "😀"),
        ("tinytext", "x" * 256),
        ("tinytext", "x" * 255 + " "),
        ("enum('a','b')", "c"),
        ("enum('a','b')", "B"),
        ("set('a','b')", "a,x"),
        ("set('a','b')", "b,a"),
        ("binary(3)", b"ab"),
        ("varbinary(3)", b"abcd"),
        ("time", time(12, 0, 0, 1)),
        ("time", time(12, tzinfo=UTC)),
        ("datetime", datetime(2024, 1, 1, 0, 0, 0, 1)),
        ("datetime(6)", datetime(2024, 1, 1, tzinfo=UTC)),
        ("timestamp null", datetime(2024, 1, 1)),
        ("timestamp null", datetime(1969, 1, 1, tzinfo=UTC)),
        ("timestamp null", datetime(2200, 1, 1, tzinfo=UTC)),
        ("timestamp(3) null", datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        ("json", "\ud800"),
        ("inet6", "0::1"),
        ("inet6", "nowhere"),
        ("point", b"nowhere"),
        ("int check (v < 5)", 7),
        ("int not null", None),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_refused(
    columns: Callable[..., Store], declared: str, value: Any
) -> None:
    store = columns(declared, "int" if declared == "tinyint(1)" else None)
    if declared == "tinyint(1)":
        store = Store("crm", store.url, accessor=accessor)
        store.bind(Binding("t", ("k",), (Field("k", "k", "int"), Field("v", "v", "bool"))))
    with pytest.raises(Refused):
        accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert run(store, "SELECT * FROM t") == []


def test_the_refusal_says_what_would_have_come_of_it(columns: Callable[..., Store]) -> None:
    store = columns("decimal(10,2)")
    with pytest.raises(Refused) as caught:
        accessor.add(store, Data("t", {"k": 1, "v": Decimal("1.005")}))
    assert "column 'v' (decimal(10,2)) cannot hold Decimal('1.005'): it would become Decimal('1.01')" in str(
        caught.value
    )


def test_a_time_with_an_offset_needs_the_option_zone(columns: Callable[..., Store]) -> None:
    store = columns("datetime(6)")
    with pytest.raises(Refused, match="without an offset") as caught:
        accessor.add(store, Data("t", {"k": 1, "v": datetime(2024, 1, 1, tzinfo=UTC)}))
    assert 'zone = "utc"' in caught.value.hint
    assert "TIMESTAMP" in caught.value.hint


def test_with_the_option_zone_a_column_holds_times_in_utc(columns: Callable[..., Store]) -> None:
    store = columns("datetime(6)", zone="utc")
    stored = accessor.add(store, Data("t", {"k": 1, "v": datetime(2024, 1, 1, 12, tzinfo=EAST)}))
    assert typed(store, stored.fields["v"]) == datetime(2024, 1, 1, 6, 30, tzinfo=UTC)
    assert run(store, "SELECT v FROM t") == [(datetime(2024, 1, 1, 6, 30),)]
    with pytest.raises(Refused, match="with an offset"):
        accessor.add(store, Data("t", {"k": 2, "v": datetime(2024, 1, 1)}))
    with pytest.raises(Refused, match="calendar"):
        accessor.add(store, Data("t", {"k": 2, "v": datetime(1, 1, 1, tzinfo=EAST)}))


@pytest.mark.parametrize(
    ("declared", "value_type", "value", "stored"),
    [
        ("int", "bool", True, 1),
        ("text", "bool", True, "true"),
        ("text", "bytes", b"\x00\xff", "AP8="),
        ("text", "int", 10**40, str(10**40)),
        ("text", "decimal", Decimal("1E-7"), "1E-7"),
        ("text", "float", float("nan"), "NaN"),
        ("text", "datetime", datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        ("text", "json", {"a": 1}, '{"a":1}'),
        ("binary(16)", "uuid", UUID(ID), UUID(ID).bytes),
        ("char(36)", "uuid", UUID(ID), ID),
        ("decimal(20,1)", "float", 1.5, Decimal("1.5")),
        ("double", "decimal", Decimal("0.5"), 0.5),
    ],
)
def test_a_column_may_hold_another_type_if_it_reads_back_the_same(
    columns: Callable[..., Store], declared: str, value_type: str, value: Any, stored: Any
) -> None:
    store = columns(declared, value_type)
    answer = accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert repr(dump(value_type, typed(store, answer.fields["v"]))) == repr(dump(value_type, value))
    assert run(store, "SELECT v FROM t") == [(stored,)]


@pytest.mark.parametrize(
    ("declared", "value_type", "value"),
    [
        ("int", "str", "007"),
        ("int", "str", "x"),
        ("int", "float", 1.5),
        ("double", "decimal", Decimal("0.1000000000000000055")),
        ("datetime", "date", date(2024, 1, 1)),
        ("date", "datetime", datetime(2024, 1, 1, 12)),
        ("varbinary(9)", "str", "text"),
    ],
)
def test_a_column_of_another_type_refuses_what_it_would_alter(
    columns: Callable[..., Store], declared: str, value_type: str, value: Any
) -> None:
    store = columns(declared, value_type)
    with pytest.raises(Refused):
        accessor.add(store, Data("t", {"k": 1, "v": value}))
    assert run(store, "SELECT * FROM t") == []


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("decimal(10,2)", Decimal("1.5")),
        ("decimal(10,2)", Decimal("-0.00")),
        ("decimal(10,2)", Decimal("1.005")),
        ("double", -0.0),
        ("varchar(3)", "abc "),
        ("tinytext", "x" * 255 + " "),
        ("text", "ä" * 32767 + "  "),
        ("char(3)", "ab "),
        ("enum('a','b')", "B"),
        ("year", 24),
        ("float", 0.1 + 0.2),
        ("binary(3)", b"ab"),
        ("time", time(12, 0, 0, 1)),
        ("datetime(3)", datetime(2024, 1, 1, 0, 0, 0, 1)),
        ("timestamp null", datetime(2024, 1, 1, tzinfo=EAST)),
        ("bigint", 2**63),
        ("json", "\ud800"),
    ],
)
def test_what_is_stored_in_another_form_is_not_loaded(
    columns: Callable[..., Store], declared: str, value: Any
) -> None:
    store = columns(declared)
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert not load([[1, None], [2, value]])
    assert run(store, "SELECT * FROM t") == []


@every_type
def test_what_is_loaded_is_read_again_just_so(
    columns: Callable[..., Store], declared: str, kind: str, sql: str, value: Any
) -> None:
    store = columns(declared)
    with accessor.loading(store, "t") as load:
        assert load is not None
        assert load([[1, value], [2, None]]) or declared in ("decimal(65,30)",)
    for row in (row for batch in accessor.scan(store, "t") for row in batch):
        wanted = value if row[HEADER] == 1 else None
        assert repr(dump(kind, typed(store, row[HEADER + 1]))) == repr(dump(kind, wanted))


@pytest.mark.parametrize(
    ("declared", "sql"),
    [
        ("date", "'0000-00-00'"),
        ("date", "'2024-02-00'"),
        ("datetime", "'0000-00-00 00:00:00'"),
        ("timestamp", "'0000-00-00 00:00:00'"),
        ("time", "'838:59:59'"),
        ("time", "'-01:00:00'"),
        ("time", "'24:00:00'"),
        ("tinyint(1)", "2"),
        ("json", "'1e999'"),
    ],
)
def test_what_has_no_counterpart_costs_its_own_row_only(
    columns: Callable[..., Store], declared: str, sql: str
) -> None:
    store = columns(declared)
    ask(store.url, f"SET STATEMENT sql_mode = '' FOR INSERT INTO t VALUES (1, {sql})")
    ask(store.url, "INSERT INTO t (k) VALUES (2)")
    scanned = {row[HEADER]: row[HEADER + 1] for batch in accessor.scan(store, "t") for row in batch}
    assert set(scanned) == {1, 2}
    with pytest.raises(BadValue):
        typed(store, scanned[1])
