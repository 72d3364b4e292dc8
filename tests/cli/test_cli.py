"""Each command as a process: what it prints, on which stream, its JSON document key by key, its exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ANN, BEN, CEM, CONFIG, Project

INGESTED = [
    "store", "created", "updated", "deleted", "adopted", "unchanged", "conflicts", "quarantined", "adoption",
    "error",
]  # fmt: skip
REPLAYED = ["store", "created", "updated", "deleted", "skipped", "failed", "cursor", "head", "error"]
EVENT = [
    "seq", "op", "store", "type", "key", "base", "before", "after", "changed", "observed_at", "occurred_at", "actor",
    "run", "conflict",
]  # fmt: skip


def rename(project: Project, name: str = "Anna") -> None:
    project.sql("update customers set full_name = ? where email = ?", name, ANN)


# -- ingest ------------------------------------------------------------------------------------------------


def test_ingest_document(project: Project) -> None:
    ended = project("ingest", "--json")
    assert (ended.code, ended.err) == (0, "")
    document = ended.json
    assert list(document) == ["command", "ok", "dry_run", "run", "first", "last", "stores"]
    assert (document["command"], document["ok"], document["dry_run"]) == ("ingest", True, False)
    assert (document["run"], document["first"], document["last"]) == (1, 1, 4)
    assert [list(store) for store in document["stores"]] == [INGESTED] * 3
    crm, mailing, people = document["stores"]
    # A record first seen in another store is adopted, even if it brings a field along: event 4 is Ann's town.
    assert (crm["created"], mailing["created"], mailing["adopted"], people["adopted"]) == (2, 1, 1, 1)
    assert [store["error"] for store in document["stores"]] == [None] * 3


def test_ingest_in_words(project: Project) -> None:
    ended = project("ingest")
    assert ended.code == 0
    assert ended.out.splitlines()[0].split() == ["crm", "2", "created"]
    assert "events 1–4 in the journal" in ended.out
    assert "conflict" not in ended.out
    again = project("ingest")
    assert "crm      nothing new (2 records)" in again.out.splitlines()


def test_ingest_of_named_stores(project: Project) -> None:
    document = project("ingest", "mailing", "--json").json
    assert [store["store"] for store in document["stores"]] == ["mailing"]


def test_ingest_of_a_store_that_does_not_exist(project: Project) -> None:
    ended = project("ingest", "maling")
    assert (ended.code, ended.out) == (2, "")
    assert "maling" in ended.err
    assert "'mailing'" in ended.err
    assert len(ended.err.splitlines()) == 2


def test_a_dry_run_leaves_no_trace(project: Project) -> None:
    document = project("ingest", "--dry-run", "--json").json
    assert document["dry_run"] is True
    assert document["stores"][0]["created"] == 2
    assert project("ingest", "--json").json["first"] == 1


def test_a_guard_ends_with_6_and_its_document(synced: Project) -> None:
    synced.sql("delete from customers")
    ended = synced("ingest", "--json")
    assert ended.code == 6
    assert ended.json["ok"] is False
    assert ended.err.startswith("error: ")
    assert "--allow-deletes" in ended.err
    assert synced("ingest", "--allow-deletes").code == 0


def test_a_store_that_is_yet_to_be_created_is_no_error(project: Project) -> None:
    (project.folder / "mailing.csv").unlink()
    assert project("sync").code == 0
    assert sorted(project.read("mailing.csv").splitlines()) == [f"{ANN},Ann", f"{BEN},Ben", "email,name"]


def test_an_unreachable_store_stops_no_other(synced: Project) -> None:
    project = synced
    (project.folder / "mailing.csv").unlink()
    rename(project)
    ended = project("ingest", "--json")
    assert ended.code == 3
    crm, mailing, people = ended.json["stores"]
    assert ended.json["ok"] is False
    assert (crm["updated"], people["error"]) == (1, None)
    assert "mailing.csv" in mailing["error"]
    assert ended.err.startswith("error: mailing: ")
    told = project("ingest")
    assert told.code == 3
    assert "error: mailing: " in told.err


def test_bad_rows_end_with_4(project: Project) -> None:
    project.sql("insert into customers values ('dan@example.com', 'Dan', 'old')")
    ended = project("ingest")
    assert ended.code == 4
    assert "1 quarantined" in ended.out


# -- replay and sync ---------------------------------------------------------------------------------------


def test_replay_document(project: Project) -> None:
    project("ingest")
    ended = project("replay", "--store", "crm", "--json")
    assert ended.code == 0
    document = ended.json
    assert list(document) == ["command", "ok", "dry_run", "run", "stores"]
    assert [list(store) for store in document["stores"]] == [REPLAYED]
    crm = document["stores"][0]
    assert (crm["store"], crm["created"], crm["cursor"], crm["head"]) == ("crm", 1, 4, 4)
    assert project.sql("select full_name from customers where email = ?", CEM) == [("Cem",)]


def test_the_plan_of_a_dry_run(project: Project) -> None:
    project("ingest")
    ended = project("replay", "--all", "--dry-run", "--json")
    assert ended.code == 0
    stores = {store["store"]: store for store in ended.json["stores"]}
    assert list(stores["crm"]) == [*REPLAYED, "plan"]
    assert list(stores["crm"]["plan"][0]) == ["action", "type", "key", "seq", "fields"]
    assert [(step["action"], step["key"]) for step in stores["mailing"]["plan"]] == [("create", BEN)]
    assert project.sql("select count(*) from customers") == [(2,)]
    assert "create  contact cem@example.com" in project("replay", "--all", "--dry-run").out


def test_replay_wants_to_know_where(project: Project) -> None:
    for arguments in (["replay"], ["replay", "--all", "--store", "crm"]):
        ended = project(*arguments)
        assert (ended.code, ended.out) == (2, "")
        assert "crm, mailing, people" in ended.err
    assert project("replay", "--json").json["error"]["code"] == "usage"


def test_replay_until_a_past_state(synced: Project) -> None:
    rename(synced)
    synced("sync")
    head = synced("status", "--json").json["head"]
    assert synced("replay", "--store", "crm", "--until", str(head - 1)).code == 0
    assert synced.sql("select full_name from customers where email = ?", ANN) == [("Ann",)]


def test_sync_document(project: Project) -> None:
    ended = project("sync", "--json")
    assert ended.code == 0
    assert list(ended.json) == ["command", "ok", "ingest", "replay"]
    assert ended.json["ingest"]["command"] == "ingest"
    assert ended.json["replay"]["command"] == "replay"


def test_sync_carries_a_change_and_is_then_quiet(synced: Project) -> None:
    rename(synced)
    assert "crm      1 updated" in synced("sync").out
    assert f"{ANN},Anna" in synced.read("mailing.csv")
    document = synced("sync", "--json").json
    assert document["ingest"]["first"] is None
    counts = ("created", "updated", "deleted", "failed")
    assert not any(store[count] for store in document["replay"]["stores"] for count in counts)


def test_status(synced: Project) -> None:
    document = synced("status", "--json").json
    assert list(document) == ["head", "stores"]
    assert [list(store) for store in document["stores"]] == [
        [
            "store",
            "role",
            "cursor",
            "behind",
            "conflicts",
            "failures",
            "quarantined",
            "last_ingest",
            "last_replay",
        ]
    ] * 3
    assert all(store["behind"] == 0 for store in document["stores"])
    assert "mailing" in synced("status").out


# -- log ---------------------------------------------------------------------------------------------------


def test_log_document(synced: Project) -> None:
    rename(synced)
    synced("ingest")
    events = synced("log", "contact", ANN, "--json").json
    assert [list(event) for event in events] == [EVENT] * len(events)
    last = events[-1]
    assert (last["op"], last["store"], last["type"], last["key"]) == ("update", "crm", "contact", ANN)
    assert (last["before"], last["changed"]) == ({"name": "Ann"}, ["name"])
    assert last["after"] == {"email": ANN, "name": "Anna", "age": 31, "town": "Ulm"}
    assert last["observed_at"].endswith("Z")
    assert last["conflict"] is None
    assert synced("log", "--format", "json").json[-1] == last


def test_log_in_words(synced: Project) -> None:
    rename(synced)
    synced("ingest")
    last = synced("log").out.splitlines()[-1]
    assert "update" in last
    assert f"contact {ANN}" in last
    assert "name: 'Ann' → 'Anna'" in last


def test_log_says_what_a_conflict_was_about(synced: Project) -> None:
    synced.write("evsync.toml", '[conflicts]\nfields = "first"\n' + synced.read("evsync.toml"))
    rename(synced)
    synced.write("mailing.csv", synced.read("mailing.csv").replace(f"{ANN},Ann", f"{ANN},Annie"))
    assert "1 conflict" in synced("sync").out
    [line] = synced("log", "--conflicts").out.splitlines()[1:]
    assert "(conflict) name: 'Anna', not 'Annie'" in line
    assert f"{ANN},Anna\n" in synced.read("mailing.csv")


def test_log_cannot_steer_the_terminal(synced: Project) -> None:
    rename(synced, "\x1b[2JAnna\r\n")
    synced("ingest")
    out = synced("log").out
    assert "\\x1b[2JAnna\\r\\n" in out
    assert "\x1b" not in out


def test_log_filters(synced: Project) -> None:
    assert [event["seq"] for event in synced("log", "--limit", "1", "--json").json] == [4]
    assert [event["key"] for event in synced("log", "--store", "mailing", "--json").json] == [CEM]
    assert [event["op"] for event in synced("log", "--op", "update", "--json").json] == ["update"]
    assert [event["seq"] for event in synced("log", "--field", "town", "--json").json] == [4]
    assert synced("log", "--conflicts", "--json").out == "[]\n"
    assert synced("log", "--conflicts").out == ""


def test_log_as_lines_of_json_and_as_csv(synced: Project) -> None:
    lines = [json.loads(line) for line in synced("log", "--format", "jsonl").out.splitlines()]
    assert lines == synced("log", "--json").json
    rows = list(csv.DictReader(io.StringIO(synced("log", "--format", "csv").out)))
    assert [row["seq"] for row in rows] == [str(event["seq"]) for event in lines]
    assert json.loads(rows[0]["after"]) == lines[0]["after"]
    assert list(rows[0]) == EVENT


def test_log_in_a_format_that_is_none(synced: Project) -> None:
    ended = synced("log", "--format", "xml")
    assert (ended.code, ended.out) == (2, "")
    assert "jsonl" in ended.err
    assert synced("log", "--follow", "--json").code == 2


def heeds_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_log_follows_until_ctrl_c(synced: Project) -> None:
    command = synced.command("log", "--follow", "--format", "jsonl", "--limit", "1")
    with subprocess.Popen(
        command, cwd=synced.folder, env=synced.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=heeds_ctrl_c,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["seq"] == 4
        rename(synced)
        synced("ingest")
        assert json.loads(process.stdout.readline())["seq"] == 5
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


def told_into_a_closed_pipe(project: Project, *arguments: str) -> str:
    """What a command says when nobody reads what it prints."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        done = subprocess.run(
            project.command(*arguments), cwd=project.folder, env=project.environment, stdout=closed,
            stderr=subprocess.PIPE, check=False, text=True,
        )  # fmt: skip
    return done.stderr


def test_a_closed_pipe_is_no_error(synced: Project) -> None:
    assert told_into_a_closed_pipe(synced, "log") == ""


@pytest.mark.parametrize("arguments", [(), ("--json",)])
@pytest.mark.parametrize("command", ["failures", "quarantine"])
def test_a_pipe_closed_in_the_midst_of_a_list_is_no_error(
    project: Project, command: str, arguments: tuple[str, ...]
) -> None:
    project.sql("create trigger no before insert on customers begin select raise(abort, 'not wanted'); end")
    project.write("mailing.csv", "email,name\n" + "".join(f"n{n}@example.com,N\n" for n in range(400)))
    bad = [{"email": f"b{n}@example.com", "town": [n]} for n in range(400)]
    project.write("people.json", json.dumps(bad))
    project("sync")
    listed = project(command).out
    assert len(listed) > 2 * io.DEFAULT_BUFFER_SIZE  # so that it is written before the end of the list
    assert told_into_a_closed_pipe(project, command, *arguments) == ""


# -- show, blame, diff, verify -----------------------------------------------------------------------------


def test_show(synced: Project) -> None:
    document = synced("show", "contact", ANN, "--json").json
    assert list(document) == ["type", "key", "seq", "fields", "replicas", "quarantined"]
    assert document["fields"] == {"email": ANN, "name": "Ann", "age": 31, "town": "Ulm"}
    assert [list(held) for held in document["replicas"]] == [["store", "seq", "id", "in_step"]] * 3
    assert all(held["in_step"] for held in document["replicas"])
    assert "'Ulm'" in synced("show", "contact", ANN).out


