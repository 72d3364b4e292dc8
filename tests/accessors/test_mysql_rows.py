"""Rows out of the binary log, where no server at hand writes them so: MySQL's own types, and those of old tables."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from accessors import mysql_tables as tables
from accessors.mysql_log import Event, Unreadable
from accessors.mysql_rows import Changed, Decoder, Partial
from accessors.mysql_tables import Column, Table, table_of

UTF8, LATIN1 = 45, 8


def texts(collation: int | None) -> Any:
    """Bytes stay what they are, with the number of their collation."""
    return (
        bytes if collation in (None, tables.BINARY) else lambda data: f"{collation}:{data.decode('latin-1')}"
    )


def table_map(types: list[tuple[int, bytes]], **more: bytes) -> bytes:
    """What a server says of a table, with the columns' types and what belongs to them."""
    told = b"".join(meta for _, meta in types)
    body = (7).to_bytes(6, "little") + b"\1\0\x01d\0\x06person\0" + bytes([len(types)])
    body += bytes(type for type, _ in types) + bytes([len(told)]) + told + bytes((len(types) + 7) // 8)
    kinds = {"signs": 1, "charset": 2, "charsets": 3, "names": 4, "sets": 5, "enums": 6, "choice_charset": 10}
    for name, value in more.items():
        body += bytes([kinds[name], len(value)]) + value
    return body


def strings(*texts: bytes) -> bytes:
    return b"".join(bytes([len(text)]) + text for text in texts)


def column(
    type: int, size: int = 0, scale: int = 0, unsigned: bool = False, collation: int | None = None
) -> Column:
    return Column("x", type, size, scale, unsigned, collation, ())


def event(type: int, body: bytes) -> Event:
    return Event(type, 0, 1, 0, 100, False, body, 0)


def read(one: Column, data: bytes) -> Any:
    """The value of a row of one column."""
    row = (7).to_bytes(6, "little") + b"\1\0" + b"\x01\xff" + b"\x00" + data
    [change] = Decoder(Table("d", "person", (one,), True), texts).changes(event(23, row))
    assert change.after is not None
    return change.after["x"]


# -- tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mariadb", [True, False])
def test_collations_are_told_of_texts_alone_among_which_mariadb_counts_geometries(mariadb: bool) -> None:
    types = [(tables.LONG, b""), (tables.GEOMETRY, b"\4"), (tables.VARCHAR, b"\x50\0"), (tables.BLOB, b"\2")]
    body = table_map(types, charset=bytes([tables.BINARY, 1 if mariadb else 0, UTF8]))
    assert [one.collation for one in table_of(body, mariadb).columns][2:] == [UTF8, tables.BINARY]


def test_signs_are_told_of_numbers_alone_among_which_is_the_year() -> None:
    types = [
        (tables.YEAR, b""),
        (tables.VARCHAR, b"\x50\0"),
        (tables.LONG, b""),
        (tables.BIT, b"\0\1"),
        (tables.LONGLONG, b""),
    ]
    assert [one.unsigned for one in table_of(table_map(types, signs=b"\xa0"), False).columns] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_labels_and_names() -> None:
    types = [
        (tables.STRING, bytes([tables.SET, 1])),
        (tables.STRING, bytes([tables.ENUM, 1])),
        (tables.STRING, b"\xee\x20"),
    ]
    body = table_map(
        types,
        names=strings(b"s", "ö".encode(), b"c"),
        sets=b"\2" + strings(b"one", b"two"),
        enums=b"\1" + strings(b"a"),
        charset=bytes([UTF8]),
        choice_charset=bytes([LATIN1]),
    )
    found = table_of(body, False)
    assert found.named
    assert [(one.name, one.type, one.labels, one.collation) for one in found.columns] == [
        ("s", tables.SET, [b"one", b"two"], LATIN1),
        ("ö", tables.ENUM, [b"a"], LATIN1),
        ("c", tables.STRING, (), UTF8),
    ]
    assert (found.columns[2].size, found.columns[2].scale) == (288, 2)


def test_a_log_that_names_no_columns_says_so() -> None:
    assert not table_of(table_map([(tables.LONG, b"")]), False).named


def test_what_is_cut_off_is_not_read() -> None:
    with pytest.raises(Unreadable):
        table_of(table_map([(tables.LONG, b"")])[:12], False)


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "data", "value"),
    [
        (column(tables.JSON, scale=4), struct.pack("<I", 3) + b"\x05\x07\x00", "7"),
        (column(tables.JSON, scale=4), struct.pack("<I", 0), "null"),
        (column(tables.VECTOR, scale=4), struct.pack("<I", 4) + b"abcd", b"abcd"),
        (column(tables.TIMESTAMP), struct.pack("<I", 1_700_000_000), "2023-11-14 22:13:20"),
        (column(tables.TIMESTAMP), bytes(4), "0000-00-00 00:00:00"),
        (column(tables.DATETIME), struct.pack("<Q", 20240229123456), "2024-02-29 12:34:56"),
        (column(tables.DATETIME), bytes(8), "0000-00-00 00:00:00"),
        (column(tables.TIME), (8385959).to_bytes(3, "little"), "838:59:59"),
        (column(tables.TIME), (-1).to_bytes(3, "little", signed=True), "-00:00:01"),
        (column(tables.NEWDATE), (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little"), "2024-02-29"),
        (column(tables.TIMESTAMP2, scale=0), struct.pack(">I", 4_294_967_295), "2106-02-07 06:28:15"),
        (column(tables.STRING, 4, 1, collation=tables.BINARY), b"\x02ab", b"ab\0\0"),
        (column(tables.STRING, 4, 1, collation=UTF8), b"\x02ab", "45:ab"),
    ],
)
def test_values(one: Column, data: bytes, value: object) -> None:
    assert read(one, data) == value


def test_rows_of_mysql_have_a_longer_head() -> None:
    body = (
        (7).to_bytes(6, "little") + b"\1\0" + b"\x05\0\x01\x02\x03" + b"\x01\xff\xff" + b"\x00\x05" + b"\x01"
    )
    decoder = Decoder(Table("d", "person", (column(tables.TINY),), True), texts)
    assert list(decoder.changes(event(31, body))) == [Changed({"x": 5}, {"x": None})]


def test_a_row_that_is_told_in_part_is_not_guessed_at() -> None:
    two = (column(tables.TINY), column(tables.TINY)._replace(name="y"))
    body = (7).to_bytes(6, "little") + b"\1\0" + b"\x02\x01" + b"\x00\x05"
    with pytest.raises(Partial):
        list(Decoder(Table("d", "person", two, True), texts).changes(event(23, body)))


@pytest.mark.parametrize(
    ("one", "data", "said"),
    [
        (column(99), b"", "number 99"),
        (column(tables.VARCHAR, 100, 1), b"\x05ab", "too early"),
        (column(tables.ENUM, 1), b"\x05", "out of range"),
        (column(tables.JSON, scale=1), b"\x01\x0e", "kind 14"),
    ],
)
def test_what_cannot_be_read_is_said(one: Column, data: bytes, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read(one, data)
