"""Other programs at comparable work, each in a virtual environment of its own under `benchmarks/data`.

They are not dependencies: one that cannot be installed is left out with a word.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parent / "data"

DLT = """
import os, sys, time
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
import dlt
from dlt.sources.sql_database import sql_table
source, folder = sys.argv[1:]
def run():
    started = time.perf_counter()
    pipeline = dlt.pipeline("bench", pipelines_dir=folder, dataset_name="flights",
        destination=dlt.destinations.sqlalchemy(f"sqlite:///{folder}/copy.db"))
    pipeline.run(sql_table(f"sqlite:///{source}", table="flight", backend="pyarrow", chunk_size=50_000),
        write_disposition="append")
    return time.perf_counter() - started
print(run(), run())
"""
EVENTSOURCING = """
import sqlite3, sys, time
from uuid import uuid4
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore
import json
source, folder = sys.argv[1:]
payloads = [json.dumps(row).encode() for row in sqlite3.connect(source).execute("SELECT * FROM flight")]
def recorder(name):
    made = SQLiteApplicationRecorder(SQLiteDatastore(f"{folder}/{name}.db"))
    made.create_table()
    return made
def events(some):
    return [StoredEvent(originator_id=uuid4(), originator_version=1, topic="t", state=one) for one in some]
batched = recorder("batched")
prepared = [events(payloads[n : n + 5000]) for n in range(0, len(payloads), 5000)]
started = time.perf_counter()
for batch in prepared:
    batched.insert_events(batch)
first = time.perf_counter() - started
single = recorder("single")
prepared = [events([one]) for one in payloads[:3000]]
started = time.perf_counter()
for batch in prepared:
    single.insert_events(batch)
print(first, time.perf_counter() - started)
"""
DLT_POSTGRES = """
import os, sys, time
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
import dlt
from dlt.sources.sql_database import sql_table
source, folder, url = sys.argv[1:]
def run(name, come_from, destination):
    started = time.perf_counter()
    pipeline = dlt.pipeline(name, pipelines_dir=folder, dataset_name="dlt_" + name, destination=destination)
    pipeline.run(sql_table(come_from, schema=None, table="flight", backend="pyarrow", chunk_size=50_000),
        write_disposition="append")
    return time.perf_counter() - started
there = run("there", f"sqlite:///{source}", dlt.destinations.postgres(url))
print(there, run("back", url, dlt.destinations.sqlalchemy(f"sqlite:///{folder}/copy.db")))
"""
PEERS = {
    "dlt": (("dlt[sql_database,sqlalchemy]", "pyarrow"), DLT),
    "dlt-postgres": (("dlt[sql_database,sqlalchemy,postgres]", "psycopg[binary]", "pyarrow"), DLT_POSTGRES),
    "eventsourcing": (("eventsourcing",), EVENTSOURCING),
}


def installed(name: str) -> Path | None:
    """The Python of a peer's environment, made if need be; None, after a word, if it cannot be made."""
    python = DATA / f"venv-{name}" / "bin" / "python"
    if not (DATA / f"venv-{name}" / "ready").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", DATA / f"venv-{name}"], check=True)
            command = [python, "-m", "pip", "install", "--quiet", *PEERS[name][0]]
            subprocess.run(command, check=True, stderr=subprocess.PIPE)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name} is left out: it cannot be installed here ({error.__class__.__name__})")
            return None
        (DATA / f"venv-{name}" / "ready").touch()
    return python


def run(name: str, source: Path, folder: Path, *more: str) -> tuple[float, float] | None:
    """The seconds of a peer's two measurements: for dlt a first and a second run, for dlt-postgres there and back (`more`:
    the database's URL), for eventsourcing all rows in batches of 5,000 and 3,000 single appends."""
    python = installed(name)
    if python is None:
        return None
    folder.mkdir()
    done = subprocess.run(
        [python, "-c", PEERS[name][1], source, folder, *more], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}")
        return None
    one, other = done.stdout.split()[-2:]
    return float(one), float(other)
