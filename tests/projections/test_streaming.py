"""A large store that is met for the first time is journalled while it is read; what comes of it is the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON, sql, synchronizer

from accessors import sqlite_records
from accessors.sqlite import SqliteAccessor
from evsync.accessor import Row
from evsync.errors import GuardTripped
from evsync.projections import ingest, streaming
from evsync.projections.creating import Creating
from evsync.projections.spool import by_number, by_text
from evsync.projections.streaming import Stream, in_order
from evsync.store import Store
from evsync.synchronizer import Synchronizer

CONFIG = """
[types.thing]
key = ["code"]
[types.thing.fields]
code = "str"
size = "int"
[stores.big]
url = "sqlite:big.db"
[stores.big.types.thing]
[stores.list]
url = "jsonl:list.jsonl"
[stores.list.types.thing]
"""

COUNT = 60
SORTED = [f"k{number:02}" for number in range(COUNT)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows count as many."""
    monkeypatch.setattr(streaming, "AHEAD", 10)
    monkeypatch.setattr(sqlite_records, "BATCH", 5)
    monkeypatch.setattr(ingest, "BATCH", 7)


def table(folder: Path, codes: Iterable[str], *, size: Any = 1) -> None:
    """A table of these codes, in this order."""
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "big.db")) as db, db:
        db.execute("DROP TABLE IF EXISTS thing")
        db.execute("CREATE TABLE thing (code TEXT, size)")
        db.executemany("INSERT INTO thing VALUES (?, ?)", ((code, size) for code in codes))
    if not (folder / "list.jsonl").exists():
        (folder / "list.jsonl").write_text("")


def opened(folder: Path, codes: Iterable[str]) -> Synchronizer:
    table(folder, codes)
    return synchronizer(folder, CONFIG)


def keys(sync: Synchronizer) -> list[str]:
    return [event["key"] for event in sync.log()]


def replicas(folder: Path) -> list[tuple[Any, ...]]:
    return sql(
        folder / "evsync.db",
        "SELECT binding, key, seq, fingerprint, id, in_line, content FROM replica ORDER BY key",
    )


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Stream]:
    """Every stream there was."""
    made: list[Stream] = []
    init = Stream.__init__

    def noted(self: Stream, *arguments: Any) -> None:
        made.append(self)
        init(self, *arguments)

    monkeypatch.setattr(Stream, "__init__", noted)
    return made


@freeze_time(NOON)
def test_the_journal_is_that_of_a_store_that_was_read_through_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: list[Stream]
) -> None:
    def ingested(folder: Path) -> tuple[Any, ...]:
        with opened(folder, SORTED) as sync:
            report = sync.ingest(["big"])
            assert sync.verify()["ok"]
            return report, sync.journal().head(), replicas(folder)

    streamed = ingested(tmp_path / "streamed")
    assert len(streams) == 1
    monkeypatch.setattr(SqliteAccessor, "snapshot", False)
    assert ingested(tmp_path / "read-first") == streamed
    assert len(streams) == 1
    assert streamed[0]["stores"][0]["created"] == COUNT


def test_nothing_is_held_back_until_the_store_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, seen = SqliteAccessor.scan, []

    def watched(self: SqliteAccessor, store: Store, type: str) -> Iterator[Sequence[Row]]:
        for batch in scan(self, store, type):
            seen.append(sql(tmp_path / "f" / "evsync.db", "SELECT count(*) FROM event")[0][0])
            yield batch

    monkeypatch.setattr(SqliteAccessor, "scan", watched)
    with opened(tmp_path / "f", SORTED) as sync:
        sync.ingest(["big"])
    assert seen[2] == 0  # it was looked at whether they come in order
    assert 20 <= seen[-1] < COUNT


@pytest.mark.parametrize(
    "codes",
    [SORTED[:10], SORTED[::-1], [*SORTED[:8], "k05", *SORTED[9:]]],
    ids=["few", "backwards", "twice at the beginning"],
)
def test_a_store_that_is_small_or_not_in_order_is_read_through_first(
    tmp_path: Path, streams: list[Stream], codes: list[str]
) -> None:
    with opened(tmp_path / "f", codes) as sync:
        report = sync.ingest(["big"])
        assert streams == []
        if len(set(codes)) < len(codes):
            assert "two records have the key 'k05'" in report["stores"][0]["error"]
            assert keys(sync) == []
        else:
            assert keys(sync) == sorted(codes)


