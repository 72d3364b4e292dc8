"""4: what was written to a store that keeps a note of it is known exactly, though the run was killed before the journal
knew of it, whatever the store made of the records and whoever changed them since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mariadb_server
import postgres_server
import psycopg
import pytest
from projects import at_rest, did, events, sql, synchronizer

from evsync.projections.noting import recall
from evsync.projections.projection import Projection
from evsync.projections.replicas import Replicas, add_intent, binding_state
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.person]
key = ["code"]
[types.person.fields]
code = "str"
name = "str"
level = "int"

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.person]

[stores.erp]
url = "{url}"
[stores.erp.types.person]
"""

MARIADB = [
    "CREATE TABLE person (code varchar(50) PRIMARY KEY, name text, level bigint)",
    "CREATE TRIGGER loud BEFORE INSERT ON person FOR EACH ROW SET NEW.name = upper(NEW.name)",
    "CREATE TRIGGER louder BEFORE UPDATE ON person FOR EACH ROW SET NEW.name = upper(NEW.name)",
]
POSTGRES = """
CREATE TABLE person (code text PRIMARY KEY, name text, level bigint);
CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON person FOR EACH ROW EXECUTE FUNCTION loud();
"""


class Killed(BaseException):
    """Stands for a kill: nothing is done any more."""


class Play:
    """A table in a file and one in a database that writes names its own way."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        sql(folder / "crm.db", "CREATE TABLE person (code TEXT PRIMARY KEY, name TEXT, level INTEGER)")
        self.crm("INSERT INTO person VALUES ('a', 'Ann', 1), ('b', 'Ben', 2), ('c', 'Cleo', 3)")
        for statement in MARIADB if url.startswith("mysql") else [POSTGRES]:
            self.erp(statement)

    def crm(self, statement: str) -> list[Any]:
        return sql(self.folder / "crm.db", statement)

    def erp(self, statement: str) -> list[Any]:
        if self.url.startswith("mysql"):
            return mariadb_server.ask(self.url, statement)
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def opened(self) -> Synchronizer:
        return synchronizer(self.folder, CONFIG.format(url=self.url))

    def killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sync that is killed when the database has committed, and the journal does not know of it yet."""

        def kill(projection: Projection, batch: Any, effects: Any) -> None:
            if effects:
                raise Killed
            remember(projection, batch, effects)

        remember = Projection._remember

        with monkeypatch.context() as patch, self.opened() as one:
            patch.setattr(Projection, "_remember", kill)
            with pytest.raises(Killed):
                one.sync()

    def notes(self) -> list[Any]:
        return self.erp("SELECT number FROM _evsync_notes")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Play]:
    with postgres_server.fresh_database() as url:
        yield Play(tmp_path, url)


