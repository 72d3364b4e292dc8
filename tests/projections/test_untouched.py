"""A store that nobody has touched is not read again; one that anybody has touched is, always."""

from __future__ import annotations

import csv
import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import did, sql, synchronizer

from accessors import marks
from accessors.files import FileAccessor
from accessors.sqlite import SqliteAccessor
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "str"
name = "str"
[stores.table]
url = "sqlite:table.db"
[stores.table.types.thing]
{table}
[stores.list]
url = "csv:list.csv"
[stores.list.types.thing]
{list}
"""

_ticks = itertools.count(1_700_000_000, 10)


def rested(*paths: Path) -> None:
    """Some time passes: what is written next has another time than what was written before."""
    at = next(_ticks)
    for path in paths:
        for file in (path, path.with_name(path.name + "-wal")):
            if file.exists():
                os.utime(file, (at, at))


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is at rest as soon as it is closed: `rested` sees to the times."""
    monkeypatch.setattr(marks, "SETTLED", -1e9)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stores that were read through, by name."""
    names: list[str] = []
    for accessor in (SqliteAccessor, FileAccessor):
        scan = accessor.scan

        def noted(self: Any, store: Any, type: str, scan: Any = scan) -> Iterator[Any]:
            names.append(store.name)
            yield from scan(self, store, type)

        monkeypatch.setattr(accessor, "scan", noted)
    return names


def laid_out(folder: Path, mode: str = "DELETE", table: str = "", list: str = "") -> Synchronizer:
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "table.db")) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE IF NOT EXISTS thing (id TEXT PRIMARY KEY, name TEXT)")
    (folder / "list.csv").write_text("id,name\na,Ann\nb,Bob\n")
    return synchronizer(folder, CONFIG.format(table=table, list=list))


def quiet(folder: Path, **more: str) -> Synchronizer:
    """In step, and read once since."""
    sync = laid_out(folder, **more)
    for _ in range(3):
        rested(folder / "table.db", folder / "list.csv")
        sync.sync()
    return sync


def test_what_nobody_touched_is_not_read(tmp_path: Path, read: list[str]) -> None:
    with quiet(tmp_path) as sync:
        read.clear()
        plain = sync.ingest()
        assert not read
        assert plain["stores"] == sync.ingest(scan=True)["stores"]
        assert sorted(read) == ["list", "table"]
        assert did(plain, "table") == did(plain, "list") == {"unchanged": 2}
        read.clear()
        rehearsed = sync.ingest(dry_run=True)
        assert rehearsed["stores"] == plain["stores"]
        assert sync.sync()["ok"]
        assert not read
        assert sync.status()["stores"][0]["last_ingest"] is not None


def test_an_edit_is_seen_at_once_and_only_that_store_is_read(tmp_path: Path, read: list[str]) -> None:
    with quiet(tmp_path) as sync:
        read.clear()
        sql(tmp_path / "table.db", "UPDATE thing SET name = 'Eve' WHERE id = 'a'")
        assert did(sync.ingest(), "table") == {"updated": 1, "unchanged": 1}
        assert read == ["table"]


def test_a_store_that_was_written_by_a_replay_is_read_once_more(tmp_path: Path, read: list[str]) -> None:
    with quiet(tmp_path) as sync:
        sql(tmp_path / "table.db", "UPDATE thing SET name = 'Eve' WHERE id = 'a'")
        sync.sync()
        read.clear()
        sync.sync()
        assert "list" in read
        read.clear()
        sync.sync()
        assert not read


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
@pytest.mark.parametrize("keeps_open", [False, True])
def test_every_commit_is_seen(tmp_path: Path, mode: str, keeps_open: bool) -> None:
    """Though the file's size and, by somebody's hand, its time are as they were."""
    with quiet(tmp_path, mode=mode) as sync, closing(sqlite3.connect(tmp_path / "table.db")) as db:
        for number in range(4):
            if not keeps_open:
                sql(tmp_path / "table.db", "UPDATE thing SET name = ? WHERE id = 'a'", f"N{number}")
            else:
                with db:
                    db.execute("UPDATE thing SET name = ? WHERE id = 'a'", (f"N{number}",))
            os.utime(tmp_path / "table.db", (1_600_000_000, 1_600_000_000))
            assert did(sync.ingest(), "table") == {"updated": 1, "unchanged": 1}
            sync.ingest()


def test_a_file_put_in_its_place_is_seen(tmp_path: Path) -> None:
    with quiet(tmp_path) as sync:
        status = (tmp_path / "list.csv").stat()
        (tmp_path / "new.csv").write_text((tmp_path / "list.csv").read_text().replace("Ann", "Eve"))
        os.utime(tmp_path / "new.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "new.csv").rename(tmp_path / "list.csv")
        assert did(sync.ingest(), "list") == {"updated": 1, "unchanged": 1}


def test_a_file_written_just_now_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    """Somebody may write to it once more within the same tick of the clock."""
    with quiet(tmp_path) as sync:
        monkeypatch.setattr(marks, "SETTLED", 3600.0)
        read.clear()
        for _ in range(3):
            assert did(sync.ingest(), "list") == {"unchanged": 2}
        assert read == ["table", "list"] * 3


@pytest.mark.parametrize(
    "more",
    [{"list": 'only = ["id"]'}, {"list": 'where = { name = "Ann" }'}, {"list": 'null = "-"'}],
    ids=["fields", "filter", "option"],
)
def test_another_configuration_reads_again(tmp_path: Path, read: list[str], more: dict[str, str]) -> None:
    quiet(tmp_path).close()
    with synchronizer(tmp_path, CONFIG.format(**{"table": "", "list": "", **more})) as sync:
        read.clear()
        sync.ingest(allow_mapping=True, allow_deletes=True)
        assert set(more) <= set(read)


def test_rows_in_quarantine_are_looked_at_again(tmp_path: Path, read: list[str]) -> None:
    with quiet(tmp_path) as sync:
        with (tmp_path / "list.csv").open("a") as file:
            file.write(",nobody\n")
        for _ in range(3):
            rested(tmp_path / "list.csv")
            read.clear()
            assert did(sync.ingest(), "list") == {"unchanged": 2, "quarantined": 1}
            assert "list" in read


def test_a_view_is_always_read(tmp_path: Path, read: list[str]) -> None:
    """It may show what is in no file."""
    laid_out(tmp_path).close()
    sql(tmp_path / "table.db", "CREATE VIEW shown AS SELECT id, name FROM thing")
    with synchronizer(tmp_path, 'types.thing.key = ["id"]\n[stores.v]\nurl = "sqlite:table.db"\nrole = "source"\n[stores.v.types.thing]\ntable = "shown"') as sync:  # fmt: skip
        for _ in range(3):
            rested(tmp_path / "table.db")
            sync.ingest()
    assert read == ["v"] * 3


def test_a_killed_write_is_looked_for(tmp_path: Path, read: list[str]) -> None:
    """A write was under way: what stands in the store may be ours."""
    with quiet(tmp_path) as sync:
        sql(tmp_path / "evsync.db", "UPDATE binding SET intents = '[1]' WHERE store = 'list'")
        read.clear()
        sync.ingest()
        assert read == ["list"]


def test_a_transaction_that_was_cut_off_gives_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    sql(path, "CREATE TABLE t (a)")
    assert marks.database_mark(path)
    path.with_name("x.db-journal").write_bytes(b"hot")
    assert marks.database_mark(path) is None
    path.with_name("x.db-journal").write_bytes(b"")
    assert marks.database_mark(path)
    assert marks.database_mark(tmp_path / "nowhere.db") is None
    path.with_name("x.db-wal").write_bytes(b"frames of a program that is gone")
    assert marks.database_mark(path) is None, "its index is not there: a recovery is due"


edits = st.lists(
    st.tuples(
        st.sampled_from(("table", "list")),
        st.sampled_from(("set", "remove", "swap", "nothing")),
        st.sampled_from(("a", "b", "c")),
        st.sampled_from(("x", "y", "z")),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(edits, st.sampled_from(("DELETE", "WAL")))
def test_no_edit_is_ever_missed(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str, str, str, bool]], mode: str
) -> None:
    """After each ingest the journal has what stands in the stores."""
    folder = tmp_path_factory.mktemp("f")
    with quiet(folder, mode=mode) as sync:
        for store, what, key, value, replays in edits:
            edit(folder, store, what, key, value)
            rested(folder / "list.csv")
            (sync.sync if replays else sync.ingest)(allow_deletes=True, allow_changes=True)
            assert sync.ingest()["stores"] == sync.ingest(scan=True)["stores"]
            known = {
                row[0]: row[1]
                for row in sql(
                    folder / "evsync.db",
                    "SELECT r.key, hex(r.fingerprint) FROM replica r JOIN binding b ON b.id = r.binding"
                    " WHERE b.store = ? AND fingerprint IS NOT NULL",
                    store,
                )
            }
            assert known.keys() == held(folder, store).keys()


def held(folder: Path, store: str) -> dict[str, str]:
    if store == "table":
        return dict(sql(folder / "table.db", "SELECT id, name FROM thing"))
    with (folder / "list.csv").open(newline="") as file:
        return {row["id"]: row["name"] for row in csv.DictReader(file)}


def edit(folder: Path, store: str, what: str, key: str, value: str) -> None:
    """Whatever is done leaves a file of the same size, if it can."""
    rows = held(folder, store)
    if what == "set":
        rows[key] = value
    elif what == "remove":
        rows.pop(key, None)
    elif what == "swap" and len(rows) > 1:
        (one, first), (other, second), *_ = rows.items()
        rows |= {one: second, other: first}
    if rows == held(folder, store):
        return
    if store == "table":
        with closing(sqlite3.connect(folder / "table.db")) as db, db:
            db.execute("DELETE FROM thing")
            db.executemany("INSERT INTO thing VALUES (?, ?)", rows.items())
    else:
        text = "".join(f"{one},{name}\n" for one, name in rows.items())
        (folder / "list.csv").write_text(f"id,name\n{text}")
