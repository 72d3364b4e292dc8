"""What a database says of its tables: columns, keys, how a row is addressed; and how we make a table."""

from __future__ import annotations

import warnings
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.schema import CreateTable

from accessors.sql_connection import Connection
from accessors.sql_values import Column, kind_of, value_type_of
from evsync.binding import Binding, Description, nearest
from evsync.errors import ConfigError, Unreachable
from evsync.store import Store

OWN: Final = "_evsync_"
"""Begins the names of tables that evsync made for itself."""


class Table(NamedTuple):
    """A table or view. `unique`: columns that are a key, where there is no primary one. `triggered`: the application has a
    say in what is stored, as far as the database tells. `hindrance`: why it cannot be written, in words."""

    schema: str | None
    name: str
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    is_view: bool = False
    triggered: bool = False
    hindrance: str | None = None

    @property
    def handle(self) -> tuple[str, ...]:
        """The columns by which exactly one row is addressed; empty if there are none."""
        return self.primary_key or self.unique

    @property
    def written(self) -> sa.TableClause:
        """The table in SQL, without the types of its columns."""
        return sa.table(quoted(self.name), schema=None if self.schema is None else quoted(self.schema))


def quoted(name: str) -> sa.quoted_name:
    """A name that is always put in quotes, by the rules of the dialect."""
    return sa.quoted_name(name, True)


def table_name(store: Store, type: str) -> str:
    """The table that holds the type: the option `table`, else the type's own name."""
    return str(store.option(type, "table") or type)


def schema_name(store: Store, type: str) -> str | None:
    """The schema it stands in; None for the connection's own."""
    found = store.option(type, "schema")
    return None if found is None else str(found)


def is_zoned(store: Store, type: str) -> bool:
    """Whether times without an offset are meant in UTC: the option `zone`. Raises ConfigError."""
    found = store.option(type, "zone")
    if found not in (None, "utc", "UTC"):
        raise ConfigError(f"store {store.name!r}: unknown zone {found!r}", 'there is only: zone = "utc"')
    return found is not None


def load(connection: Connection, store: Store, type: str) -> Table | None:
    """The table or view of the type, or None."""
    name, schema = table_name(store, type), schema_name(store, type)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exc.SAWarning)  # of types that it does not know
        table = _reflected(sa.inspect(connection.sql), connection, name, schema)
    if table is None:
        return None
    table = connection.dialect.refined(connection.sql, table)
    if is_zoned(store, type):
        columns = {name: connection.dialect.zoned(column) for name, column in table.columns.items()}
        table = table._replace(columns=columns)
    return table


def _reflected(
    inspector: sa.Inspector, connection: Connection, name: str, schema: str | None
) -> Table | None:
    try:
        columns = {told["name"]: _column(told, connection) for told in inspector.get_columns(name, schema)}
    except exc.NoSuchTableError:
        return None
    primary_key = tuple(inspector.get_pk_constraint(name, schema)["constrained_columns"])
    is_view = not primary_key and name in _views(inspector, schema)
    unique = () if primary_key or is_view else _unique(inspector, name, schema, columns)
    return Table(schema, name, columns, primary_key, unique, is_view)


def _column(told: Any, connection: Connection) -> Column:
    type = told["type"]
    kind = kind_of(type)
    try:
        declared = type.compile(connection.sql.dialect)
    except exc.SQLAlchemyError:
        declared = "of a type unknown here"
    digits = getattr(type, "scale", None) if kind == "decimal" else getattr(type, "precision", None)
    return Column(
        told["name"],
        kind,
        value_type_of(kind),
        str(declared),
        type,
        False,
        getattr(type, "length", None),
        digits if isinstance(digits, int) and kind != "float" else None,
        bool(told["nullable"]),
        told.get("computed") is not None,
        told.get("autoincrement") is True or told.get("identity") is not None,
    )


def _views(inspector: sa.Inspector, schema: str | None) -> set[str]:
    found: set[str] = set()
    for names in (inspector.get_view_names, inspector.get_materialized_view_names):
        try:
            found.update(names(schema))
        except NotImplementedError:
            continue
    return found


def _unique(
    inspector: sa.Inspector, name: str, schema: str | None, columns: dict[str, Column]
) -> tuple[str, ...]:
    try:
        constraints = inspector.get_unique_constraints(name, schema)
    except NotImplementedError:
        return ()
    for constraint in constraints:
        names = constraint["column_names"]
        if names and all(one in columns and not columns[one].nullable for one in names):
            return tuple(names)
    return ()


def existing(connection: Connection, store: Store, type: str) -> Table:
    """The table of the type; raises Unreachable, naming the nearest, if there is none."""
    table = load(connection, store, type)
    if table is not None:
        return table
    name, schema = table_name(store, type), schema_name(store, type)
    inspector = sa.inspect(connection.sql)
    names = sorted({*inspector.get_table_names(schema), *_views(inspector, schema)})
    where = f" in the schema {schema!r}" if schema is not None else ""
    hint = nearest(name, names) or (f"there are: {', '.join(names)}" if names else "there are no tables")
    raise Unreachable(f"store {store.name!r}: there is no table {name!r}{where}", hint)


def discover(connection: Connection, schema: str | None) -> dict[str, dict[str, str]]:
    """Every table but our own, by the name of a type and the options that lead to it."""
    if schema is None:
        connection.dialect.ensure_database(connection.sql)
    options = {} if schema is None else {"schema": schema}
    names = sorted(sa.inspect(connection.sql).get_table_names(schema))
    return {name: dict(options) for name in names if not name.startswith(OWN)}


def describe(table: Table) -> Description:
    """The columns with the value types that they declare."""
    types: dict[str, str | None] = {column.name: column.value_type for column in table.columns.values()}
    generated = frozenset(name for name, column in table.columns.items() if column.generated)
    return Description(types, table.primary_key, generated=generated)


def creation(connection: Connection, name: str, schema: str | None, binding: Binding) -> CreateTable:
    """The CREATE TABLE statement for what the binding holds: the key fields first, then the others by name."""
    dialect, types, key = connection.dialect, binding.local_types, binding.key_locals

    def column(local: str, value_type: str, key_columns: int = 0, **more: Any) -> sa.Column[Any]:
        more.setdefault("nullable", not key_columns)
        comment = dialect.comment(value_type, key_columns)
        type = dialect.column_type(value_type, key_columns)
        return sa.Column(
            quoted(local), type, comment=comment, autoincrement=more.pop("autoincrement", False), **more
        )

    numbered = binding.id is not None and binding.id not in types
    items: list[Any] = []
    if numbered:
        items.append(column(str(binding.id), "int", primary_key=True, autoincrement=True, nullable=False))
    items += [column(local, types[local], len(key), primary_key=not numbered) for local in key]
    items += [column(local, types[local]) for local in sorted(types) if local not in key]
    aside = {binding.changed_at: "datetime", binding.changed_by: "str"}
    items += [column(local, kind) for local, kind in aside.items() if local and local not in types]
    if numbered:
        items.append(sa.UniqueConstraint(*map(quoted, key)))
    where = None if schema is None else quoted(schema)
    options = dialect.table_options(connection.sql)
    table = sa.Table(quoted(name), sa.MetaData(), *items, schema=where, **options)
    return CreateTable(table, if_not_exists=True)
