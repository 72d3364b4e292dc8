"""The value types: what they take and refuse, and that nothing is lost on the way."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.errors import BadValue
from evsync.values import (
    ABSENT,
    TYPES,
    decode,
    dump,
    encode,
    equivalent,
    infer,
    load,
    micros,
    moment,
    parse_json,
    read,
    same,
    shown,
    to_text,
    widen,
    wire_of,
)

CET = timezone(timedelta(hours=1))
ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

TAKEN: list[tuple[str, Any, Any]] = [  # type, raw, wire
    ("str", "x", "x"),
    ("str", "", ""),
    ("str", "ä\0b", "ä\0b"),
    ("str", 7, "7"),
    ("str", Decimal("1.50"), "1.50"),
    ("str", UUID(ID), ID),
    ("int", 7, 7),
    ("int", -(2**70), -(2**70)),
    ("int", "7", 7),
    ("int", "-007", -7),
    ("int", "+7", 7),
    ("int", 7.0, 7),
    ("int", Decimal("7E2"), 700),
    ("int", b"12345678901234567890", 12345678901234567890),
    ("float", 1.5, 1.5),
    ("float", 1, 1.0),
    ("float", "1.5", 1.5),
    ("float", ".5", 0.5),
    ("float", "5.", 5.0),
    ("float", "1e-3", 0.001),
    ("float", "-0", -0.0),
    ("float", Decimal("0.5"), 0.5),
    ("float", math.inf, "Infinity"),
    ("float", -math.inf, "-Infinity"),
    ("float", math.nan, "NaN"),
    ("float", "nan", "NaN"),
    ("float", "+inf", "Infinity"),
    ("float", "-Infinity", "-Infinity"),
    ("decimal", Decimal("1.50"), "1.50"),
    ("decimal", "1.50", "1.50"),
    ("decimal", 3, "3"),
    ("decimal", 0.1, "0.1"),  # as the store shows it, not as the binary fraction is
    ("decimal", math.inf, "Infinity"),
    ("decimal", math.nan, "NaN"),
    ("decimal", "-0", "-0"),
    ("decimal", "1E+3", "1E+3"),
    ("decimal", b"0.10", "0.10"),
    ("bool", True, True),
    ("bool", 0, False),
    ("bool", 1, True),
    ("bool", "TRUE", True),
    ("bool", "f", False),
    ("bool", "Yes", True),
    ("bool", "0", False),
    ("date", date(2024, 2, 29), "2024-02-29"),
    ("date", "2024-02-29", "2024-02-29"),
    ("time", time(10, 0), "10:00:00"),
    ("time", "10:00", "10:00:00"),
    ("time", "10:00:00.5", "10:00:00.500000"),
    ("time", "10:00:00+01:00", "10:00:00+01:00"),
    ("time", "10:00:00+00:00", "10:00:00Z"),
    ("datetime", datetime(2024, 2, 29, 10), "2024-02-29T10:00:00"),
    ("datetime", datetime(2024, 2, 29, 10, tzinfo=UTC), "2024-02-29T10:00:00Z"),
    ("datetime", datetime(2024, 2, 29, 10, tzinfo=CET), "2024-02-29T10:00:00+01:00"),
    ("datetime", "2024-02-29 10:00:00.000001", "2024-02-29T10:00:00.000001"),
    ("datetime", "2024-02-29T10:00:00.1230000", "2024-02-29T10:00:00.123000"),
    ("datetime", "2024-02-29", "2024-02-29T00:00:00"),
    ("uuid", UUID(ID), ID),
    ("uuid", ID.upper(), ID),
    ("uuid", UUID(ID).bytes, ID),
    ("bytes", b"\0\xff", "AP8="),
    ("bytes", memoryview(b"\0\xff"), "AP8="),
    ("bytes", "AP8=", "AP8="),
    ("bytes", b"", ""),
    ("json", {"b": [1, 1.0, True, None], "a": "x"}, {"a": "x", "b": [1, 1.0, True, None]}),
    ("json", "text", "text"),
]

REFUSED: list[tuple[str, Any]] = [
    ("str", 1.5),
    ("str", True),
    ("str", b"x"),
    ("str", ["x"]),
    ("int", True),
    ("int", 1.5),
    ("int", math.nan),
    ("int", math.inf),
    ("int", ""),
    ("int", "1_000"),
    ("int", " 1"),
    ("int", "1\n"),
    ("int", "1.0"),
    ("int", "٣"),
    ("int", "0x10"),
    ("int", b"\xff"),
    ("int", Decimal("1.5")),
    ("int", Decimal("NaN")),
    ("int", Decimal("sNaN")),
    ("float", True),
    ("float", 2**53 + 1),
    ("float", 10**400),
    ("float", "1e999"),
    ("float", "1,5"),
    ("float", "1_0.0"),
    ("float", " 1.0"),
    ("float", "infinit"),
    ("float", Decimal("0.1")),
    ("float", Decimal("sNaN")),
    ("decimal", True),
    ("decimal", "1,5"),
    ("decimal", ""),
    ("decimal", "1_0"),
    ("decimal", "NaN123"),
    ("decimal", Decimal("NaN123")),
    ("decimal", Decimal("-sNaN1")),
    ("decimal", b"\xff"),
    ("bool", 2),
    ("bool", 1.0),
    ("bool", "on"),
    ("bool", ""),
    ("date", "29.02.2024"),
    ("date", "2023-02-29"),
    ("date", datetime(2024, 2, 29)),
    ("date", 20240229),
    ("time", "25:00"),
    ("time", "10:00:00.0000001"),
    ("time", 10),
    ("datetime", "2024-02-29T10:00:00.1234567"),
    ("datetime", "yesterday"),
    ("datetime", 0),
    ("datetime", date(2024, 2, 29)),
    ("uuid", "x"),
    ("uuid", b"x"),
    ("uuid", 1),
    ("bytes", "AP8"),
    ("bytes", "A P8="),
    ("bytes", 1),
    ("json", math.nan),
    ("json", {"a": math.inf}),
    ("json", {"a": Decimal(1)}),
    ("json", {1: "a"}),  # would come back as "1"
    ("json", b"x"),
]


@pytest.mark.parametrize(("name", "raw", "wire"), TAKEN)
def test_what_a_store_hands_out_becomes_what_stands_in_the_journal(name: str, raw: Any, wire: Any) -> None:
    assert same(wire_of(name, raw), wire)
    assert same(dump(name, load(name, wire)), wire)
    assert same(decode(encode(wire)), wire)


@pytest.mark.parametrize(("name", "raw", "wire"), TAKEN)
def test_text_is_read_back(name: str, raw: Any, wire: Any) -> None:
    text = to_text(name, read(name, raw))
    assert same(wire_of(name, parse_json(text) if name == "json" else text), wire)


@pytest.mark.parametrize(("name", "raw"), REFUSED)
def test_what_a_type_refuses(name: str, raw: Any) -> None:
    with pytest.raises(BadValue, match=f"is not of type {name}"):
        read(name, raw)


def test_a_refused_value_is_shown_cut_off() -> None:
    with pytest.raises(BadValue) as caught:
        read("int", "x" * 1000)
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("name", TYPES)
def test_null_is_null_in_every_type(name: str) -> None:
    assert read(name, None) is wire_of(name, None) is dump(name, None) is load(name, None) is None


OFFSETS = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TYPED = {  # `fold` tells two wall clocks apart; with a fixed offset there is but one
    "str": st.text(),
    "int": st.integers(),
    "float": st.floats(),
    "decimal": st.decimals(),
    "bool": st.booleans(),
    "date": st.dates(),
    "time": st.times(timezones=OFFSETS).map(lambda value: value.replace(fold=0)),
    "datetime": st.datetimes(timezones=OFFSETS).map(lambda value: value.replace(fold=0)),
    "uuid": st.uuids(),
    "bytes": st.binary(),
    "json": PLAIN_JSON,
}


def test_every_type_is_tried() -> None:
    assert TYPED.keys() == TYPES.keys()


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict | list):  # an object has no order
        return encode(one) == encode(other)
    return type(one) is type(other) and repr(one) == repr(other)


@given(st.sampled_from(sorted(TYPED)).flatmap(lambda name: st.tuples(st.just(name), TYPED[name])))
def test_no_value_loses_anything_on_the_wire(value: tuple[str, Any]) -> None:
    name, typed = value
    wire = dump(name, read(name, typed))
    assert alike(load(name, decode(encode(wire))), typed)


@given(st.sampled_from(sorted(TYPED)).flatmap(lambda name: st.tuples(st.just(name), TYPED[name])))
def test_no_value_loses_anything_as_text(value: tuple[str, Any]) -> None:
    name, typed = value
    text = to_text(name, typed)
    assert alike(parse_json(text) if name == "json" else read(name, text), typed)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "1e999", "0.10000000000000000001", "{} x"])
def test_json_text_that_would_not_come_back_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_json(text)


# -- comparing ------------------------------------------------------------------------------------------

ONES = [1, 1.0, True, "1", None, "", 0.0, -0.0, [1], [1.0], {"a": 1}, {"a": True}, {}, [], ABSENT]


@pytest.mark.parametrize("one", range(len(ONES)))
@pytest.mark.parametrize("other", range(len(ONES)))
def test_values_are_the_same_only_if_written_alike(one: int, other: int) -> None:
    assert same(ONES[one], ONES[other]) == (one == other)


def test_the_order_of_an_object_is_not_part_of_it() -> None:
    assert same({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1})
    assert not same([1, 2], [2, 1])


@pytest.mark.parametrize(
    ("name", "one", "other", "answer"),
    [
        ("decimal", "1.5", "1.50", True),
        ("decimal", "0", "-0", True),
        ("decimal", "1.5", "1.51", False),
        ("decimal", "sNaN", "1", False),
        ("decimal", "NaN", "NaN", True),
        ("float", 0.0, -0.0, True),
        ("float", 1.0, 2.0, False),
        ("float", "NaN", 1.0, False),
        ("datetime", "2024-02-29T10:00:00+02:00", "2024-02-29T08:00:00Z", True),
        ("datetime", "2024-02-29T10:00:00+02:00", "2024-02-29T10:00:00Z", False),
        ("datetime", "2024-02-29T10:00:00", "2024-02-29T10:00:00Z", False),  # nobody knows which clock
        ("time", "10:00:00+02:00", "08:00:00Z", True),
        ("time", "10:00:00", "10:00:00Z", False),
        ("str", "1.5", "1.50", False),
        ("str", "a", "a", True),
        ("json", [1], [1.0], False),
        ("json", {"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("str", None, None, True),
        ("str", None, "", False),
        ("decimal", ABSENT, None, False),
        ("decimal", ABSENT, "0", False),
        ("decimal", ABSENT, ABSENT, True),
    ],
)
def test_what_means_the_same(name: str, one: Any, other: Any, answer: bool) -> None:
    assert equivalent(name, one, other) is answer
    assert equivalent(name, other, one) is answer


@pytest.mark.parametrize(
    ("name", "wire", "json"),
    [
        ("datetime", "2024-02-29T10:00:00+02:00", "2024-02-29T08:00:00Z"),
        ("datetime", "2024-02-29T10:00:00Z", "2024-02-29T10:00:00Z"),
        ("datetime", "2024-02-29T10:00:00", "2024-02-29T10:00:00"),
        ("datetime", "0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"),  # has no UTC form
        ("datetime", None, None),
        ("time", "10:00:00+02:00", "10:00:00+02:00"),
        ("decimal", "1.50", "1.50"),
        ("str", "2024-02-29T10:00:00+02:00", "2024-02-29T10:00:00+02:00"),
    ],
)
def test_how_a_value_is_shown(name: str, wire: Any, json: Any) -> None:
    assert shown(name, wire) == json


# -- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1969-12-31T23:59:59.500000Z", -500_000),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ("0999-06-01T00:00:00Z", -30_628_713_600_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
    ],
)
def test_a_moment_is_a_count_of_microseconds(text: str, count: int) -> None:
    assert micros(datetime.fromisoformat(text)) == count
    assert moment(count) == text


def test_a_moment_without_an_offset_is_taken_as_utc() -> None:
    assert micros(datetime(1970, 1, 1)) == 0
    assert micros(datetime(1970, 1, 1, tzinfo=CET)) == -3_600_000_000


@given(st.datetimes())
def test_no_moment_loses_anything(when: datetime) -> None:
    assert datetime.fromisoformat(moment(micros(when))) == when.replace(tzinfo=UTC)


# -- guessing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (None, None),
        (True, "bool"),
        (1, "int"),
        (1.0, "float"),
        (Decimal(1), "decimal"),
        (datetime(2024, 1, 1), "datetime"),
        (date(2024, 1, 1), "date"),
        (time(10), "time"),
        (UUID(ID), "uuid"),
        ("1", "str"),
        (b"1", "bytes"),
        ([], "json"),
        ({}, "json"),
    ],
)
def test_what_a_value_suggests(raw: Any, name: str | None) -> None:
    assert infer(raw) == name


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (None, None, None),
        ("int", None, "int"),
        ("int", "int", "int"),
        ("int", "float", "float"),
        ("int", "str", "json"),
        ("date", "datetime", "json"),
    ],
)
def test_the_type_that_holds_both(one: str | None, other: str | None, both: str | None) -> None:
    assert widen(one, other) == widen(other, one) == both
