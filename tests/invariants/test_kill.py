"""4: whenever the process is killed, the next run goes on: nothing is journalled twice, nothing is missed.

A run is killed at its first step, at its second, at its third, and so on until none is left. A step is a statement
of any SQLite connection (the journal's and the stores'), or the sync, the rename or the removal of a file. Statements
that only read are no steps, and statements of one kind in a row are one: on the disk nothing happens in between. After
each kill the user does what users do: run it again. In the end the journal and the stores have to be those of a run
that nobody killed. Everything runs in forks of this process, as nothing else is quick enough to try every step.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from accessors import sqlite_records
from accessors.csv import CsvAccessor
from accessors.json import JsonAccessor
from accessors.sqlite import SqliteAccessor
from evsync import Synchronizer
from evsync.config import load_config
from evsync.projections import filling, ingest, streaming

CONFIG = """
[types.person]
key = ["code"]
[types.person.fields]
code = "str"
name = "str"
note = "str"
level = "int"

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.person]
table = "people"
fields = { name = "full_name" }

[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
only = ["code", "name", "level"]

[stores.web]
url = "json:web.json"
[stores.web.types.person]
"""

COPY = """
[stores.copy]
url = "sqlite:copy.db"
[stores.copy.types.person]
"""

KILLED = 137
DONE, GONE_WRONG, FINISHED = 0, 3, 4


# -- the stores ------------------------------------------------------------------------------------------


def lay_out(folder: Path) -> None:
    """Twelve records, most of them in two of the stores, some of them otherwise there."""
    (folder / "evsync.toml").write_text(CONFIG)
    with closing(sqlite3.connect(folder / "crm.db")) as db, db:
        db.execute(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT UNIQUE, full_name TEXT, note TEXT, level INTEGER)"
        )
        db.executemany(
            "INSERT INTO people (code, full_name, note, level) VALUES (?, ?, 'n', ?)",
            [(f"k{i:02}", f"Name {i}", i) for i in (7, 3, 1, 2, 6, 5)],
        )
    write_list(folder, {f"k{i:02}": (f"Name {i}", str(i)) for i in (4, 5, 6, 8, 9)})
    web = [{"code": f"k{i:02}", "name": f"Name {i}", "note": None, "level": i} for i in (9, 10, 12, 11)]
    (folder / "web.json").write_text(json.dumps([*web, {"code": "k01", "name": "Else", "note": "n"}]))


def edit(folder: Path) -> None:
    """In each store something is new, changed and gone; some of it at odds with what another one did."""
    with closing(sqlite3.connect(folder / "crm.db")) as db, db:
        db.execute("UPDATE people SET full_name = 'Crm', level = 70 WHERE code IN ('k01', 'k02', 'k03')")
        db.execute("UPDATE people SET code = 'k04-new' WHERE code = 'k04'")
        db.execute("DELETE FROM people WHERE code IN ('k05', 'k06')")
        db.execute("INSERT INTO people (code, full_name) VALUES ('k20', 'New'), ('k21', 'Both')")
        db.execute("UPDATE people SET id = 900 WHERE code = 'k12'")
    rows = read_list(folder)
    rows["k02"] = ("List", rows["k02"][1])  # the same field as in the table
    rows["k03"] = (rows["k03"][0], "33")
    rows["k06"] = ("Kept", "6")  # gone in the table
    del rows["k01"], rows["k07"]  # the first was edited in the table
    rows["k21"] = ("Both", "")
    rows["k22"] = ("List only", "22")
    write_list(folder, rows)
    web = [one for one in json.loads((folder / "web.json").read_text()) if one["code"] not in ("k08", "k03")]
    for one in web:
        if one["code"] in ("k09", "k10"):
            one["note"] = "web"
    web.append({"code": "k23", "name": "Web only", "level": None})
    (folder / "web.json").write_text(json.dumps(web))


def read_list(folder: Path) -> dict[str, tuple[str, str]]:
    with (folder / "list.csv").open(newline="") as file:
        return {row["code"]: (row["name"], row["level"]) for row in csv.DictReader(file)}


def write_list(folder: Path, rows: dict[str, tuple[str, str]]) -> None:
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["code", "name", "level"])
        writer.writerows([code, *row] for code, row in rows.items())


def events(folder: Path) -> list[tuple[Any, ...]]:
    """What the journal says happened, whoever ran it and whenever."""
    with closing(sqlite3.connect(folder / "evsync.db")) as db:
        return db.execute(
            "SELECT seq, op, store, type, key, base, before, after, changed, actor, conflict FROM log ORDER BY seq"
        ).fetchall()


def holdings(folder: Path) -> dict[str, Any]:
    """What each store holds, without the ids that the table gave by itself."""
    with closing(sqlite3.connect(folder / "crm.db")) as db:
        table = db.execute("SELECT code, full_name, note, level FROM people ORDER BY code").fetchall()
    web = json.loads((folder / "web.json").read_text())
    copy: list[Any] = []
    if (folder / "copy.db").exists():
        with closing(sqlite3.connect(folder / "copy.db")) as db:
            copy = db.execute("SELECT code, name, note, level FROM person ORDER BY code").fetchall()
    return {
        "copy": copy,
        "crm": [list(row) for row in table],
        "list": sorted(read_list(folder).items()),
        "web": sorted(web, key=lambda one: str(one["code"])),
        "leftovers": [path.name for path in folder.iterdir() if path.name.startswith(".")],
    }


# -- the runs --------------------------------------------------------------------------------------------


def run(folder: Path, command: str) -> None:
    synchronizer = Synchronizer.from_config(load_config(folder / "evsync.toml"))
    with synchronizer:
        report: dict[str, Any]
        if command == "ingest":
            report = synchronizer.ingest()
        elif command == "replay":
            report = synchronizer.replay()
        elif command == "replay until":
            report = synchronizer.replay(["list", "crm"], until=9, allow_deletes=True)
        elif command == "replay each":
            report = synchronizer.replay(each=True)
        elif command == "rebuild":
            report = synchronizer.replay(rebuild=True, allow_deletes=True)
        else:
            report = synchronizer.sync()
        assert report["ok"], report


def fresh(folder: Path) -> None:
    """Three stores that evsync has not seen."""
    lay_out(folder)


def in_order(folder: Path) -> None:
    """The same, and one of them with its records in order: it is journalled while it is read."""
    lay_out(folder)
    with closing(sqlite3.connect(folder / "crm.db")) as db, db:
        db.execute("DELETE FROM people")
        db.executemany(
            "INSERT INTO people (code, full_name, level) VALUES (?, 'n', 1)",
            [(f"k{number:02}",) for number in range(1, 40)],
        )


def ingested(folder: Path) -> None:
    lay_out(folder)
    run(folder, "ingest")


def empty(folder: Path) -> None:
    """Three stores that were ingested, and one that is not there yet."""
    lay_out(folder)
    with (folder / "evsync.toml").open("a") as config:
        config.write(COPY)
    run(folder, "ingest")


def edited(folder: Path) -> None:
    """In step once, and edited since."""
    lay_out(folder)
    run(folder, "sync")
    run(folder, "sync")
    edit(folder)


def edited_and_ingested(folder: Path) -> None:
    edited(folder)
    run(folder, "ingest")


def drifted(folder: Path) -> None:
    """In step once, then changed behind evsync's back; a rebuild undoes it."""
    edited(folder)


STORIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "first ingest": (fresh, "ingest"),
    "first ingest of a store in order": (in_order, "ingest"),
    "ingest": (edited, "ingest"),
    "first replay": (ingested, "replay"),
    "replay into an empty store": (empty, "replay"),
    "replay": (edited_and_ingested, "replay"),
    "replay each": (edited_and_ingested, "replay each"),
    "replay until": (edited_and_ingested, "replay until"),
    "rebuild": (drifted, "rebuild"),
    "first sync": (fresh, "sync"),
    "sync": (edited, "sync"),
}


