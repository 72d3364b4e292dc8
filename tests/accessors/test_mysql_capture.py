"""MySQL's changes out of its binary log: every step of every table, no gap and no duplicate, whatever is open meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from mariadb_server import MariaDbServer, ask, connected, fresh_database
from projects import did, synchronizer

from accessors import mysql_snapshot
from accessors.waiting import until
from evsync import Data
from evsync.errors import GuardTripped, Refused
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


@pytest.mark.slow
def test_a_large_transaction(open_: Any, database: str) -> None:
    sync = open_()
    ask(
        database,
        "INSERT INTO person (email, name) SELECT seq, repeat('x', 1000) FROM seq_1_to_10000",
        "UPDATE person SET name = 'y' WHERE email = 'ann'",
    )
    assert did(sync.ingest(["crm"]), "crm") == {"created": 10_000, "updated": 1}
    assert quiet(sync)


def test_a_table_of_another_database(open_: Any, database: str) -> None:
    with fresh_database() as other:
        name = other.rpartition("/")[2]
        ask(other, TABLE, ROWS)
        config = CONFIG.replace("[stores.crm.types.person]", f'[stores.crm.types.person]\nschema = "{name}"')
        sync = open_("DO 1", "DO 1", config)
        ask(other, "UPDATE person SET name = 'x' WHERE email = 'ann'", "TRUNCATE person")
        ask(database, TABLE, ROWS, "UPDATE person SET name = 'not this one'")
        sync.ingest()
        assert steps(sync)[0] == ("update", "ann", "x")
        assert [op for op, *_ in steps(sync)] == ["update", "delete", "delete"]
        assert quiet(sync)


def test_it_wakes_with_every_change(open_: Any, database: str) -> None:
    crm = open_().stores["crm"]
    waking = crm.accessor("person").waking(crm, lambda: False)
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(next, waking)
        while not woken.done():  # it has to have looked once before
            ask(database, "UPDATE person SET name = concat(name, '!')")
        assert woken.result() is None
    waking.close()


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


def test_where_the_server_does_not_say_what_a_snapshot_sees(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MySQL does not: for a moment nobody may commit."""
    monkeypatch.setattr(mysql_snapshot, "is_mariadb", lambda connection: False)
    sync = open_()
    with closing(connected(database, autocommit=False)) as slow:
        slow.cursor().execute("UPDATE person SET name = 'slow' WHERE email = 'ann'")
        ask(database, "UPDATE person SET name = 'quick' WHERE email = 'ben'")
        report = sync.ingest(["crm"], scan=True)
        assert did(report, "crm")["updated"] == 1
        assert not report["stores"][0].get("missed")
        ask(database, "INSERT INTO person (email) VALUES ('cem')")  # nothing is locked any more
        slow.commit()
    assert did(sync.ingest(), "crm") == {"updated": 1, "created": 1}
    assert quiet(sync)


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


def test_two_projects_see_what_the_other_one_writes(open_: Any, tmp_path: Path, database: str) -> None:
    sync = open_()
    (tmp_path / "other").mkdir()
    with synchronizer(tmp_path / "other", CONFIG.replace("{url}", database)) as other:
        other.sync()
        sync.stores["crm"].update(Data("person", {"email": "ann", "name": "ours"}))
        assert did(other.ingest(), "crm") == {"updated": 1}
        other.stores["crm"].update(Data("person", {"email": "ann", "name": "theirs"}))
        assert did(sync.ingest(), "crm")["updated"] == 1
        assert "updated" not in did(other.ingest(), "crm")
        assert steps(sync) == steps(other) == [("update", "ann", "ours"), ("update", "ann", "theirs")]
        assert quiet(sync)
        assert quiet(other)


# -- what the log does not tell row by row -------------------------------------------------------------------------