@pytest.mark.parametrize("at", [15, 30, 59])
def test_what_comes_out_of_order_later_is_put_in_order(
    tmp_path: Path, streams: list[Stream], at: int
) -> None:
    codes = [*SORTED[:at], "a2", "a1", *SORTED[at:]]
    with opened(tmp_path / "f", codes) as sync:
        report = sync.ingest(["big"])
        assert not streams[0].in_order
        assert report["stores"][0]["created"] == COUNT + 2
        told = keys(sync)
        assert sorted(told) == sorted(codes)
        behind = told.index("a1")
        assert told[:behind] == SORTED[:behind]
        assert told[behind:] == sorted(told[behind:])
        assert sync.verify()["ok"]
        assert sync.ingest(scan=True)["first"] is None
        assert sync.sync()["ok"]
        assert len((tmp_path / "f" / "list.jsonl").read_text().splitlines()) == COUNT + 2


@pytest.mark.parametrize(
    "codes",
    [
        [*SORTED, "k02"],
        [*SORTED[:40], *SORTED[39:]],
        [*SORTED[:40], "k20", *SORTED[40:]],
        [*SORTED, "a1", "a1"],
        [*SORTED[:15], "k14", *SORTED[15:]],
    ],
    ids=["the first again at the end", "side by side", "later", "both out of order", "early"],
)
def test_two_records_of_one_key_end_it_and_are_named(
    tmp_path: Path, streams: list[Stream], codes: list[str]
) -> None:
    double = next(code for code in codes if codes.count(code) > 1)
    folder = tmp_path / "f"
    with opened(folder, codes) as sync:
        (folder / "list.jsonl").write_text('{"code": "x", "size": 1}\n')
        report = sync.ingest()
        assert len(streams) == 1
        big, other = report["stores"]
        rows = [str(row) for row, code in enumerate(codes, 1) if code == double]
        assert f"two records have the key {double!r}: id {rows[0]} and id {rows[1]}" in big["error"]
        assert report.exit_code == 1
        assert big["created"] == len([key for key in keys(sync) if key != "x"])
        assert other["created"] == 1  # and that stops nobody else
        assert sync.verify()["ok"]
        assert "two records" in sync.ingest(["big"])["stores"][0]["error"]
        with closing(sqlite3.connect(folder / "big.db")) as db, db:
            db.execute(
                "DELETE FROM thing WHERE rowid = (SELECT max(rowid) FROM thing WHERE code = ?)", (double,)
            )
        assert sync.ingest(["big"])["ok"]
        assert sorted(keys(sync)) == sorted({*codes, "x"})


def test_a_read_that_breaks_off_leaves_what_was_read_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = SqliteAccessor.scan

    def broken(self: SqliteAccessor, store: Store, type: str) -> Iterator[Sequence[Row]]:
        for number, batch in enumerate(scan(self, store, type)):
            if number == 9:
                raise OSError("the disk is gone")
            yield batch

    folder = tmp_path / "f"
    with opened(folder, SORTED) as sync:
        sql(folder / "big.db", "UPDATE thing SET size = 'large' WHERE code = 'k20'")
        monkeypatch.setattr(SqliteAccessor, "scan", broken)
        report = sync.ingest()
        [big, other] = report["stores"]
        assert "the disk is gone" in big["error"]
        assert "nothing was taken for deleted" in report.hints["big"]
        assert 20 < big["created"] <= 45
        readable = [code for code in SORTED if code != "k20"]
        assert keys(sync) == readable[: big["created"]]
        assert big["quarantined"] == 0  # it is not kept before all was read
        assert other["error"] is None
        assert sync.status()["stores"][0]["last_ingest"] is None
        monkeypatch.setattr(SqliteAccessor, "scan", scan)
        again = sync.ingest()["stores"][0]
        assert (again["created"], again["unchanged"]) == (COUNT - 1 - big["created"], big["created"])
        assert again["quarantined"] == len(list(sync.quarantine())) == 1
        assert keys(sync) == readable
        assert sync.verify()["ok"]


