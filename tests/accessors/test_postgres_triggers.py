"""PostgreSQL's changes by triggers: every step of every table, whatever the application does, and nothing that it would notice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from projects import did, synchronizer
from store_kinds import postgres_database
from test_postgres_capture import CONFIG as BY_LOG
from test_postgres_capture import ROWS, TABLE, quiet, run, steps

from accessors.postgres_connection import reading
from accessors.postgres_schema import load
from accessors.postgres_triggers import Noted, Part, shape
from evsync import Data
from evsync.errors import GuardTripped
from evsync.synchronizer import Synchronizer

CONFIG = BY_LOG.replace('"wal"', '"triggers"')
QUEUE = "evsync._evsync_crm_queue"


@pytest.fixture
def database() -> Iterator[str]:
    with postgres_database() as url:
        yield url


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


# -- every statement form -----------------------------------------------------------------------------------

FORMS: list[tuple[str, list[str], list[tuple[Any, ...]]]] = [
    ("insert", ["INSERT INTO person (email) VALUES ('cem')"], [("create", "cem", None)]),
    (
        "every update",
        ["UPDATE person SET name = 'A' WHERE id = 1", "UPDATE person SET name = 'B' WHERE id = 1"],
        [("update", "ann", "A"), ("update", "ann", "B")],
    ),
    (
        "every update of one transaction",
        ["UPDATE person SET name = 'A' WHERE id = 1; UPDATE person SET name = 'B' WHERE id = 1"],
        [("update", "ann", "A"), ("update", "ann", "B")],
    ),
    ("update of nothing", ["UPDATE person SET name = name"], []),
    ("of many rows", ["UPDATE person SET name = 'A'"], [("update", "ann", "A"), ("update", "ben", "A")]),
    (
        "null and back",
        ["UPDATE person SET name = NULL WHERE id = 1", "UPDATE person SET name = '' WHERE id = 1"],
        [("update", "ann", None), ("update", "ann", "")],
    ),
    ("delete", ["DELETE FROM person WHERE id = 1"], [("delete", "ann", None)]),
    ("delete of all", ["DELETE FROM person"], [("delete", "ann", None), ("delete", "ben", None)]),
    (
        "upsert",
        [
            "INSERT INTO person (email, name) VALUES ('ann', 'Up'), ('cem', 'New')"
            " ON CONFLICT (email) DO UPDATE SET name = excluded.name"
        ],
        [("update", "ann", "Up"), ("create", "cem", "New")],
    ),
    ("upsert of nothing", ["INSERT INTO person (email) VALUES ('ann') ON CONFLICT DO NOTHING"], []),
    (
        "merge",
        [
            "MERGE INTO person p USING (VALUES ('ann', 'M'), ('cem', 'N'), ('ben', NULL)) v (email, name) ON p.email = v.email"
            " WHEN MATCHED AND v.name IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET name = v.name"
            " WHEN NOT MATCHED THEN INSERT (email, name) VALUES (v.email, v.name)"
        ],
        [("update", "ann", "M"), ("create", "cem", "N"), ("delete", "ben", None)],
    ),
    (
        "a key is edited",
        [
            "UPDATE person SET email = 'anna', name = 'Anna' WHERE id = 1",
            "UPDATE person SET name = 'A' WHERE id = 1",
        ],
        [("update", "ann", "Anna"), ("update", "ann", "A")],
    ),
    (
        "an id is edited",
        [
            "UPDATE person SET id = 77, name = 'New' WHERE id = 1",
            "UPDATE person SET name = 'Er' WHERE id = 77",
        ],
        [("update", "ann", "New"), ("update", "ann", "Er")],
    ),
    (
        "created and gone at once",
        ["INSERT INTO person (email) VALUES ('cem'); DELETE FROM person WHERE email = 'cem'"],
        [("create", "cem", None), ("delete", "cem", None)],
    ),
    (
        "gone and there again",
        ["DELETE FROM person WHERE id = 1; INSERT INTO person (id, email, name) VALUES (1, 'ann', 'Again')"],
        [("delete", "ann", None), ("create", "ann", "Again")],
    ),
    (
        "a savepoint is rolled back",
        [
            "BEGIN; UPDATE person SET name = 'kept' WHERE id = 1; SAVEPOINT s; UPDATE person SET name = 'undone';"
            " ROLLBACK TO s; UPDATE person SET name = 'kept, too' WHERE id = 2; COMMIT"
        ],
        [("update", "ann", "kept"), ("update", "ben", "kept, too")],
    ),
    ("rolled back", ["BEGIN; UPDATE person SET name = 'undone'; ROLLBACK"], []),
    (
        "prepared, and committed later",
        ["BEGIN; UPDATE person SET name = 'P' WHERE id = 1; PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'"],
        [("update", "ann", "P")],
    ),
    (
        "truncate",
        [
            "UPDATE person SET name = 'x' WHERE id = 1",
            "TRUNCATE person",
            "INSERT INTO person (email) VALUES ('cem')",
        ],
        [("update", "ann", "x"), ("delete", "ann", None), ("delete", "ben", None), ("create", "cem", None)],
    ),
    (
        "from one statement into another",
        [
            "WITH gone AS (DELETE FROM person WHERE id = 1 RETURNING *)"
            " INSERT INTO person (email, name) SELECT 'new ' || email, name FROM gone"
        ],
        [("delete", "ann", None), ("create", "new ann", "Ann")],
    ),
]


@pytest.mark.parametrize(
    ("statements", "told"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS]
)
def test_every_step_of_every_form_is_told(
    open_: Any, database: str, statements: list[str], told: list[tuple[Any, ...]]
) -> None:
    sync = open_()
    run(database, *statements)
    assert sync.ingest()["ok"]
    assert steps(sync) == told
    assert quiet(sync)


def test_copy_is_told(open_: Any, database: str) -> None:
    sync = open_()
    with (
        psycopg.connect(database) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY person (email, name) FROM STDIN") as copy,
    ):
        copy.write("cem\tC\ndan\t\\N\n")
    sync.ingest()
    assert steps(sync) == [("create", "cem", "C"), ("create", "dan", None)]


def test_cascades_are_told(open_: Any, database: str) -> None:
    sync = open_(
        "CREATE TABLE firm (id int PRIMARY KEY); CREATE TABLE person (email text PRIMARY KEY, name text,"
        " firm int REFERENCES firm ON DELETE CASCADE ON UPDATE CASCADE, boss text REFERENCES person ON DELETE SET NULL)",
        "INSERT INTO firm VALUES (1), (2); INSERT INTO person VALUES ('ann', 'Ann', 1, NULL), ('ben', 'Ben', 2, 'ann')",
    )
    run(database, "UPDATE firm SET id = 9 WHERE id = 1", "DELETE FROM firm WHERE id = 9")
    sync.ingest()
    assert steps(sync, field="firm") == [("update", "ann", 9), ("delete", "ann", None), ("update", "ben", 2)]
    assert quiet(sync)


def test_a_deferred_constraint_that_fails_leaves_nothing(open_: Any, database: str) -> None:
    sync = open_(TABLE.replace("email text UNIQUE", "email text UNIQUE DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(database, "UPDATE person SET email = 'ben'")
    run(database, "UPDATE person SET email = CASE email WHEN 'ann' THEN 'ben' ELSE 'ann' END")
    assert did(sync.ingest(["crm"]), "crm")["updated"] == 2
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]


# -- tables of every shape ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE person (email text PRIMARY KEY, name text)",
        "CREATE TABLE person (email text, name text)",
        "CREATE TABLE person (email text, name text, PRIMARY KEY (email, name))",
        "CREATE TABLE person (email text PRIMARY KEY, name text, up text GENERATED ALWAYS AS (upper(name)) STORED)",
        'CREATE TABLE person (email text PRIMARY KEY, "a ""b"" \'c\' [d] $1 %s" text, name text)',
        "CREATE TABLE person (gone int, email text PRIMARY KEY, other text, name text); ALTER TABLE person DROP gone",
        "CREATE TABLE person (email text, name text, PRIMARY KEY (email)) PARTITION BY LIST (email);"
        " CREATE TABLE part_1 PARTITION OF person FOR VALUES IN ('ann', 'cem');"
        " CREATE TABLE part_2 (name text, gone int, email text NOT NULL); ALTER TABLE part_2 DROP gone;"
        " ALTER TABLE person ATTACH PARTITION part_2 DEFAULT",
        "CREATE TABLE person (email text PRIMARY KEY, name text); CREATE TABLE child (more int) INHERITS (person);"
        " CREATE RULE r AS ON INSERT TO person WHERE NEW.email = 'cem' DO INSTEAD"
        " INSERT INTO child VALUES (NEW.email, NEW.name, 1)",
    ],
    ids=["text key", "no key", "composite key", "generated", "quotes", "dropped column", "partitions", "inherited"],
)  # fmt: skip
def test_tables_of_every_shape(open_: Any, database: str, table: str) -> None:
    sync = open_(table, "INSERT INTO person (email, name) VALUES ('ann', 'Ann'), ('ben', 'Ben')")
    run(
        database,
        "INSERT INTO person (email, name) VALUES ('cem', 'Cem')",
        "UPDATE person SET name = 'Anna' WHERE email = 'ann'",
        "DELETE FROM person WHERE email = 'ben'",
        "UPDATE person SET email = 'dan' WHERE email = 'cem'",
    )
    report = sync.ingest()
    assert report["ok"], report
    assert "missed" not in report["stores"][0]
    assert steps(sync) == [
        ("create", "cem", "Cem"),
        ("update", "ann", "Anna"),
        ("delete", "ben", None),
        ("delete", "cem", None),
        ("create", "dan", "Cem"),
    ]
    assert quiet(sync)


TORTURE = [
    ("i8 bigint", "-9223372036854775808"),
    ("n numeric", "12.340"),
    ("f float8", "0.1::float8 + 0.2"),
    ("f4 float4", "'1e-40'"),
    ("inf float8", "'-Infinity'"),
    ("b bool", "true"),
    ("bin bytea", "'\\x00ff5c'"),
    ("d date", "'2024-02-03'"),
    ("t time", "'23:59:59.999999'"),
    ("ts timestamp", "'2024-01-02 00:00:00.1'"),
    ("tz timestamptz", "'2024-01-02 02:00:00+02'"),
    ("u uuid", "'12345678-1234-5678-1234-567812345678'"),
    ("j json", '\'{"a" : [1.50, null, "x\\\\y"]}\''),
    ("jb jsonb", "'[1.10]'"),
    ("arr int[]", "'{{1,2},{3,NULL}}'"),
    ("txt text[]", "ARRAY['a,b', NULL, 'NULL', '', 'q\"uo\\te']"),
    ("tzs timestamptz[]", "ARRAY['2024-01-02 02:00:00+02'::timestamptz]"),
    ("c char(5)", "'ab'"),
    ("iv interval", "'1 day 2 hours -3 seconds'"),
    ("ip inet", "'10.0.0.1/8'"),
    ("mood mood", "'so, so \"la\"'"),
    ("pos posint", "7"),
    ("comp comp", "ROW(1, 'x\"y,\\z', ROW('2024-01-02 02:00:00+02'::timestamptz))"),
    ("rng tstzrange", "'[2024-01-02 02:00:00+02,)'"),
    ("reg regclass", "'person'"),
    ("spaces text", "E' a\\tb\\n\\r\\\\ \"\"(),'"),
    ("empty text", "''"),
    ("nothing text", "NULL"),
    ("emoji text", "'\U0001f600 ä'"),
    ("long text", "repeat('x,\"', 20000)"),
]
TYPES = (
    "CREATE TYPE mood AS ENUM ('so, so \"la\"'); CREATE DOMAIN posint AS int CHECK (VALUE > 0);"
    " CREATE TYPE inner_ AS (tz timestamptz); CREATE TYPE comp AS (a int, b text, c inner_)"
)


def test_all_types_come_as_a_scan_shows_them(open_: Any, database: str) -> None:
    """Whatever the application's session has set that changes what the text of a value looks like."""
    columns, values = zip(*TORTURE, strict=True)
    sync = open_(
        f"{TYPES}; CREATE TABLE person (email text PRIMARY KEY, {', '.join(columns)})",
        f"INSERT INTO person VALUES ('scanned', {', '.join(values)})",
    )
    run(
        database,
        "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard';"
        " SET bytea_output = 'escape'; SET extra_float_digits = -5; SET search_path = 'pg_catalog'; SET xmloption = 'document';"
        " INSERT INTO public.person SELECT 'told', (t).* FROM"
        f" (SELECT {', '.join(f'p.{column.split()[0]}' for column in columns)} FROM public.person p) t"
        .replace("(t).*", "t.*"),
    )  # fmt: skip
    sync.ingest()
    scanned, told = (dict(event["after"]) for event in sync.log())
    assert {scanned.pop("email"), told.pop("email")} == {"scanned", "told"}
    assert told == scanned
    run(database, "SET TimeZone = 'Asia/Kathmandu'; UPDATE person SET email = 'again' WHERE email = 'told'")
    sync.ingest()
    assert dict(list(sync.log())[-1]["after"]) == scanned | {"email": "again"}
    assert quiet(sync)