def missed(sync: Synchronizer) -> int:
    """What a comparison found after something was not told; that it found the rest is checked as well."""
    report = sync.ingest(["crm"])
    assert report["ok"], report
    found = int(report["stores"][0].get("missed", -1))
    assert quiet(sync)
    return found


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE person MODIFY name varchar(10)", "UPDATE person SET name = 'later'"],
        ["ALTER TABLE person ADD COLUMN extra int DEFAULT 7 FIRST", "UPDATE person SET name = 'later'"],
        ["ALTER TABLE person DROP COLUMN more", "UPDATE person SET name = 'later'"],
        [
            "CREATE TABLE copy LIKE person",
            "INSERT INTO copy (email, name) VALUES ('ann', 'copied')",
            "RENAME TABLE person TO gone, copy TO person",
        ],
        ["DROP TABLE person", TABLE, "INSERT INTO person (email, name) VALUES ('cem', 'new')"],
        ["/* a remark */ alter table `person` comment 'x'", "INSERT INTO person (email) VALUES ('cem')"],
    ],
)
def test_a_table_that_is_altered_is_compared(open_: Any, database: str, statements: list[str]) -> None:
    table = "CREATE TABLE person (id int PRIMARY KEY AUTO_INCREMENT, more int, email varchar(100) UNIQUE, name text)"
    config = CONFIG.replace(
        "[stores.crm.types.person]", '[stores.crm.types.person]\nonly = ["email", "name"]'
    )
    sync = open_(table, config=config)
    ask(database, "UPDATE person SET name = 'before' WHERE email = 'ann'", *statements)
    assert missed(sync) >= 0
    assert ("update", "ann", "before") in steps(sync)


def test_statements_about_other_tables_are_not_compared(open_: Any, database: str) -> None:
    sync = open_()
    ask(
        database,
        "CREATE TABLE personal (id int)",
        "ALTER TABLE personal ADD x int",
        "CREATE VIEW people AS SELECT * FROM person",
        "CREATE TEMPORARY TABLE t SELECT * FROM person",
        "DROP TABLE personal",
        "ANALYZE TABLE person",
        "UPDATE person SET name = 'x' WHERE email = 'ann'",
    )
    report = sync.ingest()
    assert "missed" not in report["stores"][0]
    assert steps(sync) == [("update", "ann", "x")]


