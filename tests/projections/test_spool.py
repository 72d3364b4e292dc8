"""Rows in order of their keys, by way of the disk: the same as sorting them in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.projections import spool
from evsync.projections.spool import Doubled, Order, Spool, by_number, by_text

texts = st.text(st.characters(codec="utf-8"), max_size=4)
numbers = st.one_of(
    st.integers(-300, 300).map(str), st.sampled_from(["007", "-0", "x", "", "1_0", " 1", "١"])
)


def spooled(keys: list[str], order: Order, run: int) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "RUN", run)
        patch.setattr(spool, "BLOCK", 3)
        rows = Spool(order)
        for key in keys:
            rows.add([(key, b"content")])
        rows.close()
        found = [row[0] for row in rows]
        assert rows.count == len(found)
        assert [row[0] for row in rows] == found, "it can be read twice"
        rows.discard()
        return found


@given(st.lists(texts, unique=True), st.integers(1, 12))
def test_texts_come_back_sorted(keys: list[str], run: int) -> None:
    assert spooled(keys, by_text, run) == sorted(keys)


@given(st.lists(numbers, unique=True), st.integers(1, 12))
def test_numbers_come_back_in_their_order_and_what_is_none_behind_them(keys: list[str], run: int) -> None:
    plain = [
        key
        for key in keys
        if key.lstrip("-").isascii() and key.lstrip("-").isdigit() and str(int(key)) == key
    ]
    found = spooled(keys, by_number, run)
    assert found[: len(plain)] == sorted(plain, key=int)
    assert sorted(found) == sorted(keys)


@given(st.lists(numbers, unique=True, min_size=1), st.data(), st.integers(1, 12))
def test_a_key_that_stands_twice_is_found(keys: list[str], data: st.DataObject, run: int) -> None:
    double = data.draw(st.sampled_from(keys))
    keys = data.draw(st.permutations([*keys, double]))
    for order in (by_text, by_number):
        with pytest.raises(Doubled) as found:
            spooled(keys, order, run)
        assert found.value.key == double


def test_rows_that_come_in_order_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = spool._write
    monkeypatch.setattr(spool, "_write", lambda *given: written.append(1) or write(*given))
    assert spooled([f"{n:03}" for n in range(100)], by_text, 10) == [f"{n:03}" for n in range(100)]
    assert len(written) == 10
