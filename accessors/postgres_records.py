"""The records of one bound table on an open connection: selecting and locating them.

Whatever the key of a table, a row found is written under its *handle*, which addresses it alone: the primary key, or
the place of the row where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from accessors import postgres_schema as schema
from accessors.comparing import is_equal, one_name
from accessors.postgres_connection import Connection, savepoint
from accessors.postgres_schema import quoted
from accessors.postgres_values import (
    array_text,
    decoder,
    encoder,
    id_decoder,
    is_text,
    type_of,
    typed_of,
)
from accessors.table_records import TableRecords
from evsync import values as typed_values
from evsync.accessor import HEADER, Row
from evsync.binding import nearest
from evsync.errors import BadValue, Refused, Unreachable
from evsync.store import Store

BATCH = 1000
"""Rows read at once."""

LOOKED_FOR = 5000
"""Records looked for with one statement."""

_EQUAL_TO_POSTGRES = frozenset({"str", "int", "bool", "uuid"})
"""Value types of which PostgreSQL finds at least what is equal to us, in a column of that type."""

_OF_ALL_TABLES: Final = {"tableoid": "oid", "ctid": "tid"}

Raw = Sequence[str | None]
"""What PostgreSQL says, not decoded yet."""

T = TypeVar("T")

Handle = tuple[str | None, ...]


class Found(NamedTuple):
    """A row and the way back to it."""

    row: Row
    handle: Handle


class Records(TableRecords[Found]):
    """One type's records. `locked`: what is found stays as it is until the transaction ends.

    Raises Unreachable if the table or a column that is bound is not there."""

    def __init__(self, connection: Connection, store: Store, type: str, *, locked: bool = False) -> None:
        self.connection = connection
        self.table = table = schema.existing(connection, store, type)
        super().__init__(store, type, table)
        binding = self.binding
        header = (self.id_column, None, binding.changed_at, binding.changed_by)
        self._selected = [None if name is None else quoted(name) for name in (*header, *binding.locals)]
        self._row = ", ".join(name or "NULL" for name in self._selected)
        self.width: Final = HEADER + len(binding.locals)
        self._id_decoder = None if self.id_column is None else id_decoder(table.columns[self.id_column])
        self._decoders = [
            (index, decode) for index, decode in enumerate(self._all_decoders()) if decode is not None
        ]
        self._bases = {quoted(column.name): column.base for column in table.columns.values()}
        self._lock = " FOR UPDATE" if locked else ""

    def _all_decoders(self) -> Iterator[Callable[[str], Any] | None]:
        binding, columns = self.binding, self.table.columns
        yield self._id_decoder
        yield None
        yield None if binding.changed_at is None else decoder(columns[binding.changed_at])
        yield None
        for local in binding.locals:
            yield decoder(columns[local], binding.local_types[local])

    # -- reading ---------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows, as fast as PostgreSQL hands them out."""
        with (
            self.connection.cursor() as cursor,
            cursor.copy(f"COPY (SELECT {self._row} FROM {self.table.sql}) TO STDOUT".encode()) as copy,
        ):
            rows = copy.rows()
            while batch := list(islice(rows, BATCH)):
                yield self.decoded(batch)

    def decoded(self, rows: Sequence[Raw]) -> Sequence[Row]:
        """Rows out of what PostgreSQL says, column by column."""
        if not self._decoders or not rows:
            return [tuple(row) for row in rows]
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for index, decode in self._decoders:
            texts = columns[index]
            if None in texts:
                columns[index] = [None if text is None else decode(text) for text in texts]
            else:
                columns[index] = list(map(decode, texts))
        return list(zip(*columns, strict=True))

    def decoded_one(self, raw: Sequence[Any]) -> Sequence[Any]:
        """The same for one row, in which there may be something else than text."""
        row = list(raw)
        for index, decode in self._decoders:
            if isinstance(row[index], str):
                row[index] = decode(row[index])
        return row

    def decoded_key(self, local: str, text: str) -> Any:
        """The value of one key column."""
        decode = dict(self._decoders).get(HEADER + self.binding.locals.index(local))
        return text if decode is None else decode(text)

    def found(self, raws: Sequence[Raw]) -> list[Found]:
        """The same for rows that were asked for together with their handles."""
        rows = self.decoded([raw[: self.width] for raw in raws])
        return [Found(row, tuple(raw[self.width :])) for row, raw in zip(rows, raws, strict=True)]

    def returned_of(self, table: str = "") -> str:
        """The columns of a row and of its handle; `table`: the name that the statement gives it, with a point."""
        columns = (*self._selected, *self.table.handle)
        return ", ".join("NULL" if name is None else table + name for name in columns)

    def id_of(self, raw: Raw) -> int | str | None:
        """What the store calls a row of which PostgreSQL has told."""
        id = raw[0]
        return id if id is None or self._id_decoder is None else self._id_decoder(id)

    def matching(self, match: Mapping[str, Any]) -> Iterator[Row]:
        """The rows with these typed values. PostgreSQL sorts out by some types only; what else is equal, we decide."""
        types = self.binding.local_types
        for local in match:
            if local not in types:
                raise Refused(f"{self}: there is no field {local!r} to match", nearest(local, types))
        wanted = [
            (HEADER + self.binding.locals.index(local), types[local], typed_values.dump(types[local], typed))
            for local, typed in match.items()
        ]
        for rows in self._narrowed(match):
            for row in rows:
                if all(is_equal(kind, wire, row[at]) for at, kind, wire in wanted):
                    yield row

    def _narrowed(self, match: Mapping[str, Any]) -> Iterator[Sequence[Row]]:
        types, conditions, texts = self.binding.local_types, [], []
        for local, typed in match.items():
            column, value_type = self.table.columns[local], types[local]
            if typed is None:
                conditions.append(f"{quoted(local)} IS NULL")
            elif value_type in _EQUAL_TO_POSTGRES and type_of(column) == value_type:
                try:
                    texts.append(encoder(column, value_type)(typed))
                except Refused:
                    return
                conditions.append(f"{quoted(local)} = ${len(texts)}")
        if not conditions:
            yield from self.batches()
            return
        query = f"SELECT {self._row} FROM {self.table.sql} WHERE {' AND '.join(conditions)}"
        try:
            self.connection.execute(f"DECLARE evsync NO SCROLL CURSOR FOR {query}".encode(), texts)
        except psycopg.DataError:  # a value that no row of this table can have
            return
        while rows := self.connection.execute(f"FETCH {BATCH} FROM evsync".encode()).fetchall():
            yield self.decoded(rows)

    def by_id(self, ids: Iterable[int | str]) -> dict[str, Found]:
        """The records with these ids, as far as they exist, by the id as text."""
        if self.id_column is None:
            return {}
        wanted = [id for id in map(str, ids) if is_text(id)]
        if self._id_decoder is int:
            wanted = [id for id in wanted if id.removeprefix("-").isdecimal() and id.isascii()]
        found: dict[str, Found] = {}
        for record in self._select_any([self.id_column], [(id,) for id in wanted]):
            found.setdefault(str(record.row[0]), record)
        return found

    def by_name(self, names: Iterable[Mapping[str, Any]]) -> dict[bytes | None, Found]:
        """The records with these key values, by `name_of` them."""
        key, types = self.binding.key_locals, self.binding.local_types
        encoders = [encoder(self.table.columns[local], types[local]) for local in key]
        wanted = []
        for name in names:
            try:
                if all(name[local] is not None for local in key):
                    texts = [encode(name[local]) for local, encode in zip(key, encoders, strict=True)]
                    wanted.append(tuple(texts))
            except Refused:  # no row in PostgreSQL can be called that
                continue
        found: dict[bytes | None, Found] = {}
        for record in self._select_any(key, wanted):
            try:
                typed = [
                    typed_of(types[one], record.row[at]) for one, at in zip(key, self._key_at, strict=True)
                ]
            except BadValue:
                continue
            found.setdefault(self._name(typed), record)
        return found

    def name_of(self, name: Mapping[str, Any]) -> bytes | None:
        """A key's typed values as one hashable thing: equal if and only if they are the same. None if it is no text."""
        return self._name([name[local] for local in self.binding.key_locals])

    def _name(self, typed: Sequence[Any]) -> bytes | None:
        return one_name([self.binding.local_types[local] for local in self.binding.key_locals], typed)

    def with_id(self, id: int | str) -> Found | None:
        return self.by_id([id]).get(str(id))

    def at(self, handles: Sequence[Handle]) -> dict[Handle, Found]:
        """The rows at these places as they are now, without locking them."""
        names = self.table.handle
        found: list[Found] = []
        for some in _chunks(handles):
            raws = self._rows(names, [one for one in some if None not in one], "")
            found += self.found(raws)
        return {one.handle: one for one in found}

    def is_empty(self) -> bool:
        return self.connection.execute(f"SELECT 1 FROM {self.table.sql} LIMIT 1".encode()).fetchone() is None

    def _select_any(self, columns: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> Iterator[Found]:
        """The records in whose columns stand any of these values."""
        for some in _chunks(wanted):
            yield from self.found(self._tried(list(map(quoted, columns)), some))

    def _tried(self, columns: Sequence[str], wanted: Sequence[tuple[str, ...]]) -> list[Raw]:
        """A value that the column's type cannot have spoils the statement, and nothing is found under it."""
        try:
            with savepoint(self.connection):
                return self._rows(columns, wanted, self._lock)
        except psycopg.DataError:
            if len(wanted) == 1:
                return []
            middle = len(wanted) // 2
            return [*self._tried(columns, wanted[:middle]), *self._tried(columns, wanted[middle:])]

    def _rows(self, columns: Sequence[str], wanted: Sequence[Sequence[str | None]], lock: str) -> list[Raw]:
        if not wanted:
            return []
        arrays = [array_text(values) for values in zip(*wanted, strict=True)]
        if len(columns) == 1:
            where = f"{columns[0]} = ANY ($1)"
        else:
            bases = [self._bases.get(column) or _OF_ALL_TABLES[column] for column in columns]
            lists = ", ".join(f"CAST(${n} AS {base}[])" for n, base in enumerate(bases, 1))
            where = f"({', '.join(columns)}) IN (SELECT * FROM unnest({lists}))"
        sql = f"SELECT {self.returned_of()} FROM {self.table.sql} WHERE {where}{lock}"
        return list(self.connection.execute(sql.encode(), arrays))

    def check_writable(self) -> None:
        """Raises Unreachable for what can only be read."""
        if self.table.is_view or not self.table.handle:
            what = "view" if self.table.is_view else f"{self.table.kind} without a primary key"
            raise Unreachable(
                f"{self} is a {what} and cannot be written",
                f'name the table behind it, or set role = "source" for the store {self.store.name!r}',
            )


def _chunks(of: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(of), LOOKED_FOR):
        yield of[start : start + LOOKED_FOR]
