"""Writing the records of one table so that none is altered in silence and a refused one stops no other.

What was written is read again inside the transaction and compared. Where a value came to be another one, because the
column has no room for it, the record is undone and refused; where a trigger of the application's made another value of
it, that is what the store holds now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.applying import Action, spared
from accessors.sql_connection import savepoint
from accessors.sql_records import PARAMETERS, Found, Handle, Records
from accessors.sql_values import Column, is_cut, likeness
from evsync.accessor import HEADER, Outcome, Row
from evsync.binding import nearest
from evsync.errors import Refused
from evsync.values import ABSENT


class Write(NamedTuple):
    """One record to be written: the columns with their typed values and what the driver is given of them."""

    action: Action
    columns: tuple[str, ...]
    typed: Sequence[Any]
    bound: Sequence[Any]
    found: Found | None


class Writing:
    """Writes records inside an open transaction. `told`: an outcome has its row also where that is just what was
    given."""

    def __init__(self, records: Records, *, told: bool = False) -> None:
        self.records, self._table, self._told = records, records.table, told
        self._connection = records.connection
        self._types, self._encoders = records.types, records.encoders
        binding = records.binding
        self._bound = frozenset(binding.locals)
        self._at = {local: HEADER + index for index, local in enumerate(binding.locals)}
        self._most = records.connection.dialect.too_large(records.connection.sql)

    # -- one record at a time --------------------------------------------------------------------------

    def one(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Row | None:
        """Write one record; the row as it is then. Raises Refused."""
        outcome = self.written([self.prepared(action, values, found)])[0]
        if outcome.error is not None:
            raise outcome.error
        return outcome.row

    def prepared(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Write:
        """Raises Refused for what cannot be written."""
        if action == "create" and found is not None:
            raise Refused(f"{self.records}: there is a record with this key already")
        if action == "update" and found is None:
            raise Refused(f"{self.records}: there is no such record to update")
        if found is not None and found.handle is None:
            raise Refused(f"{self.records}: the record's own key cannot be read, so it cannot be addressed")
        if action == "delete":
            return Write(action, (), (), (), found)
        names, typeds, bound = [], [], []
        for name, typed in values.items():
            column = self._table.columns.get(name)
            if column is None:
                hint = nearest(name, self._table.columns)
                raise Refused(f"{self.records}: there is no column {name!r}", hint)
            nothing = typed is None or typed is ABSENT
            if column.generated or (nothing and column.assigned):
                continue
            names.append(name)
            typeds.append(typed)
            bound.append(None if nothing else self._encoded(column, typed))
        if self._most is not None and sum(map(_size, bound)) * 2 > self._most:
            raise Refused(
                f"{self.records}: the record is larger than the server takes at once ({self._most} bytes)",
                "raise max_allowed_packet",
            )
        return Write(action, tuple(names), typeds, bound, found)

    def _encoded(self, column: Column, typed: Any) -> Any:
        try:
            return self._encoders[column.name](typed)
        except (Refused, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise Refused(f"{self._cannot_hold(column, typed)}: {error}", _hint(column)) from error

    def _cannot_hold(self, column: Column, typed: Any) -> str:
        shown = repr(typed)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        return f"{self.records}, column {column.name!r} ({column.declared}) cannot hold {shown}"

    # -- many ------------------------------------------------------------------------------------------

    def written(self, writes: Sequence[Write]) -> list[Outcome]:
        """What became of each, in order."""
        outcomes: dict[int, Outcome] = {}
        handles: dict[int, Handle] = {}
        numbered = list(enumerate(writes))
        for number, found, outcome in spared(numbered, lambda: savepoint(self._connection), self._answered):
            outcomes[number] = outcome
            if found is not None:
                handles[number] = found.handle or ()
        if self._table.triggered:
            # Last, since a later write may touch an earlier one through a trigger.
            now = self.records.at(handles.values())
            for number, handle in handles.items():
                found = now.get(self.records.called(self._table.handle, handle))
                outcomes[number].row = None if found is None else found.row
        return [outcomes[number] for number in range(len(writes))]

    def _answered(self, writes: Sequence[Write]) -> list[tuple[Found | None, Outcome | Refused]]:
        told = self._run(writes)
        return [(found, self._answer(write, found)) for write, found in zip(writes, told, strict=True)]

    def _run(self, writes: Sequence[Write]) -> list[Found | None]:
        """Write them, in order; the records as they are then, None for those deleted. Raises Refused if one of them
        is."""
        told: list[Found | None] = []
        try:
            for (action, columns), group in groupby(writes, lambda write: (write.action, write.columns)):
                some = list(group)
                if action == "create":
                    told += self._insert(columns, some)
                elif action == "delete":
                    told += self._delete(some)
                elif columns:
                    told += self._update(columns, some)
                else:
                    told += [write.found for write in some]
        except exc.SQLAlchemyError as error:
            dialect = self._connection.dialect
            raise dialect.translated(error, self.records.store, by_record=True) from error
        except (UnicodeError, TypeError, ValueError, OverflowError) as error:
            where = f"{self.records}{_too_long(writes)}"
            raise Refused(f"{where}: the driver does not take it: {error}") from error
        return told

    def _insert(self, columns: Sequence[str], writes: Sequence[Write]) -> Iterator[Found | None]:
        """Which row is which the handle says, or else the key, if it is given; else each is asked for its own."""
        by_handle = _are_given(writes, self._table.handle)
        if not by_handle and not _are_given(writes, self.records.binding.key_locals):
            for write in writes:
                yield self._insert_one(columns, write)
            return
        self._execute_many(sa.insert(self.records.written).values(_marks(columns)), writes)
        given = [dict(zip(write.columns, write.typed, strict=True)) for write in writes]
        if by_handle:
            yield from self._at_handles([tuple(one[name] for name in self._table.handle) for one in given])
        else:
            yield from self._called(given)

    def _insert_one(self, columns: Sequence[str], write: Write) -> Found | None:
        """One row of which only the database knows the key."""
        written, handle = self.records.written, self._table.handle
        statement = sa.insert(written).values(dict(zip(columns, write.bound, strict=True)))
        if self._connection.sql.dialect.insert_returning:
            returning = statement.returning(*(written.c[name] for name in handle))
            place = self.records.handle_of(self._connection.sql.execute(returning).one()) or ()
        else:
            result = self._connection.sql.execute(statement)
            if len(handle) != 1:
                raise Refused(f"{self.records}: only the database would know the key of the record")
            place = (result.lastrowid,)
        return next(self._at_handles([place]), None)

    def _update(self, columns: Sequence[str], writes: Sequence[Write]) -> Iterator[Found | None]:
        statement = sa.update(self.records.written).values(_marks(columns)).where(self._is_at_marks())
        result = self._execute_many(statement, writes)
        if result.rowcount not in (len(writes), -1):
            raise self._ignored()
        yield from self._at_handles([self._handle_then(write) for write in writes])

    def _handle_then(self, write: Write) -> Handle:
        """The handle after an update."""
        given = dict(zip(write.columns, write.typed, strict=True))
        return tuple(given.get(n, old) for n, old in zip(self._table.handle, _handle(write), strict=True))

    def _is_at_marks(self) -> sa.ColumnElement[bool]:
        handle, written = self._table.handle, self.records.written
        return sa.and_(
            *(
                written.c[name] == sa.bindparam(f"h{n}", type_=written.c[name].type)
                for n, name in enumerate(handle)
            )
        )

    def _bound_handle(self, write: Write) -> tuple[Any, ...]:
        names = self._table.handle
        return tuple(self._encoders[n](value) for n, value in zip(names, _handle(write), strict=True))

    def _execute_many(self, statement: Any, writes: Sequence[Write]) -> sa.CursorResult[Any]:
        parameters = []
        for write in writes:
            values = {f"v{n}": value for n, value in enumerate(write.bound)}
            if write.found is not None:
                values.update({f"h{n}": value for n, value in enumerate(self._bound_handle(write))})
            parameters.append(values)
        return self._connection.sql.execute(statement, parameters)

    def _delete(self, writes: Sequence[Write]) -> Iterator[None]:
        step = max(1, PARAMETERS // len(self._table.handle))
        for start in range(0, len(writes), step):
            some = [self._bound_handle(write) for write in writes[start : start + step]]
            where = self.records.any_of(self._table.handle, some)
            result = self._connection.sql.execute(sa.delete(self.records.written).where(where))
            if result.rowcount not in (len(some), -1):
                raise self._ignored()
            yield from (None for _ in some)

    def _ignored(self) -> Refused:
        return Refused(f"{self.records}: the record was not written: it is gone, or a trigger ignored it")

    # -- read again ------------------------------------------------------------------------------------

    def _at_handles(self, handles: Sequence[Handle]) -> Iterator[Found]:
        """The rows at these handles, in their order. Raises Refused where one is not there."""
        found = self.records.at(handles)
        for handle in handles:
            one = found.get(self.records.called(self._table.handle, handle))
            if one is None:
                raise self._lost()
            yield one

    def _called(self, names: Sequence[Mapping[str, Any]]) -> Iterator[Found]:
        """The rows with these keys, in their order. Raises Refused where there is not exactly one."""
        found: dict[bytes | None, list[Found]] = {}
        for name, one in self.records.named(names, locked=False):
            found.setdefault(name, []).append(one)
        for key in names:
            some = found.get(self.records.name_of(key), [])
            if len(some) > 1:
                raise Refused(f"{self.records}: there is a record with this key already")
            if not some:
                raise self._lost()
            yield some[0]

    def _lost(self) -> Refused:
        return Refused(
            f"{self.records}: the record is not found again by its key: the column cannot hold it as it is,"
            " or a trigger altered it, or took it away"
        )

    # -- what became of it -----------------------------------------------------------------------------

    def _answer(self, write: Write, found: Found | None) -> Outcome | Refused:
        if write.action == "delete" or found is None:
            return Outcome("written")
        row = found.row
        exact = not self._table.triggered and self._bound <= set(write.columns)
        for name, typed in zip(write.columns, write.typed, strict=True):
            at = self._at.get(name)
            if at is None:
                continue
            given = None if typed is ABSENT else typed
            like = likeness(self._types[name], given, row[at])
            if like == "other" and not self._is_a_triggers(self._table.columns[name], given):
                column = self._table.columns[name]
                why = "it would become " + ("null" if row[at] is None else repr(row[at]))
                return Refused(f"{self._cannot_hold(column, typed)}: {why}", _hint(column))
            exact = exact and like == "same" and typed is not ABSENT  # it reads back as null
        return Outcome("written", None if exact and not self._told else row, exact, row[0])

    def _is_a_triggers(self, column: Column, typed: Any) -> bool:
        """Whether it was a trigger that made another value of it, and not the column that had to cut something off."""
        return self._table.triggered and not is_cut(column, self._types[column.name], typed)


def _handle(write: Write) -> Handle:
    assert write.found is not None
    assert write.found.handle is not None
    return write.found.handle


def _are_given(writes: Sequence[Write], names: Sequence[str]) -> bool:
    """Whether all of the records have values in these columns."""
    columns = writes[0].columns
    if not all(name in columns for name in names):
        return False
    places = [columns.index(name) for name in names]
    return all(write.bound[place] is not None for write in writes for place in places)


def _marks(columns: Sequence[str]) -> dict[str, Any]:
    """What stands in a statement for the values of a record."""
    return {name: sa.bindparam(f"v{n}") for n, name in enumerate(columns)}


def _size(value: Any) -> int:
    """About how many bytes a value takes in a statement."""
    return len(value) if isinstance(value, str | bytes) else 16


def _hint(column: Column) -> str:
    """What to do about a column that does not go with the offset of a time."""
    if column.kind == "datetime":
        return (
            'it holds times without an offset only: if they are meant in UTC, set the option zone = "utc";'
            " a column with a time zone (TIMESTAMP) holds instants"
        )
    if column.kind in ("zoned", "utc"):
        return "it holds instants, so a time needs an offset"
    return ""


def _too_long(writes: Sequence[Write]) -> str:
    """The column of a whole number that is the likely reason, as drivers know 64 bits."""
    for write in writes:
        for name, typed in zip(write.columns, write.typed, strict=True):
            if isinstance(typed, int) and not -(2**63) <= typed < 2**63:
                return f", column {name!r}"
    return ""
