"""The invariants under random play: unlike stores, edited by ordinary means, in any order of rounds. Three of them are files;
the others, where they play as well, are tables of real servers.

The numbers are those of the invariants: 1 positions, 2 finality, 3 the fold, 4 exactly once, 5 a replayed store is
the state, 6 quiescence, 7 convergence, 8 no edit is lost, 9 guards, 12 dry runs.

What is predicted here is predicted from plain dictionaries: after edits in one store alone, everything is the record
as it was with just these edits; after edits in several, that all stores agree.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tables import DATABASES, Table

from accessors.json import JsonAccessor
from evsync import Data, Store, Synchronizer
from evsync.binding import Description, PlaceSpec, TypeSpec
from evsync.errors import GuardTripped, NotFound

PERSON = TypeSpec("person", ("code",), {"code": "str", "name": "str", "note": "str", "level": "int"})


class Web(JsonAccessor):
    """JSON objects of which it is known beforehand what they may have, whether or not any has it just now."""

    def describe(self, store: Store, type: str) -> Description | None:
        return Description(dict.fromkeys(PERSON.fields or ())) if self.file_of(store, type).exists() else None


def files_in(folder: Path) -> list[Store]:
    """A table that numbers its rows, a file of texts that lacks a field, and a file of objects."""
    table = PlaceSpec(fields={"name": "full_name"}, options={"table": "people"})
    part = PlaceSpec(fields={"level": "Level"}, only=("code", "name", "level"))
    return [
        Store("crm", "sqlite:crm.db", places={"person": table}, max_deletes="100%", root=folder),
        Store("list", "csv:list.csv", places={"person": part}, max_deletes="100%", root=folder),
        Store(
            "web",
            "json:web.json",
            places={"person": PlaceSpec()},
            accessor=Web(),
            max_deletes="100%",
            root=folder,
        ),
    ]


FIELDS: defaultdict[str, tuple[str, ...]] = defaultdict(lambda: ("name", "note", "level"))
FIELDS["list"] = ("name", "level")
FILES = {"crm": "crm.db", "list": "list.csv", "web": "web.json"}
KEYS = ("p", "q", "r/1")
TEXTS = ("Ann", " padded ", "a,b", 'quo"te', "two\nlines", "ü", "007", "null", "[1]")
NUMBERS = (0, 1, -7, 2**40)

Records = dict[str, dict[str, Any]]
"""Code → the other fields that have a value."""


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that are null: two of the stores cannot tell them from absent ones."""
    return {name: value for name, value in fields.items() if value is not None}


