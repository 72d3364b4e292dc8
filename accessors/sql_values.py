"""Values in a database of any kind: what value type a column declares, and how a typed value is given to the driver.

Drivers differ in what they hand out and take, so both ways are wide: a decoder takes whatever a driver may tell of a
column of its kind, and what was written is read again and compared, see `sql_writing`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql import sqltypes

from evsync.errors import BadValue, Refused
from evsync.values import TYPES, dump, encode, equivalent, parse_json, read, same, to_text

Kind = Literal[
    "text", "char", "int", "year", "bit", "bool", "decimal", "float", "single", "date", "time", "timetz",
    "datetime", "zoned", "utc", "uuid", "bytes", "json", "other",
]  # fmt: skip
"""How a column stores. "char" does without blanks at the end, "single" is a float of 32 bits, "zoned" holds instants,
"utc" times without an offset that are meant in UTC, "text" any value as its text."""


class Column(NamedTuple):
    """A column. `value_type`: what it declares. `declared`: the same as SQL. `type`: SQLAlchemy's. `plain`: the driver is
    given the plainest Python value, else one that `type` takes. `digits`: behind the point, of a decimal or a second;
    None where that is open. `assigned`: the database counts it on where nothing is given. `certain`: what it does not
    refuse it stores just as given."""

    name: str
    kind: Kind
    value_type: str
    declared: str
    type: sa.types.TypeEngine[Any]
    plain: bool = False
    length: int | None = None
    digits: int | None = None
    nullable: bool = True
    generated: bool = False
    assigned: bool = False


Likeness = Literal["same", "alike", "other"]
"""How a value is stored, compared with what was given: exactly so; another spelling of the same value; another value."""

_VALUE_TYPES: Final[dict[Kind, str]] = {
    "text": "str", "char": "str", "int": "int", "year": "int", "bit": "int", "bool": "bool", "decimal": "decimal",
    "float": "float", "single": "float", "date": "date", "time": "time", "timetz": "time", "datetime": "datetime",
    "zoned": "datetime", "utc": "datetime", "uuid": "uuid", "bytes": "bytes", "json": "json", "other": "str",
}  # fmt: skip


def kind_of(type: sa.types.TypeEngine[Any]) -> Kind:
    """How a column of a type of SQLAlchemy's stores."""
    for classes, kind in _KINDS:
        if isinstance(type, classes):
            return kind
    match type:
        case sqltypes.Time():
            return "timetz" if type.timezone else "time"
        case sqltypes.DateTime():
            return "zoned" if type.timezone else "datetime"
    return "other"


_KINDS: Final[tuple[tuple[tuple[Any, ...], Kind], ...]] = (
    ((sqltypes.Boolean,), "bool"),
    ((sqltypes.Integer,), "int"),
    ((sqltypes.REAL,), "single"),
    ((sqltypes.Float,), "float"),
    ((sqltypes.Numeric,), "decimal"),
    ((sqltypes.Date,), "date"),
    ((sqltypes.Uuid,), "uuid"),
    ((sqltypes.JSON, sqltypes.ARRAY), "json"),
    ((sqltypes._Binary,), "bytes"),
    ((sqltypes.CHAR, sqltypes.NCHAR), "char"),
    ((sqltypes.String,), "text"),  # enumerations as well
)


def value_type_of(kind: Kind) -> str:
    """The value type that a kind of column declares."""
    return _VALUE_TYPES[kind]


# -- what drivers hand out → raw values ---------------------------------------------------------------------


def decoder(column: Column, value_type: str) -> Callable[[Any], Any] | None:
    """What makes of a driver's value a raw value that `evsync.values.read` takes for this value type; None where it is
    that already. It is not asked about NULL."""
    match column.kind:
        case "char":
            return _without_padding
        case "bit":
            return _bits
        case "single":
            return _single if value_type == "float" else _single_text if value_type == "decimal" else None
        case "zoned" | "utc":
            return _in_utc if value_type == "datetime" else _text
        case "json":
            return _json_text
        case "time" | "timetz":
            return _time
        case "other":
            return _text if value_type == "str" else None
    if value_type == "str" and column.kind not in ("text", "int", "decimal", "uuid"):
        return _text
    return bytes if column.kind == "bytes" and not column.plain else None


