"""Accessors are found where packages say that they have some."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsync import plugins
from evsync.errors import ConfigError


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    plugins.in_files.cache_clear()
    plugins.everywhere.cache_clear()
    yield
    plugins.in_files.cache_clear()
    plugins.everywhere.cache_clear()


def package(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}-1.0.dist-info").mkdir(parents=True)
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(text)


def test_the_files_say_what_the_library_says() -> None:
    assert plugins.in_files() == plugins.everywhere()
    assert {"sqlite", "csv", "json", "jsonl", "memory"} <= set(plugins.schemes())


def test_any_package_may_bring_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(
        tmp_path,
        "other",
        "[console_scripts]\nini = x:y\n\n[evsync.accessors]\n# ours\n ini = accessors.memory:MemoryAccessor [extra]\n"
        "\n[evsync.accessors.more]\nno = x:y\n",
    )
    package(tmp_path, "none", "[console_scripts]\nx = y:z\n")
    (tmp_path / "broken-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.in_files()["ini"] == "accessors.memory:MemoryAccessor"
    assert plugins.in_files() == plugins.everywhere()
    assert type(plugins.accessor("ini")).__name__ == "MemoryAccessor"
    assert not plugins.serves("no")


def test_the_first_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "mine", "[evsync.accessors]\ncsv = accessors.memory:MemoryAccessor\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(plugins.accessor("csv")).__name__ == "MemoryAccessor"


def test_what_no_file_tells_is_asked_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "in_files", dict)
    assert plugins.serves("csv")
    assert type(plugins.accessor("csv")).__name__ == "CsvAccessor"


def test_folders_that_are_none_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "archive.zip"), str(tmp_path / "nothing")])
    assert plugins.serves("csv")


def test_an_unknown_scheme_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no accessor for URLs that start with 'cvs:'") as caught:
        plugins.accessor("cvs")
    assert "csv" in caught.value.hint


def test_what_is_no_accessor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "wrong", "[evsync.accessors]\nwrong = pathlib:PurePath\ngone = no_such_module:X\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"is not an evsync\.Accessor"):
        plugins.accessor("wrong")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        plugins.accessor("gone")
