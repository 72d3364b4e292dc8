"""What is printed where, and that data cannot steer the terminal."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from evsync.cli import output
from evsync.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_array_is_valid_json_also_when_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    for values in ([], [{"a": 1}], [{"a": 1}, {"b": None}]):
        output.array(iter(values))
        assert json.loads(capsys.readouterr().out) == values


def test_a_document_ends_with_a_line_end(capsys: pytest.CaptureFixture[str]) -> None:
    output.document({"ok": True, "stores": []})
    assert capsys.readouterr().out == '{\n  "ok": true,\n  "stores": []\n}\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve 日本", "plain, naïve 日本"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert output.escape(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Ann", "'Ann'"),
        (1, "1"),
        ("1", "'1'"),
        (None, "null"),
        (True, "true"),
        ([1, "a"], '[1,"a"]'),
        ("\n", "'\\n'"),
    ],
)
def test_values_look_different_if_they_are(value: Any, shown: str) -> None:
    assert output.literal(value) == shown


def test_cells_are_short() -> None:
    assert len(output.cell("x" * 1000)) == output.CELL
    assert output.cell("x" * 1000).endswith("…")
    assert output.cell(None) == ""


def test_tables_are_aligned_whatever_their_alphabet() -> None:
    lines = list(output.aligned(("name", "n"), [("Ann", 1), ("日本", 20), ("é", None)], right=("n",)))
    assert lines == ["name   n", "Ann    1", "日本  20", "é"]


def test_a_table_streams() -> None:
    def rows() -> Any:
        for number in range(output.MEASURED + 1):
            yield (number,)
        raise AssertionError("looked too far")

    lines = output.aligned(("n",), rows())
    assert next(lines) == "n"


def test_a_table_without_rows_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a",), [])
    assert capsys.readouterr().out == ""


def test_colours_are_for_terminals_and_honour_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.style("x", "red", io.StringIO()) == "x"
    assert output.style("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.style("x", "red", Terminal()) == "x"


def test_errors_are_two_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.failure("what\nwhere", "try this")
    assert capsys.readouterr() == ("", "error: what\\nwhere\nhint: try this\n")


def test_progress_is_for_terminals() -> None:
    stream = io.StringIO()
    with Progress(stream=stream) as progress:
        progress("reading", 1, 2)
    assert stream.getvalue() == ""
    terminal = Terminal()
    with Progress(False, terminal) as progress:
        progress("reading", 1, 2)
    assert terminal.getvalue() == ""


def test_progress_is_drawn_seldom_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("evsync.cli.progress.time.monotonic", lambda: clock[0])
    terminal = Terminal()
    with Progress(stream=terminal) as progress:
        for done in range(100):
            progress("crm", done * 1000, 100_000)
            clock[0] += 1 / 64
    drawn = [text.strip() for text in terminal.getvalue().split("\r") if text.strip()]
    assert len(drawn) == 15
    assert drawn[0] == "crm  0 of 100,000"
    assert drawn[-1].startswith("crm  98,000 of 100,000")
    assert drawn[-1].endswith("/s")
    assert terminal.getvalue().split("\r")[-2].strip() == ""
