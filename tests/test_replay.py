"""Replay: what is written into the stores of what the journal says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from projects import (
    FIELDS,
    KINDS,
    Row,
    at_rest,
    canonical,
    content,
    did,
    dump,
    entry,
    events,
    head,
    held,
    last,
    make,
    memory,
    put,
    rows,
    sql,
    synchronizer,
    together,
)

from accessors.memory import MemoryAccessor
from evsync import Data, Store, Synchronizer
from evsync.binding import PlaceSpec, TypeSpec
from evsync.errors import GuardTripped, Refused, Unreachable, UsageError
from evsync.projections.merge import Rules
from evsync.report import exit_code

ANN: Row = {"id": "ann", "name": "Ann", "n": 1}
BEN: Row = {"id": "ben", "name": "Ben", "n": 2}
CEM: Row = {"id": "cem", "name": "Cem", "n": 3}
NOTHING = {"created": 0, "updated": 0, "deleted": 0, "skipped": 0, "failed": 0}


class Recording(MemoryAccessor):
    """Keeps what it was asked to write; refuses or breaks off where it is told to."""

    def __init__(self) -> None:
        self.written: list[tuple[str, Any]] = []
        self.refuse: set[Any] = set()
        self.cut: set[Any] = set()

    def _wrote(self, what: str, store: Store, data: Data) -> None:
        id = data.fields.get("id", data.id)
        if id in self.refuse:
            raise Refused(f"{id} is not wanted here")
        if id in self.cut:
            raise Unreachable("the connection was cut")
        self.written.append((what, {**data.fields} if what != "remove" else id))

    def add(self, store: Store, data: Data) -> Data:
        self._wrote("add", store, data)
        return super().add(store, data)

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        self._wrote("update", store, Data(data.type, {"id": (old or data).fields["id"], **data.fields}))
        return super().update(store, data, old)

    def remove(self, store: Store, data: Data) -> None:
        self._wrote("remove", store, data)
        super().remove(store, data)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def recording() -> Iterator[tuple[Synchronizer, Store, Store, Recording]]:
    """A source with Ann and Ben, and a store that records what it is given; both in step."""
    accessor = Recording()
    one, other = memory("one", ANN, BEN), memory("other", accessor=accessor)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        accessor.written.clear()
        yield sync, one, other, accessor


# -- counts and documents -------------------------------------------------------------------------------


def test_a_store_gets_what_it_lacks_and_then_nothing_more(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN, CEM), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        report = sync.replay(["other"])
        assert report == {
            "command": "replay", "ok": True, "dry_run": False, "run": 2,
            "stores": [{"store": "other", **NOTHING, "created": 3, "cursor": 3, "head": 3, "error": None}],
        }  # fmt: skip
        assert exit_code(report) == 0
        assert content(other) == [ANN, BEN, CEM]
        assert did(sync.replay(), "other") == did(sync.replay(), "one") == {}
        assert did(sync.ingest(), "other") == {"unchanged": 3}  # no echo
        assert head(sync) == 3


def test_creates_updates_and_deletes_follow(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "n": None, "name": "Anna"}, CEM)
        sync.ingest(["one"])
        assert did(sync.replay(["other"]), "other") == {"created": 1, "updated": 1, "deleted": 1}
        assert content(other) == [{"id": "ann", "name": "Anna", "n": None}, CEM]
        assert did(sync.ingest(), "other") == {"unchanged": 2}
        assert sync.status()["stores"][1] | {"last_ingest": None, "last_replay": None} == {
            "store": "other", "role": "both", "cursor": 5, "behind": 0, "conflicts": 0, "failures": 0, "quarantined": 0,
            "last_ingest": None, "last_replay": None,
        }  # fmt: skip


def test_a_change_never_returns_to_where_it_came_from(recording: Any) -> None:
    sync, _, other, accessor = recording
    put(other, {**ANN, "n": 5}, BEN, CEM)
    sync.ingest()
    assert did(sync.replay(), "other") == {}
    assert accessor.written == []
    assert did(sync.replay(), "one") == {}


def test_only_the_fields_that_differ_are_written(recording: Any) -> None:
    sync, one, _, accessor = recording
    put(one, {**ANN, "n": 5}, BEN)
    sync.sync()
    assert accessor.written == [("update", {"id": "ann", "n": 5})]


def test_a_store_gets_only_the_fields_that_it_maps(tmp_path: Path) -> None:
    (tmp_path / "mail.csv").write_text("id,full name,own\nzoe,Zoe,kept\n")
    place = PlaceSpec(fields={"name": "full name"})
    mail = Store("mail", "csv:mail.csv", places={"thing": place}, root=tmp_path)
    with together(memory("one", ANN), mail, fields=FIELDS) as sync:
        sync.sync()
        assert (tmp_path / "mail.csv").read_text() == "id,full name,own\nzoe,Zoe,kept\nann,Ann,\n"
        assert canonical(sync, "zoe") == {"id": "zoe", "name": "Zoe"}


def test_edits_in_both_meet_in_both(kind: str, tmp_path: Path) -> None:
    one, other = make(kind, "one", tmp_path, ANN, BEN), memory("other")
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "name": "Anna"}, BEN)
        put(other, {**ANN, "n": 5}, {**BEN, "n": 7}, CEM)
        report = sync.sync()
        assert report["ok"]
        assert content(one) == content(other) == [{"id": "ann", "name": "Anna", "n": 5}, {**BEN, "n": 7}, CEM]
        before = head(sync)
        again = sync.sync()
        assert did(again["ingest"], "one") == did(again["ingest"], "other") == {"unchanged": 3}
        assert did(again["replay"], "one") == did(again["replay"], "other") == {}
        assert head(sync) == before


def test_a_deletion_that_lost_to_an_edit_is_undone(kind: str, tmp_path: Path) -> None:
    one, other = make(kind, "one", tmp_path, ANN, BEN), memory("other")
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, BEN)
        put(other, {**ANN, "n": 5}, BEN)
        sync.ingest(["other"])
        assert did(sync.ingest(["one"]), "one") == {"deleted": 1, "conflicts": 1, "unchanged": 1}
        assert did(sync.replay(), "one") == {"created": 1}
        assert content(one) == content(other) == [{**ANN, "n": 5}, BEN]


def test_what_is_open_is_left_alone_in_the_store_that_has_to_wait() -> None:
    one, other = memory("one", ANN), memory("other")
    with together(one, other, fields=FIELDS, rules={"thing": Rules(fields="manual")}) as sync:
        sync.sync()
        put(one, {**ANN, "n": 5})
        put(other, {**ANN, "n": 7, "name": "Anna"})
        report = sync.sync()
        assert exit_code(report) == 4
        assert rows(one) == [{**ANN, "n": 5, "name": "Anna"}]
        assert rows(other) == [{**ANN, "n": 7, "name": "Anna"}]
        put(one, {**ANN, "n": 6, "name": "Anna"}, BEN)
        sync.sync()  # everything else flows on
        assert rows(other) == [{**ANN, "n": 7, "name": "Anna"}, BEN]


# -- coalesced, or each ---------------------------------------------------------------------------------


def three_versions(sync: Synchronizer, one: Store) -> None:
    for n in (5, 6, 7):
        put(one, {**ANN, "n": n}, BEN)
        sync.ingest(["one"])


def test_many_changes_of_a_record_are_one_write(recording: Any) -> None:
    sync, one, _, accessor = recording
    three_versions(sync, one)
    assert did(sync.replay(), "other") == {"updated": 1}
    assert accessor.written == [("update", {"id": "ann", "n": 7})]


def test_each_replays_every_step(recording: Any) -> None:
    sync, one, other, accessor = recording
    three_versions(sync, one)
    report = sync.replay(each=True)
    assert did(report, "other") == {"updated": 3}
    assert accessor.written == [("update", {"id": "ann", "n": n}) for n in (5, 6, 7)]
    assert entry(report, "other")["cursor"] == head(sync)
    assert rows(other) == rows(one)


def test_each_creates_what_was_deleted_later(recording: Any) -> None:
    sync, one, _, accessor = recording
    for records in ([ANN, BEN, CEM], [ANN, BEN]):
        put(one, *records)
        sync.ingest(["one"])
    assert did(sync.replay(each=True), "other") == {"created": 1, "deleted": 1}
    assert accessor.written == [("add", CEM), ("remove", "cem")]


def test_what_came_and_went_meanwhile_is_not_written_otherwise(recording: Any) -> None:
    sync, one, _, accessor = recording
    for records in ([ANN, BEN, CEM], [ANN, BEN]):
        put(one, *records)
        sync.ingest(["one"])
    assert did(sync.replay(), "other") == {}
    assert accessor.written == []


# -- then and now ---------------------------------------------------------------------------------------


def history(kind: str, folder: Path, noon: Any) -> Synchronizer:
    """Events 1 and 2 at noon, 3 a minute later, 4 and 5 two minutes later; `other` has seen nothing."""
    one, other = memory("one", ANN, BEN), make(kind, "other", folder, role="target")
    sync = together(one, other, fields=FIELDS)
    sync.ingest()
    noon.tick(60)
    put(one, {**ANN, "n": 5}, BEN)
    sync.ingest()
    noon.tick(60)
    put(one, {**ANN, "n": 5}, CEM)
    sync.ingest()
    return sync


@pytest.mark.parametrize(
    ("until", "cursor", "expected"),
    [
        (0, 0, []),
        (1, 1, [ANN]),
        ("2", 2, [ANN, BEN]),
        (3, 3, [{**ANN, "n": 5}, BEN]),
        ("2026-01-31T11:59:59Z", 0, []),
        ("2026-01-31T12:00:59Z", 2, [ANN, BEN]),
        ("2026-01-31T12:01:00Z", 3, [{**ANN, "n": 5}, BEN]),
        (999, 5, [{**ANN, "n": 5}, CEM]),
        (None, 5, [{**ANN, "n": 5}, CEM]),
    ],
)
def test_a_store_can_be_brought_to_any_moment_and_forward_again(
    kind: str, tmp_path: Path, noon: Any, until: Any, cursor: int, expected: list[Row]
) -> None:
    with history(kind, tmp_path, noon) as sync:
        other = sync.stores["other"]
        report = sync.replay(until=until)
        assert content(other) == expected
        assert entry(report, "other")["cursor"] == cursor
        sync.replay()
        assert content(other) == [{**ANN, "n": 5}, CEM]
        sync.replay(until=until)
        assert content(other) == expected
        assert did(sync.replay(until=until), "other") == {}


def test_a_position_that_is_none_is_a_mistake(recording: Any) -> None:
    sync, *_ = recording
    with pytest.raises(UsageError, match="neither a position nor a time"):
        sync.replay(until="last week")


# -- rebuild --------------------------------------------------------------------------------------------


TWO_TYPES = """
[types.a]
key = ["id"]
[types.b]
key = ["id"]
[stores.one]
url = "sqlite:one.db"
[stores.one.types.a]
[stores.one.types.b]
[stores.copy]
url = "sqlite:copy.db"
role = "target"
[stores.copy.types.a]
[stores.copy.types.b]
"""


def test_a_rebuild_mends_each_of_several_types(tmp_path: Path) -> None:
    for type in "ab":
        sql(tmp_path / "one.db", f"CREATE TABLE {type} (id text PRIMARY KEY, v text)")
        sql(tmp_path / "one.db", f"INSERT INTO {type} VALUES ('1', 'x'), ('2', 'y')")
    with synchronizer(tmp_path, TWO_TYPES) as sync:
        sync.sync()
        assert entry(sync.replay(["copy"], rebuild=True, dry_run=True), "copy")["plan"] == []
        for type in "ab":
            sql(tmp_path / "copy.db", f"INSERT INTO {type} VALUES ('3', 'too much')")
        plan = entry(sync.replay(["copy"], rebuild=True, dry_run=True), "copy")["plan"]
        assert [(step["action"], step["type"], step["key"]) for step in plan] == [
            ("delete", "b", "3"), ("delete", "a", "3"),
        ]  # fmt: skip
        assert did(sync.replay(["copy"], rebuild=True), "copy") == {"deleted": 2}
        for type in "ab":
            assert sql(tmp_path / "copy.db", f"SELECT count(*) FROM {type}") == [(2,)]


def test_a_new_record_takes_the_key_that_another_one_gives_up(tmp_path: Path) -> None:
    config = """
