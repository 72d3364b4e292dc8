"""The journal's file: opened, refused, appended to, and never rewritten."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from projects import NOON_MICROS, append, new_event, sql

from evsync.errors import JournalBusy, JournalError
from evsync.journal import chain, schema
from evsync.journal import journal as module
from evsync.journal.journal import Journal
from evsync.journal.verify import verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evsync.db"


@pytest.fixture
def journal(path: Path, noon: Any) -> Iterator[Journal]:
    with Journal.open(path) as journal:
        yield journal


def texts(path: Path) -> bytes:
    return path.read_bytes()


# -- opening --------------------------------------------------------------------------------------------


def test_a_journal_is_created_where_there_is_none(path: Path) -> None:
    with Journal.open(path) as journal:
        assert journal.head() == (0, chain.GENESIS, 0)
        assert not journal.temporary
    assert sql(path, "pragma application_id") == [(schema.APPLICATION_ID,)]
    assert sql(path, "pragma user_version") == [(schema.FORMAT,)]
    assert sql(path, "pragma journal_mode") == [("wal",)]
    assert verify_file(path) == []


def verify_file(path: Path) -> list[Any]:
    with Journal.open(path) as journal:
        problems: list[Any] = verify(journal)["problems"]
        return problems


def test_it_is_found_again_as_it_was_left(path: Path) -> None:
    with Journal.open(path) as journal:
        append(journal, "create", "ann", {"n": 1})
        head = journal.head()
    with Journal.open(path) as journal:
        assert journal.head() == head


def test_a_missing_file_that_is_not_to_be_created_is_an_empty_journal(path: Path) -> None:
    with Journal.open(path, create=False) as journal:
        assert journal.head().seq == 0
        assert journal.temporary
    assert not path.exists()


def test_without_a_path_it_lies_in_memory() -> None:
    with Journal.open(None) as journal:
        append(journal, "create", "ann", {"n": 1})
        assert not journal.temporary


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    with Journal.open(path) as journal:
        append(journal, "create", "ann", {"n": 1})
    assert verify_file(path) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_format_is_refused_by_name_and_left_alone(path: Path, create: bool) -> None:
    Journal.open(path).close()
    sql(path, "pragma user_version = 7")
    sql(path, "pragma journal_mode = delete")
    before = texts(path)
    with pytest.raises(
        JournalError, match="is a journal of format 7; this evsync knows formats up to"
    ) as caught:
        Journal.open(path, create=create)
    assert str(path) in caught.value.message
    assert caught.value.hint == "upgrade evsync"
    assert texts(path) == before


@pytest.mark.parametrize("create", [True, False])
def test_somebody_elses_database_is_refused_and_left_alone(path: Path, create: bool) -> None:
    sql(path, "create table customers (id integer primary key)")
    before = texts(path)
    with pytest.raises(JournalError, match="is an SQLite database, but no evsync journal") as caught:
        Journal.open(path, create=create)
    assert "`journal` in evsync.toml" in caught.value.hint
    assert texts(path) == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content", [b"email,name\nann,Ann\n" * 100, b"x", b"SQLite format 3\0" + b"junk" * 1000]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="is no evsync journal"):
        Journal.open(path)
    assert texts(path) == content


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is a folder, not a journal"):
        Journal.open(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened") as caught:
        Journal.open(tmp_path / "nowhere" / "evsync.db")
    assert "folder exists" in caught.value.hint
    assert not (tmp_path / "nowhere").exists()


# -- what cannot be written -----------------------------------------------------------------------------


def test_a_journal_that_is_read_only_says_so_and_is_not_half_written(journal: Journal) -> None:
    append(journal, "create", "ann", {"n": 1})
    head = journal.head()
    journal.connection.execute("pragma query_only = on")
    with pytest.raises(JournalError, match="it is read-only"):
        append(journal, "update", "ann", {"n": 2}, base=1)
    assert journal.head() == head
    assert verify(journal)["problems"] == []


def test_a_full_disk_says_so_and_nothing_is_half_written(journal: Journal) -> None:
    append(journal, "create", "ann", {"n": 1})
    head = journal.head()
    pages = journal.connection.execute("pragma page_count").fetchone()[0]
    journal.connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(JournalError, match="no room left on the disk") as caught, journal.write():
        journal.append(
            [new_event(journal, "create", f"k{n}", {"text": "x" * 9000, f"f{n}": n}) for n in range(9)], 1
        )
    assert "nothing was lost" in caught.value.hint
    assert journal.head() == head
    journal.connection.execute("pragma max_page_count = 1000000")
    append(journal, "create", "ben", {f"f{5}": 5})
    assert journal.head().seq == 2
    assert verify(journal)["problems"] == []


def test_an_exception_inside_a_transaction_undoes_it_and_what_was_interned_in_it(journal: Journal) -> None:
    with pytest.raises(KeyError), journal.write():
        journal.append([new_event(journal, "create", "ann", {"n": 1})], 1)
        raise KeyError
    assert journal.head().seq == 0
    append(journal, "create", "ann", {"n": 1})  # with the numbers that the names have now
    assert verify(journal)["problems"] == []


# -- appending ------------------------------------------------------------------------------------------


def test_positions_are_contiguous_and_each_append_answers_with_its_first(journal: Journal) -> None:
    with journal.write():
        assert journal.append([new_event(journal, "create", key, {"n": 1}) for key in "abc"], 1) == 1
        assert journal.append([new_event(journal, "create", "d", {"n": 1})], 1) == 4
    assert append(journal, "create", "e", {"n": 1}) == 5
    assert [row[0] for row in journal.connection.execute("select seq from event")] == [1, 2, 3, 4, 5]
    assert journal.head().seq == 5


def test_a_batch_rolled_back_leaves_no_gap(journal: Journal) -> None:
    append(journal, "create", "a", {"n": 1})
    with pytest.raises(RuntimeError), journal.write():
        journal.append([new_event(journal, "create", "b", {"n": 1})], 1)
        raise RuntimeError
    assert append(journal, "create", "c", {"n": 1}) == 2


def test_events_are_stamped_by_the_clock(journal: Journal, noon: Any) -> None:
    append(journal, "create", "a", {"n": 1})
    assert journal.head().observed_at == NOON_MICROS
    noon.tick(1.5)
    append(journal, "create", "b", {"n": 1})
    assert journal.head().observed_at == NOON_MICROS + 1_500_000


def test_a_clock_that_goes_back_is_held(journal: Journal, noon: Any) -> None:
    append(journal, "create", "a", {"n": 1})
    noon.move_to("2025-01-01")
    append(journal, "create", "b", {"n": 1})
    assert [row[0] for row in journal.connection.execute("select observed_at from event")] == [
        NOON_MICROS
    ] * 2
    assert verify(journal)["problems"] == []


@pytest.mark.parametrize(
    "key",
    ["", "a\0b", 'it\'s "quoted"; drop table event; --', "Zürich/ß ☃ \U0001f600", "x" * 10_000, "[%]_\n\r"],
)
def test_any_key_is_kept(journal: Journal, key: str) -> None:
    append(journal, "create", "other", {"n": 0})
    append(journal, "create", key, {"n": 1})
    revision = journal.heads("contact", ["other", key])[key]
    assert (revision.seq, revision.fields) == (2, {"n": 1})
    assert verify(journal)["problems"] == []


def test_any_name_and_actor_are_kept(journal: Journal) -> None:
    odd = 'it\'s a "name"\0☃'
    append(journal, "create", "a", {odd: odd}, store=odd, type=odd, actor=odd)
    assert journal.heads(odd, ["a"])["a"].fields == {odd: odd}
    assert journal.connection.execute("select actor from event").fetchone()[0] == odd
    assert verify(journal)["problems"] == []


def test_names_and_shapes_are_written_once(journal: Journal) -> None:
    for n in range(5):
        append(journal, "create", str(n), {"b": n, "a": "x"})
    assert journal.connection.execute("select name from name order by id").fetchall() == [
        ("crm",),
        ("contact",),
    ]
    assert journal.connection.execute("select fields from shape").fetchall() == [
        ('[["a","str"],["b","int"]]',)
    ]


def test_two_connections_share_names_and_shapes(journal: Journal, path: Path) -> None:
    append(journal, "create", "a", {"n": 1})
    with Journal.open(path) as other:
        append(other, "create", "b", {"n": 2})
    append(journal, "create", "c", {"n": 3})
    assert journal.connection.execute("select count(*) from shape").fetchone() == (1,)
    assert verify(journal)["problems"] == []


def test_one_value_of_two_types_has_two_shapes(journal: Journal) -> None:
    append(journal, "create", "a", {"n": "1"}, types={"n": "str"})
    append(journal, "create", "b", {"n": "1"}, types={"n": "decimal"})
    assert journal.connection.execute("select count(*) from shape").fetchone() == (2,)


# -- reading states -------------------------------------------------------------------------------------


def test_the_head_of_a_record_is_its_last_revision_not_after_a_position(journal: Journal) -> None:
    append(journal, "create", "a", {"n": 1})
    append(journal, "create", "b", {"n": 1})
    append(journal, "update", "a", {"n": 2}, base=1)
    append(journal, "read", "a", base=3)
    append(journal, "delete", "a", None, before={"n": 2}, base=3)

    def heads(until: int | None) -> dict[str, Any]:
        return {key: (r.seq, r.fields) for key, r in journal.heads("contact", ["a", "b", "c"], until).items()}

    assert heads(0) == {}
    assert heads(1) == {"a": (1, {"n": 1})}
    assert heads(4) == {"a": (3, {"n": 2}), "b": (2, {"n": 1})}
    assert heads(None) == {"a": (5, None), "b": (2, {"n": 1})}
    assert journal.heads("order", ["a"]) == {}
    assert journal.revisions([0, 1, 3, 5, 99]) == {0: {}, 1: {"n": 1}, 3: {"n": 2}, 5: {}}


def test_many_keys_at_once(journal: Journal) -> None:
    keys = [str(n) for n in range(1300)]
    with journal.write():
        journal.append([new_event(journal, "create", key, {"n": 1}) for key in keys], 1)
    assert journal.heads("contact", keys).keys() == set(keys)
    assert len(journal.revisions(range(1301))) == 1301


def test_types_apart(journal: Journal) -> None:
    append(journal, "create", "a", {"n": 1}, type="order")
    append(journal, "read", "a", type="contact")
    assert (journal.has_type("order"), journal.has_type("contact"), journal.has_type("x")) == (
        True,
        False,
        False,
    )


# -- append-only ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update event set after = '[2]' where seq = 1",
        "update event set hash = x'00'",
        "delete from event where seq = 2",
        "delete from event",
        "insert or replace into event select * from event where seq = 1",
        "replace into event select * from event where seq = 2",
        "insert into event select * from event where seq = 2",
        "insert into event select 0, op, store, type, key, base, observed_at, occurred_at, actor, run, after_shape,"
        " before_shape, changed, after, before, conflict, payload_hash, hash from event where seq = 2",
        "update name set name = 'x'",
        "delete from name",
        "insert or replace into name values (1, 'x')",
        "insert or replace into name values (99, 'crm')",
        "insert or replace into name (name) values ('crm')",
        "update shape set fields = '[]'",
        "delete from shape",
        "insert or replace into shape values (1, '[]')",
        "insert or replace into shape select 99, fields from shape",
        "delete from run",
    ],
)
def test_what_was_written_is_refused_to_change(journal: Journal, statement: str) -> None:
    with journal.write():
        journal.begin_run("ingest", "1")
    append(journal, "create", "a", {"n": 1})
    append(journal, "update", "a", {"n": 2}, base=1)
    dump = list(journal.connection.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match="the journal is append-only"):
        journal.connection.execute(statement)
    assert list(journal.connection.iterdump()) == dump


# -- rehearsal ------------------------------------------------------------------------------------------


def test_a_rehearsal_leaves_nothing(journal: Journal, path: Path) -> None:
    append(journal, "create", "a", {"n": 1})
    dump = list(journal.connection.iterdump())
    with journal.rehearsal():
        append(journal, "create", "b", {"m": 1}, store="new")
        with pytest.raises(KeyError), journal.write():
            append_inside(journal, "x")
            raise KeyError
        append(journal, "create", "c", {"m": 1}, store="new")
        assert journal.head().seq == 3
    assert list(journal.connection.iterdump()) == dump
    append(journal, "create", "b", {"m": 1}, store="new")
    assert verify(journal)["problems"] == []


def append_inside(journal: Journal, key: str) -> None:
    journal.append([new_event(journal, "create", key, {"other": 1})], 1)


def test_a_rehearsal_that_breaks_off_leaves_nothing(journal: Journal) -> None:
    with pytest.raises(KeyError), journal.rehearsal():
        append(journal, "create", "b", {"m": 1})
        raise KeyError
    assert journal.head().seq == 0
    assert append(journal, "create", "a", {"n": 1}) == 1


# -- two at once ----------------------------------------------------------------------------------------


def test_who_waits_too_long_for_the_lock_is_told_that_the_journal_is_busy(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    with Journal.open(path) as other, journal.write():
        with pytest.raises(JournalBusy, match="is locked by another process") as caught:
            append(other, "create", "a", {"n": 1})
        assert str(path) in caught.value.hint
        with pytest.raises(JournalBusy), other.rehearsal():
            pass
        assert other.head().seq == 0  # reading never waits
    assert append(journal, "create", "a", {"n": 1}) == 1


def test_writers_at_once_leave_no_gap_and_fork_nothing(path: Path) -> None:
    Journal.open(path).close()

    def write(name: str) -> None:
        with Journal.open(path) as journal:
            for n in range(20):
                append(journal, "create", f"{name}{n}", {"n": n}, store=name)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Journal.open(path) as journal:
        assert journal.head().seq == 80
        assert verify(journal)["problems"] == []


def test_several_may_create_one_journal_at_once(path: Path) -> None:
    errors: list[Exception] = []
    start = threading.Barrier(8)

    def create() -> None:
        start.wait()
        try:
            Journal.open(path).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select count(*) from head").fetchone() == (1,)


# -- runs -----------------------------------------------------------------------------------------------


def test_a_run_has_a_beginning_an_end_and_counts(journal: Journal, noon: Any) -> None:
    with journal.write():
        run = journal.begin_run("ingest", "1.2")
    noon.tick(2)
    with journal.write():
        journal.end_run(run, {"crm": {"created": 1}})
    assert journal.connection.execute("select * from run").fetchall() == [
        (run, "ingest", "1.2", NOON_MICROS, NOON_MICROS + 2_000_000, '{"crm":{"created":1}}')
    ]


def test_a_journal_that_may_not_be_written_can_still_be_read(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(journal, "create", "ann")
    journal.close()

    def refuse(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(Journal, "_prepare", refuse)
    with Journal.open(path, create=False) as opened:
        assert verify(opened)["ok"]
        assert opened.head().seq == 1
    with pytest.raises(JournalError, match="read-only"):
        Journal.open(path)
