"""Invariant 1 and 4: several processes at once on one journal; positions without a gap, each change once, no lock told."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path

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
    report = run(sys.argv[3].split(","), progress=lambda *_: time.sleep(0.01))
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
