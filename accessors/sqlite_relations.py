"""How SQLite's tables hang together, what there is besides them, and how their changes could be captured: what
`evsync init` asks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from accessors import sqlite_capture as capture
from accessors.sqlite_schema import Table, existing, load, quoted
from evsync.accessor import ForeignKey, Relations, Way
from evsync.store import Store


def relations(connection: sqlite3.Connection, table: Table) -> Relations:
    """Foreign keys, what else is unique, and whether the primary key is the rowid, which SQLite numbers."""
    keys = []
    rows = connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq',
        (table.name,),
    ).fetchall()  # told from the last to the first
    for _, parts in groupby(rows, lambda row: row[0]):
        pairs = list(parts)
        target = load(connection, pairs[0][1])
        name = pairs[0][1] if target is None else target.name
        theirs = tuple(row[3] for row in pairs)
        if None in theirs:  # it names none: the primary key is meant
            theirs = () if target is None else target.primary_key
        keys.append(ForeignKey(_spelt(table, [row[2] for row in pairs]), name, _spelt(target, theirs)))
    return Relations(tuple(keys), _unique(connection, table), table.alias is not None)


def _spelt(table: Table | None, names: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """The names as the table's columns are spelt: SQLite minds no case."""
    known = {} if table is None else {column.lower(): column for column in table.columns}
    return tuple(known.get(name.lower(), name) for name in names)


def _unique(connection: sqlite3.Connection, table: Table) -> tuple[tuple[str, ...], ...]:
    """The sets of columns without nulls; those first that cannot come to have any."""
    full = {
        name
        for name, not_null in connection.execute(
            'SELECT name, "notnull" FROM pragma_table_xinfo(?)', (table.name,)
        )
        if not_null
    }
    certain, found = [], []
    for (index,) in connection.execute(
        "SELECT name FROM pragma_index_list(?) WHERE \"unique\" AND NOT partial AND origin <> 'pk' ORDER BY seq DESC",
        (table.name,),
    ).fetchall():
        columns = tuple(
            row[0]
            for row in connection.execute(
                "SELECT name FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (index,)
            )
        )
        if None in columns or any(table.columns[column].generated for column in columns):
            continue
        if full.issuperset(columns):
            certain.append(columns)
        elif not any(_has_null(connection, table, column) for column in columns if column not in full):
            found.append(columns)
    return tuple(dict.fromkeys([*certain, *found]))


def _has_null(connection: sqlite3.Connection, table: Table, column: str) -> bool:
    sql = f"SELECT 1 FROM {quoted(table.name)} WHERE {quoted(column)} IS NULL LIMIT 1"
    return connection.execute(sql).fetchone() is not None


def left_out(connection: sqlite3.Connection, taken: set[str]) -> dict[str, str]:
    """What is no type, and why. `taken`: the tables that are."""
    return {
        name: "a view"
        if kind == "view"
        else "evsync's own"
        if name.startswith(capture.PREFIX)
        else "part of a virtual table"
        for name, kind in connection.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
            " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
        )
        if name not in taken
    }


def why_not_created(path: Path) -> str | None:
    """Why no table could be created, or None."""
    if not path.exists() and not path.parent.is_dir():
        return f"there is no directory {path.parent}: make it first"
    place = path if path.exists() else path.parent
    return None if os.access(place, os.W_OK) else f"no right to write {place}"


def ways(connection: sqlite3.Connection, store: Store) -> list[Way]:
    """The one way, triggers, and what it needs."""
    return [Way("triggers", "every change can be told by triggers", tuple(_triggers(connection, store)))]


def _triggers(connection: sqlite3.Connection, store: Store) -> Iterator[str]:
    for place in (store.path, store.path.resolve().parent):
        if not os.access(place, os.W_OK):
            yield f"no right to write {place}"
    for type in store.types:
        table = existing(connection, store, type)
        if table.is_view or not table.is_stored:
            yield f"{table.name} is a {'view' if table.is_view else 'virtual table'}, on which triggers cannot be set"