def _without_padding(raw: Any) -> Any:
    return raw.rstrip(" ") if isinstance(raw, str) else raw


def _bits(raw: Any) -> Any:
    return int.from_bytes(raw, "big") if isinstance(raw, bytes) else raw


def _single(raw: Any) -> Any:
    """The shortest number that is the same in 32 bits: what somebody wrote there, not what 64 bits make of it."""
    if not isinstance(raw, float) or raw != raw or raw in (float("inf"), float("-inf")):
        return raw
    try:
        packed = struct.pack("f", raw)
    except OverflowError:
        return raw
    for digits in (6, 7, 8, 9):
        shown = float(f"{raw:.{digits}g}")
        if abs(shown) < 3.5e38 and _packs_to(shown, packed):
            return shown
    return raw


def _packs_to(number: float, packed: bytes) -> bool:
    try:
        return struct.pack("f", number) == packed
    except OverflowError:
        return False


def _single_text(raw: Any) -> Any:
    return repr(_single(raw)) if isinstance(raw, float) else raw


def _in_utc(raw: Any) -> Any:
    """A time that has no offset is in UTC: so the session asks for it, or the user says."""
    if isinstance(raw, datetime):
        return raw if raw.tzinfo is not None else raw.replace(tzinfo=UTC)
    if isinstance(raw, str) and raw[:4] != "0000" and raw[-6:-5] not in "+-" and raw[-3:-2] not in "+-":
        return raw + "+00:00"
    return raw


def _json_text(raw: Any) -> Any:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "surrogateescape")
    try:
        return encode(raw).decode()
    except (TypeError, ValueError):
        return str(raw)


def _time(raw: Any) -> Any:
    """A time of day; what is none stays text."""
    if isinstance(raw, timedelta):
        if timedelta(0) <= raw < timedelta(days=1):
            return (datetime.min + raw).time()
        return str(raw)
    return raw


def _text(raw: Any) -> Any:
    match raw:
        case str() | int() | UUID() | Decimal():
            return raw
        case date() | time():
            return raw.isoformat()
        case float():
            return to_text("float", raw)
        case set() | frozenset():
            return ",".join(sorted(map(str, raw)))
        case bytes() | bytearray() | memoryview():
            return bytes(raw)
    return str(raw)


def id_of(column: Column, raw: Any) -> int | str | None:
    """What a record is called by the value of its id column: a number or a text."""
    if raw is None or (isinstance(raw, int | str) and not isinstance(raw, bool)):
        return raw
    kind = column.value_type
    try:
        return to_text(kind, typed_of(kind, raw))
    except BadValue:
        return None


# -- typed values → what drivers take -----------------------------------------------------------------------


def encoder(column: Column, value_type: str) -> Callable[[Any], Any]:
    """What makes of a typed value other than None what the driver is given. Raises Refused for what such a column cannot
    hold."""
    kind, plain = column.kind, column.plain
    match kind, value_type:
        case (("int" | "year" | "bit"), ("int" | "bool")):
            return int
        case "bool", "bool":
            return int if plain else _itself
        case (("float" | "single"), "float"):
            return _float_text if plain else _itself
        case "decimal", "decimal":
            return _plain_decimal if plain else _itself
        case "time", "time":
            return lambda typed: _native(_without_offset(typed), plain)
        case "datetime", "datetime":
            return lambda typed: _native(_without_offset(typed), plain)
        case (("zoned" | "utc"), "datetime"):
            return lambda typed: _native(_utc(typed, naive=kind == "utc" or plain), plain)
        case (("date" | "timetz"), ("date" | "time")) if _VALUE_TYPES[kind] == value_type:
            return lambda typed: _native(typed, plain)
        case "uuid", "uuid":
            return str if plain else _itself
        case "bytes", "bytes":
            return _itself
        case "bytes", "uuid":
            return _uuid_bytes
        case "json", "json" if not plain:
            return _json
        case _, "str":
            return _checked
        case _, "json":
            return _json_as_text
    return TYPES[value_type].text