[types.t]
key = ["k"]
[stores.one]
url = "sqlite:one.db"
[stores.one.types.t]
[stores.copy]
url = "sqlite:copy.db"
[stores.copy.types.t]
[stores.list]
url = "jsonl:list.jsonl"
[stores.list.types.t]
"""
    one = tmp_path / "one.db"
    sql(one, "CREATE TABLE t (id integer PRIMARY KEY, k text UNIQUE NOT NULL, v text)")
    sql(one, "INSERT INTO t VALUES (4, 'k4', 'd')")
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        sql(one, "UPDATE t SET k = 'k3'")
        sync.sync()
        sql(one, "UPDATE t SET k = 'k4'")
        sql(one, "INSERT INTO t VALUES (1, 'k3', 'new')")
        report = sync.sync()
        for store in ("copy", "list"):
            assert did(report["replay"], store) == {"created": 1, "updated": 1}
        assert sql(tmp_path / "copy.db", "SELECT k, v FROM t ORDER BY k") == [("k3", "new"), ("k4", "d")]
        assert at_rest(sync)
        sql(one, "INSERT INTO t VALUES (9, 'k9', 'never there')")
        sync.ingest(["one"])
        sql(one, "UPDATE t SET k = 'k5' WHERE id = 1")
        sql(one, "UPDATE t SET k = 'k3' WHERE id = 9")
        report = sync.sync()
        for store in ("copy", "list"):
            assert did(report["replay"], store) == {"created": 1, "updated": 1}
        assert at_rest(sync)


def test_a_rebuild_mends_what_drifted(kind: str, tmp_path: Path) -> None:
    one, target = memory("one", ANN, BEN, CEM), make(kind, "target", tmp_path, role="target")
    with together(one, target, fields=FIELDS) as sync:
        sync.sync()
        put(target, {**ANN, "n": 9}, BEN, {"id": "dan", "name": "Dan", "n": 4})
        assert did(sync.sync()["replay"], "target") == {}  # nobody looked
        assert {(d["key"], d["kind"]) for d in sync.diff("target")["differences"]} == {
            ("ann", "different"), ("cem", "missing"), ("dan", "extra"),
        }  # fmt: skip
        report = sync.replay(["target"], rebuild=True)
        assert did(report, "target") == {"created": 1, "updated": 1, "deleted": 1}
        assert content(target) == [ANN, BEN, CEM]
        assert sync.diff("target")["differences"] == []
        assert did(sync.replay(["target"], rebuild=True), "target") == {}
        put(one, {**ANN, "n": 5}, BEN, CEM)
        assert did(sync.sync()["replay"], "target") == {"updated": 1}


def test_a_rebuild_fills_a_store_that_was_lost(kind: str, tmp_path: Path) -> None:
    one, target = memory("one", ANN, BEN), make(kind, "target", tmp_path, role="target")
    with together(one, target, fields=FIELDS) as sync:
        sync.sync()
        put(target)
        assert did(sync.replay(["target"], rebuild=True), "target") == {"created": 2}
        assert content(target) == [ANN, BEN]


def test_a_rebuild_that_would_delete_too_much_is_stopped_before_it_writes(kind: str, tmp_path: Path) -> None:
    strangers = [{"id": f"x{number}", "name": "x", "n": number} for number in range(5)]
    one, target = memory("one", ANN), make(kind, "target", tmp_path, *strangers, role="target")
    with together(one, target, fields=FIELDS) as sync:
        sync.ingest()
        with pytest.raises(GuardTripped, match="a rebuild would delete 5 of its 5 records"):
            sync.replay(["target"], rebuild=True)
        assert content(target) == strangers
        assert did(sync.replay(["target"], rebuild=True, allow_deletes=True), "target") == {
            "created": 1,
            "deleted": 5,
        }
        assert content(target) == [ANN]


# -- stores that are not there yet ----------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite:new.db", "csv:new.csv", "json:new.json", "jsonl:new.jsonl"])
def test_a_store_that_was_created_keeps_the_fields_that_no_record_has_so_far(
    tmp_path: Path, url: str
) -> None:
    new = Store("new", url, places={"thing": PlaceSpec()}, root=tmp_path)
    one = memory("one", {"id": "ann", "n": 1})
    for records in ([{"id": "ann", "n": 1}], [{"id": "ann", "n": 1}, BEN], [{"id": "ann", "n": 1}]):
        put(one, *records)
        with together(one, new, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
            assert sync.sync()["ok"]
            assert [found["id"] for found in content(new)] == [record["id"] for record in records]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:new.db", {"table": "things"}),
        ("csv:new.csv", {}),
        ("json:new.json", {}),
        ("jsonl:new.jsonl", {}),
    ],
)
def test_a_target_that_is_missing_is_created(tmp_path: Path, url: str, place: dict[str, Any]) -> None:
    new = Store(
        "new", url, places={"thing": PlaceSpec(fields={"name": "label"}, options=place)}, root=tmp_path
    )
    path = tmp_path / "evsync.db"
    with together(memory("one", ANN, BEN), new, fields=FIELDS, journal=path) as sync:
        report = sync.sync()
        assert did(report["ingest"], "new") == {}
        assert did(report["replay"], "new") == {"created": 2}
        assert new.path.is_file()
    with together(memory("one", ANN, BEN), new, fields=FIELDS, journal=path) as sync:
        assert content(new) == [ANN, BEN]
        assert did(sync.sync()["ingest"], "new") == {"unchanged": 2}


def test_where_there_is_nothing_to_write_nothing_is_created(tmp_path: Path) -> None:
    new = Store("new", "csv:new.csv", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(memory("one"), new, fields=FIELDS) as sync:
        assert sync.sync()["ok"]
        assert not new.path.exists()


def test_a_store_that_vanished_is_not_filled_anew_without_being_told(tmp_path: Path) -> None:
    one, other = memory("one", ANN), make("csv", "other", tmp_path)
    path = tmp_path / "evsync.db"
    with together(one, other, fields=FIELDS, journal=path) as sync:
        sync.sync()
    other.path.unlink()
    put(one, {**ANN, "n": 5})
    with together(one, other, fields=FIELDS, journal=path) as sync:
        sync.ingest(["one"])
        report = sync.replay(["other"])
        assert "is not there any more; it held 1 records" in entry(report, "other")["error"]
        assert exit_code(report) == 3
        assert not other.path.exists()
        assert did(sync.replay(["other"], rebuild=True), "other") == {"created": 1}
        assert content(other) == [{**ANN, "n": 5}]


# -- lost updates ---------------------------------------------------------------------------------------


def test_a_record_that_changed_since_its_ingest_is_left_alone(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "n": 5}, {**BEN, "n": 6})
        sync.ingest(["one"])
        put(other, {**ANN, "n": 7}, BEN)
        assert did(sync.replay(["other"]), "other") == {"skipped": 1, "updated": 1}
        assert content(other) == [{**ANN, "n": 7}, {**BEN, "n": 6}]
        assert did(sync.replay(["other"]), "other") == {"skipped": 1}  # not forgotten
        assert did(sync.ingest(["other"]), "other") == {"updated": 1, "conflicts": 1, "unchanged": 1}
        assert last(sync)["conflict"]["fields"]["n"] == {"base": 1, "theirs": 5, "mine": 7, "chosen": 7}
        sync.replay()
        assert rows(one) == content(other) == [{**ANN, "n": 7}, {**BEN, "n": 6}]


def test_a_record_that_was_removed_or_came_up_meanwhile_is_left_alone(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "n": 5}, BEN, CEM)
        sync.ingest(["one"])
        put(other, BEN, {**CEM, "n": 9})
        assert did(sync.replay(["other"]), "other") == {"skipped": 2}
        assert content(other) == [BEN, {**CEM, "n": 9}]
        sync.ingest(["other"])
        sync.replay()
        # the edit wins over the deletion; what is in the journal first stays
        assert rows(one) == content(other) == [{**ANN, "n": 5}, BEN, CEM]


def test_a_record_to_be_deleted_that_changed_meanwhile_is_left_alone(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, BEN)
        sync.ingest(["one"])
        put(other, {**ANN, "n": 7}, BEN)
        assert did(sync.replay(["other"]), "other") == {"skipped": 1}
        sync.ingest(["other"])
        sync.replay()
        assert rows(one) == content(other) == [{**ANN, "n": 7}, BEN]


def test_a_record_that_was_brought_to_the_same_by_hand_is_done(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "n": 5}, CEM)
        sync.ingest(["one"])
        put(other, {**ANN, "n": 5}, CEM)
        assert did(sync.replay(["other"]), "other") == {}
        assert did(sync.ingest(["other"]), "other") == {"unchanged": 2}
        assert head(sync) == 5


# -- failures -------------------------------------------------------------------------------------------


def test_a_record_that_is_refused_stops_no_other_and_is_tried_again_later(tmp_path: Path, noon: Any) -> None:
    sql(tmp_path / "other.db", "create table thing (id text primary key, name text unique, n int)")
    one = memory("one", ANN, {**BEN, "name": "Ann"}, CEM)
    other = Store("other", "sqlite:other.db", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        report = sync.replay(["other"])
        assert did(report, "other") == {"created": 2, "failed": 1}
        assert (report["ok"], exit_code(report)) == (True, 4)
        assert entry(report, "other")["cursor"] == 3
        assert content(other) == [ANN, CEM]
        ((key, action, error, state),) = failures(sync)
        assert (key, action, state) == ("ben", "create", "refused")
        assert "UNIQUE" in error
        assert sync.status()["stores"][1]["failures"] == 1
        # too early: it is not even tried
        assert did(sync.replay(["other"]), "other") == {}
        sql(tmp_path / "other.db", "update thing set name = 'Anna' where id = 'ann'")
        noon.tick(86_400)
        assert did(sync.replay(["other"]), "other") == {"created": 1}
        assert failures(sync) == []
        assert content(other)[1] == {**BEN, "name": "Ann"}


def failures(sync: Synchronizer) -> list[tuple[Any, ...]]:
    return (
        sync.journal()
        .connection.execute("select key, action, error, state from failure order by key")
        .fetchall()
    )


def test_a_record_that_fails_again_waits_longer_each_time(recording: Any) -> None:
    sync, one, _, accessor = recording
    db = sync.journal().connection
    accessor.refuse.add("cem")
    put(one, ANN, BEN, CEM)
    with freeze_time("2036-01-31T12:00:00Z") as clock:
        sync.ingest(["one"])
        assert did(sync.replay(["other"]), "other") == {"failed": 1}
        attempts, first = db.execute("select attempts, next_try from failure").fetchone()
        clock.tick(86_400)
        assert did(sync.replay(["other"]), "other") == {"failed": 1}
        again, second = db.execute("select attempts, next_try from failure").fetchone()
        assert again > attempts
        assert second - first > 86_400_000_000


def test_a_change_of_a_failing_record_is_written_in_its_newest_form(recording: Any) -> None:
    sync, one, other, accessor = recording
    accessor.refuse.add("cem")
    put(one, ANN, BEN, CEM)
    sync.ingest(["one"])
    sync.replay()
    accessor.refuse.clear()
    put(one, ANN, BEN, {**CEM, "n": 9})
    sync.ingest(["one"])
    assert did(sync.replay(), "other") == {"created": 1}
    assert rows(other)[2] == {**CEM, "n": 9}
    assert failures(sync) == []


def test_a_failing_record_that_is_deleted_everywhere_is_forgotten(recording: Any) -> None:
    sync, one, _, accessor = recording
    accessor.refuse.add("cem")
    put(one, ANN, BEN, CEM)
    sync.ingest(["one"])
    sync.replay()
    put(one, ANN, BEN)
    sync.ingest(["one"])
    assert did(sync.replay(), "other") == {}
    assert failures(sync) == []


def test_what_failed_for_the_others_is_tried_once_more_after_them(tmp_path: Path) -> None:
    """Two records swap a value that has to be unique; whichever comes first has to wait for the other."""
    sql(tmp_path / "other.db", "create table thing (id text primary key, name text unique, n int)")
    one = memory("one", {**ANN, "name": "x"}, {**BEN, "name": "y"})
    other = Store("other", "sqlite:other.db", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        put(one, {**ANN, "name": "y"}, {**BEN, "name": "z"})
        sync.ingest(["one"])
        assert did(sync.replay(["other"]), "other") == {"updated": 2}
        assert failures(sync) == []


class MindsNoCase(MemoryAccessor):
    """As a column of MySQL's, mostly, or citext."""

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        wanted = str(name["id"]).lower()
        return next((data for data in self.find(store, type) if data.fields["id"].lower() == wanted), None)


