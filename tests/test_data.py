"""A key's parts and its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.data import join_key, split_key

# Rich in what could be taken for something else.
PARTS = st.text(
    st.sampled_from(["/", "%", "2", "F", "5", "f", "a", "é", "\0", "\U0001f600"]), max_size=8
) | st.text(max_size=8)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["ann@example.com"], "ann@example.com"),
        (["a/b%2F%"], "a/b%2F%"),  # the only part stands as it is
        ([""], ""),
        (["a", "b"], "a/b"),
        (["", ""], "/"),
        (["", "", ""], "//"),
        (["a/b", "c"], "a%2Fb/c"),
        (["50%", "c"], "50%/c"),  # a % that means nothing stays readable
        (["a%2Fb", "c"], "a%252Fb/c"),
        (["a%25b", "c"], "a%2525b/c"),
        (["a%2fb", "c"], "a%2fb/c"),
        (["Zürich", "ß/ß"], "Zürich/ß%2Fß"),
    ],
)
def test_how_a_key_is_written(parts: list[str], text: str) -> None:
    assert join_key(parts) == text
    assert split_key(text, len(parts)) == parts


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_splitting_undoes_joining(parts: list[str]) -> None:
    assert split_key(join_key(parts), len(parts)) == parts


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.lists(PARTS, min_size=n, max_size=n)] * 2)))
def test_two_keys_have_two_texts(pair: tuple[list[str], list[str]]) -> None:
    one, other = pair
    assert (join_key(one) == join_key(other)) == (one == other)


@pytest.mark.parametrize(("text", "parts"), [("a", 2), ("a/b/c", 2), ("", 2), ("a/b", 3)])
def test_another_number_of_parts_is_an_error_that_says_how_many_there_should_be(
    text: str, parts: int
) -> None:
    with pytest.raises(ValueError, match=f"a key of {parts} parts"):
        split_key(text, parts)
