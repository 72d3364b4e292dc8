"""Which record is which: ids dealt out again, keys of all kinds, answers that were lost."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from projects import (
    FIELDS,
    KINDS,
    canonical,
    content,
    did,
    entry,
    events,
    held,
    make,
    memory,
    put,
    rows,
    sql,
    synchronizer,
    together,
)

from accessors.memory import MemoryAccessor
from evsync.binding import PlaceSpec
from evsync.data import Data
from evsync.errors import ConfigError, Refused, Retry, Unreachable
from evsync.projections import ingest as entering
from evsync.store import Store
from evsync.synchronizer import Synchronizer

ANN = {"id": "ann", "name": "Ann", "n": 1}
BEN = {"id": "ben", "name": "Ben", "n": 2}
ZOE = {"id": "zoe", "name": "Zoe", "n": 26}
ALLOWED = {"allow_deletes": True, "allow_changes": True}


def ids(sync: Synchronizer, store: str = "one") -> dict[str, Any]:
    """What a store calls each record, by its key."""
    return dict(
        sync.journal().connection.execute(
            "SELECT key, r.id FROM replica r JOIN binding b ON b.id = r.binding WHERE store = ?", (store,)
        )
    )


# -- ids dealt out again -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5_000])
@pytest.mark.parametrize("new", [ZOE, {"id": "abe", "name": "Abe", "n": 9}])  # behind and before the old key
def test_an_id_of_a_deleted_record_that_was_dealt_out_again_is_another_record(
    batch: int, new: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entering, "BATCH", batch)
    one, two = memory("one", ANN, BEN, assign_ids=True), memory("two")
    with together(one, two, fields=FIELDS) as sync:
        sync.sync()
        held(one)[1] = dict(new)
        report = sync.sync()
        assert did(report["ingest"], "one") == {"created": 1, "deleted": 1, "unchanged": 1}
        assert canonical(sync, "ann") is None
        assert canonical(sync, new["id"]) == new
        assert ids(sync) == {"ben": 2, new["id"]: 1}
        assert sorted(row["id"] for row in rows(two)) == sorted(["ben", new["id"]])


def test_so_it_is_after_a_crash_between_the_new_record_and_the_end_of_the_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entering, "BATCH", 1)
    one = memory("one", BEN, ANN, assign_ids=True)
    with together(one, fields=FIELDS) as sync:
        sync.ingest()
        held(one)[1] = {"id": "abe", "name": "Abe", "n": 9}
        batch, calls = entering.Ingest.batch, []

        def dies(self: Any, found: Any, actor: str | None = None) -> None:
            if calls:
                raise KeyboardInterrupt
            calls.append(batch(self, found, actor))

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(entering.Ingest, "batch", dies)
            sync.ingest()
        assert ids(sync) == {"abe": 1, "ann": 2, "ben": None}
        assert did(sync.ingest(), "one") == {"deleted": 1, "unchanged": 2}
        assert ids(sync) == {"abe": 1, "ann": 2}
        assert events(sync, "op", "key", since="3") == [("create", "abe"), ("delete", "ben")]


def test_a_key_edited_with_anything_left_as_it_was_is_an_edit() -> None:
    one = memory("one", ANN, assign_ids=True)
    with together(one, fields=FIELDS) as sync:
        sync.ingest()
        held(one)[1] = {"id": "anna", "name": "Ann", "n": 7}
        assert did(sync.ingest(), "one") == {"updated": 1}
        # The minted key is no longer what stands in the record: another edit of the rest is no new record.
        held(one)[1] = {"id": "anna", "name": "Anna", "n": 8}
        assert did(sync.ingest(), "one") == {"updated": 1}
        assert canonical(sync, "ann") == {"id": "anna", "name": "Anna", "n": 8}


def dated(*rows: dict[str, Any]) -> Store:
    place = PlaceSpec(created_at="made", fields={"made_at": "made"})
    return memory("one", *rows, assign_ids=True, place=place)


DATED = {"id": "str", "name": "str", "made_at": "str"}


def test_a_time_of_creation_tells_a_new_record_from_an_edit() -> None:
    one = dated(
        {"id": "ann", "name": "Ann", "made": "Monday"}, {"id": "ben", "name": "Ben", "made": "Monday"}
    )
    with together(one, fields=DATED) as sync:
        sync.ingest()
        held(one)[1] = {"id": "zoe", "name": "Ann", "made": "Tuesday"}  # the same name, but made later
        held(one)[2] = {"id": "yve", "name": "Yve", "made": "Monday"}  # another name, but made when it was
        assert did(sync.ingest(), "one") == {"created": 1, "updated": 1, "deleted": 1}
        assert canonical(sync, "ann") is None
        assert canonical(sync, "ben") == {"id": "yve", "name": "Yve", "made_at": "Monday"}


def test_a_time_of_creation_that_is_not_mapped_is_refused(tmp_path: Path) -> None:
    sql(tmp_path / "one.db", "create table thing (id text primary key, made text)")
    config = """
        [types.thing]
        key = ["id"]
        [stores.one]
        url = "sqlite:one.db"
        [stores.one.types.thing]
        created_at = "made"
        ignore = ["made"]
        """
    with (
        synchronizer(tmp_path, config) as sync,
        pytest.raises(ConfigError, match="'made', which is not mapped"),
    ):
        sync.ingest()


def test_ids_that_two_records_swapped_while_both_were_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entering, "BATCH", 1)
    one = memory("one", ANN, BEN, ZOE, assign_ids=True)
    with together(one, fields=FIELDS) as sync:
        sync.ingest()
        held(one).update({1: dict(BEN), 2: dict(ANN)})
        assert did(sync.ingest(), "one") == {"unchanged": 3}
        assert ids(sync) == {"ann": 2, "ben": 1, "zoe": 3}
        held(one).clear()
        held(one).update({7: {**ANN, "n": 5}, 1: {**ZOE, "n": 6}, 3: dict(BEN)})
        sync.ingest()
        assert sorted(str(row["id"]) for row in rows(one)) == ["ann", "ben", "zoe"]
        assert did(sync.ingest(), "one") == {"unchanged": 3}


# -- answers that were lost --------------------------------------------------------------------------------


class Flaky(MemoryAccessor):
    """Creates records by its own ids, and then does not answer."""

    def __init__(self, error: Exception, *keys: str) -> None:
        self.error, self.keys = error, set(keys)

    def add(self, store: Store, data: Data) -> Data:
        stored = super().add(store, data)
        if stored.fields["id"] in self.keys:
            self.keys.remove(stored.fields["id"])
            raise self.error
        return stored


@pytest.mark.parametrize("error", [Retry("timeout"), Refused("odd"), ValueError("odd")])
def test_a_record_whose_creation_was_not_answered_is_not_created_twice(error: Exception) -> None:
    two = memory("two", assign_ids=True, accessor=Flaky(error, "ann", "zoe"))
    with together(memory("one", ANN, BEN, ZOE), two, fields=FIELDS) as sync:
        sync.sync()
        assert rows(two) == [ANN, BEN, ZOE]
        assert ids(sync, "two") == {"ann": 1, "ben": 2, "zoe": 3}
        report = sync.sync()
        assert [did(report["ingest"], "two"), did(report["replay"], "two")] == [{"unchanged": 3}, {}]
        assert len(events(sync, "op")) == 3


def test_so_it_is_when_the_store_goes_away_midway() -> None:
    accessor = Flaky(Unreachable("gone"), "ben")
    two = memory("two", assign_ids=True, accessor=accessor)
    with together(memory("one", ANN, BEN, ZOE), two, fields=FIELDS) as sync:
        assert entry(sync.sync()["replay"], "two")["error"] == "gone"
        sync.sync()
        assert rows(two) == [ANN, BEN, ZOE]
        assert ids(sync, "two") == {"ann": 1, "ben": 2, "zoe": 3}
        assert len(events(sync, "op")) == 3


# -- keys of all kinds -------------------------------------------------------------------------------------

ODD = [
    ("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "b%2Fc"), ("%", "25"), ("%25", ""), ("a b", "ü"),
    (unicodedata.normalize("NFC", "é"), "x"), (unicodedata.normalize("NFD", "é"), "x"), ("A@x", "x"), ("a@x", "x"), ("😀", "\u200b"),
]  # fmt: skip


@pytest.mark.parametrize("url", ["csv:two.csv", "json:two.json", "jsonl:two.jsonl", "sqlite:two.db"])
def test_keys_that_look_alike_are_each_a_record_of_its_own(url: str, tmp_path: Path) -> None:
    sql(tmp_path / "one.db", "create table thing (a text, b text, n int, primary key (a, b))")
    for n, (a, b) in enumerate(ODD):
        sql(tmp_path / "one.db", "insert into thing values (?, ?, ?)", a, b, n)
    config = f"""
        [types.thing]
        key = ["a", "b"]
        fields = {{ a = "str", b = "str", n = "int" }}
        [stores.one]
        url = "sqlite:one.db"
        [stores.one.types.thing]
        [stores.two]
        url = "{url}"
        [stores.two.types.thing]
        """
    with synchronizer(tmp_path, config) as sync:
        assert did(sync.sync()["replay"], "two") == {"created": len(ODD)}
        sql(tmp_path / "one.db", "update thing set n = n + 100 where n > 0")
        assert did(sync.sync()["replay"], "two") == {"updated": len(ODD) - 1}
        found = {
            (data.fields["a"], data.fields["b"]): data.fields["n"]
            for data in sync.stores["two"].find("thing")
        }
        assert found == {key: n + 100 if n else 0 for n, key in enumerate(ODD)}
        assert did(sync.sync()["ingest"], "two") == {"unchanged": len(ODD)}
        assert canonical(sync, "a%2Fb/c") == {"a": "a/b", "b": "c", "n": 0}


@pytest.mark.parametrize("own_ids", [False, True])
def test_a_target_that_takes_case_twins_for_one_gets_the_first_and_a_recorded_failure(
    own_ids: bool, tmp_path: Path
) -> None:
    one = memory("one", {"id": "A@x", "name": "Upper", "n": 1}, {"id": "a@x", "name": "Lower", "n": 2})
    columns = (
        "nr integer primary key, id text collate nocase unique"
        if own_ids
        else "id text collate nocase primary key"
    )
    sql(tmp_path / "two.db", f"create table thing ({columns}, name text, n int)")
    two = Store("two", "sqlite:two.db", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(one, two, fields=FIELDS) as sync:
        report = sync.sync()["replay"]
        assert (entry(report, "two")["created"], entry(report, "two")["failed"]) == (1, 1)
        assert sql(tmp_path / "two.db", "select id, name, n from thing") == [("A@x", "Upper", 1)]
        held(one)["a@x",]["n"] = 9
        sync.sync()
        assert sql(tmp_path / "two.db", "select id, name, n from thing") == [("A@x", "Upper", 1)]
        assert sync.status()["stores"][1]["failures"] == 1
        held(one)["A@x",]["n"] = 5
        sync.sync()
        assert sql(tmp_path / "two.db", "select id, name, n from thing") == [("A@x", "Upper", 5)]


# -- edits between an ingest and our write -------------------------------------------------------------------


class Edited(MemoryAccessor):
    """Somebody edits a record just before it is looked at to be written."""

    edit: Any = None

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        if self.edit is not None:
            held(store)["ann",], self.edit = {**ANN, "n": self.edit}, None
        return super().get_by_name(store, type, name)


def test_an_edit_just_before_our_write_is_left_and_is_a_conflict_of_the_next_run() -> None:
    accessor = Edited()
    one, two = memory("one", ANN), memory("two", ANN, accessor=accessor)
    with together(one, two, fields=FIELDS) as sync:
        sync.sync()
        held(one)["ann",] = {**ANN, "n": 5}
        accessor.edit = 7
        assert did(sync.sync()["replay"], "two") == {"skipped": 1}
        assert rows(two) == [{**ANN, "n": 7}]
        assert did(sync.sync()["ingest"], "two") == {"updated": 1, "conflicts": 1}
        assert rows(one) == rows(two) == [{**ANN, "n": 7}]
        assert [event["conflict"]["fields"]["n"] for event in sync.log(conflicts=True)] == [
            {"base": 1, "theirs": 5, "mine": 7, "chosen": 7}
        ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
@pytest.mark.parametrize("action", ["update", "delete"])
def test_an_edit_between_an_ingest_and_our_write_is_never_overwritten(
    kind: str, action: str, tmp_path: Path
) -> None:
    one, two = memory("one", ANN, BEN), make(kind, "two", tmp_path, ANN, BEN)
    with together(one, two, fields=FIELDS) as sync:
        sync.sync()
        put(one, *([{**ANN, "n": 5}] if action == "update" else []), BEN)
        sync.ingest()
        put(two, {**ANN, "n": 7}, BEN)
        assert did(sync.replay(["two"]), "two") == {"skipped": 1}
        assert content(two) == [{**ANN, "n": 7}, BEN]
        sync.sync()
        assert content(one) == content(two) == [{**ANN, "n": 7}, BEN]
