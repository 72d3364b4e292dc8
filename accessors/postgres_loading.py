"""Filling an empty table in whole batches, by COPY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from accessors.postgres_connection import Connection, transaction
from accessors.postgres_records import Records
from accessors.postgres_schema import quoted
from accessors.postgres_values import certain_encoder
from evsync.errors import Refused

_FOUND_WRONG = (Refused, ValueError, TypeError, AttributeError, psycopg.DataError, psycopg.IntegrityError)

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"

_WITH_ESCAPES = frozenset({"str", "json", "bytes"})
"""Value types whose text may hold what means something to COPY."""

Encode = Callable[[Any], str]


class Loading:
    """Adds rows. A batch that meets any obstacle is not written.

    The table's primary key is the key of the records: a record that somebody else has added meanwhile under one of
    the keys is such an obstacle, so none is written twice, and no lock is needed."""

    def __init__(self, connection: Connection, records: Records, encoders: Sequence[Encode]) -> None:
        self._connection, self._encoders = connection, encoders
        names = ", ".join(map(quoted, records.binding.locals))
        self._copy = f"COPY {records.table.sql} ({names}) FROM STDIN".encode()

    def __call__(self, rows: Sequence[Sequence[Any]]) -> bool:
        try:
            text = as_copy(rows, self._encoders)
            cursor = self._connection.cursor()
            with transaction(self._connection), cursor.copy(self._copy) as copy:
                copy.write(text)
        except _FOUND_WRONG:
            return False
        return True


def loading(connection: Connection, records: Records) -> Loading | None:
    """None where the table holds records, or a record is not certain to be stored as it is given and called by its
    key."""
    encoders = _encoders(records)
    if encoders is None:
        return None
    with transaction(connection):
        return Loading(connection, records, encoders) if records.is_empty() else None


def _encoders(records: Records) -> list[Encode] | None:
    """What makes the texts of a row; None where the table may store something else."""
    binding, table = records.binding, records.table
    if table.kind != "table" or table.triggered or table.secured:
        return None
    if set(table.primary_key) != set(binding.key_locals):
        return None
    if records.id_column is not None and not _called_by_key(records, records.id_column):
        return None
    encoders = []
    for local in binding.locals:
        column, value_type = table.columns[local], binding.local_types[local]
        encode = certain_encoder(column, value_type)
        if encode is None or column.generated or column.identity == "always":
            return None
        encoders.append(_escaped(encode) if value_type in _WITH_ESCAPES else encode)
    return encoders


def _called_by_key(records: Records, id_column: str) -> bool:
    binding = records.binding
    return binding.key_locals == (id_column,) and binding.local_types[id_column] in ("int", "str")


def _escaped(encode: Encode) -> Encode:
    return lambda typed: encode(typed).translate(_ESCAPES)


def as_copy(rows: Sequence[Sequence[Any]], encoders: Sequence[Encode]) -> bytes:
    """Rows of typed values as COPY reads them. Raises Refused."""
    columns = [
        [_NULL if value is None else encode(value) for value in column]
        for column, encode in zip(zip(*rows, strict=True), encoders, strict=True)
    ]
    return "".join(f"{line}\n" for line in map("\t".join, zip(*columns, strict=True))).encode()
