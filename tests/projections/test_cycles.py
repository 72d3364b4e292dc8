"""Records that wait for each other: which to write first."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.projections.cycles import cuts


@pytest.mark.parametrize(
    ("waits", "cut"),
    [
        ({}, []),
        ({"a": ["b"], "b": []}, []),
        ({"a": ["elsewhere"]}, []),
        ({"a": ["a"]}, ["a"]),
        ({"a": ["b"], "b": ["a"]}, ["a"]),
        ({"tail": ["a"], "a": ["b"], "b": ["a"]}, ["a"]),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}, ["a", "c"]),
        ({"a": ["b", "c"], "b": ["a"], "c": ["a"]}, ["a"]),
    ],
)
def test_one_of_each_circle_is_chosen(waits: dict[str, list[str]], cut: list[str]) -> None:
    assert cuts(waits) == cut


def test_a_record_that_cannot_be_first_is_passed_over() -> None:
    circle = {"a": ["b"], "b": ["c"], "c": ["a"]}
    assert cuts(circle, never=["a"]) == ["b"]
    assert cuts(circle, never=["a", "b"]) == ["c"]
    assert cuts(circle, never=["a", "b", "c"]) == []


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=3), max_size=13))
def test_a_few_rounds_leave_no_circle(waits: dict[int, list[int]]) -> None:
    left = {node: list(others) for node, others in waits.items()}
    for _ in range(len(waits) + 1):
        chosen = cuts(left)
        if not chosen:
            break
        for node in chosen:
            left[node] = []
    list(TopologicalSorter(left).static_order())
