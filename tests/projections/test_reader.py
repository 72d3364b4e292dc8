"""From a store's raw rows to canonical content."""

from __future__ import annotations

import contextlib
import hashlib
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accessors.memory import MemoryAccessor
from accessors.sqlite import SqliteAccessor
from evsync.binding import Binding, Field
from evsync.conversions import conversion, load_conversions
from evsync.data import Data
from evsync.errors import Refused
from evsync.projections.reader import BadRow, Reader, Record, key_text
from evsync.values import ABSENT, TYPES


def reader(key: tuple[str, ...] = ("k",), accessor: Any = None, **types: str) -> Reader:
    fields = {"k": "str", **types}
    bound = tuple(Field(name, f"local_{name}", type) for name, type in sorted(fields.items()))
    return Reader(Binding("thing", key, bound), accessor or MemoryAccessor())


def read(
    found: Reader, *, id: Any = None, place: Any = None, at: Any = None, by: Any = None, **values: Any
) -> Record:
    values = {"k": "a", **values}
    return found.read((id, place, at, by, *(values.get(name, ABSENT) for name in found.binding.names)))


def test_a_row_becomes_typed_content() -> None:
    found = reader(n="int", d="decimal", on="bool")
    record = read(found, n="7", d=Decimal("1.50"), on=1)
    assert found.fields_of(record) == {"k": "a", "n": 7, "d": "1.50", "on": True}
    assert record.names is found.binding.names
    assert (record.key, record.id, record.place) == ("a", None, None)


def test_absent_is_left_out_and_null_is_kept() -> None:
    found = reader(m="str", n="int")
    record = read(found, n=None)
    assert record.names == ("k", "n")
    assert found.fields_of(record) == {"k": "a", "n": None}


@pytest.mark.parametrize(
    ("key", "types", "values", "expected"),
    [
        (("k",), {}, {"k": "a/b"}, "a/b"),
        (("k",), {}, {"k": ""}, ""),
        (("k",), {"k": "int"}, {"k": 7}, "7"),
        (("k",), {"k": "int"}, {"k": "007"}, "7"),
        (("k",), {"k": "float"}, {"k": 1}, "1.0"),
        (("k",), {"k": "float"}, {"k": math.nan}, "NaN"),
        (("k",), {"k": "bool"}, {"k": 1}, "true"),
        (("k",), {"k": "decimal"}, {"k": "1.50"}, "1.50"),
        (("k",), {"k": "datetime"}, {"k": datetime(2024, 2, 29, tzinfo=UTC)}, "2024-02-29T00:00:00Z"),
        (("k",), {"k": "json"}, {"k": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        (("k", "n"), {"n": "int"}, {"k": "a/b", "n": 1}, "a%2Fb/1"),
        (("n", "k"), {"n": "int"}, {"k": "%2F", "n": 1}, "1/%252F"),
        (("k", "n"), {"n": "bytes"}, {"k": "", "n": b"\xff\xff\xff"}, "/%2F%2F%2F%2F"),
    ],
)  # fmt: skip
def test_the_key_is_text(
    key: tuple[str, ...], types: dict[str, str], values: dict[str, Any], expected: str
) -> None:
    found = reader(key, **types)
    assert read(found, **values).key == expected
    assert found.key_of((None, None, None, None, *(values[name] for name in found.binding.names))) == expected


@pytest.mark.parametrize(("id", "expected"), [(None, None), (7, 7), ("x", "x"), ("a", None), (1.5, "1.5")])
def test_an_id_that_equals_the_key_is_none_of_its_own(id: Any, expected: Any) -> None:
    assert read(reader(), id=id).id == expected


def test_a_number_as_id_that_reads_like_the_key_is_none_of_its_own() -> None:
    assert read(reader(k="int"), k=7, id=7).id is None
    assert read(reader(k="str"), k="7", id=7).id is None


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"n": "many"}, "field 'n': 'many' is not of type int"),
        ({"n": True}, "field 'n': True is not of type int"),
        ({"s": b"x"}, "field 's': b'x' is not of type str"),
        ({"s": "\ud800"}, "field 's': '\\ud800' is not valid Unicode text"),
        ({"k": "\ud800"}, "field 'k': '\\ud800' is not valid Unicode text"),
        ({"j": {1: 2}}, "field 'j': {1: 2} is not of type json"),
        ({"j": {"a": math.nan}}, "field 'j': {'a': nan} is not of type json"),
        ({"k": None}, "the key field 'k' is null"),
        ({"k": ABSENT}, "the key field 'k' is missing"),
        ({"n": "many", "s": ABSENT}, "field 'n': 'many' is not of type int"),
    ],
)
def test_a_bad_row_names_the_field_and_keeps_the_row(values: dict[str, Any], error: str) -> None:
    found = reader(n="int", s="str", j="json")
    with pytest.raises(BadRow) as caught:
        read(found, id=5, **{"n": 1, "s": "x", "j": 1, **values})
    assert caught.value.error.startswith(error)
    assert caught.value.row[0] == 5


