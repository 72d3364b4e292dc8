"""Invariant 1 and 4: several processes at once on one journal; positions without a gap, each change once, no lock told."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from evsync import Synchronizer
from evsync.config import load_config

STORES = ("one", "two", "three", "four")
RECORDS = 1_500

# Small batches, so that the processes take turns; a barrier in the file system, so that they start together.
WORKER = """
import sys, time
from pathlib import Path
import evsync.projections.ingest as ingest
from evsync.config import load_config
from evsync.synchronizer import Synchronizer
ingest.BATCH = 100
with Synchronizer.from_config(load_config(Path("evsync.toml"))) as sync:
    Path(f"ready-{sys.argv[1]}").touch()
    while not Path("go").exists():
        time.sleep(0.001)
    run = getattr(sync, sys.argv[2])
    # Between two transactions the others get their turn, as they do when there is more to decide.
    stores = [sys.argv[3].split(",")] if sys.argv[3] else []
    report = run(*stores, progress=lambda *_: time.sleep(0.01))
    print(report)
    sys.exit(report.exit_code)
"""


def lay_out(folder: Path, stores: tuple[str, ...] = STORES) -> None:
    text = '[types.thing]\nkey = ["id"]\nfields = { id = "str", v = "str" }\n'
    for number, name in enumerate(stores):
        text += f'[stores.{name}]\nurl = "sqlite:{name}.db"\n[stores.{name}.types.thing]\n'
        with closing(sqlite3.connect(folder / f"{name}.db")) as db, db:
            db.execute("CREATE TABLE thing (id TEXT PRIMARY KEY, v TEXT)")
            rows = ((f"{name}-{n:05}", str(n)) for n in range(RECORDS if number < len(STORES) else 0))
            db.executemany("INSERT INTO thing VALUES (?, ?)", rows)
    (folder / "evsync.toml").write_text(text)


def together(folder: Path, *work: tuple[str, str]) -> None:
    """Run (method, stores) in processes that start at one moment; each has to end well and say nothing on stderr."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(number), method, stores],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, (method, stores) in enumerate(work)
    ]
    while not all((folder / f"ready-{number}").exists() or p.poll() for number, p in enumerate(running)):
        pass
    (folder / "go").touch()
    for process in running:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, ""), out + err
    for mark in (folder / "go", *folder.glob("ready-*")):
        mark.unlink()


def evsync(folder: Path, *arguments: str) -> object:
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "evsync"), *arguments, "--json"],
        cwd=folder, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return json.loads(ended.stdout)


def events(folder: Path) -> list[tuple[int, str, str]]:
    with closing(sqlite3.connect(folder / "evsync.db")) as db:
        return db.execute("SELECT seq, store, key FROM log ORDER BY seq").fetchall()


def test_four_processes_ingest_four_stores_into_one_new_journal(tmp_path: Path) -> None:
    lay_out(tmp_path)
    together(tmp_path, *(("ingest", name) for name in STORES))
    told = events(tmp_path)
    assert [seq for seq, _, _ in told] == list(range(1, len(STORES) * RECORDS + 1))
    assert len({key for _, _, key in told}) == len(told)
    turns = sum(one[1] != other[1] for one, other in pairwise(told))
    assert turns > len(STORES), "they did not run beside each other: the test shows nothing"
    assert evsync(tmp_path, "verify")["ok"] is True  # type: ignore[index]


def test_two_processes_ingest_the_same_store(tmp_path: Path) -> None:
    lay_out(tmp_path, STORES[:1])
    together(tmp_path, ("ingest", "one"), ("ingest", "one"))
    told = events(tmp_path)
    assert [seq for seq, _, _ in told] == list(range(1, RECORDS + 1))
    assert len({key for _, _, key in told}) == RECORDS
    assert evsync(tmp_path, "verify")["ok"] is True  # type: ignore[index]
    together(tmp_path, ("ingest", "one"))
    assert len(events(tmp_path)) == RECORDS


