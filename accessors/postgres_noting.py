"""What is put down in PostgreSQL of the records written, in the transaction that writes them (see `CanNote`)."""

from __future__ import annotations

from accessors.postgres_connection import Connection, NoRight, Taken, savepoint
from accessors.postgres_schema import Table, quoted
from evsync.accessor import Noted

TABLE = "_evsync_notes"
"""Stands in the schema of the table that is written."""

_THERE = b"SELECT to_regclass($1) IS NOT NULL"


def put_down(connection: Connection, table: Table, place: str, number: int, text: str) -> None:
    """Replace the note of this place. Where the role may not make such a table, or write to it, nothing is put down."""
    name = _name(table)
    try:
        with savepoint(connection):
            if connection.execute(_THERE, [name]).fetchone() != ("t",):
                connection.execute(
                    f"CREATE TABLE {name} (place text PRIMARY KEY, number bigint, note text, position text)".encode()
                )
            connection.execute(
                f"INSERT INTO {name} VALUES ($1, $2, $3, lpad((pg_current_wal_insert_lsn() - '0/0')::text, 20, '0'))"
                " ON CONFLICT (place) DO UPDATE SET number = EXCLUDED.number, note = EXCLUDED.note,"
                " position = EXCLUDED.position".encode(),
                [place, str(number), text],
            )
    except (NoRight, *Taken):  # the latter: another run makes the table just now
        return


def noted(connection: Connection, table: Table, place: str) -> Noted | None:
    """The note of this place."""
    name = _name(table)
    try:
        with savepoint(connection):
            if connection.execute(_THERE, [name]).fetchone() != ("t",):
                return None
            row = connection.execute(
                f"SELECT number, note, position FROM {name} WHERE place = $1".encode(), [place]
            ).fetchone()
    except NoRight:
        return None
    return None if row is None else Noted(int(row[0]), row[1], row[2])


def drop(connection: Connection, table: Table) -> bool:
    """Whether there was such a table, and it is gone now."""
    name = _name(table)
    if connection.execute(_THERE, [name]).fetchone() != ("t",):
        return False
    connection.execute(f"DROP TABLE {name}".encode())
    return True


def _name(table: Table) -> str:
    return f"{quoted(table.schema)}.{TABLE}"
