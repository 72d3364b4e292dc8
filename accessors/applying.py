"""The course of `apply` in a database: what is there is read and locked, judged, and written, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

from accessors.table_records import Located
from evsync.accessor import Change, Outcome
from evsync.errors import Refused

Action = Literal["create", "update", "delete"]


F = TypeVar("F", bound=Located)
F_contra = TypeVar("F_contra", bound=Located, contravariant=True)
W = TypeVar("W")
T = TypeVar("T")


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


class _Altered(Exception):
    """Which of the records written have to be undone, and why."""

    def __init__(self, refused: dict[int, Refused]) -> None:
        self.refused = refused


def spared(
    writes: Sequence[tuple[int, W]],
    savepoint: Callable[[], AbstractContextManager[None]],
    run: Callable[[Sequence[W]], Sequence[tuple[T, Outcome | Refused]]],
    blamed: Callable[[W, Refused], Refused] = lambda _, error: error,
) -> Iterator[tuple[int, T | None, Outcome]]:
    """Write all of them, or where some are refused, all but those. `run` writes some, or raises Refused if any is not taken,
    and tells of each what it is then and what became of it; `blamed` says more of the one that was refused alone."""
    if not writes:
        return
    try:
        with savepoint():
            done = run([write for _, write in writes])
            refused = {
                number: answer
                for (number, _), (_, answer) in zip(writes, done, strict=True)
                if isinstance(answer, Refused)
            }
            if refused:
                raise _Altered(refused)
    except _Altered as some:
        yield from ((number, None, Outcome("failed", error=one)) for number, one in some.refused.items())
        rest = [entry for entry in writes if entry[0] not in some.refused]
        yield from spared(rest, savepoint, run, blamed)
    except Refused as error:
        if len(writes) == 1:
            [(number, write)] = writes
            yield number, None, Outcome("failed", error=blamed(write, error))
            return
        middle = len(writes) // 2
        yield from spared(writes[:middle], savepoint, run, blamed)
        yield from spared(writes[middle:], savepoint, run, blamed)
    else:
        for (number, _), (told, answer) in zip(writes, done, strict=True):
            assert isinstance(answer, Outcome)
            yield number, told, answer


Apply = Callable[[Sequence[Change], Sequence[Outcome]], list[Outcome]]
"""Writes changes in a transaction of their own; is told what became of those before them."""


def in_halves(changes: Sequence[Change], apply: Apply, before: Sequence[Outcome] = ()) -> list[Outcome]:
    """Where a transaction as a whole is refused, by a constraint that is only looked at when it ends, nothing of it is
    written; it is halved until the record is found whose fault it is."""
    try:
        return apply(changes, before) if changes else []
    except Refused as error:
        if len(changes) == 1:
            return [Outcome("failed", error=error)]
        middle = len(changes) // 2
        first = in_halves(changes[:middle], apply, before)
        return [*first, *in_halves(changes[middle:], apply, [*before, *first])]
