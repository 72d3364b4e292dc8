"""Whether values that a database told, or keys that it compares, are the same to us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from evsync import values as typed_values
from evsync.errors import BadValue


def one_spelling(value_type: str, typed: Any) -> Any:
    """A key's value as databases compare it: 1.5 is 1.50, and an instant is the same in any offset."""
    if value_type == "decimal" and typed is not None and typed.is_finite():
        return typed.normalize() if typed else typed - typed
    if value_type == "datetime" and typed is not None and typed.tzinfo is not None:
        try:
            return typed.astimezone(UTC)
        except OverflowError:
            return typed
    return typed


def one_name(value_types: Sequence[str], typed: Sequence[Any]) -> bytes | None:
    """The typed values of a key as one hashable thing: equal if and only if they are the same. None if it is no text."""
    spelled = [one_spelling(kind, value) for kind, value in zip(value_types, typed, strict=True)]
    try:
        return typed_values.encode(
            [typed_values.dump(kind, value) for kind, value in zip(value_types, spelled, strict=True)]
        )
    except UnicodeEncodeError:
        return None


def is_equal(value_type: str, wanted: Any, raw: Any) -> bool:
    """Whether a native value means what is looked for, given in wire form."""
    try:
        return typed_values.equivalent(value_type, wanted, _wire_of(value_type, raw))
    except BadValue:
        return False


def is_unchanged(value_type: str, now: Any, then: Any) -> bool:
    """Whether a native value still is what it was."""
    if now == then and type(now) is type(then):
        return True
    try:
        return typed_values.same(_wire_of(value_type, now), _wire_of(value_type, then))
    except BadValue:
        return False


def moment(raw: Any) -> Any:
    """When something happened, if that is what a native value says."""
    try:
        return typed_values.read("datetime", raw)
    except BadValue:
        return None


def _wire_of(value_type: str, raw: Any) -> Any:
    if raw is None:
        return None
    json = value_type == "json" and isinstance(raw, str | bytes)
    typed = typed_values.parse_json(raw) if json else typed_values.read(value_type, raw)
    return typed_values.dump(value_type, typed)
