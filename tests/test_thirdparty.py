"""A third party's accessor, in a package of its own, stands on the same footing as ours."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "thirdparty"

CONFIG = """
[types.contact]
key = ["email"]
[types.contact.fields]
email = "str"
name = "str"
credit = "decimal"

[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
table = "customers"

[stores.desk]
url = "ini:desk.ini"
[stores.desk.types.contact]
fields = { name = "Name" }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the package was installed: for PYTHONPATH."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("installed")
    shutil.copytree(PACKAGE, source)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation",
            "--disable-pip-version-check", "--root-user-action=ignore", "--target", target, source,
        ],
        check=True, timeout=300,
    )  # fmt: skip
    assert (target / "evsync_ini" / "__init__.py").is_file()
    return target


def run(installed: Path | None, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    environment.pop("PYTHONPATH", None)
    if installed is not None:
        environment["PYTHONPATH"] = str(installed)
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300,
        check=False,
    )  # fmt: skip


def evsync(installed: Path | None, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(installed, folder, "-c", "from evsync.cli import main; main()", *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "evsync.toml").write_text(CONFIG)
    (tmp_path / "desk.ini").write_text("[cem@example.com]\nName = Cem\n")
    with closing(sqlite3.connect(tmp_path / "crm.db")) as connection, connection:
        connection.execute("create table customers (email text primary key, name text, credit decimal text)")
        connection.execute(
            "insert into customers values ('ann@example.com', 'Ann', '1.50'), ('ben@example.com', null, 2)"
        )
    return tmp_path


@pytest.mark.slow
def test_a_database_and_a_store_of_a_third_party_are_kept_in_step(installed: Path, folder: Path) -> None:
    done = evsync(installed, folder, "sync")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "desk.ini").read_text()
    assert "[ann@example.com]\ncredit = 1.50\nName = Ann\n" in text
    assert "[ben@example.com]\ncredit = 2\n" in text
    with closing(sqlite3.connect(folder / "crm.db")) as connection, connection:
        assert connection.execute(
            "select name from customers where email = 'cem@example.com'"
        ).fetchone() == ("Cem",)
        connection.execute("delete from customers where email = 'ben@example.com'")
    (folder / "desk.ini").write_text(text.replace("Name = Ann", "Name = Anna"))
    done = evsync(installed, folder, "sync", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    crm, desk = json.loads(done.stdout)["ingest"]["stores"]
    assert (crm["deleted"], crm["updated"], desk["updated"], desk["deleted"]) == (1, 0, 1, 0)
    assert "ben" not in (folder / "desk.ini").read_text()
    done = evsync(installed, folder, "sync", "--json")
    assert json.loads(done.stdout)["ingest"]["first"] is None
    for store in ("crm", "desk"):
        assert evsync(installed, folder, "diff", store).returncode == 0
    assert evsync(installed, folder, "verify").returncode == 0
    assert evsync(installed, folder, "doctor").returncode == 0


@pytest.mark.slow
def test_its_errors_are_told_like_ours(installed: Path, folder: Path) -> None:
    assert evsync(installed, folder, "sync").returncode == 0
    (folder / "desk.ini").write_text("[a]\n[a]\n")
    done = evsync(installed, folder, "ingest")
    assert done.returncode == 1
    assert "error: desk: " in done.stderr
    assert "section 'a' already exists" in done.stderr
    (folder / "desk.ini").unlink()
    done = evsync(installed, folder, "ingest")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_the_package_its_scheme_is_unknown(folder: Path) -> None:
    done = evsync(None, folder, "sync")
    assert done.returncode == 2
    assert "'ini:desk.ini'" in done.stderr
    assert "installed are: csv, json, jsonl, mariadb, memory, " in done.stderr
    assert " ini," not in done.stderr


@pytest.mark.slow
def test_it_passes_the_conformance_suite(installed: Path, tmp_path: Path) -> None:
    shutil.copy(PACKAGE / "conformance.py", tmp_path / "test_conformance.py")
    done = run(installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_conformance.py")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