def test_what_is_logged_as_a_statement_is_compared(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute("UPDATE person SET name = 'stated' WHERE email = 'ann'")
    ask(database, "UPDATE person SET name = 'told' WHERE email = 'ben'")
    assert missed(sync) == 1
    assert steps(sync) == [("update", "ben", "told"), ("update", "ann", "stated")]


def test_a_row_that_is_told_in_part_is_compared(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION binlog_row_image = 'MINIMAL'")
        cursor.execute("UPDATE person SET name = 'x' WHERE email = 'ann'")
    assert missed(sync) == 1


def test_a_prepared_transaction_is_told_when_it_is_committed(open_: Any, database: str) -> None:
    sync = open_()
    with closing(connected(database)) as connection, connection.cursor() as cursor:
        for name, end in (("given", "XA COMMIT"), ("taken", "XA ROLLBACK")):
            for statement in (f"XA START '{name}'", f"UPDATE person SET name = '{name}'", f"XA END '{name}'"):
                cursor.execute(statement)
            cursor.execute(f"XA PREPARE '{name}'")
            assert sync.ingest()["last"] is None
            cursor.execute(f"{end} '{name}'")
            if name == "given":
                assert missed(sync) == 2
    assert sync.ingest()["last"] is None
    assert {name for _, _, name in steps(sync)} == {"given"}
    with closing(connected(database)) as connection, connection.cursor() as cursor:
        for statement in (
            "XA START 'one'",
            "UPDATE person SET name = 'one' WHERE email = 'ann'",
            "XA END 'one'",
            "XA COMMIT 'one' ONE PHASE",
        ):
            cursor.execute(statement)
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert quiet(sync)


# -- foreign keys that act by themselves ---------------------------------------------------------------------------

FAMILY = """
CREATE TABLE firm (id int PRIMARY KEY, name text);
CREATE TABLE team (id int PRIMARY KEY, firm int, FOREIGN KEY (firm) REFERENCES firm (id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE person (email varchar(50) PRIMARY KEY, team int, firm int, name text,
 FOREIGN KEY (team) REFERENCES team (id) ON DELETE SET NULL,
 FOREIGN KEY (firm) REFERENCES firm (id) ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO firm VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO team VALUES (10, 1), (20, 2)"""
MEMBERS = "INSERT INTO person VALUES ('ann', 10, 2, ''), ('ben', NULL, 1, ''), ('cem', 20, NULL, '')"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM firm WHERE id = 1", 2),  # ben is gone; ann has no team any more
        ("UPDATE firm SET id = 4 WHERE id = 2", 1),
        ("DELETE FROM team WHERE id = 20", 1),
        ("DELETE FROM firm WHERE id = 3", 0),
    ],
)
def test_what_foreign_keys_do_is_found(open_: Any, database: str, statement: str, found: int) -> None:
    sync = open_(FAMILY, MEMBERS)
    ask(database, "UPDATE person SET name = 'x' WHERE email = 'cem'", statement)
    assert missed(sync) == found
    assert [key for op, key, name in steps(sync, 3) if name == "x"][:1] == ["cem"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE firm SET name = 'x'",
        "INSERT INTO firm VALUES (9, 'x')",
        "UPDATE team SET id = 30 WHERE id = 20",
    ],
)
def test_what_sets_off_no_foreign_key_costs_nothing(open_: Any, database: str, statement: str) -> None:
    sync = open_(FAMILY, "INSERT INTO person VALUES ('ann', 10, 2, ''), ('ben', NULL, 1, '')")
    ask(database, statement, "UPDATE person SET name = 'x' WHERE email = 'ann'")
    report = sync.ingest()
    assert "missed" not in report["stores"][0]
    assert did(report, "crm") == {"updated": 1}
    assert quiet(sync)


# -- values ---------------------------------------------------------------------------------------------------

