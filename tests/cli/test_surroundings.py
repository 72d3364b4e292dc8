"""What is around the command: the terminal's encoding, the working directory, rights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ANN, Project

EVSYNC = str(Path(sys.executable).parent / "evsync")


def test_json_stays_json_where_the_terminal_knows_ascii_only(project: Project) -> None:
    project("ingest")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    mailing = project.folder / "mailing.csv"
    mailing.write_text(mailing.read_text().replace("Ann", "Änn💥"), encoding="utf-8")
    project("ingest")
    ended = subprocess.run(
        [EVSYNC, "log", "contact", ANN, "--limit", "1", "--json"],
        cwd=project.folder,
        env={**os.environ, **plain},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert ended.stdout.isascii()
    assert "Änn💥" in json.loads(ended.stdout)[0]["after"]["name"]


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os, shutil; os.chdir({str(gone)!r}); shutil.rmtree({str(gone)!r}); os.execv({EVSYNC!r}, ['evsync', 'status'])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "the working directory is gone" in ended.stderr
    shutil.rmtree(gone, ignore_errors=True)


def test_a_guard_in_sync_ends_in_the_document_of_a_sync(project: Project) -> None:
    project("sync")
    (project.folder / "people.json").write_text("[]")
    ended = project("sync", "--json")
    assert ended.code == 6
    assert [ended.json[name] for name in ("command", "ok")] == ["sync", False]
    assert [ended.json[run]["command"] for run in ("ingest", "replay")] == ["ingest", "replay"]
    assert "now shows none" in ended.json["ingest"]["stores"][2]["error"]


def test_two_targets_for_init_are_refused_rather_than_one_forgotten(project: Project) -> None:
    ended = project("init", "other", "--from", "sqlite:crm.db", "--to", "csv:a.csv", "--to", "csv:b.csv")
    assert ended.code == 2
    assert "--to can be given once" in ended.err
    assert not (project.folder / "other").exists()


def test_a_dry_run_with_nothing_to_do_says_so(project: Project) -> None:
    project("sync")
    assert "there would be nothing to write" in project("replay", "--all", "--dry-run").out
