"""`evsync watch`: a process that keeps stores in step until it is ended."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[types.person]
key = ["email"]
[stores.crm]
url = "sqlite:crm.db"
capture = "triggers"
[stores.crm.types.person]
[stores.list]
url = "csv:list.csv"
[stores.list.types.person]
"""
SECONDS = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evsync.toml").write_text(CONFIG, encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "crm.db")) as connection, connection:
        connection.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT)")
        connection.execute("INSERT INTO person (email, name) VALUES ('ann', 'Ann')")
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "evsync", "watch", *options]
        running.append(
            subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(happened: Callable[[], Any]) -> None:
    """Wait for it; what another process does cannot be hurried."""
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def run(folder: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "crm.db", timeout=10)) as connection, connection:
        return connection.execute(statement).fetchall()


def listed(folder: Path) -> str:
    path = folder / "list.csv"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def ended(process: subprocess.Popen[str], by: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(by)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def test_changes_go_both_ways_until_it_is_told_to_end(folder: Path, started: Any) -> None:
    process = started("--interval", "600")
    until(lambda: "Ann" in listed(folder))
    run(folder, "UPDATE person SET name = 'One'")
    until(lambda: "One" in listed(folder))
    run(folder, "INSERT INTO person (email, name) VALUES ('ben', 'Two')")
    until(lambda: "Two" in listed(folder))
    (folder / "list.csv").write_text(listed(folder).replace("Two", "Three"), encoding="utf-8")
    until(lambda: run(folder, "SELECT name FROM person WHERE email = 'ben'") == [("Three",)])
    code, out, err = ended(process)
    assert code == 0
    assert "found in crm: 1 updated; written to list: 1 updated" in out.splitlines()
    assert "watching crm, list" in err
    told = subprocess.run(
        [sys.executable, "-m", "evsync", "verify"], cwd=folder, capture_output=True, check=False
    )
    assert told.returncode == 0


def test_without_events_it_looks_every_so_often(folder: Path, started: Any) -> None:
    (folder / "evsync.toml").write_text(CONFIG.replace('capture = "triggers"', ""), encoding="utf-8")
    started("--interval", "0.1")
    until(lambda: "Ann" in listed(folder))
    run(folder, "UPDATE person SET name = 'One'")
    until(lambda: "One" in listed(folder))


def test_runs_that_did_nothing_are_not_kept(folder: Path, started: Any) -> None:
    process = started("--interval", "0.05")
    until(lambda: "Ann" in listed(folder))
    seen = time.monotonic()
    until(lambda: time.monotonic() > seen + 0.5)
    assert process.poll() is None
    assert ended(process)[0] == 0
    with closing(sqlite3.connect(folder / "evsync.db")) as journal:
        assert journal.execute("SELECT count(*) FROM run").fetchone()[0] < 6


def test_a_second_one_is_refused(folder: Path, started: Any) -> None:
    started()
    until(lambda: "Ann" in listed(folder))
    second = started()
    _, err = second.communicate(timeout=SECONDS)
    assert second.returncode == 3
    assert err.startswith("error: another process watches")


def test_a_store_in_trouble_stops_no_other(folder: Path, started: Any) -> None:
    config = (
        CONFIG
        + '[stores.gone]\nurl = "sqlite:nowhere/gone.db"\nrole = "source"\n[stores.gone.types.person]\n'
    )
    (folder / "evsync.toml").write_text(config, encoding="utf-8")
    process = started("--interval", "600")
    until(lambda: "Ann" in listed(folder))
    run(folder, "UPDATE person SET name = 'One'")
    until(lambda: "One" in listed(folder))
    code, _, err = ended(process)
    assert code == 0
    assert "gone: " in err


def test_a_store_that_cannot_be_written_is_left_alone_for_longer_and_longer(
    folder: Path, started: Any
) -> None:
    config = (
        CONFIG + '[stores.gone]\nurl = "csv:nowhere/gone.csv"\nrole = "target"\n[stores.gone.types.person]\n'
    )
    (folder / "evsync.toml").write_text(config, encoding="utf-8")
    process = started("--interval", "600")
    for number in range(12):
        run(folder, f"UPDATE person SET name = 'One {number}'")
        until(lambda number=number: f"One {number}" in listed(folder))
    _, _, err = ended(process)
    assert 1 <= err.count("error: gone: ") <= 6


def test_a_guard_holds_one_store_and_the_others_go_on(folder: Path, started: Any) -> None:
    run(folder, "INSERT INTO person (email, name) VALUES ('ben', 'Ben'), ('cem', 'Cem')")
    process = started("--interval", "600")
    until(lambda: "Cem" in listed(folder))
    run(folder, "DELETE FROM person")
    (folder / "list.csv").write_text(listed(folder).replace("Ann", "Anna"), encoding="utf-8")
    path = folder / "evsync.db"
    with closing(sqlite3.connect(path)) as journal:
        until(lambda: journal.execute("SELECT count(*) FROM changes WHERE store = 'list'").fetchone()[0])
        assert journal.execute("SELECT count(*) FROM event WHERE op = 'delete'").fetchone() == (0,)
    _, _, err = ended(process)
    assert "3 of 3 known records are gone" in err


def test_as_json_a_document_a_line(folder: Path, started: Any) -> None:
    process = started("--json", "--interval", "600")
    until(lambda: "Ann" in listed(folder))
    code, out, _ = ended(process, signal.SIGINT)
    assert code == 130
    [document] = [json.loads(line) for line in out.splitlines()]
    assert document["ingest"]["stores"][0]["created"] == 1


def test_nonsense_is_refused(folder: Path, started: Any) -> None:
    process = started("--interval", "0")
    process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert os.path.exists(folder / "evsync.toml")
    assert not os.path.exists(folder / "evsync.db")
