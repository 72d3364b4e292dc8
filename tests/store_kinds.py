"""The kinds of stores that the proofs go through, one entry each: a further kind is one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mariadb_server
import psycopg
from postgres_server import fresh_database

from evsync.binding import PlaceSpec
from evsync.store import Store

Place = Callable[[str, Path, ExitStack], str]
"""The URL of a place for a store of this name, which nothing is in yet; what has to be taken away again goes on the stack."""


class Kind(NamedTuple):
    """A kind of store. `feeds`: every change is captured by the store itself."""

    place: Place
    options: Mapping[str, Any] = {}
    feeds: bool = False


def _file(scheme: str, suffix: str) -> Place:
    return lambda name, folder, stack: f"{scheme}:{folder / name}.{suffix}"


def _mariadb(name: str, folder: Path, stack: ExitStack) -> str:
    return stack.enter_context(mariadb_server.fresh_database())


def _postgres(name: str, folder: Path, stack: ExitStack) -> str:
    return stack.enter_context(postgres_database())


KINDS: Mapping[str, Kind] = {
    "memory": Kind(lambda name, folder, stack: "memory:"),
    "sqlite": Kind(_file("sqlite", "db")),
    "sqlite triggers": Kind(_file("sqlite", "db"), {"capture": "triggers"}, feeds=True),
    "csv": Kind(_file("csv", "csv")),
    "json": Kind(_file("json", "json")),
    "jsonl": Kind(_file("jsonl", "jsonl")),
    "postgresql": Kind(_postgres, {"capture": "scan"}),
    "postgresql wal": Kind(_postgres, {"capture": "wal"}, feeds=True),
    "postgresql triggers": Kind(_postgres, {"capture": "triggers"}, feeds=True),
    "sql:sqlite": Kind(lambda name, folder, stack: f"sql:sqlite:///{folder / name}.db"),
    "mariadb": Kind(_mariadb),
    "mariadb binlog": Kind(_mariadb, {"capture": "binlog"}, feeds=True),
}


def store_of(kind: str, name: str, folder: Path, stack: ExitStack, *types: str, **more: Any) -> Store:
    """A store of this kind with room for these types, each under its own name; nothing is in it yet."""
    found = KINDS[kind]
    places = {type: PlaceSpec() for type in types}
    url = found.place(name, folder, stack)
    return Store(name, url, places=places, options=dict(found.options), root=folder, **more)


@contextmanager
def postgres_database() -> Iterator[str]:
    """An empty database, whose replication slots go with it."""
    with fresh_database() as url:
        yield url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )
