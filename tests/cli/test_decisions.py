"""conflicts, resolve and undo, as typed."""

from __future__ import annotations

import pytest
from cli.conftest import ANN, CONFIG, Project

from evsync.cli import decisions

MANUAL = CONFIG + '[types.contact.conflicts]\nname = "manual"\n'


@pytest.fixture
def parted(synced: Project) -> Project:
    """The mailing list calls Ann otherwise than the journal, which follows the CRM."""
    synced.write("evsync.toml", MANUAL)
    synced.sql("update customers set full_name = 'Anna' where email = ?", ANN)
    synced.write("mailing.csv", synced.read("mailing.csv").replace(",Ann", ",Annie"))
    assert synced("sync").code == 4
    return synced


def names(project: Project) -> tuple[str, bool]:
    [(crm,)] = project.sql("select full_name from customers where email = ?", ANN)
    return crm, f"{ANN},{crm}" in project.read("mailing.csv")


def test_a_person_sees_what_to_decide_and_decides(parted: Project) -> None:
    shown = parted("conflicts", "--open").out
    assert f"contact {ANN}" in shown
    assert "'Ann'" in shown and "'Anna'" in shown and "'Annie'" in shown
    assert f"evsync resolve contact {ANN} --take mailing" in shown
    assert names(parted) == ("Anna", False)
    decided = parted("resolve", "contact", ANN, "--take", "mailing", "--actor", "eve")
    assert decided.code == 0, decided.err
    assert "'Annie'" in decided.out
    assert "evsync replay --all" in decided.err
    assert parted("sync").code == 0
    assert names(parted) == ("Annie", True)
    assert parted("conflicts", "--open").out == "no open conflicts\n"
    settled = parted("conflicts")
    assert settled.code == 0
    assert "settled by event" in settled.out
    assert "eve" in parted("log", "--op", "resolve").out
    assert "eve" in parted("blame", "contact", ANN).out
    assert parted("verify").code == 0


def test_the_documents(parted: Project) -> None:
    [conflict] = parted("conflicts", "contact", ANN, "--store", "mailing", "--json").json
    assert conflict["fields"] == {
        "name": {"base": "Ann", "theirs": "Anna", "mine": "Annie", "chosen": "Anna"}
    }
    rehearsed = parted(
        "resolve", "contact", ANN, "--set", "name=A. B.", "--unset", "age", "--dry-run", "--json"
    ).json
    done = parted("resolve", "contact", ANN, "--set", "name=A. B.", "--unset", "age", "--json").json
    assert rehearsed == done
    assert (done["ok"], done["changed"], done["after"]["name"]) == (True, ["age", "name"], "A. B.")
    assert parted("conflicts", "--open", "--json").json == []
    undone = parted("undo", str(done["seq"]), "--json").json
    assert (undone["undone"], undone["conflicts"], undone["events"][0]["undoes"]) == (1, 0, done["seq"])
    assert "Anna" in parted("show", "contact", ANN).out


def test_an_undo_and_what_stands_in_its_way(synced: Project) -> None:
    synced.sql("update customers set full_name = 'Anna', age = 32 where email = ?", ANN)
    changed = synced("ingest", "--json").json
    synced.sql("update customers set full_name = 'Annie' where email = ?", ANN)
    synced("ingest")
    tried = synced("undo", str(changed["last"]), "--dry-run")
    assert (tried.code, "a dry run" in tried.out) == (4, True)
    undone = synced("undo", "--run", str(changed["run"]))
    assert undone.code == 4
    assert "in conflict with later changes" in undone.out
    assert "evsync conflicts --open" in undone.err
    assert f"evsync resolve contact {ANN} --take evsync" in synced("conflicts").out
    assert synced("resolve", "contact", ANN, "--take", "evsync").code == 0
    assert synced("sync").code == 0
    assert names(synced) == ("Ann", True)
    again = synced("undo", str(changed["last"]))
    assert (again.code, "nothing to undo" in again.out) == (0, True)


