"""What a replay does: what the record became, against what the store holds, listed by hand.

The store was last in line with revision 1, which said `START`; the record's last revision is 5.
"""

from __future__ import annotations

from typing import Any

import pytest

from evsync.projections.merge import differing
from evsync.projections.plan import plan

Fields = dict[str, Any]
START: Fields = {"name": " Ann ", "age": 1}
CHANGED: Fields = {"name": "Anna", "age": 1}
TRIMMED: Fields = {"name": "Ann", "age": 1}
EDITED: Fields = {"name": " Ann ", "age": 2}

# What the record is at its last revision, as the store would hold it.
CANONICAL: dict[str, tuple[int, Fields | None]] = {
    "absent": (0, None),
    "gone": (5, None),
    "same": (5, START),
    "unmoved": (1, START),
    "other": (5, CHANGED),
}

# What the store holds, the revision with which it is in line (None: a merge is to be written back), and that
# revision as the store would hold it.
HOLDS: dict[str, tuple[Fields | None, int | None, Fields | None]] = {
    "nothing": (None, None, None),
    "same": (START, 1, START),
    "own version": (TRIMMED, 1, START),
    "other, behind": (EDITED, None, START),
    "same, behind": (START, None, START),
    "changed, behind": (CHANGED, None, START),
}

TABLE = """
                 nothing   same     own version   other, behind   same, behind   changed, behind
    absent       none      delete   delete        delete          delete         delete
    gone         none      delete   delete        delete          delete         delete
    same         create    note     note          update          note           update
    unmoved      create    none     none          update          note           update
    other        create    update   update        update          update         note
"""


def cells() -> list[tuple[str, str, str]]:
    lines = [line.split() for line in TABLE.strip().splitlines()[1:]]
    return [
        (canonical, holds, action)
        for canonical, *actions in lines
        for holds, action in zip(HOLDS, actions, strict=True)
    ]


def test_the_table_is_whole() -> None:
    assert {(canonical, holds) for canonical, holds, _ in cells()} == {
        (c, h) for c in CANONICAL for h in HOLDS
    }


@pytest.mark.parametrize(("canonical", "holds", "action"), cells())
def test_what_is_done(canonical: str, holds: str, action: str) -> None:
    (seq, want), (held, held_at, version) = CANONICAL[canonical], HOLDS[holds]
    step = plan("contact", "ann", seq, want, held, held_at, version)
    assert (step.action, step.seq, step.want) == (action, seq, want)
    # what is written is just what has to be: all for a create, all that goes for a delete, else the difference
    fields = {
        "create": sorted(want or {}),
        "delete": sorted(held or {}),
        "update": differing(want or {}, held or {}),
    }
    assert step.fields == fields.get(action, [])


@pytest.mark.parametrize(("canonical", "holds", "action"), cells())
def test_afterwards_there_is_nothing_more_to_do(canonical: str, holds: str, action: str) -> None:
    seq, want = CANONICAL[canonical]
    held, _, version = HOLDS[holds]
    if action in ("create", "update", "delete"):
        held = want
    elif action == "none" and want is not None:
        version = want
    again = plan("contact", "ann", seq, want, held, None if held is None else seq, want or version)
    assert (again.action, again.fields) == ("none", [])
