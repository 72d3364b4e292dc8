"""A store filled in whole batches holds, and is known to hold, what records written one by one would leave."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from projects import did, entry, sql, synchronizer

from accessors.sqlite import SqliteAccessor
from accessors.sqlite_loading import Loading
from evsync.projections import filling
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.thing]
key = ["code"]
[types.thing.fields]
code = "str"
name = "str"
n = "int"
size = "float"
price = "decimal"
ok = "bool"
day = "date"
more = "json"
raw = "bytes"
[stores.lines]
url = "json:things.json"
[stores.lines.types.thing]
[stores.copy]
url = "sqlite:copy.db"
[stores.copy.types.thing]
{options}
"""

WHOLE = """{"code": "%s", "name": "%s", "n": %s, "size": 1.5, "price": "1.50", "ok": true, "day": "2026-01-31",
 "more": {"a": [1, null]}, "raw": "AAE="}"""


def things(*more: str) -> str:
    return "[" + ",".join([*(WHOLE % (f"k{n:02}", f"N'{n}", n) for n in range(12)), *more]) + "]"


def opened(folder: Path, held: str | None = None, options: str = "", ddl: str | None = None) -> Synchronizer:
    folder.mkdir(exist_ok=True)
    (folder / "things.json").write_text(things() if held is None else held)
    if ddl is not None:
        sql(folder / "copy.db", ddl)
    return synchronizer(folder, CONFIG.format(options=options))


def state(folder: Path) -> tuple[Any, ...]:
    """What the table holds, and what is remembered of it."""
    remembered = (
        "SELECT key, seq, fingerprint, id, in_line, content FROM replica WHERE binding = 2 ORDER BY key"
    )
    columns = "code, name, n, size, price, ok, day, more, raw"
    table = sql(folder / "copy.db", f"SELECT {columns}, typeof(price), typeof(ok) FROM thing ORDER BY code")
    return table, sql(folder / "evsync.db", remembered)


