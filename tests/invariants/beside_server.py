"""4 and 5 beside a real server: whenever evsync is killed, or the server crashes, the next run goes on: nothing is journalled
twice, nothing is missed.

A step is something that is asked of the server, or one of those that `test_kill` knows. Where the server crashes at a commit, it
does so after it has committed: the answer is lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from projects import sql
from servers import Server
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
STORIES = ["first", "changes"]


class Play:
    """Three stores, one of them in a database of the server's."""

    def __init__(self, server: Server, url: str, folder: Path, way: str, text: str) -> None:
        """`url`: of the database, which is empty; `text`: what a column of short texts is declared as there."""
        self.server, self.url, self.folder = server, url, folder
        folder.mkdir()
        (folder / "evsync.toml").write_text(CONFIG.replace("{url}", url).replace("{way}", way))
        self.ask(TABLE.replace("{text}", text))
        self.ask(f"INSERT INTO person VALUES {MANY}")
        self.crm(TABLE.replace("{text}", "text"))
        self.crm("INSERT INTO person VALUES ('c1', 'Carl', 1), ('c3', 'Chris', 3)")
        (folder / "list.csv").write_text("code,name,level\nl1,Lea,1\n")

    def ask(self, *statements: str) -> list[Any]:
        """Each a transaction of its own in the server's database; the rows of the last one."""
        raise NotImplementedError

    def drop(self) -> None:
        """Take the database away."""
        raise NotImplementedError

    def crm(self, statement: str) -> list[Any]:
        return sql(self.folder / "crm.db", statement)

    def edit(self) -> None:
        """Several steps of one record, transactions of many, a key that changes, and changes elsewhere."""
        self.ask(
            "UPDATE person SET level = 20 WHERE code = 'e2'",
            "UPDATE person SET level = level + 100 WHERE code LIKE 'e%'",
            "DELETE FROM person WHERE code IN ('e3', 'c1')",
            "UPDATE person SET name = 'Again' WHERE code = 'e2'",
            "INSERT INTO person VALUES ('e3', 'Back', 0), ('n1', 'New', 1)",
            "UPDATE person SET code = 'e50' WHERE code = 'e5'",
        )
        self.crm("UPDATE person SET name = 'By CRM' WHERE code = 'c3'")
        self.crm("INSERT INTO person VALUES ('c2', 'Cleo', 2)")

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
        erp = sorted(self.ask("SELECT code, name, level FROM person"))
        crm = self.crm("SELECT code, name, level FROM person ORDER BY code")
        lines = (self.folder / "list.csv").read_text().splitlines()[1:]
        listed = sorted((code, name, int(level)) for code, name, level in (line.split(",") for line in lines))
        assert erp == crm == listed
        return erp

    def expected(self) -> tuple[Any, Any]:
        """What is told and held when all is done."""
        assert self.sync()
        assert self.sync()
        return self.told(), self.held()

    def close(self) -> None:
        self.drop()
        shutil.rmtree(self.folder)


