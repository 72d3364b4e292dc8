"""4 and 5 beside a real MariaDB followed by its binary log: whenever evsync is killed, or the server crashes, the next run
goes on: nothing is journalled twice, nothing is missed.

A step is a statement to MariaDB, the question for its log, or one of those that `test_kill` knows. Where the server crashes at a
commit, it does so after it has committed: the answer is lost.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mariadb_server import MariaDbServer, ask
from pymysql.connections import Connection
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
capture = "binlog"
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

STATEMENTS = ("query", "commit", "rollback", "_execute_command")
"""Methods of a connection by which something is asked of the server, from the widest to the narrowest."""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDbServer]:
    server = MariaDbServer(innodb_flush_log_at_trx_commit="1")
    server.start()
    yield server
    server.close()


class Play:
    """Three stores, in a database and a folder of their own."""

    def __init__(self, server: MariaDbServer, folder: Path, name: str) -> None:
        self.server, self.folder, self.name = server, folder / name, name
        self.url = server.url.rpartition("/")[0] + f"/{name}"
        ask(server.url, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        self.folder.mkdir()
        (self.folder / "evsync.toml").write_text(CONFIG.replace("{url}", self.url))
        ask(self.url, TABLE.replace("{text}", "varchar(20)"), f"INSERT INTO person VALUES {MANY}")
        self.crm(
            TABLE.replace("{text}", "text"),
            "INSERT INTO person VALUES ('c1', 'Carl', 1), ('c3', 'Chris', 3)",
        )
        (self.folder / "list.csv").write_text("code,name,level\nl1,Lea,1\n")

    def crm(self, *statements: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "crm.db")) as connection, connection:
            for statement in statements:
                found = connection.execute(statement).fetchall()
            return found

    def edit(self) -> None:
        """Several steps of one record, transactions of many, a key that changes, and changes elsewhere."""
        ask(
            self.url,
            "UPDATE person SET level = 20 WHERE code = 'e2'",
            "UPDATE person SET level = level + 100 WHERE code LIKE 'e%'",
            "DELETE FROM person WHERE code IN ('e3', 'c1')",
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
            self.report = synchronizer.sync()
            return bool(self.report["ok"])

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
        erp = ask(self.url, "SELECT code, name, level FROM person ORDER BY code")
        crm = self.crm("SELECT code, name, level FROM person ORDER BY code")
        lines = (self.folder / "list.csv").read_text().splitlines()[1:]
        listed = sorted((code, name, int(level)) for code, name, level in (line.split(",") for line in lines))
        assert erp == crm == listed
        return erp

    def close(self) -> None:
        ask(self.server.url, f"DROP DATABASE {self.name}")
        shutil.rmtree(self.folder)


@pytest.fixture
def play(server: MariaDbServer, tmp_path: Path) -> Iterator[Callable[[str], Play]]:
    """A play before its first sync ("first"), or between two ("changes")."""
    played: list[Play] = []

    def begun(story: str) -> Play:
        while played:
            played.pop().close()
        one = Play(server, tmp_path, f"play_{story}")
        played.append(one)
        if story == "changes":
            assert one.sync()
            one.edit()
        return one

    yield begun
    while played:
        played.pop().close()


class MariaDbKiller(Killer):
    """Counts what is asked of MariaDB as well."""

    def __init__(self, at: int | None) -> None:
        super().__init__(at)
        Connection._execute_command = self._around(Connection._execute_command)


def steps_of(play: Play) -> int:
    """How many steps a sync takes that nobody disturbs."""
    count = play.folder / "steps"

    def work() -> None:
        killer = MariaDbKiller(None)
        assert play.sync()
        count.write_text(str(killer.steps))

    assert ended(forked(work)) == DONE
    return int(count.read_text())


def killed(play: Play, at: int) -> int:
    def work() -> int:
        MariaDbKiller(at)
        play.sync()
        return FINISHED

    return ended(forked(work))


def expected(play: Play) -> tuple[Any, Any]:
    assert play.sync(), play.report
    assert play.sync(), play.report
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
    check_kills(play, story, 2)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_evsync_is_killed_at_many_steps(play: Callable[[str], Play], story: str) -> None:
    check_kills(play, story, 40)


class Crashing:
    """Has the server crash and begin anew at a step; 0: at none."""

    def __init__(self, server: MariaDbServer, at: int, patch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self._server, self._at, self._inside = server, at, False
        for name in STATEMENTS:
            patch.setattr(Connection, name, self._around(name, getattr(Connection, name)))

    def _around(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def counted(connection: Any, *arguments: Any, **options: Any) -> Any:
            if self._inside:
                return ask(connection, *arguments, **options)
            self.said.append(str(arguments[0]) if name == "query" else name)
            self._inside = True
            try:
                if len(self.said) == self._at:
                    if name == "commit":
                        ask(connection, *arguments, **options)
                    self._server.kill()
                    self._server.start()
                return ask(connection, *arguments, **options)
            finally:
                self._inside = False

        return counted


def check_crashes(
    play: Callable[[str], Play],
    story: str,
    share: int,
    server: MariaDbServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def synced(one: Play, at: int) -> tuple[bool, list[str]]:
        with monkeypatch.context() as patch:
            crashing = Crashing(server, at, patch)
            return one.sync(), crashing.said

    undisturbed = play(story)
    done, steps = synced(undisturbed, 0)
    assert done
    wanted = expected(undisturbed)
    some = set(range(1, len(steps) + 1, max(1, len(steps) // share)))
    commits = [n for n, text in enumerate(steps, 1) if text == "commit"]
    for at in sorted(some | set(commits[:: max(1, len(commits) // share)])):
        one = play(story)
        done, said = synced(one, at)
        step = said[at - 1] if len(said) >= at else "none, for it took fewer steps"
        # Nobody misses the end of a transaction that only read.
        assert not done or step == "rollback" or len(said) < at, f"a crash was not told: {step[:60]}"
        told, held = expected(one)
        where = f"crashed at step {at} of {len(steps)}: {step[:60]}"
        assert [event for event in told if event not in wanted[0]] == [], where
        assert (told, held) == wanted, where


@pytest.mark.parametrize("story", STORIES)
def test_the_server_crashes_at_some_step(
    play: Callable[[str], Play], story: str, server: MariaDbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_crashes(play, story, 1, server, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_the_server_crashes_at_many_steps(
    play: Callable[[str], Play], story: str, server: MariaDbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_crashes(play, story, 25, server, monkeypatch)
