"""A store's own change feed: every step, at the cost of the change, no gap and no double."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from accessors.memory import MemoryAccessor
from evsync import PlaceSpec, Store, Synchronizer, TypeSpec
from evsync.accessor import Fed
from evsync.errors import GuardTripped, PositionLost
from evsync.projections import spool

THING = TypeSpec("thing", ("id",), {"id": "str", "v": "str"})


class FeedAccessor(MemoryAccessor):
    """Memory with a log beside it: `feed` lists (position, record or None, key)."""

    def __init__(self) -> None:
        self.feed: list[tuple[int, dict[str, Any] | None, str]] = []
        self.acknowledged: list[str] = []
        self.scans = 0
        self.forgotten = 0

    def put(self, store: Store, record: dict[str, Any]) -> None:
        store.options.setdefault("records", {}).setdefault("thing", {})[(record["id"],)] = record
        self.feed.append((len(self.feed) + 1, record, record["id"]))

    def drop(self, store: Store, key: str) -> None:
        del store.options["records"]["thing"][(key,)]
        self.feed.append((len(self.feed) + 1, None, key))

    def find(self, store: Store, type: str, match: Any = None) -> Iterator[Any]:
        self.scans += 1
        return super().find(store, type, match)

    def feeds(self, store: Store, type: str) -> bool:
        return True

    def position(self, store: Store, type: str) -> str:
        return str(len(self.feed))

    def changes(self, store: Store, since: Mapping[str, str], until: str | None = None) -> Iterator[Fed]:
        begin = int(since["thing"])
        if begin < self.forgotten:
            raise PositionLost("the feed begins later", "ingest all again")
        for position, record, key in self.feed[begin:]:
            row = None if record is None else (None, None, None, "ann", record["id"], record["v"])
            yield Fed("thing", str(position), row, name={"id": key}, changed_by="ann")

    def acknowledge(self, store: Store, position: str) -> None:
        self.acknowledged.append(position)


@pytest.fixture
def accessor() -> FeedAccessor:
    return FeedAccessor()


@pytest.fixture
def store(accessor: FeedAccessor) -> Store:
    return Store("fed", "memory:", places={"thing": PlaceSpec()}, accessor=accessor, max_deletes=1)


@pytest.fixture
def synchronizer(store: Store, tmp_path: Path) -> Iterator[Synchronizer]:
    with Synchronizer([store], [THING], tmp_path / "evsync.db") as made:
        yield made


def test_a_feed_may_tell_more_than_fits_into_memory(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "RUN", 2)
    synchronizer.ingest()
    for number in range(7):
        accessor.put(store, {"id": str(number % 3), "v": str(number)})
    assert counts(synchronizer.ingest()) == {"created": 3, "updated": 4}
    assert [event["after"]["v"] for event in synchronizer.log()] == [str(number) for number in range(7)]


def counts(report: Any) -> dict[str, int]:
    return {name: value for name, value in report["stores"][0].items() if isinstance(value, int) and value}


def test_the_first_ingest_scans_and_the_next_follows_the_feed(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    assert counts(synchronizer.ingest()) == {"created": 1}
    scans = accessor.scans
    accessor.put(store, {"id": "b", "v": "1"})
    assert counts(synchronizer.ingest()) == {"created": 1}
    assert accessor.scans == scans


def test_every_step_is_journalled_with_its_actor(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    synchronizer.ingest()
    for value in ("2", "3"):
        accessor.put(store, {"id": "a", "v": value})
    accessor.drop(store, "a")
    assert counts(synchronizer.ingest()) == {"updated": 2, "deleted": 1}
    told = [
        (event["op"], event["after"] and event["after"]["v"], event["actor"]) for event in synchronizer.log()
    ]
    assert told == [
        ("create", "1", None),
        ("update", "2", "ann"),
        ("update", "3", "ann"),
        ("delete", None, "ann"),
    ]


def test_a_change_between_asking_for_the_position_and_the_scan_is_journalled_once(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    monkeypatch.setattr(accessor, "position", lambda store, type: "0")
    synchronizer.ingest()
    assert counts(synchronizer.ingest()) == {"unchanged": 1}
    assert len(list(synchronizer.log())) == 1


def test_the_position_is_saved_with_the_events_and_acknowledged_behind_them(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    synchronizer.ingest()
    accessor.put(store, {"id": "b", "v": "1"})

    def die(*_: Any) -> None:
        raise RuntimeError("killed before the acknowledgement")

    with monkeypatch.context() as patch:
        patch.setattr(accessor, "acknowledge", die)
        with pytest.raises(RuntimeError):
            synchronizer.ingest()
    assert counts(synchronizer.ingest()) == {}
    assert accessor.acknowledged == ["2"]
    assert [event["key"] for event in synchronizer.log()] == ["a", "b"]


def test_a_dry_run_follows_nothing(synchronizer: Synchronizer, store: Store, accessor: FeedAccessor) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    synchronizer.ingest()
    accessor.put(store, {"id": "b", "v": "1"})
    assert counts(synchronizer.ingest(dry_run=True)) == {"created": 1}
    assert accessor.acknowledged == []
    assert counts(synchronizer.ingest()) == {"created": 1}


def test_deletes_from_a_feed_are_guarded_too(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    for key in "abc":
        accessor.put(store, {"id": key, "v": "1"})
    synchronizer.ingest()
    for key in "ab":
        accessor.drop(store, key)
    with pytest.raises(GuardTripped, match="2 of 3 known records are gone"):
        synchronizer.ingest()
    assert len(list(synchronizer.log())) == 3
    assert counts(synchronizer.ingest(allow_deletes=True)) == {"deleted": 2}


def test_a_feed_that_does_not_reach_back_is_said_and_nothing_is_guessed(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    accessor.put(store, {"id": "a", "v": "1"})
    synchronizer.ingest()
    accessor.forgotten = 5
    report = synchronizer.ingest()
    assert (report.exit_code, report["ok"]) == (3, False)
    assert "begins later" in report["stores"][0]["error"]


def test_a_bad_row_in_a_feed_is_quarantined_and_the_others_flow(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    synchronizer.ingest()
    accessor.put(store, {"id": "a", "v": 1.5})
    accessor.put(store, {"id": "b", "v": "1"})
    assert counts(synchronizer.ingest()) == {"created": 1, "quarantined": 1}


def test_a_record_deleted_and_created_again_is_a_deletion_and_a_creation(
    synchronizer: Synchronizer, store: Store, accessor: FeedAccessor
) -> None:
    accessor.put(store, {"id": "a", "v": 1})
    synchronizer.ingest()
    accessor.drop(store, "a")
    accessor.put(store, {"id": "a", "v": 9})
    assert counts(synchronizer.ingest()) == {"created": 1, "deleted": 1}
    assert [event["op"] for event in synchronizer.log("thing", "a")] == ["create", "delete", "create"]


class NumberedFeed(FeedAccessor):
    """The same by ids of its own: a record is `nr`, and known by what stands in its key."""

    def changes(self, store: Store, since: Mapping[str, str], until: str | None = None) -> Iterator[Fed]:
        for position, record, key in self.feed[int(since["thing"]) :]:
            row = None if record is None else (7, None, None, "ann", record["id"], record["v"])
            yield Fed("thing", str(position), row, id=7, name={"id": key}, changed_by="ann")


def test_an_id_that_a_feed_shows_dealt_out_again_is_another_record(tmp_path: Path) -> None:
    accessor = NumberedFeed()
    store = Store("fed", "memory:", places={"thing": PlaceSpec()}, accessor=accessor)
    with Synchronizer([store], [THING], tmp_path / "evsync.db") as synchronizer:
        synchronizer.ingest()
        accessor.put(store, {"id": "a", "v": 1})
        assert counts(synchronizer.ingest()) == {"created": 1}
        accessor.drop(store, "a")
        accessor.put(store, {"id": "b", "v": 2})
        accessor.put(store, {"id": "c", "v": 3})  # here the feed itself says that it is an edit
        assert counts(synchronizer.ingest(allow_deletes=True)) == {"created": 1, "deleted": 1, "updated": 1}
        assert [(event["op"], event["key"]) for event in synchronizer.log()] == [
            ("create", "a"), ("delete", "a"), ("create", "b"), ("update", "b"),
        ]  # fmt: skip
