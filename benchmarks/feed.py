"""What a few changes cost where a store tells them by a feed: with few records, and with many.

    python benchmarks/feed.py [--rows N] [--many N] [--changes N]

A SQLite table whose changes are captured by triggers, and two SQLite targets. Timed is a sync in the library: the feed is
read and journalled, and both targets are written.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from growth import narrow

from evsync import PlaceSpec, Store, Synchronizer, TypeSpec

TIMES = 5


def change(path: Path, rows: int, count: int, value: int) -> None:
    """Change some rows, evenly spread."""
    db = sqlite3.connect(path)
    with db:
        for number in range(count):
            db.execute("UPDATE flight SET c = ? WHERE id = ?", (value, number * rows // count + 1))
    db.close()


def measure(folder: Path, rows: int, changes: int) -> float:
    """Seconds of a sync that finds so many changes: the median of a few."""
    narrow(folder / "source.db", rows)
    places, options = {"flight": PlaceSpec()}, {"capture": "triggers"}
    source = Store("source", "sqlite:source.db", places=places, options=options, root=folder)
    targets = [
        Store(name, f"sqlite:{name}.db", places=places, role="target", root=folder) for name in ("one", "two")
    ]
    with Synchronizer(
        [source, *targets], [TypeSpec("flight", ("id",))], folder / "evsync.db"
    ) as synchronizer:
        assert synchronizer.sync()["ok"]
        times = []
        for number in range(TIMES):
            change(folder / "source.db", rows, changes, -1000 - number)
            started = time.perf_counter()
            report = synchronizer.sync()
            times.append(time.perf_counter() - started)
            assert report["ingest"]["stores"][0]["updated"] == changes
    copies = [sqlite3.connect(folder / f"{name}.db") for name in ("source", "one", "two")]
    sums = {copy.execute("SELECT count(*), sum(c) FROM flight").fetchone() for copy in copies}
    assert len(sums) == 1, sums
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=3_000_000)
    parser.add_argument("--changes", type=int, default=100)
    given = parser.parse_args()
    found = []
    for rows in (given.rows, given.many):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder), rows, given.changes))
        print(f"{given.changes} changes in {rows:>10,} rows {found[-1] * 1000:8.1f} ms", flush=True)
    print(f"ratio {found[1] / found[0]:.2f}, goal 1.5")


if __name__ == "__main__":
    main()
