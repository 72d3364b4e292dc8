"""What is known of records, read ahead: the same as looking each of them up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsync.journal.journal import Journal
from evsync.projections import expected
from evsync.projections.expected import Expected
from evsync.projections.replicas import Replicas


def held(journal: Journal, binding: int, keys: Sequence[str]) -> Replicas:
    replicas = Replicas(journal, binding)
    with journal.write():
        replicas.add([(key, 1, key.encode().ljust(16), None) for key in keys])
    return replicas


@given(
    st.lists(st.integers(0, 40).map(str), unique=True),
    st.lists(st.lists(st.integers(0, 50).map(str), unique=True, max_size=8)),
    st.integers(1, 7),
    st.integers(1, 30),
)
def test_each_is_known_whatever_the_order(
    keys: list[str], asked: list[list[str]], ahead: int, kept: int
) -> None:
    with Journal.open(None) as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(expected, "BATCH", ahead)
        patch.setattr(expected, "KEPT", kept)
        held(journal, 2, ["a", "b"])
        replicas = held(journal, 1, keys)
        known = Expected(replicas, len(keys), replicas.last_row())
        for some in [*asked, keys, keys]:
            assert known.fingerprints(some) == replicas.fingerprints(some)


def test_a_store_in_its_old_order_needs_no_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(None) as journal:
        replicas = held(journal, 1, [str(n) for n in range(100)])
        known = Expected(replicas, 100, 100)
        expecting = {str(n): replicas.fingerprints([str(n)])[str(n)] for n in range(100)}
        monkeypatch.setattr(replicas, "fingerprints", lambda keys: pytest.fail("looked up"))
        for start in range(0, 100, 10):
            some = [str(n) for n in range(start, start + 10)]
            assert known.fingerprints(some) == {key: expecting[key] for key in some}


def test_a_few_among_many_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(None) as journal:
        held(journal, 2, [str(n) for n in range(1000)])
        replicas = held(journal, 1, ["x"])
        monkeypatch.setattr(replicas, "following", lambda *given: pytest.fail("read ahead"))
        assert Expected(replicas, 1, replicas.last_row()).fingerprints(["x", "y"]).keys() == {"x"}