def test_rows_that_cannot_be_read_are_quarantined(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    with opened(folder, SORTED) as sync:
        sql(folder / "big.db", "UPDATE thing SET size = 'large' WHERE code IN ('k03', 'k50')")
        report = sync.ingest(["big"])
        assert (report["stores"][0]["created"], report["stores"][0]["quarantined"]) == (COUNT - 2, 2)
        assert sorted(row["row"]["code"] for row in sync.quarantine()) == ["k03", "k50"]
        assert report.exit_code == 4


def test_records_that_lack_a_field_or_are_known_elsewhere_go_the_ordinary_way(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    config = CONFIG.replace(
        "[stores.big]", "[stores.a]\nurl = 'jsonl:list.jsonl'\n[stores.a.types.thing]\n[stores.big]"
    )
    config = config[: config.index("[stores.list]")]
    table(folder, SORTED)
    (folder / "list.jsonl").write_text('{"code": "k10", "size": 1}\n{"code": "k40", "size": 9}\n')
    with synchronizer(folder, config) as sync:
        big = sync.ingest()["stores"][1]
        assert (big["created"], big["adopted"], big["conflicts"]) == (COUNT - 2, 2, 1)
        assert sync.verify()["ok"]


def test_a_dry_run_leaves_no_trace(tmp_path: Path, streams: list[Stream]) -> None:
    folder = tmp_path / "f"
    with opened(folder, SORTED) as sync:
        assert sync.ingest(["big"], dry_run=True)["stores"][0]["created"] == COUNT
        assert len(streams) == 1
        assert not (folder / "evsync.db").exists()
        assert sync.ingest(["big"])["stores"][0]["created"] == COUNT


def test_where_a_guard_stops_another_store_nothing_is_journalled(
    tmp_path: Path, streams: list[Stream]
) -> None:
    folder = tmp_path / "f"
    table(folder, SORTED)
    (folder / "list.jsonl").write_text('{"code": "x", "size": 1}\n')
    with synchronizer(folder, CONFIG) as sync:
        sync.ingest(["list"])
        (folder / "list.jsonl").write_text("")
        with pytest.raises(GuardTripped):
            sync.ingest()
        assert len(streams) == 1
        assert keys(sync) == ["x"]
        sql(folder / "big.db", "DELETE FROM thing")  # nothing holds the table any more


def test_somebody_who_writes_in_between_is_not_taken_for_a_double(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process ingests the very store: then everything is known already."""
    folder = tmp_path / "f"
    write, calls = Creating._write, []

    def interrupted(self: Creating, *arguments: Any) -> bool:
        calls.append(1)
        if len(calls) == 2:
            with synchronizer(folder, CONFIG) as other:
                other.ingest(["big"])
        return write(self, *arguments)

    monkeypatch.setattr(Creating, "_write", interrupted)
    with opened(folder, SORTED) as sync:
        report = sync.ingest(["big"])["stores"][0]
        assert report["error"] is None
        assert sorted(keys(sync)) == SORTED
        assert sync.verify()["ok"]


def test_an_interruption_keeps_whole_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = SqliteAccessor.scan

    def interrupted(self: SqliteAccessor, store: Store, type: str) -> Iterator[Sequence[Row]]:
        for number, batch in enumerate(scan(self, store, type)):
            if number == 9:
                raise KeyboardInterrupt
            yield batch

    with opened(tmp_path / "f", SORTED) as sync:
        monkeypatch.setattr(SqliteAccessor, "scan", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync.ingest(["big"])
        count = len(keys(sync))
        assert 0 < count < COUNT
        assert keys(sync) == SORTED[:count]
        assert sync.verify()["ok"]


@pytest.mark.parametrize(
    ("places", "last", "expected"),
    [
        ([], None, True),
        ([], 5, True),
        ([1], None, True),
        ([1, 2, 9], 0, True),
        ([1, 2, 9], 1, False),
        ([1, 2, 2], None, False),
        ([2, 1], None, False),
    ],
)
def test_in_order(places: list[int], last: int | None, expected: bool) -> None:
    assert in_order(places, last) is expected


@pytest.mark.parametrize(("order", "sorts"), [(by_number, True), (by_text, False)])
def test_numbers_are_in_order_as_numbers(order: Any, sorts: bool) -> None:
    stream = Stream(
        iter([[(8,), (9,)], [(10,), (11,)]]), lambda rows: [(str(row[0]),) for row in rows], order
    )
    found = list(stream.batches(2))
    assert stream.in_order is sorts
    assert found == [[("8",), ("9",)], [("10",), ("11",)]]


def test_two_records_of_one_key_in_a_store_that_is_gone_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cannot be looked for any more, to be named."""
    scan, calls = SqliteAccessor.scan, []

    def once(self: SqliteAccessor, store: Store, type: str) -> Iterator[Sequence[Row]]:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        yield from scan(self, store, type)

    with opened(tmp_path / "f", [*SORTED, "k02"]) as sync:
        monkeypatch.setattr(SqliteAccessor, "scan", once)
        report = sync.ingest()
        assert "the disk is gone" in report["stores"][0]["error"]
        assert report["stores"][1]["error"] is None