def test_show_at_a_past_position(synced: Project) -> None:
    assert "town" not in synced("show", "contact", ANN, "--at", "1", "--json").json["fields"]


def test_show_what_was_deleted(synced: Project) -> None:
    synced.sql("delete from customers where email = ?", BEN)
    synced("sync")
    assert synced("show", "contact", BEN, "--json").json["fields"] is None
    assert "does not exist any more" in synced("show", "contact", BEN).out


def test_show_what_never_was(synced: Project) -> None:
    ended = synced("show", "contact", "nobody", "--json")
    assert ended.code == 1
    assert ended.json["error"]["code"] == "not-found"
    assert synced("show", "contakt", ANN).code in (1, 2)
    assert synced("show", "contact").code == 2


def test_blame(synced: Project) -> None:
    rename(synced)
    synced("sync")
    document = synced("blame", "contact", ANN, "--json").json
    assert list(document) == ["type", "key", "fields"]
    assert [list(line) for line in document["fields"]] == [
        ["field", "value", "seq", "store", "actor", "observed_at"]
    ] * 4
    by = {line["field"]: (line["value"], line["seq"], line["store"]) for line in document["fields"]}
    assert by["name"] == ("Anna", 5, "crm")
    assert by["town"] == ("Ulm", 4, "people")
    assert "'Anna'" in synced("blame", "contact", ANN).out


