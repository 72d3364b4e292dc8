"""How commands end: exit codes, two lines on stderr, a document under --json, never a traceback unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evsync import errors
from evsync.cli import app, failures, output


@pytest.fixture(autouse=True)
def nothing_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_written", False)


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    def run(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(app, "run", run)
    return failures.guarded(arguments)


CODES = [
    (errors.ConfigError("m", "h"), 2, "config"),
    (errors.UsageError("m", "h"), 2, "usage"),
    (errors.NotFound("m", "h"), 1, "not-found"),
    (errors.GuardTripped("m", "h"), 6, "guard"),
    (errors.Unreachable("m", "h"), 3, "unreachable"),
    (errors.JournalBusy("m", "h"), 1, "journal-busy"),
]


@pytest.mark.parametrize(("error", "exit_code", "code"), CODES)
def test_an_error_is_two_lines_and_its_exit_code(
    error: errors.EvsyncError, exit_code: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert ending(monkeypatch, error) == exit_code
    assert capsys.readouterr() == ("", "error: m\nhint: h\n")


@pytest.mark.parametrize(("error", "exit_code", "code"), CODES)
def test_under_json_it_is_a_document_as_well(
    error: errors.EvsyncError, exit_code: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert ending(monkeypatch, error, "status", "--json") == exit_code
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "error": {"code": code, "message": "m", "hint": "h"},
    }


def test_a_guard_shows_the_document_of_its_run(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    error = errors.GuardTripped("m", "h")
    error.document = {"command": "ingest", "ok": False, "stores": []}  # type: ignore[attr-defined]
    assert ending(monkeypatch, error, "--json", "ingest") == 6
    out, err = capsys.readouterr()
    assert json.loads(out) == {"command": "ingest", "ok": False, "stores": []}
    assert err == "error: m\nhint: h\n"


def test_what_nobody_expected_is_two_lines_too(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert ending(monkeypatch, ZeroDivisionError("division\nby zero")) == 1
    assert capsys.readouterr().err == (
        "error: unexpected error: ZeroDivisionError: division by zero\nhint: run again with --debug\n"
    )


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert ending(monkeypatch, errors.ConfigError("m"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_debug_behind_the_dashes_is_data(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    ending(monkeypatch, errors.ConfigError("m"), "show", "x", "--", "--debug", "--json")
    assert capsys.readouterr() == ("", "error: m\n")


@pytest.mark.parametrize(
    "arguments", [["log", "--format=json"], ["log", "--format", "json"], ["--json", "log"]]
)
def test_all_ways_to_ask_for_json(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    ending(monkeypatch, errors.ConfigError("m"), *arguments)
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_second_document_never_follows_a_first(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    output.write("[")
    ending(monkeypatch, errors.JournalError("m"), "log", "--json")
    assert capsys.readouterr().out == "["


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert ending(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("error: interrupted\n")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(KeyboardInterrupt, failures.Interrupted), (BrokenPipeError, failures.ReaderGone)],
)
def test_a_command_hides_from_typer_what_typer_would_handle(raised: Any, expected: Any) -> None:
    def command() -> None:
        raise raised

    with pytest.raises(expected):
        failures.plain(command)()
