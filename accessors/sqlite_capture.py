"""Capturing the changes of SQLite tables by triggers, into a queue beside them.

One queue serves all tables of a file, so that changes keep their order: `_evsync_queue`, a row for each changed row, the
values as they are, in columns that declare no type. What a trigger must not do is to fail, or to mean anything to the
statement that fires it: so there is no constraint in the queue, no function that could refuse a value, and no condition.

Which of several AFTER triggers comes first is not defined (sqlite.org/lang_createtrigger.html), and an application's may
write to the row once more. So a trigger puts down the row as it finds it in the table, not as NEW says.

A statement may drive other rows out of the table (REPLACE), and unless the connection has `recursive_triggers` on, no
trigger tells of it. So the rows that stand in the way are noted before; whether they are still there is
looked up when the queue is read.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

from accessors.sqlite_schema import Table, load, quoted

QUEUE = "_evsync_queue"
TABLES = "_evsync_capture"
PREFIX = "_evsync_"
"""What begins so in a database is ours, and no data."""

INSERTED, UPDATED, DELETED, IN_THE_WAY = "i", "u", "d", "w"

_NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"


class Captured(NamedTuple):
    """A table whose changes are captured. `columns`: its columns, in the order of the queue's `v0`, `v1` …; `identity`:
    what a row was called before the change, in the order of `o0`, `o1` …: columns, and maybe the rowid."""

    table: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]
    triggers: tuple[str, ...]


def identity_of(table: Table, others: Sequence[str]) -> tuple[str, ...]:
    """The columns by which a row is known, those of the key that evsync uses among them."""
    own = table.primary_key or ((table.rowid,) if table.rowid else ())
    return tuple(dict.fromkeys((*own, *others)))


def captured_by(
    connection: sqlite3.Connection, table: Table, identity: tuple[str, ...], wide: int
) -> Captured:
    """How a table is to be captured. `wide`: a number of its own, that names of triggers need."""
    columns = _columns(table)
    name, at = quoted(table.name), _at(table, "NEW")
    olds = [_of("OLD", table, column) for column in identity]
    o, v = [f"o{n}" for n in range(len(identity))], [f"v{n}" for n in range(len(columns))]
    values = ", ".join(_of("t", table, column) for column in columns)

    def changed(event: str, op: str, before: Sequence[str]) -> str:
        return (
            f"CREATE TRIGGER {quoted(f'{PREFIX}{wide}_{op}')} AFTER {event} ON {name} BEGIN"
            f" INSERT INTO {QUEUE} (tbl, op, at, {', '.join([*o[: len(before)], *v])})"
            f" SELECT {_text(table.name)}, '{op}', {_NOW}, {', '.join([*before, values])} FROM {name} t WHERE {at}; END"
        )

    triggers = [
        changed("INSERT", INSERTED, []),
        changed("UPDATE", UPDATED, olds),
        f"CREATE TRIGGER {quoted(f'{PREFIX}{wide}_{DELETED}')} AFTER DELETE ON {name} BEGIN"
        f" INSERT INTO {QUEUE} (tbl, op, at, {', '.join(o)})"
        f" VALUES ({_text(table.name)}, '{DELETED}', {_NOW}, {', '.join(olds)}); END",
    ]
    there = ", ".join(_of("t", table, column) for column in identity)
    for event, unique in (
        ("INSERT", _unique(connection, table, primary=False)),
        ("UPDATE", _unique(connection, table, primary=True)),
    ):
        if unique:
            same = " OR ".join(unique) if event == "INSERT" else f"({' OR '.join(unique)})"
            other = "" if event == "INSERT" else f" AND NOT ({_at(table, 'OLD')})"
            triggers.append(
                f"CREATE TRIGGER {quoted(f'{PREFIX}{wide}_{IN_THE_WAY}{event[0].lower()}')} BEFORE {event} ON {name}"
                f" BEGIN INSERT INTO {QUEUE} (tbl, op, at, {', '.join(o)})"
                f" SELECT {_text(table.name)}, '{IN_THE_WAY}', {_NOW}, {there} FROM {name} t WHERE {same}{other}; END"
            )
    return Captured(table.name, columns, identity, tuple(triggers))


def _columns(table: Table) -> tuple[str, ...]:
    """What is put down of a row: its columns, and its rowid where that is all there is to call it by."""
    return tuple(table.columns) + ((table.rowid,) if table.rowid and not table.primary_key else ())


def _of(row: str, table: Table, column: str) -> str:
    return f"{row}.{quoted(column) if column in table.columns else column}"


def _at(table: Table, row: str) -> str:
    """Where in the table the row `row` stands."""
    names = (
        (table.alias,)
        if table.alias is not None
        else (table.rowid,)
        if table.rowid is not None
        else table.primary_key
    )
    return " AND ".join(f"{_of('t', table, name)} = {_of(row, table, name)}" for name in names)


def _unique(connection: sqlite3.Connection, table: Table, *, primary: bool) -> list[str]:
    """What would have to be true of a row that NEW would drive out, one condition for each unique index. An index over an
    expression is not looked at."""
    conditions = []
    if primary and table.alias is not None:
        conditions.append(f"t.{quoted(table.alias)} = NEW.{quoted(table.alias)}")
    for name, origin, partial in connection.execute(
        'SELECT name, origin, partial FROM pragma_index_list(?) WHERE "unique"', (table.name,)
    ).fetchall():
        if origin == "pk" and not primary:
            continue  # it is then told as inserted again
        columns = connection.execute(
            "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno", (name,)
        ).fetchall()
        if any(column is None for column, _ in columns):
            continue
        del partial  # one that does not concern the row does no harm
        conditions.append(
            " AND ".join(
                f"t.{quoted(column)} = NEW.{quoted(column)} COLLATE {quoted(collation)}"
                for column, collation in columns
            )
        )
    return [f"({condition})" for condition in conditions]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# -- in the database ---------------------------------------------------------------------------------------


def is_installed(connection: sqlite3.Connection) -> bool:
    """Whether there is a queue, and all that belongs to it."""
    return _tables_of_ours(connection) == {QUEUE, TABLES} and _has_token(connection)


def lacking(connection: sqlite3.Connection) -> str | None:
    """What was taken away of a capture that is there by half; None if it is whole, or was never set up."""
    there = _tables_of_ours(connection)
    if not there and not _triggers(connection):
        return None
    gone = [name for name in (QUEUE, TABLES) if name not in there]
    if gone:
        return f"the capture was taken away by half: there is no table {' and no table '.join(gone)}"
    return None if _has_token(connection) else f"the capture was taken away by half: {TABLES} was emptied"


def _tables_of_ours(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN (?, ?)", (QUEUE, TABLES)
    )
    return {name for (name,) in found}


def _has_token(connection: sqlite3.Connection) -> bool:
    return connection.execute(f"SELECT 1 FROM {TABLES} WHERE tbl = ''").fetchone() is not None


def tables(connection: sqlite3.Connection) -> dict[str, Captured]:
    """The tables that are captured, as it was set up."""
    return {
        table: Captured(
            table, tuple(json.loads(columns)), tuple(json.loads(identity)), tuple(json.loads(sql))
        )
        for table, columns, identity, sql in connection.execute(
            f"SELECT tbl, columns, identity, triggers FROM {TABLES} WHERE tbl <> ''"
        )
    }


def token(connection: sqlite3.Connection) -> str:
    """What tells this queue from one that was set up anew."""
    found: str = connection.execute(f"SELECT columns FROM {TABLES} WHERE tbl = ''").fetchone()[0]
    return found


def prune(connection: sqlite3.Connection, names: Collection[str], number: int) -> None:
    """Take out of the queue what was told of these tables, up to a place in it, and put down how far. What others were not told
    stays. Inside the caller's write transaction."""
    marks = ", ".join("?" * len(names))
    gone = connection.execute(
        f"SELECT tbl, max(n) FROM {QUEUE} WHERE n <= ? AND tbl IN ({marks}) GROUP BY tbl", (number, *names)
    ).fetchall()
    if not gone:
        return
    _note_reaches(connection)
    connection.execute(f"DELETE FROM {QUEUE} WHERE n <= ? AND tbl IN ({marks})", (number, *names))
    connection.executemany(
        f"UPDATE {TABLES} SET pruned = ? WHERE tbl = ?", [(last, name) for name, last in gone]
    )


