"""SQLite's changes captured by triggers: every statement form, what applications do to a file, and what may get lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import did, sql, synchronizer

from evsync.errors import ConfigError, GuardTripped, PositionLost, Unreachable
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.person]
key = ["email"]
[stores.crm]
url = "sqlite:crm.db"
capture = "triggers"
max_deletes = "100%"
[stores.crm.types.person]
[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""

TABLE = "CREATE TABLE person (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, score REAL, photo BLOB)"
ROWS = "INSERT INTO person VALUES (1, 'ann', 'Ann', 1.0, x'00ff'), (2, 'ben', NULL, 2.5, NULL)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crm.db"


@pytest.fixture
def open_(tmp_path: Path, path: Path) -> Iterator[Callable[..., Synchronizer]]:
    """Makes the table, ingests it once, and answers with the synchronizer."""
    opened = []

    def made(table: str = TABLE, rows: str = ROWS, config: str = CONFIG) -> Synchronizer:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(f"{table};{rows}")
        opened.append(synchronizer(tmp_path, config))
        opened[-1].ingest()
        return opened[-1]

    yield made
    for one in opened:
        one.close()


def steps(sync: Synchronizer, after: int = 2) -> list[tuple[Any, ...]]:
    """(op, key, name) of each event behind a position."""
    return [
        (event["op"], event["key"], (event["after"] or {}).get("name")) for event in sync.log(after=after)
    ]


def run(path: Path, *statements: str, recursive: bool = False) -> None:
    """What an application does, one transaction."""
    with closing(sqlite3.connect(path)) as connection, connection:
        if recursive:
            connection.execute("PRAGMA recursive_triggers = ON")
        for statement in statements:
            connection.execute(statement)


def quiet(sync: Synchronizer) -> bool:
    """What the feed told is what a comparison finds."""
    report = sync.ingest(scan=True)
    return report["ok"] and report["last"] is None


# -- every statement form -----------------------------------------------------------------------------------

UPSERT = "INSERT INTO person (email, name) VALUES ('ann', 'Up') ON CONFLICT (email) DO UPDATE SET name = excluded.name"
FORMS: list[tuple[str, list[str], list[tuple[Any, ...]]]] = [
    ("insert", ["INSERT INTO person (email) VALUES ('cem')"], [("create", "cem", None)]),
    (
        "every update",
        ["UPDATE person SET name = 'A' WHERE id = 1", "UPDATE person SET name = 'B' WHERE id = 1"],
        [("update", "ann", "A"), ("update", "ann", "B")],
    ),
    ("update of nothing", ["UPDATE person SET name = name"], []),
    (
        "null and back",
        [
            "UPDATE person SET name = NULL WHERE id = 1",
            "UPDATE person SET name = 'x' WHERE id = 1",
            "UPDATE person SET name = NULL WHERE id = 1",
        ],
        [("update", "ann", None), ("update", "ann", "x"), ("update", "ann", None)],
    ),
    ("delete", ["DELETE FROM person WHERE id = 1"], [("delete", "ann", None)]),
    ("delete of all", ["DELETE FROM person"], [("delete", "ann", None), ("delete", "ben", None)]),
    ("or ignore", ["INSERT OR IGNORE INTO person VALUES (1, 'ann', 'Other', 0, NULL)"], []),
    (
        "or ignore, then delete",
        ["INSERT OR IGNORE INTO person (email) VALUES ('ann')", "DELETE FROM person WHERE id = 1"],
        [("delete", "ann", None)],
    ),
    ("upsert", [UPSERT], [("update", "ann", "Up")]),
    (
        "upsert, then delete",
        [UPSERT, "DELETE FROM person WHERE id = 1"],
        [("update", "ann", "Up"), ("delete", "ann", None)],
    ),
    (
        "the key is edited",
        ["UPDATE person SET email = 'anna', name = 'Anna' WHERE id = 1"],
        [("update", "ann", "Anna")],
    ),
    (
        "the id is edited",
        [
            "UPDATE person SET id = 77, name = 'New' WHERE id = 1",
            "UPDATE person SET name = 'Er' WHERE id = 77",
        ],
        [("update", "ann", "New"), ("update", "ann", "Er")],
    ),
    (
        "created and gone at once",
        ["INSERT INTO person (id, email) VALUES (9, 'cem')", "DELETE FROM person WHERE id = 9"],
        [("create", "cem", None), ("delete", "cem", None)],
    ),
    (
        "an update drives another row out",
        ["UPDATE OR REPLACE person SET email = 'ben', name = 'Both' WHERE id = 1"],
        [("delete", "ben", None), ("update", "ann", "Both")],
    ),
]


@pytest.mark.parametrize("recursive", [False, True], ids=["plain", "recursive_triggers"])
@pytest.mark.parametrize(
    ("statements", "told"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS]
)
def test_every_step_of_every_form_is_told(
    open_: Any, path: Path, statements: list[str], told: list[tuple[Any, ...]], recursive: bool
) -> None:
    sync = open_()
    run(path, *statements, recursive=recursive)
    sync.ingest()
    assert steps(sync) == told
    assert quiet(sync)


@pytest.mark.parametrize("recursive", [False, True], ids=["plain", "recursive_triggers"])
@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("REPLACE INTO person VALUES (1, 'ann', 'New', 1.0, NULL)", {"ann": "New", "ben": None}),
        ("REPLACE INTO person VALUES (9, 'ann', 'New', 1.0, NULL)", {"ann": "New", "ben": None}),
        ("REPLACE INTO person VALUES (1, 'ben', 'One for two', 1.0, NULL)", {"ben": "One for two"}),
    ],
    ids=["the same row", "through another unique index", "two rows at once"],
)
def test_replace_leaves_what_the_table_holds(
    open_: Any, path: Path, statement: str, names: dict[str, Any], recursive: bool
) -> None:
    sync = open_()
    run(path, statement, recursive=recursive)
    sync.ingest()
    held = {row[0]: row[1] for row in sql(path, "SELECT email, name FROM person")}
    assert held == names
    seen = {
        event["after"]["email"]: event["after"]["name"] if event["after"] else None
        for key in ("ann", "ben")
        if (event := list(sync.log("person", key))[-1])["after"]
    }
    assert seen == names
    assert quiet(sync)


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE person (email TEXT PRIMARY KEY, name TEXT)",
        "CREATE TABLE person (email TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID",
        "CREATE TABLE person (email TEXT, name TEXT)",
        "CREATE TABLE person (email TEXT, name TEXT, PRIMARY KEY (email, name))",
        "CREATE TABLE person (email TEXT, name TEXT, rowid TEXT)",
        "CREATE TABLE person (email TEXT PRIMARY KEY, name TEXT, up TEXT AS (upper(name)) STORED)",
        'CREATE TABLE person (email TEXT PRIMARY KEY, name TEXT, "a ""b"" \'c\' [d]" TEXT)',
    ],
    ids=["text key", "without rowid", "no key", "composite key", "rowid taken", "generated", "quotes"],
)
def test_tables_of_every_shape(open_: Any, path: Path, table: str) -> None:
    sync = open_(table, "INSERT INTO person (email, name) VALUES ('ann', 'Ann'), ('ben', 'Ben')")
    run(
        path,
        "INSERT INTO person (email, name) VALUES ('cem', 'Cem')",
        "UPDATE person SET name = 'Anna' WHERE email = 'ann'",
        "DELETE FROM person WHERE email = 'ben'",
        "UPDATE person SET email = 'dan' WHERE email = 'cem'",
    )
    report = sync.ingest()
    assert report["ok"], report
    assert ("update", "ann", "Anna") in steps(sync)
    assert ("delete", "ben", None) in steps(sync)
    assert quiet(sync)


def test_values_come_as_they_are(open_: Any, path: Path) -> None:
    sync = open_()
    run(
        path,
        "UPDATE person SET name = 'it''s' || char(0, 34, 128512), score = 0.1 + 0.2, photo = x'00' WHERE id = 1",
    )
    sync.ingest()
    [event] = sync.log(after=2)
    assert event["after"]["score"] == 0.1 + 0.2
    assert event["after"]["photo"] == "AA=="
    assert event["after"]["name"].endswith("\U0001f600")
    assert quiet(sync)


def test_when_it_happened_is_told(open_: Any, path: Path) -> None:
    sync = open_()
    run(path, "UPDATE person SET name = 'A' WHERE id = 1", "DELETE FROM person WHERE id = 2")
    sync.ingest()
    assert all(event["occurred_at"] is not None for event in sync.log(after=2))


# -- what else stands in the file ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_applications_own_trigger_may_write_to_the_row(open_: Any, path: Path, when: str) -> None:
    """Which trigger comes first is not defined; the row is told as the table holds it."""
    theirs = (
        "CREATE TRIGGER loud AFTER UPDATE OF name ON person BEGIN"
        " UPDATE person SET name = upper(NEW.name) WHERE id = NEW.id; END"
    )
    sync = open_(TABLE, ROWS + (f"; {theirs}" if when == "before" else ""))
    if when == "after":
        run(path, theirs)
    run(path, "UPDATE person SET name = 'loud' WHERE id = 1")
    sync.ingest()
    assert steps(sync)[-1] == ("update", "ann", "LOUD")
    assert quiet(sync)


def test_cascades_are_told(open_: Any, path: Path) -> None:
    sync = open_(
        f"CREATE TABLE firm (id INTEGER PRIMARY KEY); {TABLE[:-1]}, firm INT REFERENCES firm ON DELETE CASCADE)",
        "INSERT INTO firm VALUES (1); INSERT INTO person (id, email, firm) VALUES (1, 'ann', 1), (2, 'ben', 1)",
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM firm")
    sync.ingest()
    assert [op for op, *_ in steps(sync)] == ["delete", "delete"]


def test_a_statement_that_fails_leaves_nothing(open_: Any, path: Path) -> None:
    sync = open_()
    with pytest.raises(sqlite3.IntegrityError):
        run(path, "UPDATE person SET name = 'x' WHERE id = 1", "INSERT INTO person (email) VALUES ('ann')")
    assert did(sync.ingest(), "crm") == {}


def test_statements_mean_what_they_meant(open_: Any, path: Path) -> None:
    open_()
    with closing(sqlite3.connect(path)) as connection, connection:
        cursor = connection.execute("INSERT INTO person (email) VALUES ('cem')")
        assert (cursor.lastrowid, cursor.rowcount) == (3, 1)
        assert connection.execute("UPDATE person SET name = 'x'").rowcount == 3
        assert connection.execute("DELETE FROM person WHERE id > 1 RETURNING email").fetchall() == [
            ("ben",),
            ("cem",),
        ]
        assert connection.execute("SELECT last_insert_rowid(), changes()").fetchone() == (3, 2)


# -- our own writes --------------------------------------------------------------------------------------------


def test_what_we_write_does_not_come_back(open_: Any, tmp_path: Path) -> None:
    sync = open_()
    sync.sync()
    listed = tmp_path / "list.csv"
    for name in ("One", "Two"):
        text = listed.read_text(encoding="utf-8").splitlines()
        position = text[0].split(",").index("name")
        rows = [line.split(",") for line in text[1:]]
        rows[0][position] = name
        listed.write_text("\n".join([text[0], *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
        sync.ingest(["list"])
        assert did(sync.replay(["crm"]), "crm") == {"updated": 1}
    # Two writes of ours to one record, and no ingest between them.
    assert did(sync.ingest(), "crm") == {"unchanged": 2}
    assert [event["store"] for event in sync.log(after=2)] == ["list", "list"]
    assert quiet(sync)


def test_what_is_done_through_the_store_is_journalled_once(open_: Any) -> None:
    from evsync import Data

    sync = open_()
    crm = sync.stores["crm"]
    crm.add(Data("person", {"email": "cem", "name": "C"}), actor="web")
    crm.update(Data("person", {"email": "cem", "name": "D"}), actor="web")
    crm.add(Data("person", {"email": "dan"}), actor="web")
    crm.remove(Data("person", {"email": "dan"}), actor="web")
    before = steps(sync)
    assert [op for op, *_ in before] == ["create", "update", "create", "delete"]
    sync.ingest()
    assert steps(sync) == before
    assert quiet(sync)


def test_an_edit_behind_our_write_is_told(open_: Any, path: Path) -> None:
    from evsync import Data

    sync = open_()
    sync.stores["crm"].update(Data("person", {"email": "ann", "name": "Ours"}))
    run(path, "UPDATE person SET name = 'Theirs' WHERE id = 1")
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["Ours", "Theirs"]


# -- what may get lost -----------------------------------------------------------------------------------------


def test_what_was_journalled_is_taken_out_of_the_queue(open_: Any, path: Path) -> None:
    sync = open_()
    run(path, "UPDATE person SET name = 'x'")
    assert sql(path, "SELECT count(*) FROM _evsync_queue") == [(2,)]
    sync.ingest(dry_run=True)
    assert sql(path, "SELECT count(*) FROM _evsync_queue") == [(2,)]
    sync.ingest()
    assert sql(path, "SELECT count(*) FROM _evsync_queue") == [(0,)]


def test_keys_that_are_edited_are_no_deletions_to_the_guard(tmp_path: Path) -> None:
    config = '[types.t]\nkey = ["id"]\n[stores.crm]\nurl = "sqlite:crm.db"\ncapture = "triggers"\n[stores.crm.types.t]\n'
    run(tmp_path / "crm.db", "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (2), (3)")
    with synchronizer(tmp_path, config) as sync:
        sync.ingest()
        run(tmp_path / "crm.db", "UPDATE t SET id = id + 100")
        assert did(sync.ingest(), "crm") == {"created": 3, "deleted": 3}
        assert all(event["occurred_at"] for event in sync.log(after=3))
        run(tmp_path / "crm.db", "DELETE FROM t")
        with pytest.raises(GuardTripped):
            sync.ingest()


# -- others that read the same file ---------------------------------------------------------------------

TWO_STORES = """
[types.person]
key = ["email"]
[types.note]
key = ["id"]
[stores.crm]
url = "sqlite:crm.db"
capture = "triggers"
[stores.crm.types.person]
[stores.notes]
url = "sqlite:crm.db"
capture = "triggers"
[stores.notes.types.note]
"""


def test_what_another_store_was_not_told_stays_in_the_queue(open_: Any, path: Path) -> None:
    sync = open_(f"{TABLE}; CREATE TABLE note (id INTEGER PRIMARY KEY, name TEXT)", ROWS, TWO_STORES)
    run(
        path,
        "UPDATE person SET name = 'A' WHERE id = 1",
        "INSERT INTO note VALUES (7, 'x')",
        "DELETE FROM note",
    )
    assert [store["waiting"] for store in sync.capture()["stores"]] == [1, 2]
    sync.ingest(["crm"])
    assert [store["waiting"] for store in sync.capture()["stores"]] == [0, 2]
    sync.ingest(["notes"])
    assert steps(sync) == [("update", "ann", "A"), ("create", "7", "x"), ("delete", "7", None)]
    assert [store["waiting"] for store in sync.capture()["stores"]] == [0, 0]


@pytest.fixture
def neighbour(open_: Any, tmp_path: Path) -> Iterator[tuple[Synchronizer, Synchronizer]]:
    """Two projects that read the same table."""
    sync = open_()
    (tmp_path / "other").mkdir()
    with synchronizer(tmp_path / "other", CONFIG.replace("sqlite:crm.db", "sqlite:../crm.db")) as other:
        other.ingest()
        yield sync, other


def test_what_another_project_took_out_of_the_queue_is_a_gap_and_not_missed_in_silence(
    neighbour: tuple[Synchronizer, Synchronizer], path: Path
) -> None:
    sync, other = neighbour
    run(path, "UPDATE person SET name = 'A' WHERE id = 1")
    assert did(other.ingest(), "crm") == {"updated": 1}
    report = sync.ingest()
    assert report.exit_code == 3
    assert "taken out of the queue" in report["stores"][0]["error"]
    assert 'capture = "scan"' in report.hints["crm"]
    [standing] = sync.capture()["stores"][:1]
    assert (standing["ok"], "taken out of the queue" in standing["detail"]) == (False, True)
    assert did(sync.ingest(accept_gap=True), "crm") == {"updated": 1, "unchanged": 1}
    assert quiet(sync)


def test_what_another_project_set_up_again_is_compared(
    neighbour: tuple[Synchronizer, Synchronizer], path: Path
) -> None:
    sync, other = neighbour
    rebuild = [
        "ALTER TABLE person RENAME TO old",
        TABLE,
        "INSERT INTO person SELECT * FROM old",
        "DROP TABLE old",
    ]
    run(path, *rebuild, "UPDATE person SET name = 'unseen' WHERE id = 1")
    assert other.ingest()["ok"]  # it sets up the triggers again
    report = sync.ingest()
    assert (report["ok"], report["stores"][0]["updated"]) == (True, 1)
    assert steps(sync) == [("update", "ann", "unseen")]
    assert quiet(sync)


def test_a_journal_out_of_a_backup_does_not_miss_what_is_gone_from_the_queue(
    open_: Any, path: Path, tmp_path: Path
) -> None:
    sync = open_()
    sync.close()
    shutil.copy(tmp_path / "evsync.db", tmp_path / "backup.db")
    run(path, "UPDATE person SET name = 'A' WHERE id = 1")
    with synchronizer(tmp_path, CONFIG) as now:
        assert did(now.ingest(), "crm") == {"updated": 1}
    for name in ("evsync.db-wal", "evsync.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "evsync.db")
    with synchronizer(tmp_path, CONFIG) as then:
        assert then.ingest().exit_code == 3
        assert did(then.ingest(accept_gap=True), "crm") == {"updated": 1, "unchanged": 1}


def test_a_capture_that_was_set_up_before_this_was_noted_goes_on(open_: Any, path: Path) -> None:
    sync = open_()
    run(
        path,
        "ALTER TABLE _evsync_capture DROP COLUMN pruned",
        "ALTER TABLE _evsync_capture DROP COLUMN since",
    )
    for name in ("A", "B"):
        run(path, f"UPDATE person SET name = '{name}' WHERE id = 1")
        sync.ingest()
    assert steps(sync) == [("update", "ann", "A"), ("update", "ann", "B")]
    assert sql(path, "SELECT count(*) FROM _evsync_queue") == [(0,)]
    assert quiet(sync)


def test_a_rebuilt_table_is_compared_and_captured_again(open_: Any, path: Path) -> None:
    sync = open_()
    run(path, "UPDATE person SET name = 'before' WHERE id = 1")
    run(
        path,
        TABLE.replace("person", "fresh"),
        "INSERT INTO fresh SELECT * FROM person",
        "DROP TABLE person",
        "ALTER TABLE fresh RENAME TO person",
        "UPDATE person SET name = 'unseen' WHERE id = 2",
    )
    report = sync.ingest()
    assert report["stores"][0]["missed"] == 1
    assert steps(sync) == [("update", "ann", "before"), ("update", "ben", "unseen")]
    runs = dict(sql(path.parent / "evsync.db", "SELECT id, command FROM run"))
    assert [runs[event["run"]] for event in sync.log(after=2)] == ["ingest", "reconcile"]
    run(path, "UPDATE person SET name = 'seen' WHERE id = 2")
    assert "missed" not in sync.ingest()["stores"][0]
    assert steps(sync)[-1] == ("update", "ben", "seen")


ANEW = {
    "as it was": [TABLE, ROWS],
    "in other letters": [TABLE.replace("person", "Person"), ROWS],
    "with a column more": [TABLE.replace(")", ", extra TEXT)"), "INSERT INTO person (email) VALUES ('ann')"],
    "with another key": [
        "CREATE TABLE person (email TEXT PRIMARY KEY, name TEXT)",
        "INSERT INTO person VALUES ('ann', 'Ann')",
    ],
}


@pytest.mark.parametrize("seen_gone", [False, True], ids=["at once", "after a sync without it"])
@pytest.mark.parametrize("anew", ANEW.values(), ids=ANEW)
def test_a_table_made_anew_is_captured_again_by_the_next_sync(
    open_: Any, path: Path, tmp_path: Path, anew: list[str], seen_gone: bool
) -> None:
    open_().sync()
    run(path, "DROP TABLE person")
    if seen_gone:
        with synchronizer(tmp_path, CONFIG) as sync:
            assert sync.sync().exit_code == 3
    run(path, *anew)
    with synchronizer(tmp_path, CONFIG) as sync:
        allowed = {"allow_mapping": True, "allow_changes": True, "allow_deletes": True}
        assert sync.sync(**allowed)["ok"]
        assert sync.capture(["crm"])["ok"]
        head = sync.status()["head"]
        run(path, "UPDATE person SET name = 'x' WHERE email = 'ann'", "UPDATE person SET name = 'y'")
        sync.ingest(["crm"], **allowed)
        assert [name for _, key, name in steps(sync, head) if key == "ann"] == ["x", "y"]
        assert quiet(sync)


def test_what_a_guard_stopped_the_comparison_of_is_compared_by_the_next_ingest(
    open_: Any, path: Path
) -> None:
    sync = open_(config=CONFIG.replace('max_deletes = "100%"', ""))
    run(path, "DROP TABLE person", TABLE)
    for _ in range(2):
        with pytest.raises(GuardTripped, match="now shows none"):
            sync.ingest()
    assert sync.ingest(allow_deletes=True)["ok"]
    assert [(op, key) for op, key, _ in steps(sync)] == [("delete", "ann"), ("delete", "ben")]
    assert quiet(sync)


def test_a_dropped_trigger_is_noticed(open_: Any, path: Path) -> None:
    sync = open_()
    [(name,)] = sql(
        path, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%\\_u' ESCAPE '\\'"
    )
    run(path, f'DROP TRIGGER "{name}"', "UPDATE person SET name = 'unseen' WHERE id = 2")
    assert not sync.capture()["stores"][0]["ok"]
    assert sync.ingest()["stores"][0]["missed"] == 1
    assert sync.capture()["stores"][0]["ok"]


def test_a_scan_beside_the_feed_finds_what_was_missed_and_says_so(open_: Any, path: Path) -> None:
    sync = open_()
    run(path, "UPDATE person SET name = 'told' WHERE id = 1", "UPDATE person SET name = 'lost' WHERE id = 2")
    run(path, "DELETE FROM _evsync_queue WHERE n = 2")
    report = sync.ingest(scan=True)
    assert report["stores"][0]["missed"] == 1
    assert did(report, "crm")["updated"] == 2
    assert quiet(sync)


def test_a_queue_that_was_set_up_anew_is_a_gap(open_: Any, path: Path) -> None:
    sync = open_()
    sync.remove_capture(["crm"])
    sync.install_capture(["crm"])
    run(path, "UPDATE person SET name = 'x' WHERE id = 1")
    assert sync.ingest()["ok"]  # taken away on purpose: it begins anew by comparing
    sql(path, "UPDATE _evsync_capture SET columns = 'other' WHERE tbl = ''")
    run(path, "UPDATE person SET name = 'y' WHERE id = 1")
    report = sync.ingest()
    assert (report.exit_code, report["ok"]) == (3, False)
    assert "not the one that was read before" in report["stores"][0]["error"]
    assert "--accept-gap" in report.hints["crm"]
    report = sync.ingest(accept_gap=True)
    assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
    runs = dict(sql(path.parent / "evsync.db", "SELECT id, command FROM run"))
    assert runs[list(sync.log())[-1]["run"]] == "gap"
    assert quiet(sync)


def test_a_capture_that_is_gone_is_a_gap(open_: Any, path: Path) -> None:
    sync = open_(config=CONFIG.replace('"triggers"', '"auto"'))
    sync.install_capture(["crm"])
    sync.ingest()
    other = synchronizer(path.parent, CONFIG.replace("evsync.db", "other.db"))
    other.stores["crm"].accessor("person").uninstall(other.stores["crm"])  # type: ignore[attr-defined]
    other.close()
    report = sync.ingest()
    assert report.exit_code == 3
    assert "not captured any more" in report["stores"][0]["error"]
    assert sync.ingest(accept_gap=True)["ok"]
    assert sync.ingest()["ok"]


HALVES = {
    "no queue": ["DROP TABLE _evsync_queue"],
    "no list": ["DROP TABLE _evsync_capture"],
    "an emptied list": ["DELETE FROM _evsync_capture"],
    "triggers alone": ["DROP TABLE _evsync_queue", "DROP TABLE _evsync_capture"],
}
half = pytest.mark.parametrize("lost", HALVES.values(), ids=HALVES)


@half
def test_half_a_capture_is_told_and_ends_an_ingest_as_a_gap(open_: Any, path: Path, lost: list[str]) -> None:
    sync = open_()
    run(path, *lost)
    [store] = sync.capture(["crm"])["stores"]
    assert (store["ok"], store["hint"]) == (False, "evsync capture install crm")
    assert "taken away by half" in store["detail"]
    report = sync.ingest(["crm"])
    assert report.exit_code == 3
    assert "not captured any more" in report["stores"][0]["error"]
    assert "no such table" not in report["stores"][0]["error"]
    assert "evsync capture install crm" in report.hints["crm"]
    assert "--accept-gap" in report.hints["crm"]


@half
def test_half_a_capture_is_mended_by_install_and_what_went_by_is_compared(
    open_: Any, path: Path, lost: list[str]
) -> None:
    sync = open_()
    run(path, *lost)
    report = sync.install_capture(["crm"])
    assert (report["ok"], report["stores"][0]["ok"]) == (True, True), report
    run(path, "UPDATE person SET name = 'seen' WHERE id = 1")
    assert "--accept-gap" in sync.ingest().hints["crm"]
    assert sync.ingest(accept_gap=True)["ok"]
    assert steps(sync) == [("update", "ann", "seen")]
    run(path, "UPDATE person SET name = 'a' WHERE id = 1", "UPDATE person SET name = 'b' WHERE id = 1")
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["seen", "a", "b"]
    assert quiet(sync)


@half
def test_half_a_capture_is_set_up_anew_where_the_gap_is_accepted(
    open_: Any, path: Path, lost: list[str]
) -> None:
    sync = open_()
    run(path, *lost)
    assert sync.ingest(accept_gap=True)["ok"]
    assert sync.capture(["crm"])["ok"]
    run(path, "UPDATE person SET name = 'seen' WHERE id = 1")
    sync.ingest()
    assert steps(sync) == [("update", "ann", "seen")]


@half
def test_of_half_a_capture_remove_leaves_nothing(open_: Any, path: Path, lost: list[str]) -> None:
    sync = open_(config=CONFIG.replace('"triggers"', '"auto"'))
    sync.install_capture(["crm"])
    run(path, "CREATE TRIGGER xevsync_mine AFTER INSERT ON person BEGIN SELECT 1; END", *lost)
    report = sync.remove_capture(["crm"])
    assert (report["ok"], report["stores"][0]["mode"]) == (True, "scan"), report
    assert sql(path, "SELECT name FROM sqlite_master WHERE name LIKE '%evsync%'") == [("xevsync_mine",)]
    run(path, "UPDATE person SET name = 'x' WHERE id = 1")
    assert sync.ingest()["ok"]


def test_a_write_that_half_a_capture_breaks_says_what_to_do(open_: Any, path: Path) -> None:
    from evsync import Data

    sync = open_()
    run(path, "DROP TABLE _evsync_queue")
    with pytest.raises(Unreachable, match="taken away by half") as raised:
        sync.stores["crm"].update(Data("person", {"email": "ann", "name": "x"}))
    assert "evsync capture install crm" in raised.value.hint


def test_a_replay_that_half_a_capture_breaks_puts_no_record_down_as_refused(
    open_: Any, path: Path, tmp_path: Path
) -> None:
    sync = open_()
    sync.sync()
    listed = tmp_path / "list.csv"
    listed.write_text(listed.read_text(encoding="utf-8").replace("Ann", "New"), encoding="utf-8")
    run(path, "DROP TABLE _evsync_queue")
    report = sync.sync()
    assert report.exit_code == 3
    assert list(sync.failures()) == []
    sync.install_capture(["crm"])
    assert sync.ingest(accept_gap=True)["ok"]
    assert sync.sync()["ok"]
    assert sql(path, "SELECT name FROM person WHERE id = 1") == [("New",)]


def test_a_feed_without_its_queue_is_a_lost_position(open_: Any, path: Path) -> None:
    sync = open_()
    crm = sync.stores["crm"]
    accessor: Any = crm.accessor("person")
    position = accessor.position(crm, "person")
    run(path, "DROP TABLE _evsync_queue")
    with pytest.raises(PositionLost, match="no table _evsync_queue"):
        list(accessor.changes(crm, {"person": position}))


def test_scan_as_configured_ends_the_following(open_: Any, path: Path, tmp_path: Path) -> None:
    open_().close()
    with synchronizer(tmp_path, CONFIG.replace('"triggers"', '"scan"')) as sync:
        run(path, "UPDATE person SET name = 'x' WHERE id = 1")
        assert did(sync.ingest(), "crm") == {"updated": 1, "unchanged": 1}
        assert not sync.capture(["crm"])["stores"][0]["ok"]
        assert sync.remove_capture(["crm"])["ok"]
        assert sql(path, "SELECT count(*) FROM sqlite_master WHERE name LIKE '%evsync%'") == [(0,)]


def test_what_has_no_key_is_refused_before_it_hurts(open_: Any, path: Path) -> None:
    sync = open_(
        "CREATE TABLE t (email TEXT, name TEXT)",
        "CREATE VIEW person AS SELECT * FROM t",
        CONFIG.replace('"triggers"', '"auto"'),
    )
    report = sync.install_capture(["crm"])
    assert report.exit_code == 3
    assert "is a view" in report["stores"][0]["error"]


def test_an_unknown_way_is_refused(open_: Any) -> None:
    with pytest.raises(ConfigError, match="unknown capture 'trigers'") as raised:
        open_(config=CONFIG.replace('"triggers"', '"trigers"'))
    assert "did you mean 'triggers'" in raised.value.hint


# -- whatever is done ------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["1", "2", "3"])
MAILS = st.sampled_from(["'ann'", "'ben'", "'cem'", "NULL"])
NAMES = st.sampled_from(["'x'", "'y'", "NULL"])
OR = st.sampled_from(["", " OR REPLACE", " OR IGNORE"])
STATEMENTS = st.one_of(
    st.builds("INSERT{} INTO person (id, email, name) VALUES ({}, {}, {})".format, OR, KEYS, MAILS, NAMES),
    st.builds("UPDATE{} person SET name = {} WHERE id = {}".format, OR, NAMES, KEYS),
    st.builds("UPDATE{} person SET id = {}, email = {} WHERE id = {}".format, OR, KEYS, MAILS, KEYS),
    st.builds("DELETE FROM person WHERE id = {}".format, KEYS),
)


@settings(max_examples=60)
@given(st.lists(st.lists(STATEMENTS, min_size=1, max_size=6), max_size=4), st.booleans())
def test_after_any_statements_a_comparison_finds_nothing(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]], recursive: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "crm.db"
    run(path, TABLE, ROWS)
    config = CONFIG.replace('key = ["email"]', 'key = ["id"]')
    with synchronizer(folder, config) as sync:
        sync.ingest()
        for statements in rounds:
            for statement in statements:
                try:
                    run(path, statement, recursive=recursive)
                except sqlite3.IntegrityError:
                    continue
            assert sync.ingest(["crm"], allow_changes=True)["ok"]
        held = {str(row[0]): row[1:] for row in sql(path, "SELECT id, email, name FROM person")}
        seen = {}
        for event in sync.log():
            after = event["after"]
            seen[event["key"]] = after and (after["email"], after["name"])
        assert {key: value for key, value in seen.items() if value is not None} == held
        assert quiet(sync)