def test_a_record_that_is_looked_for_under_an_edited_key(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        "evsync.toml",
        '[types.p]\nkey = ["email"]\n[stores.crm]\nurl = "sqlite:crm.db"\n[stores.crm.types.p]\n',
    )
    project.sql("create table p (id integer primary key, email text unique)")
    project.sql("insert into p (email) values (?)", ANN)
    project("ingest")
    project.sql("update p set email = 'anna@example.com'")
    project("ingest")
    for command in (["show"], ["blame"], ["conflicts"], ["resolve", "--keep"]):
        ended = project(*command, "p", "anna@example.com")
        assert ended.code == 1
        assert f"that is how '{ANN}' is called since its key was edited" in ended.err
    assert project("show", "p", "ann@example.co").err.endswith(f"hint: did you mean '{ANN}'?\n")


def test_diff(synced: Project) -> None:
    ended = synced("diff", "crm", "--json")
    assert (ended.code, ended.json) == (0, {"differences": []})
    assert "no difference" in synced("diff", "crm", "mailing").out
    rename(synced)
    ended = synced("diff", "crm", "--json")
    assert ended.code == 5
    [difference] = ended.json["differences"]
    assert list(difference) == ["type", "key", "kind", "fields"]
    assert (difference["key"], difference["kind"]) == (ANN, "different")
    assert sorted(difference["fields"]["name"]) == ["Ann", "Anna"]
    assert "different  contact ann@example.com  name" in synced("diff", "crm").out


def test_diff_with_a_store_that_a_replay_will_create(project: Project) -> None:
    project.write(
        "evsync.toml", CONFIG + '[stores.copy]\nurl = "sqlite:copy.db"\n[stores.copy.types.contact]\n'
    )
    project("ingest", "crm")
    ended = project("diff", "copy", "--json")
    assert ended.code == 5
    assert {(one["key"], one["kind"]) for one in ended.json["differences"]} == {
        (ANN, "missing"),
        (BEN, "missing"),
    }
    assert project("diff", "crm", "copy").code == 5
    project("replay", "--store", "copy")
    assert project("diff", "copy").code == 0


def test_what_two_stores_write_in_their_own_ways_is_no_difference(project: Project) -> None:
    project.write("evsync.toml", CONFIG.replace('name = "str"', 'name = "decimal"', 1))
    project.sql("update customers set full_name = '3.00'")
    project.write("mailing.csv", f"email,name\n{ANN},3\n{BEN},4\n")
    project("ingest")
    [difference] = project("diff", "crm", "mailing", "--json").json["differences"]
    assert (difference["key"], difference["fields"]) == (BEN, {"name": ["3.00", "4"]})


def test_verify(synced: Project) -> None:
    ended = synced("verify", "--json")
    assert ended.code == 0
    assert list(ended.json) == ["ok", "events", "head", "hash", "problems"]
    assert (ended.json["ok"], ended.json["events"], ended.json["problems"]) == (True, 4, [])
    assert synced("verify").out.startswith("intact: 4 events")


