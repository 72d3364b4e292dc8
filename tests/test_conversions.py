"""Fields that a store writes in its own way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from projects import (
    Row,
    at_rest,
    canonical,
    did,
    entry,
    held,
    memory,
    placed,
    put,
    rows,
    sql,
    synchronizer,
    together,
)

from evsync import Data, Store, Synchronizer
from evsync.binding import PlaceSpec
from evsync.conversions import Conversion, check_conversions, conversion, load_conversions
from evsync.errors import BadValue, ConfigError, GuardTripped, NotConvertible

STATUS = {"A": "active", "I": "inactive"}
FIELDS = {"id": "str", "status": "str", "price": "decimal", "at": "datetime"}


def made(written: Any, type: str, described: str | None = None) -> Conversion:
    pair = load_conversions("here", {"x": written}, Path())["x"]
    return conversion("here", "x", pair, type, described)


# -- one value ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "type", "described", "local", "wire"),
    [
        (STATUS, "str", None, "A", "active"),
        ({"1": "active", "0": "inactive"}, "str", "int", 1, "active"),
        ({"yes": True, "no": False}, "bool", None, "no", False),
        ({"low": 1, "high": 9}, "int", None, "high", 9),
        ("cents", "decimal", None, 1999, "19.99"),
        ("cents", "decimal", None, -5, "-0.05"),
        ("cents", "decimal", None, 0, "0.00"),
        ("cents", "decimal", None, 10**30 + 1, "10000000000000000000000000000.01"),
        ("epoch", "datetime", None, 0, "1970-01-01T00:00:00Z"),
        ("epoch", "datetime", None, -1, "1969-12-31T23:59:59Z"),
        ("epoch-ms", "datetime", None, 1_709_208_000_123, "2024-02-29T12:00:00.123000Z"),
    ],
)  # fmt: skip
def test_a_value_and_back(written: Any, type: str, described: str | None, local: Any, wire: Any) -> None:
    found = made(written, type, described)
    assert found.wire_of(local) == wire
    assert found.local_of(wire) == local
    assert found.read_back(wire) == wire


@pytest.mark.parametrize(
    ("written", "type", "wire", "back"),
    [
        ("cents", "decimal", "1.5", "1.50"),
        ("cents", "decimal", "1E+2", "100.00"),
        ("cents", "decimal", "0.000", "0.00"),
        ("epoch", "datetime", "1970-01-01T01:00:00+01:00", "1970-01-01T00:00:00Z"),
    ],
)
def test_another_way_of_writing_the_same_may_come_back(written: str, type: str, wire: str, back: str) -> None:
    assert made(written, type).read_back(wire) == back


@pytest.mark.parametrize(
    ("written", "type", "raw", "told"),
    [
        (STATUS, "str", "X", "'X' is none of 'A', 'I'"),
        ("cents", "decimal", "19.99", "'19.99' is not of type int"),
        ("epoch", "datetime", 10**15, "its conversion fails for 1000000000000000: OverflowError"),
        ((lambda v: v.upper(), lambda v: v.lower()), "str", "aB", "'aB' is not what its conversion would write for 'AB'"),
        ((lambda v: None, str), "str", "a", "its conversion makes nothing of 'a'"),
        ((int, str), "int", "seven", "its conversion fails for 'seven': ValueError"),
        ((lambda v: "x", str), "int", "1", "'x' is not of type int"),
        ((str, lambda v: None), "str", "a", "its conversion makes nothing of 'a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(written: Any, type: str, raw: Any, told: str) -> None:
    with pytest.raises(BadValue) as caught:
        made(written, type).wire_of(raw)
    assert caught.value.message.startswith(told)


@pytest.mark.parametrize(
    ("written", "type", "wire", "told"),
    [
        (STATUS, "str", "gone", "'gone' is none of 'active', 'inactive'"),
        ("cents", "decimal", "1.005", "1.005 has fractions of a cent"),
        ("cents", "decimal", "1E-40", "1E-40 has fractions of a cent"),
        ("cents", "decimal", "NaN", "NaN cannot be told in cents"),
        ("cents", "decimal", "1E+99", "1E+99 cannot be told in cents"),
        ("epoch", "datetime", "1970-01-01T00:00:00", "1970-01-01T00:00:00 does not say its offset from UTC"),
        ("epoch", "datetime", "1970-01-01T00:00:00.500000Z", "1970-01-01T00:00:00.500000+00:00 is finer than"),
        ((lambda v: v.lower(), lambda v: v.upper()), "str", "aB", "'aB' would come back as 'ab'"),
        ((int, lambda v: 1 / 0), "int", 3, "its conversion fails for 3: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_what_cannot_be_written(written: Any, type: str, wire: Any, told: str) -> None:
    with pytest.raises(NotConvertible) as caught:
        made(written, type).local_of(wire)
    assert caught.value.message.startswith(told)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("cent", "'x' has the unknown conversion 'cent'"),
        ({"A": "active", "B": "active"}, "not one to one: 'A' and 'B' both stand for 'active'"),
        ({}, "the conversion of 'x' has no values"),
        ({"A": ["active"]}, "'A' must stand for one value"),
        ({"A": "${HOME}"}, "cannot take a variable"),
        (5, "neither a name nor a table of values"),
    ],
)
def test_a_conversion_that_cannot_be_one_is_refused(written: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_conversions("evsync.toml, [stores.a]", {"x": written})
    assert caught.value.message.startswith("evsync.toml, [stores.a]: ")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("written", "type", "described", "message"),
    [
        ("cents", "int", None, "'cents' makes values of type 'decimal', but 'x' is of type 'int'"),
        (STATUS, "str", "int", "'A' is not of type int"),
        ({"A": "x"}, "int", None, "'x' is not of type int"),
        ({"1": "x", "01": "y"}, "str", "int", "has '01' twice"),
        ({"A": 1, "B": "1"}, "str", None, "'A' and 'B' both stand for '1'"),
        ("json:nothing", "str", None, "'json:nothing' cannot be loaded"),
        ("no_such_module:x", "str", None, "'no_such_module:x' cannot be loaded"),
        ("json:loads", "str", None, "'json:loads' of 'x' is no pair of functions"),
    ],
)
def test_a_conversion_that_does_not_fit_its_field_is_refused(
    written: Any, type: str, described: str | None, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        made(written, type, described)
    assert message in caught.value.message


def test_an_object_says_its_types() -> None:
    class Hex:
        type, local_type = "int", "str"
        read = staticmethod(lambda local: int(local, 16))
        write = staticmethod(hex)

    assert made(Hex, "int").wire_of("0xff") == 255
    with pytest.raises(ConfigError, match="makes values of type 'int'"):
        made(Hex, "str")
    Hex.type = "integer"
    with pytest.raises(ConfigError, match="unknown type 'integer'"):
        made(Hex, "int")


def open_in(sync: Synchronizer, columns: str, table: str) -> list[tuple[Any, ...]]:
    """What stands open in the journal: failures, quarantined rows."""
    return sync.journal().connection.execute(f"select {columns} from {table}").fetchall()


# -- between stores -------------------------------------------------------------------------------------

CONFIG = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "str"
status = "str"
price = "decimal"
at = "datetime"
[stores.one]
url = "json:one.json"
[stores.one.types.thing]
[stores.own]
url = "{url}"
[stores.own.types.thing.convert]
status = {{ A = "active", I = "inactive" }}
price = "cents"
at = "epoch"
"""
RECORDS = [
    {"id": "a", "status": "active", "price": "1.50", "at": "2024-02-29T12:00:00Z"},
    {"id": "b", "status": "inactive", "price": None, "at": None},
]


