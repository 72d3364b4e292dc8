"""Filling an empty table in whole batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from accessors.sqlite_connection import transaction
from accessors.sqlite_records import Records
from accessors.sqlite_schema import Column, quoted
from accessors.sqlite_values import encoder
from evsync.binding import Binding
from evsync.errors import Refused

ROWS = 50  # in one statement

_FOUND_WRONG = (Refused, ValueError, TypeError, OverflowError, UnicodeEncodeError, sqlite3.IntegrityError)


class Loading:
    """Adds rows as long as nobody else writes to the file. A batch that meets any obstacle is not written."""

    def __init__(self, connection: sqlite3.Connection, records: Records) -> None:
        self._connection, self._records = connection, records
        binding, table = records.binding, records.table
        encoders = [_encoder(binding, table.columns[local]) for local in binding.locals]
        self._encoders = [(index, one) for index, one in enumerate(encoders) if one is not None]
        names = ", ".join(map(quoted, binding.locals))
        self._insert = f"INSERT INTO {quoted(table.name)} ({names}) VALUES "
        self._mark = f"({', '.join('?' * len(binding.locals))})"
        most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(binding.locals)
        self._rows = max(1, min(ROWS, most))
        self._version: int | None = None

    def __call__(self, rows: Sequence[Sequence[Any]]) -> bool:
        try:
            encoded = self._encoded(rows)
            with transaction(self._connection):
                if not self._alone():
                    return False
                self._add(encoded)
        except _FOUND_WRONG:
            return False
        return True

    def _add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Many rows a statement: SQLite is asked less often."""
        full = self._insert + ",".join([self._mark] * self._rows)
        for start in range(0, len(rows), self._rows):
            some = rows[start : start + self._rows]
            sql = full if len(some) == self._rows else self._insert + ",".join([self._mark] * len(some))
            self._connection.execute(sql, list(chain.from_iterable(some)))

    def _alone(self) -> bool:
        """Whether all that the table holds is ours. The version changes with each commit of another connection."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if self._version is None and self._records.is_empty():
            self._version = version
        return bool(self._version == version)

    def _encoded(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        if not self._encoders:
            return rows
        encoded = list(map(list, rows))
        for index, encode in self._encoders:
            for row in encoded:
                if row[index] is not None:
                    row[index] = encode(row[index])
        return encoded


def can_be_loaded(connection: sqlite3.Connection, records: Records) -> bool:
    """Whether a record is certainly stored as it is given, and called by its key."""
    binding, table = records.binding, records.table
    columns = [table.columns[local] for local in binding.locals]
    if not table.certain or any(column.generated for column in columns) or binding.locals == ():
        return False
    if table.alias is not None and table.alias not in binding.key_locals:
        return False  # rows would be numbered
    if records.id_column is not None and not _called_by_key(binding, table.columns[records.id_column]):
        return False
    if records.id_column is None and not table.primary_key:
        return False  # rows are called by their rowids
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()
    return "CONFLICT" not in sql.upper()  # which may drop a row without a word


def _called_by_key(binding: Binding, id_column: Column) -> bool:
    if binding.key_locals != (id_column.name,):
        return False
    kinds = {"int": ("INTEGER", "NUMERIC", "BLOB"), "str": ("TEXT", "BLOB")}
    return id_column.affinity in kinds.get(binding.local_types[id_column.name], ())


def _encoder(binding: Binding, column: Column) -> Callable[[Any], Any] | None:
    """None where SQLite takes the values as they are. A number that it cannot hold is found when it is bound."""
    value_type = binding.local_types[column.name]
    if value_type == "int" and column.affinity in ("INTEGER", "NUMERIC", "BLOB"):
        return None
    if value_type == "bytes" or (value_type == "str" and column.affinity in ("TEXT", "BLOB")):
        return None
    return encoder(value_type, column.affinity)
