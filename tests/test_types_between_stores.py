"""Every value through every pair of stores: what the second one holds is the first one's value, or why not is told.

A value is a record of its own, in a field of its type. `ALTERED` says what a kind of store does not take just as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from edge_values import VALUES
from projects import at_rest, did, entry
from store_kinds import KINDS, store_of

from evsync import Data, Store, Synchronizer
from evsync.accessor import CanApply, CanCreate, Change
from evsync.binding import TypeSpec
from evsync.errors import BadValue, Refused
from evsync.store import native
from evsync.testing.conformance import always
from evsync.values import ABSENT, TYPES, dump, encode, equivalent, same

FIELDS = {"name": "str", **{f"v_{kind}": kind for kind in TYPES}}
CASES = {f"{kind}: {name}": (f"v_{kind}", value) for (kind, name), value in VALUES.items()}

UNREADABLE = object()
Wire = dict[str, Any]
Verdicts = dict[str, str]


class Pair:
    """Two stores in one journal. The first one holds all values that it takes; the second one is made by evsync."""

    def __init__(self, folder: Path, stack: ExitStack, one: str, other: str) -> None:
        more: Mapping[str, Any] = {"max_changes": "100%"}
        self.one = store_of(one, "one", folder, stack, "thing", **more)
        self.other = store_of(other, "other", folder, stack, "thing", **more)
        spec = TypeSpec("thing", ("name",), FIELDS)
        self.sync = stack.enter_context(Synchronizer([self.one, self.other], [spec], folder / "evsync.db"))
        self.sync.bound()

    def fill(self) -> set[str]:
        """Write every value to the first store, as an application would; answers with those it does not take."""
        accessor = self.one.accessor("thing")
        if isinstance(accessor, CanCreate):
            accessor.create(self.one, "thing")
        new = [(None, {"name": name, field: value}) for name, (field, value) in CASES.items()]
        return write(self.one, "create", new)

    def turn(self, store: Store) -> None:
        """An application gives each record the value of the next one of its type."""
        held = {data.fields["name"]: data for data in store.accessor("thing").find(store, "thing")}
        readable = [name for name in sorted(held) if self.typed(store, held[name]) is not UNREADABLE]
        new = []
        for field in FIELDS:
            names = [name for name in readable if CASES[name][0] == field]
            values = [self.typed(store, held[name]) for name in names]
            turned = zip(names, [*values[1:], *values[:1]], strict=True)
            new += [(held[name].id, {"name": name, field: value}) for name, value in turned]
        assert not write(store, "update", new)

    def typed(self, store: Store, data: Data) -> Any:
        """The value of a record."""
        field = CASES[data.fields["name"]][0]
        raw = data.fields.get(field, ABSENT)
        try:
            value = ABSENT if raw is ABSENT else native(store.accessor("thing"), FIELDS[field], raw)
            encode("" if value is ABSENT else dump(FIELDS[field], value))
        except (BadValue, UnicodeEncodeError):
            return UNREADABLE
        return value

    def holds(self, store: Store) -> Wire:
        """What a store holds in the field of each record, as it would stand in the journal."""
        found = {}
        for data in store.accessor("thing").find(store, "thing"):
            name, value = data.fields["name"], self.typed(store, data)
            special = value is ABSENT or value is UNREADABLE
            found[name] = value if special else dump(FIELDS[CASES[name][0]], value)
        return found

    def journalled(self) -> Wire:
        heads = self.sync.journal().heads("thing", sorted(CASES))
        return {name: (head.fields or {}).get(CASES[name][0], ABSENT) for name, head in heads.items()}

    def verdicts(self, store: Store) -> Verdicts:
        """What became of each value in a store: it is the journal's, or another spelling of it, or why not is told."""
        failures = {one["key"]: one["error"] for one in self.sync.failures(store.name)}
        put_aside = {one["row"]["name"]: one["error"] for one in self.sync.quarantine(store.name)}
        held, journalled = self.holds(store), self.journalled()
        return {
            name: verdict(name, journalled.get(name), held.get(name), failures.get(name), put_aside.get(name))
            for name in sorted(journalled.keys() | held.keys())
        }

    def settled(self) -> Verdicts:
        """Sync, and what became of the values in the second store. Another sync finds and writes nothing."""
        report = self.sync.sync()
        assert not [
            found
            for half in report
            if half in ("ingest", "replay")
            for found in report[half]["stores"]
            if found["error"]
        ], report
        verdicts = self.verdicts(self.one), self.verdicts(self.other)
        head, held = self.sync.journal().head(), (self.holds(self.one), self.holds(self.other))
        again = self.sync.sync(scan=True)
        assert self.sync.journal().head() == head, list(self.sync.log(after=head.seq))[:5]
        for store in ("one", "other"):
            written = entry(again["replay"], store)
            assert not any(written[what] for what in ("created", "updated", "deleted", "skipped")), written
        assert str((self.holds(self.one), self.holds(self.other))) == str(held)
        assert self.sync.verify()["ok"]
        return verdicts[1]