def write_json(folder: Path, *records: Row) -> None:
    (folder / "one.json").write_text(json.dumps(list(records)))


def read_json(folder: Path) -> list[Row]:
    found: list[Row] = json.loads((folder / "one.json").read_text())
    return sorted(found, key=lambda record: str(record["id"]))


def test_a_store_that_is_created_gets_columns_for_its_own_values(tmp_path: Path) -> None:
    config = CONFIG.format(url="sqlite:own.db")
    write_json(tmp_path, *RECORDS)
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
    found = sql(tmp_path / "own.db", "select id, status, price, at, typeof(price) from thing order by id")
    assert found == [("a", "A", 150, 1709208000, "integer"), ("b", "I", None, None, "null")]
    columns = {name: kind for _, name, kind, *_ in sql(tmp_path / "own.db", "pragma table_info(thing)")}
    assert (columns["price"], columns["at"], columns["status"]) == ("INTEGER", "INTEGER", "TEXT")
    with synchronizer(tmp_path, config) as sync:
        assert at_rest(sync)
        sql(tmp_path / "own.db", "update thing set status = 'I', price = 199, at = 0 where id = 'a'")
        sync.sync()
        assert read_json(tmp_path)[0] == {
            "id": "a", "status": "inactive", "price": "1.99", "at": "1970-01-01T00:00:00Z",
        }  # fmt: skip
        assert at_rest(sync)
        assert sync.verify()["ok"]
        assert sync.diff("own") == sync.diff("one", "own") == {"differences": []}


