"""The API of a store: what it does, whom it tells, and what is journalled of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from projects import (
    Row,
    canonical,
    data,
    did,
    head,
    held,
    last,
    memory,
    rows,
    sql,
    synchronizer,
    thing,
    together,
)

from accessors.memory import MemoryAccessor
from evsync import Data, Store, Synchronizer
from evsync.binding import Binding, Field, PlaceSpec, TypeSpec
from evsync.errors import BadValue, ConfigError, JournalError, Refused, UsageError
from evsync.store import Operated

BOUND = Binding(
    "thing", ("id",), (Field("id", "id", "str"), Field("name", "label", "str"), Field("n", "n", "int"))
)
FIELDS = {"id": "str", "name": "str", "n": "int"}


@pytest.fixture
def store() -> Store:
    """In memory, bound by hand, in no synchronizer."""
    store = memory("mem", {"id": "a", "label": "Ann", "n": 1})
    store.bind(BOUND)
    return store


# -- alone ----------------------------------------------------------------------------------------------


def test_the_api_speaks_canonical_names_and_typed_values(store: Store) -> None:
    added = store.add(Data("thing", {"id": "b", "name": "Ben", "n": "2"}))
    assert added.fields == {"id": "b", "name": "Ben", "n": 2}
    assert rows(store)[1] == {"id": "b", "label": "Ben", "n": 2}
    assert [found.fields["name"] for found in store.find("thing", n=2)] == ["Ben"]
    assert [found.fields["name"] for found in store.find("thing")] == ["Ann", "Ben"]
    found = store.get_by_name("thing", "b")
    assert found is not None
    assert found.fields == added.fields
    assert store.get_by_name("thing", "zzz") is None


def test_an_update_leaves_the_other_fields_alone(store: Store) -> None:
    after = store.update(Data("thing", {"id": "a", "n": 2}))
    assert after.fields == {"id": "a", "name": "Ann", "n": 2}


def test_removing_what_is_gone_is_no_error(store: Store) -> None:
    store.remove(Data("thing", {"id": "a"}))
    store.remove(Data("thing", {"id": "a"}))
    assert rows(store) == []


def test_a_store_that_deals_out_ids_is_asked_by_them() -> None:
    store = memory("mem", {"id": "a", "label": "Ann"}, assign_ids=True)
    store.bind(BOUND)
    found = store.get("thing", 1)
    assert found is not None
    assert (found.id, found.fields) == (1, {"id": "a", "name": "Ann"})
    store.update(data(1, name="Anna"))
    assert rows(store) == [{"id": "a", "label": "Anna"}]
    store.remove(data(1))
    assert rows(store) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.update(Data("thing", {"id": "zzz", "n": 2})), "has no such 'thing' to update: {'id': 'zzz'"),
        (lambda s: s.update(data(7, n=2)), "has no such 'thing' to update: 7"),
        (lambda s: s.update(Data("thing", {"n": 2})), "the key field(s) id are needed"),
        (lambda s: s.remove(Data("thing", {"id": None})), "the key field(s) id are needed"),
        (lambda s: s.add(Data("thing", {"id": "b", "label": "x"})), "type 'thing': no field 'label'"),
        (lambda s: list(s.find("thing", label="x")), "type 'thing': no field 'label'"),
        (lambda s: s.get_by_name("thing"), "has the key id: 1 value(s), not 0"),
        (lambda s: s.get_by_name("thing", "a", "b"), "has the key id: 1 value(s), not 2"),
        (lambda s: memory("other", role="master"), "unknown role 'master'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_store(store: Store, call: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(store)
    assert message in caught.value.message
    assert rows(store) == [{"id": "a", "label": "Ann", "n": 1}]


def test_a_value_that_its_type_refuses_is_not_written(store: Store) -> None:
    with pytest.raises(BadValue):
        store.update(Data("thing", {"id": "a", "n": "many"}))
    assert rows(store) == [{"id": "a", "label": "Ann", "n": 1}]


def test_a_type_that_the_store_does_not_hold_is_named_with_those_it_does(store: Store) -> None:
    with pytest.raises(ConfigError, match="does not hold the type 'order'") as caught:
        store.binding("order")
    assert caught.value.hint == "it holds: thing"


def test_an_accessor_can_be_given_by_type() -> None:
    one, other = MemoryAccessor(), MemoryAccessor()
    store = Store("mem", "memory:", accessors={"a": one}, accessor=other)
    assert store.accessor("a") is one
    assert store.accessor("b") is other
    assert isinstance(Store("mem", "memory:").accessor("a"), MemoryAccessor)


def test_a_scheme_that_no_accessor_serves_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no accessor for URLs that start with 'sqlit:'") as caught:
        Store("crm", "sqlit:crm.db").accessor("thing")
    assert caught.value.hint == "did you mean 'sqlite'?"


def test_one_accessor_serves_two_stores() -> None:
    shared = MemoryAccessor()
    one, other = memory("one", accessor=shared), memory("other", accessor=shared)
    for store in (one, other):
        store.bind(BOUND)
    one.add(Data("thing", {"id": "a"}))
    assert (len(rows(one)), len(rows(other))) == (1, 0)


# -- observers ------------------------------------------------------------------------------------------


def test_an_observer_is_told_of_each_operation_in_the_stores_own_words(store: Store) -> None:
    told: list[Operated] = []
    store.observe(told.append)
    store.add(Data("thing", {"id": "b", "name": "Ben"}), actor="eve")
    store.update(Data("thing", {"id": "b", "name": "Bill"}))
    store.get_by_name("thing", "b")
    store.remove(Data("thing", {"id": "b"}))
    assert [
        (o.op, o.old and o.old.fields["label"], o.new and o.new.fields["label"], o.actor) for o in told
    ] == [
        ("create", None, "Ben", "eve"),
        ("update", "Ben", "Bill", None),
        ("read", "Bill", "Bill", None),
        ("delete", "Bill", None, None),
    ]
    assert all(o.store is store and o.type == "thing" for o in told)


@pytest.mark.parametrize(
    ("operations", "seen"),
    [
        ((), ["create", "read", "update", "delete"]),
        (("create",), ["create"]),
        (("read", "delete"), ["read", "delete"]),
    ],
)
def test_an_observer_may_ask_for_some_operations_only(store: Store, operations: Any, seen: list[str]) -> None:
    told: list[str] = []
    store.observe(lambda operated: told.append(operated.op), *operations)
    store.add(Data("thing", {"id": "b"}))
    list(store.find("thing", id="b"))
    store.update(Data("thing", {"id": "b", "n": 1}))
    store.remove(Data("thing", {"id": "b"}))
    assert told == seen


def test_an_observer_that_stopped_is_told_nothing_more(store: Store) -> None:
    one: list[str] = []
    other: list[str] = []
    stop = store.observe(lambda operated: one.append(operated.op))
    store.observe(lambda operated: other.append(operated.op))
    store.add(Data("thing", {"id": "b"}))
    stop()
    store.add(Data("thing", {"id": "c"}))
    assert (one, other) == (["create"], ["create", "create"])


def test_an_operation_that_failed_is_told_to_nobody(store: Store) -> None:
    told: list[Operated] = []
    store.observe(told.append)
    with pytest.raises(Refused):
        store.add(Data("thing", {"id": "a"}))
    store.remove(Data("thing", {"id": "zzz"}))
    assert store.get_by_name("thing", "zzz") is None
    assert told == []


# -- journalled -----------------------------------------------------------------------------------------

SQLITE = """
[types.thing]
key = ["id"]
[types.thing.fields]
id = "str"
name = "str"
n = "int"
[stores.one]
url = "sqlite:one.db"
[stores.one.types.thing]
fields = { name = "label" }
"""


@pytest.fixture(params=["memory", "sqlite", "sqlite with its own ids"])
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A synchronizer with the store `one`, empty; by an accessor with the six methods only, and by one with all."""
    if request.param == "memory":
        place = PlaceSpec(fields={"name": "label"})
        sync = together(memory("one", place=place), fields=FIELDS)
    else:
        own = "nr integer primary key, id text" if "own" in request.param else "id text primary key"
        sql(tmp_path / "one.db", f"create table thing ({own}, label text, n int)")
        sync = synchronizer(tmp_path, SQLITE)
    with sync:
        yield sync


