"""What stops a run before anything is journalled: all of it is told, with the command that lets it through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import (
    FIELDS,
    KINDS,
    content,
    did,
    dump,
    entry,
    events,
    head,
    held,
    make,
    memory,
    put,
    rows,
    synchronizer,
    together,
)

from evsync.binding import PlaceSpec
from evsync.errors import GuardTripped
from evsync.report import exit_code
from evsync.synchronizer import Synchronizer


def many(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"k{number:02}", "name": f"N{number}", "n": number, **more} for number in range(count)]


def stopped(sync: Synchronizer, run: str = "ingest", **options: Any) -> GuardTripped:
    """The guard that tripped; nothing was journalled, and no store was written."""
    before, stores = dump(sync), [content(store) for store in sync.stores.values()]
    with pytest.raises(GuardTripped) as caught:
        getattr(sync, run)(**options)
    assert dump(sync) == before
    assert [content(store) for store in sync.stores.values()] == stores
    assert caught.value.exit_code == 6
    return caught.value


# -- every record changed at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_in_which_no_known_record_is_unchanged_stops_the_run(kind: str, tmp_path: Path) -> None:
    with together(make(kind, "one", tmp_path, *many(10)), memory("other"), fields=FIELDS) as sync:
        sync.sync()
        put(
            sync.stores["one"], *many(10, n=-1), {"id": "new", "name": "New", "n": 1}
        )  # a new one is not unchanged
        guard = stopped(sync)
        assert (
            "store 'one', type 'thing': all 10 known records changed at once: a clock, a format, another file?"
            in guard.message
        )
        assert "written to the other stores" in guard.message
        assert guard.hint == "if that is meant: evsync ingest one --allow-changes"
        assert stopped(sync, "sync").hint == "if that is meant: evsync sync --allow-changes"
        assert did(sync.ingest(allow_changes=True), "one") == {"created": 1, "updated": 10}
        put(sync.stores["one"], *many(10, n=-2), {"id": "new", "name": "New", "n": 2})
        stopped(sync)  # what was allowed once is not remembered


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (many(9), many(9, n=-1)),  # too few to tell
        (many(11), [*many(10, n=-1), many(11)[10]]),  # one is unchanged
        (many(12), many(9, n=-1)),  # three are gone, nine changed
    ],
)
def test_less_than_everything_is_a_days_work(before: list[Any], after: list[Any]) -> None:
    with together(memory("one", *before), fields=FIELDS) as sync:
        sync.ingest()
        put(sync.stores["one"], *after)
        assert entry(sync.ingest(), "one")["error"] is None


@pytest.mark.parametrize(
    ("limit", "changed", "stops"),
    [(3, 3, False), (3, 4, True), ("50%", 2, False), ("50%", 3, True), ("100%", 4, False), (0, 1, True)],
)
def test_a_store_may_set_its_own_limit_to_changes(limit: int | str, changed: int, stops: bool) -> None:
    store = memory("one", *many(4), max_changes=limit)
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, *many(changed, n=-1), *many(4)[changed:])
        if stops:
            assert (
                f"{changed} of 4 known records changed, more than max_changes = {limit!r} allows"
                in stopped(sync).message
            )
        assert did(sync.ingest(allow_changes=True), "one")["updated"] == changed


def test_records_written_by_a_run_that_was_killed_are_no_changes_of_the_stores() -> None:
    one, other = memory("one", *many(12)), memory("other", *many(12))
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, *many(11, n=-1), many(12)[11])
        sync.ingest(["one"])
        journal = sync.journal()
        with journal.write():  # as the replay leaves it that was killed before it could note what it had done
            journal.connection.execute(
                "UPDATE binding SET intents = ? WHERE store = 'other'", (f"[{head(sync)}]",)
            )
        put(other, *many(11, n=-1))
        assert did(sync.ingest(["other"]), "other") == {"unchanged": 11, "deleted": 1}


# -- records gone ------------------------------------------------------------------------------------------


def test_a_type_may_have_limits_of_its_own() -> None:
    place = PlaceSpec(max_deletes=1, max_changes=1)
    store = memory("one", *many(10), place=place, max_deletes="100%", max_changes="100%")
    with together(store, fields=FIELDS) as sync:
        sync.ingest()
        put(store, *many(8))
        assert "2 of 10 known records are gone, more than max_deletes = 1 allows" in stopped(sync).message
        put(store, *many(2, n=-1), *many(10)[2:])
        assert "2 of 10 known records changed, more than max_changes = 1 allows" in stopped(sync).message


def renamed(records: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return [{**record, "id": record["id"].upper(), **more} for record in records]


@pytest.mark.parametrize("kind", KINDS)
def test_records_that_only_changed_their_key_are_not_gone(kind: str, tmp_path: Path) -> None:
    with together(make(kind, "one", tmp_path, *many(10)), fields=FIELDS) as sync:
        sync.ingest()
        put(sync.stores["one"], *renamed(many(10)))
        assert did(sync.ingest(), "one") == {"created": 10, "deleted": 10}


def test_records_that_changed_more_than_their_key_are_gone() -> None:
    with together(memory("one", *many(10)), fields=FIELDS) as sync:
        sync.ingest()
        put(sync.stores["one"], *renamed(many(10), name="X"))
        assert "10 of 10 known records are gone" in stopped(sync).message
        put(sync.stores["one"], *renamed(many(3)), *renamed(many(10)[3:], n=-1))
        assert "7 of 10 known records are gone" in stopped(sync).message


def test_of_records_that_are_all_alike_nobody_knows_which_became_which() -> None:
    alike = many(10, name="N", n=1)
    with together(memory("one", *alike), fields=FIELDS) as sync:
        sync.ingest()
        put(sync.stores["one"], *renamed(alike))
        assert "10 of 10 known records are gone" in stopped(sync).message


@pytest.mark.parametrize("rest", [{}, {"name": None}])
def test_records_that_have_nothing_but_their_key_are_never_renamed(rest: dict[str, Any]) -> None:
    with together(memory("one", {"id": "a", **rest}), fields={"id": "str", "name": "str"}) as sync:
        sync.ingest()
        put(sync.stores["one"], {"id": "b", **rest})
        assert "1 of 1 known records are gone" in stopped(sync).message


# -- emptied -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [FIELDS, None, {**FIELDS, "town": "str"}])
def test_a_csv_file_of_no_bytes_is_an_emptied_store(tmp_path: Path, fields: dict[str, str] | None) -> None:
    store, other = make("csv", "one", tmp_path, *many(2)), memory("other")
    with together(store, other, fields=fields, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
    store.path.write_bytes(b"")
    with together(store, other, fields=fields, journal=tmp_path / "evsync.db") as sync:
        guard = stopped(sync, "sync")
        assert "store 'one', type 'thing': it held 2 records and now shows none" in guard.message
        assert guard.hint == "if that is meant: evsync sync --allow-deletes"
        assert did(sync.sync(allow_deletes=True)["ingest"], "one") == {"deleted": 2}
        assert rows(other) == []
        held(other)["k",] = {"id": "k", "name": "New", "n": "1"}
        sync.sync()
        assert [record["id"] for record in content(store)] == ["k"]


def test_a_csv_file_of_no_bytes_that_nobody_knows_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_bytes(b"")
    store = make("csv", "two", tmp_path, *many(1))
    config = """
        [types.thing]
        key = ["id"]
        [stores.one]
        url = "csv:one.csv"
        [stores.one.types.thing]
        [stores.two]
        url = "csv:two.csv"
        [stores.two.types.thing]
        """
    with synchronizer(tmp_path, config) as sync:
        report = sync.sync()
        assert (exit_code(report), did(report["replay"], "one")) == (0, {"created": 1})
    assert (tmp_path / "one.csv").read_text() == "id,n,name\nk00,0,N0\n"
    assert store.path.read_text() == 'id,name,n\n"k00","N0","0"\n'


# -- all of it told ----------------------------------------------------------------------------------------


def test_every_guard_of_every_store_is_told_with_the_command_that_allows_it() -> None:
    one, two, three = memory("one", *many(30)), memory("two", *many(30)), memory("three", *many(30))
    with together(one, two, three, fields=FIELDS) as sync:
        sync.ingest()
        put(one, *many(12, n=-1))
        put(two)
        guard = stopped(sync)
        for words in (
            "store 'one', type 'thing': 18 of 30 known records are gone",
            "store 'one', type 'thing': all 12 known records changed at once",
            "store 'two', type 'thing': it held 30 records and now shows none",
            "30 records would be deleted in the other stores too",
        ):
            assert words in guard.message
        assert guard.hint == (
            "if that is meant: evsync ingest one --allow-deletes --allow-changes && evsync ingest two --allow-deletes"
        )
        assert guard.document is not None
        assert [bool(found["error"]) for found in guard.document["stores"]] == [True, True, False]  # type: ignore[attr-defined]
        assert stopped(sync, "sync").hint == "if that is meant: evsync sync --allow-deletes --allow-changes"
        assert stopped(sync, allow_deletes=True).hint.endswith("evsync ingest one --allow-changes")
        assert events(sync, "op", since="31") == []


def test_no_store_is_rebuilt_if_one_would_lose_too_much() -> None:
    targets = [memory(name, role="target") for name in ("two", "three", "four")]
    with together(memory("one", *many(2)), *targets, fields=FIELDS) as sync:
        sync.ingest()
        put(targets[1], *renamed(many(5)))
        put(targets[2], *renamed(many(3)))
        guard = stopped(sync, "replay", stores=["two", "three", "four"], rebuild=True)
        assert "store 'three', type 'thing': a rebuild would delete 5 of its 5 records" in guard.message
        assert "store 'four', type 'thing': a rebuild would delete 3 of its 3 records" in guard.message
        assert guard.hint.endswith("evsync replay --store three --store four --rebuild --allow-deletes")
        assert guard.document is not None
        assert [bool(found["error"]) for found in guard.document["stores"]] == [False, True, True]  # type: ignore[attr-defined]
        sync.replay(["two", "three", "four"], rebuild=True, allow_deletes=True)
        assert [rows(target) for target in targets] == [many(2)] * 3


def test_another_mapping_of_two_targets_is_told_of_both(tmp_path: Path) -> None:
    def linked(only: str) -> Synchronizer:
        stores = "".join(
            f'[stores.{name}]\nurl = "csv:{name}.csv"\nrole = "target"\n[stores.{name}.types.thing]\nonly = {only}\n'
            for name in ("two", "three")
        )
        return synchronizer(
            tmp_path,
            '[types.thing]\nkey = ["id"]\nfields = { id = "str", name = "str", n = "int" }\n'
            '[stores.one]\nurl = "csv:one.csv"\n[stores.one.types.thing]\n' + stores,
        )

    make("csv", "one", tmp_path, *many(2))
    with linked('["id", "name", "n"]') as sync:
        sync.sync()
    with linked('["id", "n"]') as sync:
        guard = stopped(sync, "sync")
        assert "store 'two', type 'thing': its mapping changed" in guard.message
        assert "store 'three', type 'thing': its mapping changed" in guard.message
        assert guard.hint == (
            "if that is meant: evsync replay --store two --rebuild && evsync replay --store three --rebuild"
        )