class Folder:
    """The stores, read and written as anybody would who never heard of evsync."""

    def __init__(self, path: Path, tables: Mapping[str, Table]) -> None:
        self.path, self.tables = path, tables
        with self.crm() as db:
            db.execute(
                "CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, code TEXT NOT NULL UNIQUE,"
                " full_name TEXT, note TEXT, level INTEGER, private TEXT DEFAULT 'x')"
            )
        self.write_list([])
        self.write_web([])

    def crm(self) -> Any:
        return _committing(self.path / "crm.db")

    def read_list(self) -> list[dict[str, Any]]:
        with (self.path / "list.csv").open(newline="", encoding="utf-8") as file:
            delimiter = ";" if ";" in file.readline() else ","
            file.seek(0)
            rows = csv.DictReader(file, delimiter=delimiter)
            return [{k: None if v == "" else v for k, v in row.items() if k != "extra"} for row in rows]

    def write_list(self, rows: list[dict[str, Any]]) -> None:
        with (self.path / "list.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["code", "Level", "name"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def read_web(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.path / "web.json").read_text(encoding="utf-8"))
        return found

    def write_web(self, rows: list[dict[str, Any]]) -> None:
        (self.path / "web.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")

    def read(self, store: str) -> Records:
        if store == "crm":
            with self.crm() as db:
                rows = db.execute("SELECT code, full_name, note, level FROM people").fetchall()
            found = [dict(zip(("code", "name", "note", "level"), row, strict=True)) for row in rows]
        elif store in self.tables:
            found = self.tables[store].read()
        elif store == "list":
            found = [
                {
                    "code": r["code"],
                    "name": r["name"],
                    "level": None if r["Level"] is None else int(r["Level"]),
                }
                for r in self.read_list()
            ]
        else:
            found = [dict(row) for row in self.read_web()]
        records = {row.pop("code"): filled(row) for row in found}
        assert len(records) == len(found), f"{store} holds one record twice: {found}"
        return records

    def put(self, store: str, code: str, field: str, value: Any) -> None:
        if store == "crm":
            column = "full_name" if field == "name" else field
            with self.crm() as db:
                db.execute("INSERT OR IGNORE INTO people (code) VALUES (?)", (code,))
                db.execute(f"UPDATE people SET {column} = ? WHERE code = ?", (value, code))
        elif store in self.tables:
            self.tables[store].put(code, field, value)
        elif store == "list":
            rows = self.read_list()
            row = next((r for r in rows if r["code"] == code), None)
            if row is None:
                row = {"code": code}
                rows.append(row)
            row["Level" if field == "level" else field] = value
            self.write_list(rows)
        else:
            objects = self.read_web()
            one = next((r for r in objects if r["code"] == code), None)
            if one is None:
                one = {"code": code}
                objects.insert(0, one)
            if value is None and field in one and len(objects) % 2:
                del one[field]
            else:
                one[field] = value
            self.write_web(objects)

    def delete(self, store: str, code: str) -> None:
        if store == "crm":
            with self.crm() as db:
                db.execute("DELETE FROM people WHERE code = ?", (code,))
        elif store in self.tables:
            self.tables[store].delete(code)
        elif store == "list":
            self.write_list([r for r in self.read_list() if r["code"] != code])
        else:
            self.write_web([r for r in self.read_web() if r["code"] != code])

    def empty(self, store: str) -> Callable[[], Any]:
        """Take everything away; answers with the way to put it back."""
        if store in self.tables:
            return self.tables[store].empty()
        path = self.path / FILES[store]
        held = path.read_bytes()
        if store == "crm":
            with self.crm() as db:
                db.execute("DELETE FROM people")
        elif store == "list":
            self.write_list([])
        else:
            self.write_web([])
        return lambda: path.write_bytes(held)

    def rewrite(self, store: str, seed: int) -> None:
        """The same content, otherwise written."""
        shuffle = random.Random(seed).shuffle
        if store == "crm":
            with self.crm() as db:
                db.execute("UPDATE people SET private = private || 'x'")
        elif store in self.tables:
            self.tables[store].rewrite()
        elif store == "list":
            rows = self.read_list()
            shuffle(rows)
            with (self.path / "list.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\r\n", delimiter=";")
                writer.writerow(["name", "extra", "code", "Level"])
                writer.writerows([r["name"], "e", r["code"], r["Level"]] for r in rows)
            if seed % 2:
                self.write_list(rows)
        else:
            objects = self.read_web()
            shuffle(objects)
            turned = [dict(reversed(one.items())) for one in objects]
            (self.path / "web.json").write_text(json.dumps(turned), encoding="utf-8")

    def stamps(self) -> dict[str, Any]:
        """What is another thing after every write to a store: bytes and modification times, versions of rows."""
        files = {
            store: ((self.path / name).read_bytes(), (self.path / name).stat().st_mtime_ns)
            for store, name in FILES.items()
        }
        return files | {store: table.stamp() for store, table in self.tables.items()}

    def journal_dump(self) -> str:
        """All that the journal's file says."""
        with closing(sqlite3.connect(self.path / "evsync.db")) as db:
            return "\n".join(db.iterdump())


class _committing:
    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path)

    def __enter__(self) -> sqlite3.Connection:
        return self.db

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.db.commit()
        self.db.close()


def within(records: Records, store: str) -> Records:
    """What a store can hold of these records."""
    return {code: {n: v for n, v in fields.items() if n in FIELDS[store]} for code, fields in records.items()}


stores = st.runner().flatmap(lambda play: st.sampled_from(play.names))
keys = st.sampled_from(KEYS)
texts = st.one_of(st.none(), st.sampled_from(TEXTS))
numbers = st.one_of(st.none(), st.sampled_from(NUMBERS))
field_values = st.one_of(
    st.tuples(st.just("name"), texts), st.tuples(st.just("note"), texts), st.tuples(st.just("level"), numbers)
)


