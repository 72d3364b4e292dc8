"""Applications that write to a database at once, and what each of their committed changes was.

Every row has a counter of its own in a table that nobody follows: whoever changes a row holds the counter, so the changes
of a row are numbered without a gap, in the order in which they were committed. A change puts its number into the row.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any, NamedTuple

import mariadb_server
import psycopg
import pymysql
from store_kinds import postgres_database

TABLES = ("account", "entry")
ROWS = 12
CREATE = (
    "CREATE TABLE account (id int PRIMARY KEY, code varchar(40) NOT NULL UNIQUE, line int, n int, said varchar(40))",
    "CREATE TABLE entry (code varchar(40) PRIMARY KEY, line int, n int, said varchar(40))",
    "CREATE TABLE counter (tbl varchar(10), line int, n int, code varchar(40), PRIMARY KEY (tbl, line))",
)

Step = tuple[Any, ...]
"""("put", number, code, by which transaction) or ("gone", number)."""


class Database(NamedTuple):
    """A kind of database with a feed. `whole`: its transactions come one after the other, in the order of their commits.
    `deadlock`: what it raises at somebody who has to try again."""

    place: Callable[[], AbstractContextManager[str]]
    connect: Callable[[str], Any]
    options: str
    whole: bool
    deadlock: type[Exception]


DATABASES = {
    "postgresql wal": Database(
        postgres_database, psycopg.connect, 'capture = "wal"', True, psycopg.errors.DeadlockDetected
    ),
    "postgresql triggers": Database(  # in the order of their last changes
        postgres_database, psycopg.connect, 'capture = "triggers"', False, psycopg.errors.DeadlockDetected
    ),
    "mariadb binlog": Database(
        mariadb_server.fresh_database,
        lambda url: mariadb_server.connected(url, autocommit=False),
        'capture = "binlog"',
        True,
        pymysql.err.OperationalError,
    ),
}


class Writer(threading.Thread):
    """One application: transactions of several rows, some of them rolled back, as a whole or to a savepoint."""

    def __init__(self, database: Database, url: str, name: str, transactions: int) -> None:
        super().__init__(name=name)
        self.database, self.url, self.transactions = database, url, transactions
        self.random = random.Random(name)
        self.committed: list[tuple[str, int, Step]] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with closing(self.database.connect(self.url)) as connection:
                for number in range(self.transactions):
                    self.transaction(connection, f"{self.name}.{number}")
        except BaseException as error:
            self.error = error

    def transaction(self, connection: Any, said: str) -> None:
        chance = self.random
        lines = [(table, line) for table in TABLES for line in range(ROWS)]
        chosen = sorted(
            chance.sample(lines, chance.randint(1, 5))
        )  # in one order, so that nobody waits in a circle
        done: list[tuple[str, int, Step]] = []
        cursor = connection.cursor()
        try:
            for table, line in chosen:
                undone = chance.random() < 0.2
                cursor.execute("SAVEPOINT here")
                steps: list[tuple[str, int, Step]] = []
                for _ in range(chance.choice((1, 1, 2))):
                    steps += [(table, line, step) for step in change(cursor, chance, table, line, said)]
                if undone:
                    cursor.execute("ROLLBACK TO SAVEPOINT here")
                else:
                    done += steps
                    if chance.random() < 0.5:
                        cursor.execute("RELEASE SAVEPOINT here")
            if chance.random() < 0.15:
                connection.rollback()
            else:
                connection.commit()
                self.committed += done
        except self.database.deadlock:
            connection.rollback()


def change(cursor: Any, chance: random.Random, table: str, line: int, said: str) -> list[Step]:
    """Change one row in some way, or put it there; what that was."""
    where = (table, line)
    cursor.execute("UPDATE counter SET n = n + 1 WHERE tbl = %s AND line = %s", where)
    cursor.execute("SELECT n, code FROM counter WHERE tbl = %s AND line = %s", where)
    n, code = cursor.fetchone()
    if code is None:
        code = f"{table[0]}{line}" if chance.random() < 0.5 else f"{table[0]}{line}-{n}"
        values: tuple[Any, ...] = (code, line, n, said)
        id = "id, " if table == "account" else ""
        cursor.execute(
            f"INSERT INTO {table} ({id}code, line, n, said) VALUES ({f'{line}, ' if id else ''}%s, %s, %s, %s)",
            values,
        )
        remember(cursor, where, code)
        return [("put", n, code, said)]
    what = chance.choice(("update",) * 5 + ("code", "delete"))
    if what == "delete":
        cursor.execute(f"DELETE FROM {table} WHERE code = %s", (code,))
        remember(cursor, where, None)
        return [("gone", n)]
    new = f"{table[0]}{line}-{n}" if what == "code" else code
    cursor.execute(f"UPDATE {table} SET code = %s, n = %s, said = %s WHERE code = %s", (new, n, said, code))
    remember(cursor, where, new)
    return [("put", n, new, said)]


def remember(cursor: Any, where: tuple[str, int], code: str | None) -> None:
    cursor.execute("UPDATE counter SET code = %s WHERE tbl = %s AND line = %s", (code, *where))


def truth(writers: list[Writer]) -> dict[tuple[str, int], list[Step]]:
    """What was committed to each row, in order."""
    found: dict[tuple[str, int], list[Step]] = defaultdict(list)
    for writer in writers:
        for table, line, step in writer.committed:
            found[table, line].append(step)
    for steps in found.values():
        steps.sort(key=lambda step: step[1])
        assert [step[1] for step in steps] == list(range(1, len(steps) + 1))
    return dict(found)
