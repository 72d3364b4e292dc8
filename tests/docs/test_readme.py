"""What README.md shows is what happens: its commands are run, its code is executed, its files are those that are tested.

An HTML comment before a block says what is to be done with it: `<!-- test: skip -->`, `<!-- exits: 2 -->` for commands
that fail, `<!-- file: PATH -->` for a file that is tested elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evsync.config import parse_config

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

_BLOCK = re.compile(
    r"(?:^<!-- (?P<what>\w+): (?P<value>.+?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
_VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "HASH"),
]


class Block(NamedTuple):
    language: str
    text: str
    line: int
    what: str | None
    value: str | None


def blocks(language: str) -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start("text")) + 1, found["what"], found["value"])
        for found in _BLOCK.finditer(text)
        if found["language"] == language
    ]  # fmt: skip


def usual(text: str) -> str:
    """The text with what differs from run to run made alike."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text.strip()


def commands(block: Block) -> list[tuple[str, str]]:
    """Each command with the output shown below it."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, shown = found[-1]
            found[-1] = (command, shown + line + "\n")
    return found


def test_every_block_is_of_a_known_kind() -> None:
    kinds = re.findall(r"^```(\w+)$", README.read_text(encoding="utf-8"), re.M)
    assert set(kinds) == {"console", "python", "toml", "ini", "dockerfile"}  # the last two are read, not run
    assert len(kinds) == sum(len(blocks(kind)) for kind in set(kinds))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the commands are written for a Unix shell")
def test_the_commands_do_what_is_shown(tmp_path: Path) -> None:
    folder = tmp_path
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1",
    }  # fmt: skip
    count = 0
    for block in blocks("console"):
        if block.what == "test":
            continue
        expected = int(block.value or 0) if block.what == "exits" else 0
        for command, shown in commands(block):
            if command.startswith("cd "):
                folder = folder / command[3:]
                continue
            done = subprocess.run(
                command, shell=True, cwd=folder, env=environment, encoding="utf-8", timeout=120, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            where = f"README.md, line {block.line}: {command}\n{done.stdout}"
            assert done.returncode == expected, where
            assert usual(done.stdout) == usual(shown), where
            count += 1
    assert count > 10


def test_the_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        if block.what is None:
            code = compile("\n" * (block.line - 1) + block.text, str(README), "exec")
            exec(code, names)
    assert "seen" in names


@pytest.mark.parametrize(
    "block", [b for b in blocks("toml") if b.what is None], ids=lambda b: f"line {b.line}"
)
def test_the_configurations_are_accepted(block: Block) -> None:
    config = parse_config(block.text, None, {"CRM_FOLDER": "/data"})
    assert config.stores


@pytest.mark.parametrize(
    "block",
    [b for language in ("python", "toml") for b in blocks(language) if b.what == "file"],
    ids=lambda b: b.value,
)
def test_the_files_shown_are_those_that_are_tested(block: Block) -> None:
    assert block.text == (ROOT / str(block.value)).read_text(encoding="utf-8")


def test_the_whole_package_of_the_accessor_is_shown() -> None:
    shown = {
        block.value for language in ("python", "toml") for block in blocks(language) if block.what == "file"
    }
    package = ROOT / "tests" / "thirdparty"
    assert shown == {
        path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.suffix in (".py", ".toml")
    }


def test_the_tools_it_uses_are_there() -> None:
    beside = str(Path(sys.executable).parent)
    for program in ("evsync", "sqlite-utils", "datasette"):
        assert shutil.which(program, path=beside)
