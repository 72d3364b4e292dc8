"""The views `log` and `changes`: the journal in plain SQL, for whoever has no evsync at hand."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import NOON, append

from evsync.journal.journal import Journal
from evsync.journal.query import Filter, log

FLOATS = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 123456789.123456789, 2.0]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A journal that was closed again."""
    with freeze_time(NOON) as frozen, Journal.open(tmp_path / "evsync.db") as journal:
        with journal.write():
            journal.begin_run("ingest", "1")
        append(
            journal, "create", "ann",
            {"name": "Ann \"A\" ☃", "score": 0.1, "credit": "1.50", "nothing": None, "on": True, "tags": {"b": [1, 2.0], "a": None}},
            types={"credit": "decimal"}, actor="eve", occurred_at=-500_000,
        )  # fmt: skip
        frozen.tick(0.25)
        append(
            journal, "update", "ann", {"name": "Ann", "score": "NaN", "credit": "1.5", "on": False},
            before={"name": "Ann \"A\" ☃", "score": 0.1, "credit": "1.50", "nothing": None, "on": True, "tags": {"b": [1, 2.0], "a": None}},
            types={"score": "float", "credit": "decimal"}, changed=["name", "score", "credit", "nothing", "on", "tags"],
            base=1, store="mail", occurred_at=1_500_000, conflict='{"fields":{},"policy":"newest","open":false}',
        )  # fmt: skip
        append(journal, "read", "ann", base=2, actor="tom")
        append(journal, "delete", "ann", None, before={"name": "Ann"}, base=2)
    yield tmp_path / "evsync.db"


def rows(path: Path, statement: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement)]


def test_log_has_a_row_for_each_event(path: Path) -> None:
    create, update, read, delete = rows(path, "select * from log order by seq")
    assert list(create) == [
        "seq", "op", "store", "type", "key", "base", "before", "after", "changed", "observed_at", "occurred_at",
        "actor", "run", "conflict",
    ]  # fmt: skip
    assert [row["op"] for row in (create, update, read, delete)] == ["create", "update", "read", "delete"]
    assert (create["store"], create["type"], create["key"], create["actor"], create["run"]) == (
        "crm",
        "contact",
        "ann",
        "eve",
        1,
    )
    assert (create["before"], delete["after"], read["before"], read["after"]) == (None, None, None, None)
    assert json.loads(create["changed"]) == ["credit", "name", "nothing", "on", "score", "tags"]
    assert json.loads(read["changed"]) == []
    assert json.loads(update["conflict"])["policy"] == "newest"
    assert create["conflict"] is None


def test_values_stand_in_log_just_as_they_were_journalled(path: Path) -> None:
    create, update, *_ = rows(path, "select * from log order by seq")
    assert json.loads(create["after"]) == {
        "name": 'Ann "A" ☃', "score": 0.1, "credit": "1.50", "nothing": None, "on": True, "tags": {"b": [1, 2.0], "a": None},
    }  # fmt: skip
    assert json.loads(create["after"]) == json.loads(update["before"])
    assert json.loads(update["after"]) == {"name": "Ann", "score": "NaN", "credit": "1.5", "on": False}


def test_null_is_there_and_absent_is_not(path: Path) -> None:
    create, update, *_ = rows(path, "select json_type(after, '$.nothing') as t from log order by seq")
    assert (create["t"], update["t"]) == ("null", None)


def test_times_are_utc_with_microseconds_before_1970_too(path: Path) -> None:
    create, update, *_ = rows(path, "select * from log order by seq")
    assert create["observed_at"] == "2026-01-31T12:00:00.000000Z"
    assert update["observed_at"] == "2026-01-31T12:00:00.250000Z"
    assert create["occurred_at"] == "1969-12-31T23:59:59.500000Z"
    assert update["occurred_at"] == "1970-01-01T00:00:01.500000Z"
    assert rows(path, "select occurred_at from log where seq = 4") == [{"occurred_at": None}]


def test_changes_has_a_row_for_each_field_changed(path: Path) -> None:
    found = rows(
        path,
        "select seq, op, store, type, key, field, old, new, actor from changes where seq > 1 order by seq, field",
    )
    assert [(row["seq"], row["field"], row["old"], row["new"]) for row in found] == [
        (2, "credit", "1.50", "1.5"),
        (2, "name", 'Ann "A" ☃', "Ann"),
        (2, "nothing", None, None),
        (2, "on", 1, 0),
        (2, "score", 0.1, "NaN"),
        (2, "tags", '{"a":null,"b":[1,2.0]}', None),
        (4, "name", "Ann", None),
    ]
    assert {(row["store"], row["type"], row["key"], row["actor"]) for row in found} == {
        ("mail", "contact", "ann", None),
        ("crm", "contact", "ann", None),
    }
    assert rows(path, "select count(*) as n from changes where seq = 1") == [{"n": 6}]
    assert rows(path, "select * from changes where seq = 3") == []


def test_sqlite_utils_reads_them(path: Path) -> None:
    db = sqlite_utils.Database(path)
    try:
        assert {"log", "changes"} <= set(db.view_names())
        assert [row["key"] for row in db["log"].rows] == ["ann"] * 4
        assert list(db.query("select new from changes where field = 'name' and seq = 2")) == [{"new": "Ann"}]
    finally:
        db.close()


def bits(number: float) -> bytes:
    return struct.pack(">d", number)


@pytest.mark.parametrize("number", FLOATS, ids=str)
def test_a_float_is_exact_in_both(tmp_path: Path, number: float) -> None:
    with Journal.open(tmp_path / "evsync.db") as journal:
        append(journal, "create", "a", {"x": number})
    (text,) = rows(tmp_path / "evsync.db", "select after from log")
    assert bits(json.loads(text["after"])["x"]) == bits(number)
    (changed,) = rows(tmp_path / "evsync.db", "select new from changes")
    assert bits(changed["new"]) == bits(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=300)
def test_any_float_is_exact_in_log(number: float) -> None:
    with Journal.open(None) as journal:
        append(journal, "create", "a", {"x": number})
        text = journal.connection.execute("select after from log").fetchone()[0]
    assert bits(json.loads(text)["x"]) == bits(number)


def test_whole_numbers_beyond_eight_bytes_are_exact_in_log(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "evsync.db") as journal:
        append(journal, "create", "a", {"x": 2**70})
    (row,) = rows(tmp_path / "evsync.db", "select after from log")
    assert row["after"] == f'{{"x":{2**70}}}'


def test_the_view_says_what_the_query_says(path: Path) -> None:
    with Journal.open(path) as journal:
        told = list(log(journal, Filter()))
    for event, row in zip(told, rows(path, "select * from log order by seq"), strict=True):
        for name in ("before", "after", "conflict"):
            assert (row[name] and json.loads(row[name])) == event[name]
        assert json.loads(row["changed"]) == event["changed"]
        for name in ("seq", "op", "store", "type", "key", "base", "actor", "run"):
            assert row[name] == event[name]
