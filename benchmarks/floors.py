"""What a task costs at least: the same rows handled by nothing but sqlite3, msgspec and hashlib. Seconds each."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path

import msgspec


def ingest(source: Path, target: Path) -> float:
    """Read all rows, encode each, insert the bytes into a table of one column in one transaction."""
    target.unlink(missing_ok=True)
    started = time.perf_counter()
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    encode = msgspec.json.Encoder().encode
    other.execute("CREATE TABLE event (payload BLOB)")
    with other:
        rows = one.execute("SELECT * FROM flight")
        while batch := rows.fetchmany(5_000):
            other.executemany("INSERT INTO event VALUES (?)", [(encode(row),) for row in batch])
    one.close()
    other.close()
    return time.perf_counter() - started


def replay(source: Path, target: Path) -> float:
    """Copy the table into an empty one with a primary key."""
    target.unlink(missing_ok=True)
    started = time.perf_counter()
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    (ddl,) = one.execute("SELECT sql FROM sqlite_master WHERE name = 'flight'").fetchone()
    other.execute(ddl)
    rows = one.execute("SELECT * FROM flight")
    marks = ",".join("?" * len(rows.description))
    with other:
        while batch := rows.fetchmany(5_000):
            other.executemany(f"INSERT INTO flight VALUES ({marks})", batch)
    one.close()
    other.close()
    return time.perf_counter() - started


def verify(journal: Path) -> float:
    """SHA-256 over the payloads of a journal, read from its file."""
    started = time.perf_counter()
    db = sqlite3.connect(journal)
    sha256 = hashlib.sha256
    rows = db.execute("SELECT before, after, conflict, key FROM event ORDER BY seq")
    while batch := rows.fetchmany(5_000):
        for before, after, conflict, key in batch:
            sha256(f"{before}{after}{conflict}{key}".encode()).digest()
    db.close()
    return time.perf_counter() - started
