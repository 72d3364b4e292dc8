"""The contract of an accessor as tests: extend `AccessorConformance`, say how to make a store, run pytest.

    class TestMine(AccessorConformance):
        holds_absent = True

        def make_store(self, tmp_path):
            store = Store("mine", "mine:data", root=tmp_path)
            store.bind(self.binding())
            return store

The type under test is called "thing": its key is the text field `name`, and it has one field more for every
value type that the store holds exactly, `v_str`, `v_int`, `v_decimal` and so on. What the accessor does not
offer (`scan`, `apply`, `loading`, `mark`, `describe`, `create`, `check`) is skipped.
"""

from __future__ import annotations

import contextlib
import json
import math
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest

from evsync.accessor import (
    HEADER,
    Accessor,
    CanApply,
    CanCheck,
    CanCreate,
    CanDescribe,
    CanLoad,
    CanMark,
    CanScan,
    Change,
    Outcome,
    Row,
    Verdict,
)
from evsync.binding import Binding, Field
from evsync.data import Data
from evsync.errors import Refused, Retry, Unreachable
from evsync.store import Store, native
from evsync.values import ABSENT, TYPES, dump

THING = "thing"

_INDIA = timezone(timedelta(hours=5, minutes=30))

EDGES: Mapping[str, Sequence[Any]] = {
    "str": (
        "",
        " ",
        "a\x00b",
        "😀",
        "007",
        "1e3",
        "NULL",
        "null",
        '"',
        "a,b;c\td",
        "line\nline",
        "\r\n",
        "ä\u0301",
    ),
    "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**30),
    "float": (0.0, -0.0, 1.0, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf),
    "decimal": tuple(
        map(
            Decimal,
            ("0", "0.00", "-0", "1.50", "1E+2", "1E-7", "12345678901234567890.123", "NaN", "Infinity"),
        )
    ),
    "bool": (True, False),
    "date": (date(1, 1, 1), date(2024, 2, 29), date.max),
    "time": (time(0), time(12, 30), time.max, time(1, 2, 3, 4, tzinfo=UTC)),
    "datetime": (
        datetime(1, 1, 1),
        datetime(2024, 2, 29, 23, 59, 59, 999999),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, 12, 0, 0, 1, tzinfo=_INDIA),
    ),
    "uuid": (UUID(int=0), UUID("12345678-1234-5678-1234-567812345678"), UUID(int=2**128 - 1)),
    "bytes": (b"", b"\x00", b"123", bytes(range(256))),
    "json": (
        {},
        [],
        "",
        "text",
        "5",
        0,
        1.5,
        True,
        {"b": [1, -0.0, None, {"ä": "😀"}], "a": {"": [[]]}},
        [2**53 + 1, 1e-7, False, "\x00"],
    ),
}
"""Values of each type that stores are known to alter."""

KEYS = ("plain", "O'Brien", 'say "hi"', "ä 😀", "a/b%2F", "--;", "line\nline", "%s ? :x")
"""Values of the key field that must lead back to their record."""


def thing(value_types: Iterable[str] = tuple(TYPES), *, id: str | None = None) -> Binding:
    """The binding of the type under test: the key `name` and a field `v_TYPE` for each value type."""
    fields = [Field("name", "name", "str")]
    fields += [Field(f"v_{value_type}", f"v_{value_type}", value_type) for value_type in value_types]
    return Binding(THING, ("name",), tuple(sorted(fields, key=lambda field: field.name)), id=id)


def always(verdict: Verdict) -> Callable[[Row | None], Verdict]:
    """A judge that has made up its mind."""
    return lambda row: verdict


