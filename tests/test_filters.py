"""Which canonical records pass a filter."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from evsync.errors import ConfigError
from evsync.filters import check_shape, parse_filter, read_filter
from evsync.values import decode, encode

TYPES = {
    "id": "str", "country": "str", "level": "int", "price": "decimal", "since": "date", "at": "datetime",
    "on": "bool", "more": "json", "ratio": "float",
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "passing", "failing"),
    [
        ({"country": "CH"}, ["CH"], ["DE", "ch", "", None]),
        ({"country": ["CH", "LI"]}, ["CH", "LI"], ["DE", None]),
        ({"country": {"not": "CH"}}, ["DE", None], ["CH"]),
        ({"country": {"not": ["CH", "LI"]}}, ["DE", None], ["CH", "LI"]),
        ({"country": {"min": "B", "max": "D"}}, ["B", "CH", "D"], ["A", "DE", None]),
        ({"country": {"min": "B", "not": "C"}}, ["B", "D"], ["A", "C", None]),
        ({"level": 3}, [3], [2, 4, None]),
        ({"level": "3"}, [3], [2]),
        ({"level": {"min": 3}}, [3, 10], [2, -5, None]),
        ({"level": {"max": 3}}, [3, -5], [4, None]),
        ({"price": 1.5}, ["1.5", "1.50"], ["1.51", "NaN", None]),
        ({"price": {"min": 2}}, ["2", "2.00", "10"], ["1.99", "-10", "NaN", "sNaN", None]),
        ({"since": date(2024, 2, 29)}, ["2024-02-29"], ["2024-03-01"]),
        ({"since": {"max": "2024-02-29"}}, ["2024-02-29", "1999-01-01"], ["2024-03-01"]),
        ({"at": {"min": datetime(2024, 1, 1, 12, tzinfo=UTC)}},
         ["2024-01-01T12:00:00Z", "2024-01-01T13:00:00+01:00", "2024-01-01T12:00:00"],
         ["2024-01-01T12:30:00+01:00", "2024-01-01T11:59:59"]),
        ({"on": True}, [True], [False, None]),
        ({"on": {"not": True}}, [False, None], [True]),
        ({"more": 1}, [1], [1.0, True, "1", [1], None]),
        ({"ratio": {"min": 0}}, [0.0, 1.5, "Infinity"], [-0.5, "NaN", "-Infinity", None]),
    ],
)  # fmt: skip
def test_what_passes(where: dict[str, Any], passing: list[Any], failing: list[Any]) -> None:
    found = parse_filter("here", where, TYPES)
    assert found is not None
    [field] = where
    told = read_filter(decode(encode(found.as_document())))
    assert told is not None
    for one in (found, told):  # the document says all
        assert [value for value in passing if not one.holds({field: value})] == []
        assert [value for value in failing if one.holds({field: value})] == []
        assert one.holds({}) is one.holds({field: None})


def test_all_conditions_have_to_hold() -> None:
    found = parse_filter("here", {"country": "CH", "level": {"min": 2}}, TYPES)
    assert found is not None
    assert found.holds({"country": "CH", "level": 2})
    assert not found.holds({"country": "CH", "level": 1})
    assert not found.holds({"country": "DE", "level": 2})


def test_a_value_from_before_the_field_had_its_type_passes_nothing_but_not() -> None:
    some, none = (
        parse_filter("", {"level": {"min": 1}}, TYPES),
        parse_filter("", {"since": {"not": "2024-01-01"}}, TYPES),
    )
    assert some is not None
    assert none is not None
    assert not some.holds({"level": "many"})
    assert none.holds({"since": "long ago"})


def test_no_condition_is_no_filter() -> None:
    assert parse_filter("here", {}, TYPES) is None
    assert read_filter(None) is None


@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        ({"contry": "CH"}, "unknown field 'contry'", "did you mean 'country'?"),
        ({"zzz": "CH"}, "unknown field 'zzz'", "the fields are: at, country"),
        ({"level": "high"}, "filter of 'level': 'high' is not of type int", "of type 'int'"),
        ({"country": []}, "filter of 'country' names no value", "at least one"),
        ({"country": {"not": []}}, "filter of 'country' names no value", ""),
        ({"country": {}}, "filter of 'country' says nothing", "min, max, not"),
        ({"level": {"mim": 3}}, "unknown condition 'mim'", "did you mean 'min'?"),
        ({"level": {"min": [3]}}, "'min' must be one value", ""),
        ({"level": [[3]]}, "[3] is no single value", ""),
        ({"on": {"min": True}}, "values of type 'bool' have no order", ""),
        ({"country": "${HOME}"}, "cannot take a variable", "the value itself"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused(where: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_filter("evsync.toml, [stores.a]", where, TYPES)
    assert caught.value.message.startswith("evsync.toml, [stores.a]: the filter ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_shape_of_a_filter_is_checked_without_the_types() -> None:
    check_shape("here", {"anything": {"min": 1, "not": ["x"]}})
    with pytest.raises(ConfigError, match="unknown condition 'least'"):
        check_shape("here", {"anything": {"least": 1}})
