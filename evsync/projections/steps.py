"""One change out of a store's feed, as it is staged between reading and entering it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from evsync.projections.reader import Reader
from evsync.values import decode

Local = int | str

CHANGED, DELETED, EMPTIED = 0, 1, 2


class Step(NamedTuple):
    """One change out of a feed, as it is staged. `number` puts them in order. `kind`: CHANGED, DELETED, or EMPTIED, all
    records of the type at once. `was`: what the store called the record before. `kept`: whether fields that are not among
    `names` are as they were, not absent. `made`: where the feed stood when it was made."""

    number: str
    type: str
    position: str
    whole: bool
    own: bool
    kind: int
    key: str | None
    id: Local | None
    was: Local | None
    names: str | None
    text: str | None
    fingerprint: bytes | None
    kept: bool
    changed_at: int | None
    changed_by: str | None
    made: str

    @property
    def local(self) -> Local | None:
        """What the store calls the record now."""
        return self.key if self.id is None else self.id


def place(position: str) -> str:
    """What of a position says which is the later one."""
    return position.partition(" ")[0]


def names_of(reader: Reader, step: Step) -> Sequence[str]:
    names: Sequence[str] = reader.binding.names if step.names is None else decode(step.names)
    return names


def values_of(step: Step) -> Sequence[Any]:
    values: Sequence[Any] = decode(step.text or "[]")
    return values