@pytest.fixture(params=[postgres_server, mariadb_server], ids=["postgresql", "mariadb"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Play]:
    with request.param.fresh_database() as url:
        yield Play(tmp_path, url)


def test_what_the_store_made_of_it_is_not_taken_for_its_own_change(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.killed(monkeypatch)
    assert play.notes() == [(1,)]
    with play.opened() as one:
        report = one.sync()
        assert did(report["ingest"], "erp") == {"unchanged": 3}
        assert {event[:2] for event in events(one, "store", "op")} == {("crm", "create")}
        assert at_rest(one)
    assert play.crm("SELECT name FROM person ORDER BY code") == [("Ann",), ("Ben",), ("Cleo",)]


def test_a_change_made_since_is_based_on_what_was_written(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play.opened() as one:
        one.sync()
    play.crm("UPDATE person SET level = 20 WHERE code = 'b'")
    play.killed(monkeypatch)
    play.erp("UPDATE person SET level = 21 WHERE code = 'b'")
    with play.opened() as one:
        assert one.sync()["ok"]
        (event,) = one.log(store="erp")
        assert (event["op"], event["base"], event["after"]["level"], event["conflict"]) == (
            "update",
            4,
            21,
            None,
        )
        assert at_rest(one)
    assert play.crm("SELECT level FROM person WHERE code = 'b'") == [(21,)]


def test_a_deletion_is_remembered_although_the_record_came_back(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    with play.opened() as one:
        one.sync()
    play.crm("DELETE FROM person WHERE code = 'b'")
    play.killed(monkeypatch)
    play.erp("INSERT INTO person VALUES ('b', 'BEN', 2)")
    with play.opened() as one:
        assert did(one.sync()["ingest"], "erp") == {"created": 1, "unchanged": 2}
        assert at_rest(one)


def test_what_a_feed_tells_of_it_is_known_too(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    with play.opened() as one:
        one.sync()
        assert one.install_capture(["erp"])["ok"]
        one.sync()
    play.crm("UPDATE person SET name = 'Bea' WHERE code = 'b'")
    play.killed(monkeypatch)
    with play.opened() as one:
        assert did(one.sync()["ingest"], "erp").keys() <= {"unchanged"}
        assert not list(one.log(store="erp"))
        assert at_rest(one)
        assert one.remove_capture(["erp"])["ok"]
    there = "SELECT count(*) FROM information_schema.tables WHERE table_name = '_evsync_notes'"
    assert play.erp(f"{there} AND table_schema IN ('public', '{play.url.rpartition('/')[2]}')") == [(0,)]


def test_it_is_remembered_by_a_replay_as_well(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.killed(monkeypatch)
    with play.opened() as one:
        assert did(one.replay(["erp"]), "erp") == {}
        assert at_rest(one)
        assert not list(one.log(store="erp"))


def test_the_note_of_another_journal_says_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that was put back from a backup and has gone another way since."""
    with play.opened() as one:
        one.sync()
    backup = (play.folder / "evsync.db").read_bytes()
    play.crm("UPDATE person SET level = 20 WHERE code = 'b'")
    play.killed(monkeypatch)
    for name in ("evsync.db", "evsync.db-wal", "evsync.db-shm"):
        (play.folder / name).unlink(missing_ok=True)
    (play.folder / "evsync.db").write_bytes(backup)
    play.crm("UPDATE person SET level = 30 WHERE code = 'b'")
    with play.opened() as one:
        one.ingest(["crm"])
        journal = one.journal()
        with journal.write():
            state = binding_state(journal, "erp", "person")
            assert state is not None
            add_intent(journal, state, 4)
        state = binding_state(journal, "erp", "person")
        assert recall(journal, one.stores["erp"], "person", state) == state
        replica = Replicas(journal, state.id).by_key(["b"])["b"] if state else None
        assert replica is not None and replica.seq == 2


def test_without_the_right_to_make_a_table_it_is_written_without(postgres: Play) -> None:
    postgres.erp("CREATE ROLE plain_writer LOGIN")
    try:
        postgres.erp("GRANT SELECT, INSERT, UPDATE, DELETE ON person TO plain_writer")
        postgres.url, owner = postgres.url.replace("//postgres@", "//plain_writer@"), postgres.url
        with postgres.opened() as one:
            assert did(one.sync()["replay"], "erp") == {"created": 3}
            assert at_rest(one)
        postgres.url = owner
        assert postgres.erp("SELECT to_regclass('_evsync_notes')") == [(None,)]
    finally:
        postgres.url = owner
        postgres.erp("DROP OWNED BY plain_writer; DROP ROLE plain_writer")


def test_a_batch_that_was_split_has_one_note(postgres: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constraint that is looked at when the transaction ends refuses one of them."""
    postgres.erp("CREATE TABLE known (level bigint PRIMARY KEY); INSERT INTO known VALUES (1), (3)")
    postgres.erp("ALTER TABLE person ADD FOREIGN KEY (level) REFERENCES known DEFERRABLE INITIALLY DEFERRED")
    postgres.killed(monkeypatch)
    assert postgres.erp("SELECT code FROM person ORDER BY code") == [("a",), ("c",)]
    with postgres.opened() as one:
        report = one.sync()
        assert did(report["ingest"], "erp") == {"unchanged": 2}
        assert not list(one.log(store="erp"))
        assert [failure["key"] for failure in one.failures()] == ["b"]
