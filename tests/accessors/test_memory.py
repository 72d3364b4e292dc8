"""The memory accessor: what every accessor promises, and what is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from accessors.memory import MemoryAccessor
from evsync.accessor import CanApply, CanScan
from evsync.data import Data
from evsync.errors import Refused
from evsync.store import Store
from evsync.testing.conformance import THING, AccessorConformance, thing


class TestMemoryAccessor(AccessorConformance):
    holds_absent = True
    refuses = None

    def make_store(self, tmp_path: Path) -> Store:
        store = Store("memory", "memory:", accessor=MemoryAccessor())
        store.bind(self.binding())
        return store


class TestMemoryAccessorAssigningIds(AccessorConformance):
    holds_absent = True
    assigns_ids = True
    refuses = None

    def make_store(self, tmp_path: Path) -> Store:
        store = Store("memory", "memory:", accessor=MemoryAccessor(), options={"assign_ids": True})
        store.bind(self.binding())
        return store


@pytest.fixture
def store() -> Store:
    store = Store("memory", "memory:", accessor=MemoryAccessor())
    store.bind(thing(["int", "json"]))
    return store


def test_nothing_but_the_six_methods_is_offered() -> None:
    accessor = MemoryAccessor()
    assert not isinstance(accessor, CanScan)
    assert not isinstance(accessor, CanApply)


def test_the_records_live_on_the_store(store: Store) -> None:
    store.accessor(THING).add(store, Data(THING, {"name": "a", "v_int": 1}))
    assert store.options["records"] == {THING: {("a",): {"name": "a", "v_int": 1}}}


def test_values_stay_the_objects_that_were_given(store: Store) -> None:
    value = {"list": [1, 2.5, None]}
    store.accessor(THING).add(store, Data(THING, {"name": "a", "v_json": value}))
    [found] = store.accessor(THING).find(store, THING)
    assert found.fields["v_json"] is value


def test_a_second_record_of_one_key_is_refused(store: Store) -> None:
    accessor = store.accessor(THING)
    accessor.add(store, Data(THING, {"name": "a"}))
    with pytest.raises(Refused, match="already"):
        accessor.add(store, Data(THING, {"name": "a"}))


def test_a_record_cannot_take_the_key_of_another(store: Store) -> None:
    accessor = store.accessor(THING)
    one = accessor.add(store, Data(THING, {"name": "a"}))
    accessor.add(store, Data(THING, {"name": "b"}))
    with pytest.raises(Refused, match="another record"):
        accessor.update(store, Data(THING, {"name": "b"}), one)


def test_an_update_over_a_change_made_meanwhile_is_refused(store: Store) -> None:
    accessor = store.accessor(THING)
    old = accessor.add(store, Data(THING, {"name": "a", "v_int": 1}))
    accessor.update(store, Data(THING, {"name": "a", "v_int": 2}), old)
    with pytest.raises(Refused, match="meanwhile"):
        accessor.update(store, Data(THING, {"name": "a", "v_int": 3}), old)
