"""How one type of data lies in one store: which of the store's columns hold which canonical fields.

A `Binding` is resolved from the configuration, what the store says of itself (`Description`) and the field
types known so far; resolving is a pure function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from evsync.errors import ConfigError, Unfit
from evsync.values import TYPES, encode

if TYPE_CHECKING:
    from evsync.conversions import Conversion
    from evsync.filters import Filter

Contract = Literal["evolve", "freeze", "quarantine"]
CONTRACTS: tuple[Contract, ...] = ("evolve", "freeze", "quarantine")


class TypeSpec(msgspec.Struct, frozen=True):
    """A type as configured: `[types.NAME]`."""

    name: str
    key: tuple[str, ...]
    fields: Mapping[str, str] | None = None  # name → value type; None: taken from the first store
    references: Mapping[str, str] = {}
    match: tuple[
        tuple[str, ...], ...
    ] = ()  # by which fields a record met for the first time is known, besides its key
    contract: Contract = "evolve"  # what it means that a store's columns came, went or changed


class PlaceSpec(msgspec.Struct, frozen=True):
    """A type's place in a store as configured: `[stores.NAME.types.TYPE]`."""

    id: str | None = None
    fields: Mapping[str, str] = {}  # canonical → local, where they differ
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    changed_at: str | None = None
    changed_by: str | None = None
    by_key: tuple[str, ...] = ()  # references whose column holds the key, though the store has ids of its own
    options: Mapping[str, Any] = {}  # the accessor's own: table, file, null …
    written: Mapping[str, Any] = {}  # the same as they stand in the file, secrets not filled in
    created_at: str | None = (
        None  # a column, mapped like any other, that tells one record of an id from the next
    )
    max_deletes: int | str | None = None  # None: the store's
    max_changes: int | str | None = None
    where: Mapping[str, Any] = {}  # canonical field → condition, see `evsync.filters`
    read_only: tuple[str, ...] = ()  # canonical fields taken from the store, but never written there
    write_only: tuple[str, ...] = ()  # canonical fields written there, but never taken from it
    convert: Mapping[str, Any] = {}  # canonical field → how the store writes it, see `evsync.conversions`


class Description(msgspec.Struct, frozen=True):
    """What a store says of one type: local names, in the store's order, with the value type it declares
    for each (None: it declares none), and its primary key. `open`: a record may have other fields than those
    that some record has now, as in JSON."""

    columns: Mapping[str, str | None]
    primary_key: tuple[str, ...] = ()
    open: bool = False
    generated: frozenset[str] = frozenset()  # columns whose values the store computes: never written
    guessed: frozenset[str] = frozenset()  # columns whose type only their values suggest


class Field(msgspec.Struct, frozen=True):
    """One canonical field and the store's own name for it. `references`: the type whose records the store means by
    ids of its own here. `local_type`: where the store's values have another type, because they are such ids or
    converted."""

    name: str
    local: str
    type: str
    references: str | None = None
    local_type: str | None = None


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
    created_at: str | None = None  # the canonical field that says so
    where: Filter | None = None  # which canonical records the store holds; None: all
    read_only: tuple[str, ...] = ()
    write_only: frozenset[str] = frozenset()
    generated: frozenset[str] = frozenset()  # fields whose values the store computes
    convert: Mapping[str, Conversion] = {}
    contract: Contract = "evolve"
    strange: tuple[str, ...] = ()  # the store's own names of columns that are no part of the type
    columns: Mapping[str, str | None] | None = None  # what the store said it has, with the types it declares

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Canonical names, sorted."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def locals(self) -> tuple[str, ...]:
        """The store's own names, in the order of `names`; behind them those that are no part of the type."""
        return (*(field.local for field in self.fields), *self.strange)

    @cached_property
    def local_types(self) -> dict[str, str]:
        """The store's own names with the type of the values that stand there."""
        known = {field.local: field.local_type or field.type for field in self.fields}
        return {**known, **dict.fromkeys(self.strange, "json")}

    @cached_property
    def translated(self) -> tuple[Field, ...]:
        """The fields that refer to other records by the store's own ids."""
        return tuple(field for field in self.fields if field.references is not None)

    @cached_property
    def unwritten(self) -> frozenset[str]:
        """The fields that are never written to the store."""
        return frozenset(self.read_only) | self.generated

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a canonical record is one that the store should hold."""
        return self.where is None or self.where.holds(record)

    def view(self, record: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """A canonical record as the store should hold it; None if it should not."""
        if record is None or not self.holds(record):
            return None
        return {name: record[name] for name in self.names if name in record}

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
        document = {name: told for name, told in self.as_document().items() if name != "columns"}
        return hashlib.sha256(encode(document)).hexdigest()

    def as_document(self) -> dict[str, Any]:
        """The mapping as JSON, for the journal and for telling what changed in it."""
        return {
            "key": list(self.key),
            "fields": {field.name: _mapped(field) for field in self.fields},
            "id": self.id,
            "options": {name: str(value) for name, value in self.options.items()},
            **{
                name: told
                for name, told in (
                    ("where", self.where and self.where.as_document()),
                    ("read_only", sorted(self.read_only)),
                    ("write_only", sorted(self.write_only)),
                    ("convert", {name: one.document for name, one in self.convert.items()}),
                    ("columns", None if self.columns is None else dict(self.columns)),
                )
                if told
            },
        }


def _mapped(field: Field) -> list[str]:
    told = [field.local, field.type]
    return told if field.references is None else [*told, f"id of {field.references}"]


def nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean X?", or nothing."""
    import difflib  # only for what went wrong

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
    translated: Mapping[str, tuple[str, str]] | None = None,
) -> Binding:
    """The binding of `spec` in `store`.

    `types` are the value types known of the canonical fields (declared, or frozen when first seen);
    `described` is None for a store that does not exist yet and will be created with all of them, or, if it is
    `silent`, for one that cannot say what it has. `remembered`: the fields it was mapped by before; an open
    store still has them if no record does just now. `translated`: which fields refer to other records by the store's own
    ids: field → (their type, the value type of the ids). Raises Unfit for a column that is not there.
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
            raise Unfit(
                f"store {store!r}, type {spec.name!r}: there is no column {local!r}"
                + ("" if name not in spec.key else f", which the key field {name!r} needs"),
                nearest(local, columns) or f"it has: {', '.join(columns)}",
            )
        parent, stored = (translated or {}).get(name, (None, None))
        fields.append(Field(name, local, types.get(name, "str"), parent, stored))
    for option in ("id", "changed_at", "changed_by"):
        column: str | None = getattr(place, option)
        if (
            column is not None
            and described is not None
            and not described.open
            and column not in described.columns
        ):
            raise Unfit(
                f"store {store!r}, type {spec.name!r}: {option} names the column {column!r}, which is not there",
                nearest(column, described.columns) or f"it has: {', '.join(described.columns)}",
            )
    created_at = next((field.name for field in fields if field.local == place.created_at), None)
    if place.created_at is not None and created_at is None:
        locals_ = [field.local for field in fields]
        raise ConfigError(
            f"store {store!r}, type {spec.name!r}: created_at names the column {place.created_at!r}, which is not mapped",
            nearest(place.created_at, locals_) or f"mapped are: {', '.join(locals_)}",
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
        created_at,
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