def test_a_key_that_is_another_records_to_the_store_is_told_and_takes_its_place_later(noon: Any) -> None:
    left = memory("left", {"id": "ann", "n": 1}, {"id": "Ann", "n": 2})
    right = memory("right", accessor=MindsNoCase())
    with together(left, right) as sync:
        assert did(sync.sync()["replay"], "right") == {"created": 1, "failed": 1}
        [failure] = sync.failures("right")
        assert "the store holds the record 'Ann', and 'ann' is the same key to it" in failure["error"]
        assert at_rest(sync)
        del held(left)[("Ann",)]
        noon.tick(86_400)
        assert did(sync.sync(allow_deletes=True)["replay"], "right") == {"created": 1, "deleted": 1}
        assert rows(right) == [{"id": "ann", "n": 1}]
        assert at_rest(sync)


def test_strict_makes_a_run_fail_with_its_records(recording: Any) -> None:
    sync, one, _, accessor = recording
    accessor.refuse.add("cem")
    put(one, ANN, BEN, CEM)
    sync.ingest(["one"])
    report = sync.replay(strict=True)
    assert did(report, "other") == {"failed": 1}
    assert (report["ok"], exit_code(report)) == (False, 1)


def test_a_store_that_breaks_off_keeps_its_cursor_and_stops_no_other() -> None:
    accessor = Recording()
    accessor.cut.add("ben")
    one, other, third = memory("one", ANN, BEN, CEM), memory("other", accessor=accessor), memory("third")
    with together(one, other, third, fields=FIELDS) as sync:
        sync.ingest()
        report = sync.replay()
        assert entry(report, "other")["error"] == "the connection was cut"
        assert entry(report, "other")["cursor"] == 0
        assert did(report, "third") == {"created": 3}
        assert (report["ok"], exit_code(report)) == (False, 3)
        accessor.cut.clear()
        sync.replay()
        assert rows(other) == rows(one)
        assert did(sync.ingest(), "other") == {"unchanged": 3}
        assert head(sync) == 3


