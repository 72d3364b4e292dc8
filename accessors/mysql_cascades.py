"""What foreign keys do by themselves: InnoDB deletes and updates the rows that refer to others without a word in the binary
log. So whoever does something that may have set that off, makes what it may have touched be compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa

Table = tuple[str, str]
"""A schema and the name of a table in it."""


class Reference(NamedTuple):
    """A foreign key: columns of `child` that refer to such of `parent`, and what becomes of the child's rows."""

    child: Table
    columns: tuple[str, ...]
    parent: Table
    referred: tuple[str, ...]
    on_delete: str
    on_update: str


_ACTS = ("CASCADE", "SET NULL", "SET DEFAULT")


class Cascades:
    """Which tables a change of one may have changed as well."""

    def __init__(self, references: Iterable[Reference], followed: Collection[Table]) -> None:
        self._by_parent: dict[Table, list[Reference]] = {}
        for reference in references:
            if reference.on_delete in _ACTS or reference.on_update in _ACTS:
                self._by_parent.setdefault(reference.parent, []).append(reference)
        self._followed = frozenset(followed)
        self.parents = frozenset(
            parent for parent in self._by_parent if self.by_delete(parent) or self._by_any_update(parent)
        )

    def by_delete(self, table: Table) -> frozenset[Table]:
        """The tables followed of which a deletion there may have touched rows."""
        return frozenset(self._reached(table, None, set()) & self._followed)

    def by_update(
        self, table: Table, before: Mapping[str, object], after: Mapping[str, object]
    ) -> frozenset[Table]:
        """The same of an update."""
        changed = frozenset(name for name in after if before.get(name) != after[name])
        return frozenset(self._reached(table, changed, set()) & self._followed) if changed else frozenset()

    def all_of(self, table: Table) -> frozenset[Table]:
        """The same of whatever was done there."""
        return self.by_delete(table) | self._by_any_update(table) if table in self.parents else frozenset()

    def _by_any_update(self, table: Table) -> frozenset[Table]:
        columns = frozenset(name for one in self._by_parent[table] for name in one.referred)
        return frozenset(self._reached(table, columns, set()) & self._followed)

    def _reached(
        self, table: Table, changed: frozenset[str] | None, met: set[tuple[Table, frozenset[str] | None]]
    ) -> set[Table]:
        """`changed`: the columns whose values have changed; None: the row was deleted."""
        if (table, changed) in met:
            return set()
        met.add((table, changed))
        found = set()
        for one in self._by_parent.get(table, ()):
            action = one.on_delete if changed is None else one.on_update
            if action not in _ACTS or (changed is not None and changed.isdisjoint(one.referred)):
                continue
            found.add(one.child)
            deletes = changed is None and action == "CASCADE"
            found |= self._reached(one.child, None if deletes else frozenset(one.columns), met)
        return found


_REFERENCES = sa.text(
    "SELECT r.constraint_schema, r.table_name, r.constraint_name, r.delete_rule, r.update_rule, k.column_name,"
    " k.referenced_table_schema, k.referenced_table_name, k.referenced_column_name"
    " FROM information_schema.referential_constraints r JOIN information_schema.key_column_usage k"
    " ON k.constraint_schema = r.constraint_schema AND k.constraint_name = r.constraint_name"
    " AND k.table_name = r.table_name"
    " WHERE (r.delete_rule NOT IN ('RESTRICT', 'NO ACTION') OR r.update_rule NOT IN ('RESTRICT', 'NO ACTION'))"
    " AND k.referenced_table_name IS NOT NULL"
    " ORDER BY r.constraint_schema, r.table_name, r.constraint_name, k.ordinal_position"
)


def references(connection: sa.Connection) -> list[Reference]:
    """All foreign keys that act by themselves, as far as the user may know of them."""
    found: dict[tuple[str, str, str], Reference] = {}
    for (
        schema,
        table,
        name,
        on_delete,
        on_update,
        column,
        to_schema,
        to_table,
        referred,
    ) in connection.execute(_REFERENCES):
        one = found.get((schema, table, name))
        if one is None:
            one = Reference((schema, table), (), (to_schema, to_table), (), on_delete, on_update)
        found[schema, table, name] = one._replace(
            columns=(*one.columns, column), referred=(*one.referred, referred)
        )
    return list(found.values())
