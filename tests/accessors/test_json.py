"""JSON files: one array of objects, streamed; what is not changed keeps its text and its indentation."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accessors import json as json_accessor
from accessors.json import JsonAccessor
from evsync.accessor import HEADER, Change, Outcome
from evsync.binding import Binding, Field
from evsync.errors import BrokenStore
from evsync.store import Store
from evsync.testing.conformance import AccessorConformance, always
from evsync.values import ABSENT


class TestConformance(AccessorConformance):
    holds_absent = True
    declares_types = False
    # It expects to be asked in the order of the changes; a file is gone through in its own order. Instead:
    # test_files.py, test_every_change_is_judged_by_the_record_as_it_is.
    test_apply_judges_the_record_as_it_is = None  # type: ignore[assignment]

    def make_store(self, tmp_path: Path) -> Store:
        store = Store("mine", "json:things.json", accessor=JsonAccessor(), root=tmp_path)
        store.bind(self.binding())
        return store


def bound(**types: str) -> Binding:
    return Binding("thing", ("k",), tuple(Field(name, name, kind) for name, kind in sorted(types.items())))


BINDING = bound(a="json", k="str")


def make(tmp_path: Path, content: str | bytes, binding: Binding = BINDING) -> Store:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.json").write_bytes(raw)
    store = Store("s", "json:t.json", accessor=JsonAccessor(), root=tmp_path)
    store.bind(binding)
    return store


def rows(store: Store) -> list[tuple[Any, ...]]:
    return [row[HEADER:] for batch in JsonAccessor().scan(store, "thing") for row in batch]


def change(store: Store, action: Any, key: str, **values: Any) -> Outcome:
    [outcome] = JsonAccessor().apply(
        store, "thing", [Change(action, None, {"k": key}, values, always("write"))]
    )
    return outcome


def content(store: Store) -> str:
    return store.path.read_bytes().decode()


# -- reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["[]", " [ ] \n", "\ufeff[]\n"])
def test_an_empty_array_holds_no_records(tmp_path: Path, text: str) -> None:
    assert rows(make(tmp_path, text)) == []


def test_null_is_not_absent(tmp_path: Path) -> None:
    store = make(tmp_path, '[{"k":"1","a":null},{"k":"2"}]')
    assert rows(store) == [(None, "1"), (ABSENT, "2")]
    change(store, "update", "1", a=ABSENT)
    change(store, "update", "2", a=None)
    assert content(store) == '[{"k":"1"},{"k":"2","a":null}]'


def test_the_place_is_the_line_where_the_record_starts(tmp_path: Path) -> None:
    store = make(tmp_path, '\n[\n {"k":\n "1"},\n\n {"k": "2"}]')
    assert [row[1] for batch in JsonAccessor().scan(store, "thing") for row in batch] == ["line 3", "line 6"]


def test_wherever_the_text_is_cut_it_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"k": str(i), "a": ["ä\\u00e4\n😀", -1.5e-10, True, None, {"b": 12345}]} for i in range(3)]
    store = make(tmp_path, json.dumps(records, indent=3) + "\n")
    for chunk in range(1, 40):
        monkeypatch.setattr(json_accessor, "CHUNK", chunk)
        assert rows(store) == [(record["a"], record["k"]) for record in records], chunk


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    store = make(tmp_path, json.dumps([{"k": str(i), "a": "x" * 1000} for i in range(20_000)]))
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in JsonAccessor().scan(store, "thing")) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        (" \n", "line 2: the file is empty"),
        ('{"k": "1"}', "line 1: an array of objects is expected"),
        ('[{"k": "1"},\n 5]', "line 2: an object is expected, not '5]'"),
        ('[{"k": "1"},\n]', "line 2: an object is expected"),
        ('[{"k": "1"}\n{"k": "2"}]', "line 2: ',' or ']' is expected"),
        ('[{"k": "1"}', "',' or ']' is expected, not the end"),
        ('[{"k": "1"},\n{"k": "2', "line 2: Unterminated string"),
        ('[{"k": "1"},\n{"k": tru}]', "line 2: Expecting value"),
        ('[{"k": "1"}]\n[]', "line 2: the array is over"),
        ('[{"k": "1",\n"a": 1, "a": 2}]', "two members called 'a'"),
        ('[{"k": "1", "a": {"b": 1, "b": 2}}]', "two members called 'b'"),
        ('[{"k": "1", "a": ' + "[" * 200_000, "line 1: "),
        (b'[\n{"k": "\xe4"}]', "line 2: bytes that are not utf-8"),
    ],
)
def test_a_broken_file_is_neither_read_nor_written(tmp_path: Path, text: str | bytes, words: str) -> None:
    store = make(tmp_path, text)
    before = store.path.read_bytes()
    with pytest.raises(BrokenStore, match=words):
        rows(store)
    with pytest.raises(BrokenStore, match=words):
        change(store, "create", "9", k="9")
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


# -- writing -----------------------------------------------------------------------------------------------

INDENTED = """\
[
    {
        "k": "1",
        "a": {"as": "written"},
        "other": 1.500
    },
    {
        "k": "2",
        "note": "\\u00e9"
    }
]
"""


def test_a_change_leaves_every_other_byte(tmp_path: Path) -> None:
    store = make(tmp_path, INDENTED)
    change(store, "update", "1", a="ä")
    assert content(store) == INDENTED.replace('{"as": "written"}', '"\\u00e4"')
    store = make(tmp_path, INDENTED)
    change(store, "update", "2", a=[1, {"b": []}])
    assert content(store) == INDENTED.replace(
        '"\\u00e9"\n',
        '"\\u00e9",\n        "a": [\n            1,\n            {\n                "b": []\n            }\n        ]\n',
    )


def test_removing_members(tmp_path: Path) -> None:
    store = make(tmp_path, INDENTED)
    change(store, "update", "1", a=ABSENT)
    assert content(store) == INDENTED.replace('        "a": {"as": "written"},\n', "")
    store = make(tmp_path, '[{"a": 1, "k": "1"}]')
    change(store, "update", "1", a=ABSENT)
    assert content(store) == '[{"k": "1"}]'


def test_records_are_added_in_the_style_of_the_first(tmp_path: Path) -> None:
    store = make(tmp_path, INDENTED)
    change(store, "create", "3", a=1, k="3")
    wanted = INDENTED[:-3] + ',\n    {\n        "k": "3",\n        "a": 1\n    }\n]\n'
    assert content(store) == wanted
    assert json.loads(content(store))[2] == {"k": "3", "a": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[]\n", '[\n  {\n    "k": "1",\n    "a": 2\n  }\n]\n'),
        ("\ufeff[ ]", '\ufeff[\n  {\n    "k": "1",\n    "a": 2\n  }\n]'),
        ('[{"k":"0","a":1}]', '[{"k":"0","a":1},{"k":"1","a":2}]'),
        ('[{"k": "0", "a": 1}]', '[{"k": "0", "a": 1}, {"k": "1", "a": 2}]'),
        ('[\n{"k":"0","a":1}\n]', '[\n{"k":"0","a":1},\n{"k":"1","a":2}\n]'),
        ('[{"k":"0"},\n {"k":"x"}]', '[{"k":"0"},\n {"k":"x"},\n {"k":"1","a":2}]'),
    ],
)
def test_adding_to_arrays_of_any_style(tmp_path: Path, before: str, after: str) -> None:
    store = make(tmp_path, before)
    change(store, "create", "1", k="1", a=2)
    assert content(store) == after


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("indent", [None, 2])
def test_commas_stay_where_they_belong(tmp_path: Path, gone: list[int], indent: int | None) -> None:
    records = [{"k": str(number)} for number in range(3)]
    store = make(tmp_path, json.dumps(records, indent=indent) + "\n")
    changes = [Change("delete", None, {"k": str(number)}, {}, always("write")) for number in gone]
    JsonAccessor().apply(store, "thing", changes)
    left = [record for record in records if int(record["k"]) not in gone]
    assert content(store) == json.dumps(left, indent=indent) + "\n"
    change(store, "create", "9", k="9")
    assert [record["k"] for record in json.loads(content(store))] == [record["k"] for record in left] + ["9"]


def test_all_gone_and_one_new(tmp_path: Path) -> None:
    store = make(tmp_path, '[\n  {\n    "k": "1"\n  }\n]\n')
    JsonAccessor().apply(
        store,
        "thing",
        [
            Change("delete", None, {"k": "1"}, {}, always("write")),
            Change("create", None, {"k": "2"}, {"k": "2"}, always("write")),
        ],
    )
    assert content(store) == '[\n  {\n    "k": "2"\n  }\n]\n'


def test_typed_values_are_written_as_json_has_them(tmp_path: Path) -> None:
    binding = bound(
        b="bytes", d="datetime", e="decimal", f="float", i="int", k="str", n="bool", u="uuid", x="json"
    )
    store = make(tmp_path, "[]", binding)
    values = {
        "k": "ä", "b": b"\x00\xff", "d": datetime(2024, 1, 2, tzinfo=UTC), "e": Decimal("1.50"),
        "f": float("inf"), "i": 10**30, "n": True, "u": UUID(int=1), "x": None,
    }  # fmt: skip
    change(store, "create", "ä", **values)
    assert json.loads(content(store)) == [
        {
            "k": "ä", "b": "AP8=", "d": "2024-01-02T00:00:00Z", "e": "1.50", "f": "Infinity", "i": 10**30,
            "n": True, "u": "00000000-0000-0000-0000-000000000001", "x": None,
        }
    ]  # fmt: skip
    assert "ä" in content(store)


def test_types_are_described_by_the_values(tmp_path: Path) -> None:
    store = make(tmp_path, '[{"k": "1", "f": 1}, {"f": 1.5, "z": null}]')
    described = JsonAccessor().describe(store, "thing")
    assert described is not None
    assert list(described.columns.items()) == [("k", "str"), ("f", "float"), ("z", None)]


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    values=st.lists(st.tuples(JSON | st.just(ABSENT), TEXT, JSON), max_size=5),
    indent=st.none() | st.sampled_from([0, 1, 4, "\t"]),
    escaped=st.booleans(),
)
def test_whatever_is_written_comes_back(
    tmp_path: Path, values: list[tuple[Any, str, Any]], indent: int | str | None, escaped: bool
) -> None:
    old = [{"k": str(i), "other" + name: other} for i, (_, name, other) in enumerate(values) if i % 2]
    store = make(tmp_path, json.dumps(old, indent=indent, ensure_ascii=escaped))
    changes = [
        Change("update", None, {"k": str(i)}, {"k": str(i), "a": value}, always("write"))
        for i, (value, _, _) in enumerate(values)
    ]
    outcomes = JsonAccessor().apply(store, "thing", changes)
    found = {record["k"]: record for record in json.loads(content(store))}
    for number, (value, name, other) in enumerate(values):
        wanted = {"k": str(number)} | ({"other" + name: other} if number % 2 else {})
        assert found[str(number)] == wanted | ({} if value is ABSENT else {"a": value})
        row = outcomes[number].row
        if row is None:
            assert outcomes[number].exact
        else:
            assert row[HEADER:] == (value, str(number))
    assert sorted(map(repr, rows(store))) == sorted(
        repr((value, str(i))) for i, (value, _, _) in enumerate(values)
    )
