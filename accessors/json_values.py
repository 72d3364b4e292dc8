"""JSON objects as records: reading them, and changing some of their members in the text that they stand in.

A record keeps the text of every member that is not changed (1.50, 1e5, "\\u00e9"), the order of its members
and its indentation. Typed values are written in their wire form (see `evsync.values`): decimals, dates and
UUIDs as strings, bytes as base64, NaN and the infinities as strings. Only a decimal that takes the place
of a number stays a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple

from evsync.accessor import Row
from evsync.binding import Binding, Description
from evsync.values import ABSENT, dump, infer, widen

WHITE = re.compile(r"[ \t\r\n]*+")

_decode = json.JSONDecoder().raw_decode


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for position, name in enumerate(names) if name in names[:position])
        raise ValueError(f"an object has two members called {double!r}")
    return members


def decoder(binding: Binding | None) -> json.JSONDecoder:
    """Refuses two members of one name; gives numbers as Decimals where a field needs all their digits."""
    return json.JSONDecoder(
        object_pairs_hook=_unique, parse_float=Decimal if needs_decimals(binding) else None
    )


def needs_decimals(binding: Binding | None) -> bool:
    return binding is not None and "decimal" in binding.local_types.values()


def row_maker(binding: Binding) -> Callable[[Mapping[str, Any], str | None], Row]:
    """Makes a Row of a decoded object."""
    locals, own = binding.locals, (binding.id, binding.changed_at, binding.changed_by)
    exact = [binding.local_types[local] == "decimal" for local in locals]
    plain = not needs_decimals(binding)

    def row(members: Mapping[str, Any], place: str | None) -> Row:
        get = members.get
        id, moment, by = [None if name is None else get(name) for name in own]
        if not isinstance(id, int | str) or isinstance(id, bool):
            id = None
        values = [get(local, ABSENT) for local in locals]
        if not plain:
            values = [value if keep else _floats(value) for value, keep in zip(values, exact, strict=True)]
        return (id, place, moment, by, *values)

    return row


def _floats(value: Any) -> Any:
    """The value with floats in place of Decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _floats(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return value


def describe(objects: Iterable[Mapping[str, Any]]) -> Description:
    """The names of all members in the order in which they are first seen, with the narrowest type for each."""
    columns: dict[str, str | None] = {}
    seen: set[tuple[tuple[str, ...], tuple[type, ...]]] = set()
    for members in objects:
        # Most objects are of a kind that was met before: looked at by their names and types only.
        kind = (tuple(members), tuple(map(type, members.values())))
        if kind in seen:
            continue
        if len(seen) < 10_000:
            seen.add(kind)
        for name, value in members.items():
            columns[name] = widen(columns.get(name), infer(value))
    return Description(columns, open=True)


class Member(NamedTuple):
    """Where in an object's text a member's name begins and ends, and its value."""

    name: str
    start: int
    name_end: int
    value: int
    end: int


def members_of(text: str) -> Iterator[Member]:
    """The members of an object that is known to be well-formed."""
    at = _skip(text, 1)
    while text[at] != "}":
        name, name_end = _decode(text, at)
        value = _skip(text, _skip(text, name_end) + 1)
        _, end = _decode(text, value)
        yield Member(name, at, name_end, value, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = WHITE.match(text, at)
    return found.end() if found else at


class Style(NamedTuple):
    """How the objects of a file are written: what stands before, between and after their members."""

    opening: str = "{"
    separator: str = ", "
    colon: str = ": "
    closing: str = "}"
    names: tuple[str, ...] = ()  # in this order
    numbers: frozenset[str] = frozenset()  # members whose value is a number
    escaped: bool = False  # "\\u00e9" rather than "é"

    @property
    def indent(self) -> tuple[str, str] | None:
        """What stands before each member, and by how much more that is than before the object's end; None if it is in one line."""
        if "\n" not in self.opening:
            return None
        outer, inner = self.closing.rpartition("\n")[2][:-1], self.opening.rpartition("\n")[2]
        return inner, inner.removeprefix(outer) or "  "


INDENTED = Style("{\n    ", ",\n    ", ": ", "\n  }")


def style_of(text: str, escaped: bool) -> Style | None:
    """How an object is written; None for one without members, which does not tell."""
    members = list(members_of(text))
    if not members:
        return None
    first = members[0]
    opening, colon = text[: first.start], text[first.name_end : first.value]
    if len(members) > 1:
        separator = text[first.end : members[1].start]
    else:
        separator = "," + (opening[1:] or " " * colon.endswith(" "))
    return Style(
        opening,
        separator,
        colon,
        text[members[-1].end :],
        tuple(member.name for member in members),
        frozenset(member.name for member in members if text[member.value] in "-0123456789"),
        escaped,
    )


def write(text: str | None, values: Mapping[str, Any], types: Mapping[str, str], style: Style) -> str:
    """The text of an object with these typed values; of a new one if `text` is None."""
    old = [] if text is None else list(members_of(text))
    pieces: list[str] = []  # each but the first with what separates it from the one before
    found = set()
    for position, member in enumerate(old):
        found.add(member.name)
        typed = values.get(member.name)
        if typed is ABSENT:
            continue
        if pieces:
            pieces.append(text[old[position - 1].end : member.start] if text else "")
        pieces.append(_member(text or "", member, member.name in values, typed, types, style))
    for name in sorted(values, key=_order(style.names)):
        if name not in found and values[name] is not ABSENT:
            value = _dumped(values[name], types[name], style, name in style.numbers)
            pieces += [style.separator] if pieces else []
            pieces.append(_json(name, style) + style.colon + value)
    if not pieces:
        return "{}"
    if not old or text is None:
        return style.opening + "".join(pieces) + style.closing
    return text[: old[0].start] + "".join(pieces) + text[old[-1].end :]


def _member(
    text: str, member: Member, changed: bool, typed: Any, types: Mapping[str, str], style: Style
) -> str:
    if not changed:
        return text[member.start : member.end]
    number = text[member.value] in "-0123456789"
    return text[member.start : member.value] + _dumped(typed, types[member.name], style, number)


def _order(names: tuple[str, ...]) -> Callable[[str], int]:
    places = {name: place for place, name in enumerate(names)}
    return lambda name: places.get(name, len(places))


def _dumped(typed: Any, type_name: str, style: Style, number: bool) -> str:
    if number and isinstance(typed, Decimal) and typed.is_finite():
        digits = str(typed)
        if digits != "-0":  # as an integer it would lose its sign
            return digits
    return _json(dump(type_name, typed), style)


def _json(wire: Any, style: Style) -> str:
    kind = wire.__class__
    if (
        kind is str
    ):  # most values by far are one of these; making a new encoder for each took most of the time
        return encode_basestring_ascii(wire) if style.escaped else encode_basestring(wire)
    if kind is int:
        return str(wire)
    if wire is None:
        return "null"
    if isinstance(wire, dict | list) and style.indent is not None:
        inner, unit = style.indent
        dumped = json.dumps(wire, ensure_ascii=style.escaped, indent=unit, separators=(",", style.colon))
        return dumped.replace("\n", "\n" + inner)
    separators = ("," if style.separator == "," else ", ", style.colon)
    return json.dumps(wire, ensure_ascii=style.escaped, separators=separators)
