"""The example: three stores that overlap and agree, and a configuration that fits them."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from evsync.config import load_config
from evsync.errors import UsageError
from evsync.example import aircraft, lay_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lay_out(tmp_path / "fleet")
    return tmp_path / "fleet"


def registry(folder: Path) -> dict[str, dict[str, object]]:
    with closing(sqlite3.connect(folder / "registry.db")) as connection:
        connection.row_factory = sqlite3.Row
        return {row["tail_number"]: dict(row) for row in connection.execute("select * from aircraft")}


def maintenance(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "maintenance.csv").open(newline="") as file:
        return {row["tail"]: row for row in csv.DictReader(file)}


def seating(folder: Path) -> dict[str, dict[str, object]]:
    return {one["tailnum"]: one for one in json.loads((folder / "seating.json").read_text())}


def test_the_stores_overlap_without_being_alike(folder: Path) -> None:
    one, two, three = registry(folder), maintenance(folder), seating(folder)
    assert len(one) == len(aircraft()) == 333
    assert set(two) < set(one)
    assert set(three) < set(one)
    assert set(two) - set(three)
    assert set(three) - set(two)


def test_where_they_overlap_they_agree(folder: Path) -> None:
    one, two, three = registry(folder), maintenance(folder), seating(folder)
    for tail, row in two.items():
        assert (row["maker"], row["model"], row["engine type"], int(row["engine count"])) == (
            one[tail]["manufacturer"], one[tail]["model"], one[tail]["engine_type"], one[tail]["engines"]
        )  # fmt: skip
    for tail, seats in three.items():
        assert seats["model"] == one[tail]["model"]


def test_what_is_not_known_is_null(folder: Path) -> None:
    built = [row["built"] for row in registry(folder).values()]
    assert None in built
    assert all(year is None or isinstance(year, int) for year in built)


def test_the_configuration_fits(folder: Path) -> None:
    config = load_config(folder / "evsync.toml")
    assert list(config.stores) == ["registry", "maintenance", "seating"]
    declared = config.types["aircraft"].fields or {}
    columns = {
        "registry": set(next(iter(registry(folder).values()))),
        "maintenance": set(next(iter(maintenance(folder).values()))),
        "seating": set(next(iter(seating(folder).values()))),
    }
    for name, store in config.stores.items():
        place = store.places["aircraft"]
        held = {place.fields.get(field, field) for field in place.only or declared}
        if place.only is not None:
            assert held == columns[name]
        else:
            assert columns[name] <= held


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    lay_out(tmp_path / "a")
    lay_out(tmp_path / "b")
    for name in ("maintenance.csv", "seating.json", "evsync.toml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["registry.db", "seating.json", "evsync.toml", "evsync.db"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="nothing was written"):
        lay_out(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evsync.example.demo", str(folder)],
        capture_output=True, text=True, encoding="utf-8", timeout=300, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_demo_runs_twice(tmp_path: Path) -> None:
    for _ in range(2):
        done = demo(tmp_path / "demo")
        assert done.returncode == 0, done.stderr
        assert "$ evsync sync" in done.stdout
        assert "Turbo-prop" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def test_the_demo_removes_no_folder_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    done = demo(tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "mine.txt").read_text() == "precious"
