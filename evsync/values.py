"""The value types: how a store's value becomes typed, and how it is written down exactly.

Three forms of one value:

- *raw*: what a store hands out (an SQLite integer, a CSV cell, a JSON number);
- *typed*: the Python value of the declared type (`Decimal`, `datetime`, `UUID` …), what accessors are given;
- *wire*: what stands in the journal's JSON: str, int, float, bool, None, and for `json` any JSON value.

raw → typed → wire → typed loses nothing: NaN and the infinities are strings on the wire, decimals keep their
trailing zeros, datetimes their offset, bytes are base64. Two values are the same when their wire forms are
written alike; `equivalent` is the wider notion used when two stores first meet (1.5 and 1.50, 10:00+02:00
and 08:00Z).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from evsync.errors import BadValue


class Absent:
    """The value of a field that a record does not have; null is a value, this is none."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent()

_encoder = msgspec.json.Encoder(order="sorted")
encode: Callable[[Any], bytes] = _encoder.encode
"""Canonical JSON: compact, keys sorted, UTF-8. The only way in which evsync writes JSON that is hashed."""

decode: Callable[[bytes | str], Any] = msgspec.json.Decoder().decode


class ValueType(NamedTuple):
    """One of the value types."""

    name: str
    read: Callable[[Any], Any]  # raw → typed; raises BadValue
    dump: Callable[[Any], Any]  # typed → wire
    load: Callable[[Any], Any]  # wire → typed
    text: Callable[[Any], str]  # typed → text, for stores that hold text only; `read` takes it back
    plain: frozenset[type]  # raw Python types that are wire form already


# Text is the least of all stores, so every type reads its own text form; the patterns are narrower than
# Python's own parsers, which also take "1_000", " 5 " and other scripts' digits.
_INT = re.compile(r"[+-]?[0-9]{1,4000}\Z")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\Z|[+-]?(NaN|sNaN|Infinity)\Z")
_SPECIAL = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
_FINER_THAN_MICROSECONDS = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
_TRUE = frozenset({"true", "t", "yes", "1"})
_FALSE = frozenset({"false", "f", "no", "0"})


def _ascii(raw: bytes, type_name: str) -> str:
    """Digits kept in a blob, where a column's affinity would have altered the number."""
    try:
        return bytes(raw).decode("ascii")
    except UnicodeDecodeError:
        raise BadValue(type_name, raw) from None


def _read_str(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    if isinstance(raw, UUID | Decimal):
        return str(raw)
    raise BadValue("str", raw)


def _read_int(raw: Any) -> int:
    if isinstance(raw, bool):
        raise BadValue("int", raw)
    if isinstance(raw, int):
        return raw
    if isinstance(raw, bytes | memoryview):
        raw = _ascii(bytes(raw), "int")
    if isinstance(raw, str):
        if _INT.match(raw):
            return int(raw)
    elif isinstance(raw, float):
        if math.isfinite(raw) and raw == int(raw):
            return int(raw)
    elif isinstance(raw, Decimal) and raw.is_finite() and raw == int(raw):
        return int(raw)
    raise BadValue("int", raw)


def _read_float(raw: Any) -> float:
    if isinstance(raw, float):
        return raw
    if isinstance(raw, bool):
        raise BadValue("float", raw)
    if isinstance(raw, int):
        try:
            number = float(raw)
        except OverflowError:
            raise BadValue("float", raw, "too large") from None
        if number != raw:
            raise BadValue("float", raw, "a float cannot hold it exactly")
        return number
    if isinstance(raw, bytes | memoryview):
        raw = _ascii(bytes(raw), "float")
    if isinstance(raw, str):
        if _FLOAT.match(raw):
            number = float(raw)
            if math.isfinite(number):
                return number
            raise BadValue("float", raw, "too large")
        special = _SPECIAL.get(raw.lower().removeprefix("+"))
        if special is not None:
            return special
    elif isinstance(raw, Decimal) and not raw.is_snan() and raw == Decimal(float(raw)):
        return float(raw)
    raise BadValue("float", raw)


def _read_decimal(raw: Any) -> Decimal:
    if isinstance(raw, Decimal):
        if raw.is_nan() and raw.as_tuple().digits:
            raise BadValue("decimal", raw, "NaN with digits")  # as text it would not be read again
        return raw
    if isinstance(raw, bool):
        raise BadValue("decimal", raw)
    if isinstance(raw, int):
        return Decimal(raw)
    if isinstance(raw, float):
        return Decimal(repr(raw)) if math.isfinite(raw) else Decimal(_dump_float(raw))
    if isinstance(raw, bytes | memoryview):
        raw = _ascii(bytes(raw), "decimal")
    if isinstance(raw, str) and _DECIMAL.match(raw):
        try:
            return Decimal(raw)
        except InvalidOperation:
            raise BadValue("decimal", raw) from None
    raise BadValue("decimal", raw)


def _read_bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int) and raw in (0, 1):
        return bool(raw)
    if isinstance(raw, str):
        lowered = raw.lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
    raise BadValue("bool", raw)