def write(store: Store, action: Any, records: Sequence[tuple[Any, dict[str, Any]]]) -> set[str]:
    """Write these records, by id, past evsync; answers with the keys of those that are refused."""
    accessor, refused = store.accessor("thing"), set()
    [key] = store.binding("thing").key_locals
    if isinstance(accessor, CanApply):
        changes = [Change(action, id, {key: f[key]}, f, always("write")) for id, f in records]
        outcomes = accessor.apply(store, "thing", changes)
        return {fields[key] for (_, fields), o in zip(records, outcomes, strict=True) if o.state == "failed"}
    one = {"create": accessor.add, "update": accessor.update, "delete": accessor.remove}[action]
    for id, fields in records:
        try:
            one(store, Data("thing", fields, id=id))
        except Refused:
            refused.add(fields[key])
    return refused


def verdict(name: str, journalled: Any, held: Any, failure: str | None, put_aside: str | None) -> str:
    column, _ = CASES[name]
    if put_aside is not None:
        assert column in put_aside, (name, put_aside)
        return "quarantined"
    if failure is not None:
        assert column in failure, (name, failure)
        return "refused"
    assert journalled is not None or held is None, f"{name}: {held!r} was not journalled"
    if same(journalled, held):
        return "same"
    nothing = (None, ABSENT)
    alike = (journalled in nothing and held in nothing) or equivalent(FIELDS[column], journalled, held)
    assert alike, f"{name}: {journalled!r} became {held!r}"
    return "alike"


Pairs = Callable[[str, str], Pair]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pairs]:
    """Two stores of these kinds, the first one filled."""
    with ExitStack() as stack:
        yield lambda one, other: Pair(tmp_path, stack, one, other)


NO_VALUES = {"str: half of a pair", "json: half of a pair", "decimal: NaN123"}
"""Whoever holds such a thing: it does not come into the journal."""


def named(**names: str) -> dict[str, str]:
    return {f"{kind}: {name}": kind for kind, found in names.items() for name in found.split(" | ")}


NO_ABSENT = dict.fromkeys((f"{kind}: absent" for kind in TYPES), "alike")  # null takes its place

BEYOND_64_BITS = (
    "9223372036854775808 | -9223372036854775809 | 1000000000000000000000000000000"
    " | 64 bits unsigned | 64 bits and one | 40 digits | 400 digits | 4000 digits"
)

POSTGRES = NO_ABSENT | dict.fromkeys(
    named(
        decimal="-0 | 1E+2 | -0.00 | 0E+3 | 1.5E+30 | 1E+400",
        datetime="2024-01-01T12:00:00.000001+05:30 | first in the west | last in the east | offset of seconds",
    ),
    "alike",
) | dict.fromkeys(
    named(
        str=r"'a\x00b'",
        int=BEYOND_64_BITS,
        decimal="-NaN | sNaN | 1E+131072",
        time="01:02:03.000004Z | UTC | west | east",
        datetime="0001-01-01T00:00:00 | 2024-02-29T23:59:59.999999 | first | last | naive | naive, microseconds"
        " | first in the east | last in the west",
    ),
    "refused",
)  # fmt: skip

MARIADB = NO_ABSENT | {"float: -0.0": "alike"} | dict.fromkeys(
    named(
        int=BEYOND_64_BITS,
        float="NaN | Infinity | -Infinity",
        json="deep",
        time="01:02:03.000004Z | UTC | west | east",
        datetime="2024-01-01T00:00:00Z | 2024-01-01T12:00:00.000001+05:30 | first in UTC | last in UTC"
        " | first in the east | last in the west | first in the west | last in the east"
        " | milliseconds | before 1970 | offset of seconds | beyond 2038",
    ),
    "refused",
)  # fmt: skip

ALTERED: Mapping[str, Mapping[str, str]] = {
    "memory": {},
    "sqlite": NO_ABSENT,
    "csv": NO_ABSENT,
    "json": {},
    "jsonl": {},
    "postgresql": POSTGRES,
    "sql:sqlite": NO_ABSENT | {"float: -0.0": "alike"} | dict.fromkeys(named(int=BEYOND_64_BITS), "refused"),
    "mariadb": MARIADB,
}
"""What a kind of store makes of a value, where that is not just the same: another spelling of it, or a refusal."""


