"""When an open conflict is over: a table."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.journal.conflicts import Dispute
from evsync.settling import agreement

TYPES = {"n": "decimal", "m": "int"}
CASES = [
    # fields in dispute, the canonical record, what the store holds → agreed
    (["n"], {"n": "1"}, {"n": "1"}, True),
    (["n"], {"n": "1"}, {"n": "2"}, False),
    (["n"], {"n": "1.50"}, {"n": "1.5"}, True),
    (["n"], {}, {}, True),
    (["n"], {"n": "1"}, {}, False),
    (["n"], {"n": None}, {}, False),
    (["n"], {"n": "1", "m": 1}, {"n": "1", "m": 2}, True),
    (["n", "m"], {"n": "1", "m": 1}, {"n": "1", "m": 2}, False),
    (["other"], {}, {}, False),
    (["n"], None, {"n": "1"}, False),
    (["n"], {"n": "1"}, None, False),
    (["n"], None, None, True),
    ([], {"n": "1"}, None, False),
    ([], {"n": "1"}, {"n": "2"}, True),
    ([], None, None, True),
]


@pytest.mark.parametrize("fields, canonical, held, agreed", CASES)
def test_both_sides_agree(fields: list[str], canonical: Any, held: Any, agreed: bool) -> None:
    record = {"fields": {name: {} for name in fields}, "policy": "manual", "open": True}
    basis = agreement(Dispute(1, "update", "crm", "thing", "1", record), canonical, held, TYPES)
    assert (basis is not None) is agreed
