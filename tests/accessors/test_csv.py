"""CSV files: the dialect is found and kept, null is not the empty string, broken files are never read as data."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accessors import csv as csv_accessor
from accessors.csv import CsvAccessor
from evsync.accessor import HEADER, Change
from evsync.binding import Binding, Description, Field, PlaceSpec
from evsync.errors import BrokenStore, ConfigError, Refused
from evsync.store import Store
from evsync.testing.conformance import AccessorConformance, always
from evsync.values import ABSENT


class TestConformance(AccessorConformance):
    declares_types = False
    # It expects to be asked in the order of the changes; a file is gone through in its own order. Instead:
    # test_files.py, test_every_change_is_judged_by_the_record_as_it_is.
    test_apply_judges_the_record_as_it_is = None  # type: ignore[assignment]
    refuses: ClassVar[Any] = {"v_str": "\ud800"}

    def make_store(self, tmp_path: Path) -> Store:
        store = Store("mine", "csv:things.csv", accessor=CsvAccessor(), root=tmp_path)
        store.bind(self.binding())
        return store


class TestConformanceWithNullText(TestConformance):
    def make_store(self, tmp_path: Path) -> Store:
        store = Store(
            "mine", "csv:", accessor=CsvAccessor(), root=tmp_path, options={"null": "NULL", "delimiter": ";"}
        )
        store.bind(self.binding())
        return store


class TestConformanceInUtf16(TestConformance):
    def make_store(self, tmp_path: Path) -> Store:
        store = Store("mine", "csv:", accessor=CsvAccessor(), root=tmp_path, options={"encoding": "utf-16"})
        store.bind(self.binding())
        return store


BINDING = Binding("thing", ("k",), (Field("a", "a", "str"), Field("b", "b", "str"), Field("k", "k", "str")))
"""Local columns a, b and k; a file may have more."""


def make(tmp_path: Path, content: bytes | str, binding: Binding = BINDING, **options: Any) -> Store:
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "t.csv").write_bytes(raw)
    places = {"thing": PlaceSpec(options=options)}
    store = Store("s", "csv:t.csv", accessor=CsvAccessor(), root=tmp_path, places=places)
    store.bind(binding)
    return store


def rows(store: Store) -> list[tuple[Any, ...]]:
    """(a, b, k) of each record."""
    return [row[HEADER:] for batch in CsvAccessor().scan(store, "thing") for row in batch]


def change(store: Store, action: Any, key: str, **values: Any) -> Any:
    [outcome] = CsvAccessor().apply(
        store, "thing", [Change(action, None, {"k": key}, values, always("write"))]
    )
    return outcome


def content(store: Store) -> bytes:
    return store.path.read_bytes()


# -- reading -----------------------------------------------------------------------------------------------


def test_columns_may_stand_in_any_order_and_others_beside_them(tmp_path: Path) -> None:
    assert rows(make(tmp_path, "x,k,b,y,a\n1,K,B,2,A\n")) == [("A", "B", "K")]


def test_an_unquoted_empty_cell_is_null_and_a_quoted_one_is_empty(tmp_path: Path) -> None:
    store = make(tmp_path, 'k,a,b\n1,,""\n2,"",\n3,,\n4,"""",""\n5,"x""""y",\n')
    assert rows(store) == [
        (None, "", "1"),
        ("", None, "2"),
        (None, None, "3"),
        ('"', "", "4"),
        ('x""y', None, "5"),
    ]


def test_the_null_text_is_null_only_unquoted(tmp_path: Path) -> None:
    store = make(tmp_path, 'k,a,b\n1,NA,"NA"\n2,,NA\n', null="NA")
    assert rows(store) == [(None, "NA", "1"), ("", None, "2")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str) -> None:
    store = make(tmp_path, delimiter.join("kab") + "\n" + delimiter.join("123") + "\n")
    assert rows(store) == [("2", "3", "1")]
    change(store, "create", "4", k="4", a=f"x{delimiter}y", b=None)
    assert content(store).splitlines()[-1].decode() == f'4{delimiter}"x{delimiter}y"{delimiter}'


def test_delimiters_in_quoted_names_do_not_mislead(tmp_path: Path) -> None:
    assert rows(make(tmp_path, '"k";"a,b,c,d";a;b\n1;2;3;4\n')) == [("3", "4", "1")]


def test_the_delimiter_may_be_given(tmp_path: Path) -> None:
    assert rows(make(tmp_path, "k^a^b\n1^2^3\n", delimiter="^")) == [("2", "3", "1")]


def test_the_place_is_the_line_where_the_record_starts(tmp_path: Path) -> None:
    store = make(tmp_path, 'k,a,b\n\n1,"x\ny",z\n\n2,,\n')
    assert [row[1] for batch in CsvAccessor().scan(store, "thing") for row in batch] == ["line 3", "line 6"]


def test_cells_that_a_short_line_lacks_are_absent(tmp_path: Path) -> None:
    assert rows(make(tmp_path, "k,a,b\n1,2\n3\n")) == [("2", ABSENT, "1"), (ABSENT, ABSENT, "3")]


def test_line_ends_and_nul_inside_quotes_are_text(tmp_path: Path) -> None:
    assert rows(make(tmp_path, 'k,a,b\r\n1,"x\r\ny\rz\n","\0"\r\n')) == [("x\r\ny\rz\n", "\0", "1")]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ],
)
def test_a_byte_order_mark_says_the_encoding_and_is_kept(tmp_path: Path, encoding: str, mark: bytes) -> None:
    store = make(tmp_path, mark + "k,a,b\n1,ä,😀\n".encode(encoding))
    assert rows(store) == [("ä", "😀", "1")]
    change(store, "update", "1", a="ö")
    assert content(store) == mark + "k,a,b\n1,ö,😀\n".encode(encoding)


def test_another_encoding_may_be_given(tmp_path: Path) -> None:
    store = make(tmp_path, "k,a,b\n1,ä,\n".encode("latin-1"), encoding="latin-1")
    assert rows(store) == [("ä", None, "1")]
    assert change(store, "update", "1", a="ü").state == "written"
    assert content(store) == "k,a,b\n1,ü,\n".encode("latin-1")
    refused = change(store, "update", "1", a="€")
    assert isinstance(refused.error, Refused)
    assert "'€'" in refused.error.message


def test_id_and_change_columns(tmp_path: Path) -> None:
    binding = Binding("thing", ("k",), (Field("k", "k", "int"),), "no", "at", "by")
    store = make(tmp_path, "no,k,at,by\nn1,1,2024-01-02T03:04:05Z,ann\n,2,soon,\n", binding)
    one, two = CsvAccessor().find(store, "thing")
    assert (one.id, one.changed_by, str(one.changed_at)) == ("n1", "ann", "2024-01-02 03:04:05+00:00")
    assert (two.id, two.changed_by, two.changed_at) == (None, None, None)
    assert CsvAccessor().get(store, "thing", "n1") == one
    assert CsvAccessor().get(store, "thing", "n2") is None


# -- broken files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n", "no header"),
        ("k,a,a,b\n", "two columns are called 'a'"),
        ("k,,a,b\n", "column 2 has no name"),
        ("k,a,b\n1,2,3\n1,2,3,4\n", "line 3: 4 cells, but the header has 3"),
        ('k,a,b\n1,2,3\n\n2,"x\ny\nz', "line 4: cannot be read as CSV: unexpected end of data"),
        ('k,a,b\n1,"x"y,3\n', "line 2: cannot be read as CSV"),
        (b"k,a,b\n1,2,3\n2,\xe4,\n", "line 3: bytes that are not utf-8"),
        ("k,a\n1,2\n", "no column 'b'"),
    ],
)
def test_a_broken_file_is_neither_read_nor_written(tmp_path: Path, text: str | bytes, words: str) -> None:
    store = make(tmp_path, text)
    before = content(store)
    with pytest.raises(BrokenStore, match=words):
        rows(store)
    with pytest.raises(BrokenStore, match=words):
        change(store, "create", "9", k="9", a="", b="")
    assert content(store) == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_file_of_no_bytes_holds_nothing_and_gets_its_header_with_the_first_record(tmp_path: Path) -> None:
    store = make(tmp_path, "")
    assert rows(store) == []
    assert CsvAccessor().describe(store, "thing") == Description({})
    assert change(store, "delete", "9").state != "failed"
    assert content(store) == b""
    change(store, "create", "9", k="9", a="x", b=None)
    assert content(store) == b"k,a,b\n9,x,\n"


def test_a_cell_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_accessor, "LONGEST_CELL", 100)
    store = make(tmp_path, 'k,a,b\n1,"' + "x\n" * 100)
    with pytest.raises(BrokenStore, match=r"line 2: .*field larger than field limit \(100\)"):
        rows(store)
    store = make(tmp_path, "k,a,b\n1,2,3\n")
    assert isinstance(change(store, "update", "1", a="x" * 101).error, Refused)


@pytest.mark.parametrize("options", [{"delimiter": ",,"}, {"delimiter": '"'}, {"null": "a,b"}, {"null": '"'}])
def test_options_that_no_csv_file_can_have(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        rows(make(tmp_path, "k,a,b\n", **options))


@pytest.mark.parametrize("encoding", ["utf8x", "base64"])
def test_an_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(ConfigError, match=f"no encoding '{encoding}'"):
        rows(make(tmp_path, "k,a,b\n", encoding=encoding))


@pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "utf-8-sig"])
def test_a_mark_is_no_part_of_the_first_name(tmp_path: Path, encoding: str) -> None:
    assert rows(make(tmp_path, "\ufeffk,a,b\n1,2,3\n", encoding=encoding)) == [("2", "3", "1")]


# -- writing -----------------------------------------------------------------------------------------------

ODD = (
    '\ufeffk,"note",a,b\r\n'
    '1,"quoted without need",x,""\r\n'
    "\r\n"
    '2,"two\nlines", spaced ,\n'
    '"3",,"a ""b""",c\r\n'
    "4,short\r\n"
    "5,no end,,"
)
"""Whatever a CSV file may look like."""