def altered(kind: str) -> Mapping[str, str]:
    return ALTERED[kind.partition(" ")[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_of_store_makes_of_each_value(pair: Pairs, kind: str) -> None:
    both = pair("memory", kind)
    assert not both.fill()
    verdicts = both.settled()
    assert {name: told for name, told in verdicts.items() if told != "same"} == altered(kind)
    assert verdicts.keys() == CASES.keys() - NO_VALUES
    told = both.verdicts(both.one)
    assert {name for name, told in told.items() if told != "same"} == NO_VALUES
    assert {told[name] for name in NO_VALUES} == {"quarantined"}


def there_and_back(both: Pair, one: str, other: str) -> None:
    filled = CASES.keys() - both.fill() - NO_VALUES
    assert CASES.keys() - filled - NO_VALUES == {n for n, told in altered(one).items() if told == "refused"}
    verdicts = both.settled()
    assert verdicts.keys() == filled
    for name, told in verdicts.items():
        foretold = altered(other).get(name, "same")
        assert told == foretold or (altered(one).get(name) == "alike" and told in ("same", "alike")), name
    for turned in (both.one, both.other, both.one):
        both.turn(turned)
        both.settled()


QUICK = [("sqlite triggers", "postgresql wal"), ("postgresql", "mariadb"), ("jsonl", "csv")]


@pytest.mark.parametrize(("one", "other"), QUICK)
def test_values_go_there_and_back(pair: Pairs, one: str, other: str) -> None:
    there_and_back(pair(one, other), one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"), [both for both in itertools.product(KINDS, KINDS) if both not in QUICK]
)
def test_values_go_there_and_back_between_every_two_stores(pair: Pairs, one: str, other: str) -> None:
    there_and_back(pair(one, other), one, other)


# -- keys -----------------------------------------------------------------------------------------------------


SLOW = {"postgresql", "mariadb"}
BY_KEYS = [
    pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ())
    for kind, how in KINDS.items()
    if not how.feeds
]


@pytest.mark.parametrize("other", BY_KEYS)
def test_records_are_found_by_keys_of_every_type(tmp_path: Path, other: str) -> None:
    for kind in TYPES:
        if kind != "json":  # few stores can look that up
            (tmp_path / kind).mkdir()
            with ExitStack() as stack:
                found_by_keys(tmp_path / kind, stack, kind, other)


def found_by_keys(folder: Path, stack: ExitStack, kind: str, other: str) -> None:
    """Records are created, changed in the second store, and deleted there. What it does not take as a key is told."""
    more: Mapping[str, Any] = {"max_changes": "100%", "max_deletes": "100%"}
    left = store_of("memory", "left", folder, stack, "thing", **more)
    right = store_of(other, "right", folder, stack, "thing", **more)
    spec = TypeSpec("thing", ("k",), {"k": kind, "v": "str"})
    sync = stack.enter_context(Synchronizer([left, right], [spec], folder / "evsync.db"))
    values = {
        name: value
        for (of, name), value in VALUES.items()
        if of == kind and value is not None and value is not ABSENT and f"{kind}: {name}" not in NO_VALUES
    }
    held = left.options.setdefault("records", {}).setdefault("thing", {})
    held.update({(value,): {"k": value, "v": name} for name, value in values.items() if not no_key(value)})

    report = sync.sync()
    created = entry(report["replay"], "right")
    assert (created["error"], created["skipped"]) == (None, 0), (kind, created)
    assert created["created"] + created["failed"] == entry(report["ingest"], "left")["created"]
    assert created["failed"] == len(list(sync.failures("right")))
    assert at_rest(sync)

    accessor = right.accessor("thing")
    found = [(data.id, {"k": key_of(right, kind, data)}) for data in accessor.find(right, "thing")]
    assert not write(right, "update", [(id, {**key, "v": "changed"}) for id, key in found])
    report = sync.sync()
    assert did(report["ingest"], "right") == {"updated": created["created"]}, kind
    assert did(report["replay"], "left") == {"updated": created["created"]}, kind

    assert not write(right, "delete", found)
    assert list(accessor.find(right, "thing")) == []
    report = sync.sync(allow_deletes=True)
    assert did(report["replay"], "left") == {"deleted": created["created"]}, kind


def no_key(value: Any) -> bool:
    """By what is like nothing, not even itself, nothing is found."""
    return value.is_nan() if isinstance(value, Decimal) else value == "" or value != value


def key_of(store: Store, kind: str, data: Data) -> Any:
    return native(store.accessor("thing"), kind, data.fields["k"])