class AccessorConformance:
    """Every accessor passes these tests. Say in the class attributes what the store can hold."""

    value_types: ClassVar[Iterable[str]] = tuple(TYPES)
    """The value types that the store holds exactly."""

    edges: ClassVar[Mapping[str, Sequence[Any]]] = EDGES
    """The values tried of each; narrow it only where the kind of store cannot hold one, and say why."""

    holds_null: ClassVar[bool] = True
    """Whether a field may be null."""

    holds_absent: ClassVar[bool] = False
    """Whether the store tells a field that is null from one that is not there."""

    assigns_ids: ClassVar[bool] = False
    """Whether the store gives a new record an id of its own, which is not among its fields."""

    declares_types: ClassVar[bool] = True
    """Whether the store says of what type its columns are; if not, `describe` is only asked for their names."""

    refuses: ClassVar[Mapping[str, Any] | None] = {"v_str": "\ud800"}
    """Field values that the store refuses (half a surrogate pair is not text); None if it takes everything."""

    def make_store(self, tmp_path: Path) -> Store:
        """A store in this directory with `self.binding()` bound. Does not create its file or table."""
        raise NotImplementedError

    def binding(self) -> Binding:
        """The binding of "thing" as this store can hold it."""
        return thing(self.value_types)

    # -- fixtures and helpers --------------------------------------------------------------------------

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """An empty store that exists."""
        return self._made(tmp_path)

    @pytest.fixture
    def accessor(self, store: Store) -> Accessor:
        return store.accessor(THING)

    def _made(self, path: Path) -> Store:
        path.mkdir(exist_ok=True)
        store = self.make_store(path)
        accessor = store.accessor(THING)
        if isinstance(accessor, CanCreate):
            accessor.create(store, THING)
        return store

    def sample(self, name: str, **values: Any) -> dict[str, Any]:
        """A whole record: the second edge value of every type, unless given."""
        fields: dict[str, Any] = {"name": name}
        fields.update({f"v_{kind}": self.edges[kind][1] for kind in self.value_types})
        return fields | values

    def data(self, name: str, **values: Any) -> Data:
        return Data(THING, self.sample(name, **values))

    def wire(self, store: Store, fields: Mapping[str, Any]) -> dict[str, str]:
        """The fields as they would stand in the journal: equal if and only if they are the same."""
        types = store.binding(THING).local_types
        accessor = store.accessor(THING)
        return {
            local: json.dumps(dump(types[local], native(accessor, types[local], raw)), sort_keys=True)
            for local, raw in fields.items()
            if local in types and raw is not ABSENT
        }

    def expected(self, store: Store, fields: Mapping[str, Any]) -> dict[str, str]:
        """What has to come back of typed values: `wire` without the reading, since they were never stored."""
        types = store.binding(THING).local_types
        return {
            local: json.dumps(dump(types[local], typed), sort_keys=True)
            for local, typed in fields.items()
            if typed is not ABSENT
        }

    def row_fields(self, store: Store, row: Row) -> dict[str, Any]:
        """The fields of a Row under the store's own names."""
        return dict(zip(store.binding(THING).locals, row[HEADER:], strict=True))

    def everything(self, store: Store) -> dict[str, dict[str, str]]:
        """All records by name, in wire form, as `find` tells them."""
        records = (self.wire(store, found.fields) for found in store.accessor(THING).find(store, THING))
        return {json.loads(record["name"]): record for record in records}

    def change(
        self,
        action: Any,
        name: str,
        values: Mapping[str, Any] | None = None,
        *,
        id: int | str | None = None,
        judge: Callable[[Row | None], Verdict] | None = None,
    ) -> Change:
        return Change(action, id, {"name": name}, dict(values or {}), judge or always("write"))

    def applied(self, store: Store, *changes: Change) -> list[Outcome]:
        accessor = store.accessor(THING)
        if not isinstance(accessor, CanApply):
            pytest.skip("the accessor does not offer apply")
        outcomes = accessor.apply(store, THING, changes)
        assert len(outcomes) == len(changes)
        return outcomes

    # -- the six methods -------------------------------------------------------------------------------

    def test_get_by_name_and_find_answer_what_add_stored(self, store: Store, accessor: Accessor) -> None:
        given = self.data("one")
        stored = accessor.add(store, given)
        wanted = self.expected(store, given.fields)
        assert self.wire(store, stored.fields) == wanted
        by_name = accessor.get_by_name(store, THING, {"name": "one"})
        assert by_name is not None
        assert by_name.type == THING
        assert by_name.id == stored.id
        assert self.wire(store, by_name.fields) == wanted
        assert self.everything(store) == {"one": wanted}
        if stored.id is not None:
            by_id = accessor.get(store, THING, stored.id)
            assert by_id is not None
            assert self.wire(store, by_id.fields) == wanted

    def test_ids_are_given_and_differ(self, store: Store, accessor: Accessor) -> None:
        if not self.assigns_ids:
            pytest.skip("the store assigns no ids")
        one, two = accessor.add(store, self.data("one")), accessor.add(store, self.data("two"))
        assert one.id is not None
        assert two.id is not None
        assert one.id != two.id

    def test_a_record_that_is_not_there_is_none(self, store: Store, accessor: Accessor) -> None:
        assert accessor.get_by_name(store, THING, {"name": "nobody"}) is None
        assert accessor.get(store, THING, "nobody") is None
        assert accessor.get(store, THING, 12345) is None
        assert list(accessor.find(store, THING)) == []

    def test_find_streams_and_matches_typed_values(self, store: Store, accessor: Accessor) -> None:
        for name in ("one", "two", "three"):
            accessor.add(store, self.data(name))
        found = accessor.find(store, THING)
        assert iter(found) is found
        assert sorted(data.fields["name"] for data in found) == ["one", "three", "two"]
        for local, value in self.sample("two").items():
            names = [data.fields["name"] for data in accessor.find(store, THING, {local: value})]
            assert sorted(names) == (["two"] if local == "name" else ["one", "three", "two"]), local
        assert list(accessor.find(store, THING, {"name": "nobody"})) == []

    @pytest.mark.parametrize("name", KEYS)
    def test_every_key_leads_back_to_its_record(self, store: Store, accessor: Accessor, name: str) -> None:
        accessor.add(store, self.data("other"))
        accessor.add(store, self.data(name))
        found = accessor.get_by_name(store, THING, {"name": name})
        assert found is not None
        assert found.fields["name"] == name
        accessor.remove(store, found)
        assert list(self.everything(store)) == ["other"]

    def test_update_leaves_other_fields_and_records_alone(self, store: Store, accessor: Accessor) -> None:
        other = accessor.add(store, self.data("other"))
        stored = accessor.add(store, self.data("one"))
        local = f"v_{next(iter(self.value_types))}"
        value = self.edges[local[2:]][0]
        answer = accessor.update(store, Data(THING, {"name": "one", local: value}, id=stored.id))
        wanted = self.expected(store, self.sample("one", **{local: value}))
        assert self.wire(store, answer.fields) == wanted
        assert answer.id == stored.id
        assert self.everything(store) == {"one": wanted, "other": self.wire(store, other.fields)}

    def test_update_may_change_the_key(self, store: Store, accessor: Accessor) -> None:
        old = accessor.add(store, self.data("one"))
        answer = accessor.update(store, Data(THING, {"name": "uno"}, id=old.id), old)
        wanted = self.expected(store, self.sample("uno"))
        assert self.wire(store, answer.fields) == wanted
        assert self.everything(store) == {"uno": wanted}

    def test_update_of_a_record_that_is_not_there_is_refused(self, store: Store, accessor: Accessor) -> None:
        with pytest.raises(Refused):
            accessor.update(store, self.data("nobody"))
        assert self.everything(store) == {}

    def test_remove_is_idempotent(self, store: Store, accessor: Accessor) -> None:
        accessor.add(store, self.data("other"))
        stored = accessor.add(store, self.data("one"))
        accessor.remove(store, stored)
        accessor.remove(store, stored)
        assert accessor.get_by_name(store, THING, {"name": "one"}) is None
        assert list(self.everything(store)) == ["other"]

    def test_remove_finds_the_record_by_its_key(self, store: Store, accessor: Accessor) -> None:
        accessor.add(store, self.data("one"))
        accessor.remove(store, Data(THING, {"name": "one"}))
        assert self.everything(store) == {}

    def test_one_accessor_serves_two_stores(self, tmp_path: Path) -> None:
        one, two = self._made(tmp_path / "one"), self._made(tmp_path / "two")
        accessor = one.accessor(THING)
        accessor.add(one, self.data("here"))
        accessor.add(two, self.data("there"))
        assert [data.fields["name"] for data in accessor.find(one, THING)] == ["here"]
        assert [data.fields["name"] for data in accessor.find(two, THING)] == ["there"]

    # -- values ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("value_type", TYPES)
    def test_values_survive_bit_by_bit(self, store: Store, accessor: Accessor, value_type: str) -> None:
        local, values = self._edge_values(value_type)
        wanted = {}
        for number, value in enumerate(values):
            given = self.data(str(number), **{local: value})
            wanted[str(number)] = self.expected(store, given.fields)
            assert self.wire(store, accessor.add(store, given).fields) == wanted[str(number)], repr(value)
        assert self.everything(store) == wanted

    @pytest.mark.parametrize("value_type", TYPES)
    def test_values_survive_an_update(self, store: Store, accessor: Accessor, value_type: str) -> None:
        local, values = self._edge_values(value_type)
        stored = accessor.add(store, self.data("one"))
        for value in values:
            stored = accessor.update(store, Data(THING, {"name": "one", local: value}, id=stored.id), stored)
            wanted = self.expected(store, self.sample("one", **{local: value}))
            assert self.wire(store, stored.fields) == wanted, repr(value)
            assert self.everything(store) == {"one": wanted}, repr(value)

    def _edge_values(self, value_type: str) -> tuple[str, Sequence[Any]]:
        if value_type not in self.value_types:
            pytest.skip(f"the store does not hold {value_type}")
        return f"v_{value_type}", (*self.edges[value_type], *([None] if self.holds_null else []))

    def test_an_absent_field(self, store: Store, accessor: Accessor) -> None:
        local = f"v_{next(iter(self.value_types))}"
        stored = accessor.add(store, self.data("one"))
        answer = accessor.update(store, Data(THING, {"name": "one", local: ABSENT}, id=stored.id))
        if self.holds_absent:
            assert answer.fields.get(local, ABSENT) is ABSENT
        else:
            assert answer.fields.get(local) is None

    # -- scan ------------------------------------------------------------------------------------------

    def test_scan_gives_what_find_gives(self, store: Store, accessor: Accessor) -> None:
        for name in KEYS:
            accessor.add(store, self.data(name))
        if not isinstance(accessor, CanScan):
            pytest.skip("the accessor does not offer scan")
        rows = [row for batch in accessor.scan(store, THING) for row in batch]
        assert all(len(row) == HEADER + len(store.binding(THING).locals) for row in rows)
        scanned = {row[0]: self.wire(store, self.row_fields(store, row)) for row in rows}
        if any(row[0] is not None for row in rows):
            assert scanned == {data.id: self.wire(store, data.fields) for data in accessor.find(store, THING)}
        named = [self.wire(store, self.row_fields(store, row)) for row in rows]
        assert {json.loads(record["name"]): record for record in named} == self.everything(store)

    def test_a_scan_that_is_called_a_snapshot_shows_one_state(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        accessor = store.accessor(THING)
        if not accessor.snapshot:
            pytest.skip("the accessor does not promise it")
        if isinstance(accessor, CanCreate):
            accessor.create(store, THING)
        assert isinstance(accessor, CanScan)
        assert isinstance(accessor, CanApply)
        count = 3_000  # more than one batch of any accessor
        made = [
            Change("create", None, {"name": data.fields["name"]}, dict(data.fields), always("write"))
            for data in map(self.data, map(str, range(count)))
        ]
        assert all(outcome.state == "written" for outcome in accessor.apply(store, THING, made))
        scan = accessor.scan(store, THING)
        rows = list(next(scan))
        assert len(rows) < count
        with contextlib.suppress(Retry):  # the store may well be locked meanwhile
            self.make_store(tmp_path).accessor(THING).remove(store, self.data(str(count - 1)))
        rows += [row for batch in scan for row in batch]
        assert len(rows) == count

    def test_a_missing_store_is_unreachable_never_empty(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        accessor = store.accessor(THING)
        if not isinstance(accessor, CanScan):
            pytest.skip("the accessor does not offer scan")
        with pytest.raises(Unreachable):
            list(accessor.scan(store, THING))
        with pytest.raises(Unreachable):
            list(accessor.find(store, THING))
        assert list(tmp_path.iterdir()) == []

    # -- apply -----------------------------------------------------------------------------------------

    def assert_written(self, store: Store, outcome: Outcome, given: Mapping[str, Any]) -> None:
        """The outcome tells the record as it is stored: by its row, or by saying that it is as given."""
        assert outcome.error is None
        assert outcome.state == "written"
        if outcome.row is None:
            assert outcome.exact
        else:
            assert self.wire(store, self.row_fields(store, outcome.row)) == self.expected(store, given)

    def test_apply_creates_updates_and_deletes(self, store: Store, accessor: Accessor) -> None:
        gone, changed = accessor.add(store, self.data("gone")), accessor.add(store, self.data("changed"))
        after = self.sample("changed", **{f"v_{kind}": self.edges[kind][0] for kind in self.value_types})
        outcomes = self.applied(
            store,
            self.change("create", "new", self.sample("new")),
            self.change("update", "changed", after, id=changed.id),
            self.change("delete", "gone", id=gone.id),
        )
        self.assert_written(store, outcomes[0], self.sample("new"))
        self.assert_written(store, outcomes[1], after)
        assert (outcomes[2].state, outcomes[2].row) == ("written", None)
        assert self.everything(store) == {
            "new": self.expected(store, self.sample("new")),
            "changed": self.expected(store, after),
        }
        if self.assigns_ids:
            found = accessor.get_by_name(store, THING, {"name": "new"})
            assert found is not None
            assert outcomes[0].id == found.id

    def test_apply_finds_records_by_name(self, store: Store, accessor: Accessor) -> None:
        accessor.add(store, self.data("gone"))
        accessor.add(store, self.data("old"))
        outcomes = self.applied(
            store, self.change("update", "old", {"name": "new"}), self.change("delete", "gone")
        )
        self.assert_written(store, outcomes[0], self.sample("new"))
        assert self.everything(store) == {"new": self.expected(store, self.sample("new"))}

    def test_apply_writes_only_the_values_given(self, store: Store, accessor: Accessor) -> None:
        stored = accessor.add(store, self.data("one"))
        local = f"v_{next(iter(self.value_types))}"
        value = self.edges[local[2:]][0]
        after = self.sample("one", **{local: value})
        [outcome] = self.applied(store, self.change("update", "one", {local: value}, id=stored.id))
        self.assert_written(store, outcome, after)
        assert self.everything(store) == {"one": self.expected(store, after)}

    def test_apply_judges_the_record_as_it_is(self, store: Store, accessor: Accessor) -> None:
        stored = accessor.add(store, self.data("one"))
        seen: list[Row | None] = []

        def judge(row: Row | None) -> Verdict:
            seen.append(row)
            return "done"

        self.applied(
            store,
            self.change("create", "nobody", self.sample("nobody"), judge=judge),
            self.change("update", "one", self.sample("one"), id=stored.id, judge=judge),
            self.change("delete", "one", judge=judge),
        )
        assert seen[0] is None
        for row in seen[1:]:
            assert row is not None
            assert row[0] == stored.id
            assert self.wire(store, self.row_fields(store, row)) == self.wire(store, stored.fields)

    @pytest.mark.parametrize("verdict", ["done", "changed"])
    def test_apply_keeps_its_hands_off(self, store: Store, accessor: Accessor, verdict: Verdict) -> None:
        one, two = accessor.add(store, self.data("one")), accessor.add(store, self.data("two"))
        before = self.everything(store)
        outcomes = self.applied(
            store,
            self.change("update", "one", {"name": "uno"}, id=one.id, judge=always(verdict)),
            self.change("delete", "two", id=two.id, judge=always(verdict)),
            self.change("create", "three", self.sample("three"), judge=always(verdict)),
        )
        assert [outcome.state for outcome in outcomes] == [verdict] * 3
        for outcome, stored in ((outcomes[0], one), (outcomes[1], two)):
            assert outcome.row is not None
            assert self.wire(store, self.row_fields(store, outcome.row)) == self.wire(store, stored.fields)
        assert outcomes[2].row is None
        assert self.everything(store) == before

    def test_apply_of_values_survives_bit_by_bit(self, store: Store) -> None:
        records = {
            f"{kind} {number}": self.sample(f"{kind} {number}", **{f"v_{kind}": value})
            for kind in self.value_types
            for number, value in enumerate(self._edge_values(kind)[1])
        }
        outcomes = self.applied(
            store, *(self.change("create", name, given) for name, given in records.items())
        )
        for outcome, given in zip(outcomes, records.values(), strict=True):
            self.assert_written(store, outcome, given)
        assert self.everything(store) == {
            name: self.expected(store, given) for name, given in records.items()
        }

    def test_one_refused_record_stops_no_other(self, store: Store) -> None:
        if self.refuses is None:
            pytest.skip("the store takes everything")
        bad = self.sample("bad", **self.refuses)
        outcomes = self.applied(
            store,
            self.change("create", "one", self.sample("one")),
            self.change("create", "bad", bad),
            self.change("create", "two", self.sample("two")),
        )
        assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
        assert isinstance(outcomes[1].error, Refused)
        assert sorted(self.everything(store)) == ["one", "two"]

    def test_a_value_that_cannot_be_stored_is_refused(self, store: Store, accessor: Accessor) -> None:
        if self.refuses is None:
            pytest.skip("the store takes everything")
        with pytest.raises(Refused):
            accessor.add(store, self.data("bad", **self.refuses))
        assert self.everything(store) == {}

    def test_apply_of_nothing_does_nothing(self, store: Store) -> None:
        assert self.applied(store) == []

    # -- loading ---------------------------------------------------------------------------------------

    def loaded(self, store: Store, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The names of the records that were taken, each a batch of its own."""
        accessor = store.accessor(THING)
        if not isinstance(accessor, CanLoad):
            pytest.skip("the accessor does not offer loading")
        names = store.binding(THING).locals
        with accessor.loading(store, THING) as load:
            if load is None:
                pytest.skip("this store is not to be loaded")
            return [name for name, given in records.items() if load([[given.get(local) for local in names]])]

    def test_loading_stores_values_bit_by_bit_or_not_at_all(self, store: Store, accessor: Accessor) -> None:
        if isinstance(accessor, CanCreate):
            accessor.create(store, THING)
        records = {
            f"{kind} {number}": dict.fromkeys(store.binding(THING).locals)
            | self.sample(f"{kind} {number}", **{f"v_{kind}": value})
            for kind in self.value_types
            for number, value in enumerate(self._edge_values(kind)[1])
        }
        taken = self.loaded(store, records)
        assert taken
        assert self.everything(store) == {name: self.expected(store, records[name]) for name in taken}

    def test_loading_keeps_off_a_store_that_holds_records(self, store: Store, accessor: Accessor) -> None:
        accessor.add(store, self.data("one"))
        assert self.loaded(store, {"two": self.sample("two"), "three": self.sample("three")}) == []
        assert list(self.everything(store)) == ["one"]

    # -- mark ------------------------------------------------------------------------------------------

    def mark(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> str | None:
        """The store's mark an hour from now: what was written just now may have none."""
        accessor = store.accessor(THING)
        if not isinstance(accessor, CanMark):
            pytest.skip("the accessor does not offer mark")
        now = clock.time() + 3600
        with monkeypatch.context() as later:
            later.setattr(clock, "time", lambda: now)
            later.setattr(clock, "clock_gettime", lambda of: now)
            return accessor.mark(store, THING)

    def test_a_mark_changes_with_every_change(
        self, store: Store, accessor: Accessor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = accessor.add(store, self.data("one"))
        local = f"v_{next(iter(self.value_types))}"

        def update() -> None:
            accessor.update(store, self.data("one", **{local: self.edges[local[2:]][0]}))

        for change in (
            lambda: accessor.add(store, self.data("two")),
            update,
            lambda: accessor.remove(store, Data(THING, dict(stored.fields), id=stored.id)),
        ):
            before = self.mark(store, monkeypatch)
            change()
            assert isinstance(accessor, CanMark)
            after = accessor.mark(store, THING)
            assert after is None or after != before

    def test_a_mark_stays_while_the_store_is_only_read(
        self, store: Store, accessor: Accessor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accessor.add(store, self.data("one"))
        before = self.mark(store, monkeypatch)
        list(accessor.find(store, THING))
        assert self.mark(store, monkeypatch) == before

    # -- describe, create, check -----------------------------------------------------------------------

    def test_what_create_made_is_described_alike(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        accessor = store.accessor(THING)
        if not isinstance(accessor, CanDescribe) or not isinstance(accessor, CanCreate):
            pytest.skip("the accessor does not offer describe and create")
        assert accessor.describe(store, THING) is None
        accessor.create(store, THING)
        accessor.add(store, self.data("one"))
        described = accessor.describe(store, THING)
        assert described is not None
        types = store.binding(THING).local_types
        assert set(types) <= set(described.columns)
        if self.declares_types:
            assert {local: described.columns[local] for local in types} == types

    def test_create_leaves_alone_what_exists(self, store: Store, accessor: Accessor) -> None:
        if not isinstance(accessor, CanCreate):
            pytest.skip("the accessor does not offer create")
        accessor.add(store, self.data("one"))
        accessor.create(store, THING)
        assert list(self.everything(store)) == ["one"]

    def test_check_is_content_with_a_store_that_works(self, store: Store, accessor: Accessor) -> None:
        if not isinstance(accessor, CanCheck):
            pytest.skip("the accessor does not offer check")
        assert accessor.check(store, THING) is None