def test_of_several_bad_values_one_is_named_and_good_rows_of_the_same_kind_still_pass() -> None:
    found = reader(n="int", m="int")
    for _ in range(2):
        with pytest.raises(BadRow, match="field 'm'"):
            read(found, n="x", m="y")
        assert found.fields_of(read(found, n="1", m="2")) == {"k": "a", "m": 2, "n": 1}


def test_the_key_of_a_row_whose_other_fields_cannot_be_read() -> None:
    found = reader(n="int")
    assert found.key_of((None, None, None, None, "a", "many")) == "a"
    assert found.key_of((None, None, None, None, None, "many")) is None
    assert reader(k="int").key_of((None, None, None, None, "x")) is None


# -- fingerprints ---------------------------------------------------------------------------------------


def test_contents_that_are_not_written_alike_have_fingerprints_of_their_own() -> None:
    found = reader(j="json", m="json")
    contents: list[dict[str, Any]] = [
        {}, {"j": None}, {"m": None}, {"j": None, "m": None}, {"j": 1}, {"m": 1}, {"j": 1.0}, {"j": "1"}, {"j": True},
        {"j": ""}, {"j": []}, {"j": {}}, {"j": 0.0}, {"j": -0.0}, {"j": 1, "m": 2}, {"j": 2, "m": 1}, {"j": "1,2"}, {"j": [1, 2]},
    ]  # fmt: skip
    assert len({read(found, **content).fingerprint for content in contents}) == len(contents)


def test_contents_that_are_written_alike_share_theirs_however_the_store_handed_them_out() -> None:
    found = reader(n="int", d="decimal", t="datetime")
    same = [
        {"n": 1, "d": "1.5", "t": "2024-01-01T00:00:00Z"},
        {"n": "1", "d": 1.5, "t": datetime(2024, 1, 1, tzinfo=UTC)},
        {"n": 1.0, "d": Decimal("1.5"), "t": "2024-01-01 00:00:00+00:00"},
    ]
    assert len({read(found, **values).fingerprint for values in same}) == 1
    assert read(found, **{**same[0], "d": "1.50"}).fingerprint != read(found, **same[0]).fingerprint


def test_a_fingerprint_is_of_content_alone() -> None:
    found = reader(n="int")
    assert read(found, n=1).fingerprint == read(found, n=1, id=5, place="line 7", at=1, by="eve").fingerprint


def test_how_a_fingerprint_is_made() -> None:
    names, content = b'["k","n"]', b'["a",1]'
    expected = hashlib.sha256(hashlib.sha256(names).digest() + content).digest()[:16]
    assert read(reader(n="int"), n=1).fingerprint == expected


@given(
    st.dictionaries(
        st.sampled_from(["m", "n"]), st.none() | st.integers() | st.text() | st.floats() | st.booleans()
    )
)
def test_content_given_as_wire_values_has_the_fingerprint_of_the_row(values: dict[str, Any]) -> None:
    found = reader(m="json", n="json")
    try:
        record = read(found, **values)
    except BadRow:
        return
    assert found.fingerprint_of(found.fields_of(record)) == record.fingerprint


# -- when and by whom -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01 00:00:01", 1_000_000),
        ("1969-12-31T23:59:59.5Z", -500_000),
        ("1970-01-01T01:00:00+01:00", 0),
        (datetime(1970, 1, 1, 0, 0, 1), 1_000_000),
        (1, 1_000_000),
        (1.5, 1_500_000),
        (-1, -1_000_000),
        # what cannot be understood counts as not said
        ("yesterday", None),
        ("", None),
        (True, None),
        (b"x", None),
        (math.nan, None),
        (math.inf, None),
        (10**30, None),
        (-(10**11) + 1, None),  # before the first year
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
    ],
)
def test_when_the_store_says_it_happened(raw: Any, expected: int | None) -> None:
    assert read(reader(), at=raw).changed_at == expected


@pytest.mark.parametrize(("raw", "expected"), [(None, None), ("eve", "eve"), (7, "7")])
def test_who_the_store_says_it_was(raw: Any, expected: str | None) -> None:
    assert read(reader(), by=raw).changed_by == expected


