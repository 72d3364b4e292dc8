"""4 and 5 beside a real PostgreSQL followed by its log, or by triggers: whenever evsync is killed, or the server crashes, the
next run goes on: nothing is journalled twice, nothing is missed.

A step is a statement to PostgreSQL, or one of those that `test_kill` knows. Where the server crashes at a COMMIT, it does so
after it has committed: the answer is lost.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer
from test_kill import DONE, FINISHED, KILLED, Killer, ended, forked

from evsync import Synchronizer
from evsync.config import load_config

CONFIG = """
[types.person]
key = ["code"]
[types.person.fields]
code = "str"
name = "str"
level = "int"

[stores.erp]
url = "{url}"
capture = "{way}"
[stores.erp.types.person]

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.person]

[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""

TABLE = "CREATE TABLE person (code {text} PRIMARY KEY, name text, level bigint)"
MANY = ", ".join(f"('e{n}', 'Person {n}', {n})" for n in range(12))

Execute = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.close()


class Play:
    """Three stores, in a database and a folder of their own."""

    def __init__(self, server: PostgresServer, folder: Path, name: str, way: str) -> None:
        self.server, self.folder = server, folder / name
        self.url = server.url.rpartition("/")[0] + f"/{name}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self.folder.mkdir()
        (self.folder / "evsync.toml").write_text(CONFIG.replace("{url}", self.url).replace("{way}", way))
        self.ask(TABLE.replace("{text}", "text"), f"INSERT INTO person VALUES {MANY}")
        self.crm(
            TABLE.replace("{text}", "text"),
            "INSERT INTO person VALUES ('c1', 'Carl', 1), ('c3', 'Chris', 3)",
        )
        (self.folder / "list.csv").write_text("code,name,level\nl1,Lea,1\n")

    def ask(self, *statements: str) -> list[Any]:
        """Each a transaction of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def crm(self, *statements: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "crm.db")) as connection, connection:
            for statement in statements:
                found = connection.execute(statement).fetchall()
            return found

    def edit(self) -> None:
        """Several steps of one record, transactions of many, a key that changes, and changes elsewhere."""
        self.ask(
            "UPDATE person SET level = 20 WHERE code = 'e2'",
            "UPDATE person SET level = level + 100 WHERE code LIKE 'e%'; DELETE FROM person WHERE code IN ('e3', 'c1')",
            "UPDATE person SET name = 'Again' WHERE code = 'e2'",
            "INSERT INTO person VALUES ('e3', 'Back', 0), ('n1', 'New', 1)",
            "UPDATE person SET code = 'e50' WHERE code = 'e5'",
        )
        self.crm(
            "UPDATE person SET name = 'By CRM' WHERE code = 'c3'",
            "INSERT INTO person VALUES ('c2', 'Cleo', 2)",
        )

    def sync(self) -> bool:
        with Synchronizer.from_config(load_config(self.folder / "evsync.toml")) as synchronizer:
            return bool(synchronizer.sync()["ok"])

    def told(self) -> list[tuple[Any, ...]]:
        """What the journal says, and that it is whole and nothing is open."""
        with Synchronizer.from_config(load_config(self.folder / "evsync.toml")) as synchronizer:
            assert synchronizer.verify()["ok"]
            stores = synchronizer.status()["stores"]
            assert not [s for s in stores if s["failures"] or s["quarantined"]]
            events = [(e["store"], e["op"], e["key"], e["after"]) for e in synchronizer.log()]
        return sorted(events, key=repr)

    def held(self) -> list[Any]:
        """What all three hold, which is the same."""
        erp = self.ask('SELECT code, name, level FROM person ORDER BY code COLLATE "C"')
        crm = self.crm("SELECT code, name, level FROM person ORDER BY code")
        lines = (self.folder / "list.csv").read_text().splitlines()[1:]
        listed = sorted((code, name, int(level)) for code, name, level in (line.split(",") for line in lines))
        assert erp == crm == listed
        return erp

    def close(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                               " WHERE database = current_database()")  # fmt: skip
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.url.rpartition('/')[2]} WITH (FORCE)".encode())
        shutil.rmtree(self.folder)


@pytest.fixture(params=["wal", "triggers"])
def play(
    server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Play]]:
    """A play before its first sync ("first"), or between two ("changes")."""
    played: list[Play] = []

    def begun(story: str) -> Play:
        while played:
            played.pop().close()
        one = Play(server, tmp_path, f"play_{story}", request.param)
        played.append(one)
        if story == "changes":
            assert one.sync()
            one.edit()
        return one

    yield begun
    while played:
        played.pop().close()


class PostgresKiller(Killer):
    """Counts statements to PostgreSQL as well."""

    def __init__(self, at: int | None) -> None:
        super().__init__(at)
        psycopg.Connection.execute = self._around(psycopg.Connection.execute)  # type: ignore[method-assign]


def steps_of(play: Play) -> int:
    """How many steps a sync takes that nobody disturbs."""
    count = play.folder / "steps"

    def work() -> None:
        killer = PostgresKiller(None)
        assert play.sync()
        count.write_text(str(killer.steps))

    assert ended(forked(work)) == DONE
    return int(count.read_text())


def killed(play: Play, at: int) -> int:
    def work() -> int:
        PostgresKiller(at)
        play.sync()
        return FINISHED

    return ended(forked(work))


def expected(play: Play) -> tuple[Any, Any]:
    assert play.sync()
    assert play.sync()
    return play.told(), play.held()


STORIES = ["first", "changes"]


def check_kills(play: Callable[[str], Play], story: str, share: int) -> None:
    unkilled = play(story)
    steps = steps_of(unkilled)
    wanted = expected(unkilled)
    for at in range(1, steps + 1, max(1, steps // share)):
        one = play(story)
        assert killed(one, at) in (KILLED, FINISHED)
        assert expected(one) == wanted, f"killed at step {at} of {steps}"


@pytest.mark.parametrize("story", STORIES)
def test_evsync_is_killed_at_some_step(play: Callable[[str], Play], story: str) -> None:
    check_kills(play, story, 3)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_evsync_is_killed_at_many_steps(play: Callable[[str], Play], story: str) -> None:
    check_kills(play, story, 40)


def check_crashes(
    play: Callable[[str], Play],
    story: str,
    share: int,
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute: Execute = psycopg.Connection.execute
    said: list[str] = []
    crash_at = 0

    def counted(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        said.append(str(query))
        if len(said) != crash_at:
            return execute(connection, query, *arguments, **options)
        if query == "COMMIT":
            execute(connection, query, *arguments, **options)
        server.kill()
        server.start()
        return execute(connection, query, *arguments, **options)

    def synced(one: Play, at: int) -> bool:
        nonlocal crash_at
        crash_at = at
        said.clear()
        with monkeypatch.context() as patch:
            patch.setattr(psycopg.Connection, "execute", counted)
            return one.sync()

    undisturbed = play(story)
    assert synced(undisturbed, 0)
    steps = list(said)
    wanted = expected(undisturbed)
    some = set(range(1, len(steps) + 1, max(1, len(steps) // share)))
    commits = [n for n, text in enumerate(steps, 1) if text == "COMMIT"]
    for at in sorted(some | set(commits[:share])):
        one = play(story)
        done = synced(one, at)
        # Nobody misses the end of a transaction that only read.
        assert done == (steps[at - 1] == "ROLLBACK"), f"a crash was not told: {steps[at - 1][:60]}"
        told, held = expected(one)
        where = f"crashed at step {at} of {len(steps)}: {steps[at - 1][:60]}"
        assert [event for event in told if event not in wanted[0]] == [], where
        assert (told, held) == wanted, where


@pytest.mark.parametrize("story", STORIES)
def test_the_server_crashes_at_some_step(
    play: Callable[[str], Play], story: str, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_crashes(play, story, 2, server, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_the_server_crashes_at_many_steps(
    play: Callable[[str], Play], story: str, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_crashes(play, story, 25, server, monkeypatch)
