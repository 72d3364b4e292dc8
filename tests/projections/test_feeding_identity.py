"""Which record a feed's change is of: keys made of references, keys that are used again, what a store computes by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from projects import at_rest, did, synchronizer

from evsync.synchronizer import Synchronizer

CONFIG = """
[types.customer]
key = ["email"]
[types.tag]
key = ["name"]
[types.profile]
key = ["customer"]
references = { customer = "customer" }
[types.tagged]
key = ["customer", "tag"]
references = { customer = "customer", tag = "tag" }

[stores.crm]
url = "sqlite:crm.db"
capture = "triggers"
max_deletes = "100%"
[stores.crm.types.customer]
[stores.crm.types.tag]
[stores.crm.types.profile]
[stores.crm.types.tagged]

[stores.out]
url = "csv:out/"
role = "target"
[stores.out.types.customer]
[stores.out.types.tag]
[stores.out.types.profile]
[stores.out.types.tagged]
"""

SCHEMA = """
PRAGMA foreign_keys = ON;
CREATE TABLE customer (id INTEGER PRIMARY KEY, email TEXT UNIQUE NOT NULL, name TEXT);
CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE profile (customer INTEGER PRIMARY KEY REFERENCES customer ON DELETE CASCADE, bio TEXT);
CREATE TABLE tagged (customer INTEGER REFERENCES customer ON DELETE CASCADE, tag INTEGER REFERENCES tag, note TEXT,
  PRIMARY KEY (customer, tag));
INSERT INTO customer VALUES (11, 'a', 'Ann'), (12, 'b', 'Ben');
INSERT INTO tag VALUES (21, 't1'), (22, 't2');
INSERT INTO profile VALUES (11, 'x'), (12, 'y');
INSERT INTO tagged VALUES (11, 21, 'n'), (11, 22, 'n'), (12, 21, 'n');
"""


@pytest.fixture
def sync(tmp_path: Path) -> Iterator[Synchronizer]:
    (tmp_path / "out").mkdir()
    run(tmp_path, SCHEMA)
    with synchronizer(tmp_path, CONFIG) as one:
        assert one.sync()["ok"]
        yield one


def run(folder: Path, script: str) -> None:
    with closing(sqlite3.connect(folder / "crm.db")) as connection:
        connection.executescript(f"PRAGMA foreign_keys = ON; {script}")


def listed(folder: Path, type: str) -> list[str]:
    return sorted((folder / "out" / f"{type}.csv").read_text().splitlines()[1:])


def test_a_record_whose_key_is_made_of_references_is_deleted(sync: Synchronizer, tmp_path: Path) -> None:
    run(
        tmp_path,
        "DELETE FROM tagged WHERE customer = 11 AND tag = 22; DELETE FROM profile WHERE customer = 12",
    )
    assert did(sync.sync()["ingest"], "crm") == {"deleted": 2}
    assert listed(tmp_path, "tagged") == ["a,t1,n", "b,t1,n"]
    assert [line[0] for line in listed(tmp_path, "profile")] == ["a"]
    assert at_rest(sync)
    assert sync.ingest(scan=True)["last"] is None


def test_so_it_is_by_a_cascade_that_takes_the_parent_along(sync: Synchronizer, tmp_path: Path) -> None:
    run(tmp_path, "DELETE FROM customer WHERE email = 'a'")
    assert did(sync.sync()["ingest"], "crm") == {"deleted": 4}
    assert listed(tmp_path, "tagged") == ["b,t1,n"]
    assert sync.ingest(scan=True)["last"] is None


def test_another_part_of_such_a_key_makes_no_second_record(sync: Synchronizer, tmp_path: Path) -> None:
    run(tmp_path, "UPDATE tagged SET tag = 22 WHERE customer = 12")
    sync.sync()
    assert listed(tmp_path, "tagged") == ["a,t1,n", "a,t2,n", "b,t2,n"]
    assert sync.ingest(scan=True)["last"] is None


def test_a_key_that_is_used_again_is_never_taken_for_the_record_that_had_it(
    sync: Synchronizer, tmp_path: Path
) -> None:
    run(tmp_path, "UPDATE customer SET email = 'ann' WHERE email = 'a'")
    sync.sync()
    run(tmp_path, "INSERT INTO customer VALUES (13, 'a', 'Another')")
    report = sync.sync()
    assert did(report["ingest"], "crm") == {"quarantined": 1}
    assert report.exit_code == 4
    [row] = sync.quarantine()
    assert row["id"] == 13
    assert "the name of another record, the one with the id 11" in row["error"]
    assert listed(tmp_path, "customer") == ["ann,Ann", "b,Ben"]
    run(tmp_path, "UPDATE customer SET email = 'else' WHERE id = 13")
    assert did(sync.sync()["ingest"], "crm") == {"created": 1}
    assert not list(sync.quarantine())
    assert listed(tmp_path, "customer") == ["ann,Ann", "b,Ben", "else,Another"]


def test_a_key_is_free_once_its_record_is_gone(sync: Synchronizer, tmp_path: Path) -> None:
    run(tmp_path, "UPDATE customer SET email = 'ben' WHERE email = 'b'")
    sync.sync()
    run(tmp_path, "DELETE FROM customer WHERE id = 12; INSERT INTO customer VALUES (13, 'b', 'Another')")
    assert "quarantined" not in did(sync.sync()["ingest"], "crm")
    assert listed(tmp_path, "customer") == ["a,Ann", "b,Another"]


def test_what_a_store_computes_of_what_is_written_is_told(tmp_path: Path) -> None:
    run(
        tmp_path,
        "CREATE TABLE line (no TEXT PRIMARY KEY, qty INTEGER, total INTEGER GENERATED ALWAYS AS (qty * 10) STORED);"
        "INSERT INTO line (no, qty) VALUES ('1', 1)",
    )
    (tmp_path / "copy.csv").write_text("no,qty,total\n1,1,10\n")
    config = (
        '[types.line]\nkey = ["no"]\n[types.line.fields]\nno = "str"\nqty = "int"\ntotal = "int"\n'
        '[stores.crm]\nurl = "sqlite:crm.db"\ncapture = "triggers"\n[stores.crm.types.line]\n'
        '[stores.copy]\nurl = "csv:copy.csv"\n[stores.copy.types.line]\n'
    )
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        (tmp_path / "copy.csv").write_text("no,qty,total\n1,7,10\n")
        sync.sync()
        sync.sync()
        assert (tmp_path / "copy.csv").read_text().splitlines()[1] == "1,7,70"
        assert at_rest(sync)


def test_a_comparison_says_who_has_the_key(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run(tmp_path, SCHEMA)
    with synchronizer(tmp_path, CONFIG.replace('capture = "triggers"', 'capture = "scan"')) as sync:
        sync.sync()
        run(tmp_path, "UPDATE customer SET email = 'ann' WHERE id = 11")
        sync.sync()
        run(tmp_path, "INSERT INTO customer VALUES (13, 'a', 'Another')")
        report = sync.ingest()
    assert "two records have the key 'a': id 11 and id 13" in report["stores"][0]["error"]
    assert "11 has it no more, but keeps it as its name" in report.hints["crm"]