# -- doctor ------------------------------------------------------------------------------------------------


def test_what_doctor_finds_wrong_with_all_of_a_store_is_told_once(project: Project) -> None:
    more = '[types.person]\nkey = ["email"]\n[stores.crm.types.person]\ntable = "customers"\n'
    wrong = CONFIG.replace('"sqlite:crm.db"', '"sqlite:crm.db"\ncapture = "triggerz"')
    project.write("evsync.toml", wrong + more)
    ended = project("doctor")
    assert ended.code == 1
    assert ended.out.count("BAD") > 1
    assert ended.err.count("error: crm: ") == 1


def test_doctor(synced: Project) -> None:
    ended = synced("doctor", "--json")
    assert ended.code == 0
    assert list(ended.json) == ["ok", "checks"]
    assert {tuple(check) for check in ended.json["checks"]} == {
        ("store", "type", "check", "ok", "detail", "hint")
    }
    (synced.folder / "people.json").unlink()
    ended = synced("doctor")
    assert ended.code == 1
    assert "people" in ended.err


# -- what all commands share -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ingest", "--nonsense"],
        ["log", "--run", "x"],
        ["show"],
        ["log", "--limit", "-1"],
        ["diff"],
        [],
    ],
)
def test_a_wrong_command_line_ends_with_2(project: Project, arguments: list[str]) -> None:
    ended = project(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "error: " in ended.err
    under_json = project("--json", *arguments)
    assert under_json.code == 2
    assert list(under_json.json["error"]) == ["code", "message", "hint"]


def test_without_a_configuration(tmp_path: Path) -> None:
    ended = Project(tmp_path)("status")
    assert ended.code == 2
    assert "evsync init" in ended.err


def test_the_configuration_may_be_named_before_and_behind_the_command(
    project: Project, tmp_path: Path
) -> None:
    project("ingest")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "evsync.toml").write_text("broken")
    away = Project(elsewhere)
    named = ["--config", str(project.folder / "evsync.toml")]
    assert away("status").code == 2
    assert away(*named, "status", "--json").json["head"] == 4
    assert away("status", "--json", *named).json["head"] == 4


def test_help_and_version_are_results(project: Project) -> None:
    for arguments in (["--help"], ["ingest", "--help"], ["--version"]):
        ended = project(*arguments)
        assert (ended.code, ended.err) == (0, "")
        assert "evsync" in ended.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("evsync ingest ma", ["mailing"]),
        ("evsync replay --store ", ["crm", "mailing", "people"]),
        ("evsync log con", ["contact"]),
        ("evsync diff crm peo", ["people"]),
    ],
)
def test_the_shell_completes_stores_and_types(project: Project, words: str, expected: list[str]) -> None:
    def completed(at: Project) -> list[str]:
        count = len(words.split(" ")) - 1
        ended = at(_EVSYNC_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(count))
        return ended.out.split()

    assert completed(project) == expected
    project.write("evsync.toml", "broken")
    assert completed(project) == []


def test_no_output_has_colours_without_a_terminal(synced: Project) -> None:
    rename(synced)
    for arguments in (["ingest"], ["log"], ["status"], ["nonsense"]):
        ended = synced(*arguments)
        assert "\x1b" not in ended.out + ended.err


def test_a_first_word_comes_quickly(project: Project) -> None:
    """A generous bound: it is there to notice an import that costs seconds."""

    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        project(*arguments)
        return time.perf_counter() - started

    assert min(seconds("--version") for _ in range(3)) < 2.0


def test_a_first_meeting_is_told_and_a_dry_run_of_sync_shows_it_before(project: Project) -> None:
    dry = project("sync", "--dry-run")
    assert (dry.code, dry.err) == (0, "")
    assert "mailing  met for the first time: 1 alike, 1 only here, 1 only elsewhere" in dry.out
    assert "would be written to the stores" in dry.out
    assert f"contact {CEM}" in dry.out
    assert not (project.folder / "evsync.db").exists()
    document = project("sync", "--dry-run", "--json").json
    assert [document[half]["dry_run"] for half in ("ingest", "replay")] == [True, True]
    assert all(store["plan"] for store in document["replay"]["stores"])
    assert "only elsewhere" in project("ingest", "--dry-run").out
    assert "only elsewhere" in project("sync").out
    assert "first time" not in project("ingest").out