def test_data_as_a_row() -> None:
    found = reader(n="int")
    assert found.row_of(Data("thing", {"local_k": "a", "more": 1}, id=5)) == (
        5,
        None,
        None,
        None,
        "a",
        ABSENT,
    )
    told = Binding("thing", ("k",), found.binding.fields, changed_at="at", changed_by="by")
    row = Reader(told, MemoryAccessor()).row_of(Data("thing", {"local_k": "a", "at": 1, "by": "eve"}))
    assert row == (None, None, 1, "eve", "a", ABSENT)
    data = Data("thing", {"at": 1}, changed_at=datetime(2024, 1, 1), changed_by="tom")
    assert Reader(told, MemoryAccessor()).row_of(data)[2:4] == (datetime(2024, 1, 1), "tom")


# -- json -----------------------------------------------------------------------------------------------


def test_json_kept_as_text_is_parsed_where_the_accessor_says_so() -> None:
    parsed, whole = reader(accessor=SqliteAccessor(), j="json"), reader(j="json")
    assert parsed.fields_of(read(parsed, j='{"b": 1, "a": [1.0]}'))["j"] == {"a": [1.0], "b": 1}
    assert whole.fields_of(read(whole, j='{"b": 1}'))["j"] == '{"b": 1}'
    with pytest.raises(BadRow, match="field 'j'"):
        read(parsed, j="{")


@pytest.mark.parametrize("name", TYPES)
def test_null_passes_in_every_type(name: str) -> None:
    found = reader(x=name)
    assert found.fields_of(read(found, x=None)) == {"k": "a", "x": None}


def test_key_text_of_each_kind() -> None:
    assert key_text("str", "x") == "x"
    assert key_text("decimal", "1.50") == "1.50"
    assert key_text("int", 7) == "7"


# -- conversions, and columns that are no part of the type ----------------------------------------------


def converting(accessor: Any = None, **written: Any) -> Reader:
    types = {"k": "str", "n": "int", "price": "decimal"}
    fields, convert = [], {}
    for name, type in types.items():
        local_type = None
        if name in written:
            pair = load_conversions("here", {name: written[name]}, Path())[name]
            convert[name] = conversion("here", name, pair, type, "str")
            local_type = convert[name].local_type
        fields.append(Field(name, f"local_{name}", type, local_type))
    return Reader(Binding("thing", ("k",), tuple(fields), convert=convert), accessor or MemoryAccessor())


@pytest.mark.parametrize("n", [5, None, ABSENT])
def test_a_converted_value_is_read_and_written(n: Any) -> None:
    found = converting(price="cents", k={"A": "active", "b": "B"})
    record = read(found, k="A", n=n, price=150)
    fields = found.fields_of(record)
    assert (record.key, fields["price"], fields.get("n", ABSENT)) == ("active", "1.50", n)
    assert found.native(fields, ["k", "price"]) == {"local_k": "A", "local_price": 150}
    assert read(found, k="b").key == "B"


def test_null_and_absent_are_not_converted() -> None:
    found = converting(price="cents")
    assert found.fields_of(read(found, n=1, price=None))["price"] is None
    assert "price" not in found.fields_of(read(found, n=1))
    assert found.native({"price": None}, ["price", "n"]) == {"local_price": None, "local_n": ABSENT}
    assert found.read_back({"price": None, "n": 1}) == {"price": None, "n": 1}
    assert found.read_back({"price": "1.5"}) == {"price": "1.50"}


def test_json_that_is_kept_as_text_is_parsed_before_it_is_converted() -> None:
    pair = load_conversions("here", {"x": (lambda found: found["v"], lambda v: {"v": v})}, Path())["x"]
    told = conversion("here", "x", pair, "str", "json")
    fields = (Field("k", "k", "str"), Field("x", "x", "str", "json"))
    found = Reader(Binding("thing", ("k",), fields, convert={"x": told}), SqliteAccessor())
    assert found.fields_of(read(found, x='{"v": "a"}'))["x"] == "a"


def test_a_value_that_cannot_be_converted_is_named() -> None:
    found = converting(k={"A": "active"}, price="cents")
    with pytest.raises(BadRow) as caught:
        read(found, k="X")
    assert caught.value.error == "field 'k': 'X' is none of 'A'"
    assert found.key_of((None, None, None, None, "X", 1, 1)) is None
    with pytest.raises(Refused, match=r"field 'price': 0\.001 has fractions of a cent"):
        found.native({"price": "0.001"}, ["price"])


@pytest.mark.parametrize(("value", "bad"), [("", True), (0, True), (None, False), (ABSENT, False)])
def test_a_value_that_is_no_part_of_the_type_makes_the_row_wait(value: Any, bad: bool) -> None:
    binding = Binding("thing", ("k",), (Field("k", "k", "str"), Field("n", "n", "int")), strange=("more",))
    found = Reader(binding, MemoryAccessor())
    row = (None, None, None, None, "a", 1, value)
    assert found.key_of(row) == "a"
    if bad:
        with pytest.raises(BadRow) as caught:
            found.read(row)
        assert caught.value.error == "field 'more' is not part of 'thing'"
    else:
        assert found.fields_of(found.read(row)) == {"k": "a", "n": 1}
    with pytest.raises(BadRow) as caught:
        found.read((None, None, None, None, "a", "many", None))
    assert caught.value.error.startswith("field 'n': ")


