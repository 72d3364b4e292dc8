"""The records of one bound table on an open connection: selecting, locating and writing them.

Whatever the key of a table, a row found is written under its *handle*, which addresses it alone: the rowid,
or the primary key where there is none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from accessors import sqlite_schema as schema
from accessors.sqlite_connection import text, translated
from accessors.sqlite_schema import Column, quoted
from accessors.sqlite_values import encode, encoder, settled, spellings, wire
from accessors.table_records import TableRecords
from evsync import values as typed_values
from evsync.accessor import HEADER, Row
from evsync.binding import nearest
from evsync.errors import BadValue, BrokenStore, Refused, Unreachable
from evsync.store import Store
from evsync.values import ABSENT

BATCH = 500
"""Rows read at once."""

PARAMETERS = 500
"""Bound parameters of one statement; older SQLite takes 999."""

Handle = tuple[Any, ...]


class Found(NamedTuple):
    """A row and the way back to it."""

    row: Row
    handle: Handle


class Records(TableRecords[Found]):
    """One type's records. Raises Unreachable if the table or a column that is bound is not there."""

    def __init__(self, connection: sqlite3.Connection, store: Store, type: str) -> None:
        self.connection = connection
        self.table = table = schema.existing(connection, store, type)
        super().__init__(store, type, table)
        binding = self.binding
        self._id = quoted(self.id_column) if self.id_column else None
        if not table.primary_key and self._id is None:
            self._id = table.rowid
        self._source = f"FROM {quoted(table.name)}"
        header = (
            self._id_or_null(),
            "NULL",
            quoted(binding.changed_at) if binding.changed_at else "NULL",
            quoted(binding.changed_by) if binding.changed_by else "NULL",
        )
        self._row = ", ".join((*header, *map(quoted, binding.locals)))
        self._handle = table.handle
        self._at = " AND ".join(f"{column} = ?" for column in self._handle)
        self._moved_by = (table.alias,) if table.alias else () if table.rowid else table.primary_key
        self._encoders = {column.name: self._encoder(column) for column in table.columns.values()}
        self._statements: dict[tuple[str, ...], str] = {}
        self._bound = frozenset(binding.locals)
        self._certain = table.certain and not any(table.columns[local].generated for local in self._bound)
        self._width = HEADER + len(binding.locals)

    def _id_or_null(self) -> str:
        """Only a number or a text can be an id."""
        if self._id is None or self.id_column is None or self.id_column == self.table.alias:
            return self._id or "NULL"
        return f"CASE WHEN typeof({self._id}) IN ('integer', 'text') THEN {self._id} END"

    # -- reading ---------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows. Text is decoded by the driver, until it meets some that is not UTF-8: from there on
        with `text`, which is slower but lets such a value through as bytes."""
        read = 0
        self.connection.text_factory = str
        try:
            for rows in self._from(0):
                yield rows
                read += len(rows)
            return
        except sqlite3.OperationalError as error:
            if not str(error).startswith("Could not decode"):
                raise
        self.connection.text_factory = text
        for rows in self._from(read):  # the same statement in the same transaction: the same order
            yield [(None, *row[1:]) if isinstance(row[0], bytes) else row for row in rows]

    def _from(self, offset: int) -> Iterator[Sequence[Row]]:
        cursor = self.connection.execute(f"SELECT {self._row} {self._source} LIMIT -1 OFFSET ?", (offset,))
        while rows := cursor.fetchmany(BATCH):
            yield rows

    def matching(self, match: Mapping[str, Any]) -> Iterator[Row]:
        """The rows with these typed values. SQLite sorts out by text only; what else is equal, we decide."""
        types = self.binding.local_types
        for local in match:
            if local not in types:
                raise Refused(f"{self}: there is no field {local!r} to match", nearest(local, types))
        texts = {local: v for local, v in match.items() if types[local] == "str" and isinstance(v, str)}
        forms = {local: spellings("str", self.table.columns[local].affinity, v) for local, v in texts.items()}
        where = " AND ".join(f"{quoted(local)} IN ({_marks(found)})" for local, found in forms.items())
        wanted = [
            (
                HEADER + self.binding.locals.index(local),
                types[local],
                _written([typed_values.dump(types[local], typed)]),
            )
            for local, typed in match.items()
        ]
        parameters = [form for found in forms.values() for form in found]
        for row in self.connection.execute(
            f"SELECT {self._row} {self._source} WHERE {where or 1}", parameters
        ):
            if all(_wires([kind], [row[at]]) == wire for at, kind, wire in wanted):
                yield row

    def by_id(self, ids: Iterable[int | str]) -> dict[int | str, Found]:
        """The records with these ids, as far as they exist."""
        found: dict[int | str, Found] = {}
        if self._id is not None:
            for some in _chunks([(id,) for id in ids]):
                for record in self._select(f"{self._id} IN ({_marks(some)})", some):
                    found.setdefault(record.row[0], record)
        return found

    def by_name(self, names: Iterable[Mapping[str, Any]]) -> dict[bytes, Found]:
        """The records with these key values, by `name_of` them."""
        key = self.binding.key_locals
        types = self.binding.local_types
        kinds = [types[local] for local in key]
        spelled = [
            combination
            for name in names
            for combination in product(
                *(
                    spellings(types[c], self.table.columns[c].affinity, name[c])
                    if name[c] is not None
                    else ()
                    for c in key
                )
            )
        ]
        found: dict[bytes, Found] = {}
        for some in _chunks(spelled):
            if len(key) == 1:
                where = f"{quoted(key[0])} IN ({_marks(some)})"
            else:
                # SQLite would not use the key's index for `(a, b) IN (VALUES …)`.
                each = " AND ".join(f"{quoted(local)} = ?" for local in key)
                where = " OR ".join([f"({each})"] * len(some))
            for record in self._select(where, some):
                name = _wires(kinds, [record.row[at] for at in self._key_at])
                if name is not None:
                    found.setdefault(name, record)
        return found

    def name_of(self, name: Mapping[str, Any]) -> bytes:
        """A key's typed values as one hashable thing: equal if and only if they are the same."""
        types = self.binding.local_types
        return _written([typed_values.dump(types[local], name[local]) for local in self.binding.key_locals])

    def with_id(self, id: int | str) -> Found | None:
        return next(iter(self.by_id([id]).values()), None)

    def at(self, handle: Handle) -> Row | None:
        """The row at this place as it is now."""
        return next((found.row for found in self._select(self._at, [handle])), None) if handle else None

    def is_empty(self) -> bool:
        return self.connection.execute(f"SELECT 1 {self._source} LIMIT 1").fetchone() is None

    def _select(self, where: str, parameters: Iterable[Sequence[Any]]) -> Iterator[Found]:
        columns = ", ".join((self._row, *self._handle))
        flat = [one for some in parameters for one in some]
        try:
            rows = self.connection.execute(f"SELECT {columns} {self._source} WHERE {where}", flat).fetchall()
        except (OverflowError, UnicodeEncodeError):  # nothing in SQLite can be called that
            return
        for row in rows:
            yield Found(row[: self._width], row[self._width :])

    # -- writing ---------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raises Unreachable for what can only be read."""
        if self.table.is_view or not self._handle:
            what = "a view" if self.table.is_view else "a table without a key whose rowid is hidden"
            raise Unreachable(
                f"{self} is {what} and cannot be written",
                f'name the table behind it, or set role = "source" for the store {self.store.name!r}',
            )

    def insert(self, values: Mapping[str, Any]) -> Handle:
        """Add a row of typed values; answers where it is. Raises Refused if SQLite does not want it."""
        stored = self._encoded(values)
        cursor = self._write(self._statement("INSERT", stored), list(stored.values()))
        if self.table.rowid is not None or self.table.alias is not None:
            return (cursor.lastrowid,)
        if all(column in stored for column in self.table.primary_key):
            return tuple(stored[column] for column in self.table.primary_key)
        found = self.one(None, values)  # a default filled in the rest of the primary key
        return found.handle if found else ()

    def update(self, handle: Handle, values: Mapping[str, Any]) -> Handle:
        """Write these columns of a row; answers where it is then."""
        stored = self._encoded(values)
        if not stored:
            return handle
        self._write(self._statement("UPDATE", stored), [*stored.values(), *handle])
        if not any(column in stored for column in self._moved_by):
            return handle
        return tuple(stored.get(column, old) for column, old in zip(self._moved_by, handle, strict=True))

    def delete(self, handle: Handle) -> None:
        """Delete a row; no error if it is gone."""
        self._write(f"DELETE {self._source} WHERE {self._at}", handle, may_miss=True)

    def is_certain(self, values: Mapping[str, Any]) -> bool:
        """Whether these values, once written, certainly read back as they are, with nothing to add."""
        alias = self.table.alias
        return (
            self._certain
            and values.keys() >= self._bound
            and ABSENT not in values.values()  # it reads back as null
            and (alias is None or alias not in values or isinstance(values[alias], int))
        )

    def id_at(self, handle: Handle, values: Mapping[str, Any]) -> int | str | None:
        """The id of a row just written with these values, as far as it can be told without reading it."""
        if self._id is None:
            return None
        if self._handle == (self._id,):
            raw = handle[0]
        elif self.id_column is not None and values.get(self.id_column) not in (None, ABSENT):
            raw = self._encoded({self.id_column: values[self.id_column]}).get(self.id_column)
        else:
            row = self.at(handle)
            return None if row is None else row[0]
        raw = raw if self.id_column is None else settled(raw, self.table.columns[self.id_column].affinity)
        return raw if isinstance(raw, int | str) else None

    def _statement(self, verb: str, columns: Iterable[str]) -> str:
        """The statement that writes these columns; a batch has few different ones."""
        shape = (verb, *columns)
        sql = self._statements.get(shape)
        if sql is None:
            table, names = quoted(self.table.name), [quoted(column) for column in shape[1:]]
            if verb == "UPDATE":
                sql = f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in names)} WHERE {self._at}"
            elif names:
                sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({_marks(names)})"
            else:
                sql = f"INSERT INTO {table} DEFAULT VALUES"
            self._statements[shape] = sql
        return sql

    def _encoder(self, column: Column) -> Callable[[Any], Any] | None:
        """What encodes the values of a column; None for a generated one, which is never written."""
        if column.generated:
            return None
        value_type = self.binding.local_types.get(column.name)
        if value_type is not None:
            encoded = encoder(value_type, column.affinity)
            return _as_rowid(encoded) if column.name == self.table.alias else encoded
        return lambda typed: encode(typed_values.infer(typed) or "str", column.affinity, typed)

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What to give SQLite, generated columns left out. Raises Refused for a value that would be altered."""
        stored: dict[str, Any] = {}
        for name, typed in values.items():
            try:
                encode_value = self._encoders[name]
                if encode_value is not None:
                    stored[name] = None if typed is None or typed is ABSENT else encode_value(typed)
            except KeyError:
                raise Refused(f"{self}: there is no column {name!r}", nearest(name, self._encoders)) from None
            except (Refused, ValueError, TypeError, OverflowError) as error:
                declared = self.table.columns[name].declared
                what = f"declared {declared}" if declared else "without a declared type"
                raise Refused(
                    f"{self}, column {name!r} ({what}) cannot hold {_shown(typed)}: {error}"
                ) from error
        return stored

    def _write(self, sql: str, parameters: Sequence[Any], *, may_miss: bool = False) -> sqlite3.Cursor:
        """Raises Refused for what is wrong with this record alone, else what `translated` makes of it."""
        try:
            cursor = self.connection.execute(sql, parameters)
        except (OverflowError, UnicodeEncodeError) as error:
            raise Refused(f"{self}: SQLite cannot hold this: {error}") from error
        except sqlite3.Error as error:
            found = translated(error, self.store)
            # An error in SQL here is one in a trigger, a check or a generated column, met by this record.
            raise (
                Refused(found.message) if type(found) is BrokenStore and _is_sql(error) else found
            ) from error
        if cursor.rowcount == 0 and not may_miss:
            raise Refused(
                f"{self}: the record was not written: it is gone, or a trigger or ON CONFLICT ignored it"
            )
        return cursor

    # -- rows as data ----------------------------------------------------------------------------------

    def same(self, row: Row, old: Mapping[str, Any]) -> bool:
        """Whether the row still holds the native values of `old`."""
        types = self.binding.local_types
        now = dict(zip(self.binding.locals, row[HEADER:], strict=True))
        shared = [local for local in old if local in now]
        kinds = [types[local] for local in shared]
        raw, then = [now[local] for local in shared], [old[local] for local in shared]
        return raw == then or ((wires := _wires(kinds, raw)) is not None and wires == _wires(kinds, then))


def _marks(of: Iterable[Any]) -> str:
    return ", ".join("?" for _ in of)


def _chunks(parameters: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    step = PARAMETERS // max(map(len, parameters), default=1)
    for start in range(0, len(parameters), max(step, 1)):
        yield parameters[start : start + max(step, 1)]


def _written(wires: list[Any]) -> bytes:
    return typed_values.encode(wires)


def _wires(kinds: Sequence[str], raw: Sequence[Any]) -> bytes | None:
    """Native values in comparable form; None if one is not of its type."""
    try:
        return _written([wire(kind, value) for kind, value in zip(kinds, raw, strict=True)])
    except BadValue:
        return None


def _is_sql(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR"


def _as_rowid(encoded: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """For an INTEGER PRIMARY KEY, the one column that holds nothing but whole numbers of 64 bits."""

    def checked(typed: Any) -> Any:
        form = encoded(typed)
        if isinstance(form, bytes):
            raise Refused("an INTEGER PRIMARY KEY has 64 bits")
        return form

    return checked


def _shown(typed: Any) -> str:
    text = repr(typed)
    return text if len(text) <= 60 else text[:57] + "..."
