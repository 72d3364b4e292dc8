"""Binds types to stores: asks each store what it has, and works out which field lies where.

The value types of a type's fields are those declared; else those fixed in the journal when the type was first
seen; else those of the first store that declares them, or whose values suggest them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from evsync.accessor import CanCreate, CanDescribe
from evsync.binding import Description, TypeSpec, offered, resolve
from evsync.errors import BrokenStore, ConfigError, EvsyncError, StoreError
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
    """Bind every type in every store that holds it. A store in trouble is reported, and stops no other;
    a configuration that does not fit a store raises ConfigError.

    `wanted`: the names of the stores that matter; the others are only asked about types of which nothing is
    known yet. `remembered`: by which fields a (store, type) was mapped before."""
    bound = Bound({}, {}, set())
    for store in stores:
        for type in store.types:
            if type not in specs:
                raise ConfigError(f"store {store.name!r} holds the type {type!r}, which is declared nowhere")
    for type, spec in specs.items():
        holders = [store for store in stores if type in store.types]
        if wanted is not None and (spec.fields is not None or frozen.get(type)):
            holders = [store for store in holders if store.name in wanted]
        described: dict[str, Description | None] = {}
        for store in holders:
            try:
                described[store.name] = _describe(store, type, spec)
            except StoreError as error:
                bound.errors.setdefault(store.name, error)
            except EvsyncError:
                raise
            except Exception as error:  # one that the accessor did not foresee is trouble with its store only
                bound.errors.setdefault(
                    store.name, BrokenStore(f"store {store.name!r}: {error.__class__.__name__}: {error}")
                )
        types = bound.types[type] = _types(holders, spec, frozen.get(type, {}), described)
        for store in holders:
            if store.name in bound.errors:
                continue
            found = described[store.name]
            accessor = store.accessor(type)
            if found is None and isinstance(accessor, CanDescribe) and isinstance(accessor, CanCreate):
                bound.missing.add((store.name, type))
            # A file without a header that is empty says as little as a store that cannot describe itself.
            empty = found is not None and not found.columns
            silent = empty or not isinstance(accessor, CanDescribe)
            place, told = store.places[type], None if empty else found
            before = (remembered or {}).get((store.name, type), ())
            store.bind(resolve(store.name, spec, place, told, types, silent=silent, remembered=before))
            _check_references(store, spec, specs, told)
    return bound


def _check_references(
    store: Store, spec: TypeSpec, specs: Mapping[str, TypeSpec], described: Description | None
) -> None:
    """Raises ConfigError where a reference would hold one store's own id, which means another record elsewhere."""
    users = [
        one for one in specs.values() if spec.name in one.references.values() and one.name in store.types
    ]
    keys = {store.places[spec.name].fields.get(name, name) for name in spec.key}
    own = {store.places[spec.name].id} - {None}
    own |= set(described.primary_key) if described is not None and len(described.primary_key) == 1 else set()
    if users and own - keys:
        raise ConfigError(
            f"store {store.name!r}: {users[0].name!r} references {spec.name!r}, whose records have ids of the store's own"
            f" here ({', '.join(sorted(map(str, own - keys)))}); such references are not translated between stores",
            f"reference records by their key ({', '.join(spec.key)}), or leave the field out with `ignore`",
        )


def _describe(store: Store, type: str, spec: TypeSpec) -> Description | None:
    accessor = store.accessor(type)
    if isinstance(accessor, CanDescribe):
        return accessor.describe(store, type)
    if spec.fields is not None:
        return None
    # Nothing says what it has, neither the configuration nor the store: its records do.
    store.bind(resolve(store.name, spec, store.places[type], None, {}))
    columns: dict[str, str | None] = {}
    for data in accessor.find(store, type):
        for name, value in data.fields.items():
            columns[name] = widen(columns.get(name), infer(value))
    return Description(columns) if columns else None


def _types(
    holders: Sequence[Store],
    spec: TypeSpec,
    frozen: Mapping[str, str],
    described: Mapping[str, Description | None],
) -> dict[str, str]:
    declared = spec.fields
    found: dict[str, str | None] = dict(declared if declared is not None else frozen)
    for name in spec.key:
        found.setdefault(name, frozen.get(name))
    for store in holders:
        description = described.get(store.name)
        if description is None:
            continue
        for name, value_type in offered(spec, store.places[spec.name], description).items():
            if name in found or declared is None:
                found[name] = found.get(name) or value_type
    return {name: value_type or "str" for name, value_type in sorted(found.items())}
