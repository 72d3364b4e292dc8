"""Whether an id still means the record that it meant: a table of what it held and holds."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.projections.identity import is_another

TYPES = {"id": "str", "name": "str", "n": "int", "price": "decimal", "made": "datetime"}


@pytest.mark.parametrize(
    ("had", "now", "another"),
    [
        ({"name": "A", "n": 1}, {"name": "A", "n": 2}, False),  # something stayed
        ({"name": "A", "n": 1}, {"name": "B", "n": 2}, True),  # nothing did
        ({"price": "1.50"}, {"price": "1.5"}, False),  # another way of writing it
        ({}, {}, False),  # nothing to compare
        ({"name": "A"}, {"n": 1}, False),
        ({"name": None}, {"name": None}, False),
        ({"name": None, "n": 1}, {"name": None, "n": 2}, True),  # null is nothing that stays
        ({"name": "A"}, {"name": None}, False),
    ],
)
def test_without_a_time_of_creation_what_stayed_the_same_tells(
    had: dict[str, Any], now: dict[str, Any], another: bool
) -> None:
    assert is_another({"id": "a", **had}, {"id": "b", **now}, ("id",), TYPES, None) is another


MADE, LATER = "2026-01-31T12:00:00Z", "2026-02-01T12:00:00Z"


@pytest.mark.parametrize(
    ("had", "now", "another"),
    [
        ({"made": MADE, "name": "A"}, {"made": LATER, "name": "A"}, True),
        ({"made": MADE, "name": "A"}, {"made": MADE, "name": "B"}, False),
        ({"made": MADE, "name": "A"}, {"made": "2026-01-31T13:00:00+01:00", "name": "B"}, False),
        ({"made": None, "name": "A"}, {"made": LATER, "name": "A"}, False),  # nothing told: the rest tells
        ({"made": None, "name": "A"}, {"made": LATER, "name": "B"}, True),
    ],
)
def test_a_time_of_creation_tells_first(had: dict[str, Any], now: dict[str, Any], another: bool) -> None:
    assert is_another({"id": "a", **had}, {"id": "b", **now}, ("id",), TYPES, "made") is another
