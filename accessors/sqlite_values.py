"""Values in SQLite: which column type stands for which value type, and how a typed value is stored exactly.

SQLite converts what it is given by the *affinity* of the column (sqlite.org/datatype3.html §3): the text
"007" becomes the integer 7 in an INTEGER column. So a value is stored in the first of several forms that is
known to come back as exactly the same value; where none does, it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal

from evsync.errors import BadValue, Refused
from evsync.values import TYPES, dump, parse_json, read, same, to_text

Affinity = Literal["INTEGER", "REAL", "NUMERIC", "TEXT", "BLOB"]

_AFFINITIES: Final[tuple[tuple[Affinity, tuple[str, ...]], ...]] = (
    ("INTEGER", ("INT",)),
    ("TEXT", ("CHAR", "CLOB", "TEXT")),
    ("BLOB", ("BLOB",)),
    ("REAL", ("REAL", "FLOA", "DOUB")),
)

# The specific word decides before the general one: "DATETIME TEXT" is a datetime, "DECIMAL TEXT" a decimal.
_TYPES: Final = (
    ("bool", ("BOOL",)),
    ("datetime", ("DATETIME", "TIMESTAMP")),
    ("date", ("DATE",)),
    ("time", ("TIME",)),
    ("uuid", ("UUID", "GUID", "UNIQUEIDENTIFIER")),
    ("json", ("JSON",)),
    ("decimal", ("DEC", "NUMERIC", "MONEY")),
    ("int", ("INT",)),
    ("str", ("CHAR", "CLOB", "TEXT")),
    ("bytes", ("BLOB",)),
    ("float", ("REAL", "FLOA", "DOUB")),
)

# Every type whose text could pass for a number carries "TEXT", which keeps the text as it is.
COLUMN_TYPES: Final = {
    "str": "TEXT",
    "int": "INTEGER",
    "float": "REAL",
    "decimal": "DECIMAL TEXT",
    "bool": "BOOLEAN",
    "date": "DATE TEXT",
    "time": "TIME TEXT",
    "datetime": "DATETIME TEXT",
    "uuid": "UUID TEXT",
    "bytes": "BLOB",
    "json": "JSON TEXT",
}
"""What a column is declared as when we create it; `type_of` takes it back."""

# What SQLite turns into a number when a column of a numeric affinity is given text.
_NUMERIC = re.compile(r"[ \t\n\v\f\r]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t\n\v\f\r]*\Z")
_INTEGER = re.compile(r"0\Z|-?[1-9][0-9]{0,18}\Z")
_EXACT = 2**53  # every integer up to here is a float as well
_INT64 = range(-(2**63), 2**63)
_NEVER_NUMERIC = frozenset({"date", "time", "datetime", "uuid"})  # their text has dashes or colons
_UNSURE: Final = object()


def affinity(declared: str) -> Affinity:
    """The affinity of a column declared so (datatype3 §3.1)."""
    upper = declared.upper()
    for name, words in _AFFINITIES:
        if any(word in upper for word in words):
            return name
    return "NUMERIC" if upper.strip() else "BLOB"


def type_of(declared: str) -> str | None:
    """The value type that a declared column type suggests; None if it suggests none."""
    upper = declared.upper()
    return next((name for name, words in _TYPES if any(word in upper for word in words)), None)


def type_of_values(storage: Iterable[str]) -> str | None:
    """The value type of a column that declares none, by what `typeof()` says of the values found in it."""
    found = set(storage) - {"null"}
    if found == {"integer"}:
        return "int"
    if found and found <= {"integer", "real"}:
        return "float"
    return {"text": "str", "blob": "bytes"}.get(found.pop()) if len(found) == 1 else None


def encoder(value_type: str, column: Affinity) -> Callable[[Any], Any]:
    """What makes of a typed value other than None what SQLite is to be given for such a column.

    It raises Refused if whatever SQLite makes of it would read back as another value."""
    # The common cases first: they need no proof, one value at a time.
    if value_type == "bytes" or (value_type == "str" and column in ("TEXT", "BLOB")):
        return _as_it_is
    if value_type == "bool" and column not in ("TEXT", "REAL"):
        return int
    if value_type in _NEVER_NUMERIC or (value_type in ("bool", "decimal", "json") and column == "TEXT"):
        return TYPES[value_type].text
    if value_type == "int" and column != "TEXT":
        return partial(_encode_int, column)
    if value_type == "float" and column in ("REAL", "BLOB"):
        return partial(_encode_float, column)
    return partial(encode, value_type, column)


def encode(value_type: str, column: Affinity, typed: Any) -> Any:
    """The first form of the value that reads back as the same; raises Refused if there is none."""
    for form in forms(value_type, column, typed):
        if _reads_back(value_type, typed, settled(form, column)):
            return form
    raise Refused(f"a column of {column} affinity would make another value of it")


def _as_it_is(typed: Any) -> Any:
    return typed


def _encode_int(column: Affinity, typed: int) -> Any:
    return typed if -_EXACT <= typed <= _EXACT else encode("int", column, typed)


def _encode_float(column: Affinity, typed: float) -> Any:
    return typed if typed and math.isfinite(typed) else encode("float", column, typed)


def forms(value_type: str, column: Affinity, typed: Any) -> list[Any]:
    """The ways in which a typed value can stand in SQLite, the most natural first."""
    match value_type:
        case "bytes":
            return [typed]
        case "bool":
            words = ["true" if typed else "false"]
            return [*words, int(typed)] if column == "TEXT" else [int(typed), *words]
        case "int":
            text = str(typed)
            return [*([typed] if typed in _INT64 else []), text, text.encode()]
        case "float":
            text = to_text("float", typed)
            return [*([] if math.isnan(typed) else [typed]), text, text.encode()]
        case "decimal":
            text = str(typed)
            return [text, *_as_number(typed), text.encode()]
        case "json":
            text = to_text("json", typed)
            return [text, text.encode()]
    return [to_text(value_type, typed)]


def spellings(value_type: str, column: Affinity, typed: Any) -> list[Any]:
    """The forms under which a key's typed value is looked for, those of other programs included."""
    found = forms(value_type, column, typed)
    if value_type == "datetime":
        ends = [found[0], found[0][:-1] + "+00:00"] if found[0].endswith("Z") else [found[0]]
        found = [text for end in ends for text in (end, end.replace("T", " "))]
    elif value_type == "uuid":
        found += [found[0].upper(), typed.hex, typed.bytes]
    elif value_type == "str" and _INTEGER.match(typed) and int(typed) in _INT64:
        found.append(int(typed))
    return [form for form in found if _bindable(form)]


