"""Every command with wrong input, and every way in which a store, the journal or the configuration may be broken.

Each ends with its exit code, tells what and where and what to try in two lines on stderr, prints valid JSON under
--json, and journals nothing. Run within this process, since there are so many of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import ANN, BEN, CONFIG, Ended, Project

from accessors import sqlite_connection
from evsync.cli import failures, output
from evsync.journal import journal as journal_module

Break = Callable[["Quick"], Any]


class Quick(Project):
    """Runs commands within this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        super().__init__(folder)
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        with self.monkeypatch.context() as patched:
            patched.chdir(self.folder)
            patched.setattr(output, "_written", False)
            for name, value in environment.items():
                patched.setenv(name, value)
            self.capsys.readouterr()
            code = failures.guarded(arguments)
            out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        return Ended(code, out, err)

    def configure(self, old: str, new: str) -> None:
        text = self.read("evsync.toml")
        assert old in text
        self.write("evsync.toml", text.replace(old, new, 1))

    def journalled(self) -> list[tuple[Any, ...]]:
        """All events and what is known of the stores; empty without a journal."""
        path = self.folder / "evsync.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("select seq, hash from event order by seq").fetchall()

    def journal_sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / "evsync.db")) as connection, connection:
            connection.execute(statement)


@pytest.fixture
def quick(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Quick:
    """Synced: all three stores hold all three contacts."""
    made = Quick(project.folder, monkeypatch, capsys)
    assert made("sync").code == 0
    return made


def told(ended: Ended, *words: str) -> None:
    """Two lines on stderr: what went wrong and what to try, with all of these words."""
    lines = ended.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], ended.err
    for word in words:
        assert word in ended.err, ended.err


def refused(quick: Quick, arguments: list[str], code: int, *words: str) -> None:
    """The command fails, in words and under --json alike, and journals nothing."""
    before = quick.journalled()
    ended = quick(*arguments)
    assert (ended.code, ended.out) == (code, ""), ended
    told(ended, *words)
    ended = quick(*arguments, "--json")
    assert ended.code == code, ended
    told(ended, *words)
    assert list(ended.json) == ["ok", "error"]
    assert list(ended.json["error"]) == ["code", "message", "hint"]
    assert ended.json["error"]["message"] in ended.err
    assert quick.journalled() == before


# -- names and values on the command line ------------------------------------------------------------------

