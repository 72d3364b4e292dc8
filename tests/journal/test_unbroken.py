"""Stretches of creations are hashed in one go: what is found is the same as event by event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import append

from evsync.journal import unbroken
from evsync.journal.event import NewEvent
from evsync.journal.journal import Journal
from evsync.journal.unbroken import broken

EVENTS = 33


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbroken, "STRETCH", 5)


def written() -> Journal:
    """Creations in three batches, an update among them."""
    journal = Journal.open(None)

    def create(first: int, last: int, now: int) -> None:
        with journal.write():
            shape = journal.shape(("n",), ("int",))
            events = [
                NewEvent(
                    "create", "crm", "thing", str(n), 0, after=f"[{n}]", after_shape=shape, changed=shape
                )
                for n in range(first, last + 1)
            ]
            journal.append(events, 1, now)

    create(1, 16, 1_000)
    append(journal, "update", "3", {"n": 30}, before={"n": 3}, base=3, now=2_000)
    create(18, 25, 3_000)
    create(26, EVENTS, 3_000)
    for (trigger,) in journal.connection.execute(
        "select name from sqlite_master where type = 'trigger'"
    ).fetchall():
        journal.connection.execute(f"drop trigger {trigger}")
    return journal


@pytest.fixture
def journal() -> Iterator[Journal]:
    with written() as journal:
        yield journal


def slowly(journal: Journal) -> list[unbroken.Problem]:
    """The same, event by event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unbroken._Check, "creations", lambda self: False)
        return list(broken(journal.connection))


def test_most_of_a_whole_journal_is_hashed_in_stretches(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    event = unbroken._Check.event

    def noted(self: Any, row: tuple[Any, ...]) -> Iterator[unbroken.Problem]:
        seen.append(row[0])
        yield from event(self, row)

    monkeypatch.setattr(unbroken._Check, "event", noted)
    assert list(broken(journal.connection)) == []
    assert 17 in seen
    assert len(seen) < EVENTS / 2


VALUES: dict[str, list[Any]] = {
    "op": ["update", b"create", ""],
    "store": [2, "x"],
    "type": [1, 7],
    "key": ["x", b"1", 1],
    "base": [1, -1, "x"],
    "observed_at": [999, 2_500, "noon", b"1"],
    "occurred_at": [5, "x"],
    "actor": ["eve", ""],
    "run": [2],
    "after_shape": [None, 9],
    "before_shape": [1],
    "changed": [None],
    "after": ["[7]", None, b"[1]", "["],
    "before": ["[7]", ""],
    "conflict": ["{}"],
    "payload_hash": [b"x", b"\0" * 32, "x"],
    "hash": [b"\0" * 32, "x", 1],
}

TAMPERINGS = st.one_of(
    st.sampled_from([(name, value) for name, values in VALUES.items() for value in values]).flatmap(
        lambda chosen: st.integers(1, EVENTS).map(lambda seq: (f"update event set {chosen[0]} = ? where seq = ?", (chosen[1], seq)))
    ),
    st.integers(1, EVENTS).map(lambda seq: ("delete from event where seq = ?", (seq,))),
    st.tuples(st.integers(1, EVENTS), st.sampled_from([-5, 0, EVENTS + 1, EVENTS + 9, 2**62])).map(
        lambda moved: ("update or ignore event set seq = ? where seq = ?", (moved[1], moved[0]))
    ),
)  # fmt: skip


@given(st.lists(TAMPERINGS, min_size=1, max_size=3))
def test_whatever_was_done_is_told_in_the_same_words(tamperings: list[tuple[str, tuple[Any, ...]]]) -> None:
    with written() as journal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(unbroken, "STRETCH", 5)
        whole = list(journal.connection.execute("select * from event"))
        for statement, values in tamperings:
            journal.connection.execute(statement, values)
        found = list(broken(journal.connection))
        assert found == slowly(journal)
        assert bool(found) == (list(journal.connection.execute("select * from event")) != whole)