class Crashing:
    """Has the server crash and begin anew at a step; 0: at none. `said`: what was asked of it."""

    def __init__(
        self, server: Server, driver: type, methods: Sequence[str], at: int, patch: pytest.MonkeyPatch
    ) -> None:
        """`methods` of the driver's connection by which something is asked, from the widest to the narrowest."""
        self.said: list[str] = []
        self._server, self._at, self._inside = server, at, False
        for name in methods:
            patch.setattr(driver, name, self._around(name, getattr(driver, name)))

    def _around(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def counted(connection: Any, *arguments: Any, **options: Any) -> Any:
            if self._inside:
                return ask(connection, *arguments, **options)
            self.said.append(str(arguments[0]) if name in ("execute", "query") else name)
            self._inside = True
            try:
                if len(self.said) == self._at:
                    if is_commit(self.said[-1]):
                        ask(connection, *arguments, **options)
                    self._server.kill()
                    self._server.start()
                return ask(connection, *arguments, **options)
            finally:
                self._inside = False

        return counted


def is_commit(said: str) -> bool:
    return said.lower() == "commit"


class KilledBesideServer:
    """The tests; a subclass says which server, and how it is asked."""

    driver: ClassVar[type]
    methods: ClassVar[Sequence[str]]  # of its connections, see Crashing
    narrowest: ClassVar[str]  # through which all goes

    @pytest.fixture
    def play(self, server: Server, tmp_path: Path, way: str) -> Iterator[Callable[[str], Play]]:
        """A play before its first sync ("first"), or between two ("changes"); one at a time."""
        played: list[Play] = []

        def begun(story: str) -> Play:
            while played:
                played.pop().close()
            one = self.begin(server, tmp_path, story, way)
            played.append(one)
            if story == "changes":
                assert one.sync()
                one.edit()
            return one

        yield begun
        while played:
            played.pop().close()

    def begin(self, server: Server, folder: Path, name: str, way: str) -> Play:
        raise NotImplementedError

    @pytest.mark.parametrize("story", STORIES)
    def test_evsync_is_killed_at_some_step(self, play: Callable[[str], Play], story: str) -> None:
        self.check_kills(play, story, 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("story", STORIES)
    def test_evsync_is_killed_at_many_steps(self, play: Callable[[str], Play], story: str) -> None:
        self.check_kills(play, story, 40)

    @pytest.mark.parametrize("story", STORIES)
    def test_the_server_crashes_at_some_step(
        self, play: Callable[[str], Play], story: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.check_crashes(play, story, 1, monkeypatch)

    @pytest.mark.slow
    @pytest.mark.parametrize("story", STORIES)
    def test_the_server_crashes_at_many_steps(
        self, play: Callable[[str], Play], story: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.check_crashes(play, story, 25, monkeypatch)

    # -- how ---------------------------------------------------------------------------------------------

    def check_kills(self, play: Callable[[str], Play], story: str, share: int) -> None:
        unkilled = play(story)
        steps = self.steps_of(unkilled)
        wanted = unkilled.expected()
        for at in range(1, steps + 1, max(1, steps // share)):
            one = play(story)
            assert self.killed(one, at) in (KILLED, FINISHED)
            assert one.expected() == wanted, f"killed at step {at} of {steps}"

    def steps_of(self, play: Play) -> int:
        """How many steps a sync takes that nobody disturbs."""
        count = play.folder / "steps"

        def work() -> None:
            killer = self.killer(None)
            assert play.sync()
            count.write_text(str(killer.steps))

        assert ended(forked(work)) == DONE
        return int(count.read_text())

    def killed(self, play: Play, at: int) -> int:
        def work() -> int:
            self.killer(at)
            play.sync()
            return FINISHED

        return ended(forked(work))

    def killer(self, at: int | None) -> Killer:
        """Counts what is asked of the server as well; in a fork, which it changes for good."""
        killer = Killer(at)
        setattr(self.driver, self.narrowest, killer._around(getattr(self.driver, self.narrowest)))
        return killer

    def check_crashes(
        self, play: Callable[[str], Play], story: str, share: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def synced(one: Play, at: int) -> tuple[bool, list[str]]:
            with monkeypatch.context() as patch:
                crashing = Crashing(one.server, self.driver, self.methods, at, patch)
                return one.sync(), crashing.said

        undisturbed = play(story)
        done, steps = synced(undisturbed, 0)
        assert done
        wanted = undisturbed.expected()
        some = set(range(1, len(steps) + 1, max(1, len(steps) // share)))
        commits = [n for n, text in enumerate(steps, 1) if is_commit(text)]
        for at in sorted(some | set(commits[:: max(1, len(commits) // share)])):
            one = play(story)
            done, said = synced(one, at)
            step = said[at - 1] if len(said) >= at else "none, for it took fewer steps"
            # Nobody misses the end of a transaction that only read.
            assert not done or step.lower() == "rollback" or len(said) < at, (
                f"a crash was not told: {step[:60]}"
            )
            told, held = one.expected()
            where = f"crashed at step {at} of {len(steps)}: {step[:60]}"
            assert [event for event in told if event not in wanted[0]] == [], where
            assert (told, held) == wanted, where
