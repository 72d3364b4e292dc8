"""PostgreSQL's changes out of its log: every step of every table, no gap and no duplicate, whatever is open meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer, only_our_server
from projects import did, synchronizer
from store_kinds import postgres_database

from accessors import postgres_feed as feed
from evsync import Data
from evsync.errors import ConfigError
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.person]
key = ["email"]
[stores.crm]
url = "{url}"
capture = "wal"
max_deletes = "100%"
[stores.crm.types.person]
[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""

TABLE = "CREATE TABLE person (id serial PRIMARY KEY, email text UNIQUE, name text)"
ROWS = "INSERT INTO person (email, name) VALUES ('ann', 'Ann'), ('ben', 'Ben')"


@pytest.fixture
def database() -> Iterator[str]:
    with postgres_database() as url:
        yield url


def run(url: str, *statements: str) -> list[Any]:
    """What an application does, each statement a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def open_(tmp_path: Path, database: str) -> Iterator[Callable[..., Synchronizer]]:
    opened = []

    def made(table: str = TABLE, rows: str = ROWS, config: str = CONFIG) -> Synchronizer:
        run(database, table, rows)
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
    run(
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
    run(database, "UPDATE person SET name = 'A'")
    assert did(sync.ingest(), "crm") == {"updated": 2}
    assert did(sync.ingest(), "crm") == {}
    assert did(sync.ingest(dry_run=True), "crm") == {}


def test_what_is_committed_while_it_is_read_is_told_once(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = open_()
    stream = feed.stream

    def late(*given: Any) -> Any:
        run(database, "DELETE FROM person WHERE id = 2; INSERT INTO person VALUES (2, 'ben', 'Back')")
        return stream(*given)

    run(database, "UPDATE person SET name = 'A' WHERE email = 'ann'", "CREATE TABLE other ()")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(feed, "stream", late)
        sync.ingest()
    sync.ingest()
    assert steps(sync) == [("update", "ann", "A"), ("delete", "ben", None), ("create", "ben", "Back")]
    assert quiet(sync)


def test_what_is_journalled_the_server_may_forget(open_: Any, database: str) -> None:
    sync = open_()
    asked = "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
    run(database, "UPDATE person SET name = repeat('A', 2000)")
    [(behind,)] = run(database, asked)
    sync.ingest()
    [(left,)] = run(database, asked)
    assert left < behind


def test_a_large_value_that_did_not_change_is_kept(open_: Any, database: str) -> None:
    table = "CREATE TABLE person (email text PRIMARY KEY, name text, photo text)"
    sync = open_(
        table + "; ALTER TABLE person ALTER photo SET STORAGE EXTERNAL",
        "INSERT INTO person VALUES ('ann', 'Ann', repeat('x', 10000))",
    )
    run(
        database,
        "UPDATE person SET name = 'Anna'",
        "UPDATE person SET photo = NULL",
        "UPDATE person SET photo = repeat('y', 9000)",
        "UPDATE person SET name = 'Z'",
    )
    sync.ingest()
    photos = [len(photo or "") for _, _, photo in steps(sync, 1, "photo")]
    assert photos == [10000, 0, 9000, 9000]
    assert quiet(sync)


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "USING INDEX person_email_key"])
def test_deletes_and_key_changes_under_every_replica_identity(
    open_: Any, database: str, identity: str
) -> None:
    table = "CREATE TABLE person (email text NOT NULL UNIQUE, name text, nr int PRIMARY KEY)"
    sync = open_(
        f"{table}; ALTER TABLE person REPLICA IDENTITY {identity}",
        "INSERT INTO person VALUES ('ann', 'Ann', 1), ('ben', 'Ben', 2)",
    )
    run(
        database,
        "UPDATE person SET email = 'anna' WHERE nr = 1",
        "DELETE FROM person WHERE nr = 2",
        "UPDATE person SET name = 'x'",
    )
    sync.ingest()
    assert steps(sync) == [("update", "ann", "Ann"), ("delete", "ben", None), ("update", "ann", "x")]
    assert quiet(sync)


