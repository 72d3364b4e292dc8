"""Parameters are converted only where there is something to convert, and mean the same as if all were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evsync.cli.parameters import conversions

CONFIG = """
[types.thing]
key = ["id"]
[stores.one]
url = "sqlite:one.db"
[stores.one.types.thing]
"""

HEAVY = ("pydantic", "sqlite_utils", "rich", "tempfile", "xml", "unittest")
"""Modules that take long to load, and that no quick command needs."""


def loaded(folder: Path, *arguments: str) -> set[str]:
    """The modules in memory when a command ends, as far as they take long."""
    program = (
        "import sys; from evsync.cli.failures import guarded; code = guarded(sys.argv[1:]);"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()) if done.stderr.strip() else set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import sqlite3

    db = sqlite3.connect(tmp_path / "one.db")
    db.execute("CREATE TABLE thing (id TEXT PRIMARY KEY, name TEXT)")
    with db:
        db.execute("INSERT INTO thing VALUES ('a', 'Ann')")
    db.close()
    (tmp_path / "evsync.toml").write_text(CONFIG)
    subprocess.run([sys.executable, "-m", "evsync", "ingest"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest",),
        ("ingest", "one"),
        ("--config", "evsync.toml", "ingest"),
        ("ingest", "--config", "evsync.toml"),
        ("sync", "--json"),
        ("status",),
        ("log", "thing", "a", "--store", "one"),
        ("show", "thing", "a", "--at", "1"),
        ("blame", "thing", "a"),
        ("verify",),
        ("--version",),
    ],
    ids=" ".join,
)
def test_commands_start_without_what_takes_long_to_load(folder: Path, arguments: tuple[str, ...]) -> None:
    assert loaded(folder, *arguments) == set()


def test_what_has_to_be_converted_is(folder: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "evsync", *arguments], cwd=folder, capture_output=True, text=True
        )

    assert run("log", "--limit", "1", "--format", "csv", "--config", "evsync.toml").stdout.count("thing") == 1
    refused = run("log", "--limit", "many")
    assert refused.returncode == 2
    assert "'--limit'" in refused.stderr
    missing = run("show", "thing")
    assert missing.returncode == 2
    assert "KEY" in missing.stderr
    assert run("ingest", "one", "one", "--scan").returncode == 0


def test_which_parameters_are_simple_to_convert() -> None:
    def command(
        one: str,
        maybe: str | None,
        several: list[str] | None,
        number: int | None,
        path: Path | None,
        flag: bool,
    ) -> None: ...

    assert conversions(command) == {"one": str, "maybe": str, "several": str, "path": Path}
    assert conversions(None) == {}
