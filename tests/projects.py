"""Small stores and synchronizers for the tests, and short words for what they answer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from accessors.memory import MemoryAccessor
from evsync.binding import PlaceSpec, TypeSpec
from evsync.config import parse_config
from evsync.data import Data
from evsync.journal.event import NewEvent
from evsync.journal.journal import Journal
from evsync.report import COUNTS, WRITTEN
from evsync.store import Store
from evsync.synchronizer import Synchronizer
from evsync.values import infer

NOON = "2026-01-31T12:00:00Z"
NOON_MICROS = 1_769_860_800_000_000

Row = dict[str, Any]


def synchronizer(folder: Path, config: str) -> Synchronizer:
    """The synchronizer of an `evsync.toml` with this text in `folder`."""
    return Synchronizer.from_config(parse_config(config, folder / "evsync.toml"))


# -- SQLite files ---------------------------------------------------------------------------------------


def sql(path: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement on an SQLite file, in a connection of its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


# -- stores in memory -----------------------------------------------------------------------------------


def memory(
    name: str,
    *rows: Row,
    key: tuple[str, ...] = ("id",),
    type: str = "thing",
    place: PlaceSpec | None = None,
    accessor: MemoryAccessor | None = None,
    **more: Any,
) -> Store:
    """A store in memory that holds these records; by numbers of its own with `assign_ids=True`."""
    assign_ids = more.pop("assign_ids", False)
    place = place or PlaceSpec()
    local = [place.fields.get(part, part) for part in key]
    records = {
        (n if assign_ids else tuple(row[part] for part in local)): row for n, row in enumerate(rows, 1)
    }
    return Store(
        name,
        "memory:",
        places={type: place},
        accessor=accessor or MemoryAccessor(),
        options={"assign_ids": assign_ids, "records": {type: records}},
        **more,
    )


def held(store: Store, type: str = "thing") -> dict[Any, Row]:
    """The records of a store in memory, which may be changed behind everybody's back."""
    found: dict[Any, Row] = store.options["records"][type]
    return found


def rows(store: Store, type: str = "thing") -> list[Row]:
    """The same as a list, in order of what they hold."""
    return sorted(held(store, type).values(), key=repr)


def content_of(store: Store, type: str = "thing") -> list[Row]:
    """The same in order of their ids or keys."""
    return [record for _, record in sorted(held(store, type).items())]


def thing(fields: Mapping[str, str] | None = None, key: tuple[str, ...] = ("id",), **more: Any) -> TypeSpec:
    """The type `thing`."""
    return TypeSpec("thing", key, fields, **more)


def together(*stores: Store, fields: Mapping[str, str] | None = None, **more: Any) -> Synchronizer:
    """These stores, linked by a journal in memory if none is named."""
    key = more.pop("key", ("id",))
    return Synchronizer(stores, [thing(fields, key)], more.pop("journal", None), **more)


def data(id: int | str | None = None, type: str = "thing", **fields: Any) -> Data:
    """A record for the API; `id` is the store's own."""
    return Data(type, fields, id=id)


# -- reports --------------------------------------------------------------------------------------------


def entry(report: Mapping[str, Any], store: str) -> Row:
    """A store's part of a report."""
    found: Row = next(entry for entry in report["stores"] if entry["store"] == store)
    return found


def did(report: Mapping[str, Any], store: str) -> dict[str, int]:
    """What a run did to a store that gave no trouble: all its counts that are not zero."""
    found = entry(report, store)
    assert found["error"] is None, found["error"]
    return {name: found[name] for name in (*COUNTS, *WRITTEN) if found.get(name)}


def at_rest(synchronizer: Synchronizer) -> bool:
    """Another sync finds nothing and writes nothing."""
    before = head(synchronizer)
    report = synchronizer.sync()
    counts = [
        did(report[half], found["store"]) for half in ("ingest", "replay") for found in report[half]["stores"]
    ]
    return head(synchronizer) == before and all(set(found) <= {"unchanged"} for found in counts)


