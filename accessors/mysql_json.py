"""MySQL's binary JSON, as it stands in the binary log, written as the text that MySQL shows."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Final

from accessors.mysql_decimal import decimal_of

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY, _LITERAL = 0, 1, 2, 3, 4
_INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE, _STRING, _OPAQUE = 5, 6, 7, 8, 9, 10, 11, 12, 15
_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_NUMBERS: Final = {
    _INT16: "<h", _UINT16: "<H", _INT32: "<i", _UINT32: "<I", _INT64: "<q", _UINT64: "<Q",
}  # fmt: skip
_DECIMAL, _DATE, _TIME, _DATETIME, _TIMESTAMP = 246, 10, 11, 12, 7


def json_text(data: bytes) -> str:
    """The text of a document; of none, `null`, as MySQL takes it. Raises ValueError."""
    return _value(data[0], data[1:]) if data else "null"


def _value(kind: int, data: bytes) -> str:
    if kind in (_SMALL_OBJECT, _LARGE_OBJECT):
        small = kind == _SMALL_OBJECT
        pairs = zip(_keys(data, small), _elements(data, small, named=True), strict=True)
        return "{" + ", ".join(f"{_quoted(key)}: {value}" for key, value in pairs) + "}"
    if kind in (_SMALL_ARRAY, _LARGE_ARRAY):
        return "[" + ", ".join(_elements(data, kind == _SMALL_ARRAY, named=False)) + "]"
    if kind == _LITERAL:
        return _LITERALS[data[0]]
    if kind in _NUMBERS:
        return str(struct.unpack_from(_NUMBERS[kind], data)[0])
    if kind == _DOUBLE:
        return repr(struct.unpack_from("<d", data)[0])
    if kind == _STRING:
        length, at = _length(data, 0)
        return _quoted(data[at : at + length])
    if kind == _OPAQUE:
        length, at = _length(data, 1)
        return _opaque(data[0], data[at : at + length])
    raise ValueError(f"JSON of a kind {kind} is not known")


def _quoted(text: bytes) -> str:
    return json.dumps(text.decode(), ensure_ascii=False)


def _number(data: bytes, at: int, small: bool) -> int:
    return int.from_bytes(data[at : at + (2 if small else 4)], "little")


def _keys(data: bytes, small: bool) -> Iterator[bytes]:
    width = 2 if small else 4
    for n in range(_number(data, 0, small)):
        entry = 2 * width + n * (width + 2)
        start = _number(data, entry, small)
        yield data[start : start + int.from_bytes(data[entry + width : entry + width + 2], "little")]


def _elements(data: bytes, small: bool, *, named: bool) -> Iterator[str]:
    width = 2 if small else 4
    count = _number(data, 0, small)
    first = 2 * width + (count * (width + 2) if named else 0)
    inlined = {_LITERAL, _INT16, _UINT16} | (set() if small else {_INT32, _UINT32})
    for n in range(count):
        entry = first + n * (1 + width)
        kind = data[entry]
        start = entry + 1 if kind in inlined else _number(data, entry + 1, small)
        yield _value(kind, data[start:])


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length in bytes of seven bits each, and where it ends."""
    length = shift = 0
    while True:
        byte = data[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return length, at


def _opaque(type: int, data: bytes) -> str:
    """What JSON itself has no notion of: MySQL's decimals, moments, and bytes."""
    if type == _DECIMAL:
        return str(decimal_of(data[0], data[1], data[2:]))
    if type in (_DATE, _DATETIME, _TIMESTAMP, _TIME):
        return f'"{_moment(type, struct.unpack("<q", data)[0])}"'
    return f'"base64:type{type}:{base64.b64encode(data).decode()}"'


def _moment(type: int, bits: int) -> str:
    sign, bits = ("-", -bits) if bits < 0 else ("", bits)
    micros, bits = bits & 0xFFFFFF, bits >> 24
    clock = f"{bits >> 6 & 63:02d}:{bits & 63:02d}.{micros:06d}"
    if type == _TIME:
        return f"{sign}{bits >> 12 & 1023:02d}:{clock}"
    days = bits >> 17
    months = days >> 5
    day = f"{months // 13:04d}-{months % 13:02d}-{days & 31:02d}"
    return day if type == _DATE else f"{day} {bits >> 12 & 31:02d}:{clock}"