def _read_date(raw: Any) -> date:
    if isinstance(raw, date) and not isinstance(raw, datetime):
        return raw
    if isinstance(raw, str):
        try:
            return date.fromisoformat(raw)
        except ValueError:
            pass
    raise BadValue("date", raw, "expected YYYY-MM-DD")


def _read_time(raw: Any) -> time:
    if isinstance(raw, time):
        return raw
    if isinstance(raw, str):
        if _FINER_THAN_MICROSECONDS.search(raw):
            raise BadValue("time", raw, "finer than microseconds")
        try:
            return time.fromisoformat(raw)
        except ValueError:
            pass
    raise BadValue("time", raw, "expected HH:MM:SS")


def _read_datetime(raw: Any) -> datetime:
    if isinstance(raw, datetime):
        return raw
    if isinstance(raw, str):
        if _FINER_THAN_MICROSECONDS.search(raw):
            raise BadValue("datetime", raw, "finer than microseconds")
        try:
            return datetime.fromisoformat(raw)
        except ValueError:
            pass
    raise BadValue("datetime", raw, "expected YYYY-MM-DDTHH:MM:SS, with or without an offset")


def _read_uuid(raw: Any) -> UUID:
    if isinstance(raw, UUID):
        return raw
    try:
        if isinstance(raw, str):
            return UUID(raw)
        if isinstance(raw, bytes) and len(raw) == 16:
            return UUID(bytes=raw)
    except ValueError:
        pass
    raise BadValue("uuid", raw)


