"""Filling an empty table in whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.sql_connection import Connection, transaction
from accessors.sql_records import Records
from accessors.sql_values import likeness
from evsync.accessor import HEADER
from evsync.errors import Refused

_FOUND_WRONG = (Refused, ValueError, TypeError, AttributeError, OverflowError)


class Loading:
    """Adds rows. A batch that meets any obstacle, or is not stored just as it was given, is not written.

    The key of the records is a key of the table: a record that somebody else has added meanwhile under one of the
    keys is such an obstacle, so none is written twice."""

    def __init__(self, connection: Connection, records: Records) -> None:
        self._connection, self._records = connection, records
        names = records.binding.locals
        self._encoders, self._certain = _encoders(records)
        marks: dict[str, Any] = {name: sa.bindparam(f"v{n}") for n, name in enumerate(names)}
        self._insert = sa.insert(records.written).values(marks)
        self._key_at = [names.index(name) for name in records.table.handle]
        self._types = [records.types[name] for name in names]

    def __call__(self, rows: Sequence[Sequence[Any]]) -> bool:
        if not rows:
            return True
        try:
            columns = [
                [None if value is None else encode(value) for value in column]
                for column, encode in zip(zip(*rows, strict=True), self._encoders, strict=True)
            ]
            names = [f"v{n}" for n in range(len(columns))]
            parameters = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            with transaction(self._connection):
                self._add(parameters)
                if not self._certain and not self._are_as_given(rows):
                    raise Refused("not stored as given")
        except _FOUND_WRONG:
            return False
        return True

    def _add(self, parameters: Sequence[dict[str, Any]]) -> None:
        try:
            self._connection.sql.execute(self._insert, parameters)
        except exc.SQLAlchemyError as error:
            dialect = self._connection.dialect
            raise dialect.translated(error, self._records.store, by_record=True) from error

    def _are_as_given(self, rows: Sequence[Sequence[Any]]) -> bool:
        records, handle = self._records, self._records.table.handle
        keys = [tuple(row[at] for at in self._key_at) for row in rows]
        found = records.at(keys)
        for key, row in zip(keys, rows, strict=True):
            one = found.get(records.called(handle, key))
            if one is None:
                return False
            for kind, given, stored in zip(self._types, row, one.row[HEADER:], strict=True):
                if likeness(kind, given, stored) != "same":
                    return False
        return True


def _encoders(records: Records) -> tuple[list[Callable[[Any], Any]], bool]:
    """What makes of typed values what the driver is given; and whether that is certain to be stored just so."""
    names, dialect = records.binding.locals, records.connection.dialect
    certain = [dialect.certain_encoder(records.table.columns[name], records.types[name]) for name in names]
    known = [encode for encode in certain if encode is not None]
    if len(known) == len(names):
        return known, True
    return [records.encoders[name] for name in names], False


def loading(connection: Connection, records: Records) -> Loading | None:
    """None where the table holds records, or a record is not called by its key, or the application has a say."""
    binding, table = records.binding, records.table
    if table.triggered or set(table.handle) != set(binding.key_locals):
        return None
    if any(table.columns[name].generated for name in binding.locals):
        return None
    if records.id_column is not None and not _called_by_key(records, records.id_column):
        return None
    with transaction(connection):
        return Loading(connection, records) if records.is_empty() else None


def _called_by_key(records: Records, id_column: str) -> bool:
    binding = records.binding
    return binding.key_locals == (id_column,) and binding.local_types[id_column] in ("int", "str")
