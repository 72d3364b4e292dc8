"""JSON lines files: an object a line; what is not changed keeps its text."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accessors.jsonl import JsonLinesAccessor
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
        store = Store("mine", "jsonl:things.jsonl", accessor=JsonLinesAccessor(), root=tmp_path)
        store.bind(self.binding())
        return store


def bound(**types: str) -> Binding:
    return Binding("thing", ("k",), tuple(Field(name, name, kind) for name, kind in sorted(types.items())))


BINDING = bound(a="json", k="str")


def make(tmp_path: Path, content: str | bytes, binding: Binding = BINDING) -> Store:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.jsonl").write_bytes(raw)
    store = Store("s", "jsonl:t.jsonl", accessor=JsonLinesAccessor(), root=tmp_path)
    store.bind(binding)
    return store


def rows(store: Store) -> list[tuple[Any, ...]]:
    return [row[HEADER:] for batch in JsonLinesAccessor().scan(store, "thing") for row in batch]


def change(store: Store, action: Any, key: str, **values: Any) -> Outcome:
    [outcome] = JsonLinesAccessor().apply(
        store, "thing", [Change(action, None, {"k": key}, values, always("write"))]
    )
    return outcome


def content(store: Store) -> str:
    return store.path.read_bytes().decode()


def test_null_is_not_absent(tmp_path: Path) -> None:
    store = make(tmp_path, '{"k":"1","a":null}\n{"k":"2"}\n')
    assert rows(store) == [(None, "1"), (ABSENT, "2")]
    change(store, "update", "1", a=ABSENT)
    change(store, "update", "2", a=None)
    assert content(store) == '{"k":"1"}\n{"k":"2","a":null}\n'


def test_the_place_is_the_line(tmp_path: Path) -> None:
    store = make(tmp_path, '\n{"k":"1"}\n \n{"k":"2"}')
    assert [row[1] for batch in JsonLinesAccessor().scan(store, "thing") for row in batch] == [
        "line 2",
        "line 4",
    ]


def test_an_empty_file_holds_no_records(tmp_path: Path) -> None:
    assert rows(make(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"k":"1"}\n{"k":"2"', "line 2: column"),
        ('{"k":"1"}\n\n{"k":"2",}\n', "line 3: column"),
        ("[1]\n", "line 1: an object is expected"),
        ('{"k":"1"} {}\n', "line 1: column 11: Extra data"),
        ('{"k":"1", "a": ' + "[" * 100_000 + "\n", "line 1: "),
        (b'{"k":"1"}\n{"k":"\xe4"}\n', "line 2: bytes that are not utf-8"),
        ('{"k":"1", "a": NaN, "a": 1}\n', "line 1: an object has two members called 'a'"),
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
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]


def test_numbers_that_strict_json_does_not_know(tmp_path: Path) -> None:
    binding = bound(a="float", k="str")
    store = make(tmp_path, '{"k": "1", "a": -Infinity}\n', binding)
    assert rows(store) == [(float("-inf"), "1")]
    change(store, "update", "1", a=float("nan"))
    assert content(store) == '{"k": "1", "a": "NaN"}\n'


def test_decimals_keep_their_digits_and_other_numbers_stay_floats(tmp_path: Path) -> None:
    binding = bound(a="decimal", f="float", j="json", k="str")
    store = make(tmp_path, '{"k": "1", "a": 1.50, "f": 1.50, "j": [{"x": 1.50}]}\n', binding)
    [row] = rows(store)
    assert str(row[0]) == "1.50"
    assert row[1:] == (1.5, [{"x": 1.5}], "1")
    assert (type(row[1]), type(row[2][0]["x"])) == (float, float)


def test_a_decimal_in_place_of_a_number_stays_a_number(tmp_path: Path) -> None:
    store = make(tmp_path, '{"k": "1", "a": 1.50}\n{"k": "2", "a": "1.50"}\n', bound(a="decimal", k="str"))
    change(store, "update", "1", a=Decimal("2.00"))
    change(store, "update", "2", a=Decimal("2.00"))
    change(store, "create", "3", k="3", a=Decimal("1E+3"))
    change(store, "create", "4", k="4", a=Decimal("NaN"))
    assert content(store).splitlines() == [
        '{"k": "1", "a": 2.00}',
        '{"k": "2", "a": "2.00"}',
        '{"k": "3", "a": 1E+3}',
        '{"k": "4", "a": "NaN"}',
    ]
    assert [str(row[0]) for row in rows(store)] == ["2.00", "2.00", "1E+3", "NaN"]


ODD = (
    '\ufeff{"k":"1", "other" : 1.500, "a":"\\u00e9"}\r\n'
    "\r\n"
    '  {"a":[1,2],"k":"2"} \n'
    '{"x":1e5,"k":"3","y":{"z":0.12345678901234567890}}'
)


def test_a_change_leaves_every_other_byte(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    change(store, "update", "3", a="é")
    assert content(store) == ODD[:-1] + ', "a":"é"}'
    change(store, "update", "1", a=True)
    change(store, "update", "2", a={"b": [None]})
    after = ODD[:-1] + ', "a":"é"}'
    assert content(store) == after.replace('"\\u00e9"', "true").replace("[1,2]", '{"b":[null]}')


def test_a_delete_leaves_every_other_byte(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    change(store, "delete", "2")
    assert content(store) == ODD.replace('  {"a":[1,2],"k":"2"} \n', "")


def test_a_new_record_takes_after_the_first(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    change(store, "create", "4", a=1, k="4")
    assert content(store) == ODD + '\r\n{"k":"4", "a":1}'
    store = make(tmp_path, '{"k":"1","a":"\\u00e9"}\n')
    change(store, "create", "2", k="2", a="ö")
    assert content(store) == '{"k":"1","a":"\\u00e9"}\n{"k":"2","a":"\\u00f6"}\n'


def test_a_new_record_in_an_empty_file(tmp_path: Path) -> None:
    store = make(tmp_path, "")
    change(store, "create", "4", k="4", a=[1, {"b": 2}])
    assert content(store) == '{"k": "4", "a": [1, {"b": 2}]}\n'


def test_types_are_described_by_the_values(tmp_path: Path) -> None:
    store = make(
        tmp_path,
        '{"k": "1", "n": null, "i": 1, "f": 1, "m": 1}\n{"k": "2", "f": 1.5, "m": "x", "b": true, "j": {}}',
    )
    described = JsonLinesAccessor().describe(store, "thing")
    assert described is not None
    assert list(described.columns.items()) == [
        ("k", "str"),
        ("n", None),
        ("i", "int"),
        ("f", "float"),
        ("m", "json"),
        ("b", "bool"),
        ("j", "json"),
    ]


def test_ids_are_numbers_or_text(tmp_path: Path) -> None:
    binding = Binding("thing", ("k",), (Field("k", "k", "str"),), id="no")
    store = make(
        tmp_path, '{"no": 7, "k": "1"}\n{"no": "x", "k": "2"}\n{"no": true, "k": "3"}\n{"k": "4"}\n', binding
    )
    assert [data.id for data in JsonLinesAccessor().find(store, "thing")] == [7, "x", None, None]
    [outcome] = JsonLinesAccessor().apply(
        store, "thing", [Change("update", 7, {"k": "other"}, {"k": "one"}, always("write"))]
    )
    assert (outcome.state, outcome.id) == ("written", 7)
    assert rows(store)[0] == ("one",)


def test_half_a_surrogate_pair_in_the_file_does_not_stop_a_change(tmp_path: Path) -> None:
    store = make(tmp_path, '{"k": "1", "a": ["\\ud800"]}\n')
    assert change(store, "update", "1", a=["x"]).state == "written"
    assert content(store) == '{"k": "1", "a": ["x"]}\n'
