"""Three unlike stores, the people who work with them, and all that may go wrong between them and evsync.

`crm` numbers its rows, `list` lacks a field, `web` trims and rounds whatever it is given.
"""

from __future__ import annotations

import csv
import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from oracle import Place, Policies, Record

from accessors.csv import CsvAccessor
from accessors.memory import MemoryAccessor
from accessors.postgres import PostgresAccessor
from accessors.sqlite import SqliteAccessor
from evsync import Data, Store, Synchronizer
from evsync.accessor import Accessor, Change, Outcome, Row
from evsync.binding import PlaceSpec, TypeSpec
from evsync.errors import Refused, Retry, Unreachable
from evsync.journal.journal import Journal
from evsync.projections.merge import Rules

STORES = ("crm", "list", "web")
FIELDS = ("code", "name", "note", "score")
PERSON = TypeSpec("person", ("code",), {"code": "str", "name": "str", "note": "str", "score": "float"})


def with_nulls(names: Sequence[str]) -> Any:
    """A store with columns: what a record does not have is null there."""
    return lambda record: {name: record.get(name) for name in names}


def trimmed(record: Record) -> Record:
    """Texts without blanks around them, numbers to one digit."""
    return {
        name: value.strip() if isinstance(value, str) else round(value, 1) if value is not None else None
        for name, value in record.items()
    }


PLACES = {
    "crm": Place(FIELDS, with_nulls(FIELDS), numbers=True),
    "list": Place(("code", "name", "score"), with_nulls(("code", "name", "score")), dated=False, still=True),
    "web": Place(FIELDS, trimmed),
}


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Faults:
    """What goes wrong in one run. `writes`: store → code → what happens to each attempt to write that record:
    refused, retry, or lost (it is written, but the answer does not come). `unreachable`: (store, at which write,
    whether just behind it). `unread`: a store that cannot be read once. `kill`: (at a write or a commit, which one,
    whether just behind it)."""

    writes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    unreachable: tuple[str, int, bool] | None = None
    unread: str | None = None
    kill: tuple[str, int, bool] | None = None


class Weather:
    """The faults of the run in hand, and how far it came."""

    def __init__(self) -> None:
        self.set(Faults())

    def set(self, faults: Faults) -> None:
        self.faults = faults
        self.waiting = {
            (store, code): list(kinds)
            for store, codes in faults.writes.items()
            for code, kinds in codes.items()
        }
        self.unread = faults.unread
        self.steps: dict[str, int] = {}

    def next(self, store: str, code: Any) -> str | None:
        kinds = self.waiting.get((store, code))
        return kinds.pop(0) if kinds else None

    def reading(self, store: str) -> None:
        if self.unread == store:
            self.unread = None
            raise Unreachable(f"store {store!r} does not answer")

    @contextmanager
    def writing(self, store: str) -> Iterator[None]:
        """Around each call that writes to a store."""
        number = self.count("write")
        self.count(store)
        self._break("write", number, False, store)
        yield
        self._break("write", number, True, store)

    def commit(self, number: int, behind: bool) -> None:
        """Called before and behind each commit of the journal."""
        self._break("commit", number, behind)

    def _break(self, kind: str, number: int, behind: bool, store: str | None = None) -> None:
        if store is not None and self.faults.unreachable == (store, self.steps[store], behind):
            raise Unreachable(f"store {store!r} went away")
        if self.faults.kill == (kind, number, behind):
            raise Killed

    def count(self, what: str) -> int:
        self.steps[what] = self.steps.get(what, 0) + 1
        return self.steps[what]


class Batches:
    """Faults for an accessor that writes in batches."""

    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self.weather = weather

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]:
        self.weather.reading(store.name)
        return super().scan(store, type)  # type: ignore[misc,no-any-return]

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        errors: dict[int, Exception] = {}
        with self.weather.writing(store.name):
            faulty = [self._faulty(store, number, one, errors) for number, one in enumerate(changes)]
            outcomes: list[Outcome] = super().apply(store, type, faulty)  # type: ignore[misc]
        return [
            Outcome("failed", error=errors[number]) if number in errors else outcome
            for number, outcome in enumerate(outcomes)
        ]

    @contextmanager
    def loading(self, store: Store, type: str) -> Iterator[None]:
        """Each record may meet a fault of its own, so none goes in a crowd."""
        yield None

    def _faulty(self, store: Store, number: int, change: Change, errors: dict[int, Exception]) -> Change:
        def judge(row: Row | None) -> Any:
            verdict = change.judge(row)
            fault = self.weather.next(store.name, change.name["code"]) if verdict == "write" else None
            if fault is not None:
                errors[number] = trouble(fault)
            return "changed" if fault in ("refused", "retry") else verdict

        return Change(change.action, change.id, change.name, change.values, judge)