class Reach(NamedTuple):
    """How far back the queue tells of a table. `pruned`: the last change that was taken out of it; `since`: where it stood when the
    triggers were set up last."""

    pruned: int = 0
    since: int = 0


def reaches(connection: sqlite3.Connection) -> dict[str, Reach]:
    """The same of each table."""
    if _unnoted(connection):
        return {}
    found = connection.execute(f"SELECT tbl, coalesce(pruned, 0), coalesce(since, 0) FROM {TABLES}")
    return {table: Reach(pruned, since) for table, pruned, since in found}


def _unnoted(connection: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({TABLES})")}
    return [column for column in Reach._fields if column not in there]


def _note_reaches(connection: sqlite3.Connection) -> None:
    """Make room for them, also where the capture was set up by an evsync that noted none."""
    for column in _unnoted(connection):
        connection.execute(f"ALTER TABLE {TABLES} ADD COLUMN {column}")


def last(connection: sqlite3.Connection) -> int:
    """The highest number that was ever in the queue."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (QUEUE,)).fetchone()
    return 0 if row is None else int(row[0])


def amiss(connection: sqlite3.Connection, captured: Captured) -> str | None:
    """Why changes of the table may have gone by unseen: a rebuild takes the triggers along, a new column is not in them."""
    table = load(connection, captured.table)
    if table is None:
        return "the table is gone"
    there = dict(
        connection.execute(
            f"SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{PREFIX}*'"
            " AND tbl_name = ? COLLATE NOCASE",
            (captured.table,),
        ).fetchall()
    )
    if sorted(there.values()) != sorted(captured.triggers):
        return "its triggers are gone or were changed, as by a rebuild of the table"
    if _columns(table) != captured.columns:
        return "its columns have changed"
    return None


def install(connection: sqlite3.Connection, wanted: Sequence[tuple[Table, tuple[str, ...]]]) -> list[str]:
    """Set up what is missing or amiss, inside the caller's write transaction; answers with what was done."""
    done = []
    if not is_installed(connection):
        done += [f"dropped, as it was there by half: {left}" for left in uninstall(connection)]
        connection.execute(f"CREATE TABLE {QUEUE} (n INTEGER PRIMARY KEY AUTOINCREMENT, tbl, op, at, o0, v0)")
        connection.execute(f"CREATE TABLE {TABLES} (tbl PRIMARY KEY, columns, identity, triggers)")
        connection.execute(f"INSERT INTO {TABLES} (tbl, columns) VALUES ('', ?)", (secrets.token_hex(4),))
        done.append(f"the queue {QUEUE}")
    _note_reaches(connection)
    known, told = tables(connection), reaches(connection)
    for table, identity in wanted:
        before = next((one for name, one in known.items() if name.lower() == table.name.lower()), None)
        if before is not None and set(identity) <= set(before.identity) and not amiss(connection, before):
            continue
        if before is not None:
            identity = tuple(dict.fromkeys((*identity, *(c for c in before.identity if c in table.columns))))
        _drop(connection, table.name)
        number = _number(connection)
        captured = captured_by(connection, table, identity, number)
        _widen(connection, captured)
        for sql in captured.triggers:
            connection.execute(sql)
        if before is not None:  # maybe under its name in other letters
            connection.execute(f"DELETE FROM {TABLES} WHERE tbl = ?", (before.table,))
        # A place of its own, behind all that was read before.
        since = connection.execute(f"INSERT INTO {QUEUE} (tbl) VALUES ('')").lastrowid
        connection.execute(f"DELETE FROM {QUEUE} WHERE n = ?", (since,))
        connection.execute(
            f"INSERT INTO {TABLES} (tbl, columns, identity, triggers, pruned, since) VALUES (?, ?, ?, ?, ?, ?)",
            (
                table.name, json.dumps(captured.columns), json.dumps(identity), json.dumps(captured.triggers),
                told.get(table.name if before is None else before.table, Reach()).pruned, since,
            ),
        )  # fmt: skip
        done.append(f"triggers on {table.name}")
    return done


def uninstall(connection: sqlite3.Connection) -> list[str]:
    """Drop whatever there is of the triggers and the queue, inside the caller's write transaction."""
    done = []
    for table in dict.fromkeys(table for _, table in _triggers(connection)):
        _drop(connection, table)
        done.append(f"triggers on {table}")
    there = _tables_of_ours(connection)
    for name, what in ((TABLES, f"the list {TABLES}"), (QUEUE, f"the queue {QUEUE}")):
        if name in there:
            connection.execute(f"DROP TABLE {name}")
            if name == QUEUE or QUEUE not in there:
                done.append(what)
    return done


def _drop(connection: sqlite3.Connection, table: str) -> None:
    for name, on in _triggers(connection):
        if on.lower() == table.lower():
            connection.execute(f"DROP TRIGGER {quoted(name)}")


def _triggers(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Each trigger of ours and its table."""
    return connection.execute(
        f"SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{PREFIX}*'"
    ).fetchall()


def _number(connection: sqlite3.Connection) -> int:
    """One that no trigger's name begins with yet."""
    numbers = {name[len(PREFIX) :].partition("_")[0] for name, _ in _triggers(connection)}
    taken = {int(number) for number in numbers if number.isdigit()}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


def _widen(connection: sqlite3.Connection, captured: Captured) -> None:
    """Give the queue as many columns as the widest table needs."""
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({QUEUE})")}
    for letter, names in (("o", captured.identity), ("v", captured.columns)):
        for number in range(len(names)):
            if f"{letter}{number}" not in there:
                connection.execute(f"ALTER TABLE {QUEUE} ADD COLUMN {letter}{number}")