def test_a_disputed_deletion_is_told_as_one(synced: Project) -> None:
    synced.write("evsync.toml", '[conflicts]\ndelete = "manual"\n' + CONFIG)
    synced.sql("update customers set full_name = 'Anna' where email = ?", ANN)
    lines = synced.read("mailing.csv").splitlines(keepends=True)
    synced.write("mailing.csv", "".join(line for line in lines if ANN not in line))
    assert synced("sync").code == 4
    shown = synced("conflicts").out
    assert "mailing deleted the record, which was changed elsewhere" in shown
    assert "--set" not in shown
    deleted = synced("resolve", "contact", ANN, "--take", "mailing")
    assert "is deleted" in deleted.out
    assert synced("sync").code == 0
    assert synced.sql("select * from customers where email = ?", ANN) == []


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (("resolve", "contact", ANN), 2, "nothing was given"),
        (("resolve", "contact", ANN, "--keep", "--take", "crm"), 2, "one thing only"),
        (("resolve", "contact", ANN, "--set", "name"), 2, "'name' sets nothing"),
        (("resolve", "contact", ANN, "--set", "name=a", "--set", "name=b"), 2, "set twice"),
        (("resolve", "contact", ANN, "--set", "age=old"), 2, "not of type int"),
        (("resolve", "contact", ANN, "--set", "nme=a"), 2, "did you mean 'name'?"),
        (("resolve", "contact", ANN, "--take", "people"), 1, "does not hold what is in dispute"),
        (("resolve", "contact", "dan@example.com", "--keep"), 1, "knows no contact"),
        (("conflicts", "contcat"), 2, "did you mean 'contact'?"),
        (("conflicts", "--store", "cmr"), 2, "did you mean 'crm'?"),
        (("undo",), 2, "say what to undo"),
        (("undo", "1", "--run", "1"), 2, "say what to undo"),
        (("undo", "9999"), 1, "no event 9999"),
        (("undo", "--run", "9999"), 1, "no run 9999"),
        (("undo", "0"), 2, "SEQ"),
        (("failures", "cmr"), 2, "did you mean 'crm'?"),
        (("quarantine", "cmr"), 2, "did you mean 'crm'?"),
    ],
)
def test_mistakes_are_told(parted: Project, arguments: tuple[str, ...], code: int, message: str) -> None:
    ended = parted(*arguments)
    assert (ended.code, message in ended.err) == (code, True), ended.err


def test_nothing_to_list(synced: Project) -> None:
    assert synced("conflicts").out == "no conflicts\n"
    assert synced("failures").out == "no failures\n"
    assert synced("quarantine").out == "no quarantined rows\n"
    for command in ("conflicts", "failures", "quarantine"):
        assert synced(command, "--json").json == []


def test_what_is_in_the_way_is_listed(synced: Project) -> None:
    synced.sql("update customers set age = 'old' where email = ?", ANN)
    assert synced("sync").code == 4
    listed = synced("quarantine", "crm")
    assert listed.code == 0
    assert "'old' is not of type int" in listed.out
    assert synced("quarantine", "--json").json[0]["row"]["email"] == ANN
    shown = synced("show", "contact", ANN)
    assert "could not be read" in shown.err
    assert "Ann" in shown.out


def test_without_a_login_name_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert decisions.login_name() is None


def test_a_failing_record_is_told_with_its_reason(synced: Project) -> None:
    synced.sql("create trigger no before update on customers begin select raise(abort, 'not today'); end")
    synced.write("mailing.csv", synced.read("mailing.csv").replace(",Ann", ",Anna"))
    assert synced("sync").code == 4
    told = synced("failures", "crm")
    assert told.code == 0
    assert f"crm  contact {ANN}" in told.out
    assert "not today" in told.out
    [failure] = synced("failures", "--json").json
    assert (failure["store"], failure["action"], failure["state"]) == ("crm", "update", "refused")
    assert synced("failures", "--retry").code == 4
    assert synced("failures", "--json").json[0]["attempts"] == 2
    synced.sql("drop trigger no")
    done = synced("failures", "--retry")
    assert (done.code, done.out.splitlines()[-1]) == (0, "no failures")
    assert synced("failures", "--retry", "--json").json == []


def test_what_is_wrong_in_both_halves_of_a_sync_is_told_once(synced: Project) -> None:
    (synced.folder / "crm.db").write_bytes(b"no database at all, " * 50)
    ended = synced("sync")
    assert ended.code == 1
    assert ended.err.count("error:") == 1