def test_a_change_leaves_every_other_byte(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    assert change(store, "update", "3", b="C").row[HEADER:] == ('a "b"', "C", "3")
    assert content(store).decode() == ODD.replace('"a ""b""",c', '"a ""b""",C')


def test_a_delete_leaves_every_other_byte(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    assert change(store, "delete", "1").state == "written"
    assert content(store).decode() == ODD.replace('1,"quoted without need",x,""\r\n', "")


def test_a_new_record_goes_to_the_end(tmp_path: Path) -> None:
    store = make(tmp_path, ODD)
    change(store, "create", "6", k="6", a="", b=None)
    change(store, "create", "7", k="7", a=" x", b=ABSENT)
    assert content(store).decode() == ODD + '\r\n6,,"",\r\n7,," x",'


def test_a_new_record_behind_a_line_end(tmp_path: Path) -> None:
    store = make(tmp_path, "k;a;b\r\n")
    change(store, "create", "6", k="6", a="1", b="2")
    assert content(store) == b"k;a;b\r\n6;1;2\r\n"


def test_a_header_without_line_end(tmp_path: Path) -> None:
    store = make(tmp_path, "k,a,b")
    assert rows(store) == []
    change(store, "create", "6", k="6", a="1", b="2")
    assert rows(store) == [("1", "2", "6")]


def test_a_short_line_grows_only_as_far_as_needed(tmp_path: Path) -> None:
    store = make(tmp_path, "k,a,b,c\n1\n")
    change(store, "update", "1", a="x")
    assert content(store) == b"k,a,b,c\n1,x\n"


def test_a_value_that_reads_the_same_keeps_its_text(tmp_path: Path) -> None:
    binding = Binding(
        "thing", ("k",), (Field("a", "a", "int"), Field("b", "b", "str"), Field("k", "k", "str"))
    )
    store = make(tmp_path, 'k,a,b\n1,007,"x"\n', binding)
    change(store, "update", "1", a=7, b="y")
    assert content(store) == b"k,a,b\n1,007,y\n"


def test_writing_null_with_a_null_text(tmp_path: Path) -> None:
    store = make(tmp_path, "k,a,b\n1,x,y\n", null="NA")
    change(store, "update", "1", a=None, b="NA")
    change(store, "create", "2", k="2", a="", b=None)
    assert content(store) == b'k,a,b\n1,NA,"NA"\n2,"",NA\n'


def test_a_blank_line_is_not_written_for_a_record(tmp_path: Path) -> None:
    binding = Binding("thing", ("k",), (Field("k", "k", "str"),))
    store = make(tmp_path, "k\n1\n", binding)
    assert isinstance(change(store, "update", "1", k=None).error, Refused)
    assert change(store, "update", "1", k="").state == "written"
    assert content(store) == b'k\n""\n'


def test_create_writes_the_key_first_and_the_others_by_name(tmp_path: Path) -> None:
    fields = (Field("a", "z", "str"), Field("b", "a;b,c", "str"), Field("k", "m", "str"))
    store = Store("s", "csv:t.csv", accessor=CsvAccessor(), root=tmp_path)
    store.bind(Binding("thing", ("k",), fields, id="no"))
    CsvAccessor().create(store, "thing")
    assert content(store) == b'no,m,"a;b,c",z\n'
    described = CsvAccessor().describe(store, "thing")
    assert described is not None
    assert described.columns == {"no": None, "m": None, "a;b,c": None, "z": None}


TEXT = st.text(st.characters(codec="utf-8"), max_size=12) | st.text(
    st.sampled_from('",;\t| \r\n\0NA\ufeff\x85\u2028x'), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    cells=st.lists(st.tuples(st.none() | TEXT, st.none() | TEXT), max_size=6),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from(",;\t|"),
    null=st.sampled_from(["", "NA", "x"]),
    ended=st.booleans(),
)
def test_whatever_is_written_comes_back(
    tmp_path: Path,
    cells: list[tuple[str | None, str | None]],
    newline: str,
    delimiter: str,
    null: str,
    ended: bool,
) -> None:
    store = make(tmp_path, delimiter.join("kab") + newline * ended, null=null)
    wanted = [(a, b, str(number)) for number, (a, b) in enumerate(cells)]
    changes = [
        Change("create", None, {"k": k}, {"k": k, "a": a, "b": b}, always("write")) for a, b, k in wanted
    ]
    CsvAccessor().apply(store, "thing", changes)
    assert rows(store) == wanted
    turned = [(b, a, k) for a, b, k in wanted]
    changes = [Change("update", None, {"k": k}, {"a": a, "b": b}, always("write")) for a, b, k in turned]
    for outcome, row in zip(CsvAccessor().apply(store, "thing", changes), turned, strict=True):
        assert outcome.row is not None
        assert outcome.row[HEADER:] == row
    assert rows(store) == turned
