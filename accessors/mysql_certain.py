"""Which values MySQL and MariaDB store just as they are given, or refuse: what a strict session does, column by column.

Not so certain are blanks at the end beyond a column's length, an enumeration that minds no case, years of two digits,
and whatever is rounded or padded; such values are read again before they are believed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from accessors.sql_values import Column, encoder
from evsync.errors import Refused


def certain_encoder(column: Column, value_type: str) -> Callable[[Any], Any] | None:
    """An encoder that raises Refused for every value that is not certain to be read again just as it was given; None
    where it would have to for many."""
    encode = encoder(column, value_type)
    if column.generated or column.assigned or column.declared.startswith(("enum", "set", "binary")):
        return None
    match column.kind, value_type:
        case ("int", "int") | ("bool", "bool") | ("date", "date") | ("uuid", "uuid"):
            return encode
        case "text", ("str" | "json" | "decimal" | "uuid" | "bytes"):
            return _short_enough(encode, column.length)
        case "bytes", "bytes" if "blob" in column.declared or column.declared.startswith("varbinary"):
            return encode
        case "float", "float" if column.declared == "double":
            return _sure(encode, lambda typed: bool(typed) or str(typed) == "0.0")
        case "decimal", "decimal":
            return _sure(encode, lambda typed: _is_as_padded(typed, column.digits))
        case (("time" | "datetime"), ("time" | "datetime")) if column.kind == value_type:
            return _sure(encode, lambda typed: _is_as_fine(typed, column.digits))
        case "utc", "datetime":
            return _sure(encode, lambda typed: not typed.utcoffset() and _is_as_fine(typed, column.digits))
    return None


def _sure(encode: Callable[[Any], Any], holds: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def checked(typed: Any) -> Any:
        if not holds(typed):
            raise Refused("stored in another form")
        return encode(typed)

    return checked


def _short_enough(encode: Callable[[Any], str], length: int | None) -> Callable[[Any], str]:
    def checked(typed: Any) -> str:
        text = encode(typed)
        if length is None or len(text) * 4 > length >= 256 or len(text) > length:
            raise Refused("longer than the column for certain is")
        return text

    return checked


def _is_as_padded(typed: Decimal, digits: int | None) -> bool:
    is_negative_zero = typed.is_zero() and typed.is_signed()
    return typed.as_tuple().exponent == -(digits or 0) and not is_negative_zero


def _is_as_fine(typed: datetime | time, digits: int | None) -> bool:
    return bool(typed.microsecond % 10 ** (6 - (digits or 0)) == 0)
