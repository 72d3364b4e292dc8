"""Tables of people in databases of every kind, read and written as anybody would who never heard of evsync."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import mariadb_server
import psycopg
from store_kinds import postgres_database

from evsync import Store
from evsync.binding import PlaceSpec

COLUMNS = (
    "code VARCHAR(40) PRIMARY KEY, name VARCHAR(100), note VARCHAR(100), level BIGINT, private VARCHAR(500)"
)
FIELDS = ("name", "note", "level")


class Database(NamedTuple):
    """A kind of database. `made`: what else the table needs. `written`: what is another value after every write to a row,
    even one of what is there already. `feeds`: each step is told, not only the last state."""

    place: Callable[[], AbstractContextManager[str]]
    connect: Callable[[str], Any]
    written: str
    made: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    feeds: bool = False


_POSTGRES = Database(postgres_database, psycopg.connect, "xmin", options={"capture": "scan"})

DATABASES = {
    "postgresql": _POSTGRES,
    "postgresql wal": _POSTGRES._replace(options={"capture": "wal"}, feeds=True),
    "mariadb": Database(
        mariadb_server.fresh_database,
        mariadb_server.connected,
        "writes",
        (
            "ALTER TABLE people ADD COLUMN writes BIGINT DEFAULT 0",
            "CREATE TRIGGER count_writes BEFORE UPDATE ON people FOR EACH ROW SET NEW.writes = OLD.writes + 1",
        ),
    ),
}


class Table:
    """A table of people, by their codes."""

    def __init__(self, kind: str, url: str) -> None:
        self.database, self.url = DATABASES[kind], url
        self.ask("DROP TABLE IF EXISTS people")
        self.ask(f"CREATE TABLE people ({COLUMNS})", *self.database.made)

    def store(self, name: str, folder: Path) -> Store:
        place = PlaceSpec(options={"table": "people"}, ignore=("private", "writes"))
        options = dict(self.database.options)
        return Store(
            name, self.url, places={"person": place}, max_deletes="100%", options=options, root=folder
        )

    def ask(self, *statements: str | tuple[str, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of the last statement; all of them are one transaction."""
        with closing(self.database.connect(self.url)) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                cursor.execute(sql, values or None)
            found = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
            return found

    def read(self) -> list[dict[str, Any]]:
        names = ("code", *FIELDS)
        return [
            dict(zip(names, row, strict=True)) for row in self.ask(f"SELECT {', '.join(names)} FROM people")
        ]

    def put(self, code: str, field: str, value: Any) -> None:
        there = self.ask(("SELECT 1 FROM people WHERE code = %s", (code,)))
        if there:
            self.ask((f"UPDATE people SET {field} = %s WHERE code = %s", (value, code)))
        else:
            self.ask((f"INSERT INTO people (code, {field}) VALUES (%s, %s)", (code, value)))

    def delete(self, code: str) -> None:
        self.ask(("DELETE FROM people WHERE code = %s", (code,)))

    def empty(self) -> Callable[[], None]:
        """Take everything away; answers with the way to put it back."""
        names = f"code, {', '.join(FIELDS)}, private"
        held = self.ask(f"SELECT {names} FROM people")
        self.ask("DELETE FROM people")
        return lambda: self._fill(f"INSERT INTO people ({names}) VALUES (%s, %s, %s, %s, %s)", held)

    def _fill(self, insert: str, rows: list[tuple[Any, ...]]) -> None:
        self.ask(*((insert, row) for row in rows))

    def rewrite(self) -> None:
        """The same people, although every row is written."""
        self.ask("UPDATE people SET private = concat(coalesce(private, ''), 'x')")

    def stamp(self) -> list[tuple[Any, ...]]:
        """All that is there, and what tells that it was written."""
        return self.ask(
            f"SELECT code, {', '.join(FIELDS)}, private, {self.database.written} FROM people ORDER BY code"
        )
