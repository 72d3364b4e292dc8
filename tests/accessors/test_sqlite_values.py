"""Typed values in SQLite columns of every affinity: stored exactly, or refused, never altered."""

from __future__ import annotations

import math
import sqlite3
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accessors.sqlite_values import (
    COLUMN_TYPES,
    affinity,
    encoder,
    settled,
    spellings,
    type_of,
    type_of_values,
    wire,
)
from evsync.errors import Refused
from evsync.testing.conformance import EDGES
from evsync.values import TYPES, dump, encode

DECLARED = {"INTEGER": "INTEGER", "REAL": "REAL", "NUMERIC": "NUMERIC", "TEXT": "TEXT", "BLOB": ""}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
numbers_as_text = st.from_regex(
    r"\s?[+-]?[0-9]{0,20}(\.[0-9]{0,4})?([eE][+-]?[0-9]{1,3})?\s?", fullmatch=True
)
typed_values = {
    "str": st.text() | numbers_as_text | st.integers().map(str),
    "int": st.integers() | st.integers(2**53 - 5, 2**53 + 5) | st.integers(2**63 - 5, 2**63 + 5),
    "float": st.floats() | st.integers(-(2**64), 2**64).map(float),
    "decimal": st.decimals() | st.integers().map(Decimal) | st.decimals(allow_nan=False, places=2),
    "bool": st.booleans(),
    "date": st.dates(),
    "time": st.times(),
    "datetime": st.datetimes(),
    "uuid": st.uuids(),
    "bytes": st.binary(),
    "json": json_values.filter(lambda value: value is not None),
}