COLUMNS = {
    "ti": ("tinyint", "-128"), "tiu": ("tinyint unsigned", "255"), "ye": ("year", "2024"), "ye0": ("year", "0"),
    "sm": ("smallint", "-32768"), "smu": ("smallint unsigned", "65535"), "me": ("mediumint", "-8388608"),
    "meu": ("mediumint unsigned", "16777215"), "inn": ("int", "-2147483648"), "inu": ("int unsigned zerofill", "4294967295"),
    "bi": ("bigint", "-9223372036854775808"), "biu": ("bigint unsigned", "18446744073709551615"), "bo": ("bool", "true"),
    "fl": ("float", "1.1"), "fl2": ("float", "-3.4e38"), "fl3": ("float", "16777217"), "fl4": ("float", "0.333333333"),
    "dou": ("double", "0.1"), "dou2": ("double", "-1e300"),
    "de": ("decimal(10,2)", "-12345678.90"), "de2": ("decimal(65,30)", "12345678901234567890123456789012345.1234567890123456789"),
    "de3": ("decimal(5,0)", "-12345"), "de4": ("decimal(9,9)", "0.123456789"), "de5": ("decimal(10,3)", "0"), "de6": ("decimal(4,2)", "-0.5"),
    "b1": ("bit(1)", "1"), "b10": ("bit(10)", "b'1000000001'"), "b64": ("bit(64)", "0xff00ff00ff00ff01"),
    "ch": ("char(5)", "'ab '"), "ch0": ("char(5)", "''"), "chl": ("char(5) character set latin1", "'äé'"), "cw": ("char(200)", "repeat('ü', 150)"),
    "vc": ("varchar(300)", "repeat('ä', 250)"), "vs": ("varchar(20)", "' ab '"), "v0": ("varchar(20)", "''"),
    "vl": ("varchar(20) character set latin1", "'€ü'"), "vg": ("varchar(20) character set gbk", "'中文'"),
    "vj": ("varchar(20) character set sjis", "'日本'"), "vu": ("varchar(10) character set ucs2", "'ä€'"),
    "vk": ("varchar(10) character set koi8r", "'привет'"), "v32": ("varchar(10) character set utf32", "'😀'"), "v3": ("varchar(10) character set utf8mb3", "'ä'"),
    "va": ("varchar(10) character set ascii", "'a'"), "bn": ("binary(6)", "0x610062"), "bn0": ("binary(3)", "''"), "vb": ("varbinary(300)", "0x0001ff00"),
    "tt": ("tinytext", "'t'"), "tx": ("text", "repeat('x', 1000)"), "ml": ("mediumtext character set latin1", "'ü'"), "lt": ("longtext", "'😀'"),
    "tb": ("tinyblob", "''"), "lb": ("longblob", "0x00ff"), "vz": ("varchar(100) compressed", "repeat('ä', 50)"),
    "tz": ("text compressed", "repeat('long ', 1000)"), "tz1": ("text compressed character set latin1", "'ü'"),
    "en": ("enum('b', 'ä', 'x,y')", "'x,y'"), "enl": ("enum('a', 'ö') character set latin1", "'ö'"), "en0": ("enum('', 'a')", "''"),
    "se": ("set('one', 'zwö', 'three')", "'three,one'"), "se0": ("set('one', 'two')", "''"),
    "da": ("date", "'2024-02-29'"), "da1": ("date", "'0001-01-01'"), "tm": ("time", "'23:59:59'"), "tm3": ("time(3)", "'12:34:56.789'"),
    "tm6": ("time(6)", "'00:00:00.000001'"), "dt": ("datetime", "'9999-12-31 23:59:59'"), "dt1": ("datetime(1)", "'2024-01-01 10:00:00.5'"),
    "dt4": ("datetime(4)", "'2024-01-01 00:00:00.1234'"), "dt6": ("datetime(6)", "'2024-01-01 00:00:00.000001'"),
    "ts": ("timestamp null", "'2024-01-01 02:00:00'"), "ts6": ("timestamp(6) null", "'2038-01-19 03:14:07.999999'"), "ts1": ("timestamp null", "'1970-01-01 00:00:01'"),
    "js": ("json", '\'{"a": [1.50, null]}\''), "po": ("point", "POINT(1, 2)"), "ge": ("geometry", "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)"),
    "uu": ("uuid", "'12345678-1234-5678-9abc-567812345600'"), "i6": ("inet6", "'::ffff:1.2.3.4'"), "i62": ("inet6", "'2001:db8::'"), "i4": ("inet4", "'10.0.0.0'"),
    "gv": ("int as (inn + 1) virtual", None), "gs": ("varchar(10) as (concat('g', ti)) stored", None), "nv": ("int invisible", "9"),
    "nothing": ("varchar(10)", "NULL"), "`odd ``name`": ("int", "1"), "`größe`": ("int", "2"),
}  # fmt: skip
"""A column of each type, and what is put into it."""


