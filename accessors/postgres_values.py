"""Values in PostgreSQL: which column type stands for which value type, and how a typed value is stored exactly.

Everything travels as the text that PostgreSQL itself writes and reads, in a session whose settings are fixed (see
`postgres_connection`): a query, COPY and a logical replication message all show a value alike, so one decoder per
column serves them all. What has no counterpart in Python ("infinity", years before Christ, 24:00:00) stays the text
it is; the value type refuses it, and that one row is put aside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple

from evsync.errors import BadValue, Refused
from evsync.values import TYPES, dump, equivalent, parse_json, read, same, to_text


class Column(NamedTuple):
    """A column. `kind`: the type's name in pg_catalog, a domain's that of its base; "citext", "enum", "other" for
    those that are not PostgreSQL's own. `element`: the kind of an array's elements, else None. `declared` and `base`:
    the type as SQL, with and without its length, scale or domain. `identity`: "always", "default" or ""."""

    name: str
    kind: str
    declared: str
    base: str
    element: str | None = None
    delimiter: str = ","
    generated: bool = False
    identity: str = ""


_TYPES: Final = {
    "int2": "int", "int4": "int", "int8": "int", "oid": "int", "numeric": "decimal", "float4": "float",
    "float8": "float", "bool": "bool", "bytea": "bytes", "date": "date", "time": "time", "timetz": "time",
    "timestamp": "datetime", "timestamptz": "datetime", "uuid": "uuid", "json": "json", "jsonb": "json",
}  # fmt: skip

COLUMN_TYPES: Final = {
    "str": "text",
    "int": "bigint",
    "float": "double precision",
    "decimal": "numeric",
    "bool": "boolean",
    "date": "date",
    "time": "time",  # time with time zone would give an offset to a time that has none
    "datetime": "timestamp with time zone",  # as is usual; a datetime without an offset is refused
    "uuid": "uuid",
    "bytes": "bytea",
    "json": "json",  # jsonb would make another number of -0.0, and refuses \u0000
}
"""What a column is declared as when we create it; `type_of` takes it back."""

_WHOLE: Final = frozenset({"int2", "int4", "int8", "oid"})
_FLOATS: Final = frozenset({"float4", "float8"})
_NUMBERS: Final = _WHOLE | _FLOATS | {"numeric"}
_LETTER_BY_LETTER: Final = frozenset(
    {"text", "varchar", "bpchar", "char", "name", "citext", "enum", "bit", "varbit"}
)
_SPECIAL_NUMBERS: Final = frozenset({"NaN", "Infinity", "-Infinity"})

Likeness = Literal["same", "alike", "unsure", "other"]
"""How a value is stored, compared with what was given: exactly so; another spelling of the same value; a spelling that
only PostgreSQL knows to be the same; another value."""


def type_of(column: Column) -> str:
    """The value type that a column declares."""
    return "json" if column.element is not None else _TYPES.get(column.kind, "str")


# -- PostgreSQL's text → raw values -------------------------------------------------------------------------


def decoder(column: Column, value_type: str | None = None) -> Callable[[str], Any] | None:
    """What makes of PostgreSQL's text a raw value that `evsync.values.read` takes for this value type, the column's
    own if none is given; None where the text is that already. It is not asked about NULL."""
    value_type = value_type or type_of(column)
    if column.kind == "bpchar":
        return _without_padding
    if value_type == "str":
        return None
    if column.element is not None:
        return _array_decoder(column.element, column.delimiter)
    if column.kind == "bool":
        return _bool
    if column.kind == "bytea":
        return _bytes
    if column.kind in _WHOLE and value_type == "int":
        return int
    if column.kind in _FLOATS and value_type == "float":
        return float
    return None


def id_decoder(column: Column) -> Callable[[str], Any] | None:
    """The same for a column whose values are ids: they are numbers or texts."""
    return int if column.kind in _WHOLE else decoder(column, "str")


def _without_padding(text: str) -> str:
    return text.rstrip(" ")


_bool: Final[Callable[[str], bool]] = {"t": True, "f": False}.__getitem__


def _bytes(text: str) -> Any:
    return bytes.fromhex(text[2:]) if text.startswith("\\x") else text


# An element is quoted, with "\" before a quote or a "\", or stands as it is; only then NULL is null.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _array_decoder(element: str, delimiter: str) -> Callable[[str], Any]:
    read_item = _item_decoder(element)
    bare = re.compile(f"[^{re.escape(delimiter)}{{}}]+")

    def decode(text: str) -> Any:
        """A list, of lists if there are more dimensions. The text as it is where counting does not start at one:
        a list could not say so."""
        if not text.startswith("{"):
            return text
        stack: list[list[Any]] = [[]]
        at, end = 0, len(text)
        while at < end:
            character = text[at]
            if character == "{":
                stack.append([])
                stack[-2].append(stack[-1])
                at += 1
            elif character == "}":
                stack.pop()
                at += 1
            elif character == delimiter:
                at += 1
            elif character == '"':
                found = _QUOTED.match(text, at)
                if found is None:
                    return text
                stack[-1].append(read_item(_ESCAPED.sub(r"\1", found[1])))
                at = found.end()
            else:
                found = bare.match(text, at)
                if found is None:
                    return text
                stack[-1].append(None if found[0] == "NULL" else read_item(found[0]))
                at = found.end()
        return stack[0][0]

    return decode


def _item_decoder(element: str) -> Callable[[str], Any]:
    if element in _WHOLE:
        return int
    if element in _FLOATS:
        return lambda text: text if text in _SPECIAL_NUMBERS else float(text)  # JSON has no such numbers
    if element == "bool":
        return _bool
    return _without_padding if element == "bpchar" else str


# -- typed values → PostgreSQL's text -----------------------------------------------------------------------


def encoder(column: Column, value_type: str) -> Callable[[Any], str]:
    """What makes of a typed value other than None the text that PostgreSQL is given, written as it would write it
    itself where that is easily done. Raises Refused for what no text of PostgreSQL's can hold."""
    if column.element is not None and value_type == "json":
        return lambda typed: _checked(_array(typed, column.delimiter))
    if column.kind == "bytea" and value_type == "bytes":
        return lambda typed: "\\x" + typed.hex()
    if value_type == "bool":
        if column.kind == "bool":
            return lambda typed: "t" if typed else "f"
        if column.kind in _NUMBERS:
            return lambda typed: "1" if typed else "0"
    if value_type == "float" and column.kind in _FLOATS:
        return lambda typed: to_text("float", typed).removesuffix(".0")
    if value_type == "datetime" and column.kind in ("timestamp", "timestamptz"):
        return lambda typed: _with_short_offset(typed.isoformat(" "))
    if value_type == "time" and column.kind in ("time", "timetz"):
        return lambda typed: _with_short_offset(typed.isoformat())
    if value_type == "str":
        return _checked
    if value_type == "json":
        return lambda typed: _checked(to_text("json", typed))
    return TYPES[value_type].text


