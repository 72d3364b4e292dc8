"""MySQL's and MariaDB's binary log as a feed.

A position is a place in the log between two transactions. A scan begins together with a snapshot of which the server says where
it stands in the log, so each transaction is in the one or in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc

from accessors import mysql_marks as marks
from accessors import sql_schema as schema
from accessors.mysql_cascades import Cascades, references
from accessors.mysql_following import lost, transactions
from accessors.mysql_log import Unreadable
from accessors.mysql_positions import Position, position_of
from accessors.mysql_rows import Changed, Decoder, Partial, Values
from accessors.mysql_server import is_mariadb, log_end
from accessors.mysql_statements import Kind, defines, emptied
from accessors.mysql_tables import Table, table_of
from accessors.mysql_texts import Texts, of_type
from accessors.mysql_transactions import Rows, Statement, Transaction
from accessors.sql_connection import Connection, opened
from accessors.sql_errors import where_of
from accessors.sql_records import Records
from accessors.sql_values import typed_of
from evsync.accessor import HEADER, KEPT, Fed, Missed, Reached
from evsync.errors import BadValue, BrokenStore, Unreachable
from evsync.store import Store

Told = Fed | Missed


def check(store: Store, since: Mapping[str, str]) -> None:
    """Raises PositionLost, or another StoreError, if the log is not the one that was read before, or is not told us any more."""
    starts = {type: position_of(text) for type, text in since.items()}
    with opened(store) as connection:
        _end(connection, store, starts)
    for start in starts.values():
        for _ in transactions(store, start, start.place, lambda schema, table: False):
            pass


def _end(connection: Connection, store: Store, starts: Mapping[str, Position]) -> Position:
    """Where the log ends. Raises PositionLost if that is before a position, Unreachable if none is written."""
    end = log_end(connection.sql, store)
    if end is None:
        raise Unreachable(f"{where_of(store)} writes no binary log", f"evsync capture status {store.name}")
    for type, start in starts.items():
        if start.place > end.place:
            raise lost(store, "it ends before that", type)
    return end


def changes(store: Store, since: Mapping[str, str], until: str | None) -> Iterator[Fed | Reached | Missed]:
    """What was committed behind the positions. Raises PositionLost, and StoreError where it cannot be followed."""
    starts = {type: position_of(text) for type, text in since.items()}
    with opened(store) as connection:
        end = _end(connection, store, starts)
        target = end.place if until is None else place_of_text(until)
        reading = _Reading(connection, store, starts)
        connection.sql.commit()
        begin = min(starts.values(), key=lambda start: start.place)
        try:
            for transaction in transactions(store, begin, target, reading.wants):
                yield from reading.told(transaction)
                begin = transaction.position
        except Unreadable as error:
            raise BrokenStore(
                f"{where_of(store)}: its binary log cannot be read, behind {begin.file}:{begin.offset}: {error}",
                f'set capture = "scan" in [stores.{store.name}], which goes without it',
            ) from error
    yield Reached(begin.text)


def place_of_text(position: str) -> str:
    return position.partition(" ")[0]


class _Followed(NamedTuple):
    """A type, and behind which place it is followed."""

    records: Records
    since: str


class _Reading:
    """Makes of transactions what they say of the types that are followed."""

    def __init__(self, connection: Connection, store: Store, starts: Mapping[str, Position]) -> None:
        sql = connection.sql
        database, case = sql.exec_driver_sql("SELECT database(), @@lower_case_table_names").one()
        self._as_written = int(case) == 0
        self._mariadb = is_mariadb(sql)
        self._database = str(database or "")
        self._who = marks.who(store)
        self._types: dict[tuple[str, str], list[_Followed]] = {}
        for type, start in starts.items():
            records = Records(connection, store, type)
            place = self._place(schema.schema_name(store, type) or self._database, records.table.name)
            self._types.setdefault(place, []).append(_Followed(records, start.place))
        self._marks = self._place(self._database, marks.TABLE)
        known = [
            one._replace(child=self._place(*one.child), parent=self._place(*one.parent))
            for one in references(sql)
        ]
        self._cascades = Cascades(known, self._types)
        self._ask = lambda expression: sql.exec_driver_sql(f"SELECT {expression}".replace("%", "%%")).scalar()
        self._texts = Texts(_charsets(sql), _single(sql), self._ask)
        self._tables: dict[bytes, tuple[Table, Decoder]] = {}

    def _place(self, schema: str, table: str) -> tuple[str, str]:
        return (schema, table) if self._as_written else (schema.lower(), table.lower())

    def wants(self, schema: str, table: str) -> bool:
        """Whether what happens in a table is of interest."""
        place = self._place(schema, table)
        return place in self._types or place == self._marks or place in self._cascades.parents

    def told(self, transaction: Transaction) -> Iterator[Told]:
        """What a transaction says, the last change as the one that completes it."""
        own = False
        held: Fed | None = None
        for part in transaction.parts:
            if isinstance(part, Statement):
                some = self._stated(part, transaction)
            elif self._is_mark(part):
                own = own or self._is_ours(*self._table(part.table), part)
                continue
            else:
                some = self._changed(part, transaction, own)
            for one in some:
                if isinstance(one, Missed):
                    yield one
                    continue
                if held is not None:
                    yield held
                held = one
        if held is not None:
            held.position, held.whole = transaction.position.text, True
            yield held

    def _table(self, body: bytes) -> tuple[Table, Decoder]:
        if body not in self._tables:
            if len(self._tables) > 1000:
                self._tables.clear()
            table = table_of(body, self._mariadb)
            readers = {}
            for followed in self._types.get(self._place(table.schema, table.name), ()):
                for column in followed.records.table.columns.values():
                    reader = of_type(column.declared, self._ask)
                    if reader is not None:
                        readers[column.name] = reader
            self._tables[body] = table, Decoder(table, self._texts, readers)
        return self._tables[body]

    def _is_mark(self, part: Rows) -> bool:
        table, _ = self._table(part.table)
        return self._place(table.schema, table.name) == self._marks

    def _is_ours(self, table: Table, decoder: Decoder, part: Rows) -> bool:
        rows = decoder.changes(part.event) if table.named else ()
        return any(row.after is not None and row.after.get(marks.WHO) == self._who for row in rows)

    # -- statements ------------------------------------------------------------------------------------

    def _stated(self, said: Statement, transaction: Transaction) -> Iterator[Told]:
        table = emptied(said.text, said.schema) if said.kind is Kind.TRUNCATE else None
        if table is not None:
            for followed in self._behind(self._place(*table), transaction):
                yield Fed(
                    followed.records.type,
                    transaction.place,
                    None,
                    None,
                    {},
                    transaction.at,
                    None,
                    False,
                    emptied=True,
                )
            return
        what = " ".join(said.text.split())[:60]
        for place in self._types:
            if said.kind is not Kind.DEFINITION or defines(said.text, *place):
                yield from self._missed(place, transaction, f"the binary log tells no rows of: {what}")

    def _missed(self, place: tuple[str, str], transaction: Transaction, why: str) -> Iterator[Missed]:
        for followed in self._behind(place, transaction):
            yield Missed(followed.records.type, why)

    def _behind(self, place: tuple[str, str], transaction: Transaction) -> Iterator[_Followed]:
        """The types of a table, as far as the transaction is new to them."""
        for followed in self._types.get(place, ()):
            if transaction.position.place > followed.since:
                yield followed

    # -- rows ------------------------------------------------------------------------------------------

    def _changed(self, part: Rows, transaction: Transaction, own: bool) -> Iterator[Told]:
        table, decoder = self._table(part.table)
        place = self._place(table.schema, table.name)
        behind = list(self._behind(place, transaction))
        try:
            if not table.named:
                raise Partial
            for change in decoder.changes(part.event):
                for followed in behind:
                    yield _fed(followed.records, table, change, transaction, own)
                for child in self._touched(place, change):
                    yield from self._missed(
                        child, transaction, f"a foreign key on {place[1]!r} may have acted"
                    )
        except Partial:
            for child in [place, *self._cascades.all_of(place)]:
                yield from self._missed(
                    child, transaction, "binlog_row_image or binlog_row_metadata was not FULL for a while"
                )

    def _touched(self, place: tuple[str, str], change: Changed) -> frozenset[tuple[str, str]]:
        if place not in self._cascades.parents or change.before is None:
            return frozenset()
        if change.after is None:
            return self._cascades.by_delete(place)
        return self._cascades.by_update(place, change.before, change.after)


def _fed(records: Records, table: Table, change: Changed, transaction: Transaction, own: bool) -> Fed:
    id, name = (None, {}) if change.before is None else _called(records, change.before)
    if change.after is None:
        return Fed(records.type, transaction.place, None, id, name, transaction.at, None, False, own)
    told: dict[str, Any] = change.after
    untold = [local for local in records.binding.locals if local not in told]
    if untold:  # a column that came later
        told = told | dict.fromkeys(untold, KEPT)
    row = list(records.row(told))
    if row[2] is None:
        row[2] = transaction.at
    return Fed(records.type, transaction.place, tuple(row), id, name, None, None, False, own)


def _called(records: Records, before: Values) -> tuple[int | str | None, dict[str, Any]]:
    """What the record was called before."""
    key, types = records.binding.key_locals, records.binding.local_types
    names = (*key, records.id_column)
    row = records.row({name: before[name] for name in names if name is not None and name in before})
    try:
        values = {
            local: typed_of(types[local], row[HEADER + records.binding.locals.index(local)]) for local in key
        }
    except BadValue:
        values = {}
    return row[0], {} if None in values.values() else values


def _charsets(connection: sa.Connection) -> dict[int, str]:
    """The character set of each collation, by its number."""
    try:
        rows = connection.exec_driver_sql(
            "SELECT id, character_set_name FROM information_schema.collation_character_set_applicability"
        ).all()
    except exc.DBAPIError:  # MySQL, and MariaDB before 10.10
        rows = connection.exec_driver_sql(
            "SELECT id, character_set_name FROM information_schema.collations"
        ).all()
    return {id: name for id, name in rows if id is not None and name is not None}


def _single(connection: sa.Connection) -> set[str]:
    """The character sets in which each byte is a letter."""
    asked = "SELECT character_set_name FROM information_schema.character_sets WHERE maxlen = 1"
    return {name for (name,) in connection.exec_driver_sql(asked)}