def test_all_types_come_as_a_scan_shows_them(open_: Any, database: str) -> None:
    declared = ", ".join(f"{name} {type}" for name, (type, _) in COLUMNS.items())
    values = {name: value for name, (_, value) in COLUMNS.items() if value is not None}

    def insert(email: str) -> None:
        with closing(connected(database)) as connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00', sql_mode = ''")
            cursor.execute(
                f"INSERT INTO person (email, {', '.join(values)}) VALUES ('{email}', {', '.join(values.values())})"
            )

    ask(database, f"CREATE TABLE person (email varchar(50) PRIMARY KEY, {declared})")
    insert("scanned")
    sync = open_("DO 1", "DO 1")
    insert("streamed")
    assert did(sync.ingest(), "crm") == {"created": 1}
    scanned, streamed = (dict(event["after"]) for event in sync.log())
    assert {scanned.pop("email"), streamed.pop("email")} == {"scanned", "streamed"}
    assert streamed == scanned
    assert len(scanned) == len(COLUMNS)
    assert quiet(sync)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("date", "'0000-00-00'"), ("date", "'2024-02-00'"), ("datetime", "'0000-00-00'"), ("datetime(3)", "'2024-00-10 01:02:03.5'"),
        ("timestamp null", "'0000-00-00'"), ("timestamp(6) null", "'0000-00-00'"), ("time", "'-838:59:59'"),
        ("time(2)", "'-00:00:00.05'"), ("time(3)", "'-12:34:56.789'"), ("time(6)", "'838:59:58.999999'"), ("time(5)", "'-100:00:00.00001'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_put_aside_as_by_a_scan(
    open_: Any, database: str, type: str, value: str
) -> None:
    def insert(email: str) -> None:
        with closing(connected(database)) as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_mode = ''")
            cursor.execute(f"INSERT INTO person VALUES ('{email}', {value})")

    ask(database, f"CREATE TABLE person (email varchar(50) PRIMARY KEY, name {type})")
    insert("scanned")
    sync = open_("DO 1", "DO 1")
    insert("streamed")
    assert did(sync.ingest(["crm"]), "crm") == {"quarantined": 1}
    scanned, streamed = sync.quarantine()
    assert scanned["error"] == streamed["error"]
    assert scanned["row"]["name"] == streamed["row"]["name"] is not None
    report = sync.ingest(["crm"], scan=True)
    assert report["last"] is None
    assert len(list(sync.quarantine())) == 2


# -- what may go wrong ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[MariaDbServer]:
    """A server whose log may be lost; what is committed is on its disk."""
    server = MariaDbServer(innodb_flush_log_at_trx_commit="1")
    server.start()
    yield server
    server.close()


@pytest.fixture
def own(own_server: MariaDbServer, tmp_path: Path) -> Iterator[tuple[Synchronizer, str]]:
    """A store in a database of that server, after its first ingest."""
    ask(own_server.url, "CREATE DATABASE one")
    url = own_server.url.rpartition("/")[0] + "/one"
    ask(url, TABLE, ROWS)
    with synchronizer(tmp_path, CONFIG.replace("{url}", url)) as sync:
        assert sync.ingest()["ok"]
        ask(url, "UPDATE person SET name = 'told' WHERE email = 'ann'")
        assert did(sync.ingest(), "crm") == {"updated": 1}
        yield sync, url
    ask(own_server.url, "DROP DATABASE one")


