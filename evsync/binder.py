"""Binds types to stores: asks each store what it has, and works out which field lies where.

The value types of a type's fields are those declared; else those fixed in the journal when the type was first
seen; else those of the first store that declares them, or whose values suggest them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from evsync.accessor import CanAssign, CanCreate, CanDescribe
from evsync.binding import Description, TypeSpec, nearest, offered, resolve
from evsync.conversions import Pair
from evsync.errors import BrokenStore, ConfigError, EvsyncError, StoreError, Unfit
from evsync.selection import converted, loaded, select
from evsync.store import Store
from evsync.values import infer, widen


class Bound(msgspec.Struct):
    """The outcome: the value types per type; the stores that could not be bound, with what was wrong; and
    which (store, type) does not exist yet."""

    types: dict[str, dict[str, str]]
    errors: dict[str, EvsyncError]
    missing: set[tuple[str, str]]


def bind(
    stores: Sequence[Store],
    specs: Mapping[str, TypeSpec],
    frozen: Mapping[str, Mapping[str, str]],
    wanted: Collection[str] | None = None,
    remembered: Mapping[tuple[str, str], Collection[str]] | None = None,
) -> Bound:
    """Bind every type in every store that holds it. A store in trouble, or that does not have what its
    configuration names, is reported, and stops no other; a configuration that is wrong raises ConfigError.

    `wanted`: the names of the stores that matter; the others are only asked about types of which nothing is
    known yet. `remembered`: by which fields a (store, type) was mapped before."""
    bound = Bound({}, {}, set())
    for store in stores:
        for type in store.types:
            if type not in specs:
                raise ConfigError(f"store {store.name!r} holds the type {type!r}, which is declared nowhere")
    holders: dict[str, list[Store]] = {}
    described: dict[tuple[str, str], Description | None] = {}
    pairs: dict[tuple[str, str], dict[str, Pair]] = {}
    for type, spec in specs.items():
        holders[type] = [store for store in stores if type in store.types]
        if wanted is not None and (spec.fields is not None or frozen.get(type)):
            holders[type] = [store for store in holders[type] if store.name in wanted]
        for store in holders[type]:
            pairs[store.name, type] = loaded(store.name, type, store.places[type], store.root)
            try:
                described[store.name, type] = _describe(store, type, spec)
            except StoreError as error:
                bound.errors.setdefault(store.name, error)
            except EvsyncError:
                raise
            except Exception as error:  # one that the accessor did not foresee is trouble with its store only
                bound.errors.setdefault(
                    store.name, BrokenStore(f"store {store.name!r}: {error.__class__.__name__}: {error}")
                )
    for type, spec in specs.items():
        told = {store.name: described.get((store.name, type)) for store in holders[type]}
        by_store = {store.name: pairs[store.name, type] for store in holders[type]}
        bound.types[type] = _types(holders[type], spec, frozen.get(type, {}), told, by_store)
        all_asked = len(holders[type]) == sum(type in store.types for store in stores)
        if all_asked and all(store.name not in bound.errors for store in holders[type]):
            _check_match(spec, bound.types[type])
    for spec in specs.values():
        bound.types[spec.name].update(_reference_types(spec, specs, bound.types))
    for type, spec in specs.items():
        for store in holders[type]:
            if store.name in bound.errors:
                continue
            before = (remembered or {}).get((store.name, type), ())
            try:
                _resolve(store, spec, specs, described, pairs[store.name, type], bound, before)
            except (StoreError, Unfit) as error:
                bound.errors.setdefault(store.name, error)
    return bound


def _check_match(spec: TypeSpec, types: Mapping[str, str]) -> None:
    for name in (name for names in spec.match for name in names):
        if name not in types:
            raise ConfigError(
                f"type {spec.name!r}: match names the field {name!r}, which no store has",
                nearest(name, types) or f"the fields are: {', '.join(types)}",
            )


def _resolve(
    store: Store,
    spec: TypeSpec,
    specs: Mapping[str, TypeSpec],
    described: Mapping[tuple[str, str], Description | None],
    pairs: Mapping[str, Pair],
    bound: Bound,
    remembered: Collection[str],
) -> None:
    type = spec.name
    found = described[store.name, type]
    accessor = store.accessor(type)
    if found is None and isinstance(accessor, CanDescribe) and isinstance(accessor, CanCreate):
        bound.missing.add((store.name, type))
    # A file without a header that is empty says as little as a store that cannot describe itself.
    empty = found is not None and not found.columns
    silent = empty or not isinstance(accessor, CanDescribe)
    told = None if empty else found
    if empty and remembered:  # it lost its columns with its records; that is no other mapping
        place = store.places[type]
        told = Description({place.fields.get(name, name): None for name in remembered})
    binding = resolve(
        store.name,
        spec,
        store.places[type],
        told,
        bound.types[type],
        silent=silent,
        remembered=remembered,
        translated=_translated(store, spec, specs, described),
    )
    store.bind(binding)
    shows = spec.contract == "quarantine" and not isinstance(accessor, CanDescribe)
    known = _shown(store, type) if shows else None
    store.bind(
        select(
            store.name, spec, store.places[type], binding, bound.types[type], told, pairs,
            silent=silent, known=known,
        )
    )  # fmt: skip


def _reference_types(
    spec: TypeSpec, specs: Mapping[str, TypeSpec], types: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """A reference holds a key: the value types that follow, for the fields of which the configuration says none."""
    found = {}
    for field, target in spec.references.items():
        if field not in (spec.fields or ()):
            key = specs[target].key
            found[field] = types[target].get(key[0], "str") if len(key) == 1 else "str"
    return {field: value_type for field, value_type in found.items() if field in types[spec.name]}


def _translated(
    store: Store,
    spec: TypeSpec,
    specs: Mapping[str, TypeSpec],
    described: Mapping[tuple[str, str], Description | None],
) -> dict[str, tuple[str, str]]:
    """The references that this store means by ids of its own: field → (the type referred to, the type of the ids)."""
    place, found = store.places[spec.name], {}
    mine = described.get((store.name, spec.name))
    for field, target in spec.references.items():
        if target not in store.types or field in place.by_key:
            continue
        parent = described.get((store.name, target))
        own = _own_id(store, specs[target], parent)
        if own is None:
            continue
        id_type = parent.columns.get(own) if parent is not None else None
        column = None if mine is None else mine.columns.get(place.fields.get(field, field))
        if {column, id_type} == {"int", "str"} and column == "str" and mine is not None:
            continue  # a text cannot be such a number: it is the key
        found[field] = (target, column or id_type or "int")
    return found


def _own_id(store: Store, spec: TypeSpec, described: Description | None) -> str | None:
    """What a store's own ids of a type stand in; None if it knows the records by their key. "" if that has no name."""
    place = store.places[spec.name]
    keys = {place.fields.get(name, name) for name in spec.key}
    if place.id is not None:
        return None if place.id in keys else place.id
    if described is not None and len(described.primary_key) == 1:
        return None if described.primary_key[0] in keys else described.primary_key[0]
    accessor = store.accessor(spec.name)
    return "" if isinstance(accessor, CanAssign) and accessor.assigns(store, spec.name) else None