def is_text(text: str) -> bool:
    """Whether it is a text to PostgreSQL."""
    try:
        return _checked(text) == text
    except Refused:
        return False


def _checked(text: str) -> str:
    """Raises Refused for what is no text to PostgreSQL."""
    if "\0" in text:
        raise Refused("PostgreSQL's text cannot hold the character NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused("half a surrogate pair is no text") from None
    return text


def _with_short_offset(text: str) -> str:
    return text[:-3] if text.endswith("+00:00") else text


def array_text(items: Sequence[str | None]) -> str:
    """A one-dimensional array, whatever its elements hold."""
    return "{" + ",".join("NULL" if item is None else _quoted_item(item) for item in items) + "}"


def _quoted_item(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array(value: Any, delimiter: str) -> str:
    if not isinstance(value, list):
        raise Refused("an array is written as a list")
    items = [_array(item, delimiter) if isinstance(item, list) else _item(item) for item in value]
    return "{" + delimiter.join(items) + "}"


def _item(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "t" if value else "f"
        case int() | float():
            return repr(value)
        case str():
            return _quoted_item(value)
    raise Refused("an array holds no objects")


# -- given and stored ---------------------------------------------------------------------------------------


def is_told_by_text(column: Column, value_type: str) -> bool:
    """Whether the same text always is the same value: {1} is what [1] and ["1"] are written as."""
    return column.kind != "bpchar" and (column.element is None or value_type == "str")


def likeness(column: Column, value_type: str, typed: Any, given: str | None, stored: str | None) -> Likeness:
    """How `stored` compares with the typed value, which was `given` as this text."""
    if given is None or stored is None:
        return "same" if given is stored else "other"
    decode = decoder(column, value_type)
    try:
        wire = wire_of(value_type, stored if decode is None else decode(stored))
    except BadValue:
        return "other"
    wanted = dump(value_type, typed)
    if same(wanted, wire):
        return "same"
    if column.kind == "money":
        return "alike" if _amount(given) == _amount(stored) is not None else "other"
    if column.element is not None and value_type == "json":
        return _likeness_of_items(column.element, wanted, wire)
    if value_type == "str":
        return "unsure" if type_of(column) == "str" and column.kind not in _LETTER_BY_LETTER else "other"
    return "alike" if equivalent(value_type, wanted, wire) else "other"


def wire_of(value_type: str, raw: Any) -> Any:
    """The wire form of what a decoder answers. Raises BadValue."""
    return None if raw is None else dump(value_type, typed_of(value_type, raw))


def typed_of(value_type: str, raw: Any) -> Any:
    """The typed value of what a decoder answers. Raises BadValue."""
    return parse_json(raw) if value_type == "json" and isinstance(raw, str) else read(value_type, raw)


def _likeness_of_items(element: str, given: Any, stored: Any) -> Likeness:
    if isinstance(given, list) and isinstance(stored, list):
        if len(given) != len(stored):
            return "other"
        found = {_likeness_of_items(element, *both) for both in zip(given, stored, strict=True)}
        return next((one for one in _WORST_FIRST if one in found), "same")
    if same(given, stored):
        return "same"
    if type(given) is int and type(stored) is float:
        return "alike" if given == stored else "other"
    if not isinstance(given, str) or not isinstance(stored, str) or element in _LETTER_BY_LETTER:
        return "other"
    if element == "numeric":
        return "alike" if _number(given) == _number(stored) is not None else "other"
    return "other" if element == "money" else "unsure"


_WORST_FIRST: Final[tuple[Likeness, ...]] = ("other", "unsure", "alike")


def _amount(text: str) -> Decimal | None:
    """An amount of money, without the currency and however its thousands are set apart by a comma."""
    digits = re.sub(r"[^0-9.()-]", "", text)
    return _number("-" + digits.strip("()-") if digits.startswith(("(", "-")) else digits)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


# -- loading ------------------------------------------------------------------------------------------------


def certain_encoder(column: Column, value_type: str) -> Callable[[Any], str] | None:
    """An encoder that raises Refused for every value that is not certain to be read again just as it was given;
    None where it would have to for many."""
    encode = encoder(column, value_type)
    if column.declared != column.base:  # a length, a scale or a domain, which may alter or refuse
        return None
    match column.kind, value_type:
        case (
            (("text", "str") | ("varchar", "str") | ("citext", "str") | ("enum", "str") | ("json", "json"))
            | (("int2" | "int4" | "int8", "int") | ("float8", "float") | ("bool", "bool") | ("date", "date"))
            | (("uuid", "uuid") | ("bytea", "bytes"))
        ):
            return encode
        case ("numeric", "decimal"):
            return _plain_decimal
        case (("timestamp" | "time"), ("datetime" | "time")) if _TYPES[column.kind] == value_type:
            return _sure(encode, lambda typed: typed.tzinfo is None)
        case ("timestamptz", "datetime"):
            return _sure(encode, lambda typed: typed.tzinfo is not None and not typed.utcoffset())
    return None


def _sure(encode: Callable[[Any], str], holds: Callable[[Any], bool]) -> Callable[[Any], str]:
    def checked(typed: Any) -> str:
        if not holds(typed):
            raise Refused("stored in another form")
        return encode(typed)

    return checked


def _plain_decimal(typed: Decimal) -> str:
    """As `numeric` keeps it: with trailing zeros, without an exponent or a negative zero."""
    exponent = typed.as_tuple().exponent
    if isinstance(exponent, int):
        if exponent > 0 or (typed.is_zero() and typed.is_signed()):
            raise Refused("stored in another form")
    elif str(typed) not in _SPECIAL_NUMBERS:
        raise Refused("stored in another form")
    return str(typed)
