"""How one type of data lies in one store: which of the store's columns hold which canonical fields.

A `Binding` is resolved from the configuration, what the store says of itself (`Description`) and the field
types known so far; resolving is a pure function.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from evsync.errors import ConfigError
from evsync.values import TYPES, encode


class TypeSpec(msgspec.Struct, frozen=True):
    """A type as configured: `[types.NAME]`."""

    name: str
    key: tuple[str, ...]
    fields: Mapping[str, str] | None = None  # name → value type; None: taken from the first store
    references: Mapping[str, str] = {}


class PlaceSpec(msgspec.Struct, frozen=True):
    """A type's place in a store as configured: `[stores.NAME.types.TYPE]`."""

    id: str | None = None
    fields: Mapping[str, str] = {}  # canonical → local, where they differ
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    changed_at: str | None = None
    changed_by: str | None = None
    options: Mapping[str, Any] = {}  # the accessor's own: table, file, null …
    written: Mapping[str, Any] = {}  # the same as they stand in the file, secrets not filled in


class Description(msgspec.Struct, frozen=True):
    """What a store says of one type: local names, in the store's order, with the value type it declares
    for each (None: it declares none), and its primary key. `open`: a record may have other fields than those
    that some record has now, as in JSON."""

    columns: Mapping[str, str | None]
    primary_key: tuple[str, ...] = ()
    open: bool = False


class Field(msgspec.Struct, frozen=True):
    """One canonical field and the store's own name for it."""

    name: str
    local: str
    type: str


class Binding(msgspec.Struct, frozen=True, dict=True):
    """One type as one store holds it. `fields` are in order of their canonical names."""

    type: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    id: str | None = None
    changed_at: str | None = None
    changed_by: str | None = None
    options: Mapping[str, Any] = {}
    open: bool = False  # records may come to have further fields

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical names, sorted."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def locals(self) -> tuple[str, ...]:
        """The store's own names, in the order of `names`."""
        return tuple(field.local for field in self.fields)

    @cached_property
    def local_types(self) -> dict[str, str]:
        """The store's own names with the value type of each."""
        return {field.local: field.type for field in self.fields}

    @cached_property
    def local_of(self) -> dict[str, str]:
        """Canonical name → the store's own."""
        return {field.name: field.local for field in self.fields}

    @cached_property
    def key_locals(self) -> tuple[str, ...]:
        """The store's own names of the key fields, in the key's order."""
        return tuple(self.local_of[name] for name in self.key)

    @cached_property
    def digest(self) -> str:
        """Changes when another mapping would read other content out of the same store."""
        return hashlib.sha256(encode(self.as_document())).hexdigest()

    def as_document(self) -> dict[str, Any]:
        """The mapping as JSON, for the journal and for telling what changed in it."""
        return {
            "key": list(self.key),
            "fields": {field.name: [field.local, field.type] for field in self.fields},
            "id": self.id,
            "options": {name: str(value) for name, value in self.options.items()},
        }


def nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean X?", or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def resolve(
    store: str,
    spec: TypeSpec,
    place: PlaceSpec,
    described: Description | None,
    types: Mapping[str, str],
    *,
    silent: bool = False,
    remembered: Collection[str] = (),
) -> Binding:
    """The binding of `spec` in `store`.

    `types` are the value types known of the canonical fields (declared, or frozen when first seen);
    `described` is None for a store that does not exist yet and will be created with all of them, or, if it is
    `silent`, for one that cannot say what it has. `remembered`: the fields it was mapped by before; an open
    store still has them if no record does just now. Raises ConfigError for a column that is not there.
    """
    columns = None if described is None else described.columns
    if described is not None and described.open:
        columns = {
            **dict.fromkeys(place.fields.get(n, n) for n in remembered if n in types),
            **described.columns,
        }
    to_canonical = {local: name for name, local in place.fields.items()}
    for name in (*place.fields, *(place.only or ())):
        if spec.fields is not None and name not in spec.fields and name not in spec.key:
            raise ConfigError(
                f"store {store!r}, type {spec.name!r}: field {name!r} is not declared in [types.{spec.name}.fields]",
                nearest(name, spec.fields)
                or f"declare it, or remove it from [stores.{store}.types.{spec.name}]",
            )

    names: list[str]
    if place.only is not None:
        names = list(place.only)
    elif columns is None:
        names = list(types)
    else:
        names = [n for n in (to_canonical.get(local, local) for local in columns) if n in types]
        names += [n for n in place.fields if n not in names]
    names = [n for n in names if n not in place.ignore and place.fields.get(n, n) not in place.ignore]
    names += [n for n in spec.key if n not in names]

    fields = []
    for name in sorted(set(names)):
        local = place.fields.get(name, name)
        if columns is not None and local not in columns:
            raise ConfigError(
                f"store {store!r}, type {spec.name!r}: there is no column {local!r}"
                + ("" if name not in spec.key else f", which the key field {name!r} needs"),
                nearest(local, columns) or f"it has: {', '.join(columns)}",
            )
        fields.append(Field(name, local, types.get(name, "str")))
    for option in ("id", "changed_at", "changed_by"):
        column: str | None = getattr(place, option)
        if (
            column is not None
            and described is not None
            and not described.open
            and column not in described.columns
        ):
            raise ConfigError(
                f"store {store!r}, type {spec.name!r}: {option} names the column {column!r}, which is not there",
                nearest(column, described.columns) or f"it has: {', '.join(described.columns)}",
            )
    return Binding(
        spec.name,
        spec.key,
        tuple(fields),
        place.id,
        place.changed_at,
        place.changed_by,
        dict(place.written or place.options),
        described is not None and described.open,
    )


def offered(spec: TypeSpec, place: PlaceSpec, described: Description) -> dict[str, str | None]:
    """The canonical fields that a store has of a type by itself, with the value types it declares.

    Its own id and the columns that say when and by whom a record was changed are no data, unless named."""
    to_canonical = {local: name for name, local in place.fields.items()}
    named = {*place.fields.values(), *(place.only or ()), *spec.key}
    aside = {place.id, place.changed_at, place.changed_by, *place.ignore}
    keys = {place.fields.get(name, name) for name in spec.key}
    if len(described.primary_key) == 1 and place.id is None and described.primary_key[0] not in keys:
        aside.add(described.primary_key[0])
    found = {}
    for local, type_name in described.columns.items():
        name = to_canonical.get(local, local)
        if (local in aside and local not in named) or name in place.ignore:
            continue
        if place.only is not None and name not in place.only and name not in spec.key:
            continue
        found[name] = type_name
    return found


def check_types(where: str, fields: Mapping[str, str]) -> None:
    """Raises ConfigError for a value type that does not exist."""
    for name, type_name in fields.items():
        if type_name not in TYPES:
            raise ConfigError(
                f"{where}: field {name!r} has the unknown type {type_name!r}",
                nearest(type_name, TYPES) or f"the types are: {', '.join(TYPES)}",
            )


def local_key(binding: Binding, typed: Sequence[Any]) -> dict[str, Any]:
    """The key's typed values under the store's own names."""
    return dict(zip(binding.key_locals, typed, strict=True))
