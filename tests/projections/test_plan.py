"""What a replay has to do with one record."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.projections.plan import plan

ANN: dict[str, Any] = {"name": "Ann", "age": 1}
ANNA: dict[str, Any] = {"name": "Anna", "age": 1}


@pytest.mark.parametrize(
    ("want", "holds", "held_at", "version_of", "action", "fields"),
    [
        # it should not hold it
        (None, None, None, None, "none", []),
        (None, ANN, 3, ANN, "delete", ["age", "name"]),
        (None, ANN, None, None, "delete", ["age", "name"]),
        # it does not hold it
        (ANN, None, None, None, "create", ["age", "name"]),
        (ANN, None, 3, ANN, "create", ["age", "name"]),
        ({}, None, None, None, "create", []),
        # it holds it just so; then it only has to be noted, if at all
        (ANN, ANN, 5, ANN, "none", []),
        (ANN, ANN, 3, ANNA, "note", []),
        (ANN, ANN, None, None, "note", []),
        # it holds its own version of just this
        (ANN, {**ANN, "name": "ANN"}, 3, ANN, "note", []),
        (ANN, {**ANN, "name": "ANN"}, 5, ANN, "none", []),
        # a version of something else, or of nothing, does not help
        (ANNA, {**ANN, "name": "ANN"}, 3, ANN, "update", ["name"]),
        (ANN, {**ANN, "name": "ANN"}, None, ANN, "update", ["name"]),
        # only what differs is written
        (ANNA, ANN, 3, ANN, "update", ["name"]),
        (ANNA, {"name": "Anna"}, 3, ANN, "update", ["age"]),
        ({"name": "Ann"}, ANN, 3, ANN, "update", ["age"]),
        ({"name": "Ann", "age": None}, {"name": "Ann"}, 3, ANN, "update", ["age"]),
        ({"age": 1}, {"age": True}, 3, ANN, "update", ["age"]),
        ({"age": 1}, {"age": "1"}, 3, ANN, "update", ["age"]),
    ],
)
def test_what_a_store_lacks(
    want: Any, holds: Any, held_at: int | None, version_of: Any, action: str, fields: list[str]
) -> None:
    step = plan("contact", "ann", 5, want, holds, held_at, version_of)
    assert (step.action, step.fields, step.want) == (action, fields, want)


def test_a_step_as_a_dry_run_prints_it() -> None:
    step = plan("contact", "ann", 5, ANNA, ANN, 3, ANN)
    assert step.as_document() == {
        "action": "update",
        "type": "contact",
        "key": "ann",
        "seq": 5,
        "fields": ["name"],
    }


@pytest.mark.parametrize(
    ("holds", "held_at", "action", "fields"),
    [
        (None, None, "create", ["name"]),
        ({**ANN, "age": 2}, 5, "none", []),
        ({**ANN, "age": 2}, 3, "note", []),
        ({"name": "Ann"}, 3, "note", []),
        ({**ANNA, "age": 2}, 3, "update", ["name"]),
    ],
)
def test_what_is_never_written_does_not_matter(
    holds: Any, held_at: int | None, action: str, fields: list[str]
) -> None:
    step = plan("contact", "ann", 5, ANN, holds, held_at, holds, frozenset({"age"}))
    assert (step.action, step.fields, step.want) == (action, fields, ANN)
