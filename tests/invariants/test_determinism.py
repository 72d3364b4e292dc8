"""Invariant 11: the same inputs and the same clock make the same journal, byte for byte; a journal makes the same stores."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

FIELDS = {"email": "str", "name": "str", "credit": "decimal", "since": "date", "tags": "json"}
PINNED = "bfef96dcf6800827c496d9054cb3e272a2e1575f43a9e101bbc5973d56cc9e06"

# In a process of its own, as the order of sets and dicts of texts hangs on the hash seed.
RUN = """
import sys
from pathlib import Path
from freezegun import freeze_time
from evsync.config import load_config
from evsync.synchronizer import Synchronizer
with freeze_time("2026-01-31T12:00:00Z"):
    with Synchronizer.from_config(load_config(Path("evsync.toml"))) as sync:
        sync.sync()
        Path("crm.py").exists() and exec(Path("crm.py").read_text())
        sync.sync()
        print(sync.verify()["hash"])
"""

EDIT = """
import sqlite3
with sqlite3.connect("crm.db") as db:
    db.execute("UPDATE customer SET name = 'Zoe', credit = '7.50' WHERE email = 'p03@x.org'")
    db.execute("DELETE FROM customer WHERE email = 'p07@x.org'")
db.close()
text = Path("list.csv").read_text()
Path("list.csv").write_text(text.replace("N5,", "Five,"))
"""


def people() -> list[dict[str, Any]]:
    return [
        {"email": f"p{n:02}@x.org", "name": f"N{n}", "credit": f"{n}.50", "since": f"2020-01-{n + 1:02}",
         "tags": {"b": n, "a": [n, None]}}
        for n in range(12)
    ]  # fmt: skip


def lay_out(folder: Path, shuffle: int) -> None:
    """The same content every time; rows, columns, members, fields and stores' keys in another order for another number."""
    order = random.Random(shuffle)
    folder.mkdir()

    def mixed(things: Any) -> list[Any]:
        things = list(things)
        if shuffle:
            order.shuffle(things)
        return things

    rows = people()
    with closing(sqlite3.connect(folder / "crm.db")) as db, db:
        db.execute("CREATE TABLE customer (email TEXT PRIMARY KEY, name TEXT, credit TEXT, since TEXT)")
        for row in mixed(rows):
            db.execute(
                "INSERT INTO customer VALUES (?, ?, ?, ?)",
                [row[name] for name in ("email", "name", "credit", "since")],
            )
    columns = mixed(["email", "since"])
    lines = [",".join(row[name] for name in ["name", *columns]) for row in mixed(rows[2:])]
    (folder / "list.csv").write_text("\n".join([",".join(["name", *columns]), *lines]) + "\n")
    objects = [{name: row[name] for name in mixed(["email", "tags", "name"])} for row in mixed(rows[:9])]
    (folder / "tags.json").write_text(json.dumps(objects))
    fields = "\n".join(f'{name} = "{FIELDS[name]}"' for name in mixed(FIELDS))
    (folder / "evsync.toml").write_text(
        f'[types.person]\nkey = ["email"]\n[types.person.fields]\n{fields}\n'
        '[stores.crm]\nurl = "sqlite:crm.db"\n[stores.crm.types.person]\ntable = "customer"\n'
        '[stores.list]\nurl = "csv:list.csv"\n[stores.list.types.person]\n'
        '[stores.tags]\nurl = "json:tags.json"\n[stores.tags.types.person]\n'
    )
    (folder / "crm.py").write_text(EDIT)


def head(folder: Path, seed: int) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_order_of_rows_columns_members_and_fields_changes_nothing(tmp_path: Path) -> None:
    heads = set()
    for shuffle in range(4):
        lay_out(tmp_path / str(shuffle), shuffle)
        heads.add(head(tmp_path / str(shuffle), seed=shuffle))
    assert len(heads) == 1


def test_the_journal_of_this_input_is_this_one(tmp_path: Path) -> None:
    """On every machine and in every later version: another hash means another format."""
    lay_out(tmp_path / "one", 0)
    assert head(tmp_path / "one", seed=0) == PINNED


@pytest.mark.parametrize("url", ["sqlite:new.db", "csv:new.csv", "json:new.json", "jsonl:new.jsonl"])
def test_a_journal_replayed_twice_into_empty_stores_makes_the_same_stores(tmp_path: Path, url: str) -> None:
    lay_out(tmp_path / "one", 1)
    head(tmp_path / "one", seed=1)
    config = (tmp_path / "one" / "evsync.toml").read_text()
    made = []
    for copy in ("a", "b"):
        folder = tmp_path / copy
        folder.mkdir()
        (folder / "evsync.db").write_bytes((tmp_path / "one" / "evsync.db").read_bytes())
        (folder / "evsync.toml").write_text(
            config + f'[stores.new]\nurl = "{url}"\nrole = "target"\n[stores.new.types.person]\n'
        )
        evsync = str(Path(sys.executable).parent / "evsync")
        subprocess.run(
            [evsync, "replay", "--store", "new"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        path = folder / url.partition(":")[2]
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as db:
                made.append("\n".join(db.iterdump()))
        else:
            made.append(path.read_text())
    assert made[0] == made[1]
    assert "p03@x.org" in made[0]
    assert "p07@x.org" not in made[0]
