"""What a few changes cost where a store tells them by a feed: with few records, and with many.

    python benchmarks/feed.py [--rows N] [--many N] [--changes N]

A SQLite table whose changes are told by a list beside it, and two SQLite targets. Timed is a sync in the library: the feed is
read and journalled, and both targets are written.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from growth import narrow

from accessors.sqlite import SqliteAccessor
from evsync import PlaceSpec, Store, Synchronizer, TypeSpec
from evsync.accessor import Fed, Row

TIMES = 5


class Told(SqliteAccessor):
    """SQLite with a list of changes."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def position(self, store: Store, type: str) -> str:
        return str(len(self.rows))

    def changes(self, store: Store, type: str, since: str) -> Iterator[Fed]:
        for number, row in enumerate(self.rows[int(since) :], int(since) + 1):
            yield Fed(str(number), row)

    def change(self, store: Store, rows: int, count: int, value: int) -> None:
        """Change some rows, evenly spread."""
        db: Any = sqlite3.connect(store.path)
        db.row_factory = sqlite3.Row
        names = store.binding("flight").locals
        with db:
            for number in range(count):
                id = number * rows // count + 1
                db.execute("UPDATE flight SET c = ? WHERE id = ?", (value, id))
                found = db.execute("SELECT * FROM flight WHERE id = ?", (id,)).fetchone()
                self.rows.append((None, None, None, None, *(found[name] for name in names)))
        db.close()


def measure(folder: Path, rows: int, changes: int) -> float:
    """Seconds of a sync that finds so many changes: the median of a few."""
    narrow(folder / "source.db", rows)
    told, places = Told(), {"flight": PlaceSpec()}
    source = Store("source", "sqlite:source.db", places=places, accessor=told, root=folder)
    targets = [
        Store(name, f"sqlite:{name}.db", places=places, role="target", root=folder) for name in ("one", "two")
    ]
    with Synchronizer(
        [source, *targets], [TypeSpec("flight", ("id",))], folder / "evsync.db"
    ) as synchronizer:
        assert synchronizer.sync()["ok"]
        times = []
        for number in range(TIMES):
            told.change(source, rows, changes, -1000 - number)
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