WRONG: list[tuple[list[str], int, list[str]]] = [
    (["ingest", "maling"], 2, ["there is no store 'maling'", "did you mean 'mailing'?"]),
    (["ingest", "zzz"], 2, ["the stores are: crm, mailing, people"]),
    (["replay", "--store", "crmm"], 2, ["there is no store 'crmm'", "'crm'"]),
    (["replay"], 2, ["--store NAME, or --all"]),
    (["replay", "--all", "--until", "yesterday"], 2, ["'yesterday' is neither a position nor a time", "2026-01-31"]),
    (["diff", "crmm"], 2, ["there is no store 'crmm'"]),
    (["diff", "crm", "peple"], 2, ["there is no store 'peple'", "'people'"]),
    (["diff", "crm", "--at", "then"], 2, ["'then'"]),
    (["diff", "crm", "people", "--at", "1"], 2, ["--at"]),
    (["log", "contakt"], 2, ["there is no type 'contakt'", "'contact'"]),
    (["log", "--store", "crmm"], 2, ["there is no store 'crmm'"]),
    (["log", "--op", "upsert"], 2, ["there is no operation 'upsert'"]),
    (["log", "--field", "nmae"], 2, ["there is no field 'nmae'", "'name'"]),
    (["log", "--since", "soon"], 2, ["'soon'"]),
    (["log", "--until", "2026-13-01"], 2, ["'2026-13-01'"]),
    (["log", "--follow", "--format", "csv"], 2, ["--follow"]),
    (["show", "contakt", ANN], 2, ["there is no type 'contakt'"]),
    (["show", "contact", "ann@exmple.com"], 1, ["knows no contact 'ann@exmple.com'", f"'{ANN}'"]),
    (["show", "contact", ANN, "--at", "never"], 2, ["'never'"]),
    (["blame", "contakt", ANN], 2, ["there is no type 'contakt'"]),
    (["blame", "contact", "nobody"], 1, ["knows no contact 'nobody'", "evsync log contact"]),
    (["init"], 2, ["evsync.toml exists", "--force"]),
    (["init", "--example"], 2, ["exists: nothing was written"]),
    (["init", "--example", "--from", "sqlite:crm.db", "new"], 2, ["--example"]),
    (["init", "new", "--from", "sqlit:crm.db"], 2, ["'sqlit:'", "'sqlite'"]),
    (["init", "--force", "--from", "sqlite:none.db"], 3, ["none.db"]),
    (["log", "--run", "0"], 2, ["--run"]),
    (["status", "--config", "none.toml"], 2, ["there is no file none.toml", "evsync init"]),
    (["doctor", "--config", "."], 2, ["cannot be read"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    WRONG,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_word_is_refused(quick: Quick, arguments: list[str], code: int, words: list[str]) -> None:
    refused(quick, arguments, code, *words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "contact", ANN, "--at", "9" * 30],
        ["log", "--since", "9" * 30],
        ["log", "--until", "9" * 30],
        ["log", "--limit", "9" * 30],
        ["diff", "crm", "--at", "9" * 30],
    ],
)
def test_a_number_beyond_all_positions_is_just_late(quick: Quick, arguments: list[str]) -> None:
    ended = quick(*arguments, "--json")
    assert (ended.code, ended.err) == (0, "")
    json.loads(ended.out)


# -- the configuration -------------------------------------------------------------------------------------

COMMANDS = [
    ["ingest"],
    ["replay", "--all"],
    ["replay"],
    ["sync"],
    ["status"],
    ["log"],
    ["show", "contact", ANN],
    ["blame", "contact", ANN],
    ["diff", "crm"],
    ["verify"],
    ["doctor"],
]
COMMAND = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@COMMAND
def test_every_command_without_a_configuration(quick: Quick, command: list[str]) -> None:
    (quick.folder / "evsync.toml").unlink()
    refused(quick, command, 2, "no evsync.toml in", "evsync init")


@COMMAND
def test_every_command_with_a_configuration_that_is_no_toml(quick: Quick, command: list[str]) -> None:
    quick.configure('name = "str"', "name = str")
    line = quick.read("evsync.toml").splitlines().index("name = str") + 1
    refused(quick, command, 2, f"evsync.toml, line {line}: ", "not TOML")


CONFIGURATIONS = [
    ('table = "customers"', 'tabel = "customers"', ["[stores.crm.types.contact]", "'tabel'", "'table'"]),
    ('url = "sqlite:crm.db"', 'ulr = "sqlite:crm.db"', ["[stores.crm]", "'url' is missing", "in place of 'ulr'"]),
    ('url = "sqlite:crm.db"', 'url = "sqllite:crm.db"', ["'sqllite:crm.db'", "'sqlite'"]),
    ("[types.contact]\n", "[types.contakt]\n", ["[types.contact]", "'key' is missing"]),
    ("[types.contact]\n", "[conflict]\n[types.contact]\n", ["unknown key 'conflict'", "'conflicts'"]),
    ("[types.contact]\n", '[conflicts]\nfields = "newst"\n[types.contact]\n', ["'newst'", "'newest'"]),
    ('age = "int"', 'age = "integer"', ["'age'", "'integer'"]),
    ('only = ["email", "town"]', 'only = ["email", "twon"]', ["'twon'", "'town'"]),
    ("[stores.crm.types.contact]", "[stores.crm.types.person]", ["'person'", "declared nowhere"]),
    ('url = "csv:mailing.csv"', 'url = "csv:mailing.csv"\nrole = "sink"', ["'sink'", "source"]),
    ('url = "csv:mailing.csv"', 'url = "csv:${EVSYNC_NOT_SET}"', ["'EVSYNC_NOT_SET' is not set", "export"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "words"), CONFIGURATIONS)
def test_a_configuration_with_a_slip_in_it(quick: Quick, old: str, new: str, words: list[str]) -> None:
    quick.configure(old, new)
    refused(quick, ["ingest"], 2, "evsync.toml" if "twon" not in new else "", *words)


def test_a_column_that_is_not_there(quick: Quick) -> None:
    quick.configure('"full_name"', '"fullname"')
    for command in ("ingest", "sync"):
        ended = quick(command)
        assert ended.code == 2
        first = "\n".join(ended.err.splitlines()[:2])  # a sync says it of both its halves
        told(ended._replace(err=first), "store 'crm'", "no column 'fullname'", "'full_name'")
        assert "crm      stopped by an error" in ended.out
        assert "mailing  nothing new (3 records)" in ended.out  # its trouble stops no other store


# -- stores ------------------------------------------------------------------------------------------------


def lock(quick: Quick) -> Iterator[None]:
    with closing(sqlite3.connect(quick.folder / "crm.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


STORES: list[tuple[str, Break, str, int, list[str]]] = [
    ("missing file", lambda p: (p.folder / "mailing.csv").unlink(), "mailing", 3, ["mailing.csv", "any more"]),
    ("missing table", lambda p: p.sql("alter table customers rename to clients"), "crm", 3, ["any more"]),
    ("no database", lambda p: p.write("crm.db", "no database" * 99), "crm", 1, ["not an SQLite database"]),
    ("locked", lock, "crm", 3, ["locked by another program"]),
    ("broken CSV", lambda p: p.write("mailing.csv", 'email,name\na@b,A\nc@d,"C\n'), "mailing", 1, ["line 3"]),
    ("too many cells", lambda p: p.write("mailing.csv", "email,name\na@b,A\nc@d,C,D\n"), "mailing", 1, ["line 3", "3 cells"]),
    ("not UTF-8", lambda p: (p.folder / "mailing.csv").write_bytes(b"email,name\n\xff,A\n"), "mailing", 1, ["line 2"]),
    ("blank CSV", lambda p: p.write("mailing.csv", "\n\n"), "mailing", 1, ["line 1", "header"]),
    ("broken JSON", lambda p: p.write("people.json", '[\n {"email": "a@b"},\n {"email" "c@d"}\n]'), "people", 1, ["line 3"]),
    ("cut off JSON", lambda p: p.write("people.json", '[\n {"email": "a@b"},\n'), "people", 1, ["line"]),
    (
        "two records with one key", lambda p: p.write("mailing.csv", f"email,name\n{ANN},A\n{BEN},B\n{ANN},C\n"),
        "mailing", 1, [f"two records have the key '{ANN}': line 2 and line 4"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("command", ["ingest", "sync"])
@pytest.mark.parametrize(
    ("name", "break_it", "store", "code", "words"), STORES, ids=[case[0] for case in STORES]
)
def test_a_store_in_trouble(
    quick: Quick, monkeypatch: pytest.MonkeyPatch, command: str,
    name: str, break_it: Break, store: str, code: int, words: list[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sqlite_connection, "BUSY_SECONDS", 0.05)
    before = quick.journalled()
    holding = break_it(quick)
    if isinstance(holding, Iterator):
        next(holding)
    ended = quick(command)
    assert ended.code == code
    assert f"error: {store}: " in ended.err
    assert "hint: " in ended.err
    for word in words:
        assert word in ended.err
    ended = quick(command, "--json")
    assert ended.code == code
    assert f"error: {store}: " in ended.err
    document = ended.json if command == "ingest" else ended.json["ingest"]
    assert document["ok"] is False
    for entry in document["stores"]:
        if entry["store"] == store:
            assert all(word in entry["error"] for word in words)
        else:
            assert entry["error"] is None
    assert quick.journalled() == before


# -- guards ------------------------------------------------------------------------------------------------


def empty(quick: Quick) -> str:
    quick.write("mailing.csv", "email,name\n")
    return "--allow-deletes"


def empty_of_its_header_too(quick: Quick) -> str:
    quick.write("mailing.csv", "")
    return "--allow-deletes"


def lose_most(quick: Quick) -> str:
    quick.sql("delete from customers where email <> ?", ANN)
    return "--allow-deletes"


def map_otherwise(quick: Quick) -> str:
    quick.configure('only = ["email", "name", "age"]', 'only = ["email", "name"]')
    return "--allow-mapping"


@pytest.mark.parametrize("command", ["ingest", "sync"])
@pytest.mark.parametrize("happen", [empty, empty_of_its_header_too, lose_most, map_otherwise])
def test_a_guard(quick: Quick, command: str, happen: Callable[[Quick], str]) -> None:
    option = happen(quick)
    before = quick.journalled()
    ended = quick(command)
    assert (ended.code, ended.out) == (6, "")
    told(ended, "before anything was journalled", option)
    ended = quick(command, "--json")
    assert ended.code == 6
    told(ended, option)
    assert ended.json["ok"] is False
    report = ended.json["ingest"] if command == "sync" else ended.json
    assert [entry["store"] for entry in report["stores"]] == ["crm", "mailing", "people"]
    assert quick.journalled() == before
    assert quick(command, option).code == 0


def test_a_guard_stops_a_replay(quick: Quick) -> None:
    map_otherwise(quick)
    before = quick.sql("select * from customers")
    ended = quick("replay", "--all", "--json")
    assert ended.code == 6
    told(ended, "its mapping changed since the last run", "--allow-mapping")
    assert ended.json["ok"] is False
    assert quick.sql("select * from customers") == before


# -- the journal -------------------------------------------------------------------------------------------

JOURNAL_COMMANDS = [command for command in COMMANDS if command not in (["replay"], ["doctor"])]


@pytest.mark.parametrize("command", JOURNAL_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("text", "words"),
    [(b"this is no journal" * 99, "no evsync journal"), (None, "an SQLite database, but no evsync journal")],
    ids=["text", "database"],
)
def test_a_journal_that_is_none(quick: Quick, command: list[str], text: bytes | None, words: str) -> None:
    quick.write("evsync.toml", 'journal = "other.db"\n' + CONFIG)
    if text is None:
        with closing(sqlite3.connect(quick.folder / "other.db")) as connection, connection:
            connection.execute("create table mine (a)")
    else:
        (quick.folder / "other.db").write_bytes(text)
    before = (quick.folder / "other.db").read_bytes()
    refused(quick, command, 1, "other.db", words, "`journal` in evsync.toml")
    assert (quick.folder / "other.db").read_bytes() == before


@pytest.mark.parametrize("command", JOURNAL_COMMANDS, ids=" ".join)
def test_a_journal_of_a_newer_format(quick: Quick, command: list[str]) -> None:
    quick.journal_sql("pragma user_version = 99")
    refused(quick, command, 1, "format 99", "upgrade evsync")


def test_a_journal_at_a_place_where_none_can_be(quick: Quick) -> None:
    quick.write("evsync.toml", 'journal = "none/evsync.db"\n' + CONFIG)
    refused(quick, ["ingest"], 1, "cannot be opened", "folder")
    quick.write("evsync.toml", 'journal = "postgresql://host/db"\n' + CONFIG)
    refused(quick, ["ingest"], 2, "'postgresql:'", "evsync.db")


def test_a_journal_that_is_locked(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(quick.folder / "evsync.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        refused(quick, ["ingest"], 1, "locked by another process")
        assert quick("log", "--json").code == 0  # a reader never waits
        assert quick("verify").code == 0


def test_a_journal_that_was_tampered_with(quick: Quick) -> None:
    quick.journal_sql("drop trigger event_is_final")
    quick.journal_sql("update event set actor = 'me' where seq = 2")
    ended = quick("verify", "--json")
    assert (ended.code, ended.json["ok"]) == (5, False)
    assert [(problem["seq"], problem["kind"]) for problem in ended.json["problems"]] == [(2, "altered")]
    assert quick("verify").out.splitlines()[-1].startswith("BROKEN")


# -- bad rows ----------------------------------------------------------------------------------------------


def test_bad_rows_are_put_aside_and_shown(quick: Quick) -> None:
    quick.sql("insert into customers values ('dan@example.com', 'Dan', 'old'), ('eve@example.com', 'Eve', 5)")
    ended = quick("sync", "--json")
    assert ended.code == 4
    [crm] = [entry for entry in ended.json["ingest"]["stores"] if entry["store"] == "crm"]
    assert (crm["created"], crm["quarantined"], crm["error"]) == (1, 1, None)
    assert "eve@example.com" in quick.read("mailing.csv")
    assert "dan@example.com" not in quick.read("mailing.csv")
    status = {entry["store"]: entry for entry in quick("status", "--json").json["stores"]}
    assert [status[name]["quarantined"] for name in ("crm", "mailing", "people")] == [1, 0, 0]
    quick.sql("update customers set age = 50 where email = 'dan@example.com'")
    assert quick("sync").code == 0
    assert "dan@example.com" in quick.read("mailing.csv")


# -- secrets -----------------------------------------------------------------------------------------------

SECRET = "hunter2-correct-horse"


@pytest.fixture
def secretive(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Quick:
    """Its URL, an option of a store and one of a type come from the environment."""
    monkeypatch.setenv("EVSYNC_SECRET", SECRET)
    made = Quick(project.folder, monkeypatch, capsys)
    os.rename(made.folder / "crm.db", made.folder / f"{SECRET}.db")
    made.configure('"sqlite:crm.db"', '"sqlite:${EVSYNC_SECRET}.db"')
    made.configure('"csv:mailing.csv"', '"csv:mailing.csv"\nnull = "${EVSYNC_SECRET}"')
    made.configure('only = ["email", "name"]', 'only = ["email", "name"]\nfile = "${EVSYNC_SECRET}"')
    return made


def test_secrets_are_neither_printed_nor_journalled(secretive: Quick) -> None:
    said = []

    def run(*arguments: str) -> None:
        for extra in ([], ["--json"]):
            ended = secretive(*arguments, *extra)
            said.append(ended.out + ended.err)

    def run_all() -> None:
        for command in COMMANDS:
            run(*command)

    run_all()
    database = secretive.folder / f"{SECRET}.db"
    database.write_bytes(b"no database" * 99)
    run_all()
    database.unlink()
    run_all()
    database.mkdir()
    run_all()
    secretive.configure('"sqlite:$', '"sqlit:$')
    run_all()
    secretive.configure('"sqlit:$', '"$')
    run_all()
    assert any("${EVSYNC_SECRET}" in text for text in said)
    assert [text for text in said if SECRET in text] == []
    for path in secretive.folder.glob("evsync.db*"):
        assert SECRET.encode() not in path.read_bytes()


def test_not_even_a_traceback_shows_them(secretive: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    (secretive.folder / f"{SECRET}.db").write_bytes(b"no database" * 99)
    with monkeypatch.context() as patched:
        patched.chdir(secretive.folder)
        assert failures.guarded(["diff", "crm", "--debug"]) == 1
        out, err = secretive.capsys.readouterr()
    assert "Traceback" in err
    assert SECRET not in out + err
