"""Records that cannot be written: how often they are tried, and what waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON, Row, did, entry, memory, put, rows, sql, synchronizer, together

from accessors.memory import MemoryAccessor
from evsync import Data, Store, Synchronizer
from evsync.errors import Refused, Retry, StoreError, Unreachable
from evsync.report import exit_code

ANN: Row = {"id": "ann", "name": "Ann", "n": 1}
BEN: Row = {"id": "ben", "name": "Ben", "n": 2}
FIELDS = {"id": "str", "name": "str", "n": "int"}


class Troubled(MemoryAccessor):
    """Raises what it is told to for a record."""

    def __init__(self) -> None:
        self.trouble: dict[Any, Exception] = {}
        self.tried: list[Any] = []

    def add(self, store: Store, data: Data) -> Data:
        self.tried.append(data.fields["id"])
        if data.fields["id"] in self.trouble:
            raise self.trouble[data.fields["id"]]
        return super().add(store, data)


Case = tuple[Synchronizer, Store, Store, Troubled]


@pytest.fixture
def case() -> Iterator[Case]:
    accessor = Troubled()
    one, other = memory("one", ANN, BEN), memory("other", accessor=accessor)
    with together(one, other, fields=FIELDS) as sync:
        yield sync, one, other, accessor


def failing(sync: Synchronizer) -> list[tuple[Any, ...]]:
    return (
        sync.journal()
        .connection.execute("select key, state, attempts, next_try / 1000000 from failure order by key")
        .fetchall()
    )


def test_a_passing_trouble_is_tried_again_when_its_time_has_come(case: Case) -> None:
    sync, _, other, accessor = case
    with freeze_time(NOON) as clock:
        now = 1_769_860_800
        accessor.trouble["ann"] = Retry("too busy")
        assert did(sync.sync()["replay"], "other") == {"created": 1, "failed": 1}
        assert failing(sync) == [("ann", "retry", 1, now + 30)]
        assert did(sync.replay(), "other") == {}
        clock.tick(31)
        assert did(sync.replay(), "other") == {"failed": 1}
        assert failing(sync) == [("ann", "retry", 2, now + 31 + 60)]
        clock.tick(61)
        accessor.trouble.clear()
        assert did(sync.replay(), "other") == {"created": 1}
        assert failing(sync) == []
        assert rows(other) == [ANN, BEN]


def test_what_the_store_asks_for_is_waited(case: Case) -> None:
    sync, _, _, accessor = case
    with freeze_time(NOON) as clock:
        accessor.trouble["ann"] = Retry("429 too many requests", retry_after=120)
        assert exit_code(sync.sync()) == 4
        assert failing(sync) == [("ann", "retry", 1, 1_769_860_800 + 120)]
        accessor.trouble.clear()
        clock.tick(119)
        assert did(sync.replay(), "other") == {}
        clock.tick(2)
        assert did(sync.replay(), "other") == {"created": 1}


def test_later_changes_wait_behind_a_passing_trouble(case: Case) -> None:
    sync, one, other, accessor = case
    with freeze_time(NOON) as clock:
        accessor.trouble["ann"] = Retry("too busy")
        sync.sync()
        accessor.trouble.clear()
        accessor.tried.clear()
        put(one, {**ANN, "n": 7}, {**BEN, "n": 8})
        assert did(sync.sync()["replay"], "other") == {"updated": 1}
        assert accessor.tried == []
        assert len(failing(sync)) == 1
        clock.tick(31)
        assert did(sync.replay(), "other") == {"created": 1}
        assert rows(other) == [{**ANN, "n": 7}, {**BEN, "n": 8}]


def test_a_refused_record_is_tried_at_once_when_it_has_changed(case: Case) -> None:
    sync, one, _, accessor = case
    with freeze_time(NOON):
        accessor.trouble["ann"] = Refused("not with this number")
        sync.sync()
        assert failing(sync) == [("ann", "refused", 1, 1_769_860_800 + 30)]
        assert did(sync.replay(), "other") == {}
        accessor.trouble.clear()
        put(one, {**ANN, "n": 7}, BEN)
        assert did(sync.sync()["replay"], "other") == {"created": 1}
        assert failing(sync) == []


def test_one_can_have_it_tried_now(case: Case) -> None:
    sync, _, _, accessor = case
    with freeze_time(NOON):
        accessor.trouble["ann"] = Retry("too busy", retry_after=3600)
        sync.sync()
        accessor.trouble.clear()
        assert did(sync.replay(), "other") == {}
        assert did(sync.replay(retry=True), "other") == {"created": 1}
        assert failing(sync) == []


@pytest.mark.parametrize("error", [Unreachable("it is down"), Retry("locked")])
def test_a_store_that_is_down_stops_only_itself(tmp_path: Path, error: StoreError) -> None:
    class Down(MemoryAccessor):
        def find(self, *arguments: Any, **named: Any) -> Any:
            raise error
            yield

    down, one, other = memory("down", accessor=Down()), memory("one", ANN), memory("other")
    with together(down, one, other, fields=FIELDS) as sync:
        report = sync.sync()
        assert exit_code(report) == 3
        assert entry(report["ingest"], "down")["error"]
        assert did(report["replay"], "other") == {"created": 1}


def test_a_locked_database_is_as_good_as_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3
    from contextlib import closing

    import accessors.sqlite_connection as connection

    monkeypatch.setattr(connection, "BUSY_SECONDS", 0.01)
    sql(tmp_path / "one.db", "create table thing (id text primary key, name text, n int)")
    config = '[types.thing]\nkey = ["id"]\n[stores.one]\nurl = "sqlite:one.db"\n[stores.one.types.thing]\n'
    with (
        synchronizer(tmp_path, config) as sync,
        closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as other,
    ):
        other.execute("begin exclusive")
        report = sync.ingest()
        assert exit_code(report) == 3
        assert "locked" in str(entry(report, "one")["error"])


def test_retrying_tries_the_stores_that_have_failures(case: Case) -> None:
    sync, _, other, accessor = case
    accessor.trouble["ann"] = Retry("too busy", retry_after=3600)
    sync.sync()
    assert exit_code(sync.retry()) == 4
    accessor.trouble.clear()
    assert exit_code(sync.retry("other")) == 0
    assert rows(other) == [ANN, BEN]
    assert sync.retry()["stores"] == []
