"""The records of one bound table on an open connection: selecting and locating them.

Whatever the key of a table, a row found is written under its *handle*, which addresses it alone: the values of its
primary key, or of another key of columns that are never null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from accessors import sql_schema as schema
from accessors.comparing import is_equal, one_name
from accessors.sql_connection import Connection, savepoint
from accessors.sql_schema import quoted
from accessors.sql_streaming import streamed
from accessors.sql_values import Column, decoder, encoder, id_of, typed_of
from accessors.table_records import TableRecords
from evsync import values as typed_values
from evsync.accessor import HEADER, KEPT, Row
from evsync.binding import nearest
from evsync.errors import BadValue, Refused, Unreachable
from evsync.store import Store
from evsync.values import ABSENT

BATCH = 1000
"""Rows read at once."""

PARAMETERS = 1000
"""Values looked for with one statement."""

Raw = Sequence[Any]
"""What the driver says, not decoded yet."""

Handle = tuple[Any, ...]
"""Typed values of the columns by which the table addresses a row."""


class Found(NamedTuple):
    """A row and the way back to it; None where there is none."""

    row: Row
    handle: Handle | None


class _Entry(NamedTuple):
    """One entry of a row: which of the values asked for it is, and what decodes it, if it has to be."""

    source: int
    decode: Callable[[Any], Any] | None


class Records(TableRecords[Found]):
    """One type's records. `locked`: what is found stays as it is until the transaction ends, where the database can
    see to that.

    Raises Unreachable if the table or a column that is bound is not there."""

    def __init__(self, connection: Connection, store: Store, type: str, *, locked: bool = False) -> None:
        self.connection = connection
        self.table = table = schema.existing(connection, store, type)
        super().__init__(store, type, table)
        binding = self.binding
        self.types: Final = {
            name: binding.local_types.get(name) or column.value_type for name, column in table.columns.items()
        }
        dialect = connection.dialect
        self.written: Final = sa.table(
            quoted(table.name),
            *(sa.column(quoted(c.name), dialect.bound_type(c)) for c in table.columns.values()),
            schema=None if table.schema is None else quoted(table.schema),
        )
        self._entries = (self.id_column, None, binding.changed_at, binding.changed_by, *binding.locals)
        # A column is asked for once, wherever in the row it stands; behind the row's own, what its handle needs besides.
        named = [name for name in (*self._entries, *table.handle) if name is not None]
        self._asked = list(dict.fromkeys(named))
        self._selected = [self._as_read(name).label(f"c{at}") for at, name in enumerate(self._asked)]
        self._plan = [self._entry(at, name) for at, name in enumerate(self._entries)]
        self._handle_plan = [self._entry(HEADER, name) for name in table.handle]
        self.encoders: Final[dict[str, Callable[[Any], Any]]] = {
            name: encoder(column, self.types[name]) for name, column in table.columns.items()
        }
        self._locked = locked and dialect.locks

    def _as_read(self, name: str) -> sa.ColumnElement[Any]:
        """A column of no type: what the driver says is not worked on."""
        named: sa.ColumnElement[Any] = sa.column(quoted(name), _selectable=self.written)
        return self.connection.dialect.selected(self.table.columns[name], named)

    def _entry(self, at: int, name: str | None) -> _Entry | None:
        """Where the value of a row's entry comes from, and what decodes it."""
        if name is None:
            return None
        column = self.table.columns[name]
        if at == 0:
            return _Entry(self._asked.index(name), None if column.kind == "int" else _as_id(column))
        kind = "datetime" if at == 2 else "str" if at == 3 else self.types[name]
        return _Entry(self._asked.index(name), decoder(column, kind))

    # -- reading ---------------------------------------------------------------------------------------

    def batches(self, *where: sa.ColumnElement[bool]) -> Iterator[Sequence[Row]]:
        """All rows, or those under the conditions, as the server hands them out."""
        query = sa.select(*self._selected).select_from(self.written).where(*where)
        for rows in streamed(self.connection, query, BATCH):
            yield _decoded(rows, self._plan)

    def row(self, values: Mapping[str, Any]) -> Row:
        """A row out of what a feed says of the columns by their names, as the driver would say it. KEPT and ABSENT stay
        what they are; a column that is not told is null."""
        return tuple(
            None if entry is None else _decoded_one(values.get(name or ""), entry)
            for name, entry in zip(self._entries, self._plan, strict=True)
        )

    def found(self, raws: Sequence[Raw]) -> list[Found]:
        """Rows with their handles."""
        rows, places = _decoded(raws, self._plan), _decoded(raws, self._handle_plan)
        return [Found(row, self.handle_of(place)) for row, place in zip(rows, places, strict=True)]

    def handle_of(self, place: Sequence[Any]) -> Handle | None:
        """The handle out of its decoded values."""
        types = [self.types[name] for name in self.table.handle]
        try:
            return tuple(typed_of(kind, raw) for kind, raw in zip(types, place, strict=True)) or None
        except BadValue:
            return None

    def matching(self, match: Mapping[str, Any]) -> Iterator[Row]:
        """The rows with these typed values. The database sorts out by some types only; what else is equal, we decide."""
        types = self.binding.local_types
        for local in match:
            if local not in types:
                raise Refused(f"{self}: there is no field {local!r} to match", nearest(local, types))
        wanted = [
            (HEADER + self.binding.locals.index(local), types[local], typed_values.dump(types[local], typed))
            for local, typed in match.items()
        ]
        try:
            conditions = list(self._conditions(match))
        except Refused:  # a value that no row of this table can have
            return
        for rows in self.batches(*conditions):
            for row in rows:
                if all(is_equal(kind, wire, row[at]) for at, kind, wire in wanted):
                    yield row

    def _conditions(self, match: Mapping[str, Any]) -> Iterator[sa.ColumnElement[bool]]:
        for local, typed in match.items():
            column, value_type = self.table.columns[local], self.types[local]
            if typed is None:
                yield self.written.c[local].is_(None)
            elif value_type in self.connection.dialect.finds and column.value_type == value_type:
                yield self.written.c[local] == self.encoders[local](typed)

    def by_id(self, ids: Iterable[int | str]) -> dict[str, Found]:
        """The records with these ids, as far as they exist, by the id as text."""
        if self.id_column is None:
            return {}
        column = self.table.columns[self.id_column]
        encode, wanted = encoder(column, column.value_type), []
        for id in ids:
            try:
                wanted.append((encode(typed_values.read(column.value_type, id)),))
            except (BadValue, Refused):  # no row can be called that
                continue
        found: dict[str, Found] = {}
        for record in self._select_any([self.id_column], wanted, True):
            found.setdefault(str(record.row[0]), record)
        return found

    def by_name(self, names: Iterable[Mapping[str, Any]]) -> dict[bytes | None, Found]:
        """The records with these key values, by `name_of` them. What is one key to the database need not be one to us: it
        may mind no case."""
        found: dict[bytes | None, Found] = {}
        for name, record in self.named(names, locked=True):
            found.setdefault(name, record)
        return found

    def named(
        self, names: Iterable[Mapping[str, Any]], *, locked: bool
    ) -> Iterator[tuple[bytes | None, Found]]:
        """The same one by one, however many have one name."""
        key, types = self.binding.key_locals, self.binding.local_types
        wanted = []
        for name in names:
            try:
                if all(name[local] is not None for local in key):
                    wanted.append(tuple(self.encoders[local](name[local]) for local in key))
            except Refused:  # no row can be called that
                continue
        for record in self._select_any(key, wanted, locked):
            try:
                typed = [typed_of(types[c], record.row[at]) for c, at in zip(key, self._key_at, strict=True)]
            except BadValue:
                continue
            yield self.called(key, typed), record

    def name_of(self, name: Mapping[str, Any]) -> bytes | None:
        """A key's typed values as one hashable thing: equal if and only if they are the same. None if it is no text."""
        key = self.binding.key_locals
        return self.called(key, [name[local] for local in key])

    def called(self, columns: Sequence[str], typed: Sequence[Any]) -> bytes | None:
        """The same for the typed values of any columns."""
        return one_name([self.types[column] for column in columns], typed)

    def with_id(self, id: int | str) -> Found | None:
        return self.by_id([id]).get(str(id))

    def at(self, handles: Iterable[Handle]) -> dict[bytes | None, Found]:
        """The rows at these places as they are now, by `called` their handles."""
        names = self.table.handle
        wanted = [tuple(self.encoders[n](v) for n, v in zip(names, one, strict=True)) for one in handles]
        return {
            self.called(names, record.handle): record
            for record in self._select_any(names, wanted, False)
            if record.handle is not None
        }

    def is_empty(self) -> bool:
        one: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(self.written).limit(1)
        return self.connection.sql.execute(one).first() is None

    def _select_any(
        self, columns: Sequence[str], wanted: Sequence[tuple[Any, ...]], locked: bool
    ) -> Iterator[Found]:
        """The records in whose columns stand any of these values."""
        step = max(1, PARAMETERS // max(1, len(columns)))
        for start in range(0, len(wanted), step):
            yield from self.found(self._tried(columns, wanted[start : start + step], locked))

    def _tried(self, columns: Sequence[str], wanted: Sequence[tuple[Any, ...]], locked: bool) -> list[Raw]:
        """A value that the column's type cannot have spoils the statement, and nothing is found under it."""
        query = sa.select(*self._selected).select_from(self.written)
        query = query.where(self.any_of(columns, wanted))
        if locked and self._locked:
            query = query.with_for_update()
        try:
            with savepoint(self.connection):
                return list(self.connection.sql.execute(query))
        except (exc.DataError, OverflowError):
            if len(wanted) == 1:
                return []
            middle = len(wanted) // 2
            return [
                *self._tried(columns, wanted[:middle], locked),
                *self._tried(columns, wanted[middle:], locked),
            ]

    def any_of(self, columns: Sequence[str], wanted: Sequence[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
        """That in these columns stand any of these values, as the driver is given them."""
        named = [self.written.c[column] for column in columns]
        if len(named) == 1:
            return named[0].in_([values[0] for values in wanted])
        if self.connection.dialect.compares_tuples:
            return sa.tuple_(*named).in_(wanted)
        return sa.or_(*(sa.and_(*map(_equals, named, values)) for values in wanted))

    def check_writable(self) -> None:
        """Raises Unreachable for what can only be read."""
        source = f'set role = "source" for the store {self.store.name!r}'
        if self.table.is_view:
            raise Unreachable(
                f"{self} is a view and cannot be written", f"name the table behind it, or {source}"
            )
        if self.table.hindrance is not None:
            raise Unreachable(f"{self} {self.table.hindrance}", f"ALTER TABLE … ENGINE = InnoDB, or {source}")
        if not self.table.handle:
            raise Unreachable(
                f"{self} has no key of its own, so none of its rows can be addressed to be written",
                f"give it a primary key, or {source}",
            )


def _equals(column: sa.ColumnElement[Any], value: Any) -> sa.ColumnElement[bool]:
    equal: sa.ColumnElement[bool] = column == value
    return equal


def _as_id(column: Column) -> Callable[[Any], int | str | None]:
    decode = decoder(column, column.value_type)
    return lambda raw: id_of(column, raw if decode is None else decode(raw))


def _decoded(rows: Sequence[Raw], plan: Sequence[_Entry | None]) -> list[tuple[Any, ...]]:
    """Rows out of what the driver says, column by column."""
    if not rows:
        return []
    told = list(zip(*rows, strict=True))
    nothing = (None,) * len(rows)
    columns: list[Sequence[Any]] = []
    for entry in plan:
        raws = nothing if entry is None else told[entry.source]
        decode = None if entry is None else entry.decode
        if decode is None:
            columns.append(raws)
        elif None in raws:
            columns.append([None if raw is None else decode(raw) for raw in raws])
        else:
            columns.append(list(map(decode, raws)))
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def _decoded_one(raw: Any, entry: _Entry) -> Any:
    return raw if raw is None or entry.decode is None or raw is KEPT or raw is ABSENT else entry.decode(raw)
