"""What values and names are taken to suggest."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.guessing import may_refer_to, says_when_changed, type_of, unique_in

TYPES = [
    (["1", "-20", "0"], "int"),
    (["01", "2"], "str"),  # leading zeros are part of a code
    (["+1"], "str"),
    (["-0"], "str"),
    (["1" * 19], "str"),
    (["1", "2.5"], "float"),
    (["1.10"], "decimal"),  # a float would write 1.1
    (["1.5", "1.50"], "decimal"),
    (["1e5"], "str"),
    (["1", ""], "str"),
    (["1", None], "int"),
    (["true", "false"], "str"),
    (["2024-02-29"], "date"),
    (["2023-02-29"], "str"),
    (["2024-02-29", "soon"], "str"),
    (["2024-02-29T10:00:00Z", "2024-02-29 10:00"], "datetime"),
    (["2024-02-29", "2024-02-29T10:00:00"], "str"),
    (["Ann"], "str"),
    ([None], "str"),
    ([], "str"),
    ([1, 2.5], "float"),
    ([True, False], "bool"),
    ([1, "x"], "str"),
    ([True, "x"], "json"),
    ([{"a": 1}], "json"),
]


@pytest.mark.parametrize(("values", "expected"), TYPES)
def test_types_are_guessed_with_care(values: list[Any], expected: str) -> None:
    assert type_of(values) == expected


ROWS = [
    {"order_no": 1, "line": 1, "qty": 2, "email": "a", "note": None},
    {"order_no": 1, "line": 2, "qty": 2, "email": "b", "note": "x"},
    {"order_no": 2, "line": 1, "qty": 1, "email": "c", "note": "y"},
]


def test_one_column_that_is_unique_is_enough() -> None:
    assert unique_in(ROWS, ["order_no", "line", "email"]) == ("email",)


def test_else_two_may_tell_records_apart_those_called_like_keys_first() -> None:
    assert unique_in(ROWS, ["qty", "line", "order_no"]) == ("line", "order_no")


def test_columns_with_gaps_tell_nothing_apart() -> None:
    assert unique_in(ROWS, ["note", "qty"]) is None


def test_without_records_nothing_is_known_to_be_unique() -> None:
    assert unique_in([], ["email"]) is None


@pytest.mark.parametrize(
    "name",
    ["updated_at", "modified_at", "last_modified", "changed_at", "updatedAt", "Last Update", "date_modified"],
)
def test_columns_that_say_when_a_record_was_changed(name: str) -> None:
    assert says_when_changed(name)


@pytest.mark.parametrize("name", ["created_at", "exchange", "unchanged_since", "updated_by", "changes"])
def test_columns_that_do_not(name: str) -> None:
    assert not says_when_changed(name)


TYPES_THERE = ["customers", "Order Lines", "country", "boxes", "cities"]


@pytest.mark.parametrize(
    ("column", "type"),
    [
        ("customer_id", "customers"),
        ("CustomerID", "customers"),
        ("orderLineNo", "Order Lines"),
        ("country_code", "country"),
        ("box_nr", "boxes"),
        ("city_id", "cities"),
        ("customer", None),
        ("id", None),
        ("boss_id", None),
    ],
)
def test_the_type_that_a_column_is_called_after(column: str, type: str | None) -> None:
    assert may_refer_to(column, TYPES_THERE) == type
