"""Files of every format that was ever released still open, verify, and show the same log."""

from __future__ import annotations

import json
import runpy
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evsync.journal.journal import Journal
from evsync.journal.query import Filter, log
from evsync.journal.schema import FORMAT
from evsync.journal.verify import verify

FOLDER = Path(__file__).parent / "formats"
FILES = sorted(FOLDER.glob("*.db"))


def test_there_is_a_file_of_each_format() -> None:
    assert [file.name for file in FILES] == [f"format{number}.db" for number in range(1, FORMAT + 1)]


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy: opening brings a file to the current format."""
    return Path(shutil.copy(request.param, tmp_path))


def test_it_is_what_its_name_says(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        assert f"format{connection.execute('pragma user_version').fetchone()[0]}" == file.stem


def test_it_opens_and_verifies(file: Path) -> None:
    with Journal.open(file) as journal:
        found = verify(journal)
    assert found["problems"] == []
    assert found["events"] > 10


def test_it_shows_the_log_that_it_always_showed(file: Path) -> None:
    pinned = json.loads((FOLDER / file.name).with_suffix(".json").read_text(encoding="utf-8"))
    with Journal.open(file) as journal:
        told = json.loads(json.dumps(list(log(journal, Filter()))))
    assert told == pinned


def test_it_is_still_what_is_written_today(tmp_path: Path) -> None:
    """Byte by byte the same chain: whoever breaks this has made a new format."""
    script = runpy.run_path(str(FOLDER / "make.py"))
    script["make"](tmp_path / "now.db")
    with (
        Journal.open(Path(shutil.copy(FILES[-1], tmp_path))) as then,
        Journal.open(tmp_path / "now.db") as now,
    ):
        assert now.head() == then.head()
