"""What the binary log says of a table before it tells of its rows: the names and types of its columns as they were then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from accessors.mysql_log import Unreadable, packed

# Types of columns, as the log numbers them.
TINY, SHORT, LONG, FLOAT, DOUBLE, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 7, 8, 9
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = 10, 11, 12, 13, 14, 15, 16
TIMESTAMP2, DATETIME2, TIME2 = 17, 18, 19
BLOB_COMPRESSED, VARCHAR_COMPRESSED = 140, 141
VECTOR, JSON, NEWDECIMAL, ENUM, SET = 242, 245, 246, 247, 248
TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB, VAR_STRING, STRING, GEOMETRY = 249, 250, 251, 252, 253, 254, 255

_SIZES: Final = {
    FLOAT: 1, DOUBLE: 1, VARCHAR: 2, BIT: 2, TIMESTAMP2: 1, DATETIME2: 1, TIME2: 1,
    BLOB_COMPRESSED: 1, VARCHAR_COMPRESSED: 2, VECTOR: 1, JSON: 1, NEWDECIMAL: 2, ENUM: 2, SET: 2,
    TINY_BLOB: 1, MEDIUM_BLOB: 1, LONG_BLOB: 1, BLOB: 1, VAR_STRING: 2, STRING: 2, GEOMETRY: 1,
}  # fmt: skip
"""Bytes that say more of a column of a type."""

_NUMBERS: Final = frozenset({TINY, SHORT, INT24, LONG, LONGLONG, YEAR, NEWDECIMAL, FLOAT, DOUBLE})
_TEXTS: Final = frozenset({STRING, VAR_STRING, VARCHAR, BLOB, BLOB_COMPRESSED, VARCHAR_COMPRESSED})
_CHOICES: Final = frozenset({ENUM, SET})

_SIGNS, _CHARSET, _CHARSETS, _NAMES, _SET_LABELS, _ENUM_LABELS, _CHOICE_CHARSET, _CHOICE_CHARSETS = (
    1, 2, 3, 4, 5, 6, 10, 11,
)  # fmt: skip

BINARY: Final = 63
"""The collation of what is no text."""


class Column(NamedTuple):
    """`size`, `scale`: of a decimal, its digits and those behind the point; of a time, `scale` digits of its seconds; else how many
    bytes a value may have (`size`) and its length is told in (`scale`). `collation`: None where it has none."""

    name: str
    type: int
    size: int
    scale: int
    unsigned: bool
    collation: int | None
    labels: Sequence[bytes]


class Table(NamedTuple):
    schema: str
    name: str
    columns: tuple[Column, ...]
    named: bool  # whether the log says the columns' names: it does with binlog_row_metadata = FULL


def place_of(body: bytes) -> tuple[int, str, str]:
    """The number by which the events of rows name the table, its schema, and its name."""
    number, at = int.from_bytes(body[:6], "little"), 8
    schema, at = _name(body, at)
    name, _ = _name(body, at)
    return number, schema, name


def table_of(body: bytes, mariadb: bool) -> Table:
    """All that a TABLE_MAP says. Raises Unreadable."""
    try:
        return _table_of(body, mariadb)
    except (IndexError, ValueError, KeyError) as error:
        raise Unreadable(f"what it says of a table: {error}") from error


def _table_of(body: bytes, mariadb: bool) -> Table:
    schema, at = _name(body, 8)
    name, at = _name(body, at)
    count, at = packed(body, at)
    types, at = body[at : at + count], at + count
    length, at = packed(body, at)
    columns = [_column(type, more) for type, more in _typed(types, body[at : at + length])]
    at += length + (count + 7) // 8
    known = dict(_optional(body, at))
    kinds = [type for type, _, _ in columns]
    numbers = [n for n, type in enumerate(kinds) if type in _NUMBERS]
    texts = [n for n, type in enumerate(kinds) if type in _TEXTS or (mariadb and type == GEOMETRY)]
    choices = [n for n, type in enumerate(kinds) if type in _CHOICES]
    signs = known.get(_SIGNS, b"")
    unsigned = {
        column for n, column in enumerate(numbers) if n // 8 < len(signs) and signs[n // 8] & 0x80 >> n % 8
    }
    collations = {
        **_collations(texts, known.get(_CHARSET), known.get(_CHARSETS)),
        **_collations(choices, known.get(_CHOICE_CHARSET), known.get(_CHOICE_CHARSETS)),
    }
    labels = dict(
        zip([n for n in choices if kinds[n] == ENUM], _lists(known.get(_ENUM_LABELS, b"")), strict=False)
    )
    labels.update(
        zip([n for n in choices if kinds[n] == SET], _lists(known.get(_SET_LABELS, b"")), strict=False)
    )
    names = [one.decode() for one in _strings(known.get(_NAMES, b""))]
    return Table(
        schema,
        name,
        tuple(
            Column(
                names[n] if n < len(names) else f"@{n + 1}",
                type, size, scale, n in unsigned, collations.get(n), labels.get(n, ()),
            )
            for n, (type, size, scale) in enumerate(columns)
        ),
        len(names) == count,
    )  # fmt: skip


def _name(body: bytes, at: int) -> tuple[str, int]:
    length = body[at]
    return body[at + 1 : at + 1 + length].decode(), at + 2 + length


def _typed(types: bytes, more: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    for type in types:
        size = _SIZES.get(type, 0)
        yield type, more[at : at + size]
        at += size


def _column(type: int, more: bytes) -> tuple[int, int, int]:
    """The true type, and what Column calls `size` and `scale`."""
    if type == STRING:
        real, length = more
        if real in _CHOICES:
            return real, length, 0
        if real & 0x30 != 0x30:  # a length above 255 has bits of it in the type
            length |= ((real & 0x30) ^ 0x30) << 4
            real |= 0x30
        return real, length, 1 if length < 256 else 2
    if type in (VARCHAR, VAR_STRING, VARCHAR_COMPRESSED):
        length = int.from_bytes(more, "little")
        return type, length, 1 if length < 256 else 2
    if type == NEWDECIMAL:
        return type, more[0], more[1]
    if type == BIT:
        return type, more[1] + (1 if more[0] else 0), 0
    if type in (TINY_BLOB, MEDIUM_BLOB, LONG_BLOB):
        type = BLOB
    return type, 0, more[0] if more else 0


def _optional(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at < len(body):
        kind = body[at]
        length, at = packed(body, at + 1)
        yield kind, body[at : at + length]
        at += length


def _numbers(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        number, at = packed(data, at)
        found.append(number)
    return found


def _collations(columns: Sequence[int], usual: bytes | None, each: bytes | None) -> dict[int, int]:
    if usual:
        first, *others = _numbers(usual)
        found = dict.fromkeys(columns, first)
        found.update((columns[n], collation) for n, collation in zip(others[::2], others[1::2], strict=True))
        return found
    return dict(zip(columns, _numbers(each or b""), strict=False))


def _strings(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length, at = packed(data, at)
        yield data[at : at + length]
        at += length


def _lists(data: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(data):
        count, at = packed(data, at)
        labels = []
        for _ in range(count):
            length, at = packed(data, at)
            labels.append(data[at : at + length])
            at += length
        yield labels
