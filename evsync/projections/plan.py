"""What a replay has to do with one record: a pure function from head and replica to an action.

A change never returns to the store it came from, and a store that already holds the head is not touched:
both fall out of comparing what the store is known to hold with what it should hold.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from evsync.journal.event import Fields
from evsync.projections.merge import differing, same_record

Action = Literal["create", "update", "delete", "note", "none"]


class Step(msgspec.Struct):
    """One record's part in a replay. `note`: nothing to write, but the store is in line with `seq` now.
    `want`: the record as the store should hold it. `fields`: those that will be written."""

    action: Action
    type: str
    key: str
    seq: int
    want: Fields | None
    fields: list[str]

    def as_document(self) -> dict[str, Any]:
        """The step as a dry run prints it."""
        return {
            "action": self.action,
            "type": self.type,
            "key": self.key,
            "seq": self.seq,
            "fields": self.fields,
        }


def plan(
    type: str,
    key: str,
    seq: int,
    want: Fields | None,
    holds: Fields | None,
    held_at: int | None,
    version_of: Fields | None,
    unwritten: Collection[str] = (),
) -> Step:
    """`want`: the canonical record at revision `seq`, as the store would hold it; None: it should not hold it.
    `holds`: what it holds, None if it does not. `held_at`: the revision it is in line with, None if it is
    not in line with any; `version_of`: that revision as the store would hold it. `unwritten`: the fields that are
    never written there, and so do not matter."""
    if want is None:
        if holds is None:
            return Step("none", type, key, seq, None, [])
        return Step("delete", type, key, seq, None, sorted(holds))
    if holds is None:
        return Step("create", type, key, seq, want, sorted(want.keys() - set(unwritten)))
    fields = [name for name in differing(want, holds) if name not in unwritten]
    if not fields or (held_at is not None and same_record(want, version_of)):
        # The second: it holds its own version of just this, a trimmed or rounded one.
        return Step("none" if held_at == seq else "note", type, key, seq, want, [])
    return Step("update", type, key, seq, want, fields)