def _itself(typed: Any) -> Any:
    return typed


def _float_text(typed: float) -> str:
    return to_text("float", typed)  # a number in a statement would lose the sign of a zero


def _uuid_bytes(typed: UUID) -> bytes:
    return typed.bytes


def _plain_decimal(typed: Decimal) -> str:
    """Without an exponent, which would make a float of it on its way."""
    return format(typed, "f") if typed.is_finite() else str(typed)


def _native(typed: date | time, plain: bool) -> Any:
    if not plain:
        return typed
    return typed.isoformat(" ") if isinstance(typed, datetime) else typed.isoformat()


def _without_offset(typed: Any) -> Any:
    if typed.tzinfo is not None:
        raise Refused("it holds times without an offset")
    return typed


def _utc(typed: datetime, *, naive: bool) -> datetime:
    if typed.tzinfo is None:
        raise Refused("it holds times with an offset")
    try:
        moment = typed.astimezone(UTC)
    except OverflowError:
        raise Refused("it holds times in UTC, where the calendar ends before this one") from None
    return moment.replace(tzinfo=None) if naive else moment


def _json(typed: Any) -> Any:
    _json_as_text(typed)
    return typed


def _json_as_text(typed: Any) -> str:
    try:
        return to_text("json", typed)
    except UnicodeEncodeError:
        raise Refused("half a surrogate pair is no text") from None


def _checked(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused("half a surrogate pair is no text") from None
    return text


# -- given and stored ---------------------------------------------------------------------------------------


def likeness(value_type: str, typed: Any, raw: Any) -> Likeness:
    """How `raw`, read again, compares with the typed value that was given."""
    if typed is None or raw is None:
        return "same" if typed is None and raw is None else "other"
    try:
        stored = wire_of(value_type, raw)
    except BadValue:
        return "other"
    given = dump(value_type, typed)
    if same(given, stored):
        return "same"
    if value_type == "json":
        return "alike" if _means_the_same(given, stored) else "other"
    return "alike" if equivalent(value_type, given, stored) else "other"


def _means_the_same(one: Any, other: Any) -> bool:
    """Whether two JSON values differ in how their numbers are written only."""
    match one, other:
        case bool(), _:
            return one is other
        case _, bool():
            return False
        case ((int() | float()), (int() | float())):
            return bool(one == other)
        case list(), list():
            return len(one) == len(other) and all(map(_means_the_same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(_means_the_same(v, other[k]) for k, v in one.items())
    return bool(one == other)


def wire_of(value_type: str, raw: Any) -> Any:
    """The wire form of what a decoder answers. Raises BadValue."""
    return None if raw is None else dump(value_type, typed_of(value_type, raw))


def typed_of(value_type: str, raw: Any) -> Any:
    """The typed value of what a decoder answers. Raises BadValue."""
    return parse_json(raw) if value_type == "json" and isinstance(raw, str | bytes) else read(value_type, raw)


def is_cut(column: Column, value_type: str, typed: Any) -> bool:
    """Whether the column itself would cut something off a value without a word: for tables in which a trigger may have
    altered it, too."""
    match column.kind:
        case "char":
            return isinstance(typed, str) and typed != typed.rstrip(" ")
        case "text":
            return isinstance(typed, str) and column.length is not None and len(typed) > column.length
        case "single" if isinstance(typed, float):
            return (
                _single(struct.unpack("f", struct.pack("f", typed))[0]) != typed
                if abs(typed) < 3.4e38
                else True
            )
        case "decimal" if isinstance(typed, Decimal) and column.digits is not None and typed.is_finite():
            return typed != round(typed, column.digits)
        case "time" | "timetz" | "datetime" | "zoned" | "utc" if isinstance(typed, datetime | time):
            return column.digits is not None and typed.microsecond % 10 ** (6 - column.digits) != 0
    return False