def _describe(store: Store, type: str, spec: TypeSpec) -> Description | None:
    accessor = store.accessor(type)
    if isinstance(accessor, CanDescribe):
        return accessor.describe(store, type)
    if spec.fields is not None:
        return None
    # Nothing says what it has, neither the configuration nor the store: its records do.
    store.bind(resolve(store.name, spec, store.places[type], None, {}))
    return _shown(store, type)


def _shown(store: Store, type: str) -> Description | None:
    """What the records of a store show that it has."""
    columns: dict[str, str | None] = {}
    for data in store.accessor(type).find(store, type):
        for name, value in data.fields.items():
            columns[name] = widen(columns.get(name), infer(value))
    return Description(columns, guessed=frozenset(columns)) if columns else None


def _types(
    holders: Sequence[Store],
    spec: TypeSpec,
    frozen: Mapping[str, str],
    described: Mapping[str, Description | None],
    pairs: Mapping[str, Mapping[str, Pair]],
) -> dict[str, str]:
    declared = spec.fields
    settled = spec.contract == "quarantine" and bool(frozen)  # nothing is added to what the type has
    found: dict[str, str | None] = dict(declared if declared is not None else frozen)
    for name in spec.key:
        found.setdefault(name, frozen.get(name))
    for store in holders:
        description = described.get(store.name)
        if description is None:
            continue
        own = offered(spec, store.places[spec.name], description)
        for name, value_type in converted(own, pairs.get(store.name, {})).items():
            if name in found or (declared is None and not settled):
                found[name] = found.get(name) or value_type
    return {name: value_type or "str" for name, value_type in sorted(found.items())}
