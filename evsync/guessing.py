"""What values and names suggest: value types, keys, when a record was changed. Pure.

Guesses are careful, for a wrong type quarantines records and a wrong key merges them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import combinations
from typing import Any

from evsync.values import infer

_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
_KEY_WORD = re.compile(
    r"(^|[^a-z])(id|uuid|key|code|email|mail|number|no|num|nr|slug|login|isbn|sku|tail|tailnum)([^a-z]|$)",
    re.I,
)
_NAME = re.compile(r"(^|[^a-z])name([^a-z]|$)", re.I)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_REFERS = re.compile(r"(.+)[ _](id|no|nr|number|code|key|uuid)\Z")
_CHANGED = re.compile(
    r"(date|last|when|time)?(updated?|modified|changed?|modification|edited)(at|on|time|date|timestamp)?\Z"
)


def type_of(values: Iterable[Any]) -> str:
    """The value type that all of `values` have, "str" in doubt. Text is never taken for true or false."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return "str"
    if kinds <= {"int", "float", "decimal"}:
        # One value that a float would write differently (1.10) makes all of them decimals.
        return next(kind for kind in ("decimal", "float", "int") if kind in kinds)
    if len(kinds) == 1:
        return kinds.pop()
    return "json" if kinds & {"json", "bool", "bytes"} else "str"


def _kind(value: Any) -> str:
    if not isinstance(value, str):
        return infer(value) or "str"
    if _INT.match(value) and value != "-0":
        return "int"
    if _NUMBER.match(value):
        return "float" if repr(float(value)) == value else "decimal"
    try:
        if _DATE.match(value):
            date.fromisoformat(value)
            return "date"
        if _DATETIME.match(value):
            datetime.fromisoformat(value)
            return "datetime"
    except ValueError:
        pass
    return "str"


def likeliest(columns: Sequence[str]) -> str:
    """The first column that is called like a key, else like a name, else the first."""
    for pattern in (_KEY_WORD, _NAME):
        for column in columns:
            if pattern.search(_HUMP.sub("_", column)):
                return column
    return columns[0] if columns else "id"


def unique_in(samples: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> tuple[str, ...] | None:
    """The column, or the two, by which all records of a sample are told apart; None if there are none."""
    if not samples:
        return None
    full = [column for column in columns if all(sample.get(column) not in (None, "") for sample in samples)]
    single = [column for column in full if _tells_apart((column,), samples)]
    if single:
        return (likeliest(single),)
    pairs = [pair for pair in combinations(full, 2) if _tells_apart(pair, samples)]
    return max(pairs, key=_likeness, default=None)


def _likeness(columns: Sequence[str]) -> int:
    return sum(bool(_KEY_WORD.search(_HUMP.sub("_", column))) for column in columns)


def _tells_apart(columns: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> bool:
    seen = {tuple(repr(sample[column]) for column in columns) for sample in samples}
    return len(seen) == len(samples)


def says_when_changed(column: str) -> bool:
    """Whether a column is called like one that says when a record was changed."""
    return _CHANGED.match(re.sub(r"[\W_]", "", column).lower()) is not None


def may_refer_to(column: str, types: Iterable[str]) -> str | None:
    """The type that a column is called after, as `customer_id` is after `customers`."""
    found = _REFERS.match(_HUMP.sub("_", column).lower())
    if found is None:
        return None
    stem = re.sub(r"[\W_]", "", found[1])
    plurals = {stem, f"{stem}s", f"{stem}es", re.sub(r"y\Z", "ies", stem)}
    return next((type for type in types if re.sub(r"[\W_]", "", type).lower() in plurals), None)
