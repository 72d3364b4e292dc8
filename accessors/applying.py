"""The course of `apply` in a database: what is there is read and locked, judged, and written, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from evsync.accessor import Change, Outcome, Row
from evsync.errors import Refused

Action = Literal["create", "update", "delete"]


class Located(Protocol):
    """A row that was found, and how to get back to it."""

    @property
    def row(self) -> Row: ...


F = TypeVar("F", bound=Located)
F_contra = TypeVar("F_contra", bound=Located, contravariant=True)
W = TypeVar("W")


class Lookup(Protocol[F]):
    """Finds records of a table, see `Records`."""

    def is_empty(self) -> bool: ...

    def by_id(self, ids: Iterable[int | str]) -> dict[str, F]: ...

    def by_name(self, names: Iterable[Mapping[str, Any]]) -> dict[bytes | None, F]: ...

    def name_of(self, name: Mapping[str, Any]) -> bytes | None: ...


class Writer(Protocol[F_contra, W]):
    """Writes records of a table, see `Writing`."""

    def prepared(self, action: Action, values: Mapping[str, Any], found: F_contra | None) -> W: ...

    def written(self, writes: Sequence[W]) -> list[Outcome]: ...


def applied(changes: Sequence[Change], records: Lookup[F], writer: Writer[F, W]) -> list[Outcome]:
    """What became of each change, in order, inside an open transaction."""
    outcomes: list[Outcome | None] = []
    writes = []
    for change, found in zip(changes, current(records, changes), strict=True):
        verdict = change.judge(None if found is None else found.row)
        if verdict != "write":
            outcomes.append(Outcome(verdict, None if found is None else found.row))
        elif change.action == "delete" and found is None:
            outcomes.append(Outcome("written", id=change.id))
        else:
            try:
                writes.append(writer.prepared(change.action, change.values, found))
                outcomes.append(None)
            except Refused as error:
                outcomes.append(Outcome("failed", error=error))
    written = iter(writer.written(writes))
    return [next(written) if outcome is None else outcome for outcome in outcomes]


def current(records: Lookup[F], changes: Sequence[Change]) -> list[F | None]:
    """The records of the changes as they are now."""
    if records.is_empty():
        return [None] * len(changes)
    by_id = records.by_id(change.id for change in changes if change.id is not None)
    by_name = records.by_name(change.name for change in changes if change.id is None)
    return [
        by_name.get(records.name_of(change.name)) if change.id is None else by_id.get(str(change.id))
        for change in changes
    ]


def in_halves(changes: Sequence[Change], apply: Callable[[Sequence[Change]], list[Outcome]]) -> list[Outcome]:
    """Where a transaction as a whole is refused, by a constraint that is only looked at when it ends, nothing of it is
    written; it is halved until the record is found whose fault it is."""
    try:
        return apply(changes) if changes else []
    except Refused as error:
        if len(changes) == 1:
            return [Outcome("failed", error=error)]
        middle = len(changes) // 2
        return [*in_halves(changes[:middle], apply), *in_halves(changes[middle:], apply)]