def lost_and_found(sync: Synchronizer, url: str) -> None:
    report = sync.ingest(["crm"])
    assert report.exit_code == 3, report
    assert "does not reach back" in report["stores"][0]["error"]
    assert "--accept-gap" in report.hints["crm"]
    report = sync.ingest(["crm"], accept_gap=True)
    assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
    ask(url, "UPDATE person SET name = 'seen' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert quiet(sync)


def removed(url: str, *, flush: bool = True) -> None:
    """Have all files but the last one removed; the server does so once its tables need none of them any more."""

    def tried() -> bool:
        [(file, *_)] = ask(url, "SHOW MASTER STATUS")
        ask(url, f"PURGE BINARY LOGS TO '{file}'")
        return [name for name, *_ in ask(url, "SHOW BINARY LOGS")] == [file]

    if flush:
        ask(url, "FLUSH BINARY LOGS")
    assert until(tried, 10.0)


@pytest.mark.slow
def test_how_the_capture_stands_says_that_the_log_was_begun_anew(own: tuple[Synchronizer, str]) -> None:
    sync, url = own
    assert [store["ok"] for store in sync.capture()["stores"]] == [True, True]
    ask(url, "RESET MASTER")
    standing = sync.capture()["stores"][0]
    assert (standing["ok"], "does not reach back" in standing["detail"]) == (False, True)
    assert "--accept-gap" in standing["hint"]
    [check] = [one for one in sync.doctor()["checks"] if one["check"] == "capture" and one["store"] == "crm"]
    assert not check["ok"]


def test_a_log_that_was_begun_anew_is_a_gap(own: tuple[Synchronizer, str]) -> None:
    sync, url = own
    ask(url, "UPDATE person SET name = 'unseen' WHERE email = 'ann'", "RESET MASTER")
    lost_and_found(sync, url)


@pytest.mark.slow
def test_a_log_that_was_begun_anew_and_has_grown_past_the_old_place_is_a_gap(
    own: tuple[Synchronizer, str],
) -> None:
    sync, url = own
    ask(url, "UPDATE person SET name = 'unseen' WHERE email = 'ann'", "RESET MASTER")
    ask(
        url,
        *["INSERT INTO person (name) VALUES (repeat('x', 1000))", "DELETE FROM person WHERE email IS NULL"]
        * 10,
    )
    lost_and_found(sync, url)


@pytest.mark.slow
def test_files_that_were_removed_are_a_gap(own: tuple[Synchronizer, str]) -> None:
    sync, url = own
    ask(url, "UPDATE person SET name = 'unseen' WHERE email = 'ann'")
    removed(url)
    lost_and_found(sync, url)


def test_a_table_that_is_quiet_does_not_lose_its_place(own: tuple[Synchronizer, str]) -> None:
    sync, url = own
    ask(
        url,
        "CREATE TABLE other (id int)",
        "FLUSH BINARY LOGS",
        "INSERT INTO other VALUES (1)",
        "FLUSH BINARY LOGS",
    )
    assert sync.ingest()["ok"]
    removed(url, flush=False)
    ask(url, "UPDATE person SET name = 'seen' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 1}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_server_that_begins_anew_loses_nothing(
    own: tuple[Synchronizer, str], own_server: MariaDbServer, how: str
) -> None:
    sync, url = own
    ask(url, "UPDATE person SET name = 'x' WHERE email = 'ann'")
    own_server.kill() if how == "crash" else own_server.stop()
    report = sync.ingest(["crm"])
    assert report.exit_code == 3
    assert "does not answer" in report["stores"][0]["error"]
    own_server.start()
    ask(url, "UPDATE person SET name = 'y' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 2}
    assert [name for _, _, name in steps(sync, 3)] == ["x", "y"]
    assert quiet(sync)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"log_bin_compress": "ON", "log_bin_compress_min_len": "10"},
        {"binlog_checksum": "NONE", "lower_case_table_names": "1", "log_slave_updates": "ON"},
    ],
)
def test_a_log_that_is_written_otherwise(tmp_path: Path, settings: dict[str, str]) -> None:
    server = MariaDbServer(**settings)
    try:
        server.start()
        ask(server.url, "CREATE DATABASE one")
        url = server.url.rpartition("/")[0] + "/one"
        ask(url, TABLE, ROWS)
        with synchronizer(tmp_path, CONFIG.replace("{url}", url)) as sync:
            assert sync.ingest()["ok"]
            ask(
                url,
                "UPDATE person SET name = repeat('x', 100)",
                "INSERT INTO person (email, name) VALUES ('cem', repeat('y', 300))",
                "DELETE FROM person WHERE email = 'ann'",
                "TRUNCATE person",
            )
            sync.ingest()
            assert [(op, key) for op, key, _ in steps(sync)] == [
                ("update", "ann"), ("update", "ben"), ("create", "cem"), ("delete", "ann"), ("delete", "ben"), ("delete", "cem"),
            ]  # fmt: skip
            assert quiet(sync)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("binlog_format = 'MIXED'", "binlog_format = ROW"),
        ("binlog_row_image = 'MINIMAL'", "binlog_row_image = FULL"),
        ("binlog_row_metadata = 'MINIMAL'", "binlog_row_metadata = FULL"),
    ],
)
def test_a_server_that_does_not_tell_every_change_is_refused(
    own_server: MariaDbServer, tmp_path: Path, setting: str, said: str
) -> None:
    url = own_server.url.rpartition("/")[0] + "/two"
    ask(own_server.url, "CREATE DATABASE two")
    name = setting.partition(" ")[0]
    try:
        ask(url, TABLE, ROWS, f"SET GLOBAL {setting}")
        with synchronizer(tmp_path, CONFIG.replace("{url}", url)) as sync:
            report = sync.ingest(["crm"])
            assert report.exit_code == 3
            assert name in report["stores"][0]["error"]
            assert said in report.hints["crm"]
            ask(url, f"SET GLOBAL {name} = DEFAULT", f"SET GLOBAL {said.replace(' = ', ' = ')}")
            assert sync.ingest(["crm"])["ok"]
            ask(url, f"SET GLOBAL {setting}")
            report = sync.ingest(["crm"])  # it did once, but does not any more
            assert report.exit_code == 3
            assert name in report["stores"][0]["error"]
    finally:
        ask(own_server.url, f"SET GLOBAL {said}", "DROP DATABASE two")