def trouble(fault: str) -> Exception:
    return Refused("no") if fault == "refused" else Retry("not now")


class Crm(Batches, SqliteAccessor):
    pass


class Served(Batches, PostgresAccessor):
    pass


class List(Batches, CsvAccessor):
    pass


class Web(MemoryAccessor):
    """Trims and rounds what it is given; one record at a time."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        self.weather.reading(store.name)
        yield from super().find(store, type, match)

    def add(self, store: Store, data: Data) -> Data:
        data = Data(data.type, tidy(data.fields), id=data.id)
        with self._faulty(store, data.fields["code"]):
            return super().add(store, data)

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        assert old is not None
        data = Data(data.type, tidy(data.fields), id=data.id)
        with self._faulty(store, old.fields["code"]):
            return super().update(store, data, old)

    def remove(self, store: Store, data: Data) -> None:
        with self._faulty(store, data.fields["code"]):
            super().remove(store, data)

    @contextmanager
    def _faulty(self, store: Store, code: str) -> Iterator[None]:
        fault = self.weather.next(store.name, code)
        with self.weather.writing(store.name):
            if fault in ("refused", "retry"):
                raise trouble(fault)
            yield
        if fault == "lost":
            raise trouble(fault)


def tidy(fields: Mapping[str, Any]) -> Record:
    return {
        n: v.strip() if isinstance(v, str) else round(v, 1) if isinstance(v, float) else v
        for n, v in fields.items()
    }


class Scene:
    """The stores in a folder, and a synchronizer over them that may be killed. `server`: the URL of a PostgreSQL database in
    which `crm` is a table then; else it is one of SQLite's."""

    def __init__(self, folder: Path, policies: Policies, server: str | None = None) -> None:
        self.folder, self.policies, self.server = folder, policies, server
        self.weather = Weather()
        self.web: dict[Any, Record] = {}
        self.people = "people" if server is None else f"people_{next(_numbers)}"
        id = "INTEGER PRIMARY KEY AUTOINCREMENT" if server is None else "serial PRIMARY KEY"
        with self._crm() as db:
            db.execute(
                f"CREATE TABLE {self.people} (id {id}, code TEXT NOT NULL UNIQUE,"
                " name TEXT, note TEXT, score DOUBLE PRECISION, at TEXT)"
            )
        self._write_list([])
        self.open()

    def open(self) -> None:
        web = {"records": {"person": self.web}}
        place = PlaceSpec(options={"table": self.people}, changed_at="at")
        part = PlaceSpec(only=("code", "name", "score"))
        crm: tuple[str, Accessor] = ("sqlite:crm.db", Crm(self.weather))
        if self.server is not None:
            crm = self.server, Served(self.weather)
        stores = [
            Store("crm", crm[0], places={"person": place}, accessor=crm[1], root=self.folder),
            Store("list", "csv:list.csv", places={"person": part}, accessor=List(self.weather), root=self.folder),
            Store(
                "web", "memory:", places={"person": PlaceSpec(changed_at="at")}, accessor=Web(self.weather),
                options=web,
            ),
        ]  # fmt: skip
        rules = Rules(
            fields=self.policies.fields,
            delete=self.policies.delete,  # type: ignore[arg-type]
            adopt=self.policies.adopt,
            prefer=self.policies.prefer,
        )
        self.sync = Synchronizer(stores, [PERSON], self.folder / "evsync.db", rules={"person": rules})

    # -- people ----------------------------------------------------------------------------------------

    def _crm(self) -> Any:
        return _committing(self.folder / "crm.db") if self.server is None else _served(self.server)

    def _read_list(self) -> list[Record]:
        with (self.folder / "list.csv").open(newline="", encoding="utf-8") as file:
            return [{n: v or None for n, v in row.items()} for row in csv.DictReader(file)]

    def _write_list(self, rows: Sequence[Record]) -> None:
        with (self.folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["code", "score", "name"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def put(self, store: str, code: str, fields: Record, at: str | None) -> None:
        """Create a record, or change these fields of it."""
        if store == "crm":
            with self._crm() as db:
                there = f"SELECT 1 FROM {self.people} WHERE code = ?"
                if db.execute(there, (code,)).fetchone() is None:
                    db.execute(f"INSERT INTO {self.people} (code) VALUES (?)", (code,))
                for name, value in {**fields, "at": at}.items():
                    key = code if name == "code" else fields.get("code", code)
                    db.execute(
                        f"UPDATE {self.people} SET {name} = ? WHERE code IN (?, ?)", (value, code, key)
                    )
        elif store == "list":
            rows = self._read_list()
            row = next((row for row in rows if row["code"] == code), None)
            if row is None:
                rows.append(row := {"code": code})
            row.update(fields)
            self._write_list(rows)
        else:
            self.web[(code,)] = trimmed({**self.web.get((code,), {"code": code}), **fields, "at": at})

    def remove(self, store: str, code: str) -> None:
        if store == "crm":
            with self._crm() as db:
                db.execute(f"DELETE FROM {self.people} WHERE code = ?", (code,))
        elif store == "list":
            self._write_list([row for row in self._read_list() if row["code"] != code])
        else:
            self.web.pop((code,), None)

    def holds(self, store: str) -> dict[str, Record]:
        """What a store holds, by code."""
        if store == "crm":
            with self._crm() as db:
                rows = db.execute(f"SELECT code, name, note, score FROM {self.people}").fetchall()
            found = [dict(zip(FIELDS, row, strict=True)) for row in rows]
        elif store == "list":
            found = [
                {**row, "score": None if row["score"] is None else float(row["score"])}
                for row in self._read_list()
            ]
        else:
            found = [{n: v for n, v in row.items() if n != "at"} for row in self.web.values()]
        records = {row["code"]: row for row in found}
        assert len(records) == len(found), f"{store} holds one record twice: {found}"
        return records

    # -- evsync ----------------------------------------------------------------------------------------

    def run(self, command: str, faults: Faults | None = None, **options: Any) -> Any:
        """What a run answers; None if it was killed, and the next one is another process."""
        self.weather.set(faults or Faults())
        real, weather = Journal.write, self.weather

        @contextmanager
        def write(journal: Journal) -> Iterator[None]:
            number = weather.count("commit")
            with real(journal):
                yield
                weather.commit(number, False)
            weather.commit(number, True)

        Journal.write = write  # type: ignore[method-assign]
        try:
            return getattr(self.sync, command)(**options)
        except Killed:
            self.sync.close()
            self.open()
            return None
        finally:
            Journal.write = real  # type: ignore[method-assign]
            self.weather.set(Faults())

    def events(self) -> list[tuple[Any, ...]]:
        """(op, store, key, after, open) of each event."""
        return [
            (e["op"], e["store"], e["key"], e["after"], bool((e["conflict"] or {}).get("open")))
            for e in self.sync.log()
        ]

    def resolve(self, key: str, take: str | None = None, fields: Record | None = None) -> Any:
        """Decide by hand: take a store's side, or set fields, or keep the record as it is."""
        keep = take is None and not fields
        return self.sync.resolve("person", key, take=take, set=fields, keep=keep)

    def undo(self, seq: int) -> Any:
        return self.sync.undo(seq)

    def trace(self) -> tuple[Any, ...]:
        """All that may not change when nothing is done."""
        with closing(sqlite3.connect(self.folder / "evsync.db")) as db:
            dump = list(db.iterdump())
        crm: Any = self.folder / "crm.db"
        if self.server is None:
            crm = crm.read_bytes()
        else:
            with self._crm() as db:
                crm = db.execute(f"SELECT ctid, xmin, * FROM {self.people} ORDER BY id").fetchall()
        return dump, crm, (self.folder / "list.csv").read_bytes(), str(self.web)

    def close(self) -> None:
        self.sync.close()
        if self.server is not None:
            with self._crm() as db:
                db.execute(f"DROP TABLE {self.people}")


_numbers = itertools.count(1)


class _committing:
    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)

    def __enter__(self) -> sqlite3.Connection:
        return self.db

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.db.commit()
        self.db.close()


@contextmanager
def _served(url: str) -> Iterator[Any]:
    """The same with a server, which marks values otherwise."""

    class Marked(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
            return super().execute(query.replace("?", "%s"), params, **more)

    with psycopg.connect(url, cursor_factory=Marked) as connection:
        yield connection
