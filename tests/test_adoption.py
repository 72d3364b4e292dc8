"""What is told of a store that is met for the first time, and what a dry run of `sync` shows before anything happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import FIELDS, KINDS, content, did, dump, entry, events, head, held, make, memory, put, together

from evsync.binding import PlaceSpec, TypeSpec
from evsync.store import Store
from evsync.synchronizer import Synchronizer

ANN = {"id": "ann", "name": "Ann", "n": 1}
BEN = {"id": "ben", "name": "Ben", "n": 2}
CEM = {"id": "cem", "name": "Cem", "n": 3}
DAN = {"id": "dan", "name": "Dan", "n": 4}


def adoption(report: Any, store: str) -> Any:
    return entry(report, store)["adoption"]


def counts(matched: int = 0, differ: int = 0, new: int = 0, missing: int = 0, ambiguous: int = 0) -> Any:
    return {"matched": matched, "differ": differ, "new": new, "missing": missing, "ambiguous": ambiguous}


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_met_for_the_first_time_is_compared_with_the_journal(kind: str, tmp_path: Path) -> None:
    one, two = memory("one", ANN, BEN, CEM), make(kind, "two", tmp_path, ANN, {**BEN, "n": 9}, DAN)
    with together(one, two, fields=FIELDS) as sync:
        sync.ingest(["one"])
        report = sync.ingest()
        assert adoption(report, "one") is None
        assert adoption(report, "two") == counts(matched=1, differ=1, new=1, missing=1)
        assert adoption(sync.ingest(), "two") is None


def test_stores_that_meet_in_one_run_are_compared_with_each_other() -> None:
    with together(memory("one", ANN, BEN), memory("two", ANN, CEM, DAN), fields=FIELDS) as sync:
        report = sync.ingest()
        assert adoption(report, "one") == counts(new=2, missing=2)
        assert adoption(report, "two") == counts(matched=1, new=2, missing=1)


def test_a_store_that_holds_nothing_yet_lacks_everything_and_is_met_once() -> None:
    with together(memory("one", ANN), memory("two", role="source"), fields=FIELDS) as sync:
        assert adoption(sync.ingest(), "two") == counts(missing=1)
        assert adoption(sync.ingest(), "two") is None
        held(sync.stores["two"])["ben",] = BEN
        assert adoption(sync.ingest(), "two") == counts(new=1, missing=1)


def test_a_record_deleted_before_is_neither_missing_nor_alike() -> None:
    one, two = memory("one", ANN, BEN), memory("two", BEN)
    with together(one, two, fields=FIELDS) as sync:
        sync.ingest(["one"])
        put(one, ANN)
        sync.ingest(["one"])
        assert adoption(sync.ingest(["two"]), "two") == counts(new=1, missing=1)


def test_several_types_are_told_in_one() -> None:
    def store(name: str, *types: str, **records: Any) -> Store:
        made = memory(name, type="a", **records)
        made.places = {type: PlaceSpec() for type in types}
        made.options["records"] = {type: {("x",): {"id": "x", "n": name}} for type in types}
        return made

    specs = [TypeSpec(type, ("id",), {"id": "str", "n": "str"}) for type in ("a", "b")]
    with Synchronizer([store("one", "a", "b"), store("two", "a", "b")], specs, None) as sync:
        assert adoption(sync.ingest(), "two") == counts(differ=2)


def test_equal_records_write_nothing_but_what_is_known_of_the_store() -> None:
    one, two = memory("one", ANN, BEN), memory("two", ANN, BEN)
    with together(one, two, fields=FIELDS) as sync:
        sync.ingest(["one"])
        hash = sync.journal().head().hash
        report = sync.sync()
        assert adoption(report["ingest"], "two") == counts(matched=2)
        assert sync.journal().head().hash == hash
        assert [did(report["replay"], name) for name in ("one", "two")] == [{}, {}]
        replicas = (
            sync.journal().connection.execute("SELECT key, seq FROM replica ORDER BY key, binding").fetchall()
        )
        assert replicas == [("ann", 1), ("ann", 1), ("ben", 2), ("ben", 2)]


# -- sync --dry-run ----------------------------------------------------------------------------------------


def written(report: Any) -> list[tuple[str, str, str]]:
    """What a real run did, as far as its counts tell, in the words of a plan."""
    return [(entry["store"], action, entry[f"{action}d"]) for entry in report["stores"] for action in ACTIONS]


ACTIONS = ("create", "update", "delete")


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_of_a_sync_plans_what_the_sync_does_and_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    one, two = make(kind, "one", tmp_path, ANN, BEN), make(kind, "two", tmp_path, ANN, {**BEN, "n": 9}, DAN)
    three = make(kind, "three", tmp_path, role="target")
    path = tmp_path / "evsync.db"
    with together(one, two, three, fields=FIELDS, journal=path) as sync:
        before = [content(store) for store in sync.stores.values()]
        dry = sync.sync(dry_run=True)
        assert not path.exists()
        assert [content(store) for store in sync.stores.values()] == before
        assert (dry["command"], dry["ingest"]["dry_run"], dry["replay"]["dry_run"]) == ("sync", True, True)
        assert adoption(dry["ingest"], "two") == counts(matched=1, differ=1, new=1)
        plans = {
            store["store"]: [(step["action"], step["key"], step["seq"]) for step in store["plan"]]
            for store in dry["replay"]["stores"]
        }
        assert plans == {
            "one": [("create", "dan", 4)],
            "two": [("update", "ben", 3)],
            "three": [("create", "ann", 1), ("create", "ben", 3), ("create", "dan", 4)],
        }
        real = sync.sync()
        assert written(dry["replay"]) == written(real["replay"])
        told = ("store", "created", "updated", "adopted", "adoption", "conflicts")
        assert [[found[name] for name in told] for found in dry["ingest"]["stores"]] == [
            [found[name] for name in told] for found in real["ingest"]["stores"]
        ]
        assert (dry["ingest"]["first"], dry["ingest"]["last"]) == (1, head(sync))
        after = dump(sync)
        put(one, ANN, {**BEN, "n": 7})
        dry = sync.sync(dry_run=True)
        assert dump(sync) == after
        assert written(dry["replay"]) == written(sync.sync()["replay"])
        assert events(sync, "op", "key", since="5") == [("update", "ben"), ("delete", "dan")]
