"""What is more likely an accident than an intention."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.projections.guards import emptied, mapping_changed, too_many_deletes


@pytest.mark.parametrize(
    ("known", "found", "reason"),
    [
        (0, 0, None),
        (0, 5, None),
        (5, 1, None),
        (1, 0, "it held 1 record and now shows none"),
        (5, 0, "it held 5 records and now shows none"),
    ],
)
def test_a_store_that_shows_nothing_any_more(known: int, found: int, reason: str | None) -> None:
    assert emptied(known, found) == reason


@pytest.mark.parametrize(
    ("known", "gone", "limit", "stops"),
    [
        (10, 0, 0, False),
        (10, 0, "0%", False),
        (10, 1, 0, True),
        (10, 3, 3, False),
        (10, 4, 3, True),
        (10, 5, "50%", False),  # half is not more than half
        (10, 6, "50%", True),
        (11, 6, "50%", True),
        (3, 1, "33%", True),
        (3, 1, "34%", False),
        (10, 10, "100%", False),
        (10, 1, "0%", True),
        (1_000_000, 1, "0%", True),
    ],
)
def test_more_records_gone_than_allowed(known: int, gone: int, limit: int | str, stops: bool) -> None:
    reason = too_many_deletes(known, gone, limit)
    assert (reason is not None) == stops
    if reason is not None:
        assert reason.startswith(f"{gone} of {known} known records are gone, more than max_deletes = ")
        assert str(limit) in reason


BEFORE: dict[str, Any] = {
    "key": ["email"],
    "fields": {"email": ["email", "str"], "name": ["full_name", "str"]},
    "id": None,
    "options": {"table": "t"},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"fields": {"email": ["email", "str"]}}, "field 'name' is no longer mapped"),
        ({"fields": {**BEFORE["fields"], "age": ["age", "int"]}}, "field 'age' is new"),
        ({"fields": {**BEFORE["fields"], "name": ["name", "str"]}}, "field 'name' was 'full_name' (str), now 'name' (str)"),
        ({"fields": {**BEFORE["fields"], "name": ["full_name", "json"]}}, "field 'name' was 'full_name' (str), now 'full_name' (json)"),
        ({"key": ["name"]}, "key was ['email'], now ['name']"),
        ({"id": "nr"}, "id was None, now 'nr'"),
        ({"options": {"table": "u"}}, "options was {'table': 't'}, now {'table': 'u'}"),
    ],
)  # fmt: skip
def test_another_mapping_says_what_changed(change: dict[str, Any], told: str) -> None:
    assert mapping_changed(BEFORE, {**BEFORE, **change}) == f"its mapping changed since the last run: {told}"


def test_several_changes_are_all_told() -> None:
    reason = mapping_changed(BEFORE, {**BEFORE, "id": "nr", "fields": {"email": ["mail", "str"]}})
    assert reason is not None
    assert reason.count(";") == 2


def test_the_same_mapping_and_the_first_one_are_no_change() -> None:
    assert mapping_changed(None, BEFORE) is None
    assert mapping_changed(BEFORE, {name: BEFORE[name] for name in reversed(BEFORE)}) is None
    assert mapping_changed(BEFORE, {**BEFORE, "fields": dict(reversed(BEFORE["fields"].items()))}) is None