def outside(sync: Synchronizer, id: str, n: int) -> None:
    """Somebody changes a record behind everybody's back."""
    store = sync.stores["one"]
    if store.scheme == "memory":
        held(store)[(id,)]["n"] = n
    else:
        sql(store.path, "update thing set n = ? where id = ?", n, id)


def events(sync: Synchronizer, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(event[name] for name in names) for event in sync.log()]


def test_operations_are_journalled_at_once_with_their_actor(linked: Synchronizer, noon: Any) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "a", "name": "Ann", "n": 1}), actor="eve")
    assert head(linked) == 1
    store.update(Data("thing", {"id": "a", "n": 2}), actor="tom")
    assert head(linked) == 2
    store.remove(Data("thing", {"id": "a"}), actor="eve")
    assert events(linked, "seq", "op", "store", "key", "actor", "base", "changed") == [
        (1, "create", "one", "a", "eve", 0, ["id", "n", "name"]),
        (2, "update", "one", "a", "tom", 1, ["n"]),
        (3, "delete", "one", "a", "eve", 2, ["id", "n", "name"]),
    ]
    assert events(linked, "before", "after") == [
        (None, {"id": "a", "name": "Ann", "n": 1}),
        ({"n": 1}, {"id": "a", "name": "Ann", "n": 2}),
        ({"id": "a", "name": "Ann", "n": 2}, None),
    ]
    assert {event["observed_at"] for event in linked.log()} == {"2026-01-31T12:00:00Z"}


