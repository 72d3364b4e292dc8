"""Running the command line as a process, on three small stores that hold the same contacts."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import forks
import pytest

CONFIG = """
[types.contact]
key = ["email"]
[types.contact.fields]
email = "str"
name = "str"
age = "int"
town = "str"

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
table = "customers"
fields = { name = "full_name" }
only = ["email", "name", "age"]

[stores.mailing]
url = "csv:mailing.csv"
[stores.mailing.types.contact]
only = ["email", "name"]

[stores.people]
url = "json:people.json"
[stores.people.types.contact]
only = ["email", "town"]
"""

ANN, BEN, CEM = "ann@example.com", "ben@example.com", "cem@example.com"


class Ended(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A folder with a configuration and its stores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", "from evsync.cli import main; main()", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        done = forks.run(arguments, self.folder, {**self.environment, **environment})
        assert "Traceback" not in done.err, done.err
        return Ended(done.code, done.out, done.err)

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "crm.db")) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nothing was ingested so far. All three stores know Ann; each knows other things of her."""
    made = Project(tmp_path)
    made.write("evsync.toml", CONFIG)
    made.sql("create table customers (email text primary key, full_name text, age integer)")
    made.sql("insert into customers values (?, 'Ann', 31), (?, 'Ben', 42)", ANN, BEN)
    made.write("mailing.csv", f"email,name\n{ANN},Ann\n{CEM},Cem\n")
    made.write("people.json", json.dumps([{"email": ANN, "town": "Ulm"}]))
    return made


@pytest.fixture
def synced(project: Project) -> Project:
    """All three stores hold all three contacts."""
    ended = project("sync")
    assert ended.code == 0, ended.out + ended.err
    return project
