"""Which conflicts are open, and what ended the others."""

from __future__ import annotations

from typing import Any

import pytest
from projects import append

from evsync.journal.conflicts import (
    Dispute,
    Later,
    conflicts,
    ended_by,
    last_decision,
    open_disputes,
    shown_record,
)
from evsync.journal.journal import Journal


def record(*fields: str, is_open: bool = True, **more: Any) -> dict[str, Any]:
    return {"fields": {name: {} for name in fields}, "policy": "manual", "open": is_open, **more}


def dispute(*fields: str, store: str = "crm", op: str = "update", base: int = 0) -> Dispute:
    return Dispute(5, op, store, "contact", "ann", record(*fields), base)


def later(op: str, store: str, found: dict[str, Any] | None = None, base: int = 0) -> Later:
    return Later(9, op, store, base, found)


ENDS = [
    (dispute("n"), later("resolve", "evsync"), True),
    (dispute("n"), later("resolve", "evsync", record("n", is_open=False)), True),
    (dispute("n"), later("resolve", "evsync", record("n", is_open=False, settles=[5])), True),
    (dispute("n"), later("resolve", "evsync", record("n", is_open=False, settles=[6])), False),
    (dispute("n"), later("update", "crm", record("n")), True),
    (dispute("n"), later("update", "crm", record("n", "m")), True),
    (dispute("n", "m"), later("update", "crm", record("n")), False),
    (dispute("n"), later("update", "crm", record("n", is_open=False)), False),
    (dispute("n"), later("update", "mail", record("n")), False),
    (dispute("n"), later("delete", "crm", record()), True),
    (dispute(), later("update", "crm", record("n")), True),
    (dispute("n"), later("undo", "evsync"), False),
    (dispute("n", store="evsync", op="undo", base=3), later("undo", "evsync", base=3), True),
    (dispute("n", store="evsync", op="undo", base=3), later("undo", "evsync", base=4), False),
    (dispute("n", store="evsync", op="undo", base=3), later("undo", "evsync", record("n"), base=4), True),
]


@pytest.mark.parametrize("due, event, ends", ENDS)
def test_what_ends_an_open_conflict(due: Dispute, event: Later, ends: bool) -> None:
    assert ended_by(due, [event]) == (9 if ends else None)


@pytest.fixture
def journal() -> Any:
    with Journal.open(None) as opened:
        yield opened


CONFLICT = '{"basis":"later","fields":{"n":{"mine":2,"theirs":1}},"open":true,"policy":"manual"}'


def test_open_conflicts_are_found_by_store_and_record(journal: Journal) -> None:
    append(journal, "create", "ann", {"n": 1})
    append(journal, "update", "ann", {"n": 1}, conflict=CONFLICT)
    append(journal, "update", "ben", {"n": 1}, conflict=CONFLICT, store="mail")

    def found(**wanted: str) -> list[int]:
        return [due.seq for due in open_disputes(journal, **wanted)]

    assert found() == [2, 3]
    assert found(store="mail") == [3]
    assert found(type="contact", key="ann") == [2]
    assert found(store="mail", type="contact", key="ann") == []
    assert found(type="order", key="ann") == []
    assert (last_decision(journal, "contact", "ann"), last_decision(journal, "contact", "cem")) == (2, None)


def test_a_conflict_as_it_is_listed(journal: Journal) -> None:
    append(journal, "create", "ann", {"n": 1})
    append(journal, "update", "ann", {"n": 1}, conflict=CONFLICT, actor="tom", now=0)
    [listed] = conflicts(journal)
    assert listed.pop("observed_at").endswith("Z")
    assert listed == {
        "seq": 2, "op": "update", "type": "contact", "key": "ann", "store": "crm", "open": True, "settled_by": None,
        "policy": "manual", "basis": "later", "actor": "tom", "fields": {"n": {"theirs": 1, "mine": 2}},
    }  # fmt: skip
    assert list(conflicts(journal, "contact", "ben")) == list(conflicts(journal, store="mail")) == []


def test_a_value_from_before_its_field_had_this_type_is_shown_as_it_is(journal: Journal) -> None:
    with journal.write():
        shape = journal.shape(("at",), ("datetime",))
    sides = {"base": 7, "theirs": "soon", "mine": "2026-01-01T02:00:00+02:00"}
    told = shown_record(journal, "contact", {"fields": {"at": sides}}, (shape.id, None))
    assert told["fields"]["at"] == {**sides, "mine": "2026-01-01T00:00:00Z"}