def _read_bytes(raw: Any) -> bytes:
    if isinstance(raw, bytes | bytearray | memoryview):
        return bytes(raw)
    if isinstance(raw, str):
        try:
            return base64.b64decode(raw, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadValue("bytes", raw, "expected bytes, or base64 in text")


def _read_json(raw: Any) -> Any:
    try:
        json.dumps(raw, allow_nan=False)
        encode(raw)  # stricter with an object's names
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue("json", raw, str(error)) from None
    return raw


def _exact_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number) or Decimal(digits) != Decimal(repr(number)):
        raise ValueError(f"a float cannot hold {digits} exactly")
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse_json(text: str | bytes) -> Any:
    """The JSON value that `text` holds, for stores that keep `json` fields as text; raises BadValue."""
    try:
        return json.loads(text, parse_float=_exact_float, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadValue("json", text, str(error)) from None


def _dump_float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _float_text(number: float) -> str:
    wire = _dump_float(number)
    return wire if isinstance(wire, str) else repr(wire)


def _load_float(wire: Any) -> float:
    return float(wire)


def _iso(moment: datetime | time) -> str:
    text = moment.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _same(value: Any) -> Any:
    return value


_NULL: Final = type(None)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _type(
    name: str,
    read: Callable[[Any], Any],
    dump: Callable[[Any], Any],
    load: Callable[[Any], Any],
    text: Callable[[Any], str],
    *plain: type,
) -> tuple[str, ValueType]:
    return name, ValueType(name, read, dump, load, text, frozenset(plain))


TYPES: Final[dict[str, ValueType]] = dict(
    (
        _type("str", _read_str, _same, _same, _same, str),
        _type("int", _read_int, _same, _same, str, int),
        _type("float", _read_float, _dump_float, _load_float, _float_text),
        _type("decimal", _read_decimal, str, Decimal, str),
        _type("bool", _read_bool, _same, _same, lambda b: "true" if b else "false", bool),
        _type("date", _read_date, date.isoformat, date.fromisoformat, date.isoformat),
        _type("time", _read_time, _iso, time.fromisoformat, _iso),
        _type("datetime", _read_datetime, _iso, datetime.fromisoformat, _iso),
        _type("uuid", _read_uuid, str, UUID, str),
        _type("bytes", _read_bytes, _base64, base64.b64decode, _base64),
        _type("json", _read_json, _same, _same, lambda value: encode(value).decode()),
    )
)


def read(type_name: str, raw: Any) -> Any:
    """The typed value of what a store holds; None stays None. Raises BadValue."""
    return None if raw is None else TYPES[type_name].read(raw)


def to_text(type_name: str, typed: Any) -> str:
    """The text form of a typed value other than None; `read` takes it back exactly."""
    return TYPES[type_name].text(typed)


def dump(type_name: str, typed: Any) -> Any:
    """The wire form of a typed value."""
    return None if typed is None else TYPES[type_name].dump(typed)


def load(type_name: str, wire: Any) -> Any:
    """The typed value of a wire form."""
    return None if wire is None else TYPES[type_name].load(wire)


def wire_of(type_name: str, raw: Any) -> Any:
    """Raw → wire in one step. Raises BadValue."""
    if raw is None:
        return None
    kind = TYPES[type_name]
    return kind.dump(kind.read(raw))


def same(one: Any, other: Any) -> bool:
    """Whether two wire values (or ABSENT) are written alike: 1, 1.0 and true are three values."""
    if one is other:
        return True
    if one is ABSENT or other is ABSENT:
        return False
    if type(one) is str and type(other) is str:
        return one == other
    return encode(one) == encode(other)


def equivalent(type_name: str, one: Any, other: Any) -> bool:
    """Whether two wire values mean the same, however written: 1.5 and 1.50, one instant in two offsets."""
    if same(one, other):
        return True
    if one is None or other is None or one is ABSENT or other is ABSENT:
        return False
    left, right = load(type_name, one), load(type_name, other)
    if type_name == "datetime" and (left.tzinfo is None) != (right.tzinfo is None):
        return False
    if type_name == "decimal" and (left.is_snan() or right.is_snan()):
        return False
    if type_name in ("decimal", "datetime", "time", "float"):
        return bool(left == right)
    return False


def shown(type_name: str, wire: Any) -> Any:
    """A wire value as JSON output shows it: aware datetimes in UTC with Z, everything else as it stands."""
    if type_name == "datetime" and wire is not None and not wire.endswith("Z"):
        moment = datetime.fromisoformat(wire)
        if moment.tzinfo is not None:
            try:
                return _iso(moment.astimezone(UTC))
            except OverflowError:  # in the first or last hours of the calendar
                return wire
    return wire


def micros(moment: datetime) -> int:
    """Microseconds since 1970 in UTC; a naive datetime is taken as UTC. Exact over the whole range."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    delta = aware - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment(microseconds: int) -> str:
    """ISO 8601 text, UTC with Z and microseconds, of a count of microseconds since 1970."""
    return _iso(_EPOCH + timedelta(microseconds=microseconds))


def infer(raw: Any) -> str | None:
    """The type that a raw Python value suggests by itself; None for null."""
    for python, name in (
        (bool, "bool"), (int, "int"), (float, "float"), (Decimal, "decimal"), (datetime, "datetime"),
        (date, "date"), (time, "time"), (UUID, "uuid"), (str, "str"), (bytes, "bytes"),
    ):  # fmt: skip
        if isinstance(raw, python):
            return name
    return None if raw is None else "json"


def widen(one: str | None, other: str | None) -> str | None:
    """The narrowest type that holds the values of both."""
    if one == other or other is None:
        return one
    if one is None:
        return other
    return "float" if {one, other} == {"int", "float"} else "json"