def test_two_processes_replay_one_store(tmp_path: Path) -> None:
    lay_out(tmp_path, (*STORES[:1], *STORES[1:2]))
    with closing(sqlite3.connect(tmp_path / "two.db")) as db, db:
        db.execute("DELETE FROM thing")
    together(tmp_path, ("ingest", "one"))
    together(tmp_path, ("replay", "two"), ("replay", "two"))
    with closing(sqlite3.connect(tmp_path / "two.db")) as db:
        db.execute("ATTACH ? AS one", (str(tmp_path / "one.db"),))
        assert db.execute("SELECT count(*) FROM thing").fetchone()[0] == RECORDS
        assert db.execute("SELECT * FROM thing EXCEPT SELECT * FROM one.thing").fetchall() == []
    together(tmp_path, ("ingest", "one,two"))
    assert len(events(tmp_path)) == RECORDS, "a write came back as a change"


def test_a_reader_beside_writers_never_fails(tmp_path: Path) -> None:
    lay_out(tmp_path)
    writer = subprocess.Popen(
        [str(Path(sys.executable).parent / "evsync"), "ingest"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    last = 0
    while writer.poll() is None:
        if (tmp_path / "evsync.db").exists():
            found = len(evsync(tmp_path, "log"))  # type: ignore[arg-type]
            assert found >= last
            last = found
    out, err = writer.communicate()
    assert (writer.returncode, err) == (0, ""), out
    assert len(evsync(tmp_path, "log")) == len(STORES) * RECORDS  # type: ignore[arg-type]


def test_a_reader_that_was_there_before_the_journal_sees_it_come(tmp_path: Path) -> None:
    lay_out(tmp_path, STORES[:1])
    config = load_config(tmp_path / "evsync.toml")
    with Synchronizer.from_config(config) as reader, Synchronizer.from_config(config) as writer:
        assert list(reader.log()) == []
        writer.ingest()
        assert len(list(reader.log())) == RECORDS


def test_three_processes_sync_everything_at_once(tmp_path: Path) -> None:
    """Stores that have to learn from each other: nothing twice, and in the end nothing to do."""
    lay_out(tmp_path, STORES[:3])
    together(tmp_path, ("sync", ""), ("sync", ""), ("sync", ""))
    together(tmp_path, ("sync", ""))
    told = events(tmp_path)
    assert [seq for seq, _, _ in told] == list(range(1, 3 * RECORDS + 1))
    assert len({key for _, _, key in told}) == len(told)
    with Synchronizer.from_config(load_config(tmp_path / "evsync.toml")) as sync:
        report = sync.sync()
        assert report["ingest"]["first"] is None
        for store in report["replay"]["stores"]:
            assert not any(store[n] for n in ("created", "updated", "deleted", "skipped", "failed"))
            assert sync.diff(store["store"])["differences"] == []
        assert sync.verify()["ok"]


def test_two_processes_find_the_same_records_in_two_stores(tmp_path: Path) -> None:
    """Whoever comes second adopts what the first one journalled."""
    lay_out(tmp_path, STORES[:2])
    (tmp_path / "two.db").write_bytes((tmp_path / "one.db").read_bytes())
    together(tmp_path, ("ingest", "one"), ("ingest", "two"))
    told = events(tmp_path)
    assert len(told) == len({key for _, _, key in told}) == RECORDS
    together(tmp_path, ("sync", ""))
    assert len(events(tmp_path)) == RECORDS


ADD = """
import sys
from pathlib import Path
from evsync import Data, Synchronizer
from evsync.config import load_config
with Synchronizer.from_config(load_config(Path("evsync.toml"))) as sync:
    for number in range(100):
        sync.stores["one"].add(Data("thing", {"id": f"{sys.argv[1]}-{number}", "v": "new"}), actor=sys.argv[1])
"""


def test_programs_work_with_a_store_while_it_is_ingested(tmp_path: Path) -> None:
    """Each of their operations is journalled once. If the ingest was there first, it cannot know whose it was."""
    lay_out(tmp_path, STORES[:1])
    adding = [subprocess.Popen([sys.executable, "-c", ADD, who], cwd=tmp_path) for who in ("ann", "bob")]
    while any(process.poll() is None for process in adding):
        together(tmp_path, ("ingest", "one"))
    assert [process.wait() for process in adding] == [0, 0]
    together(tmp_path, ("ingest", "one"))
    told = events(tmp_path)
    assert [seq for seq, _, _ in told] == list(range(1, len(told) + 1))
    assert len(told) == len({key for _, _, key in told}) == RECORDS + 200
