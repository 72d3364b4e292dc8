"""The audit queries: who changed what, where, when and from what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON_MICROS, append

from evsync.errors import UsageError
from evsync.journal.journal import Journal
from evsync.journal.query import (
    Filter,
    blame,
    log,
    open_conflicts,
    origin,
    position,
    shapes_with,
    similar_keys,
    state,
    types_known,
)

MANUAL = '{"fields":{},"policy":"manual","open":true}'


@pytest.fixture
def journal() -> Iterator[Journal]:
    """Nine events, a minute apart, the last two at the same moment."""
    with freeze_time("2026-01-31T12:00:00Z") as frozen, Journal.open(None) as journal:

        def enter(op: str, key: str, after: Any = None, **more: Any) -> None:
            append(journal, op, key, after, **more)
            frozen.tick(60)

        enter("create", "ann", {"age": 31, "name": "Ann"}, actor="eve", occurred_at=5)
        enter("create", "ben", {"age": 42, "name": "Ben"}, store="mail")
        enter(
            "update",
            "ann",
            {"age": 32, "name": "Ann"},
            before={"age": 31},
            changed=["age"],
            base=1,
            store="mail",
            run=2,
        )
        enter("read", "ann", actor="tom", base=3)
        enter("create", "ann", {"total": "1.50"}, type="order", types={"total": "decimal"})
        enter(
            "update", "ann", {"age": 32, "name": "Anna"}, before={"name": "Ann"}, changed=["name"], base=1,
            actor="tom", conflict=MANUAL, run=2,
        )  # fmt: skip
        enter("delete", "ben", None, before={"age": 42, "name": "Ben"}, base=2)
        enter("create", "cem", {"age": 1, "name": None})
        frozen.tick(-60)
        enter("update", "cem", {"age": 1}, before={"name": None}, changed=["name"], base=8)
        yield journal


def seqs(journal: Journal, limit: int | None = None, **wanted: Any) -> list[int]:
    return [event["seq"] for event in log(journal, Filter(**wanted), limit)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"type": "contact"}, [1, 2, 3, 4, 6, 7, 8, 9]),
        ({"type": "order"}, [5]),
        ({"type": "nothing"}, []),
        ({"type": "contact", "key": "ann"}, [1, 3, 4, 6]),
        ({"type": "order", "key": "ann"}, [5]),
        ({"type": "contact", "key": "zoe"}, []),
        ({"key": "ann"}, [1, 3, 4, 5, 6]),
        ({"store": "mail"}, [2, 3]),
        ({"store": "nowhere"}, []),
        ({"op": "update"}, [3, 6, 9]),
        ({"op": "read"}, [4]),
        ({"field": "age"}, [1, 2, 3, 7, 8]),
        ({"field": "total"}, [5]),
        ({"field": "nothing"}, []),
        ({"actor": "tom"}, [4, 6]),
        ({"run": 2}, [3, 6]),
        ({"conflicts": True}, [6]),
        ({"after": 7}, [8, 9]),
        ({"after": 99}, []),
        ({"since": "8"}, [8, 9]),
        ({"until": "2"}, [1, 2]),
        ({"since": "3", "until": "4"}, [3, 4]),
        ({"since": "0"}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"until": "0"}, []),
        ({"since": "9" * 30}, []),
        ({"until": "9" * 30}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        # two at once, and all
        ({"type": "contact", "key": "ann", "field": "name"}, [1, 6]),
        ({"type": "contact", "key": "ann", "op": "update", "store": "mail"}, [3]),
        ({"op": "update", "actor": "tom", "run": 2, "field": "name", "conflicts": True, "since": "2", "until": "8"}, [6]),
        ({"op": "update", "actor": "eve"}, []),
        ({"type": "contact", "key": "ann", "since": "3", "until": "2026-01-31T12:03:00Z"}, [3, 4]),
    ],
    ids=str,
)  # fmt: skip
def test_which_events_match(journal: Journal, wanted: dict[str, Any], expected: list[int]) -> None:
    assert seqs(journal, **wanted) == expected
    for limit in (1, 2, 100):
        assert seqs(journal, limit, **wanted) == expected[-limit:]  # the newest, oldest first
    assert seqs(journal, 0, **wanted) == []


@pytest.mark.parametrize(
    ("since", "until"),
    [
        # from this moment on, this moment included; up to this moment, included too
        ("2026-01-31T12:07:00Z", "2026-01-31T12:06:59.999999Z"),
        ("2026-01-31T12:06:00.000001Z", "2026-01-31T12:06:00Z"),
        ("2026-01-31T12:07:00", "2026-01-31T12:06:30"),  # UTC, unless it says otherwise
        ("2026-01-31T13:07:00+01:00", "2026-01-31T07:06:00-05:00"),
    ],
)
def test_time_bounds(journal: Journal, since: str, until: str) -> None:
    assert seqs(journal, since=since) == [8, 9]
    assert seqs(journal, until=until) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0), ("5", 5), ("2026-01-31T12:02:00Z", 3), ("2026-01-31T12:01:59Z", 2), ("2026-01-31", 0),
        ("2026-02-01", 9), ("2026-01-31T12:07:00Z", 9), ("1969-01-01", 0), ("9999-12-31T23:59:59Z", 9),
    ],
)  # fmt: skip
def test_a_position_is_a_number_or_a_time(journal: Journal, text: str, expected: int) -> None:
    assert position(journal, text) == expected


def test_in_an_empty_journal_every_time_is_position_0() -> None:
    with Journal.open(None) as journal:
        assert position(journal, "2026-01-31") == 0
        assert seqs(journal, since="2026-01-31", until="2027-01-01") == []


@pytest.mark.parametrize("text", ["yesterday", "-1", "1.5", "", "٣", "2026-13-01"])
def test_what_is_neither_says_what_to_give(journal: Journal, text: str) -> None:
    with pytest.raises(UsageError, match="is neither a position nor a time") as caught:
        position(journal, text)
    assert "such as 120" in caught.value.hint
    with pytest.raises(UsageError):
        seqs(journal, since=text)


def test_an_event_as_a_document(journal: Journal) -> None:
    assert next(log(journal, Filter(since="6"))) == {
        "seq": 6,
        "op": "update",
        "store": "crm",
        "type": "contact",
        "key": "ann",
        "base": 1,
        "before": {"name": "Ann"},
        "after": {"age": 32, "name": "Anna"},
        "changed": ["name"],
        "observed_at": "2026-01-31T12:05:00Z",
        "occurred_at": None,
        "actor": "tom",
        "run": 2,
        "conflict": {"fields": {}, "policy": "manual", "open": True},
    }
    assert next(log(journal, Filter()))["occurred_at"] == "1970-01-01T00:00:00.000005Z"


def test_null_is_shown_and_absent_is_left_out(journal: Journal) -> None:
    created, updated = log(journal, Filter(type="contact", key="cem"))
    assert created["after"] == {"age": 1, "name": None}
    assert (updated["before"], updated["after"]) == ({"name": None}, {"age": 1})


def test_blame_names_the_event_that_made_each_field_what_it_is(journal: Journal) -> None:
    told = blame(journal, "contact", "ann")
    assert told == [
        {"field": "age", "value": 32, "seq": 3, "store": "mail", "actor": None, "observed_at": "2026-01-31T12:02:00Z"},
        {"field": "name", "value": "Anna", "seq": 6, "store": "crm", "actor": "tom", "observed_at": "2026-01-31T12:05:00Z"},
    ]  # fmt: skip
    assert [entry["field"] for entry in blame(journal, "contact", "cem")] == ["age"]


@pytest.mark.parametrize(("type", "key"), [("contact", "ben"), ("contact", "zoe"), ("nothing", "ann")])
def test_nobody_is_to_blame_for_what_does_not_exist(journal: Journal, type: str, key: str) -> None:
    assert blame(journal, type, key) == []


def test_the_origin_of_a_field_is_the_event_that_last_changed_it(journal: Journal) -> None:
    assert origin(journal, "contact", "ann", "age") == ("mail", None, NOON_MICROS + 120_000_000)
    assert origin(journal, "contact", "ann", "name") == ("crm", None, NOON_MICROS + 300_000_000)
    now = NOON_MICROS + 3_600_000_000
    append(journal, "update", "ann", {"age": 33}, changed=["age"], store="mail", occurred_at=7, now=now)
    assert origin(journal, "contact", "ann", "age") == ("mail", 7, now)
    assert origin(journal, "contact", "ann", "nothing") == ("", None, None)
    assert origin(journal, "contact", "zoe", "age") == ("", None, None)


def test_state_then_and_now(journal: Journal) -> None:
    assert state(journal, "contact", "ben") == (7, None, None)
    assert state(journal, "contact", "ben", 6) == (2, {"age": 42, "name": "Ben"}, {"age": 42, "name": "Ben"})
    assert state(journal, "contact", "ben", 1) == (0, None, None)
    assert state(journal, "contact", "ann", 5)[0] == 3


def test_an_open_conflict_is_one_that_nothing_resolved_since(journal: Journal) -> None:
    assert open_conflicts(journal) == {("contact", "ann"): [(6, "crm")]}
    assert open_conflicts(journal, "mail") == {}
    append(journal, "update", "ann", {"age": 1}, store="mail", conflict=MANUAL)
    assert open_conflicts(journal) == {("contact", "ann"): [(6, "crm"), (10, "mail")]}
    append(journal, "update", "ann", {"age": 2})
    append(journal, "resolve", "ann", {"total": 1}, type="order")  # another record
    assert len(open_conflicts(journal)[("contact", "ann")]) == 2
    append(journal, "resolve", "ann", {"age": 3}, store="evsync")
    assert open_conflicts(journal) == {}
    append(journal, "update", "ann", {"age": 4}, conflict='{"fields":{},"policy":"newest","open":false}')
    assert open_conflicts(journal) == {}


def test_what_is_known(journal: Journal) -> None:
    assert types_known(journal) == ["contact", "order"]
    assert similar_keys(journal, "contact", "bob") == ["ben", "cem"]
    assert len(shapes_with(journal, "age")) == 2


# -- quick, however long the journal --------------------------------------------------------------------


def plans(journal: Journal, call: Any) -> str:
    """How SQLite goes about the statements of a call that touch the events."""
    statements: list[str] = []
    journal.connection.set_trace_callback(statements.append)
    call()
    journal.connection.set_trace_callback(None)
    told = [
        row[3]
        for statement in statements
        if " event " in statement
        for row in journal.connection.execute(f"explain query plan {statement}")
    ]
    assert told, "no statement was seen"
    return "\n".join(told)


@pytest.mark.parametrize(
    "call",
    [
        lambda journal: seqs(journal, type="contact", key="ann"),
        lambda journal: seqs(journal, type="contact", key="ann", field="age"),
        lambda journal: seqs(journal, 3, type="contact", key="ann", field="age"),
        lambda journal: seqs(journal, type="contact", key="ann", field="age", since="2026-01-31T12:00:00Z", actor="tom"),
        lambda journal: blame(journal, "contact", "ann"),
        lambda journal: origin(journal, "contact", "ann", "age"),
        lambda journal: state(journal, "contact", "ann"),
        lambda journal: state(journal, "contact", "ann", 3),
        lambda journal: journal.heads("contact", ["ann", "ben"], 5),
    ],
)  # fmt: skip
def test_a_records_history_is_found_by_the_index(journal: Journal, call: Any) -> None:
    told = plans(journal, lambda: call(journal))
    assert "event_record" in told
    assert not [
        line for line in told.splitlines() if line.startswith("SCAN") and line.split()[1] in ("e", "event")
    ]


@pytest.mark.parametrize(
    ("call", "index"),
    [
        (lambda journal: seqs(journal, actor="tom"), "event_actor"),
        (lambda journal: seqs(journal, conflicts=True), "event_conflict"),
        (lambda journal: open_conflicts(journal), "event_conflict"),
        (lambda journal: seqs(journal, since="3", until="4"), "PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_other_ways_in(journal: Journal, call: Any, index: str) -> None:
    assert index in plans(journal, lambda: call(journal))