def placed(store: Store, type: str = "thing", **options: Any) -> Store:
    """The store with more said of where the type lies in it."""
    store.places[type] = msgspec.structs.replace(store.places[type], **options)
    return store


def head(synchronizer: Synchronizer) -> int:
    """The journal's last position."""
    return synchronizer.journal().head().seq


def last(synchronizer: Synchronizer, **wanted: Any) -> Row:
    """The newest event, of those that match."""
    return next(synchronizer.log(limit=1, **wanted))


def canonical(synchronizer: Synchronizer, key: str, type: str = "thing") -> Row | None:
    """A record's canonical fields now."""
    found: Row | None = synchronizer.show(type, key)["fields"]
    return found


# -- events ---------------------------------------------------------------------------------------------


def new_event(
    journal: Journal,
    op: str,
    key: str,
    after: Row | None = None,
    *,
    before: Row | None = None,
    changed: Iterable[str] | None = None,
    store: str = "crm",
    type: str = "contact",
    types: Mapping[str, str] | None = None,
    **more: Any,
) -> NewEvent:
    """An event to be appended, inside `write`; the types of its values are those they suggest, if not given."""
    named = {name: infer(value) or "str" for name, value in {**(before or {}), **(after or {})}.items()}
    named.update(types or {})
    event = NewEvent(op, store, type, key, more.pop("base", 0), **more)
    if after is not None:
        event.after, event.after_shape = journal.pack(after, named)
    if before is not None:
        event.before, event.before_shape = journal.pack(before, named)
    names = tuple(sorted(changed if changed is not None else after or before or {}))
    if op != "read":
        event.changed = journal.shape(names, tuple(named.get(name, "str") for name in names))
    return event


def append(journal: Journal, op: str, key: str, after: Row | None = None, **more: Any) -> int:
    """Append one event in a transaction of its own; answers with its position."""
    run, now = more.pop("run", 1), more.pop("now", None)
    with journal.write():
        return journal.append([new_event(journal, op, key, after, **more)], run, now)


# -- stores of any kind ---------------------------------------------------------------------------------

KINDS = ("memory", "sqlite", "csv", "json")
FIELDS = {"id": "str", "name": "str", "n": "int"}


def make(kind: str, name: str, folder: Path, *records: Row, **more: Any) -> Store:
    """A store of this kind that holds these things: id, name, n."""
    if kind == "memory":
        store = memory(name, **more)
    else:
        suffix = {"sqlite": "db"}.get(kind, kind)
        store = Store(name, f"{kind}:{name}.{suffix}", places={"thing": PlaceSpec()}, root=folder, **more)
    put(store, *records)
    return store


def put(store: Store, *records: Row) -> None:
    """Have a store hold just these things, behind everybody's back."""
    if store.scheme == "memory":
        held(store).clear()
        held(store).update({(record["id"],): dict(record) for record in records})
    elif store.scheme == "sqlite":
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("create table if not exists thing (id text primary key, name text, n)")
            connection.execute("delete from thing")
            for record in records:
                connection.execute(
                    "insert into thing values (?, ?, ?)", [record.get(name) for name in ("id", "name", "n")]
                )
    elif store.scheme == "csv":
        lines = [",".join(_cell(record.get(name)) for name in ("id", "name", "n")) for record in records]
        store.path.write_text("\n".join(["id,name,n", *lines]) + "\n", encoding="utf-8")
    else:
        lines = ",\n".join(json.dumps(record) for record in records)
        store.path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _cell(value: Any) -> str:
    return "" if value is None else f'"{value}"'


def content(store: Store) -> list[Row]:
    """What a store holds, typed, in order of the keys."""
    return sorted((found.fields for found in store.find("thing")), key=lambda fields: str(fields["id"]))


def events(synchronizer: Synchronizer, *names: str, **wanted: Any) -> list[tuple[Any, ...]]:
    """These columns of the journal's events."""
    return [tuple(event[name] for name in names) for event in synchronizer.log(**wanted)]


def dump(synchronizer: Synchronizer) -> list[str]:
    """All that the journal's file holds."""
    return list(synchronizer.journal().connection.iterdump())
