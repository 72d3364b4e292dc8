"""Conversions: a field that a store writes in its own way (`convert` of a type's place in a store).

A conversion has to be reversible: what one direction makes of a value, the other has to make undone. Each value
is checked for it, so that a wrong function puts records aside instead of altering them.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from evsync.binding import nearest
from evsync.errors import BadValue, ConfigError, NotConvertible
from evsync.values import TYPES, dump, encode, equivalent, infer, load, read, widen, wire_of

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")

Way = Callable[[Any], Any]


class Pair(NamedTuple):
    """Both directions over typed values, as found before the types of the field are known. `type` is that of the
    canonical side, `local_type` that of the store's; None: it is not known."""

    read: Way
    write: Way
    type: str | None
    local_type: str | None
    document: Any  # a table as it stands, a function by its name


class Conversion(NamedTuple):
    """The conversion of one field of one store. `local_type` None: the store's values are taken as they come."""

    type: str
    local_type: str | None
    read: Way
    write: Way
    document: Any

    def wire_of(self, raw: Any) -> Any:
        """The canonical value, in wire form, of what the store holds. Raises BadValue, NotConvertible among them."""
        local = raw if self.local_type is None else read(self.local_type, raw)
        wire = self._read(local)
        if not _alike(self.local_type, self._write(wire), local):
            raise NotConvertible(f"{_short(raw)} is not what its conversion would write for {_short(wire)}")
        return wire

    def typed_of(self, raw: Any) -> Any:
        """The same as a typed value."""
        return load(self.type, self.wire_of(raw))

    def local_of(self, wire: Any) -> Any:
        """What the store is to hold for a canonical value. Raises NotConvertible."""
        local = self._write(wire)
        if not equivalent(self.type, back := self._read(local), wire):
            raise NotConvertible(f"{_short(wire)} would come back as {_short(back)} from its conversion")
        return local

    def read_back(self, wire: Any) -> Any:
        """The canonical value as it is read again once it was written: 1.5 may come back as 1.50."""
        return self._read(self.local_of(wire))

    def _read(self, local: Any) -> Any:
        found = _call(self.read, local)
        if found is None:
            raise NotConvertible(f"its conversion makes nothing of {_short(local)}")
        return wire_of(self.type, found)

    def _write(self, wire: Any) -> Any:
        found = _call(self.write, load(self.type, wire))
        if found is None:
            raise NotConvertible(f"its conversion makes nothing of {_short(wire)}")
        return found if self.local_type is None else read(self.local_type, found)


def load_conversions(where: str, written: Mapping[str, Any], root: Path) -> dict[str, Pair]:
    """The conversions of a place, by field. Functions are looked for beside the configuration, too.

    Raises ConfigError, beginning with `where` it stands."""
    return {field: _pair(where, field, one, root) for field, one in written.items()}


def check_conversions(where: str, written: Mapping[str, Any]) -> None:
    """Raises ConfigError for a conversion that cannot be one, as far as that shows without loading anything."""
    for field, one in written.items():
        if isinstance(one, str):
            if one not in BUILT_IN and not FUNCTION.match(one):
                raise ConfigError(
                    f"{where}: {field!r} has the unknown conversion {one!r}",
                    nearest(one, BUILT_IN)
                    or f'the conversions are: {", ".join(BUILT_IN)}, "module:name", or a table of values',
                )
        elif isinstance(one, Mapping):
            _check_table(where, field, one)
        else:
            raise ConfigError(
                f"{where}: the conversion of {field!r} is neither a name nor a table of values",
                'write: { A = "active", I = "inactive" }, the store\'s own values first',
            )


def conversion(where: str, field: str, pair: Pair, type: str, described: str | None) -> Conversion:
    """The conversion of a field of this value type; `described` is what the store says of its column."""
    if pair.type is not None and pair.type != type and not isinstance(pair.document, dict):
        raise ConfigError(
            f"{where}: the conversion {pair.document!r} makes values of type {pair.type!r}, but {field!r} is of type {type!r}",
            f'declare the field: {field} = "{pair.type}"',
        )
    local_type = pair.local_type or described
    if not isinstance(pair.document, dict):
        return Conversion(type, local_type, pair.read, pair.write, pair.document)
    return _table(where, field, pair.document, type, local_type or "str")


def _pair(where: str, field: str, written: Any, root: Path) -> Pair:
    if isinstance(written, Mapping):
        _check_table(where, field, written)
        type: str | None = None
        for value in written.values():
            type = widen(type, infer(value))
        return Pair(_nothing, _nothing, type, None, dict(written))
    if isinstance(written, str):
        found = BUILT_IN.get(written)
        return found if found is not None else _functions(where, field, written, _load(where, written, root))
    return _functions(where, field, _name_of(written), written)


def _name_of(value: object) -> str:
    """How a conversion given by hand is called in the mapping: by where it was defined."""
    if isinstance(value, tuple | list):
        return ", ".join(map(_name_of, value))
    named = value if hasattr(value, "__qualname__") else value.__class__
    return f"{named.__module__}:{getattr(named, '__qualname__', '')}"