@pytest.mark.parametrize(
    "url", ["sqlite:own.db", "csv:own.csv", "json:own.json", "jsonl:own.jsonl", "memory:"]
)
def test_a_value_written_another_way_does_not_come_back_as_a_change(url: str, tmp_path: Path) -> None:
    write_json(tmp_path, {**RECORDS[0], "price": "1.5", "at": "2024-02-29T13:00:00+01:00"})
    with synchronizer(tmp_path, CONFIG.format(url=url)) as sync:
        sync.sync()
        if url == "memory:":
            assert rows(sync.stores["own"]) == [{"id": "a", "status": "A", "price": 150, "at": 1709208000}]
            assert at_rest(sync)
            return
    with synchronizer(tmp_path, CONFIG.format(url=url)) as sync:
        assert at_rest(sync)
        assert canonical(sync, "a") == {**RECORDS[0], "price": "1.5"}  # shown in UTC
        write_json(tmp_path, {**RECORDS[0], "price": "2.5"})
        sync.sync()
        assert at_rest(sync)
        assert [found.fields for found in sync.stores["own"].find("thing")] == [
            {
                "id": "a",
                "status": "active",
                "price": Decimal("2.50"),
                "at": datetime(2024, 2, 29, 12, tzinfo=UTC),
            }
        ]


def own(*records: Row, **place: Any) -> Store:
    return placed(memory("own", *records), **{"convert": {"status": STATUS, "price": "cents"}, **place})


def test_a_row_that_cannot_be_converted_is_put_aside(tmp_path: Path) -> None:
    one, store = (
        memory("one"),
        own({"id": "a", "status": "X", "price": 1}, {"id": "b", "status": "A", "price": 2}),
    )
    with together(one, store, fields=FIELDS) as sync:
        report = sync.sync()
        assert did(report["ingest"], "own") == {"created": 1, "quarantined": 1}
        assert report.exit_code == 4
        [(error, row)] = open_in(sync, "error, row", "quarantine")
        assert error == "field 'status': 'X' is none of 'A', 'I'"
        assert json.loads(row) == {"id": "a", "status": "X", "price": 1}
        assert rows(one) == [{"id": "b", "status": "active", "price": Decimal("0.02")}]
        put(store, {"id": "a", "status": "I", "price": 1}, {"id": "b", "status": "Y", "price": 2})
        sync.sync()
        assert canonical(sync, "a") == {"id": "a", "status": "inactive", "price": "0.01"}
        assert canonical(sync, "b") == {"id": "b", "status": "active", "price": "0.02"}


def test_a_record_that_cannot_be_converted_fails_and_the_others_flow() -> None:
    one = memory("one", {"id": "a", "status": "gone"}, {"id": "b", "status": "active"})
    store = own()
    with together(one, store, fields=FIELDS) as sync:
        report = sync.sync()
        assert did(report["replay"], "own") == {"created": 1, "failed": 1}
        assert report.exit_code == 4
        assert open_in(sync, "key, error", "failure") == [
            ("a", "field 'status': 'gone' is none of 'active', 'inactive'")
        ]
        put(one, {"id": "a", "status": "inactive"}, {"id": "b", "status": "active"})
        sync.sync()
        assert rows(store) == [{"id": "a", "status": "I"}, {"id": "b", "status": "A"}]
        assert open_in(sync, "key", "failure") == []
        assert at_rest(sync)


def test_the_api_takes_and_gives_canonical_values() -> None:
    store = own()
    with together(memory("one"), store, fields=FIELDS) as sync:
        added = store.add(Data("thing", {"id": "a", "status": "active", "price": "1.5"}))
        assert added.fields == {"id": "a", "status": "active", "price": Decimal("1.50")}
        assert rows(store) == [{"id": "a", "status": "A", "price": 150}]
        assert canonical(sync, "a") == {"id": "a", "status": "active", "price": "1.50"}
        store.update(Data("thing", {"id": "a", "status": "inactive", "price": None}))
        assert rows(store) == [{"id": "a", "status": "I", "price": None}]
        assert [found.fields["id"] for found in store.find("thing", status="inactive")] == ["a"]
        assert list(store.find("thing", status="active")) == []
        with pytest.raises(NotConvertible, match="none of 'active'"):
            store.add(Data("thing", {"id": "b", "status": "A"}))
        store.remove(Data("thing", {"id": "a"}))
        assert canonical(sync, "a") is None


KEYED = {"country": {"1": "CH", "2": "DE"}}


