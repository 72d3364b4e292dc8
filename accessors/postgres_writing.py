"""Writing the records of one table so that none is altered in silence and a refused one stops no other.

PostgreSQL answers each write with the row as it stands then (RETURNING). Where a value came to be another one, because
the column has no room for it, the record is undone and refused; where a trigger of the application's made another
value of it, that is what the store holds now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, NamedTuple

import psycopg

from accessors.applying import Action, spared
from accessors.postgres_connection import savepoint, translated
from accessors.postgres_records import Found, Handle, Raw, Records
from accessors.postgres_schema import quoted
from accessors.postgres_values import Column, Likeness, encoder, is_told_by_text, likeness, type_of, wire_of
from evsync import values as typed_values
from evsync.accessor import HEADER, Outcome, Row
from evsync.binding import nearest
from evsync.errors import BadValue, Refused
from evsync.values import ABSENT

ROWS = 100  # in one statement
PARAMETERS = 20_000  # in one statement; the protocol allows 65,535

_ON_THE_RECORD = ("42", "0A")  # an error in SQL is one in a trigger or a check here, met by this record


class Write(NamedTuple):
    """One record to be written: the columns with their typed values and the texts of them that PostgreSQL is given."""

    action: Action
    columns: tuple[str, ...]
    typed: Sequence[Any]
    texts: Sequence[str | None]
    found: Found | None


class Writing:
    """Writes records inside an open transaction. `told`: an outcome has its row also where that is just what was
    given."""

    def __init__(self, records: Records, *, told: bool = False) -> None:
        self.records, self._table, self._told = records, records.table, told
        self._connection = records.connection
        binding = records.binding
        self._types = {
            name: binding.local_types.get(name) or type_of(column)
            for name, column in self._table.columns.items()
        }
        self._encoders: dict[str, Callable[[Any], str]] = {
            name: encoder(column, self._types[name]) for name, column in self._table.columns.items()
        }
        self._bound = frozenset(binding.locals)
        self._at = {local: HEADER + index for index, local in enumerate(binding.locals)}
        self._special = {c.name for c in self._table.columns.values() if c.generated or c.identity}
        self._told_by_text = {
            name for name, c in self._table.columns.items() if is_told_by_text(c, self._types[name])
        }
        self._places: dict[tuple[str, ...], list[int] | None] = {}

    # -- one record at a time --------------------------------------------------------------------------

    def one(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Row | None:
        """Write one record; the row as it is then. Raises Refused."""
        outcome = self.written([self.prepared(action, values, found)])[0]
        if outcome.error is not None:
            raise outcome.error
        return outcome.row

    def prepared(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Write:
        """Raises Refused for what cannot be written."""
        if action == "delete":
            return Write(action, (), (), (), found)
        if action == "create" and found is not None:
            raise Refused(f"{self.records}: there is a record with this key already")
        if action == "update" and found is None:
            raise Refused(f"{self.records}: there is no such record to update")
        if self._special:
            values = {n: v for n, v in values.items() if n not in self._special or self._counts(n, v, found)}
        encoders, texts = self._encoders, []
        for name, typed in values.items():
            try:
                texts.append(None if typed is None or typed is ABSENT else encoders[name](typed))
            except (Refused, LookupError, ValueError, TypeError, AttributeError) as error:
                raise self._not_encoded(name, typed, error) from error
        return Write(action, tuple(values), list(values.values()), texts, found)

    def _counts(self, name: str, typed: Any, found: Found | None) -> bool:
        """Whether a value is to be written. A generated column's never is. An identity column counts on where nothing
        is given; one that ALWAYS does takes another value only with a new record, so it is not told its own again."""
        column = self._table.columns[name]
        if column.generated or typed is None or typed is ABSENT:
            return False
        if found is None or column.identity != "always" or name not in self._at:
            return True
        kind = self._types[name]
        try:
            return not typed_values.same(
                wire_of(kind, found.row[self._at[name]]), typed_values.dump(kind, typed)
            )
        except BadValue:
            return True

    def _not_encoded(self, name: str, typed: Any, error: Exception) -> Refused:
        column = self._table.columns.get(name)
        if column is None:
            return Refused(f"{self.records}: there is no column {name!r}", nearest(name, self._table.columns))
        return Refused(f"{self._cannot_hold(column, typed)}: {error}")

    def _cannot_hold(self, column: Column, typed: Any) -> str:
        shown = repr(typed)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        return f"{self.records}, column {column.name!r} ({column.declared}) cannot hold {shown}"

    def _blamed(self, write: Write, error: Refused) -> Refused:
        """The same, with the column whose type does not take the value: PostgreSQL does not say which."""
        cause = error.__cause__
        lengths = psycopg.errors.StringDataRightTruncation, psycopg.errors.StringDataLengthMismatch
        if not isinstance(cause, psycopg.DataError | psycopg.errors.CheckViolation):
            return error
        for name, typed, given in zip(write.columns, write.typed, write.texts, strict=True):
            if given is None:
                continue
            column = self._table.columns[name]
            said = self._objection(column, given, isinstance(cause, lengths))
            if said is not None:
                return Refused(f"{self._cannot_hold(column, typed)}: {said}", _hint(column))
        return error

    def _objection(self, column: Column, given: str, too_long: bool) -> str | None:
        """What PostgreSQL says against a text in a column; None if it takes it."""
        try:
            with savepoint(self._connection):
                held = self._cast(given, column.base, column.declared)
                cut = too_long and held != self._cast(given, column.base)  # in silence, as casts do
        except (psycopg.DataError, psycopg.errors.CheckViolation) as error:
            said = error.diag.message_primary or ""
            return said if len(said) <= 120 else f"{said[:60]} ... {said[-50:]}"
        return f"it would become {held!r}" if cut else None

    # -- many ------------------------------------------------------------------------------------------

    def written(self, writes: Sequence[Write]) -> list[Outcome]:
        """What became of each, in order."""
        outcomes: dict[int, Outcome] = {}
        handles: dict[int, Handle] = {}
        numbered = list(enumerate(writes))
        for number, raw, outcome in spared(
            numbered, lambda: savepoint(self._connection), self._answered, self._blamed
        ):
            outcomes[number] = outcome
            if raw is not None and writes[number].action != "delete":
                handles[number] = tuple(raw[self.records.width :])
        if self._table.triggered:
            # Last, since a later write may touch an earlier one through a trigger.
            now = self.records.at(list(handles.values()))
            for number, handle in handles.items():
                found = now.get(handle)
                if found is not None or self._table.primary_key:
                    outcomes[number].row = None if found is None else found.row
        return [outcomes[number] for number in range(len(writes))]

    def _answered(self, writes: Sequence[Write]) -> list[tuple[Raw | None, Outcome | Refused]]:
        told = self._run(writes)
        return list(zip(told, self._answers(writes, told), strict=True))

    def _run(self, writes: Sequence[Write]) -> list[Raw | None]:
        """Write them, in order; the rows as they are then, None where nothing was to be written. Raises Refused if
        one of them is."""
        told: list[Raw | None] = []
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
                    told += [None] * len(some)
        except psycopg.Error as error:
            found = translated(error, self.records.store, self._connection.info.user)
            code = error.sqlstate or ""
            refused = code.startswith(_ON_THE_RECORD) and code != "42501"
            raise (Refused(found.message) if refused else found) from error
        return told

    def _insert(self, columns: Sequence[str], writes: Sequence[Write]) -> Iterator[Raw]:
        """The rows come back in the order in which they were given."""
        if not columns:
            for _ in writes:
                yield from self._returned(f"INSERT INTO {self._table.sql} DEFAULT VALUES", [], 1)
            return
        names = ", ".join(map(quoted, columns))
        insert = f"INSERT INTO {self._table.sql} ({names}) OVERRIDING SYSTEM VALUE VALUES "
        for some in _chunks(writes, len(columns)):
            texts = [text for write in some for text in write.texts]
            yield from self._returned(insert + _marks(len(some), len(columns)), texts, len(some))

    def _update(self, columns: Sequence[str], writes: Sequence[Write]) -> Iterator[Raw]:
        """The rows come back in any order, so their primary key has to say which is which."""
        table, handle = self._table, self._table.handle
        if not table.primary_key or set(columns) & set(table.primary_key):
            sets = ", ".join(f"{quoted(name)} = ${n}" for n, name in enumerate(columns, 1))
            where = " AND ".join(f"{name} = ${n}" for n, name in enumerate(handle, len(columns) + 1))
            yield from self._each(f"UPDATE {table.sql} SET {sets} WHERE {where}", writes)
            return
        sets = ", ".join(f"{quoted(name)} = evsync.c{n}" for n, name in enumerate(columns, 1))
        bases = [table.columns[name].base for name in (*columns, *table.primary_key)]
        names = ", ".join(f"c{n}" for n in range(1, len(bases) + 1))
        where = " AND ".join(f"t.{name} = evsync.c{n}" for n, name in enumerate(handle, len(columns) + 1))
        for some in _chunks(writes, len(bases)):
            texts = [text for write in some for text in (*write.texts, *_handle(write))]
            sql = f"UPDATE {table.sql} AS t SET {sets} FROM (VALUES {_marks(len(some), len(bases), bases)})"
            sql += f" AS evsync ({names}) WHERE {where}"
            yield from self._in_order(some, self._returned(sql, texts, len(some), "t."))

    def _delete(self, writes: Sequence[Write]) -> Iterator[Raw]:
        table, handle = self._table, self._table.handle
        if not table.primary_key:
            where = " AND ".join(f"{name} = ${n}" for n, name in enumerate(handle, 1))
            yield from self._each(f"DELETE FROM {table.sql} WHERE {where}", writes)
            return
        bases = [table.columns[name].base for name in table.primary_key]
        for some in _chunks(writes, len(bases)):
            texts = [text for write in some for text in _handle(write)]
            where = f"({', '.join(handle)}) IN (VALUES {_marks(len(some), len(bases), bases)})"
            sql = f"DELETE FROM {table.sql} WHERE {where}"
            yield from self._in_order(some, self._returned(sql, texts, len(some)))

    def _returned(
        self, sql: str, texts: Sequence[str | None], count: int, of: str = ""
    ) -> Sequence[tuple[Any, ...]]:
        """The rows that one statement has written. Raises Refused if they are not as many as they should be."""
        returning = f"{sql} RETURNING {self.records.returned_of(of)}"
        told = self._connection.execute(returning.encode(), texts).fetchall()
        if len(told) != count:
            raise self._ignored()
        return told

    def _each(self, statement: str, writes: Sequence[Write]) -> list[Raw]:
        """One statement for each record, all of them on their way before the first is answered."""
        told: list[Raw] = []
        with self._connection.cursor() as cursor:
            sql = f"{statement} RETURNING {self.records.returned_of()}"
            parameters = [[*write.texts, *_handle(write)] for write in writes]
            cursor.executemany(sql.encode(), parameters, returning=True)
            for result in cursor.results():
                row = result.fetchone()
                if row is None:
                    raise self._ignored()
                told.append(row)
        return told

    def _in_order(self, writes: Sequence[Write], told: Sequence[tuple[Any, ...]]) -> Iterator[Raw]:
        """Raises Refused where that cannot be told: then they are written one by one."""
        if len(writes) == 1:  # whatever a trigger has made of its key
            yield told[0]
            return
        by_handle = {raw[self.records.width :]: raw for raw in told}
        for write in writes:
            raw = by_handle.get(_handle(write))
            if raw is None:
                raise self._ignored()
            yield raw

    def _ignored(self) -> Refused:
        return Refused(f"{self.records}: the record was not written: it is gone, or a trigger ignored it")

    # -- what became of it -----------------------------------------------------------------------------

    def _answers(self, writes: Sequence[Write], told: Sequence[Raw | None]) -> list[Outcome | Refused]:
        plain = not self._table.triggered and not self._told
        answers: list[Outcome | Refused | None] = []
        for write, raw in zip(writes, told, strict=True):
            if raw is None:
                answers.append(Outcome("written", None if write.found is None else write.found.row))
            elif write.action == "delete" or (plain and self._is_exact(write, raw)):
                answers.append(Outcome("written", None, write.action != "delete", self.records.id_of(raw)))
            else:
                answers.append(None)
        others = [number for number, answer in enumerate(answers) if answer is None]
        raws = [raw for number in others if (raw := told[number]) is not None]
        for number, raw, found in zip(others, raws, self.records.found(raws), strict=True):
            answers[number] = self._answer(writes[number], raw, found.row)
        return [answer for answer in answers if answer is not None]

    def _is_exact(self, write: Write, raw: Raw) -> bool:
        """Whether the row holds the very texts that were given, and of all columns."""
        try:
            places = self._places[write.columns]
        except KeyError:
            complete = self._bound == set(write.columns) <= self._told_by_text
            places = [self._at[name] for name in write.columns] if complete else None
            self._places[write.columns] = places
        return (
            places is not None
            and [raw[at] for at in places] == write.texts
            and (None not in write.texts or not any(typed is ABSENT for typed in write.typed))
        )

    def _answer(self, write: Write, raw: Raw, row: Row) -> Outcome | Refused:
        exact = not self._table.triggered and self._bound <= set(write.columns)
        for name, typed, given in zip(write.columns, write.typed, write.texts, strict=True):
            at = self._at.get(name)
            if at is None or (raw[at] == given and name in self._told_by_text):
                exact = exact and typed is not ABSENT  # it reads back as null
                continue
            column, stored = self._table.columns[name], raw[at]
            like = likeness(column, self._types[name], typed, given, stored)
            if like not in ("same", "alike") and not self._is_as_meant(column, typed, given, stored, like):
                why = "it would become " + ("null" if stored is None else repr(stored))
                return Refused(f"{self._cannot_hold(column, typed)}: {why}", _hint(column))
            exact = exact and like == "same"
        return Outcome("written", None if exact and not self._told else row, exact, row[0])

    def _is_as_meant(
        self, column: Column, typed: Any, given: str | None, stored: str | None, like: Likeness
    ) -> bool:
        """Whether what is stored is the value given in PostgreSQL's own spelling, or what a trigger made of it; not
        what the column had to cut off."""
        if given is None:
            return self._table.triggered
        if like == "unsure" and self._cast(given, column.base) == stored:
            return True
        if not self._table.triggered:
            return False
        held = self._cast(given, column.base, column.declared)
        like = likeness(column, self._types[column.name], typed, given, held)
        return like in ("same", "alike") or (like == "unsure" and self._cast(given, column.base) == held)

    def _cast(self, text: str, *types: str) -> str | None:
        """What PostgreSQL makes of a text if it takes it for these types, one after the other."""
        cast = "$1"
        for name in types:
            cast = f"CAST({cast} AS {name})"
        found = self._connection.execute(f"SELECT {cast}".encode(), [text]).fetchone()
        return None if found is None else found[0]


def _handle(write: Write) -> Handle:
    return () if write.found is None else write.found.handle


def _chunks(writes: Sequence[Write], width: int) -> Iterator[Sequence[Write]]:
    """So many records as one statement takes."""
    step = max(1, min(ROWS, PARAMETERS // width))
    for start in range(0, len(writes), step):
        yield writes[start : start + step]


def _marks(rows: int, columns: int, types: Sequence[str] | None = None) -> str:
    """`($1, $2), ($3, $4)` and so on; the first row says the types, where the statement does not."""
    marks = map("${}".format, range(1, rows * columns + 1))
    first = list(islice(marks, columns))
    if types is not None:
        first = [f"CAST({mark} AS {type})" for mark, type in zip(first, types, strict=True)]
    lines = [first, *(islice(marks, columns) for _ in range(rows - 1))]
    return ", ".join(f"({', '.join(line)})" for line in lines)


def _hint(column: Column) -> str:
    if column.kind == "timestamptz":
        return "it holds times with an offset only: a column of the type timestamp holds those without"
    if column.kind == "timestamp":
        return "it holds times without an offset only: a column of the type timestamptz holds those with one"
    return ""
