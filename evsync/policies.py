"""The conflict policies of a configuration: in general, per type, per field."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from evsync.binding import nearest
from evsync.errors import ConfigError
from evsync.toml_table import Table

FIELD_POLICIES = ("newest", "first", "prefer", "manual")
DELETE_POLICIES = ("edit-wins", "delete-wins", "manual")
TYPE_POLICIES = ("fields", "delete", "adopt", "prefer")

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


class Conflicts(msgspec.Struct, frozen=True):
    """The policies of `[conflicts]`; `prefer` lists the stores that win, the best first."""

    fields: str = "newest"
    delete: str = "edit-wins"
    adopt: str = "first"
    prefer: tuple[str, ...] = ()


class TypeConflicts(msgspec.Struct, frozen=True):
    """The policies of `[types.T.conflicts]`; None: as in `[conflicts]`. `by_field` goes before `fields`."""

    fields: str | None = None
    delete: str | None = None
    adopt: str | None = None
    prefer: tuple[str, ...] | None = None
    by_field: dict[str, str] = {}


def policy(table: Table, key: str, default: str, known: tuple[str, ...]) -> str:
    """The name of a policy, or of a function that decides where fields are concerned."""
    policy = table.text(key, default)
    if policy in known or (known is FIELD_POLICIES and _FUNCTION.match(policy)):
        return policy
    functions = ', or "module:function"' if known is FIELD_POLICIES else ""
    raise table.error(
        f"{key!r} is the unknown policy {table.written(key)!r}",
        nearest(policy, known) or f"the policies are: {', '.join(known)}{functions}",
    )


def read_conflicts(table: Table, stores: Collection[str]) -> Conflicts:
    found = Conflicts(
        policy(table, "fields", "newest", FIELD_POLICIES),
        policy(table, "delete", "edit-wins", DELETE_POLICIES),
        policy(table, "adopt", "first", FIELD_POLICIES),
        table.texts("prefer") or (),
    )
    check_stores(table, found.prefer, stores)
    table.finish()
    return found


def check_stores(table: Table, prefer: Collection[str], stores: Collection[str]) -> None:
    for store in prefer:
        if store not in stores:
            raise table.error(
                f"'prefer' names the unknown store {store!r}",
                nearest(store, stores) or f"the stores are: {', '.join(stores) or 'none so far'}",
            )


def read_type_conflicts(table: Table, type: str, known: Collection[str] | None) -> TypeConflicts:
    """The policies of a type, and of its fields. `known`: these fields, None if they are not declared."""
    own: dict[str, Any] = {}
    by_field: dict[str, str] = {}
    for name in table.entries:
        if name in TYPE_POLICIES and not (name == "fields" and isinstance(table.written(name), dict)):
            own[name] = _type_policy(table, name, known)
    tables = [(table, [name for name in table.entries if name not in ("fields", *own)])]
    if isinstance(table.written("fields"), dict):
        single = table.table("fields")
        tables.append((single, list(single.entries)))
    for place, names in tables:
        for name in names:
            if known is not None and name not in known:
                also = TYPE_POLICIES if place is table else ()
                raise place.error(
                    f"{name!r} is no field of {type!r}",
                    nearest(name, {*known, *also}) or f"the fields are: {', '.join(sorted(known))}",
                )
            if name in by_field:
                raise place.error(f"{name!r} has a policy in [{table.place}] already", "take one of them out")
            by_field[name] = policy(place, name, "newest", FIELD_POLICIES)
    return TypeConflicts(**own, by_field=by_field)


def _type_policy(table: Table, name: str, known: Collection[str] | None) -> str | tuple[str, ...] | None:
    try:
        if name == "prefer":
            return table.texts(name)
        return policy(table, name, "", DELETE_POLICIES if name == "delete" else FIELD_POLICIES)
    except ConfigError as error:
        if known is None or name not in known:
            raise
        raise ConfigError(
            error.message,
            f"{name!r} is said of the type as a whole here; the policy of the field {name!r} stands in"
            f" [{table.place}.fields]",
        ) from None