def test_what_was_journalled_through_the_api_is_not_found_again_by_the_next_ingest(
    linked: Synchronizer,
) -> None:
    store = linked.stores["one"]
    for id in "abc":
        store.add(Data("thing", {"id": id, "name": id, "n": 1}))
    store.update(Data("thing", {"id": "b", "n": 2}))
    store.remove(Data("thing", {"id": "c"}))
    assert did(linked.ingest(), "one") == {"unchanged": 2}
    assert head(linked) == 5


def test_an_update_that_changes_nothing_is_no_event(linked: Synchronizer) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "a", "n": 1}))
    store.update(Data("thing", {"id": "a", "n": 1}), actor="eve")
    assert head(linked) == 1


def test_what_others_did_just_before_an_update_is_an_event_of_its_own_without_the_actor(
    linked: Synchronizer,
) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "a", "name": "Ann", "n": 1}), actor="eve")
    outside(linked, "a", 5)
    store.update(Data("thing", {"id": "a", "name": "Anna"}), actor="tom")
    assert events(linked, "op", "actor", "changed", "base") == [
        ("create", "eve", ["id", "n", "name"], 0),
        ("update", None, ["n"], 1),
        ("update", "tom", ["name"], 2),
    ]
    assert canonical(linked, "a") == {"id": "a", "name": "Anna", "n": 5}


def test_what_others_did_just_before_a_removal_can_still_be_read(linked: Synchronizer) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "a", "n": 1}))
    outside(linked, "a", 5)
    store.remove(Data("thing", {"id": "a"}), actor="tom")
    assert events(linked, "op", "actor") == [("create", None), ("update", None), ("delete", "tom")]
    assert last(linked)["before"]["n"] == 5


def test_a_record_that_was_never_ingested_is_journalled_as_it_was_before_the_update(
    linked: Synchronizer,
) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "z", "n": 0}))  # binds the store
    if store.scheme == "memory":
        held(store)[("a",)] = {"id": "a", "n": 1}
    else:
        sql(store.path, "insert into thing (id, n) values ('a', 1)")
    store.update(Data("thing", {"id": "a", "n": 2}), actor="tom")
    assert events(linked, "op", "key", "actor")[1:] == [("create", "a", None), ("update", "a", "tom")]


def test_a_record_removed_outside_and_added_again_is_a_change(linked: Synchronizer) -> None:
    store = linked.stores["one"]
    store.add(Data("thing", {"id": "a", "name": "Ann", "n": 1}))
    if store.scheme == "memory":
        held(store).clear()
    else:
        sql(store.path, "delete from thing")
    store.add(Data("thing", {"id": "a", "name": "Ann", "n": 2}), actor="tom")
    assert last(linked)["after"]["n"] == 2
    assert last(linked)["actor"] == "tom"
    assert did(linked.ingest(), "one") == {"unchanged": 1}


def test_reads_are_journalled_where_the_audit_wants_them() -> None:
    quiet, watched = memory("quiet", {"id": "a", "n": 1}), memory("watched", {"id": "a", "n": 1})
    with together(quiet, watched, fields={"id": "str", "n": "int"}, audit_reads=["watched"]) as sync:
        sync.ingest()
        for store in (quiet, watched):
            store.get_by_name("thing", "a", actor="eve")
            list(store.find("thing", actor="tom"))
            assert store.get_by_name("thing", "b", actor="eve") is None
        read = [event for event in sync.log() if event["op"] == "read"]
        assert [(e["store"], e["key"], e["actor"], e["base"]) for e in read] == [
            ("watched", "a", "eve", 1),
            ("watched", "a", "tom", 1),
        ]
        assert [(e["before"], e["after"], e["changed"]) for e in read] == [(None, None, [])] * 2
        # and they make no state
        assert canonical(sync, "a") == {"id": "a", "n": 1}
        assert did(sync.ingest(), "watched") == {"unchanged": 1}
        assert sync.verify()["problems"] == []