def test_tables_of_which_the_log_does_not_tell_are_refused(tmp_path: Path, database: str) -> None:
    ask(database, TABLE + " ENGINE = Aria", ROWS)
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        report = sync.install_capture(["crm"])
        assert "engine Aria" in report["stores"][0]["error"]
        ask(database, "ALTER TABLE person ENGINE = InnoDB", "ALTER TABLE person ADD SYSTEM VERSIONING")
        assert "versions" in sync.install_capture(["crm"])["stores"][0]["error"]
        ask(database, "ALTER TABLE person DROP SYSTEM VERSIONING, RENAME TO people")
        ask(database, "CREATE VIEW person AS SELECT * FROM people")
        assert "is a view" in sync.install_capture(["crm"])["stores"][0]["error"]


def test_rights_that_are_missing_are_named(tmp_path: Path, database: str) -> None:
    ask(
        database,
        TABLE,
        ROWS,
        "CREATE OR REPLACE USER evsync_reader IDENTIFIED BY 'secret-word'",
        f"GRANT ALL ON `{database.rpartition('/')[2]}`.* TO evsync_reader",
    )
    url = database.replace("root@", "evsync_reader:secret-word@")
    with synchronizer(tmp_path, CONFIG.replace("{url}", url)) as sync:
        report = sync.install_capture(["crm"])
        assert "BINLOG MONITOR" in report.hints["crm"]
        ask(database, "GRANT BINLOG MONITOR ON *.* TO evsync_reader")
        report = sync.install_capture(["crm"])
        assert "REPLICATION SLAVE" in report.hints["crm"]
        assert "secret-word" not in str(report)
        ask(database, "GRANT REPLICATION SLAVE ON *.* TO evsync_reader")
        assert sync.ingest(["crm"])["ok"]
        ask(database, "UPDATE person SET name = 'x' WHERE email = 'ann'")
        assert did(sync.ingest(), "crm") == {"updated": 1}
    ask(database, "DROP USER evsync_reader")


def test_remove_leaves_nothing(open_: Any, database: str) -> None:
    sync = open_()
    state = sync.capture(["crm"])["stores"][0]
    assert (state["mode"], state["ok"], state["types"]) == ("binlog", True, ["person"])
    assert "is kept for" in state["detail"] or "until" in state["detail"]
    assert sync.remove_capture(["crm"])["stores"][0]["done"]
    assert [name for (name,) in ask(database, "SHOW TABLES")] == ["person"]