def test_a_record_written_before_the_break_is_not_taken_for_the_stores_own_change() -> None:
    accessor = Recording()
    accessor.cut.add("cem")
    one, other = memory("one", ANN, BEN, CEM), memory("other", accessor=accessor)
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        sync.replay()
        assert rows(other) == [ANN, BEN]
        assert did(sync.ingest(), "other") == {"unchanged": 2}
        assert head(sync) == 3


# -- roles ----------------------------------------------------------------------------------------------


def test_a_source_is_never_written() -> None:
    source, other = memory("source", ANN, role="source"), memory("other", BEN)
    with together(source, other, fields=FIELDS) as sync:
        report = sync.sync()
        assert [one["store"] for one in report["replay"]["stores"]] == ["other"]
        assert rows(source) == [ANN]
        assert rows(other) == [ANN, BEN]
        assert sync.status()["stores"][0]["behind"] == 0
        with pytest.raises(UsageError, match="cannot replay store 'source'"):
            sync.replay(["source"])


def test_what_a_target_holds_otherwise_is_left_until_it_is_rebuilt() -> None:
    target = memory("target", {**ANN, "n": 9}, role="target")
    with together(memory("one", ANN), target, fields=FIELDS) as sync:
        sync.ingest()
        assert did(sync.replay(), "target") == {"skipped": 1}
        assert did(sync.replay(rebuild=True), "one") == {}
        assert rows(target) == [ANN]


