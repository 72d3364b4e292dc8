"""How quick the audit's questions are on a large journal.

    python benchmarks/audit.py [--events N]

Writes a journal of N events over N/10 records, then asks each question a few times and prints the median.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evsync import Store, Synchronizer, TypeSpec
from evsync.journal.event import NewEvent
from evsync.journal.journal import Journal

FIELDS = ("city", "email", "name", "phone", "since")
TYPES = ("str",) * len(FIELDS)


def write(path: Path, events: int) -> None:
    """A journal in which every record was created once and then changed in one field at a time."""
    records = max(events // 10, 1)
    with Journal.open(path) as journal:
        with journal.write():
            run = journal.begin_run("benchmark", "0")
            full = journal.shape(FIELDS, TYPES)
            single = [journal.shape((name,), ("str",)) for name in FIELDS]
        batch: list[NewEvent] = []
        for number in range(events):
            record, turn = number % records, number // records
            key = f"person{record:07}@example.org"
            after = f'["Paris","{key}","Name {turn}","+33 1 {number}","2020-01-01"]'
            if turn == 0:
                event = NewEvent("create", "crm", "contact", key, 0, after, full, changed=full)
            else:
                field = turn % len(FIELDS)
                event = NewEvent(
                    "update", "web" if turn % 2 else "crm", "contact", key, number + 1 - records, after, full,
                    '["before"]', single[field], single[field], actor=f"user{record % 50}",
                )  # fmt: skip
            batch.append(event)
            if len(batch) == 10_000 or number == events - 1:
                with journal.write():
                    journal.append(batch, run)
                batch = []


def questions(synchronizer: Synchronizer, events: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    key = f"person{events // 20:07}@example.org"
    middle = str(events // 2)
    yield "a record's history", lambda: list(synchronizer.log("contact", key))
    yield "who changed field F of record R", lambda: list(synchronizer.log("contact", key, field="phone"))
    yield "blame", lambda: synchronizer.blame("contact", key)
    yield "show", lambda: synchronizer.show("contact", key)
    yield "show --at", lambda: synchronizer.show("contact", key, middle)
    yield "log, the last 50", lambda: list(synchronizer.log(limit=50))
    yield "log --field --limit 50", lambda: list(synchronizer.log(field="phone", limit=50))
    yield "log --store --limit 50", lambda: list(synchronizer.log(store="web", limit=50))
    yield "log --actor --limit 50", lambda: list(synchronizer.log(actor="user7", limit=50))
    half = next(iter(synchronizer.log(since=middle, until=middle)))["observed_at"]
    yield "log --until TIME --limit 50", lambda: list(synchronizer.log(until=half, limit=50))
    yield "log --since TIME --limit 50", lambda: list(synchronizer.log(since=half, limit=50))
    yield "status", synchronizer.status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evsync.db"
        started = time.perf_counter()
        write(path, events)
        print(f"{events:,} events written, {events / (time.perf_counter() - started):,.0f} events/s")
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        stores = [Store("crm", "memory:"), Store("web", "memory:")]
        with Synchronizer(stores, [TypeSpec("contact", ("email",))], path) as synchronizer:
            for question, ask in questions(synchronizer, events):
                times = []
                for _ in range(7):
                    started = time.perf_counter()
                    ask()
                    times.append(time.perf_counter() - started)
                print(f"{question:<36} {statistics.median(times) * 1000:8.2f} ms", flush=True)


if __name__ == "__main__":
    main()
