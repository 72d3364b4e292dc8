"""MySQL's binary JSON: what the documentation says of it, written down here once more, is read back."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

import pytest

from accessors.mysql_json import json_text

LITERALS: dict[Any, bytes] = {None: b"\x00", True: b"\x01", False: b"\x02"}


def binary(value: Any, *, large: bool = False) -> bytes:
    """A document as MySQL stores it: its type, then its value."""
    kind, data = encoded(value, large)
    return bytes([kind]) + data


def encoded(value: Any, large: bool) -> tuple[int, bytes]:
    if value is None or isinstance(value, bool):
        return 4, LITERALS[value]
    if isinstance(value, int):
        for kind, form, low, high in (
            (5, "<h", -(2**15), 2**15), (7, "<i", -(2**31), 2**31), (9, "<q", -(2**63), 2**63), (10, "<Q", 0, 2**64)
        ):  # fmt: skip
            if low <= value < high:
                return kind, struct.pack(form, value)
    if isinstance(value, float):
        return 11, struct.pack("<d", value)
    if isinstance(value, str):
        return 12, counted(value.encode())
    keys = [key.encode() for key in value] if isinstance(value, dict) else None
    values = list(value.values()) if isinstance(value, dict) else value
    return (1 if large else 0) + (0 if keys is not None else 2), container(keys, values, large)


def counted(text: bytes) -> bytes:
    length, head = len(text), b""
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + text


def container(keys: list[bytes] | None, values: list[Any], large: bool) -> bytes:
    form, width = ("<I", 4) if large else ("<H", 2)
    start = 2 * width + len(values) * (1 + width) + len(keys or ()) * (width + 2)
    key_entries, value_entries, tail = b"", b"", b""
    for key in keys or ():
        key_entries += struct.pack(form, start + len(tail)) + struct.pack("<H", len(key))
        tail += key
    for value in values:
        kind, data = encoded(value, large)
        if kind in (4, 5) or (large and kind == 7):
            value_entries += bytes([kind]) + data.ljust(width, b"\0")
        else:
            value_entries += bytes([kind]) + struct.pack(form, start + len(tail))
            tail += data
    size = 2 * width + len(key_entries) + len(value_entries) + len(tail)
    return struct.pack(form, len(values)) + struct.pack(form, size) + key_entries + value_entries + tail


DOCUMENTS = [
    None, True, False, 0, -1, 32767, -32768, 32768, -(2**31), 2**31, -(2**63), 2**64 - 1, 0.5, -1e300, 1e-7, "", "ä",
    "x" * 127, "x" * 128, "x" * 20000, 'a"b\\c\n', "😀", [], {}, [[]], [{}], {"a": {}}, [1, -2, 70000, None, True, "z", 0.1],
    {"": 1, "a": [1, {"b": None}], "longer": "text", "ü": -70000}, {"n": list(range(300))},
]  # fmt: skip


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents(document: Any, large: bool) -> None:
    text = json_text(binary(document, large=large))
    assert json.loads(text) == document
    assert text == json.dumps(document, ensure_ascii=False)


def opaque(type: int, data: bytes) -> bytes:
    return bytes([15, type]) + counted(data)


def moment(year: int, month: int, day: int, hour: int, minute: int, second: int, micros: int) -> int:
    return ((((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second) << 24) | micros


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (opaque(246, bytes([4, 2]) + b"\x8c\x22"), "12.34"),
        (opaque(246, bytes([4, 2]) + b"\x73\xdd"), "-12.34"),
        (
            opaque(12, struct.pack("<q", moment(2024, 2, 29, 12, 34, 56, 789000))),
            '"2024-02-29 12:34:56.789000"',
        ),
        (opaque(10, struct.pack("<q", moment(2024, 2, 29, 0, 0, 0, 0))), '"2024-02-29"'),
        (opaque(11, struct.pack("<q", -((12 << 12 | 34 << 6 | 56) << 24 | 1))), '"-12:34:56.000001"'),
        (opaque(252, b"\x00\xff"), '"base64:type252:AP8="'),
        (b"", "null"),
    ],
)
def test_what_json_has_no_notion_of(data: bytes, text: str) -> None:
    assert json_text(data) == text


def test_a_decimal_keeps_its_zeros() -> None:
    assert Decimal(json_text(opaque(246, bytes([4, 2]) + b"\x8c\x0a"))).as_tuple().exponent == -2


def test_what_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 14"):
        json_text(b"\x0e")