def settled(form: Any, column: Affinity) -> Any:
    """What comes back of a form after the column's affinity was applied; `_UNSURE` where we would have to guess."""
    if isinstance(form, bytes) or column == "BLOB":
        return form
    if column == "TEXT":
        return form if isinstance(form, str) else str(form) if isinstance(form, int) else _UNSURE
    if isinstance(form, str):
        if not _NUMERIC.match(form):
            return form
        if not _INTEGER.match(form) or int(form) not in _INT64:
            return _UNSURE
        form = int(form)
    if column == "REAL":
        if isinstance(form, int):
            return float(form) if abs(form) <= _EXACT else _UNSURE
        return form + 0.0  # keeps no negative zero: it is stored as the integer 0
    if isinstance(form, float) and form.is_integer() and abs(form) < 2**63:
        return int(form)
    return form


def native(value_type: str, raw: Any) -> Any:
    """The typed value of what SQLite hands out. Raises BadValue."""
    if value_type == "json" and isinstance(raw, str | bytes):
        return parse_json(raw)
    return read(value_type, raw)


def wire(value_type: str, raw: Any) -> Any:
    """The wire form of what SQLite hands out. Raises BadValue."""
    return dump(value_type, native(value_type, raw))


def _reads_back(value_type: str, typed: Any, raw: Any) -> bool:
    try:
        return raw is not _UNSURE and same(wire(value_type, raw), dump(value_type, typed))
    except BadValue:
        return False


def _as_number(number: Decimal) -> list[float]:
    """A decimal as the number that a program without decimals would store."""
    return [float(number)] if number.is_finite() and math.isfinite(float(number)) else []


def _bindable(form: Any) -> bool:
    """Half a surrogate pair is no text to SQLite, so nothing is found under it."""
    try:
        return not isinstance(form, str) or bool(form.encode()) or not form
    except UnicodeEncodeError:
        return False
