"""What a store's place says beyond which column holds which field: the filter, one-way fields, conversions,
and what becomes of columns that are no part of the type."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from evsync.binding import Binding, Description, PlaceSpec, TypeSpec, nearest, offered
from evsync.conversions import Conversion, Pair, conversion, load_conversions
from evsync.errors import ConfigError, Unfit
from evsync.filters import parse_filter


def loaded(store: str, type: str, place: PlaceSpec, root: Path) -> dict[str, Pair]:
    """The conversions of a place, functions loaded. Raises ConfigError."""
    return load_conversions(_where(store, type), place.convert, root)


def converted(columns: Mapping[str, str | None], pairs: Mapping[str, Pair]) -> dict[str, str | None]:
    """The value types that a store offers for canonical fields, with those of converted fields set right."""
    return {name: pairs[name].type if name in pairs else told for name, told in columns.items()}


def select(
    store: str,
    spec: TypeSpec,
    place: PlaceSpec,
    binding: Binding,
    types: Mapping[str, str],
    described: Description | None,
    pairs: Mapping[str, Pair],
    *,
    silent: bool = False,
    known: Description | None = None,
) -> Binding:
    """The binding with all that `place` says besides. `described` as for `resolve`; `known`: the columns that a
    store shows which cannot describe itself. Raises Unfit for what names no field of the store."""
    where = _where(store, spec.name)
    for option in ("read_only", "write_only", "convert"):
        for name in getattr(place, option):
            if name not in binding.names:
                raise Unfit(
                    f"{where}: {option!r} names {name!r}, which is no field of this store",
                    nearest(name, binding.names) or f"its fields are: {', '.join(binding.names)}",
                )
            if name in spec.key and option != "convert":
                raise ConfigError(
                    f"{where}: the key field {name!r} cannot be {option!r}",
                    "by the key two stores mean the same record, so it goes both ways",
                )
    for name in place.read_only:
        if name in place.write_only:
            raise ConfigError(
                f"{where}: {name!r} is both 'read_only' and 'write_only'",
                "to leave it out altogether: ignore = …",
            )
    conversions = _conversions(where, binding, types, described, pairs, silent)
    columns = known or described
    return msgspec.structs.replace(
        binding,
        fields=tuple(
            field
            if (found := conversions.get(field.name)) is None
            else msgspec.structs.replace(field, local_type=found.local_type or "json")
            for field in binding.fields
        ),
        where=parse_filter(where, place.where, types),
        read_only=place.read_only,
        write_only=frozenset(place.write_only),
        generated=frozenset()
        if described is None
        else frozenset(
            field.name
            for field in binding.fields
            if field.local in described.generated and field.name not in spec.key
        ),
        convert=conversions,
        contract=spec.contract,
        strange=()
        if spec.contract != "quarantine" or columns is None
        else tuple(
            sorted(place.fields.get(n, n) for n in offered(spec, place, columns) if n not in binding.names)
        ),
        columns=None
        if described is None or described.open
        else {
            local: None if local in described.guessed else told for local, told in described.columns.items()
        },
    )


def _conversions(
    where: str,
    binding: Binding,
    types: Mapping[str, str],
    described: Description | None,
    pairs: Mapping[str, Pair],
    silent: bool,
) -> dict[str, Conversion]:
    found = {}
    for field in binding.fields:
        if field.name in pairs:
            # Text is what a store without types holds; one that cannot say what it holds may hold anything.
            told = (described.columns.get(field.local) if described is not None else None) or (
                None if silent else "str"
            )
            found[field.name] = conversion(
                where, field.name, pairs[field.name], types.get(field.name, "str"), told
            )
    return found


def _where(store: str, type: str) -> str:
    return f"store {store!r}, type {type!r}"
