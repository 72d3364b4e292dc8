"""Filters: which canonical records a store holds (`where` of a type's place in a store).

A filter is a pure predicate over a canonical record. It is kept in the mapping document, so that the journal
alone can tell whether a store should hold a record, and a changed filter is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from evsync.binding import nearest
from evsync.errors import BadValue, ConfigError
from evsync.values import equivalent, load, micros, wire_of

CONDITIONS = ("min", "max", "not")
ORDERED = ("str", "int", "float", "decimal", "date", "time", "datetime")


class Condition(msgspec.Struct, frozen=True):
    """What one field has to be. Bounds and values in wire form; null and absent fulfil `excluded` only."""

    field: str
    type: str
    among: tuple[Any, ...] | None = None
    least: Any = None
    most: Any = None
    excluded: tuple[Any, ...] | None = None

    def holds(self, wire: Any) -> bool:
        """Whether a value fulfils it."""
        if wire is None:
            return self.among is None and self.least is None and self.most is None
        if self.excluded is not None and self._is_one(wire, self.excluded):
            return False
        if self.among is not None and not self._is_one(wire, self.among):
            return False
        return (self.least is None or self._ordered(self.least, wire)) and (
            self.most is None or self._ordered(wire, self.most)
        )

    def _is_one(self, wire: Any, values: tuple[Any, ...]) -> bool:
        return any(_told(partial(equivalent, self.type, wire, value)) for value in values)

    def _ordered(self, one: Any, other: Any) -> bool:
        return _told(lambda: bool(_comparable(self.type, one) <= _comparable(self.type, other)))


class Filter(msgspec.Struct, frozen=True):
    """Conditions that all have to hold."""

    conditions: tuple[Condition, ...]

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a canonical record (wire values) passes."""
        return all(condition.holds(record.get(condition.field)) for condition in self.conditions)

    def as_document(self) -> dict[str, Any]:
        """The filter as JSON; `read_filter` takes it back."""
        document = {}
        for one in self.conditions:
            parts = {"in": one.among, "min": one.least, "max": one.most, "not": one.excluded}
            document[one.field] = {
                "type": one.type,
                **{
                    word: list(value) if isinstance(value, tuple) else value
                    for word, value in parts.items()
                    if value is not None
                },
            }
        return document


def read_filter(document: Mapping[str, Mapping[str, Any]] | None) -> Filter | None:
    """The filter that a mapping document tells of."""
    if not document:
        return None
    return Filter(
        tuple(
            Condition(
                field,
                told["type"],
                tuple(told["in"]) if "in" in told else None,
                told.get("min"),
                told.get("max"),
                tuple(told["not"]) if "not" in told else None,
            )
            for field, told in document.items()
        )
    )


def parse_filter(where: str, written: Mapping[str, Any], types: Mapping[str, str]) -> Filter | None:
    """The filter that a configuration says, its values read in the types of their fields.

    Raises ConfigError, beginning with `where` it stands."""
    conditions = []
    for field, condition in sorted(written.items()):
        if field not in types:
            raise ConfigError(
                f"{where}: the filter names the unknown field {field!r}",
                nearest(field, types) or f"the fields are: {', '.join(sorted(types))}",
            )
        conditions.append(_condition(where, field, types[field], condition))
    return Filter(tuple(conditions)) if conditions else None


def check_shape(where: str, written: Mapping[str, Any]) -> None:
    """Raises ConfigError for a filter that is wrong whatever the types of its fields are."""
    for field, condition in written.items():
        _parts(where, field, condition)


def _condition(where: str, field: str, type: str, written: Any) -> Condition:
    def one(value: Any) -> Any:
        try:
            return wire_of(type, value)
        except BadValue as error:
            raise ConfigError(
                f"{where}: the filter of {field!r}: {error.message}",
                f"the field is of type {type!r}; dates and times may stand without quotes",
            ) from None

    parts = _parts(where, field, written)
    if ("min" in parts or "max" in parts) and type not in ORDERED:
        raise ConfigError(
            f"{where}: the filter of {field!r}: values of type {type!r} have no order",
            "say which values pass: a value or a list of them",
        )
    return Condition(
        field,
        type,
        tuple(map(one, parts["in"])) if "in" in parts else None,
        one(parts["min"]) if "min" in parts else None,
        one(parts["max"]) if "max" in parts else None,
        tuple(map(one, parts["not"])) if "not" in parts else None,
    )


def _parts(where: str, field: str, written: Any) -> dict[str, Any]:
    """A condition as `in`, `min`, `max` and `not`, the first and last with a list of values."""
    if not isinstance(written, dict):
        return {"in": _values(where, field, written)}
    if not written:
        raise ConfigError(
            f"{where}: the filter of {field!r} says nothing", "give it a value, or min, max, not"
        )
    for word, value in written.items():
        if word not in CONDITIONS:
            raise ConfigError(
                f"{where}: the filter of {field!r} has the unknown condition {word!r}",
                nearest(word, CONDITIONS) or f"the conditions are: {', '.join(CONDITIONS)}",
            )
        if word != "not" and isinstance(value, list | dict):
            raise ConfigError(f"{where}: the filter of {field!r}: {word!r} must be one value")
    return {word: _values(where, field, value) if word == "not" else value for word, value in written.items()}


def _values(where: str, field: str, written: Any) -> list[Any]:
    values = written if isinstance(written, list) else [written]
    if not values:
        raise ConfigError(f"{where}: the filter of {field!r} names no value", "a list needs at least one")
    for value in values:
        if isinstance(value, list | dict):
            raise ConfigError(f"{where}: the filter of {field!r}: {value!r} is no single value")
        if isinstance(value, str) and "${" in value:
            raise ConfigError(
                f"{where}: the filter of {field!r} cannot take a variable: it is kept in the journal",
                "write the value itself",
            )
    return values


def _comparable(type: str, wire: Any) -> Any:
    """A value as it is put in order: points in time by the instant, one without an offset as UTC."""
    typed = load(type, wire)
    return micros(typed) if isinstance(typed, datetime) else typed


def _told(question: Callable[[], bool]) -> bool:
    """The answer; False where a value of another type, from before its field had this one, allows none."""
    try:
        return question()
    except (ValueError, TypeError, ArithmeticError, AttributeError):
        return False
