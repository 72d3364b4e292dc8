"""The rows in the binary log, as values like PyMySQL hands them out of a query."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from accessors import mysql_tables as tables
from accessors.mysql_decimal import decimal_of, parts
from accessors.mysql_json import json_text
from accessors.mysql_log import DELETES, INSERTS, UPDATES, Event, Unreadable, packed
from accessors.mysql_tables import BINARY, Column, Table

Decode = Callable[[bytes, int], tuple[Any, int]]
"""A value that stands in the log at a place, and where it ends."""

Texts = Callable[[int | None], Callable[[bytes], Any]]
"""How the bytes of a text of a collation are read."""

Values = dict[str, Any]


class Changed(NamedTuple):
    """A row before and after a change, by the names of its columns."""

    before: Values | None
    after: Values | None


class Partial(Exception):
    """The log does not tell all of a row."""


class Decoder:
    """Reads the rows of a table as it is at a time. `readers`: how the bytes of a column are read of which the log does not say
    that they mean something else."""

    def __init__(
        self, table: Table, texts: Texts, readers: Mapping[str, Callable[[bytes], Any]] | None = None
    ) -> None:
        readers = readers or {}
        self._names = [column.name for column in table.columns]
        self._decoders = [decoder(column, texts, readers.get(column.name)) for column in table.columns]

    def changes(self, event: Event) -> Iterator[Changed]:
        """Raises Partial, Unreadable."""
        body, at = event.body, 8
        if event.type >= 30:
            at += int.from_bytes(body[8:10], "little")
        count, at = packed(body, at)
        if count != len(self._names):
            raise Unreadable("it tells of other columns than it has announced")
        size = (count + 7) // 8
        images = 2 if event.type in UPDATES else 1
        all_of_them = (1 << count) - 1
        for _ in range(images):
            if int.from_bytes(body[at : at + size], "little") & all_of_them != all_of_them:
                raise Partial
            at += size
        try:
            while at < len(body):
                first, at = self._row(body, at, size)
                if event.type in INSERTS:
                    yield Changed(None, first)
                elif event.type in DELETES:
                    yield Changed(first, None)
                else:
                    second, at = self._row(body, at, size)
                    yield Changed(first, second)
        except (IndexError, struct.error, ValueError, OverflowError, zlib.error) as error:
            raise Unreadable(f"a row: {error}") from error

    def _row(self, body: bytes, at: int, size: int) -> tuple[Values, int]:
        nulls = int.from_bytes(body[at : at + size], "little")
        at += size
        row: Values = {}
        for name, decode in zip(self._names, self._decoders, strict=True):
            if nulls & 1:
                row[name] = None
            else:
                row[name], at = decode(body, at)
            nulls >>= 1
        return row, at


def number_of(event: Event) -> int:
    """By which an event of rows names its table."""
    return int.from_bytes(event.body[:6], "little")


# -- one value ----------------------------------------------------------------------------------------------


def decoder(column: Column, texts: Texts, reader: Callable[[bytes], Any] | None = None) -> Decode:
    """How the values of a column are read. Raises Unreadable for a type that is not known."""
    type = column.type
    if type in _INTEGERS:
        size = _INTEGERS[type]
        return _integer(size, not column.unsigned)
    if type in _SIMPLE:
        return _SIMPLE[type]
    if type in _FRACTIONAL:
        return _FRACTIONAL[type](column.scale)
    if type == tables.NEWDECIMAL:
        return _decimal(column.size, column.scale)
    if type == tables.BIT:
        size = column.size
        return lambda data, at: (data[at : at + size], at + size)
    if type in (tables.ENUM, tables.SET):
        return _choice(column, texts(column.collation))
    if type in (tables.JSON, tables.GEOMETRY, tables.VECTOR, tables.BLOB, tables.BLOB_COMPRESSED,
                tables.VARCHAR, tables.VAR_STRING, tables.VARCHAR_COMPRESSED, tables.STRING):  # fmt: skip
        return _sized(column.scale, _bytes(column, texts, reader))
    raise Unreadable(
        f"column {column.name!r} is of a type that has the number {type} there, which is not known"
    )


def _bytes(column: Column, texts: Texts, reader: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """What the bytes of a value mean."""
    if column.type == tables.JSON:
        return json_text
    if column.type in (tables.GEOMETRY, tables.VECTOR):
        return bytes
    read = texts(column.collation)
    if column.type in (tables.BLOB_COMPRESSED, tables.VARCHAR_COMPRESSED):
        return lambda data: read(_inflated(data))
    if column.type == tables.STRING and column.collation == BINARY:
        mean = reader or bytes
        return lambda data: mean(
            data.ljust(column.size, b"\0")
        )  # the log leaves the end out where it is zero
    return read


def _integer(size: int, signed: bool) -> Decode:
    return lambda data, at: (int.from_bytes(data[at : at + size], "little", signed=signed), at + size)


def _sized(length: int, read: Callable[[bytes], Any]) -> Decode:
    def decode(data: bytes, at: int) -> tuple[Any, int]:
        start = at + length
        end = start + int.from_bytes(data[at:start], "little")
        if end > len(data):
            raise ValueError("it ends too early")
        return read(data[start:end]), end

    return decode


def _choice(column: Column, read: Callable[[bytes], Any]) -> Decode:
    size = column.size
    labels = [str(read(label)) for label in column.labels]
    if column.type == tables.ENUM:
        named = ["", *labels]  # the empty one is what a value that was refused has become
        return lambda data, at: (named[int.from_bytes(data[at : at + size], "little")], at + size)

    def chosen(data: bytes, at: int) -> tuple[str, int]:
        bits = int.from_bytes(data[at : at + size], "little")
        return ",".join(label for n, label in enumerate(labels) if bits >> n & 1), at + size

    return chosen


def _inflated(data: bytes) -> bytes:
    """A value of a column that MariaDB compresses."""
    if not data or data[0] == 0:
        return data[1:]
    head = data[0]
    if head >> 4 != 8:
        raise ValueError("it is compressed in a way that is not known")
    return zlib.decompress(data[1 + (head & 7) :], wbits=-15 if head & 8 else 15)


def _decimal(precision: int, scale: int) -> Decode:
    length, _ = parts(precision, scale)
    return lambda data, at: (decimal_of(precision, scale, data[at : at + length]), at + length)


# -- moments: the text that the server writes, so that one that is none, as 0000-00-00, comes as it is --------------


def _date(data: bytes, at: int) -> tuple[str, int]:
    bits = int.from_bytes(data[at : at + 3], "little")
    return f"{bits >> 9:04d}-{bits >> 5 & 15:02d}-{bits & 31:02d}", at + 3


def _clock(hours: int, bits: int) -> str:
    return f"{hours:02d}:{bits >> 6 & 63:02d}:{bits & 63:02d}"


def _digits_of(number: int, digits: int) -> str:
    """The digits of a second, which are stored by two."""
    return f".{number:0{digits + digits % 2}d}"[: digits + 1] if digits else ""


def _datetime2(digits: int) -> Decode:
    size = (digits + 1) // 2

    def decode(data: bytes, at: int) -> tuple[str, int]:
        bits = int.from_bytes(data[at : at + 5], "big") - 0x8000000000
        end = at + 5 + size
        part = _digits_of(int.from_bytes(data[at + 5 : end], "big"), digits)
        days = bits >> 17
        months = days >> 5
        day = f"{months // 13:04d}-{months % 13:02d}-{days & 31:02d}"
        return f"{day} {_clock(bits >> 12 & 31, bits)}{part}", end

    return decode


def _timestamp2(digits: int) -> Decode:
    size = (digits + 1) // 2

    def decode(data: bytes, at: int) -> tuple[str, int]:
        end = at + 4 + size
        part = int.from_bytes(data[at + 4 : end], "big")
        return _instant(int.from_bytes(data[at : at + 4], "big"), part) + _digits_of(part, digits), end

    return decode


def _instant(seconds: int, part: int = 0) -> str:
    """In UTC. The first second of 1970 is how no instant is stored."""
    if not seconds and not part:
        return "0000-00-00 00:00:00"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _time2(digits: int) -> Decode:
    size = (digits + 1) // 2

    def decode(data: bytes, at: int) -> tuple[str, int]:
        end = at + 3 + size
        # One number, of which the lower bytes are the fraction: so it is right where it is negative, too.
        number = int.from_bytes(data[at:end], "big") - (0x800000 << 8 * size)
        absolute = abs(number)
        bits, part = absolute >> 8 * size, absolute & (1 << 8 * size) - 1
        return ("-" if number < 0 else "") + _clock(bits >> 12 & 1023, bits) + _digits_of(part, digits), end

    return decode


def _old_datetime(data: bytes, at: int) -> tuple[str, int]:
    text = f"{int.from_bytes(data[at : at + 8], 'little'):014d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:]}", at + 8


def _old_timestamp(data: bytes, at: int) -> tuple[str, int]:
    return _instant(int.from_bytes(data[at : at + 4], "little")), at + 4


def _old_time(data: bytes, at: int) -> tuple[str, int]:
    number = int.from_bytes(data[at : at + 3], "little", signed=True)
    text = f"{abs(number):06d}"
    return f"{'-' if number < 0 else ''}{text[:-4]}:{text[-4:-2]}:{text[-2:]}", at + 3


def _year(data: bytes, at: int) -> tuple[int, int]:
    return (1900 + data[at] if data[at] else 0), at + 1


def _float(data: bytes, at: int) -> tuple[float, int]:
    return struct.unpack_from("<f", data, at)[0], at + 4


def _double(data: bytes, at: int) -> tuple[float, int]:
    return struct.unpack_from("<d", data, at)[0], at + 8


_INTEGERS: Final = {tables.TINY: 1, tables.SHORT: 2, tables.INT24: 3, tables.LONG: 4, tables.LONGLONG: 8}
_SIMPLE: Final[Mapping[int, Decode]] = {
    tables.FLOAT: _float,
    tables.DOUBLE: _double,
    tables.YEAR: _year,
    tables.DATE: _date,
    tables.NEWDATE: _date,
    tables.TIME: _old_time,
    tables.DATETIME: _old_datetime,
    tables.TIMESTAMP: _old_timestamp,
}
_FRACTIONAL: Final[Mapping[int, Callable[[int], Decode]]] = {
    tables.DATETIME2: _datetime2,
    tables.TIMESTAMP2: _timestamp2,
    tables.TIME2: _time2,
}