def test_a_virtual_column_is_refused(tmp_path: Path, database: str) -> None:
    [(version,)] = run(database, "SHOW server_version_num")
    if int(version) < 180_000:
        pytest.skip("virtual columns came with 18")
    run(
        database,
        "CREATE TABLE person (email text PRIMARY KEY, name text, up text GENERATED ALWAYS AS (upper(name)) VIRTUAL)",
    )
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        report = sync.ingest()
        assert report.exit_code == 3
        assert "virtual" in report["stores"][0]["error"]
        assert "STORED" in report.hints["crm"]
    assert run(database, "SELECT to_regnamespace('evsync')") == [(None,)]


# -- what an application notices of it: nothing ----------------------------------------------------------------


@pytest.fixture
def application(database: str) -> Iterator[str]:
    """The URL of a role that may write the table, and nothing else."""
    role = database.rpartition("/")[2] + "_app"
    run(database, f"CREATE ROLE {role} LOGIN")
    yield database.replace("postgres@", f"{role}@")
    run(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def granted(url: str, *grants: str) -> None:
    role = url.partition("//")[2].partition("@")[0]
    run(url.replace(f"{role}@", "postgres@"), *(f"{grant} TO {role}" for grant in grants))


def test_an_application_without_rights_on_the_queue_writes_as_before(
    open_: Any, database: str, application: str
) -> None:
    sync = open_()
    granted(
        application,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON person",
        "GRANT USAGE ON SEQUENCE person_id_seq",
    )
    with psycopg.connect(application) as connection:
        added = connection.execute("INSERT INTO person (email) VALUES ('cem') RETURNING id")
        assert added.fetchall() == [(3,)]
        assert connection.execute("SELECT lastval()").fetchone() == (3,)
        assert connection.execute("UPDATE person SET name = 'x'").rowcount == 3
        assert connection.execute("SELECT lastval()").fetchone() == (3,)
        assert connection.execute("DELETE FROM person WHERE id = 1 RETURNING email").fetchall() == [("ann",)]
        assert connection.execute("SELECT current_user = session_user").fetchone() == (True,)
    with psycopg.connect(application) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT * FROM {QUEUE}")
    sync.ingest()
    assert [op for op, *_ in steps(sync)] == ["create", "update", "update", "update", "delete"]
    assert {event["actor"] for event in sync.log(after=2)} == {
        application.partition("//")[2].partition("@")[0]
    }
    assert quiet(sync)


def test_where_the_queue_was_dropped_the_application_writes_on(open_: Any, database: str) -> None:
    sync = open_()
    run(database, f"DROP TABLE {QUEUE}", "UPDATE person SET name = 'unseen' WHERE email = 'ann'")
    report = sync.ingest()
    assert report.exit_code == 3
    assert "not captured any more" in report["stores"][0]["error"]
    assert not sync.capture(["crm"])["stores"][0]["ok"]
    assert sync.install_capture(["crm"])["ok"]
    report = sync.ingest()
    assert report.exit_code == 3
    assert "were not captured for a while" in report["stores"][0]["error"]
    report = sync.ingest(accept_gap=True)
    assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
    run(database, "UPDATE person SET name = 'seen' WHERE email = 'ann'")
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert quiet(sync)


def test_what_a_replication_applies_is_told_too(open_: Any, database: str) -> None:
    sync = open_()
    run(
        database, "SET session_replication_role = 'replica'; UPDATE person SET name = 'x' WHERE email = 'ann'"
    )
    sync.ingest()
    assert steps(sync) == [("update", "ann", "x")]


@pytest.mark.parametrize("name", ["aaa", "0", "zzz"])
def test_an_applications_own_trigger_may_write_to_rows_of_the_statement(
    open_: Any, database: str, name: str
) -> None:
    """To this one, and to those of which the statement's own change has not been told yet."""
    sync = open_(
        TABLE,
        ROWS + "; CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE person SET name = upper(name) WHERE name <> upper(name); RETURN NULL; END $$;"
        f' CREATE TRIGGER "{name}" AFTER UPDATE ON person FOR EACH ROW EXECUTE FUNCTION loud()',
    )
    run(database, "UPDATE person SET name = name || ' x', email = email || '!'")
    sync.ingest()
    told = steps(sync)
    assert sorted(told) == sorted(
        [
            ("update", "ann", "Ann x"),
            ("update", "ann", "ANN X"),
            ("update", "ben", "Ben x"),
            ("update", "ben", "BEN X"),
        ]
    )
    for key in ("ann", "ben"):
        assert [name for _, one, name in told if one == key][-1].isupper()
    assert quiet(sync)


def test_a_trigger_before_the_change_may_replace_a_row(open_: Any, database: str) -> None:
    sync = open_(
        "CREATE TABLE person (email text PRIMARY KEY, name text)",
        "INSERT INTO person VALUES ('ann', 'Ann'); CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM person WHERE email = NEW.email; NEW.name = upper(NEW.name); RETURN NEW; END $$;"
        " CREATE TRIGGER instead BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION instead()",
    )
    run(database, "INSERT INTO person VALUES ('ann', 'new'), ('cem', 'c')")
    sync.ingest()
    assert steps(sync, 1) == [("delete", "ann", None), ("create", "ann", "NEW"), ("create", "cem", "C")]
    assert quiet(sync)


# -- who and when --------------------------------------------------------------------------------------------


def test_who_it_was_is_the_user_or_what_the_application_says(open_: Any, database: str) -> None:
    sync = open_()
    role = database.rpartition("/")[2] + "_role"
    run(database, f"CREATE ROLE {role}; GRANT ALL ON person TO {role}")
    try:
        run(
            database,
            "UPDATE person SET name = 'a' WHERE id = 1",
            "BEGIN; SET LOCAL evsync.actor = 'Zoë, the editor'; UPDATE person SET name = 'b' WHERE id = 1; COMMIT",
            "SET evsync.actor = ''; UPDATE person SET name = 'c' WHERE id = 1",
            f"SET ROLE {role}; UPDATE person SET name = 'd' WHERE id = 1",
            "SET evsync.actor = 'x'; DELETE FROM person WHERE id = 1",
        )
    finally:
        run(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    sync.ingest()
    assert [event["actor"] for event in sync.log(after=2)] == [
        "postgres",
        "Zoë, the editor",
        "postgres",
        role,
        "x",
    ]
    assert all(event["occurred_at"] for event in sync.log(after=2))


def test_a_column_that_says_who_and_when_goes_before(open_: Any, database: str) -> None:
    config = CONFIG.replace(
        "[stores.crm.types.person]", '[stores.crm.types.person]\nchanged_by = "who"\nchanged_at = "at"'
    )
    sync = open_(
        "CREATE TABLE person (email text PRIMARY KEY, name text, who text, at timestamptz)",
        "INSERT INTO person VALUES ('ann', 'Ann')",
        config,
    )
    run(
        database,
        "UPDATE person SET name = 'a', who = 'Zoë', at = '2024-01-02 03:04:05+00'",
        "UPDATE person SET name = 'b', who = NULL, at = NULL",
    )
    sync.ingest()
    first, second = sync.log(after=1)
    assert (first["actor"], first["occurred_at"]) == ("Zoë", "2024-01-02T03:04:05Z")
    assert second["actor"] == "postgres"
    assert second["occurred_at"] > "2025"


# -- the order of transactions, and what is open meanwhile -----------------------------------------------------


def test_transactions_come_one_after_the_other_as_they_ended(open_: Any, database: str) -> None:
    sync = open_()
    with psycopg.connect(database) as early, psycopg.connect(database) as late:
        early.execute("UPDATE person SET name = 'early 1' WHERE email = 'ann'")
        late.execute("UPDATE person SET name = 'late' WHERE email = 'ben'")
        early.execute("INSERT INTO person (email, name) VALUES ('cem', 'early 2')")
        late.commit()
        early.commit()
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["late", "early 1", "early 2"]


def test_who_waits_for_a_record_is_told_behind_whom_he_waited_for(open_: Any, database: str) -> None:
    sync = open_()
    with psycopg.connect(database) as first, psycopg.connect(database) as second:
        second.execute("UPDATE person SET name = 'second, begun first' WHERE email = 'ben'")
        first.execute("UPDATE person SET name = 'first' WHERE email = 'ann'")
        first.commit()
        second.execute("UPDATE person SET name = 'second' WHERE email = 'ann'")
        second.commit()
    sync.ingest()
    assert [name for _, key, name in steps(sync) if key == "ann"] == ["first", "second"]
    assert quiet(sync)


def test_a_transaction_that_stays_open_holds_nobody_up(open_: Any, database: str) -> None:
    sync = open_()
    with psycopg.connect(database) as slow:
        slow.execute("UPDATE person SET name = 'slow' WHERE email = 'ann'")
        for number in range(3):
            run(database, f"UPDATE person SET name = '{number}' WHERE email = 'ben'")
            assert did(sync.ingest(), "crm") == {"updated": 1}
        assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]
        slow.commit()
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert steps(sync)[-1] == ("update", "ann", "slow")
    assert quiet(sync)


def test_a_transaction_that_is_open_during_the_scan_is_told_once(tmp_path: Path, database: str) -> None:
    run(database, TABLE, ROWS)
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync, psycopg.connect(database) as slow:
        sync.install_capture(["crm"])
        run(database, "UPDATE person SET name = 'before the scan' WHERE email = 'ben'")
        slow.execute("UPDATE person SET name = 'open' WHERE email = 'ann'")
        run(database, "INSERT INTO person (email, name) VALUES ('cem', 'x')")
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


def test_what_is_committed_just_after_the_scan_began_is_left_to_the_next_reading(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = open_()
    accessor: Any = sync.stores["crm"].accessor("person")
    scan_at = accessor.scan_at

    def then_changed(*arguments: Any) -> Any:
        begun = scan_at(*arguments)
        run(database, "UPDATE person SET name = 'just after' WHERE email = 'ann'")
        return begun

    run(database, "UPDATE person SET name = 'before' WHERE email = 'ann'")
    with monkeypatch.context() as patch:
        patch.setattr(accessor, "scan_at", then_changed)
        report = sync.ingest(["crm"], scan=True)
    assert (did(report, "crm")["updated"], report["stores"][0]["missed"]) == (1, 0)
    assert did(sync.ingest(["crm"]), "crm") == {"updated": 1}
    assert [name for _, _, name in steps(sync)] == ["before", "just after"]


def test_a_scan_finds_what_the_triggers_did_not_tell(open_: Any, database: str) -> None:
    sync = open_()
    run(
        database,
        "UPDATE person SET name = 'told' WHERE email = 'ann'",
        "UPDATE person SET name = 'lost' WHERE email = 'ben'",
        f"DELETE FROM {QUEUE} WHERE new LIKE '%lost%'",
    )
    report = sync.ingest(scan=True)
    assert report["stores"][0]["missed"] == 1
    assert steps(sync) == [("update", "ann", "told"), ("update", "ben", "lost")]
    assert quiet(sync)


TWO = CONFIG.replace("[stores.crm]", '[types.pet]\nkey = ["id"]\n[stores.crm]').replace(
    "[stores.crm.types.person]", "[stores.crm.types.person]\n[stores.crm.types.pet]"
)


def test_two_tables_come_in_one_order(open_: Any, database: str) -> None:
    sync = open_(TABLE + "; CREATE TABLE pet (id int PRIMARY KEY, name text)", config=TWO)
    run(
        database,
        "INSERT INTO pet VALUES (1, 'a')",
        "UPDATE person SET name = 'b' WHERE email = 'ann'; INSERT INTO pet VALUES (2, 'c')",
        "UPDATE person SET name = 'd' WHERE email = 'ann'",
    )
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["a", "b", "c", "d"]
    assert quiet(sync)


# -- killed at any moment ------------------------------------------------------------------------------------


class Killed(BaseException):
    """No error that anybody would handle."""


def test_killed_before_the_queue_was_told_nothing_comes_twice(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = open_()
    run(database, "UPDATE person SET name = 'A' WHERE id = 1", "UPDATE person SET name = 'B' WHERE id = 1")
    accessor = sync.stores["crm"].accessor("person")

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(accessor, "acknowledge", killed)
        sync.ingest(["crm"])
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(2,)]
    run(database, "UPDATE person SET name = 'C' WHERE id = 1")
    assert did(sync.ingest(), "crm") == {"updated": 1}
    assert [name for _, _, name in steps(sync)] == ["A", "B", "C"]
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]
    assert quiet(sync)


def test_killed_midway_it_goes_on_there(open_: Any, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Much that happened between two readings is journalled in several transactions; killed behind each of them in turn."""
    from evsync.projections import feeding

    monkeypatch.setattr(feeding, "BATCH", 2)
    sync = open_()
    with psycopg.connect(database) as slow:
        slow.execute("INSERT INTO person (email, name) VALUES ('slow', '0')")
        run(database, *(f"UPDATE person SET name = '{n}' WHERE email = 'ann'" for n in range(5)))
        advance, left = feeding._advance, 0

        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return advance(*arguments, **named)

        told = []
        for left in range(3):
            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(feeding, "_advance", counting)
                sync.ingest(["crm"])
            told.append(len(steps(sync)))
            if left == 0:
                slow.execute("UPDATE person SET name = '1' WHERE email = 'slow'")
                slow.commit()
                run(database, "UPDATE person SET name = '5' WHERE email = 'ann'")
    assert told == sorted(told)
    assert 0 < told[1] < told[2]
    assert sync.ingest()["ok"]
    assert [name for _, key, name in steps(sync) if key == "ann"] == [str(n) for n in range(6)]
    assert [name for _, key, name in steps(sync) if key == "slow"] == ["0", "1"]
    assert quiet(sync)


# -- our own writes --------------------------------------------------------------------------------------------


def test_what_we_write_does_not_come_back(open_: Any, database: str) -> None:
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


def test_edits_before_and_behind_our_write_are_told_apart(open_: Any, database: str) -> None:
    sync = open_()
    crm = sync.stores["crm"]
    crm.update(Data("person", {"email": "ann", "name": "Ours"}))
    run(database, "UPDATE person SET name = 'Theirs' WHERE email = 'ann'")
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["Ours", "Theirs"]
    run(database, "UPDATE person SET name = 'Unseen' WHERE email = 'ben'")
    crm.update(Data("person", {"email": "ben", "name": "Ours"}))
    before = len(steps(sync))
    sync.ingest()
    assert len(steps(sync)) == before  # the write was told with what it found
    assert quiet(sync)


def test_what_we_wrote_is_known_until_all_that_was_read_is_journalled(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evsync.projections.feeding.BATCH", 2)
    sync = open_()
    run(
        database,
        *(f"UPDATE person SET name = '{n}' WHERE email = 'ann'" for n in range(5)),
        "UPDATE person SET name = 'Unseen' WHERE email = 'ben'",
    )
    sync.stores["crm"].update(Data("person", {"email": "ben", "name": "Ours"}))
    sync.ingest()
    assert [name for _, key, name in steps(sync) if key == "ben"] == [
        "Unseen",
        "Ours",
    ]  # both when it was written
    assert quiet(sync)


def test_what_the_end_of_our_transaction_makes_of_it_is_told(open_: Any, database: str) -> None:
    """A trigger that is only fired by the commit writes behind our back, in our own transaction."""
    sync = open_(
        TABLE,
        ROWS + "; CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE person SET name = upper(name) WHERE id = NEW.id AND name <> upper(name); RETURN NULL; END $$;"
        " CREATE CONSTRAINT TRIGGER loud AFTER UPDATE ON person DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION loud()",
    )
    sync.stores["crm"].update(Data("person", {"email": "ann", "name": "ours"}))
    sync.ingest()
    assert [name for _, _, name in steps(sync)] == ["ours", "OURS"]
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


def test_what_was_journalled_is_taken_out_of_the_queue(open_: Any, database: str) -> None:
    sync = open_()
    run(database, "UPDATE person SET name = 'x'")
    assert sync.capture(["crm"])["stores"][0]["waiting"] == 2
    sync.ingest(dry_run=True)
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(2,)]
    sync.ingest()
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]
    assert sync.capture(["crm"])["stores"][0]["waiting"] == 0


def test_a_queue_that_is_busy_is_emptied_the_next_time(
    open_: Any, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accessors.postgres_connection.LOCK_SECONDS", 0.05)
    sync = open_()
    run(database, "UPDATE person SET name = 'x'")
    with psycopg.connect(database) as other:
        other.execute(f"SELECT * FROM {QUEUE} FOR UPDATE")
        assert did(sync.ingest(["crm"]), "crm") == {"updated": 2}
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(2,)]
    assert did(sync.ingest(["crm"]), "crm") == {}
    assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]


@pytest.mark.parametrize(
    ("ddl", "more"),
    [
        ("ALTER TABLE person ADD note text DEFAULT 'n'", "note = 'm', "),
        ("ALTER TABLE person DROP score", ""),
        ("ALTER TABLE person DROP score; ALTER TABLE person ADD score text", "score = '5', "),
        ("ALTER TABLE person ALTER score TYPE text USING 'was ' || score", "score = '5', "),
        ("ALTER TABLE person RENAME score TO points; ALTER TABLE person ADD score int", "score = 5, "),
    ],
    ids=["added", "dropped", "dropped and added", "another type", "renamed"],
)  # fmt: skip
def test_a_table_that_was_altered_is_compared_and_captured_again(
    open_: Any, database: str, ddl: str, more: str
) -> None:
    config = CONFIG.replace(
        "[stores.crm]", '[types.person.fields]\nemail = "str"\nname = "str"\n[stores.crm]'
    )
    sync = open_(
        "CREATE TABLE person (id int PRIMARY KEY, score int, email text, name text)",
        "INSERT INTO person VALUES (1, 10, 'ann', 'Ann'), (2, 20, 'ben', 'Ben')",
        config,
    )
    run(
        database,
        "UPDATE person SET name = 'before' WHERE id = 1",
        ddl,
        f"UPDATE person SET {more}name = 'behind' WHERE id = 2",
    )
    state = sync.capture(["crm"])["stores"][0]
    assert (state["ok"], "columns have changed" in state["detail"]) == (False, True)
    assert sync.ingest(["crm"])["ok"]
    assert sorted(steps(sync)) == [("update", "ann", "before"), ("update", "ben", "behind")]
    assert sync.capture(["crm"])["stores"][0]["ok"]
    run(database, "UPDATE person SET name = 'again'")
    assert did(sync.ingest(["crm"]), "crm") == {"updated": 2}
    assert quiet(sync)


@pytest.mark.parametrize(
    ("doing", "undoing"),
    [
        ("ALTER TABLE person DISABLE TRIGGER ALL", "ALTER TABLE person ENABLE TRIGGER ALL"),
        ('DROP TRIGGER "00_evsync_crm" ON person', "SELECT 1"),
        ("CREATE TABLE other (LIKE person INCLUDING ALL); INSERT INTO other SELECT * FROM person; DROP TABLE person;"
         " ALTER TABLE other RENAME TO person", "SELECT 1"),
        ("ALTER TABLE person RENAME TO old; CREATE TABLE person (LIKE old INCLUDING ALL); INSERT INTO person SELECT * FROM old",
         "SELECT 1"),
    ],
    ids=["disabled for a while", "dropped", "rebuilt", "replaced"],
)  # fmt: skip
def test_triggers_that_were_away_are_noticed(open_: Any, database: str, doing: str, undoing: str) -> None:
    sync = open_(
        "CREATE TABLE person (email text PRIMARY KEY, name text)", "INSERT INTO person VALUES ('ann', 'Ann')"
    )
    run(
        database,
        "UPDATE person SET name = 'told'",
        doing,
        "UPDATE person SET name = 'unseen'",
        undoing,
    )
    assert not sync.capture(["crm"])["stores"][0]["ok"]
    assert sync.ingest(["crm"])["stores"][0]["missed"] == 1
    assert steps(sync, 1) == [("update", "ann", "told"), ("update", "ann", "unseen")]
    assert sync.capture(["crm"])["stores"][0]["ok"]
    run(database, "UPDATE person SET name = 'seen'")
    assert "missed" not in sync.ingest(["crm"])["stores"][0]
    assert steps(sync, 3) == [("update", "ann", "seen")]


@pytest.mark.parametrize(
    "doing",
    ["TRUNCATE part_1", "DROP TABLE part_1", "ALTER TABLE person DETACH PARTITION part_1",
     "CREATE TABLE part_3 (email text NOT NULL, name text); INSERT INTO part_3 VALUES ('cem', 'Cem');"
     " ALTER TABLE person ATTACH PARTITION part_3 FOR VALUES IN ('cem')"],
    ids=["truncated", "dropped", "detached", "attached"],
)  # fmt: skip
def test_partitions_that_come_and_go_are_compared(open_: Any, database: str, doing: str) -> None:
    sync = open_(
        "CREATE TABLE person (email text PRIMARY KEY, name text) PARTITION BY LIST (email);"
        " CREATE TABLE part_1 PARTITION OF person FOR VALUES IN ('ann');"
        " CREATE TABLE part_2 PARTITION OF person FOR VALUES IN ('ben')",
    )
    run(database, "UPDATE person SET name = 'x' WHERE email = 'ben'", doing)
    assert sync.ingest(["crm"])["stores"][0]["missed"] == 1
    assert steps(sync)[0] == ("update", "ben", "x")
    assert steps(sync)[1][:2] in [("delete", "ann"), ("create", "cem")]
    assert sync.capture(["crm"])["stores"][0]["ok"]
    run(database, "CREATE TABLE part_9 PARTITION OF person DEFAULT", "INSERT INTO person VALUES ('zoe', 'Z')")
    sync.ingest(["crm"])
    assert steps(sync)[-1] == ("create", "zoe", "Z")
    run(database, "TRUNCATE person")
    sync.ingest(["crm"])
    assert [op for op, *_ in steps(sync)][-2:] == ["delete", "delete"]
    assert quiet(sync)


OLD = ((1, "a", "int"), (2, "b", "text"))


@pytest.mark.parametrize(
    ("now", "dropped", "count", "columns"),
    [
        (OLD, (), 2, ["a", "b"]),
        (OLD, (), 3, None),
        ((*OLD, (3, "c", "int")), (), 2, ["a", "b"]),
        ((*OLD, (3, "c", "int")), (), 3, ["a", "b", "c"]),
        (((1, "x", "int"), (2, "b", "text"), (3, "a", "int")), (), 3, ["x", "b", "a"]),
        ((*OLD, (4, "d", "int")), (3,), 3, None),  # or the one that is gone
        (OLD[:1], (2,), 1, None),
        (((1, "a", "text"), (2, "b", "text")), (), 2, None),
    ],
)
def test_what_columns_a_record_had(now: Any, dropped: Any, count: int, columns: list[str] | None) -> None:
    """As far as that is certain; else the table is compared."""
    noted = Noted("9", {"9": OLD}, {"9": ()}, "A", 100)
    part = Part("9", "t", "r", False, now, dropped, frozenset(), True, True)
    assert shape(noted, "9", part, count, 100) == columns
    assert shape(noted, "9", part, count, 99) is None


def test_triggers_that_were_set_up_again_by_hand_are_compared_all_the_same(open_: Any, database: str) -> None:
    sync = open_()
    run(database, "ALTER TABLE person DISABLE TRIGGER ALL; UPDATE person SET name = 'unseen' WHERE id = 2")
    assert sync.install_capture(["crm"])["stores"][0]["done"] == ['triggers on "public"."person"']
    run(database, "UPDATE person SET name = 'behind' WHERE id = 1")
    assert sync.ingest(["crm"])["stores"][0]["missed"] == 1
    assert sorted(steps(sync)) == [("update", "ann", "behind"), ("update", "ben", "unseen")]
    assert not sync.ingest(["crm"])["stores"][0].get("missed")
    assert quiet(sync)


def test_a_journal_that_is_older_than_the_queue_is_a_gap(open_: Any, database: str, tmp_path: Path) -> None:
    """As out of a backup, or where two follow one queue: what one of them has taken out, the other never sees."""
    open_().close()
    kept = (tmp_path / "evsync.db").read_bytes()
    run(database, "UPDATE person SET name = 'x' WHERE id = 1")
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        sync.ingest(["crm"])
    for path in tmp_path.glob("evsync.db*"):
        path.unlink()
    (tmp_path / "evsync.db").write_bytes(kept)
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        report = sync.ingest(["crm"])
        assert report.exit_code == 3
        assert "taken out of the queue" in report["stores"][0]["error"]
        report = sync.ingest(["crm"], accept_gap=True)
        assert (report.exit_code, report["stores"][0]["missed"]) == (0, 1)
        assert quiet(sync)


def test_truncate_is_guarded(open_: Any, database: str) -> None:
    sync = open_(config=CONFIG.replace('max_deletes = "100%"', ""))
    run(database, "TRUNCATE person")
    with pytest.raises(GuardTripped, match="2 of 2"):
        sync.ingest()
    assert did(sync.ingest(allow_deletes=True), "crm") == {"deleted": 2}


# -- setting it up and taking it away --------------------------------------------------------------------------


def left(database: str) -> list[Any]:
    return run(
        database,
        "SELECT relname FROM pg_class WHERE relname LIKE '%evsync%' UNION SELECT proname FROM pg_proc WHERE proname LIKE '%evsync%'"
        " UNION SELECT tgname FROM pg_trigger WHERE tgname LIKE '%evsync%'"
        " UNION SELECT nspname FROM pg_namespace WHERE nspname LIKE '%evsync%'"
        " UNION SELECT pubname FROM pg_publication UNION SELECT slot_name FROM pg_replication_slots"
        " WHERE database = current_database()",
    )


def test_remove_leaves_nothing(open_: Any, database: str) -> None:
    sync = open_()
    state = sync.capture(["crm"])["stores"][0]
    assert (state["mode"], state["ok"], state["types"]) == ("triggers", True, ["person"])
    assert sync.install_capture(["crm"])["stores"][0]["done"] == []
    assert sync.stores["crm"].accessor("person").discover(sync.stores["crm"]) == {"person": {}}  # type: ignore[attr-defined]
    with reading(sync.stores["crm"]) as connection:
        table = load(connection, "person", None)
        assert table is not None
        assert not table.triggered  # ours have no say in what is stored
    assert sync.remove_capture(["crm"])["stores"][0]["done"] == [
        "triggers on public.person",
        'the queue "evsync"."_evsync_crm_queue"',
    ]
    assert left(database) == []
    run(database, "UPDATE person SET name = 'x' WHERE id = 1")
    assert sync.ingest(["crm"])["ok"]  # taken away on purpose: it begins anew by comparing
    assert quiet(sync)


def test_auto_takes_the_log_where_it_may_and_triggers_where_not(
    tmp_path: Path, database: str, application: str
) -> None:
    config = CONFIG.replace('"triggers"', '"auto"')
    run(database, TABLE, ROWS)
    role = application.partition("//")[2].partition("@")[0]
    run(database, f"ALTER TABLE person OWNER TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    with synchronizer(tmp_path, config.replace("{url}", application)) as sync:
        assert sync.ingest(["crm"])["ok"]
        assert left(database) == []  # never without being asked
        report = sync.install_capture(["crm"])
        state = report["stores"][0]
        assert (report["ok"], state["mode"], state["ok"]) == (True, "triggers", True)
        # No right to make a schema: the queue stands beside the table.
        assert state["done"][0] == 'the queue "public"."_evsync_crm_queue"'
        sync.ingest(["crm"])
        run(
            database, "UPDATE person SET name = 'A' WHERE id = 1", "UPDATE person SET name = 'B' WHERE id = 1"
        )
        assert did(sync.ingest(["crm"]), "crm") == {"updated": 2}
        assert sync.remove_capture(["crm"])["ok"]
        assert left(database) == []
    (tmp_path / "other").mkdir()
    with synchronizer(tmp_path / "other", config.replace("{url}", database)) as sync:
        assert sync.install_capture(["crm"])["stores"][0]["mode"] == "wal"
        assert sync.remove_capture(["crm"])["ok"]


def test_which_right_is_missing_is_said(tmp_path: Path, database: str, application: str) -> None:
    run(database, TABLE, ROWS)
    with synchronizer(tmp_path, CONFIG.replace("{url}", application)) as sync:
        granted(application, "GRANT SELECT ON person")
        report = sync.install_capture(["crm"])
        assert report.exit_code == 3
        assert report.hints["crm"].startswith("run: GRANT TRIGGER ON public.person TO ")
        run(database, report.hints["crm"].removeprefix("run: "))
        report = sync.install_capture(["crm"])
        assert report.hints["crm"].startswith("run: CREATE SCHEMA evsync AUTHORIZATION ")
        run(database, report.hints["crm"].removeprefix("run: "))
        report = sync.install_capture(["crm"])
        assert report["ok"]
        assert "not what a replication applies" in report["stores"][0]["detail"]
        sync.ingest(["crm"])
        run(
            database, "UPDATE person SET name = 'A' WHERE id = 1", "UPDATE person SET name = 'B' WHERE id = 1"
        )
        assert did(sync.ingest(["crm"]), "crm") == {"updated": 2}
        assert quiet(sync)
        sync.remove_capture(["crm"])
        assert left(database) == [("evsync",)]  # which was made by somebody else


def test_another_way_does_not_leave_the_first_behind_unnoticed(
    open_: Any, tmp_path: Path, database: str
) -> None:
    open_().close()
    with synchronizer(tmp_path, BY_LOG.replace("{url}", database)) as sync:
        run(database, "UPDATE person SET name = 'x' WHERE id = 1")
        report = sync.ingest(["crm"])
        assert report.exit_code == 3
        assert "not captured any more" in report["stores"][0]["error"]
        report = sync.install_capture(["crm"])
        assert report.exit_code == 3
        assert "triggers are there" in report["stores"][0]["detail"]
        report = sync.ingest(["crm"])
        assert report.exit_code == 3
        assert "were not captured for a while" in report["stores"][0]["error"]
        assert sync.ingest(["crm"], accept_gap=True)["ok"]
    with synchronizer(tmp_path, CONFIG.replace("{url}", database)) as sync:
        state = sync.capture(["crm"])["stores"][0]
        assert (state["mode"], state["ok"]) == ("triggers", False)
        assert "the slot" in state["detail"]
        report = sync.ingest(["crm"])
        assert "in another way until now" in report["stores"][0]["error"]
        assert len(sync.remove_capture(["crm"])["stores"][0]["done"]) == 4
        assert left(database) == []
        assert sync.install_capture(["crm"])["ok"]
        assert sync.ingest(["crm"])["ok"]


def test_scan_as_configured_ends_the_following(open_: Any, database: str, tmp_path: Path) -> None:
    open_().close()
    with synchronizer(tmp_path, CONFIG.replace('"triggers"', '"scan"').replace("{url}", database)) as sync:
        run(database, "UPDATE person SET name = 'x' WHERE id = 1")
        assert did(sync.ingest(["crm"]), "crm") == {"updated": 1, "unchanged": 1}
        assert not sync.capture(["crm"])["stores"][0]["ok"]
        assert sync.remove_capture(["crm"])["ok"]
        assert left(database) == []


def test_stores_whose_names_look_alike_are_told_apart(open_: Any, database: str, tmp_path: Path) -> None:
    open_(config=CONFIG.replace("stores.crm", "stores.a-b")).close()
    (tmp_path / "other").mkdir()
    with synchronizer(
        tmp_path / "other", CONFIG.replace("stores.crm", "stores.a_b").replace("{url}", database)
    ) as sync:
        assert not sync.capture(["a_b"])["stores"][0]["types"]
        report = sync.ingest(["a_b"])
        assert "is that of the store 'a-b'" in report["stores"][0]["error"]
        assert "slot = " in report.hints["a_b"]
        assert sync.remove_capture(["a_b"])["stores"][0]["done"] == []
        assert len(left(database)) > 3


def test_two_stores_in_one_database_have_a_queue_each(tmp_path: Path, database: str) -> None:
    run(database, TABLE, ROWS)
    config = CONFIG.replace(
        '[stores.list]\nurl = "csv:list.csv"', f'[stores.list]\nurl = "{database}"\ncapture = "triggers"'
    )
    config = config.replace("[stores.list.types.person]", '[stores.list.types.person]\ntable = "copy"')
    run(database, "CREATE TABLE copy (LIKE person)")
    with synchronizer(tmp_path, config.replace("{url}", database)) as sync:
        assert sync.sync()["ok"]
        run(
            database,
            "UPDATE person SET name = 'A' WHERE id = 1",
            "UPDATE copy SET name = 'B' WHERE email = 'ben'",
        )
        assert sync.sync()["ok"]
        assert sync.sync()["ingest"]["last"] is None
        held = "SELECT email, name FROM {} ORDER BY 1"
        assert (
            run(database, held.format("person"))
            == run(database, held.format("copy"))
            == [("ann", "A"), ("ben", "B")]
        )


# -- everything at once --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_journal_holds_every_change_of_concurrent_writers_in_its_order(
    tmp_path: Path, database: str
) -> None:
    """Each change counts its record up by one, from before the triggers are set up until behind the last ingest."""
    config = CONFIG.replace("[stores.crm]", '[types.person.fields]\nemail = "str"\nn = "int"\n[stores.crm]')
    run(
        database,
        "CREATE TABLE person (email text PRIMARY KEY, n int)",
        "INSERT INTO person SELECT i, 0 FROM generate_series(1, 12) i",
    )
    count_up = "UPDATE person SET n = n + 1 WHERE email = %s"
    ends = threading.Event()

    def write(number: int) -> None:
        drawn = random.Random(number)
        with psycopg.connect(database) as connection:
            done = 0
            while done < 250 or not ends.is_set():
                for email in sorted(str(drawn.randint(1, 12)) for _ in range(drawn.randint(1, 4))):
                    connection.execute(count_up, (email,))
                    if drawn.random() < 0.2:
                        connection.execute("SAVEPOINT s")
                        connection.execute(count_up, (email,))
                        connection.execute("ROLLBACK TO s")
                if drawn.random() < 0.1:
                    connection.rollback()
                else:
                    connection.commit()
                done += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    with synchronizer(tmp_path, config.replace("{url}", database)) as sync:
        for writer in writers:
            writer.start()
        try:
            for number in range(12):
                report = sync.ingest(["crm"], scan=number % 3 == 2)
                assert report["ok"], report
                assert not report["stores"][0].get("missed")
        finally:
            ends.set()
            for writer in writers:
                writer.join()
        sync.ingest(["crm"])
        told: dict[str, list[int]] = {}
        for event in sync.log():
            told.setdefault(event["key"], []).append(event["after"]["n"])
        held = dict(run(database, "SELECT email, n FROM person"))
        assert told == {email: list(range(told[email][0], last + 1)) for email, last in held.items()}
        assert sum(map(len, told.values())) > 500
        assert quiet(sync)
        assert run(database, f"SELECT count(*) FROM {QUEUE}") == [(0,)]