def stored(column: str, form: Any) -> Any:
    """What SQLite gives back of what it was given for a column of this affinity."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE TABLE t (v {DECLARED[column]})")
        connection.execute("INSERT INTO t VALUES (?)", (form,))
        return connection.execute("SELECT v FROM t").fetchone()[0]
    finally:
        connection.close()


def test_every_value_type_has_a_generator() -> None:
    assert typed_values.keys() == TYPES.keys()


@pytest.mark.parametrize("column", DECLARED)
@pytest.mark.parametrize("value_type", TYPES)
@given(data=st.data())
def test_what_is_not_refused_reads_back_bit_by_bit(value_type: str, column: Any, data: st.DataObject) -> None:
    typed = data.draw(typed_values[value_type])
    try:
        form = encoder(value_type, column)(typed)
    except Refused:
        assert value_type == "str" or column == "TEXT", "only text that looks like a number has no way in"
        return
    assert encode(wire(value_type, stored(column, form))) == encode(dump(value_type, typed))


@pytest.mark.parametrize("column", DECLARED)
@pytest.mark.parametrize("value_type", [name for name in TYPES if name != "str"])
def test_every_column_holds_the_edge_values(value_type: str, column: Any) -> None:
    for typed in EDGES[value_type]:
        back = stored(column, encoder(value_type, column)(typed))
        assert encode(wire(value_type, back)) == encode(dump(value_type, typed)), repr(typed)


@pytest.mark.parametrize("column", DECLARED)
@given(
    form=st.text()
    | numbers_as_text
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary()
)
def test_we_know_what_an_affinity_does(column: Any, form: Any) -> None:
    """Wherever `settled` is sure, SQLite agrees."""
    expected = settled(form, column)
    if isinstance(expected, str | int | float | bytes):
        assert repr(stored(column, form)) == repr(expected)


@pytest.mark.parametrize(
    ("column", "typed", "form"),
    [
        ("REAL", -0.0, b"-0.0"),
        ("REAL", math.nan, "NaN"),
        ("REAL", math.inf, math.inf),
        ("TEXT", 0.1, "0.1"),
        ("INTEGER", 2**63, b"9223372036854775808"),
        ("TEXT", 2**63, "9223372036854775808"),
        ("REAL", 2**53 + 1, b"9007199254740993"),
        ("NUMERIC", Decimal("9.99"), 9.99),
        ("NUMERIC", Decimal("1.50"), b"1.50"),
        ("NUMERIC", Decimal("1E+2"), b"1E+2"),
        ("TEXT", Decimal("1.50"), "1.50"),
        ("BLOB", True, 1),
        ("TEXT", True, "true"),
        ("REAL", False, "false"),
        ("NUMERIC", date(2024, 1, 2), "2024-01-02"),
        ("NUMERIC", time(1, 2), "01:02:00"),
        ("INTEGER", datetime(2024, 1, 2), "2024-01-02T00:00:00"),
        ("INTEGER", "12", "12"),
    ],
)
def test_the_form_chosen(column: Any, typed: Any, form: Any) -> None:
    from evsync.values import infer

    chosen = encoder(infer(typed) or "", column)(typed)
    assert (type(chosen), repr(chosen)) == (type(form), repr(form))


@pytest.mark.parametrize("column", ["INTEGER", "REAL", "NUMERIC"])
@pytest.mark.parametrize("typed", ["007", "1e3", " 5", "5 ", "+5", "1.0", "-0", "9223372036854775808"])
def test_text_that_would_become_another_number_is_refused(column: Any, typed: str) -> None:
    with pytest.raises(Refused, match=f"{column} affinity"):
        encoder("str", column)(typed)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INT", "INTEGER"), ("BIGINT", "INTEGER"), ("FLOATING POINT", "INTEGER"), ("CHARINT", "INTEGER"),
        ("VARCHAR(10)", "TEXT"), ("CLOB", "TEXT"), ("DATETIME TEXT", "TEXT"), ("BLOB", "BLOB"), ("", "BLOB"),
        ("DOUBLE PRECISION", "REAL"), ("float", "REAL"), ("DECIMAL(10,5)", "NUMERIC"), ("STRING", "NUMERIC"),
        ("DATE", "NUMERIC"), ("BOOLEAN", "NUMERIC"),
    ],
)  # fmt: skip
def test_affinity_follows_the_rules_of_sqlite(declared: str, expected: str) -> None:
    assert affinity(declared) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("boolean", "bool"), ("DATETIME", "datetime"), ("TIMESTAMP", "datetime"), ("DATE", "date"), ("TIME", "time"),
        ("UUID", "uuid"), ("JSON", "json"), ("JSONB", "json"), ("BIGINT", "int"), ("NVARCHAR(5)", "str"),
        ("BLOB", "bytes"), ("DOUBLE", "float"), ("DECIMAL(10,2)", "decimal"), ("NUMERIC", "decimal"),
        ("MONEY", "decimal"), ("STRING", None), ("", None),
    ],
)  # fmt: skip
def test_a_declared_type_suggests_a_value_type(declared: str, expected: str | None) -> None:
    assert type_of(declared) == expected


def test_what_we_declare_is_taken_back_as_the_same_type() -> None:
    assert {name: type_of(declared) for name, declared in COLUMN_TYPES.items()} == {
        name: name for name in TYPES
    }


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ([], None),
        (["null"], None),
        (["integer", "null"], "int"),
        (["integer", "real"], "float"),
        (["text"], "str"),
        (["blob"], "bytes"),
        (["text", "integer"], None),
    ],
)
def test_values_suggest_the_type_of_an_undeclared_column(storage: list[str], expected: str | None) -> None:
    assert type_of_values(storage) == expected


def test_a_key_is_looked_for_as_other_programs_write_it() -> None:
    moment = TYPES["datetime"].read("2024-01-01T10:00:00Z")
    assert "2024-01-01 10:00:00+00:00" in spellings("datetime", "TEXT", moment)
    unique = TYPES["uuid"].read("12345678-1234-5678-1234-56781234abcd")
    assert unique.bytes in spellings("uuid", "BLOB", unique)
    assert spellings("str", "BLOB", "7") == ["7", 7]
    assert spellings("str", "TEXT", "\ud800") == []