class Play(RuleBasedStateMachine):
    """Everything that people and evsync may do to the stores, one thing after the other. `urls`: a database for each store
    that is a table of a server, under its kind and name."""

    urls: ClassVar[Mapping[tuple[str, str], str]] = {}

    def __init__(self) -> None:
        super().__init__()
        tables = {name: Table(kind, url) for (kind, name), url in self.urls.items()}
        self.names = (*FILES, *tables)
        self.folder = Folder(Path(tempfile.mkdtemp(prefix="evsync-")), tables)
        self.open()
        self.hashes: list[bytes] = []
        self.dirty: set[str] = set()  # stores edited since they were last ingested
        self.edited: set[str] = set()  # stores edited since all stores agreed
        self.agreed: Records = {}  # what all stores held when they last agreed
        self.at_agreement: dict[str, Records] = {store: {} for store in self.names}
        self.behind: set[str] = set()  # stores taken back to the past since then
        self.observed: set[tuple[str, str, Any]] = set()  # (key, field, value) seen by an ingest
        self.renamed: dict[str, str] = {}  # code that the table gave later on → key
        self.count = 0

    def open(self) -> None:
        path = self.folder.path
        tables = [table.store(name, path) for name, table in self.folder.tables.items()]
        self.sync = Synchronizer([*files_in(path), *tables], [PERSON], path / "evsync.db")

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.sync.remove_capture([name for name in self.names if self.feeds(name)])
            self.sync.close()
            shutil.rmtree(self.folder.path)

    def feeds(self, store: str) -> bool:
        """Whether each step is told there, not only the last state."""
        return store in self.folder.tables and self.folder.tables[store].database.feeds

    # -- people at work --------------------------------------------------------------------------------

    def touch(self, store: str) -> None:
        self.dirty.add(store)
        self.edited.add(store)

    def code_in(self, store: str, key: str) -> str | None:
        """What the record `key` is called in the store; None if it is not there."""
        held = self.folder.read(store)
        return next((code for code in (key, *self.renamed) if code in held and self.key(code) == key), None)

    def key(self, code: str) -> str:
        return self.renamed.get(code, code)

    @rule(store=stores, key=keys, field_value=field_values)
    def edit(self, store: str, key: str, field_value: tuple[str, Any]) -> None:
        field, value = field_value
        code = self.code_in(store, key)
        if field not in FIELDS[store] or (code is None and key in self.renamed.values()):
            return  # who gives a record another code does not take the old one for another record
        self.folder.put(store, code or key, field, value)
        self.touch(store)

    @rule(store=stores, key=keys)
    def delete(self, store: str, key: str) -> None:
        code = self.code_in(store, key)
        if code is not None:
            self.folder.delete(store, code)
            self.touch(store)

    @rule(key=keys)
    def rename(self, key: str) -> None:
        """Another code for a record that is known, and whose id the table keeps."""
        if "crm" in self.dirty:
            self.ingest("crm")
        code = self.code_in("crm", key)
        if code is not None:
            self.count += 1
            new = f"new{self.count}"
            self.renamed[new] = key
            with self.folder.crm() as db:
                db.execute("UPDATE people SET code = ? WHERE code = ?", (new, code))
            self.touch("crm")

    @rule(store=stores, seed=st.integers(0, 9))
    def rewrite(self, store: str, seed: int) -> None:
        """Other lines, other order, other columns that nobody asked for: no change."""
        self.folder.rewrite(store, seed)
        if store not in self.dirty:
            self.nothing_new(store)

    @rule(by=st.sampled_from([100, 1]))
    def renumber(self, by: int) -> None:
        """Other ids for the same content are no change. (With other content, or if the code was changed before,
        nothing would tell that it is the same record.)"""
        if "crm" in self.dirty or self.renamed.keys() & self.folder.read("crm").keys():
            return
        with self.folder.crm() as db:
            for (id,) in db.execute("SELECT id FROM people ORDER BY id DESC").fetchall():
                db.execute("UPDATE people SET id = ? WHERE id = ?", (id + by, id))
            db.execute("UPDATE sqlite_sequence SET seq = seq + ?", (by,))
        self.nothing_new("crm")

    # -- through the API -------------------------------------------------------------------------------

    @rule(store=stores, key=keys, field_value=field_values)
    def api_put(self, store: str, key: str, field_value: tuple[str, Any]) -> None:
        field, value = field_value
        if field not in FIELDS[store] or (self.code_in(store, key) is None and key in self.renamed.values()):
            return
        before, code = self.head(), self.code_in(store, key)
        if code is not None:
            self.see(store, only=code)
        operated = self.sync.stores[store]
        held = self.folder.read(store).get(code or key)
        if held is None:
            operated.add(Data("person", {"code": key, field: value}), actor="ann")
        else:
            operated.update(Data("person", {"code": code, field: value}), actor="ann")
        self.edited.add(store)
        self.see(store, only=code or key)
        told = [event for event in self.log() if event["seq"] > before]
        if held is None:
            exists = any(event["key"] == key and event["after"] for event in self.log()[:before])
            assert told or exists  # to add what is known from elsewhere, and alike, is no event
        elif held.get(field) != value:
            assert told and told[-1]["actor"] == "ann" and told[-1]["store"] == store, told

    @rule(store=stores, key=keys)
    def api_remove(self, store: str, key: str) -> None:
        code = self.code_in(store, key)
        if code is None:
            return
        before = self.head()
        self.see(store, only=code)
        self.sync.stores[store].remove(Data("person", {"code": code}), actor="bob")
        self.edited.add(store)
        told = [event for event in self.log() if event["seq"] > before]
        assert told[-1]["op"] == "delete" and told[-1]["actor"] == "bob"

    # -- evsync at work --------------------------------------------------------------------------------

    def see(self, store: str, only: str | None = None) -> None:
        """Note what an ingest is about to see."""
        for code, fields in self.folder.read(store).items():
            if only is None or code == only:
                self.observed |= {(self.key(code), field, value) for field, value in fields.items()}

    @rule(store=stores)
    def ingest(self, store: str) -> None:
        before = self.folder.stamps()
        self.see(store)
        report = self.sync.ingest([store], allow_deletes=True)
        assert report["ok"], report
        self.dirty.discard(store)
        assert self.folder.stamps() == before, "an ingest wrote to a store"
        self.nothing_new(store)

    def nothing_new(self, store: str) -> None:
        """4: what was ingested is not ingested again."""
        head = self.head()
        report = self.sync.ingest([store], allow_deletes=True)
        assert report["ok"] and report["first"] is None and self.head() == head, (report, self.log()[head:])

    @rule(store=stores)
    def replay(self, store: str) -> None:
        head, others = self.head(), self.folder.stamps()
        report = self.sync.replay([store])
        self.behind.discard(store)
        self.replayed(store, report, self.head())
        assert self.head() == head, "a replay journalled something"
        del others[store]
        assert {s: v for s, v in self.folder.stamps().items() if s != store} == others

    @rule(store=stores, share=st.floats(0, 1), each=st.booleans())
    def replay_until(self, store: str, share: float, each: bool) -> None:
        until = round(share * self.head())
        report = self.sync.replay([store], until=until, each=each)
        self.behind.add(store)
        self.replayed(store, report, until)

    def replayed(self, store: str, report: Any, until: int) -> None:
        """5: a store that was replayed, and was not edited meanwhile, holds the state."""
        assert report["ok"], report
        [entry] = [one for one in report["stores"] if one["store"] == store]
        assert entry["failed"] == 0, report
        assert entry["cursor"] == until
        if store not in self.dirty:
            assert entry["skipped"] == 0, report
            assert self.folder.read(store) == within(self.state(until), store)

    @rule()
    def sync_all(self) -> None:
        for store in self.names:
            self.see(store)
        report = self.sync.sync(allow_deletes=True)
        assert report["ok"], report
        self.dirty.clear()
        for store in self.names:
            assert self.folder.read(store) == within(self.state(), store)
        self.predict()
        self.behind.clear()

    def predict(self) -> None:
        """After edits in one store alone: every record as it was, with just these edits."""
        if len(self.edited) > 1 or self.behind:
            return
        expected = {code: dict(fields) for code, fields in self.agreed.items()}
        for store in self.edited:
            was = {self.key(code): (code, fields) for code, fields in self.at_agreement[store].items()}
            now = {self.key(code): (code, fields) for code, fields in self.edits.items()}
            old = {self.key(code): (code, fields) for code, fields in expected.items()}
            for key in was.keys() - now.keys():
                old.pop(key, None)
            for key, (code, fields) in now.items():
                record = dict(old.get(key, (code, {}))[1])
                for field in FIELDS[store]:
                    if key not in was or fields.get(field) != was[key][1].get(field):
                        record[field] = fields.get(field)
                old[key] = (code if store == "crm" else old.get(key, (code, {}))[0], filled(record))
            expected = dict(old.values())
        assert self.state() == expected

    @rule()
    def settle(self) -> None:
        """6 and 7: after two rounds all agree, and a third one finds nothing to do."""
        for store in self.names:
            self.see(store)
        for _ in range(2):
            report = self.sync.sync(allow_deletes=True)
            assert report["ok"], report
        head, before = self.head(), self.folder.stamps()
        report = self.sync.sync()
        assert report["ok"], report
        assert self.head() == head, f"not at rest: {self.log()[head:]}"
        assert self.folder.stamps() == before, "not at rest: a store was written"
        for entry in report["replay"]["stores"]:
            assert not any(entry[what] for what in ("created", "updated", "deleted", "skipped", "failed"))
        state = self.state()
        for store in self.names:
            assert self.folder.read(store) == within(state, store), store
        self.dirty.clear()
        self.edited.clear()
        self.behind.clear()
        self.agreed = state
        self.at_agreement = {store: self.folder.read(store) for store in self.names}

    @property
    def edits(self) -> Records:
        [store] = self.edited
        return self.folder.read(store)

    @precondition(lambda self: not self.edited and not self.behind)
    @rule(
        store=stores, changes=st.lists(st.tuples(keys, field_values, st.booleans()), min_size=1, max_size=4)
    )
    def one_at_a_time(self, store: str, changes: list[tuple[str, tuple[str, Any], bool]]) -> None:
        """Edits in one store alone, and a round: everywhere just these edits, no conflict, nothing written back."""
        if self.folder.read(store) != within(self.agreed, store):
            return
        for key, (field, value), remove in changes:
            if remove:
                self.delete(store, key)
            else:
                self.edit(store, key, (field, value))
        head, stamp = self.head(), self.folder.stamps()[store]
        self.sync_all()
        assert not [event for event in self.log()[head:] if event["conflict"]]
        assert {event["store"] for event in self.log()[head:]} <= {store}
        assert self.folder.stamps()[store] == stamp, "a change went back to the store it came from"
        self.settle()

    @rule(store=stores)
    def empty(self, store: str) -> None:
        """9: a store that is suddenly empty stops the run, before anything was journalled or written."""
        self.ingest(store)
        if not self.folder.read(store) or self.feeds(store):
            return
        give_back = self.folder.empty(store)
        before, stamps = self.folder.journal_dump(), self.folder.stamps()
        for run in (lambda: self.sync.ingest([store]), self.sync.ingest, self.sync.sync):
            with pytest.raises(GuardTripped) as stopped:
                run()
            assert stopped.value.document and not stopped.value.document["ok"]
        assert self.folder.journal_dump() == before
        assert self.folder.stamps() == stamps
        give_back()
        self.nothing_new(store)

    @rule(store=stores)
    def dry_ingest(self, store: str) -> None:
        """12: a rehearsed ingest tells what the real one does, and leaves no trace."""
        dump, stamps, files = self.folder.journal_dump(), self.folder.stamps(), self.files()
        told = self.sync.ingest([store], dry_run=True, allow_deletes=True)
        assert (self.folder.journal_dump(), self.folder.stamps(), self.files()) == (dump, stamps, files)
        assert told["run"] is None
        self.see(store)
        done = self.sync.ingest([store], allow_deletes=True)
        self.dirty.discard(store)
        assert told["stores"] == done["stores"]
        assert (told["first"], told["last"]) == (done["first"], done["last"])

    @rule(store=stores, share=st.one_of(st.none(), st.floats(0, 1)))
    def dry_replay(self, store: str, share: float | None) -> None:
        """12: a rehearsed replay tells what the real one writes, and leaves no trace."""
        until = None if share is None else round(share * self.head())
        dump, stamps, files = self.folder.journal_dump(), self.folder.stamps(), self.files()
        told = self.sync.replay([store], until=until, dry_run=True)
        assert (self.folder.journal_dump(), self.folder.stamps(), self.files()) == (dump, stamps, files)
        before = self.folder.read(store)
        done = self.sync.replay([store], until=until)
        self.behind.add(store)
        self.replayed(store, done, self.head() if until is None else until)
        if store in self.dirty:  # what was edited since its ingest is left alone when it comes to writing
            return
        [planned], [written] = told["stores"], done["stores"]
        counts = ("created", "updated", "deleted", "skipped", "failed")
        assert {n: planned[n] for n in counts} == {n: written[n] for n in counts}
        for action, count in (("create", "created"), ("update", "updated"), ("delete", "deleted")):
            assert sum(step["action"] == action for step in planned["plan"]) == written[count]
        after = self.folder.read(store)
        touched = {code for code in before.keys() | after.keys() if before.get(code) != after.get(code)}
        assert {self.key(code) for code in touched} <= {step["key"] for step in planned["plan"]}

    @rule(store=stores)
    def rebuild(self, store: str) -> None:
        """5, also of a store that drifted: it is brought to the state, whatever it held."""
        report = self.sync.replay([store], rebuild=True, allow_deletes=True)
        assert report["ok"], report
        assert self.folder.read(store) == within(self.state(), store)
        self.dirty.discard(store)
        self.behind.discard(store)
        self.nothing_new(store)

    @rule()
    def reopen(self) -> None:
        self.sync.close()
        self.open()

    # -- always ----------------------------------------------------------------------------------------

    def files(self) -> set[str]:
        return {path.name for path in self.folder.path.iterdir()}

    def log(self) -> list[dict[str, Any]]:
        return list(self.sync.log())

    def head(self) -> int:
        return self.sync.journal().head().seq

    def state(self, until: int | None = None) -> Records:
        """The fold, by hand: each record's last `after`."""
        last: dict[str, Any] = {}
        for event in self.log():
            if until is None or event["seq"] <= until:
                last[event["key"]] = event["after"]
        records: Records = {}
        for fields in last.values():
            if fields is not None:
                record = filled(fields)
                code = record.pop("code")
                assert code not in records
                records[code] = record
        return records

    @invariant()
    def contiguous_and_final(self) -> None:
        """1 and 2: positions 1, 2, 3 …; what was hashed stays as it was hashed; the chain holds."""
        rows = self.sync.journal().connection.execute("SELECT seq, hash FROM event ORDER BY rowid").fetchall()
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        hashes = [hash for _, hash in rows]
        assert hashes[: len(self.hashes)] == self.hashes
        self.hashes = hashes
        told = self.sync.verify()
        assert told["ok"] and told["events"] == told["head"] == len(rows), told

    @invariant()
    def state_is_the_fold(self) -> None:
        """3: the record at n is what the last event up to n says."""
        events = self.log()
        for n in {len(events), len(events) // 2}:
            for key in {event["key"] for event in events}:
                about = [event for event in events if event["key"] == key and event["seq"] <= n]
                try:
                    told = self.sync.show("person", key, at=n)
                except NotFound:
                    told = {"fields": None, "seq": 0}
                assert told["fields"] == (about[-1]["after"] if about else None), (key, n)

    @invariant()
    def nothing_is_lost(self) -> None:
        """8: every value that an ingest saw stands in the journal."""
        told: set[tuple[str, str, Any]] = set()
        for event in self.log():
            for fields in (event["after"], event["before"]):
                told |= {(event["key"], field, value) for field, value in (fields or {}).items()}
            for field, sides in ((event["conflict"] or {}).get("fields") or {}).items():
                told |= {(event["key"], field, value) for value in sides.values()}
        assert self.observed <= told, self.observed - told


def play(examples: int, steps: int, *kinds: str) -> None:
    """With a table of each of these kinds of databases beside the three files."""
    with ExitStack() as stack:
        urls = {
            (kind, f"table{n}"): stack.enter_context(DATABASES[kind].place()) for n, kind in enumerate(kinds)
        }
        run_state_machine_as_test(
            type("Play", (Play,), {"urls": urls}),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_invariants_hold_under_random_play() -> None:
    """1 to 9 and 12."""
    play(14, 25)


@pytest.mark.slow
def test_invariants_hold_under_long_random_play() -> None:
    """The same over longer stretches."""
    play(40, 60)


@pytest.mark.parametrize("kind", DATABASES)
def test_invariants_hold_with_a_table_of_a_server_in_play(kind: str) -> None:
    play(3, 10, kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds", [("postgresql", "mariadb"), ("postgresql wal", "mariadb"), ("postgresql", "postgresql wal")]
)
def test_invariants_hold_under_long_random_play_with_two_servers(kinds: tuple[str, ...]) -> None:
    """SQLite, CSV and JSON files, and two servers, in one synchronizer."""
    play(8, 40, *kinds)