def _functions(where: str, field: str, name: str, found: Any) -> Pair:
    """A pair (read, write), or an object with these two methods; it may say its `type` and `local_type`."""
    if isinstance(found, tuple | list) and len(found) == 2:
        one, other = found
    else:
        one, other = getattr(found, "read", None), getattr(found, "write", None)
    if not callable(one) or not callable(other):
        raise ConfigError(
            f"{where}: the conversion {name!r} of {field!r} is no pair of functions",
            "name a pair (read, write), or an object with the methods read(local) and write(canonical)",
        )
    types = {side: getattr(found, side, None) for side in ("type", "local_type")}
    for side, told in types.items():
        if told is not None and told not in TYPES:
            raise ConfigError(
                f"{where}: the conversion {name!r} of {field!r} has the unknown {side} {told!r}",
                f"the types are: {', '.join(TYPES)}",
            )
    return Pair(one, other, types["type"], types["local_type"], name)


def _load(where: str, name: str, root: Path) -> Any:
    module, _, attribute = name.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the user's module raises while it is loaded
        raise ConfigError(
            f"{where}: the conversion {name!r} cannot be loaded: {error}",
            "write: module:name, of a module beside the configuration",
        ) from error


def _check_table(where: str, field: str, written: Mapping[str, Any]) -> None:
    if not written:
        raise ConfigError(f"{where}: the conversion of {field!r} has no values")
    met: dict[bytes, str] = {}
    for local, canonical in written.items():
        if isinstance(canonical, list | dict):
            raise ConfigError(f"{where}: the conversion of {field!r}: {local!r} must stand for one value")
        if "${" in str(canonical) or "${" in local:
            raise ConfigError(
                f"{where}: the conversion of {field!r} cannot take a variable: it is kept in the journal",
                "write the value itself",
            )
        other = met.setdefault(encode([infer(canonical), str(canonical)]), local)
        if other != local:
            raise _twice(where, field, other, local, canonical)


def _twice(where: str, field: str, one: str, other: str, canonical: Any) -> ConfigError:
    return ConfigError(
        f"{where}: the conversion of {field!r} is not one to one: {one!r} and {other!r} both stand for {canonical!r}",
        "give each of the store's values one of its own",
    )


def _table(where: str, field: str, written: Mapping[str, Any], type: str, local_type: str) -> Conversion:
    to_canonical: dict[bytes, Any] = {}
    to_local: dict[bytes, Any] = {}
    named: dict[bytes, str] = {}
    try:
        for name, value in written.items():
            local, wire = read(local_type, name), wire_of(type, value)
            if encode(wire) in to_local:
                raise _twice(where, field, named[encode(wire)], name, value)
            if encode(dump(local_type, local)) in to_canonical:
                raise ConfigError(f"{where}: the conversion of {field!r} has {name!r} twice")
            to_canonical[encode(dump(local_type, local))] = load(type, wire)
            to_local[encode(wire)], named[encode(wire)] = local, name
    except BadValue as error:
        raise ConfigError(
            f"{where}: the conversion of {field!r}: {error.message}",
            f"the store's values are of type {local_type!r}, the field's of type {type!r}",
        ) from None

    def read_local(local: Any) -> Any:
        found = to_canonical.get(encode(dump(local_type, local)))
        if found is None:
            raise NotConvertible(f"{_short(local)} is none of {', '.join(map(repr, written))}")
        return found

    def write_local(typed: Any) -> Any:
        found = to_local.get(encode(dump(type, typed)))
        if found is None:
            raise NotConvertible(f"{_short(typed)} is none of {', '.join(map(repr, written.values()))}")
        return found

    return Conversion(
        type, local_type, read_local, write_local, {name: wire_of(type, v) for name, v in written.items()}
    )


def _call(way: Way, value: Any) -> Any:
    try:
        return way(value)
    except NotConvertible:
        raise
    except Exception as error:  # whatever the user's function raises is this value's trouble only
        raise NotConvertible(
            f"its conversion fails for {_short(value)}: {error.__class__.__name__}: {error}"
        ) from error


def _alike(type: str | None, one: Any, other: Any) -> bool:
    if type is None:
        return bool(one.__class__ is other.__class__ and one == other)
    return equivalent(type, dump(type, one), dump(type, other))


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _nothing(value: Any) -> Any:
    return None


# -- built in ---------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _from_cents(cents: int) -> Decimal:
    return Decimal((cents < 0, tuple(map(int, str(abs(cents)))), -2))


def _to_cents(amount: Decimal) -> int:
    if not amount.is_finite() or amount.as_tuple().exponent > 30:  # type: ignore[operator]
        raise NotConvertible(f"{amount} cannot be told in cents")
    sign, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)
    number = int("".join(map(str, digits)))
    shift = exponent + 2
    if shift < 0:
        number, rest = divmod(number, 10**-shift) if -shift <= len(digits) else (0, number)
        if rest:
            raise NotConvertible(f"{amount} has fractions of a cent")
    else:
        number *= 10**shift
    return -number if sign else number


def _since_epoch(unit: timedelta) -> tuple[Way, Way]:
    def read_moment(count: int) -> datetime:
        return _EPOCH + count * unit

    def write_moment(moment: datetime) -> int:
        if moment.tzinfo is None:
            raise NotConvertible(f"{moment.isoformat()} does not say its offset from UTC")
        count, rest = divmod(moment - _EPOCH, unit)
        if rest:
            raise NotConvertible(f"{moment.isoformat()} is finer than the store's unit of time")
        return count

    return read_moment, write_moment


BUILT_IN: dict[str, Pair] = {
    "cents": Pair(_from_cents, _to_cents, "decimal", "int", "cents"),
    "epoch": Pair(*_since_epoch(timedelta(seconds=1)), "datetime", "int", "epoch"),
    "epoch-ms": Pair(*_since_epoch(timedelta(milliseconds=1)), "datetime", "int", "epoch-ms"),
}