@pytest.mark.parametrize("kind", ["sqlite", "csv", "memory"])
@pytest.mark.parametrize("key", [("country",), ("country", "n")])
def test_key_fields_are_converted_too(kind: str, key: tuple[str, ...], tmp_path: Path) -> None:
    fields = {"country": "str", "n": "int", "name": "str"}
    one = memory("one", {"country": "DE", "n": 1, "name": "Hallo"}, key=key)
    if kind == "memory":
        store = memory("own", {"country": "1", "n": 1, "name": "Hoi"}, key=key)
    elif kind == "csv":
        (tmp_path / "own.csv").write_text("country,n,name\n1,1,Hoi\n")
        store = Store("own", "csv:own.csv", places={"thing": PlaceSpec()}, root=tmp_path)
    else:
        path = tmp_path / "own.db"
        sql(
            path,
            f"create table thing (country integer, n integer, name text, primary key ({', '.join(key)}))",
        )
        sql(path, "insert into thing values (1, 1, 'Hoi')")
        store = Store("own", "sqlite:own.db", places={"thing": PlaceSpec()}, root=tmp_path)
    placed(store, convert=KEYED)
    with together(one, store, fields=fields, key=key) as sync:
        sync.sync()
        assert [found["name"] for found in rows(one)] == ["Hoi", "Hallo"]
        assert canonical(sync, "/".join(("CH", "1")[: len(key)])) == {"country": "CH", "n": 1, "name": "Hoi"}
        assert at_rest(sync)
        found = store.get_by_name("thing", *("DE", 1)[: len(key)])
        assert found is not None
        assert found.fields["name"] == "Hallo"
        store.update(Data("thing", {"country": "CH", "n": 1, "name": "Grüezi"}))
        sync.sync()
        assert sorted(row["name"] for row in rows(one)) == ["Grüezi", "Hallo"]
        held(one).pop(("DE", 1)[: len(key)])
        sync.sync(allow_deletes=True)
        assert [found.fields["name"] for found in store.find("thing")] == ["Grüezi"]
        assert at_rest(sync)


FUNCTIONS = """
class Reversed:
    type, local_type = "str", "str"
    def read(self, local): return local[::-1]
    def write(self, canonical): return canonical[::-1]

backwards = Reversed()
doubled = (lambda local: local // 2, lambda canonical: canonical * 2)
"""
CUSTOM = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "str"
name = "str"
n = "int"
[stores.one]
url = "csv:one.csv"
[stores.one.types.thing]
[stores.own]
url = "sqlite:own.db"
[stores.own.types.thing]
convert = {{ name = "{module}:backwards", n = "{module}:doubled" }}
"""


def test_functions_are_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    module = f"own_conversions_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(FUNCTIONS)
    (tmp_path / "one.csv").write_text("id,name,n\na,Ann,3\n")
    sql(tmp_path / "own.db", "create table thing (id text primary key, name text, n integer)")
    sql(tmp_path / "own.db", "insert into thing values ('b', 'neB', 4), ('c', 'meC', 5)")
    with synchronizer(tmp_path, CUSTOM.format(module=module)) as sync:
        report = sync.sync()
        assert did(report["ingest"], "own") == {"created": 1, "quarantined": 1}
        assert "5 is not what its conversion would write for 2" in open_in(sync, "error", "quarantine")[0][0]
        assert sql(tmp_path / "own.db", "select * from thing where id = 'a'") == [("a", "nnA", 6)]
        assert (tmp_path / "one.csv").read_text() == "id,name,n\na,Ann,3\nb,Ben,2\n"


def test_another_conversion_is_another_mapping(tmp_path: Path) -> None:
    one, store = memory("one"), own({"id": "a", "status": "A"})
    with together(one, store, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
    placed(store, convert={"status": {**STATUS, "G": "gone"}, "price": "cents"})
    with together(one, store, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        with pytest.raises(GuardTripped, match="convert was"):
            sync.ingest()
        sync.ingest(allow_mapping=True)
        assert at_rest(sync)


def test_types_taken_from_the_stores_are_those_of_the_canonical_side() -> None:
    store = own(
        {"id": "a", "status": "A", "price": 150, "level": 3}, convert={"status": STATUS, "price": "cents"}
    )
    with together(store, memory("one")) as sync:
        sync.sync()
        assert canonical(sync, "a") == {"id": "a", "status": "active", "price": "1.50", "level": 3}
        assert sync.bound().types["thing"] == {
            "id": "str",
            "level": "int",
            "price": "decimal",
            "status": "str",
        }


def test_a_dry_run_with_conversions_leaves_no_trace() -> None:
    one, store = memory("one", {"id": "a", "status": "active"}), own()
    with together(one, store, fields=FIELDS) as sync:
        sync.ingest()
        [step] = entry(sync.replay(["own"], dry_run=True), "own")["plan"]
        assert (step["action"], step["key"]) == ("create", "a")
        assert rows(store) == []
