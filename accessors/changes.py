"""The changes to a file in one pass through it: which record each one means, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from accessors.documents import LONGEST, Document, Record
from evsync.accessor import HEADER, Accessor, Change, Outcome, Row
from evsync.binding import Binding
from evsync.errors import BadValue, Refused
from evsync.store import native
from evsync.values import ABSENT, dump, encode, same


class Work:
    """The changes of one pass: which record each one means, and what becomes of it."""

    def __init__(
        self, accessor: Accessor, binding: Binding, document: Document, changes: Sequence[Change], exact: bool
    ) -> None:
        self._binding, self._document, self._changes, self._exact = binding, document, changes, exact
        self._wire = wire_reader(accessor, binding)
        self._keys = [(HEADER + binding.locals.index(local), local) for local in binding.key_locals]
        self._by_id: dict[str, list[int]] = {}
        self._by_key: dict[tuple[Any, ...], list[int]] = {}
        self._outcomes: dict[int, Outcome] = {}
        self.dirty = False
        types = binding.local_types
        for number, change in enumerate(changes):
            if change.id is not None:
                self._by_id.setdefault(str(change.id), []).append(number)
            else:
                key = tuple(_hashable(dump(types[local], change.name[local])) for _, local in self._keys)
                self._by_key.setdefault(key, []).append(number)

        self._moves = self._rekeyed(changes)

    def _rekeyed(self, changes: Sequence[Change]) -> dict[tuple[Any, ...], list[int]]:
        """The changes that give a record another key, by that key."""
        types, moves = self._binding.local_types, dict[tuple[Any, ...], list[int]]()
        for number, change in enumerate(changes):
            if change.action == "update" and any(local in change.values for _, local in self._keys):
                old = [dump(types[local], change.name[local]) for _, local in self._keys]
                new = [
                    wire
                    if change.values.get(local, ABSENT) is ABSENT
                    else dump(types[local], change.values[local])
                    for (_, local), wire in zip(self._keys, old, strict=True)
                ]
                if new != old:
                    moves.setdefault(tuple(map(_hashable, new)), []).append(number)
        return moves

    @property
    def moves(self) -> bool:
        """Whether any record gets another key, so that `refuse_taken` has to be asked first."""
        return bool(self._moves)

    def refuse_taken(self, rows: Iterable[Row]) -> None:
        """Refuse the changes that would give a record the key of another one that stays."""
        leaving = {
            key
            for key, numbers in self._by_key.items()
            if any(
                self._changes[n].action == "delete" or any(n in moved for moved in self._moves.values())
                for n in numbers
            )
        }
        refused = {number for numbers in self._moves.values() for number in numbers[1:]}
        standing: set[int] = set()
        for row in rows:
            key = tuple(_hashable(self._wire(local, row[at])) for at, local in self._keys)
            standing.update(self._by_id.get(str(row[0]), ()), self._by_key.get(key, ()))
            if key in self._moves and key not in leaving:
                refused.update(self._moves[key])
        for number in refused:
            verdict = "write" if number in standing else self._changes[number].judge(None)
            if verdict == "write":
                self._outcomes[number] = Outcome("failed", error=Refused("another record has the new key"))
            else:  # gone, or moved already: what has the new key may be that very record
                self._outcomes[number] = Outcome(verdict)

    @property
    def outcomes(self) -> list[Outcome]:
        return [self._outcomes[number] for number in range(len(self._changes))]

    def settle(self, record: Record) -> str | None:
        """The text of the record after the changes that mean it; None if it is gone."""
        numbers = self._meaning(record.row)
        return self._settle(numbers, record.row, record.text) if numbers else record.text

    def remaining(self) -> Iterator[str]:
        """The texts of the records that were not in the file and are now to be."""
        for numbers in sorted([*self._by_id.values(), *self._by_key.values()]):
            text = self._settle(numbers, None, None)
            if text is not None:
                yield text

    def _meaning(self, row: Row) -> list[int]:
        """The changes that mean this record; taken off the list, so that a second one with its key is left alone."""
        numbers: list[int] = []
        if self._by_id and row[0] is not None:
            numbers += self._by_id.pop(str(row[0]), ())
        if self._by_key:
            key = tuple([_hashable(self._wire(local, row[at])) for at, local in self._keys])
            numbers += self._by_key.pop(key, ())
        return sorted(numbers)

    def _settle(self, numbers: list[int], row: Row | None, text: str | None) -> str | None:
        """The changes to one record, one after the other; each is judged by what the one before has left."""
        for number in numbers:
            if number in self._outcomes:
                continue  # refused before
            change = self._changes[number]
            verdict = change.judge(row)
            if verdict != "write":
                self._outcomes[number] = Outcome(verdict, row=row, id=row[0] if row else None)
                continue
            if change.action == "delete":
                self._outcomes[number] = Outcome("done" if row is None else "written")
                self.dirty = self.dirty or row is not None
                row = text = None
                continue
            try:
                new = self._encoded(change, row, text)
            except Refused as error:
                self._outcomes[number] = Outcome("failed", error=error)
                continue
            if new == text:
                self._outcomes[number] = Outcome("done", row=row, id=row[0] if row else None)
                continue
            self.dirty = True
            text, old = new, row
            if self._as_given(change, old) and len(numbers) == 1:
                self._outcomes[number] = Outcome("written", exact=True)
            else:
                row = self._document.parse(text, old[1] if old else None)
                self._outcomes[number] = Outcome("written", row=row, id=row[0])
        return text

    def _as_given(self, change: Change, old: Row | None) -> bool:
        return (
            self._exact
            and old is None
            and self._binding.id is None
            and len(change.values) == len(self._binding.locals)
            and not any(value is ABSENT for value in change.values.values())
        )

    def _encoded(self, change: Change, row: Row | None, text: str | None) -> str:
        """The record's new text, in which only values that differ from those it has are written anew."""
        values = change.values
        if row is not None:
            types = self._binding.local_types
            had = dict(zip(self._binding.locals, row[HEADER:], strict=True))
            values = {
                local: typed
                for local, typed in values.items()
                if not alike(
                    self._wire(local, had[local]), typed if typed is ABSENT else dump(types[local], typed)
                )
            }
            if not values and text is not None:
                return text
        try:
            new = self._document.encode(text, values, self._binding)
            new.encode(self._document.encoding)
        except RecursionError:
            raise Refused("a value is nested too deeply") from None
        except UnicodeEncodeError as error:
            letters = error.object[error.start : error.end][:20]
            where = next((f"{local}: " for local, typed in values.items() if letters in str(typed)), "")
            raise Refused(f"{where}{self._document.encoding} cannot hold {letters!r}") from None
        if len(new) > LONGEST // 2:
            raise Refused(f"a record of {len(new):,} characters is too long")
        return new


_UNREADABLE: Any = object()
"""In place of the wire form of a value that its type refuses."""


def wire_reader(accessor: Accessor, binding: Binding) -> Callable[[str, Any], Any]:
    """Turns the raw value of a column into its wire form, or into `_UNREADABLE`."""
    types = binding.local_types

    def wire(local: str, raw: Any) -> Any:
        type_name = types[local]
        if type_name == "str" and raw.__class__ is str:
            return raw
        if raw is ABSENT:
            return ABSENT
        try:
            return dump(type_name, native(accessor, type_name, raw))
        except BadValue:
            return _UNREADABLE

    return wire


def alike(one: Any, other: Any) -> bool:
    """Whether two wire values are the same; one that could not be read is like no other."""
    if one is _UNREADABLE or other is _UNREADABLE:
        return False
    try:
        return same(one, other)
    except UnicodeEncodeError:  # half a surrogate pair, from an escape in JSON
        return False


def _hashable(wire: Any) -> Any:
    return encode(wire) if isinstance(wire, list | dict) else wire
