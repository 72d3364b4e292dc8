"""MySQL's changes out of its binary log: every step of every table, no gap and no duplicate, whatever is open meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mariadb_server import ask, connected, fresh_database
from projects import did, synchronizer

from evsync import Data
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.person]
key = ["email"]
[stores.crm]
url = "{url}"
capture = "binlog"
max_deletes = "100%"
[stores.crm.types.person]
[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""

TABLE = "CREATE TABLE person (id int PRIMARY KEY AUTO_INCREMENT, email varchar(100) UNIQUE, name text)"
ROWS = "INSERT INTO person (email, name) VALUES ('ann', 'Ann'), ('ben', 'Ben')"


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture
def open_(tmp_path: Path, database: str) -> Iterator[Callable[..., Synchronizer]]:
    opened = []

    def made(table: str = TABLE, rows: str = ROWS, config: str = CONFIG) -> Synchronizer:
        ask(database, *table.split(";"), rows)
        opened.append(synchronizer(tmp_path, config.replace("{url}", database)))
        report = opened[-1].ingest()
        assert report["ok"], report
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def steps(sync: Synchronizer, after: int = 2, field: str = "name") -> list[tuple[Any, ...]]:
    return [(e["op"], e["key"], (e["after"] or {}).get(field)) for e in sync.log(after=after)]


def quiet(sync: Synchronizer) -> bool:
    """What the feed told is what a comparison finds."""
    report = sync.ingest(scan=True)
    assert report["ok"], report
    return report["last"] is None


# -- steps --------------------------------------------------------------------------------------------------


def test_every_step_is_told_with_when_it_was_committed(open_: Any, database: str) -> None:
    sync = open_()
    ask(
        database,
        "UPDATE person SET name = 'A' WHERE email = 'ann'",
        "UPDATE person SET name = 'B' WHERE email = 'ann'",
        "INSERT INTO person (email) VALUES ('cem')",
        "DELETE FROM person WHERE email = 'cem'",
        "UPDATE person SET email = 'anna' WHERE email = 'ann'",
        "UPDATE person SET id = 77 WHERE email = 'ben'",
        "UPDATE person SET name = 'Er' WHERE id = 77",
    )
    sync.ingest()
    assert steps(sync) == [
        ("update", "ann", "A"),
        ("update", "ann", "B"),
        ("create", "cem", None),
        ("delete", "cem", None),
        ("update", "ann", "B"),
        ("update", "ben", "Er"),
    ]
    assert all(event["occurred_at"] for event in sync.log(after=2))
    assert quiet(sync)


def test_nothing_is_told_twice(open_: Any, database: str) -> None:
    sync = open_()
    ask(database, "UPDATE person SET name = 'A'")
    assert did(sync.ingest(), "crm") == {"updated": 2}
    assert did(sync.ingest(), "crm") == {}
    assert did(sync.ingest(dry_run=True), "crm") == {}


def test_every_way_to_write_is_told(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database, autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("REPLACE INTO person (email, name) VALUES ('ann', 'replaced')")
        cursor.execute(
            "INSERT INTO person (email, name) VALUES ('ben', 'x') ON DUPLICATE KEY UPDATE name = 'again'"
        )
        cursor.execute("SAVEPOINT s")
        cursor.execute("UPDATE person SET name = 'undone'")
        cursor.execute("ROLLBACK TO s")
        connection.commit()
        cursor.execute("UPDATE person SET name = 'undone'")
        connection.rollback()
    sync.ingest()
    assert steps(sync)[-2:] == [("update", "ann", "replaced"), ("update", "ben", "again")]
    assert quiet(sync)


def test_a_composite_key(open_: Any, database: str) -> None:
    config = CONFIG.replace('key = ["email"]', 'key = ["email", "name"]')
    sync = open_(
        "CREATE TABLE person (email varchar(50), name varchar(50), n int, PRIMARY KEY (email, name))",
        "INSERT INTO person VALUES ('ann', 'a/b', 1), ('ben', 'b', 1)",
        config,
    )
    ask(
        database,
        "UPDATE person SET n = 2 WHERE email = 'ann'",
        "DELETE FROM person WHERE email = 'ben'",
        "UPDATE person SET name = 'c' WHERE email = 'ann'",
    )
    sync.ingest()
    assert [(op, key) for op, key, _ in steps(sync)] == [
        ("update", "ann/a%2Fb"),
        ("delete", "ben/b"),
        ("delete", "ann/a%2Fb"),
        ("create", "ann/c"),
    ]
    assert quiet(sync)


def test_a_table_without_a_key(open_: Any, database: str) -> None:
    sync = open_(
        "CREATE TABLE person (email text, name text)",
        "INSERT INTO person VALUES ('ann', 'Ann'), ('ben', 'Ben')",
    )
    ask(
        database, "UPDATE person SET name = 'x' WHERE email = 'ann'", "DELETE FROM person WHERE email = 'ben'"
    )
    sync.ingest()
    assert steps(sync) == [("update", "ann", "x"), ("delete", "ben", None)]
    assert quiet(sync)


def test_truncate_deletes_all(open_: Any, database: str) -> None:
    sync = open_()
    ask(
        database,
        "UPDATE person SET name = 'x' WHERE email = 'ann'",
        "TRUNCATE person",
        "INSERT INTO person (email) VALUES ('cem')",
    )
    sync.ingest()
    assert [op for op, *_ in steps(sync)] == ["update", "delete", "delete", "create"]
    assert quiet(sync)


def test_truncate_is_guarded(open_: Any, database: str) -> None:
    from evsync.errors import GuardTripped

    sync = open_(config=CONFIG.replace('max_deletes = "100%"', ""))
    ask(database, "TRUNCATE person")
    with pytest.raises(GuardTripped, match="2 of 2"):
        sync.ingest()
    assert did(sync.ingest(allow_deletes=True), "crm") == {"deleted": 2}


def test_two_tables_come_in_the_order_of_their_commits(open_: Any, database: str) -> None:
    config = CONFIG.replace("[stores.crm]", '[types.pet]\nkey = ["id"]\n[stores.crm]').replace(
        "[stores.crm.types.person]", "[stores.crm.types.person]\n[stores.crm.types.pet]"
    )
    sync = open_(TABLE + "; CREATE TABLE pet (id int PRIMARY KEY, name text)", config=config)
    ask(
        database,
        "INSERT INTO pet VALUES (1, 'a')",
        "UPDATE person SET name = 'b' WHERE email = 'ann'",
        "INSERT INTO pet VALUES (2, 'c')",
    )
    with (
        closing(connected(database, autocommit=False)) as early,
        closing(connected(database, autocommit=False)) as late,
    ):
        early.cursor().execute("UPDATE person SET name = 'begun first' WHERE email = 'ben'")
        late.cursor().execute("INSERT INTO pet VALUES (3, 'begun second')")
        late.commit()
        early.commit()
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["a", "b", "c", "begun second", "begun first"]


# -- from the scan to the feed --------------------------------------------------------------------------------


def test_a_transaction_that_is_open_during_the_scan_is_told_once(tmp_path: Path, database: str) -> None:
    ask(database, TABLE, ROWS)
    with (
        synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync,
        closing(connected(database, autocommit=False)) as slow,
    ):
        sync.install_capture(["crm"])
        ask(database, "UPDATE person SET name = 'before the scan' WHERE email = 'ben'")
        slow.cursor().execute("UPDATE person SET name = 'open' WHERE email = 'ann'")
        ask(
            database,
            "INSERT INTO person (email, name) VALUES ('cem', 'x')",
            "UPDATE person SET name = 'y' WHERE email = 'cem'",
        )
        assert did(sync.ingest(), "crm") == {"created": 3}
        ask(database, "UPDATE person SET name = 'z' WHERE email = 'cem'")
        assert did(sync.ingest(), "crm") == {"updated": 1}
        slow.commit()
        assert did(sync.ingest(), "crm") == {"updated": 1}
        assert steps(sync, 3) == [("update", "cem", "z"), ("update", "ann", "open")]
        assert quiet(sync)


def test_a_comparison_beside_open_transactions_is_quiet_and_loses_nothing(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database, autocommit=False)) as slow:
        slow.cursor().execute("UPDATE person SET name = 'slow' WHERE email = 'ann'")
        ask(database, "UPDATE person SET name = 'quick' WHERE email = 'ben'")
        report = sync.ingest(scan=True)
        assert did(report, "crm")["updated"] == 1
        assert not report["stores"][0].get("missed")
        slow.commit()
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert steps(sync) == [("update", "ben", "quick"), ("update", "ann", "slow")]


def test_a_scan_finds_what_was_not_logged(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database)) as connection:
        connection.cursor().execute("SET SESSION sql_log_bin = 0")
        connection.cursor().execute("UPDATE person SET name = 'unseen' WHERE email = 'ann'")
    ask(database, "UPDATE person SET name = 'seen' WHERE email = 'ben'")
    report = sync.ingest(scan=True)
    assert report["stores"][0]["missed"] == 1
    assert steps(sync) == [("update", "ben", "seen"), ("update", "ann", "unseen")]
    assert quiet(sync)


# -- our own writes ------------------------------------------------------------------------------------------


def test_what_we_write_does_not_come_back(open_: Any, database: str) -> None:
    ask(
        database,
        TABLE,
        "CREATE TRIGGER loud BEFORE UPDATE ON person FOR EACH ROW SET NEW.name = upper(NEW.name)",
    )
    sync = open_("DO 1")
    sync.sync()
    crm = sync.stores["crm"]
    for name in ("one", "two"):
        crm.update(Data("person", {"email": "ann", "name": name}), actor="web")
    before = steps(sync)
    assert sync.ingest()["last"] is None
    assert steps(sync) == before
    ask(database, "UPDATE person SET name = 'three' WHERE email = 'ann'")
    sync.ingest()
    assert steps(sync)[-1] == ("update", "ann", "THREE")
    assert quiet(sync)


def test_changes_reach_the_other_store(open_: Any, database: str) -> None:
    sync = open_()
    sync.sync()
    for number in range(3):
        ask(database, f"INSERT INTO person (email, name) VALUES ('n{number}', 'N')")
        report = sync.sync()
        assert did(report["ingest"], "crm") == {"created": 1}
        assert did(report["replay"], "list") == {"created": 1}
    assert sync.sync()["ingest"]["last"] is None