def small_batches() -> None:
    """So that many transactions are needed for few records."""
    ingest.BATCH = filling.BATCH = 3
    streaming.AHEAD, sqlite_records.BATCH = 5, 2
    for accessor in (SqliteAccessor, CsvAccessor, JsonAccessor):
        accessor.batch = 4


class Killer:
    """Counts the steps of this process, and ends it at the one that is called for."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.steps = 0
        self.last = ""
        self._connect = sqlite3.connect
        sqlite3.connect = self._connected  # type: ignore[assignment]
        for name in ("replace", "rename", "fsync", "unlink"):
            setattr(os, name, self._around(getattr(os, name)))

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            os._exit(KILLED)

    def statement(self, text: str) -> None:
        kind = " ".join(text.split()[:3])
        if kind != self.last and not kind.startswith(("SELECT", "PRAGMA", "--")) and " temp." not in text:
            self.step()
        self.last = kind

    def _connected(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = self._connect(*arguments, **options)
        connection.set_trace_callback(self.statement)
        return connection

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            self.step()
            try:
                return call(*arguments, **options)
            finally:
                self.step()

        return called


def forked(work: Callable[[], int | None]) -> int:
    """Start `work` in a fork of this process; answers with its process id."""
    child = os.fork()
    if child:
        return child
    code = GONE_WRONG
    try:
        code = work() or DONE
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    """The exit code of a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="evsync-"))
    yield made
    shutil.rmtree(made)


