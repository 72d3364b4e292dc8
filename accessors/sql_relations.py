"""How tables hang together, as far as SQLAlchemy can tell of a database, and what there is besides them: what
`evsync init` asks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.sql_connection import Connection
from accessors.sql_schema import OWN, Table, quoted
from evsync.accessor import ForeignKey, Relations


def relations(connection: Connection, table: Table) -> Relations:
    """Foreign keys, what else is unique, and whether the primary key is numbered."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exc.SAWarning)  # of indexes that it does not understand
        inspector = sa.inspect(connection.sql)
        return Relations(
            _foreign_keys(inspector, table),
            _unique(connection, inspector, table),
            len(table.primary_key) == 1 and connection.dialect.numbers(connection.sql, table),
        )


def _foreign_keys(inspector: sa.Inspector, table: Table) -> tuple[ForeignKey, ...]:
    """In the order of their columns: each database tells them in another one."""
    tables: dict[str | None, list[str]] = {}
    keys = []
    for told in _told(inspector.get_foreign_keys, table):
        schema, name = told["referred_schema"], told["referred_table"]
        if schema not in tables:
            tables[schema] = inspector.get_table_names(schema)
        name = _spelt([name], tables[schema])[0]
        try:
            known = [_undoubled(column["name"]) for column in inspector.get_columns(name, schema)]
            primary = inspector.get_pk_constraint(name, schema)["constrained_columns"]
        except exc.NoSuchTableError:
            known, primary = [], []
        theirs = told["referred_columns"] or primary  # it may name none: the primary key is meant
        keys.append(
            ForeignKey(
                _spelt(told["constrained_columns"], table.columns),
                name if schema == table.schema else f"{schema}.{name}",
                _spelt(theirs, known),
            )
        )
    places = {column: place for place, column in enumerate(table.columns)}
    return tuple(sorted(keys, key=lambda key: [places.get(column, 0) for column in key.columns]))


def _spelt(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The names as they are spelt where they are known: some databases mind no case, and some backticks come doubled."""
    alike = {one.lower(): one for one in known}

    def spelt(name: str) -> str:
        plain = _undoubled(name)
        return next((one for one in (name, plain) if one in known), alike.get(plain.lower(), name))

    return tuple(map(spelt, names))


def _undoubled(name: str) -> str:
    return name.replace("``", "`")


def _unique(connection: Connection, inspector: sa.Inspector, table: Table) -> tuple[tuple[str, ...], ...]:
    """The sets of columns without nulls; those first that cannot come to have any."""
    told = [one["column_names"] for one in _told(inspector.get_unique_constraints, table)]
    told += [
        index["column_names"]
        for index in _told(inspector.get_indexes, table, **connection.dialect.index_options)
        if index["unique"] and not _is_partial(index)
    ]
    certain, found = [], []
    for names in told:
        if not names or None in names:  # it is of an expression
            continue
        columns = _spelt(names, table.columns)
        if columns == table.primary_key or any(
            name not in table.columns or table.columns[name].generated for name in columns
        ):
            continue
        gaps = [name for name in columns if table.columns[name].nullable]
        if not gaps:
            certain.append(columns)
        elif not any(_has_null(connection, table, name) for name in gaps):
            found.append(columns)
    return tuple(dict.fromkeys([*certain, *found]))


def _is_partial(index: Any) -> bool:
    options = index.get("dialect_options", {})
    return any(name.endswith("_where") and value is not None for name, value in options.items())


def _has_null(connection: Connection, table: Table, column: str) -> bool:
    asked: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(table.written)
    return (
        connection.sql.execute(asked.where(sa.column(quoted(column)).is_(None)).limit(1)).first() is not None
    )


def left_out(connection: Connection, schema: str | None) -> dict[str, str]:
    """What is no type, and why."""
    inspector = sa.inspect(connection.sql)
    found = {name: "evsync's own" for name in inspector.get_table_names(schema) if name.startswith(OWN)}
    for names, why in (
        (inspector.get_view_names, "a view"),
        (inspector.get_materialized_view_names, "a materialized view"),
    ):
        try:
            found.update(dict.fromkeys(names(schema), why))
        except NotImplementedError:
            continue
    return dict(sorted(found.items()))


def _told(ask: Callable[..., list[Any]], table: Table, **options: Any) -> list[Any]:
    """What the dialect tells of a table; nothing where it cannot tell."""
    try:
        return ask(table.name, table.schema, **options)
    except NotImplementedError:
        return []