def test_a_read_shows_a_change_that_nobody_ingested() -> None:
    store = memory("one", {"id": "a", "n": 1})
    with together(store, fields={"id": "str", "n": "int"}, audit_reads=["one"]) as sync:
        sync.ingest()
        held(store)[("a",)]["n"] = 2
        store.get_by_name("thing", "a", actor="eve")
        assert events(sync, "op", "actor", "base") == [
            ("create", None, 0),
            ("update", None, 1),
            ("read", "eve", 2),
        ]


def test_a_store_in_two_synchronizers_is_journalled_by_both() -> None:
    store = memory("shared", place=PlaceSpec(fields={"name": "label"}))
    with together(store, fields=FIELDS) as one, together(store, memory("more"), fields=FIELDS) as other:
        store.add(Data("thing", {"id": "a", "n": 1}), actor="eve")
        for sync in (one, other):
            assert events(sync, "op", "store", "key", "actor") == [("create", "shared", "a", "eve")]
        other.close()
        store.update(Data("thing", {"id": "a", "n": 2}))
        assert (head(one), head(other)) == (2, 0)  # the other's journal was in memory, and is gone


def test_a_closed_synchronizer_observes_nothing(tmp_path: Path) -> None:
    store = memory("one")
    with together(store, fields=FIELDS, journal=tmp_path / "evsync.db"):
        store.add(Data("thing", {"id": "a"}))
    store.add(Data("thing", {"id": "b"}))
    with together(store, fields=FIELDS, journal=tmp_path / "evsync.db") as again:
        assert head(again) == 1


def test_a_store_binds_itself_when_it_is_first_used_through_a_synchronizer() -> None:
    store = memory("one", {"id": "a", "n": 1})
    with Synchronizer([store], [thing()], None):
        found = store.get_by_name("thing", "a")
        assert found is not None
        assert found.fields == {"id": "a", "n": 1}


def test_values_come_back_typed_from_a_store_that_keeps_text(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text('id,price,tags\na,1.50,"[1, 2]"\n')
    config = """
    [types.thing]
    key = ["id"]
    fields = { id = "str", price = "decimal", tags = "json" }
    [stores.one]
    url = "csv:one.csv"
    [stores.one.types.thing]
    """
    with synchronizer(tmp_path, config) as sync:
        found = sync.stores["one"].get_by_name("thing", "a")
        assert found is not None
        assert found.fields == {"id": "a", "price": Decimal("1.50"), "tags": [1, 2]}


def test_an_operation_whose_journalling_failed_spoils_none_that_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from evsync.journal.journal import Journal

    store = memory("one")
    with together(store, fields=FIELDS) as sync:
        append = Journal.append

        def full(*_: Any) -> int:
            raise JournalError("no room left")

        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(JournalError):
            store.add(Data("thing", {"id": "a"}))
        monkeypatch.setattr(Journal, "append", append)
        store.add(Data("thing", {"id": "b"}))
        runs = sync.journal().connection.execute("select id, command from run").fetchall()
        assert runs == [(last(sync)["run"], "api")]
        # what was not journalled then is found by the next ingest
        assert did(sync.ingest(), "one") == {"created": 1, "unchanged": 1}


def test_a_record_that_cannot_be_read_is_left_to_the_next_ingest() -> None:
    store = memory("one", {"id": "a", "n": "many"})
    with together(store, fields={"id": "str", "n": "int"}) as sync:
        store.update(Data("thing", {"id": "a", "n": 2}))
        assert events(sync, "op", "after") == [("create", {"id": "a", "n": 2})]


def test_a_key_changed_through_the_api_is_an_update() -> None:
    store = memory("one", {"id": "a", "n": 1}, assign_ids=True)
    with together(store, fields={"id": "str", "n": "int"}) as sync:
        sync.ingest()
        store.update(Data("thing", {"id": "b"}, id=1), actor="eve")
        event: Row = last(sync)
        assert (event["op"], event["key"], event["changed"], event["after"]) == (
            "update",
            "a",
            ["id"],
            {"id": "b", "n": 1},
        )
        assert did(sync.ingest(), "one") == {"unchanged": 1}


def test_the_first_record_creates_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    new = Store("new", "csv:new.csv", places={"thing": PlaceSpec()}, root=tmp_path)
    types = [TypeSpec("thing", ("id",), {"id": "str", "name": "str"})]
    with Synchronizer([new], types, tmp_path / "evsync.db") as sync:
        new.add(Data("thing", {"id": "a", "name": "Ann"}), actor="me")
        assert [(event["op"], event["actor"]) for event in sync.log()] == [("create", "me")]
    assert (tmp_path / "new.csv").read_text() == "id,name\na,Ann\n"