class Story:
    """One command, on stores of one kind, to be killed at any of its steps."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.before, self.command = STORIES[name]
        self.template = folder / "template"
        self.template.mkdir()
        assert ended(forked(self._prepare)) == DONE
        self.steps = int((folder / "steps").read_text())
        self.expected_events = events(folder / "unkilled")
        self.expected = holdings(folder / "unkilled")

    def _prepare(self) -> None:
        self.before(self.template)
        small_batches()
        unkilled = self.folder / "unkilled"
        shutil.copytree(self.template, unkilled)
        killer = Killer(None)
        run(unkilled, self.command)
        (self.folder / "steps").write_text(str(killer.steps))
        run(unkilled, "sync")

    def check(self, at: int, again: int | None = None) -> None:
        """Kill the command at a step (and, if asked, the second try as well), run it again, compare."""
        folder = self.folder / f"killed-{at}"
        shutil.copytree(self.template, folder)
        small_batches()
        for step in (at,) if again is None else (at, again):
            code = ended(forked(lambda step=step: self._killed(folder, step)))  # type: ignore[misc]
            assert code in (KILLED, FINISHED), f"killed at {step}: it ended with {code}"
            assert again is not None or code == KILLED
        if at % 2 or "replay" not in self.command:
            run(folder, self.command)
        run(folder, "sync")
        assert events(folder) == self.expected_events
        assert holdings(folder) == self.expected
        with Synchronizer.from_config(load_config(folder / "evsync.toml")) as synchronizer:
            told = synchronizer.verify()
            assert told["ok"], told
            open_ends = [
                n for s in synchronizer.status()["stores"] for n in ("failures", "quarantined") if s[n]
            ]
            assert not open_ends
        if at % 5 == 0:
            run(folder, "sync")
            assert events(folder) == self.expected_events, "not at rest"
        shutil.rmtree(folder)

    def _killed(self, folder: Path, at: int) -> int:
        Killer(at)
        run(folder, self.command)
        return FINISHED

    def check_all(self, points: list[tuple[int, int | None]]) -> None:
        waiting, running, wrong = list(reversed(points)), {}, []
        while waiting or running:
            while waiting and len(running) < 2:
                point = waiting.pop()
                running[forked(lambda point=point: self.check(*point))] = point  # type: ignore[misc]
            child, status = os.wait()
            if status:
                wrong.append(running[child])
            del running[child]
            if len(wrong) > 4:
                waiting = []
        assert not wrong, f"killed at these of {self.steps} steps it did not recover: {sorted(wrong)}"


@pytest.mark.parametrize("name", STORIES)
def test_killed_at_some_step(folder: Path, name: str) -> None:
    """Every so many steps, and the last ones."""
    story = Story(folder, name)
    assert story.steps > 40
    points = {*range(1, story.steps + 1, max(1, story.steps // 12)), story.steps - 1, story.steps}
    story.check_all([(at, None) for at in sorted(points)])


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_step(folder: Path, name: str) -> None:
    """Every step there is; fewer of what is made of the steps of another story."""
    story = Story(folder, name)
    stride = {"first sync": 5, "replay each": 5}.get(name, 1)
    story.check_all([(at, None) for at in range(1, story.steps + 1, stride)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "replay", "sync"])
def test_killed_and_killed_again(folder: Path, name: str) -> None:
    """The second try is killed as well, sooner or later than the first."""
    story = Story(folder, name)
    points = [(at, (at * 7) % story.steps + 1) for at in range(1, story.steps + 1, 15)]
    story.check_all(points)


@pytest.mark.parametrize("command", ["ingest", "sync"])
def test_what_was_reported_is_kept(folder: Path, command: str) -> None:
    """Killed for good as soon as its report was out: the journal says what the report said."""
    lay_out(folder)
    script = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from evsync import Synchronizer\n"
        "from evsync.config import load_config\n"
        "synchronizer = Synchronizer.from_config(load_config(Path('evsync.toml')))\n"
        f"print(json.dumps(synchronizer.{command}()), flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        report = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    told = report["ingest"] if command == "sync" else report
    assert told["first"] == 1
    assert len(events(folder)) == told["last"] > 12
    with Synchronizer.from_config(load_config(folder / "evsync.toml")) as synchronizer:
        assert synchronizer.verify()["ok"]
        assert synchronizer.ingest()["first"] is None
    if command == "sync":
        held = holdings(folder)
        assert len(held["crm"]) == len(held["list"]) == len(held["web"]) == 12
