"""What an SQLite file says of its tables: columns, keys, how a row is addressed; and how we make a table."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from accessors.sqlite_values import COLUMN_TYPES, Affinity, affinity, type_of, type_of_values
from evsync.binding import Binding, Description, nearest
from evsync.errors import Unreachable
from evsync.store import Store

SAMPLE = 1000
"""How many values are looked at to tell the type of a column that declares none."""


class Column(NamedTuple):
    """A column; `generated` ones can be read but not written."""

    name: str
    declared: str
    affinity: Affinity
    generated: bool


class Table(NamedTuple):
    """A table or view. `rowid` is the word for the rowid that no column has taken, None where there is none;
    `alias` the INTEGER PRIMARY KEY, which is the rowid by another name. `certain`: a row is stored as it is
    given, since no trigger or module has a say in it. `is_stored`: its rows
    stand in the file itself."""

    name: str
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    is_view: bool
    rowid: str | None
    alias: str | None
    certain: bool
    is_stored: bool

    @property
    def handle(self) -> tuple[str, ...]:
        """The columns by which exactly one row is addressed, as SQL; empty if there are none."""
        if self.alias is not None:
            return (quoted(self.alias),)
        return (self.rowid,) if self.rowid else tuple(map(quoted, self.primary_key))


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_name(store: Store, type: str) -> str:
    """The table that holds the type: the option `table`, else the type's own name."""
    return str(store.option(type, "table") or type)


def load(connection: sqlite3.Connection, name: str) -> Table | None:
    """The table or view of this name (SQLite minds no case), or None."""
    found = connection.execute(
        "SELECT name, type, rootpage FROM sqlite_master"
        " WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
        (name,),
    ).fetchone()
    if found is None:
        return None
    name, kind, root = found
    columns, keys = {}, {}
    for column, declared, hidden, key in connection.execute(
        "SELECT name, type, hidden, pk FROM pragma_table_xinfo(?)", (name,)
    ):
        if hidden != 1:  # those are a virtual table's arguments
            columns[column] = Column(column, declared, affinity(declared), hidden > 1)
            keys[key] = column
    if any(column.declared.upper() == "ANY" for column in columns.values()) and _is_strict(connection, name):
        columns = {
            n: c._replace(affinity="BLOB") if c.declared.upper() == "ANY" else c for n, c in columns.items()
        }
    primary_key = tuple(keys[number] for number in sorted(keys) if number)
    rowid = None if kind == "view" else _rowid(connection, name, columns)
    # Any other primary key has an index of its own.
    indexed = connection.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", (name,)).fetchone()
    alias = primary_key[0] if len(primary_key) == 1 and not indexed else None
    triggered = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
        " AND name NOT LIKE '\\_evsync\\_%' ESCAPE '\\'",  # those have no say in it
        (name,),
    ).fetchone()
    certain = bool(root) and not triggered
    return Table(name, columns, primary_key, kind == "view", rowid, alias, certain, bool(root))


def existing(connection: sqlite3.Connection, store: Store, type: str) -> Table:
    """The table of the type; raises Unreachable, naming the nearest, if there is none."""
    name = table_name(store, type)
    table = load(connection, name)
    if table is None:
        names = [row[0] for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )]  # fmt: skip
        raise Unreachable(
            f"store {store.name!r}: there is no table {name!r} in {store.path}",
            nearest(name, names) or (f"it has: {', '.join(sorted(names))}" if names else "it has no tables"),
        )
    return table


def _rowid(connection: sqlite3.Connection, name: str, columns: dict[str, Column]) -> str | None:
    """A column of the name hides the rowid, so it has three names; a WITHOUT ROWID table knows none of them."""
    taken = {column.lower() for column in columns}
    for word in ("rowid", "_rowid_", "oid"):
        if word not in taken:
            try:
                connection.execute(f"SELECT {word} FROM {quoted(name)} LIMIT 0")
            except sqlite3.OperationalError:
                return None
            return word
    return None


def _is_strict(connection: sqlite3.Connection, name: str) -> bool:
    try:
        found = connection.execute("SELECT strict FROM pragma_table_list(?)", (name,)).fetchone()
    except sqlite3.OperationalError:  # SQLite before 3.37 knows no strict tables
        return False
    return bool(found and found[0])


def describe(connection: sqlite3.Connection, table: Table) -> Description:
    """The columns with the value types that they declare, or that their values suggest."""
    types = {}
    guessed = frozenset(name for name, column in table.columns.items() if not type_of(column.declared))
    for column in table.columns.values():
        types[column.name] = type_of(column.declared) or type_of_values(
            row[0]
            for row in connection.execute(
                f"SELECT typeof({quoted(column.name)}) FROM {quoted(table.name)} LIMIT {SAMPLE}"
            )
        )
    generated = frozenset(name for name, column in table.columns.items() if column.generated)
    return Description(types, table.primary_key, generated=generated, guessed=guessed)


def creation(name: str, binding: Binding) -> str:
    """The CREATE TABLE statement for what the binding holds: the key fields first, then the others by name."""
    types = binding.local_types
    key = binding.key_locals
    others = sorted(local for local in types if local not in key)
    lines = [f"{quoted(local)} {COLUMN_TYPES[types[local]]} NOT NULL" for local in key]
    lines += [f"{quoted(local)} {COLUMN_TYPES[types[local]]}" for local in others]
    aside = {binding.changed_at: COLUMN_TYPES["datetime"], binding.changed_by: COLUMN_TYPES["str"]}
    lines += [f"{quoted(local)} {kind}" for local, kind in aside.items() if local and local not in types]
    names = ", ".join(map(quoted, key))
    if binding.id is not None and binding.id not in types:
        lines.insert(0, f"{quoted(binding.id)} INTEGER PRIMARY KEY")
        lines.append(f"UNIQUE ({names})")
    else:
        lines.append(f"PRIMARY KEY ({names})")  # of one INTEGER column this makes the rowid, too
    return f"CREATE TABLE {quoted(name)} (\n  " + ",\n  ".join(lines) + "\n)"