def test_another_mapping_stops_a_replay_before_it_writes(tmp_path: Path) -> None:
    def linked(n: int, **place: Any) -> Synchronizer:
        one = memory("one", {**ANN, "n": n})
        other = memory("other", {"id": "ann", "name": "Ann", "n": 1, "nick": "A"}, place=PlaceSpec(**place))
        return together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db")

    with linked(1) as sync:
        sync.sync()
    with linked(2, fields={"name": "nick"}) as sync:
        sync.ingest(["one"])
        with pytest.raises(
            GuardTripped, match=r"field 'name' was 'name' \(str\), now 'nick' \(str\)"
        ) as caught:
            sync.replay()
        assert caught.value.hint.endswith("evsync ingest other --allow-mapping")
        assert rows(sync.stores["other"]) == [{"id": "ann", "name": "Ann", "n": 1, "nick": "A"}]


# -- a dry run ------------------------------------------------------------------------------------------


def test_a_dry_run_plans_what_the_run_does_and_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    one, other = memory("one", ANN, BEN), make(kind, "other", tmp_path)
    with together(one, other, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
        sync.sync()
        put(one, {**ANN, "n": 5}, CEM)
        sync.ingest(["one"])
        before, held_before = dump(sync), content(other)
        plan = sync.replay(dry_run=True)
        assert dump(sync) == before
        assert content(other) == held_before
        assert (plan["dry_run"], plan["run"]) == (True, None)
        assert entry(plan, "other")["plan"] == [
            {"action": "update", "type": "thing", "key": "ann", "seq": 3, "fields": ["n"]},
            {"action": "create", "type": "thing", "key": "cem", "seq": 5, "fields": ["id", "n", "name"]},
            {"action": "delete", "type": "thing", "key": "ben", "seq": 4, "fields": ["id", "n", "name"]},
        ]
        assert entry(plan, "one")["plan"] == []
        report = sync.replay()
        assert did(report, "other") == did(plan, "other") == {"created": 1, "updated": 1, "deleted": 1}
        assert entry(sync.replay(dry_run=True), "other")["plan"] == []


def test_a_dry_run_of_a_first_replay_creates_nothing(tmp_path: Path) -> None:
    new = Store("new", "csv:new.csv", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(memory("one", ANN), new, fields=FIELDS) as sync:
        sync.ingest()
        assert did(sync.replay(dry_run=True), "new") == {"created": 1}
        assert not new.path.exists()


def test_the_plan_writes_the_very_records_that_the_run_writes(recording: Any) -> None:
    sync, one, _, accessor = recording
    put(one, {**BEN, "name": None}, CEM, {"id": "dan"})
    sync.ingest(["one"], allow_deletes=True)
    plan = entry(sync.replay(["other"], dry_run=True), "other")["plan"]
    assert accessor.written == []
    sync.replay(["other"])
    names = {"add": "create", "update": "update", "remove": "delete"}
    done = {(names[what], told if what == "remove" else told["id"]) for what, told in accessor.written}
    assert done == {(step["action"], step["key"]) for step in plan}


# -- ids of the store's own -----------------------------------------------------------------------------


@pytest.fixture
def numbered(tmp_path: Path) -> Iterator[Synchronizer]:
    """A store in memory, and one in SQLite that deals out ids; both hold Ann and Ben."""
    sql(tmp_path / "other.db", "create table thing (nr integer primary key, id text, name text, n int)")
    sql(tmp_path / "other.db", "insert into thing values (40, 'old', 'Old', 0)")
    other = Store("other", "sqlite:other.db", places={"thing": PlaceSpec()}, root=tmp_path)
    with together(memory("one", ANN, BEN), other, fields=FIELDS) as sync:
        sync.sync()
        yield sync


def table(sync: Synchronizer) -> list[tuple[Any, ...]]:
    return sql(sync.stores["other"].path, "select nr, id, n from thing order by nr")


def test_the_ids_that_a_store_deals_out_are_remembered(numbered: Synchronizer) -> None:
    assert table(numbered) == [(40, "old", 0), (41, "ann", 1), (42, "ben", 2)]
    told = numbered.show("thing", "ben")["replicas"]
    assert [(replica["store"], replica["id"], replica["in_step"]) for replica in told] == [
        ("one", "ben", True),
        ("other", 42, True),
    ]
    assert did(numbered.ingest(), "other") == {"unchanged": 3}


def test_a_key_edited_in_one_store_is_written_to_the_record_of_that_id_in_the_other(
    numbered: Synchronizer,
) -> None:
    sql(numbered.stores["other"].path, "update thing set id = 'bob' where nr = 42")
    numbered.sync()
    assert rows(numbered.stores["one"])[1] == {**BEN, "id": "bob"}
    report = numbered.sync()
    assert did(report["ingest"], "one") == did(report["ingest"], "other") == {"unchanged": 3}
    assert did(report["replay"], "one") == did(report["replay"], "other") == {}


def test_updates_and_deletes_find_the_record_by_its_id(numbered: Synchronizer) -> None:
    sql(numbered.stores["other"].path, "update thing set id = 'bob' where nr = 42")
    numbered.sync()
    one = numbered.stores["one"]
    next(record for record in held(one).values() if record["id"] == "bob")["n"] = 9
    numbered.sync()
    assert table(numbered)[2] == (42, "bob", 9)
    sql(numbered.stores["other"].path, "update thing set nr = 50 where nr = 41")
    numbered.sync()
    held(one).pop(("ann",))
    numbered.sync()
    assert table(numbered) == [(40, "old", 0), (42, "bob", 9)]


def test_a_create_whose_answer_was_lost_does_not_become_a_duplicate(numbered: Synchronizer) -> None:
    put(numbered.stores["one"], ANN, BEN, CEM, {"id": "old", "name": "Old", "n": 0})
    numbered.ingest(["one"])
    sql(numbered.stores["other"].path, "insert into thing values (77, 'cem', 'Cem', 3)")
    assert did(numbered.replay(["other"]), "other") == {}
    assert [row[1] for row in table(numbered)] == ["old", "ann", "ben", "cem"]
    assert numbered.show("thing", "cem")["replicas"][1]["id"] == 77


# -- references -----------------------------------------------------------------------------------------

FAMILY = """
[types.contact]
key = ["email"]
fields = { email = "str" }
[types.order]
key = ["number"]
fields = { number = "int", customer = "str" }
references = { customer = "contact" }
[stores.one]
url = "sqlite:one.db"
[stores.one.types.contact]
[stores.one.types.order]
[stores.other]
url = "sqlite:other.db"
[stores.other.types.contact]
[stores.other.types.order]
"""


def test_parents_are_written_first_and_deleted_last(tmp_path: Path) -> None:
    for name in ("one.db", "other.db"):
        sql(tmp_path / name, "create table contact (email text primary key)")
        sql(
            tmp_path / name,
            'create table "order" (number integer primary key, customer text references contact)',
        )
    sql(tmp_path / "one.db", "insert into contact values ('ann'), ('ben')")
    sql(tmp_path / "one.db", "insert into \"order\" values (1, 'ann'), (2, 'ben')")
    with synchronizer(tmp_path, FAMILY) as sync:
        assert did(sync.sync()["replay"], "other") == {"created": 4}
        sql(tmp_path / "one.db", 'delete from "order" where number = 2')
        sql(tmp_path / "one.db", "delete from contact where email = 'ben'")
        assert did(sync.sync()["replay"], "other") == {"deleted": 2}
        assert sql(tmp_path / "other.db", 'select * from "order"') == [(1, "ann")]


# -- a store's own way of writing -----------------------------------------------------------------------


def test_what_a_store_makes_of_a_value_is_neither_a_change_nor_written_again(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    sql(path, "create table thing (id text primary key, name text, n int)")
    for when in ("insert", "update"):
        sql(
            path,
            f"create trigger trim_{when} after {when} on thing begin update thing set name = trim(new.name) where id = new.id and name <> trim(new.name); end",
        )
    other = Store("other", "sqlite:other.db", places={"thing": PlaceSpec()}, root=tmp_path)
    one = memory("one", {**ANN, "name": "  Ann "})
    with together(one, other, fields=FIELDS) as sync:
        sync.sync()
        assert content(other) == [ANN]
        for _ in range(2):
            report = sync.sync()
            assert did(report["ingest"], "other") == {"unchanged": 1}
            assert did(report["replay"], "other") == did(report["replay"], "one") == {}
        sql(path, "update thing set n = 5")
        sync.sync()
        assert rows(one) == [{**ANN, "name": "  Ann ", "n": 5}]  # the name is still as it was written
        assert canonical(sync, "ann") == {**ANN, "name": "  Ann ", "n": 5}
        put(one, {**ANN, "name": " Anna ", "n": 5})
        sync.sync()
        assert content(other) == [{**ANN, "name": "Anna", "n": 5}]
        assert rows(one) == [{**ANN, "name": " Anna ", "n": 5}]


def test_values_that_text_can_hold_go_there_and_back(tmp_path: Path) -> None:
    config = """
    [types.thing]
    key = ["id"]
    fields = { id = "str", price = "decimal", at = "datetime", on = "bool", blob = "bytes", r = "float", tree = "json" }
    [stores.one]
    url = "json:one.json"
    [stores.one.types.thing]
    [stores.two]
    url = "csv:two.csv"
    [stores.two.types.thing]
    [stores.three]
    url = "sqlite:three.db"
    [stores.three.types.thing]
    """
    (tmp_path / "one.json").write_text(
        '[{"id": "a", "price": "1.50", "at": "2024-02-29T10:00:00+02:00", "on": true, "blob": "AP8=", "r": 0.1, "tree": {"b": [1, null]}},'
        ' {"id": "b", "price": null, "at": null, "on": null, "blob": null, "r": null, "tree": null}]'
    )
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        sync._bound = None
        report = sync.sync()
        for store in ("one", "two", "three"):
            assert did(report["ingest"], store) == {"unchanged": 2}
            assert did(report["replay"], store) == {}
        assert head(sync) == 2


def test_two_synchronizers_in_a_chain(tmp_path: Path) -> None:
    """What one writes into the store that they share, the other ingests."""
    one, shared, three = memory("one", ANN), memory("shared"), memory("three")
    spec = TypeSpec("thing", ("id",), FIELDS)
    with (
        Synchronizer([one, shared], [spec], None) as left,
        Synchronizer([shared, three], [spec], None) as right,
    ):
        left.sync()
        right.sync()
        assert rows(three) == [ANN]
        put(three, {**ANN, "n": 5})
        right.sync()
        left.sync()
        assert rows(one) == [{**ANN, "n": 5}]
        assert [seq for (seq,) in events(left, "seq")] == [1, 2]


class Forgetful(MemoryAccessor):
    """Finds nothing by name, as a service whose index lags behind."""

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        return None


def test_a_record_that_is_there_all_the_same_is_a_failure_and_no_duplicate() -> None:
    one, other = memory("one", ANN), memory("other", accessor=Forgetful())
    with together(one, other, fields=FIELDS) as sync:
        sync.ingest()
        put(other, {**ANN, "n": 9})
        assert did(sync.replay(["other"]), "other") == {"failed": 1}
        assert rows(other) == [{**ANN, "n": 9}]


def test_a_store_created_without_the_column_that_says_when_still_fits_its_configuration(
    tmp_path: Path,
) -> None:
    new = Store("new", "csv:new.csv", places={"thing": PlaceSpec(changed_at="at")}, root=tmp_path)
    for _ in range(2):
        with together(memory("one", ANN), new, fields=FIELDS, journal=tmp_path / "evsync.db") as sync:
            assert sync.sync()["ok"]