@contextmanager
def never(self: SqliteAccessor, store: Any, type: Any) -> Iterator[None]:
    yield None


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "BATCH", 5)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How each batch went."""
    told: list[bool] = []
    call = Loading.__call__

    def noted(self: Loading, rows: Any) -> bool:
        told.append(call(self, rows))
        return told[-1]

    monkeypatch.setattr(Loading, "__call__", noted)
    return told


def replayed(folder: Path, **given: Any) -> dict[str, int]:
    with opened(folder, **given) as sync:
        sync.ingest(["lines"])
        done = did(sync.replay(["copy"]), "copy")
        assert did(sync.ingest(["copy"]), "copy").keys() <= {"unchanged"}
        assert not did(sync.replay(["copy"]), "copy")
        return done


LACKING = '{"code": "lacking", "name": "x"}'
AGAIN = WHOLE % ("again", "N'3", 3)


@pytest.mark.parametrize(
    ("given", "batches"),
    [
        ({}, [True, True, True]),
        ({"options": 'fields = { name = "title" }'}, [True, True, True]),
        ({"held": things(LACKING)}, [True, True, True]),
        ({"held": things(WHOLE % ("big", "b", 2**70))}, [False, True, True]),
        ({"ddl": "CREATE TABLE thing (code TEXT PRIMARY KEY, name TEXT UNIQUE, n INTEGER, size REAL,"
                 " price DECIMAL TEXT, ok BOOLEAN, day DATE TEXT, more JSON TEXT, raw BLOB)",
          "held": things(AGAIN)}, [False, True, True]),
    ],
    ids=["plain", "renamed", "one lacks fields", "a number too big", "one is refused"],
)  # fmt: skip
def test_as_if_written_one_by_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loads: list[bool],
    given: dict[str, Any],
    batches: list[bool],
) -> None:
    filled = run(tmp_path / "filled", given)
    assert loads == batches
    monkeypatch.setattr(SqliteAccessor, "loading", never)
    assert run(tmp_path / "written", given) == filled


def run(folder: Path, given: dict[str, Any]) -> tuple[Any, ...]:
    with opened(folder, **given) as sync:
        sync.ingest(["lines"])
        report = entry(sync.replay(["copy"]), "copy")
        counts = {name: report[name] for name in ("created", "updated", "skipped", "failed", "error")}
        if "fields" in given.get("options", ""):
            sql(folder / "copy.db", "ALTER TABLE thing RENAME COLUMN title TO name")
        return counts, state(folder)


def test_a_record_whose_key_field_was_changed_is_known_by_what_the_new_store_calls_it(tmp_path: Path) -> None:
    table = "CREATE TABLE thing (nr INTEGER PRIMARY KEY, code TEXT, n INTEGER)"
    sql(tmp_path / "numbered.db", table)
    sql(tmp_path / "numbered.db", "INSERT INTO thing VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
    config = """
        [types.thing]
        key = ["code"]
        [stores.numbered]
        url = "sqlite:numbered.db"
        [stores.numbered.types.thing]
        only = ["code", "n"]
        {}"""
    with synchronizer(tmp_path, config.format("")) as sync:
        sync.ingest()
        sql(tmp_path / "numbered.db", "UPDATE thing SET code = 'z' WHERE nr = 1")
        assert did(sync.ingest(), "numbered") == {"updated": 1, "unchanged": 2}
    copy = '[stores.copy]\nurl = "sqlite:copy.db"\n[stores.copy.types.thing]\n'
    with synchronizer(tmp_path, config.format(copy)) as sync:
        assert did(sync.sync()["replay"], "copy") == {"created": 3}
        assert did(sync.ingest(["copy"], scan=True), "copy") == {"unchanged": 3}
        sql(tmp_path / "numbered.db", "UPDATE thing SET n = 9 WHERE nr = 1")
        assert did(sync.sync()["replay"], "copy") == {"updated": 1}
    assert sql(tmp_path / "copy.db", "SELECT code, n FROM thing ORDER BY code") == [
        ("b", 2),
        ("c", 3),
        ("z", 9),
    ]


def test_what_happened_before_is_not_played_again(tmp_path: Path, loads: list[bool]) -> None:
    with opened(tmp_path / "f") as sync:
        sync.ingest(["lines"])
        (tmp_path / "f" / "things.json").write_text(things().replace("N'3", "New").replace('"k05"', '"k99"'))
        sync.ingest(["lines"], allow_deletes=True)
        assert did(sync.replay(["copy"]), "copy") == {"created": 12}
        rows = dict(sql(tmp_path / "f" / "copy.db", "SELECT code, name FROM thing"))
        assert rows["k03"] == "New"
        assert "k05" not in rows and "k99" in rows
    assert all(loads)


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE thing (id INTEGER PRIMARY KEY, code TEXT UNIQUE, name, n, size, price, ok, day, more, raw)",
        "CREATE TABLE thing (code TEXT UNIQUE, name, n, size, price, ok, day, more, raw)",
        "CREATE TABLE thing (code TEXT PRIMARY KEY ON CONFLICT REPLACE, name, n, size, price, ok, day, more, raw)",
        "CREATE TABLE thing (code TEXT PRIMARY KEY, name, n, size, price, ok, day, more, raw, x AS (n + 1))",
    ],
    ids=["ids of its own", "rowids for ids", "replaces rows", "computes a column"],
)
def test_where_a_record_is_not_stored_just_as_given_it_is_written_by_itself(
    tmp_path: Path, loads: list[bool], ddl: str
) -> None:
    options = 'ignore = ["x"]' if " x AS " in ddl else ""
    assert replayed(tmp_path / "f", ddl=ddl, options=options) == {"created": 12}
    assert bool(loads) is (" x AS " in ddl)  # a computed column that is not mapped is nothing to us


def test_a_trigger_has_its_say(tmp_path: Path, loads: list[bool]) -> None:
    folder = tmp_path / "f"
    with opened(
        folder, ddl="CREATE TABLE thing (code TEXT PRIMARY KEY, name, n, size, price, ok, day, more, raw)"
    ) as sync:
        sql(
            folder / "copy.db",
            "CREATE TRIGGER t AFTER INSERT ON thing BEGIN UPDATE thing SET n = n + 1 WHERE code = NEW.code; END",
        )
        sync.ingest(["lines"])
        assert did(sync.replay(["copy"]), "copy") == {"created": 12}
    assert not loads


def test_records_that_stand_there_already_are_not_overwritten(tmp_path: Path, loads: list[bool]) -> None:
    folder = tmp_path / "f"
    with opened(
        folder, ddl="CREATE TABLE thing (code TEXT PRIMARY KEY, name, n, size, price, ok, day, more, raw)"
    ) as sync:
        sql(folder / "copy.db", "INSERT INTO thing (code, name) VALUES ('k03', 'mine')")
        sync.ingest(["lines"])
        assert did(sync.replay(["copy"]), "copy") == {"created": 11, "skipped": 1}
        assert sql(folder / "copy.db", "SELECT name FROM thing WHERE code = 'k03'") == [("mine",)]
    assert not any(loads)


def test_somebody_who_writes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on each record is looked at."""
    folder, told, call = tmp_path / "f", list[bool](), Loading.__call__

    def meanwhile(self: Loading, rows: Any) -> bool:
        if len(told) == 1:
            sql(folder / "copy.db", "INSERT INTO thing (code, name) VALUES ('k07', 'mine'), ('k11', 'mine')")
        told.append(call(self, rows))
        return told[-1]

    monkeypatch.setattr(Loading, "__call__", meanwhile)
    with opened(folder) as sync:
        sync.ingest(["lines"])
        assert did(sync.replay(["copy"]), "copy") == {"created": 10, "skipped": 2}
        mine = "SELECT code FROM thing WHERE name = 'mine' ORDER BY code"
        assert sql(folder / "copy.db", mine) == [("k07",), ("k11",)]
        assert sync.verify()["ok"]
    assert told == [True, False, False]


def test_a_locked_file_is_told_and_filled_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accessors.sqlite_connection.BUSY_SECONDS", 0.01)
    folder = tmp_path / "f"
    ddl = "CREATE TABLE thing (code TEXT PRIMARY KEY, name, n, size, price, ok, day, more, raw)"
    with opened(folder, ddl=ddl) as sync:
        sync.ingest(["lines"])
        with sqlite3.connect(folder / "copy.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            assert "locked" in entry(sync.replay(["copy"]), "copy")["error"]
            other.execute("ROLLBACK")
        other.close()
        assert did(sync.replay(["copy"]), "copy") == {"created": 12}
