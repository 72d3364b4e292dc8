"""A first ingest by the quick way leaves the journal that the ordinary way leaves, hash by hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON, sql, synchronizer

from evsync.projections import ingest
from evsync.projections.creating import Creating
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "int"
name = "str"
[stores.lines]
url = "jsonl:things.jsonl"
[stores.lines.types.thing]
{options}
[stores.more]
url = "jsonl:more.jsonl"
[stores.more.types.thing]
"""

RECORDS: list[dict[str, Any]] = [{"id": number, "name": f"n{number}"} for number in range(1, 40)]


def opened(folder: Path, records: list[dict[str, Any]], options: str = "") -> Synchronizer:
    folder.mkdir()
    for name, held in (("things", records), ("more", [])):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in held))
    return synchronizer(folder, CONFIG.format(options=options))


def ingested(folder: Path, records: list[dict[str, Any]], options: str = "") -> tuple[Any, ...]:
    with opened(folder, records, options) as sync:
        report = sync.ingest(["lines"])
        assert sync.verify()["ok"]
        counts = report["stores"][0]
        return sync.journal().head(), counts["created"], remembered(folder)


def remembered(folder: Path) -> list[tuple[Any, ...]]:
    return sql(
        folder / "evsync.db",
        "SELECT binding, key, seq, fingerprint, id, in_line, content FROM replica ORDER BY key",
    )


@freeze_time(NOON)
@pytest.mark.parametrize(
    ("records", "options"),
    [
        (RECORDS, ""),
        (RECORDS[::-1], ""),
        ([*RECORDS[:20], {"id": 100}, *RECORDS[20:]], ""),
        ([{**one, "who": "ann", "at": "2026-01-01T00:00:00Z"} for one in RECORDS], 'changed_by = "who"\nchanged_at = "at"'),
        ([{**one, "at": "2026-01-01T00:00:00Z"} for one in RECORDS], 'changed_at = "at"'),
    ],
    ids=["in order", "backwards", "one lacks a field", "with actors", "with times"],
)  # fmt: skip
def test_the_journal_is_the_same_to_the_last_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]], options: str
) -> None:
    ordinary = ingested(tmp_path / "ordinary", records, options)
    monkeypatch.setattr(ingest, "BATCH", 5)
    quick = ingested(tmp_path / "quick", records, options)
    assert quick == ordinary
    assert ordinary[1] == len(records)


def test_the_order_of_the_rows_changes_nothing_and_numbers_are_in_theirs(tmp_path: Path) -> None:
    with opened(tmp_path / "a", RECORDS[::-1]) as sync:
        sync.ingest(["lines"])
        assert [event["key"] for event in sync.log()] == [str(one["id"]) for one in RECORDS]


@pytest.mark.parametrize("at", [0, 1, 4])
def test_somebody_else_who_writes_in_between_is_taken_into_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The other process enters a record of the same key: then this one's is no creation any more."""
    monkeypatch.setattr(ingest, "BATCH", 5)
    folder = tmp_path / "f"
    write, calls = Creating._write, []

    def interrupted(self: Creating, *arguments: Any) -> bool:
        calls.append(1)
        if len(calls) == at + 1:
            (folder / "more.jsonl").write_text('{"id": 30, "name": "other"}\n')
            with synchronizer(folder, CONFIG.format(options="")) as other:
                other.ingest(["more"])
        return write(self, *arguments)

    monkeypatch.setattr(Creating, "_write", interrupted)
    with opened(folder, RECORDS) as sync:
        report = sync.ingest(["lines"])
        assert sync.verify()["ok"]
        first, *later = [event for event in sync.log() if event["key"] == "30"]
        assert first["op"] == "create"
        if first["store"] == "more":  # it came first: ours is adopted, and decided about
            assert report["stores"][0]["conflicts"] == 1
            assert [event["op"] for event in later] == ["update"]
        assert len({event["key"] for event in sync.log()}) == len(RECORDS)
        assert sync.sync()["ok"]
        assert len((folder / "more.jsonl").read_text().splitlines()) == len(RECORDS)


def test_an_error_of_the_journal_is_told_and_leaves_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BATCH", 5)
    write, calls = Creating._write, []

    def failing(self: Creating, *arguments: Any) -> bool:
        calls.append(1)
        if len(calls) == 3:
            raise OSError("no space left")
        return write(self, *arguments)

    with opened(tmp_path / "f", RECORDS) as sync:
        monkeypatch.setattr(Creating, "_write", failing)
        with pytest.raises(OSError, match="no space left"):
            sync.ingest(["lines"])
        assert sync.journal().head().seq == 15
        monkeypatch.setattr(Creating, "_write", write)
        assert sync.ingest(["lines"])["stores"][0]["created"] == len(RECORDS) - 15
        assert sync.verify()["ok"]