def test_a_composite_key(open_: Any, database: str) -> None:
    config = CONFIG.replace('key = ["email"]', 'key = ["email", "name"]')
    sync = open_(
        "CREATE TABLE person (email text, name text, n int, PRIMARY KEY (email, name))",
        "INSERT INTO person VALUES ('ann', 'a/b', 1), ('ben', 'b', 1)",
        config,
    )
    run(
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


def test_truncate_deletes_all(open_: Any, database: str) -> None:
    sync = open_()
    run(
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
    run(database, "TRUNCATE person")
    with pytest.raises(GuardTripped, match="2 of 2"):
        sync.ingest()
    assert did(sync.ingest(allow_deletes=True), "crm") == {"deleted": 2}


def test_two_tables_come_in_the_order_of_their_commits(open_: Any, database: str) -> None:
    config = CONFIG.replace("[stores.crm]", '[types.pet]\nkey = ["id"]\n[stores.crm]').replace(
        "[stores.crm.types.person]", "[stores.crm.types.person]\n[stores.crm.types.pet]"
    )
    sync = open_(TABLE + "; CREATE TABLE pet (id int PRIMARY KEY, name text)", config=config)
    run(
        database,
        "INSERT INTO pet VALUES (1, 'a')",
        "UPDATE person SET name = 'b' WHERE email = 'ann'",
        "INSERT INTO pet VALUES (2, 'c')",
    )
    with psycopg.connect(database) as early, psycopg.connect(database) as late:
        early.execute("UPDATE person SET name = 'begun first' WHERE email = 'ben'")
        late.execute("INSERT INTO pet VALUES (3, 'begun second')")
        late.commit()
        early.commit()
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["a", "b", "c", "begun second", "begun first"]


def test_all_types_come_as_a_scan_shows_them(open_: Any, database: str) -> None:
    columns = "i8 bigint, n numeric, f float8, b bool, bin bytea, d date, t time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, arr int[], txt text[], c char(5), iv interval, ip inet"
    values = (
        "-9223372036854775808, 12.340, '-Infinity', true, '\\x00ff', '2024-02-29', '23:59:59.999999', '2024-01-01 00:00:00.1', '2024-01-01 02:00:00+02',"
        " '12345678-1234-5678-1234-567812345678', '{\"a\": [1.50, null]}', '[1.10]', '{{1,2},{3,NULL}}', '{\"a,b\",NULL,\"NULL\"}', 'ab', '1 day 2 hours', '10.0.0.1/8'"
    )
    sync = open_(
        f"CREATE TABLE person (email text PRIMARY KEY, {columns})",
        f"INSERT INTO person VALUES ('scanned', {values})",
    )
    run(database, f"INSERT INTO person VALUES ('streamed', {values})")
    sync.ingest()
    scanned, streamed = (dict(event["after"]) for event in sync.log())
    assert {scanned.pop("email"), streamed.pop("email")} == {"scanned", "streamed"}
    assert streamed == scanned
    assert quiet(sync)


# -- from the scan to the feed --------------------------------------------------------------------------------


def test_a_transaction_that_is_open_during_the_scan_is_told_once(tmp_path: Path, database: str) -> None:
    run(database, TABLE, ROWS)
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync, psycopg.connect(database) as slow:
        sync.install_capture(["crm"])
        run(database, "UPDATE person SET name = 'before the scan' WHERE email = 'ben'")
        slow.execute("UPDATE person SET name = 'open' WHERE email = 'ann'")
        run(
            database,
            "INSERT INTO person (email, name) VALUES ('cem', 'x')",
            "UPDATE person SET name = 'y' WHERE email = 'cem'",
        )
        assert did(sync.ingest(), "crm") == {"created": 3}
        run(database, "UPDATE person SET name = 'z' WHERE email = 'cem'")
        assert did(sync.ingest(), "crm") == {"updated": 1}
        slow.commit()
        assert did(sync.ingest(), "crm") == {"updated": 1}
        assert steps(sync, 3) == [("update", "cem", "z"), ("update", "ann", "open")]
        assert quiet(sync)


def test_a_comparison_beside_open_transactions_is_quiet_and_loses_nothing(open_: Any, database: str) -> None:
    sync = open_()
    with psycopg.connect(database) as slow:
        slow.execute("UPDATE person SET name = 'slow' WHERE email = 'ann'")
        run(database, "UPDATE person SET name = 'quick' WHERE email = 'ben'")
        report = sync.ingest(scan=True)
        assert did(report, "crm")["updated"] == 1
        assert not report["stores"][0].get("missed")
        slow.commit()
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert steps(sync) == [("update", "ben", "quick"), ("update", "ann", "slow")]


def test_a_scan_finds_what_the_feed_did_not_tell(open_: Any, database: str) -> None:
    sync = open_()
    run(
        database,
        "ALTER PUBLICATION " + slot(database) + " DROP TABLE person",
        "UPDATE person SET name = 'unseen' WHERE email = 'ann'",
        "ALTER PUBLICATION " + slot(database) + " ADD TABLE person",
        "UPDATE person SET name = 'seen' WHERE email = 'ben'",
    )
    report = sync.ingest(scan=True)
    assert report["stores"][0]["missed"] == 1
    assert steps(sync) == [("update", "ben", "seen"), ("update", "ann", "unseen")]
    assert quiet(sync)


def slot(database: str) -> str:
    [(name,)] = run(
        database, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    )
    return str(name)


# -- our own writes ------------------------------------------------------------------------------------------


def test_what_we_write_does_not_come_back(open_: Any, tmp_path: Path, database: str) -> None:
    run(
        database,
        TABLE,
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE person SET name = upper(name) WHERE id = NEW.id AND name <> upper(name); RETURN NULL; END $$",
        "CREATE TRIGGER loud AFTER UPDATE ON person FOR EACH ROW EXECUTE FUNCTION loud()",
    )
    sync = open_("SELECT 1", ROWS)
    sync.sync()
    crm = sync.stores["crm"]
    for name in ("one", "two"):
        crm.update(Data("person", {"email": "ann", "name": name}), actor="web")
    before = steps(sync)
    assert sync.ingest()["last"] is None
    assert steps(sync) == before
    run(database, "UPDATE person SET name = 'three' WHERE email = 'ann'")
    sync.ingest()
    assert steps(sync)[-1] == ("update", "ann", "THREE")
    assert quiet(sync)


def test_changes_reach_the_other_store(open_: Any, database: str) -> None:
    sync = open_()
    sync.sync()
    for number in range(3):
        run(database, f"INSERT INTO person (email, name) VALUES ('n{number}', 'N')")
        report = sync.sync()
        assert did(report["ingest"], "crm") == {"created": 1}
        assert did(report["replay"], "list") == {"created": 1}
    assert sync.sync()["ingest"]["last"] is None


# -- what may go wrong ----------------------------------------------------------------------------------------


def test_a_slot_that_was_recreated_is_a_gap(open_: Any, database: str) -> None:
    sync = open_()
    name = slot(database)
    run(
        database,
        f"SELECT pg_drop_replication_slot('{name}')",
        "UPDATE person SET name = 'unseen' WHERE email = 'ann'",
    )
    report = sync.ingest()
    assert report.exit_code == 3
    assert "not captured any more" in report["stores"][0]["error"]
    assert sync.install_capture(["crm"])["ok"]
    report = sync.ingest()
    assert report.exit_code == 3
    assert "were not captured for a while" in report["stores"][0]["error"]
    report = sync.ingest(accept_gap=True)
    assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
    run(database, "UPDATE person SET name = 'seen' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert quiet(sync)


def test_a_table_whose_updates_would_fail_is_refused(tmp_path: Path, database: str) -> None:
    run(database, "CREATE TABLE person (email text, name text)", "INSERT INTO person VALUES ('ann', 'Ann')")
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        report = sync.ingest()
        assert report.exit_code == 3
        assert "would fail" in report["stores"][0]["error"]
        assert "REPLICA IDENTITY FULL" in report.hints["crm"]
        run(database, "UPDATE person SET name = 'still works'", "ALTER TABLE person REPLICA IDENTITY FULL")
        assert sync.ingest()["ok"]
        run(database, "UPDATE person SET name = 'x'", "DELETE FROM person")
        sync.ingest()
        assert steps(sync, 1) == [("update", "ann", "x"), ("delete", "ann", None)]


@pytest.mark.parametrize("name", ["Mine!", "a-b", "x" * 41, ""])
def test_a_name_that_is_none_for_a_slot_is_refused_not_changed(
    tmp_path: Path, database: str, name: str
) -> None:
    run(database, TABLE)
    config = CONFIG.replace("{url}", database).replace('capture = "wal"', f'capture = "wal"\nslot = "{name}"')
    refused = pytest.raises(ConfigError, match="cannot be the name of a slot")
    with synchronizer(tmp_path, config) as sync, refused:
        sync.install_capture(["crm"])
    assert (
        run(database, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
    )


@pytest.mark.parametrize(
    "spoil",
    [
        "ALTER PUBLICATION {name} SET (publish = 'insert')",
        "ALTER PUBLICATION {name} SET TABLE person WHERE (email < 'b')",
    ],
    ids=["operations", "rows"],
)
def test_a_publication_that_tells_only_a_part_is_a_gap_and_mended_by_install(
    open_: Any, database: str, spoil: str
) -> None:
    sync = open_("CREATE TABLE person (email text PRIMARY KEY, name text)", ROWS)
    run(
        database,
        spoil.format(name=_publication(database)),
        "UPDATE person SET name = 'B' WHERE email = 'ben'",
    )
    assert not sync.capture()["stores"][0]["ok"]
    assert sync.ingest().exit_code == 3
    assert sync.install_capture(["crm"])["stores"][0]["ok"]
    assert did(sync.ingest(accept_gap=True), "crm") == {"updated": 1, "unchanged": 1}
    run(
        database,
        "UPDATE person SET name = 'C' WHERE email = 'ben'",
        "UPDATE person SET name = 'D' WHERE email = 'ben'",
    )
    sync.ingest()
    assert steps(sync, 3) == [("update", "ben", "C"), ("update", "ben", "D")]
    assert quiet(sync)


def test_of_a_column_that_the_log_does_not_tell_nothing_is_taken_for_null(open_: Any, database: str) -> None:
    sync = open_()
    run(
        database,
        f"ALTER PUBLICATION {_publication(database)} SET TABLE person (id, email)",
        "UPDATE person SET id = 9 WHERE email = 'ann'",
    )
    assert sync.ingest()["ok"]
    assert steps(sync) == []
    run(database, "UPDATE person SET name = 'A' WHERE email = 'ann'")
    sync.ingest()
    assert steps(sync) == [("update", "ann", "A")]
    assert quiet(sync)


def test_a_table_that_is_emptied_and_filled_again_is_no_mass_deletion(open_: Any, database: str) -> None:
    sync = open_(config=CONFIG.replace('max_deletes = "100%"', ""))
    run(
        database,
        "BEGIN; TRUNCATE person; INSERT INTO person (email, name) VALUES ('ann', 'Ann'), ('ben', 'Benny'); COMMIT",
    )
    assert sync.ingest()["ok"]
    assert {event["key"] for event in sync.log(after=2) if event["op"] == "create"} == {"ann", "ben"}
    assert quiet(sync)


@only_our_server
def test_the_right_to_make_a_publication_is_named_where_it_is_missing(tmp_path: Path, database: str) -> None:
    role = f"reader_{database.rpartition('/')[2]}"
    run(database, TABLE, f"CREATE ROLE {role} LOGIN REPLICATION", f"GRANT SELECT ON person TO {role}")
    try:
        config = CONFIG.replace("{url}", database.replace("postgres@", f"{role}@"))
        with synchronizer(tmp_path, config) as sync:
            report = sync.install_capture(["crm"])
        assert report.exit_code == 3
        assert "no right to create a publication" in report["stores"][0]["error"]
        assert report.hints["crm"].startswith("run: GRANT CREATE ON DATABASE")
    finally:
        run(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_remove_leaves_nothing(open_: Any, database: str) -> None:
    sync = open_()
    state = sync.capture(["crm"])["stores"][0]
    assert (state["mode"], state["ok"], state["types"]) == ("wal", True, ["person"])
    assert state["retained"] >= 0
    assert sync.remove_capture(["crm"])["stores"][0]["done"]
    assert run(database, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [
        (0,)
    ]
    assert run(database, "SELECT count(*) FROM pg_publication") == [(0,)]


@pytest.mark.slow
def test_the_journal_holds_every_change_of_concurrent_writers(open_: Any, database: str) -> None:
    run(database, "CREATE TABLE truth (n bigint, id int, name text)")
    sync = open_(
        "CREATE TABLE person (email text PRIMARY KEY, name text)",
        "INSERT INTO person SELECT i, 'start' FROM generate_series(1, 20) i",
    )

    def write(number: int) -> None:
        with psycopg.connect(database) as connection:
            for count in range(300):
                for email in sorted({(number * 7 + count) % 20 + 1, (count * 3) % 20 + 1}):
                    connection.execute(
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
    held = dict(run(database, "SELECT email, name FROM person"))
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
    assert all(counts == '{"crm":{}}' or '"updated"' not in counts for _, counts in runs)
    assert quiet(sync)


@pytest.mark.slow
def test_a_server_that_crashes_loses_nothing(tmp_path: Path) -> None:
    server = PostgresServer(fsync="on")
    server.start()
    try:
        run(server.url, TABLE, ROWS)
        with synchronizer(tmp_path, CONFIG.replace("{url}", server.url)) as sync:
            assert sync.ingest()["ok"]
            run(server.url, "UPDATE person SET name = 'x' WHERE email = 'ann'")
            server.kill()
            report = sync.ingest()
            assert report.exit_code == 3
            server.start()
            assert did(sync.ingest(), "crm") == {"updated": 1}
            run(server.url, "UPDATE person SET name = 'y' WHERE email = 'ann'")
            server.kill()
            server.start()
            assert did(sync.ingest(), "crm") == {"updated": 1}
            assert steps(sync) == [("update", "ann", "x"), ("update", "ann", "y")]
            assert quiet(sync)
    finally:
        server.close()


GENERATED = "CREATE TABLE person (email text PRIMARY KEY, name text, loud text GENERATED ALWAYS AS (upper(name)) STORED)"


def test_generated_columns_are_told_too(open_: Any, database: str) -> None:
    sync = open_(GENERATED)
    run(database, "UPDATE person SET name = 'Anna' WHERE email = 'ann'")
    sync.ingest()
    assert steps(sync, field="loud") == [("update", "ann", "ANNA")]
    assert quiet(sync)


def test_a_publication_that_leaves_a_column_out_is_noticed_and_mended(open_: Any, database: str) -> None:
    sync = open_(GENERATED)
    run(
        database,
        f"ALTER PUBLICATION {_publication(database)} SET (publish_generated_columns = none)",
        "UPDATE person SET name = 'Anna' WHERE email = 'ann'",
    )
    report = sync.ingest()
    assert report["ok"], report
    assert steps(sync, field="loud")[-1] == ("update", "ann", "ANNA")
    run(database, "UPDATE person SET name = 'Anne' WHERE email = 'ann'")
    sync.ingest()
    assert steps(sync, field="loud")[-1] == ("update", "ann", "ANNE")
    assert quiet(sync)


def test_what_the_log_cannot_tell_is_refused(tmp_path: Path, database: str) -> None:
    run(database, GENERATED.replace("STORED", "VIRTUAL"), "INSERT INTO person VALUES ('ann', 'Ann')")
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        report = sync.ingest()
    assert report.exit_code == 3
    assert "generated column 'loud'" in report["stores"][0]["error"]


def _publication(database: str) -> str:
    ((name,),) = run(database, "SELECT pubname FROM pg_publication")
    return str(name)


@pytest.mark.parametrize("capture", ['capture = "wal"\nslot = "other"', 'capture = "scan"'])
def test_what_another_project_writes_is_somebody_elses_change(
    open_: Any, tmp_path: Path, database: str, capture: str
) -> None:
    sync = open_()
    sync.stores["crm"].update(Data("person", {"email": "ann", "name": "Mine"}))
    (tmp_path / "other").mkdir()
    config = CONFIG.replace("{url}", database).replace('capture = "wal"', capture)
    with synchronizer(tmp_path / "other", config) as other:
        assert other.ingest()["ok"]
        other.stores["crm"].update(Data("person", {"email": "ann", "name": "Theirs"}))
    sync.ingest()
    assert steps(sync, 3) == [("update", "ann", "Theirs")]
    assert quiet(sync)


@pytest.mark.parametrize(
    "lose", ["DROP PUBLICATION {name}", "ALTER PUBLICATION {name} DROP TABLE person"], ids=["all", "table"]
)
def test_what_was_not_published_for_a_while_is_a_gap(open_: Any, database: str, lose: str) -> None:
    sync = open_()
    run(
        database,
        lose.format(name=_publication(database)),
        "UPDATE person SET name = 'unseen' WHERE email = 'ann'",
    )
    assert sync.ingest().exit_code == 3
    [standing] = sync.capture(["crm"])["stores"]
    assert not standing["ok"]
    assert "evsync capture install crm" in standing["hint"]
    assert sync.install_capture(["crm"])["ok"]
    [standing] = sync.capture(["crm"])["stores"]
    assert (standing["ok"], standing["hint"]) == (False, "evsync ingest crm --accept-gap")
    assert sync.ingest().exit_code == 3
    report = sync.ingest(accept_gap=True)
    assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
    assert sync.capture(["crm"])["ok"]
    run(database, "UPDATE person SET name = 'seen' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert quiet(sync)