raw = st.one_of(
    st.none(),
    st.just(ABSENT),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(
        ["1", "-0", "007", "1.50", "NaN", "true", "2026-01-31", "2026-01-31T12:00:00Z", "\ud800", "{}", "[1"]
    ),
    st.binary(max_size=3),
)
kinds = st.sampled_from(sorted(TYPES))


@given(st.lists(kinds, min_size=1, max_size=4), st.data(), st.integers(1, 5))
def test_rows_read_together_are_those_read_one_by_one(
    types: list[str], data: st.DataObject, known: int
) -> None:
    """Also where few texts are kept."""
    fields = tuple(Field(f"f{n}", f"f{n}", type) for n, type in enumerate(types))
    together = Reader(Binding("thing", ("f0",), fields), MemoryAccessor())
    apart = Reader(Binding("thing", ("f0",), fields), MemoryAccessor())
    header = st.tuples(
        st.sampled_from([None, 7, "x"]), st.just("here"), st.none(), st.sampled_from([None, "ann"])
    )
    rows = data.draw(st.lists(st.tuples(header, st.tuples(*[raw] * len(types)))))
    bad: list[tuple[Any, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evsync.projections.reader.KNOWN_TEXTS", known)
        for _ in range(2):  # what was met before is known
            bad.clear()
            found = together.read_all(
                [(*h, *v) for h, v in rows], lambda one: bad.append((one.row, one.error))
            )
    expected, refused = [], []
    for head, values in rows:
        try:
            expected.append(apart.read((*head, *values)))
        except BadRow as one:
            refused.append((one.row, one.error))
    assert found == expected
    assert repr(bad) == repr(refused)


IDS = st.sampled_from([None, None, 1, "1", "x", 2.5, True])
MOMENTS = st.sampled_from([None, None, "2026-01-31T12:00:00Z", 1_769_860_800, "never", [1]])
WHOLE = st.one_of(st.none(), st.sampled_from([1, "1", "-7", 2.0, True, "x"]))
PRICE = st.one_of(st.none(), st.sampled_from(["1.50", "1.5", 2, "x"]))


@given(
    st.sampled_from([("k",), ("k", "n"), ("n",)]),
    st.lists(
        st.tuples(IDS, st.just("here"), MOMENTS, st.sampled_from([None, None, "ann", {"by": 1}]),
                  st.sampled_from(["a", "b/c", 1, None, ABSENT]), WHOLE, PRICE),
        max_size=4,
    ),
    st.sampled_from([1, 100]),
)  # fmt: skip
def test_a_batch_is_what_its_rows_are(key: tuple[str, ...], rows: list[Any], known: int) -> None:
    """And it is only left to be read row by row where a row cannot be taken, or lacks a field."""
    fields = (Field("k", "k", "str"), Field("n", "n", "int"), Field("p", "p", "decimal"))
    reader = Reader(Binding("thing", key, fields), MemoryAccessor())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evsync.projections.reader.KNOWN_TEXTS", known)
        batch = reader.batch(rows)
    records: list[Any] = []
    for row in rows:
        with contextlib.suppress(BadRow):
            records.append(reader.read(row))
    if batch is None:
        assert len(records) < len(rows) or not rows or any(ABSENT in row for row in rows)
        return
    keys, ids, *others = batch.columns()
    assert records == list(zip(keys, ids, [("k", "n", "p")] * len(rows), *others, strict=True))


@pytest.mark.parametrize(
    "odd", ["007", " 1", "+1", "-0", "1_000", "\u0661\u0662", "1.0", "", "9" * 5_000, "12x"]
)
def test_texts_are_taken_for_numbers_together_as_they_are_alone(odd: str) -> None:
    binding = Binding("thing", ("k",), (Field("k", "k", "str"), Field("n", "n", "int")))
    rows = [(None, None, None, None, str(n), str(n * 7 - 3)) for n in range(9)]
    for column in (rows, [*rows, (None, None, None, None, "odd", odd)]):
        bad: list[Any] = []
        together = Reader(binding, MemoryAccessor()).read_all(column, bad.append)
        alone = []
        for row in column:
            with contextlib.suppress(BadRow):
                alone.append(Reader(binding, MemoryAccessor()).read(row))
        assert together == alone
        assert len(together) + len(bad) == len(column)
