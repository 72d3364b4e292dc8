"""What is told of the stores whose changes are followed: what waits in them, and whether all is as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli.conftest import Project
from postgres_server import fresh_database
from projects import sql, synchronizer

CONFIG = """
[types.person]
key = ["id"]
[stores.crm]
url = "sqlite:crm.db"
capture = "triggers"
[stores.crm.types.person]
[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A store with a feed and one without."""
    made = Project(tmp_path)
    made.write("evsync.toml", CONFIG)
    made.sql("CREATE TABLE person (id text PRIMARY KEY, name text)")
    made.sql("INSERT INTO person VALUES ('ann', 'Ann')")
    return made


def told(document: Any, store: str) -> tuple[Any, Any, Any]:
    [found] = [entry for entry in document["stores"] if entry["store"] == store]
    return found.get("capture"), found.get("retained"), found.get("trouble")


def test_status_asks_only_the_stores_whose_changes_are_followed(project: Project) -> None:
    assert project("capture", "install", "crm").code == 0
    assert told(project("status", "--json").json, "crm") == (None, None, None)  # nothing was followed so far
    assert project("sync").code == 0
    document = project("status", "--json").json
    assert told(document, "crm") == ("triggers", None, None)
    assert "capture" not in document["stores"][1]
    shown = project("status")
    assert (shown.code, shown.err) == (0, "")
    assert "kept for us" not in shown.out


def test_status_tells_what_is_amiss_with_a_feed_and_goes_on(project: Project) -> None:
    project("capture", "install", "crm")
    project("sync")
    queue = project.sql("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE '%evsync%'")
    for (trigger,) in project.sql("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        project.sql(f'DROP TRIGGER "{trigger}"')
    for (table,) in queue:
        project.sql(f'DROP TABLE "{table}"')
    shown = project("status")
    assert shown.code == 0
    assert "crm" in shown.out
    assert shown.err.startswith("error: crm: ")
    assert "hint: evsync capture status crm" in shown.err


def test_status_tells_that_a_store_which_is_followed_does_not_answer(project: Project) -> None:
    project("capture", "install", "crm")
    project("sync")
    (project.folder / "crm.db").unlink()
    shown = project("status")
    assert shown.code == 0
    assert "error: crm: " in shown.err and "crm.db" in shown.err


def test_status_tells_how_much_of_its_log_a_server_keeps_for_us(tmp_path: Path) -> None:
    project = Project(tmp_path)
    with fresh_database() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE person (id text PRIMARY KEY, name text)")
        project.write("evsync.toml", CONFIG.replace("sqlite:crm.db", url).replace('"triggers"', '"wal"'))
        assert project("capture", "install", "crm").code == 0
        assert project("sync").code == 0
        try:
            mode, before, trouble = told(project("status", "--json").json, "crm")
            assert (mode, trouble) == ("wal", None)
            connection.execute("CREATE TABLE other AS SELECT repeat('x', 100) FROM generate_series(1, 20000)")
            after = told(project("status", "--json").json, "crm")[1]
            assert after > before + 2_000_000
            assert "kept for us" in project("status").out
            assert " MB" in project("status").out
        finally:
            assert project("capture", "remove", "crm").code == 0
        assert told(project("status", "--json").json, "crm") == (None, None, None)


def test_a_store_that_is_yet_to_be_created_is_filled_before_it_is_captured(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("evsync.toml", CONFIG.replace('capture = "triggers"', ""))
    project.write("list.csv", "id,name\nann,Ann\n")
    ended = project("capture", "install", "crm")
    assert ended.code == 3
    assert "is not there yet" in ended.err
    assert "evsync sync, then evsync capture install crm" in ended.err
    shown = project("capture", "status")
    assert shown.code == 0
    assert "it is not there yet" in shown.out
    assert project("sync").code == 0
    installed = project("capture", "install", "crm")
    assert installed.code == 0
    assert "every step is told from the next ingest on: evsync ingest crm" in installed.err


def test_a_table_that_is_dropped_is_told_as_that(project: Project) -> None:
    project("capture", "install", "crm")
    project("sync")
    project.sql("DROP TABLE person")
    ended = project("ingest", "crm")
    assert ended.code == 3
    assert "is not there any more" in ended.err


def test_the_document_of_a_feed_that_is_gone(tmp_path: Path) -> None:
    sql(tmp_path / "crm.db", "CREATE TABLE person (id text PRIMARY KEY, name text)")
    with synchronizer(tmp_path, CONFIG) as one:
        one.install_capture(["crm"])
        one.sync()
        for (trigger,) in sql(tmp_path / "crm.db", "SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            sql(tmp_path / "crm.db", f'DROP TRIGGER "{trigger}"')
        capture, _, trouble = told(one.status(), "crm")
        assert (capture, bool(trouble)) == ("triggers", True)