def test_who_only_reads_leaves_nothing_in_the_database(tmp_path: Path, database: str) -> None:
    name = database.rpartition("/")[2]
    ask(
        database,
        TABLE,
        ROWS,
        "CREATE OR REPLACE USER evsync_reader IDENTIFIED BY 'secret-word'",
        f"GRANT SELECT ON `{name}`.* TO evsync_reader",
        "GRANT BINLOG MONITOR, REPLICATION SLAVE ON *.* TO evsync_reader",
    )
    config = CONFIG.replace("{url}", database.replace("root@", "evsync_reader:secret-word@"))
    with synchronizer(
        tmp_path, config.replace('capture = "binlog"', 'capture = "binlog"\nrole = "source"')
    ) as sync:
        assert sync.ingest()["ok"]
        ask(database, "UPDATE person SET name = 'x' WHERE email = 'ann'")
        assert did(sync.ingest(), "crm") == {"updated": 1}
        assert sync.capture(["crm"])["stores"][0]["ok"]
        assert [table for (table,) in ask(database, "SHOW TABLES")] == ["person"]
        assert quiet(sync)
    ask(database, "DROP USER evsync_reader")


def test_our_own_table_is_no_type(open_: Any) -> None:
    crm = open_().stores["crm"]
    assert set(crm.accessor("person").discover(crm)) == {"person"}


@pytest.mark.slow
def test_the_journal_holds_every_change_of_concurrent_writers(open_: Any, database: str) -> None:
    sync = open_(
        "CREATE TABLE person (email varchar(20) PRIMARY KEY, name text)",
        "INSERT INTO person SELECT seq, 'start' FROM seq_1_to_20",
    )

    def write(number: int) -> None:
        with closing(connected(database, autocommit=False)) as connection, connection.cursor() as cursor:
            for count in range(300):
                for email in sorted({(number * 7 + count) % 20 + 1, (count * 3) % 20 + 1}):
                    cursor.execute(
                        "UPDATE person SET name = %s WHERE email = %s", (f"{number}.{count}", str(email))
                    )
                connection.commit()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert sync.ingest(["crm"], scan=True)["ok"]
    for writer in writers:
        writer.join()
    sync.ingest()
    held = dict(ask(database, "SELECT email, name FROM person"))
    told: dict[str, list[str]] = {}
    for event in sync.log():
        told.setdefault(event["key"], []).append(event["after"]["name"])
    assert {key: names[-1] for key, names in told.items()} == held
    wanted: dict[str, int] = {}
    for number in range(4):
        for count in range(300):
            for email in {(number * 7 + count) % 20 + 1, (count * 3) % 20 + 1}:
                wanted[str(email)] = wanted.get(str(email), 1) + 1
    assert {key: len(names) for key, names in told.items()} == wanted
    runs = (
        sync.journal()
        .connection.execute("SELECT command, counts FROM run WHERE command = 'reconcile'")
        .fetchall()
    )
    assert runs
    assert all('"updated"' not in counts for _, counts in runs)
    assert quiet(sync)


@pytest.mark.slow
def test_we_write_while_others_write(open_: Any, database: str) -> None:
    """Whoever wrote last has written it, and every step of the others is in the journal."""
    sync = open_(
        "CREATE TABLE person (email varchar(20) PRIMARY KEY, name text)",
        "INSERT INTO person SELECT seq, 'start' FROM seq_1_to_10",
    )
    sync.sync()

    def write() -> None:
        with closing(connected(database)) as connection, connection.cursor() as cursor:
            for count in range(400):
                cursor.execute(
                    "UPDATE person SET name = %s WHERE email = %s", (f"o{count}", str(count % 10 + 1))
                )

    writer = threading.Thread(target=write)
    writer.start()
    crm, written = sync.stores["crm"], 0
    while writer.is_alive():
        with suppress(Refused):  # somebody was quicker
            crm.update(Data("person", {"email": str(written % 10 + 1), "name": f"w{written}"}))
        written += 1
        if written % 5 == 0:
            assert sync.ingest(["crm"])["ok"]
    writer.join()
    sync.ingest(["crm"])
    held = dict(ask(database, "SELECT email, name FROM person"))
    last = {event["key"]: event["after"]["name"] for event in sync.log()}
    assert last == held
    assert quiet(sync)
