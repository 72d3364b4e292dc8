"""How rates and memory change with ten times the rows: flights repeated under new ids, narrow and wide records.

    python benchmarks/growth.py [--rows N] [--times-more N]

Each task is done with N rows and with that many times more, each in a process of its own. Printed are the rates, the
peak memory, and what the larger run reaches of the smaller one's. The floors of the same rows stand beside them.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from pathlib import Path

import floors
from flights import CONFIG, TARGET, load, run

STEPS = (
    ("first ingest", ("ingest", "source")),
    ("first replay", ("replay", "--store", "copy")),
    ("unchanged ingest", ("ingest", "--scan", "source")),
    ("verify", ("verify",)),
)


def flights(path: Path, rows: int) -> int:
    """The flights, again and again under new ids."""
    count = load(path, rows)
    db = sqlite3.connect(path)
    columns = [row[1] for row in db.execute("PRAGMA table_info(flight)")]
    others = ", ".join(columns[1:])
    with db:
        for start in range(count, rows, count):
            db.execute(
                f"INSERT INTO flight (id, {others}) SELECT id + ?, {others} FROM flight"
                " WHERE id <= min(?, ?) ORDER BY id",
                (start, count, rows - start),
            )
    db.close()
    return rows


def narrow(path: Path, rows: int) -> int:
    """Five short fields."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE flight (id INTEGER PRIMARY KEY, a TEXT, b TEXT, c INTEGER, d INTEGER)")
    with db:
        db.executemany(
            "INSERT INTO flight VALUES (?, ?, ?, ?, ?)",
            ((n, f"n{n % 1000}", "x" * (n % 9), n * 7 % 10_007, n % 2) for n in range(1, rows + 1)),
        )
    db.close()
    return rows


def wide(path: Path, rows: int) -> int:
    """A text of 2,000 characters."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE flight (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    with db:
        db.executemany(
            "INSERT INTO flight VALUES (?, ?, ?)",
            ((n, f"title {n}", f"{n} lorem ipsum dolor sit amet " * 60) for n in range(1, rows + 1)),
        )
    db.close()
    return rows


def measure(folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds and peak memory of each task, and the floors."""
    text = CONFIG.format(targets=TARGET.format(name="copy", url="sqlite:copy.db"))
    (folder / "evsync.toml").write_text(text)
    found = {
        "floor of ingest": (floors.ingest(folder / "source.db", folder / "floor.db"), 0.0),
        "floor of replay": (floors.replay(folder / "source.db", folder / "floor.db"), 0.0),
    }
    for name, arguments in STEPS:
        found[name] = run(folder, *arguments)
    # Two stores' replicas stand in it by now.
    found["journal / table"] = (
        (folder / "evsync.db").stat().st_size / (folder / "floor.db").stat().st_size,
        0.0,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=336_776)
    parser.add_argument("--times-more", type=int, default=10)
    given = parser.parse_args()
    few, many = given.rows, given.rows * given.times_more
    for what, fill, sizes in (
        ("flights, 20 columns", flights, (few, many)),
        ("narrow, 5 short columns", narrow, (few, 1_000_000)),
        ("wide, 2 kB of text", wide, (few // 10, few // 2)),
    ):
        results = []
        for rows in sizes:
            with tempfile.TemporaryDirectory() as folder:
                fill(Path(folder) / "source.db", rows)
                results.append(measure(Path(folder)))
        print(f"\n{what}: {sizes[0]:,} and {sizes[1]:,} rows")
        for name in results[0]:
            (less, small), (more, large) = (result[name] for result in results)
            if name == "journal / table":
                print(f"{name:<18} {less:12.2f} {more:16.2f}")
                continue
            rates = sizes[0] / less, sizes[1] / more
            memory = f"{small:6.0f} {large:6.0f} MB  × {large / small:.2f}" if small else ""
            print(
                f"{name:<18} {rates[0]:10,.0f} /s {rates[1]:12,.0f} /s  {rates[1] / rates[0]:6.0%}  {memory}",
                flush=True,
            )


if __name__ == "__main__":
    main()
