"""What PostgreSQL says of its tables: columns, keys, how a row is addressed; and how we make a table."""

from __future__ import annotations

from typing import NamedTuple

from accessors.postgres_connection import Connection
from accessors.postgres_values import COLUMN_TYPES, Column, type_of
from evsync.binding import Binding, Description, nearest
from evsync.errors import Unreachable
from evsync.store import Store

_KINDS = {"r": "table", "p": "table", "f": "foreign table", "v": "view", "m": "materialized view"}
_IDENTITIES = {"a": "always", "d": "default"}
NOT_THE_USERS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'"

OURS = "_evsync_"
"""What begins so in a database is ours, and no data."""

TRIGGERS = "00_evsync_"
"""Our triggers begin so; they take no part in what is stored."""

_NOT_OURS = f"NOT starts_with(g.tgname, '{TRIGGERS}')"

# An array of these types is no array in its text.
_VECTORS = "('int2vector', 'oidvector')"

_TABLE = f"""
SELECT c.oid, n.nspname, c.relkind, c.relhasrules AND c.relkind IN ('r', 'p'), c.relrowsecurity,
  EXISTS (SELECT 1 FROM pg_trigger g
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND {_NOT_OURS})
  OR (c.relkind = 'p' AND EXISTS (
    SELECT 1 FROM pg_trigger g JOIN pg_partition_tree(c.oid) p ON g.tgrelid = p.relid
    WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND {_NOT_OURS}))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {NOT_THE_USERS}
"""

# Down from each column's type: from a domain to its base, from an array to its elements.
_COLUMNS = f"""
WITH RECURSIVE kind AS (
  SELECT a.attnum, 0 AS depth, FALSE AS element, a.atttypid AS oid FROM pg_attribute a
  WHERE a.attrelid = CAST($1 AS oid) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT k.attnum, k.depth + 1, k.element OR t.typtype <> 'd',
    CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
  FROM kind k JOIN pg_type t ON t.oid = k.oid
  WHERE t.typtype = 'd'
    OR (NOT k.element AND t.typcategory = 'A' AND t.typelem <> 0 AND t.typname NOT IN {_VECTORS})
), resolved AS (
  SELECT k.attnum, k.element, k.oid, t.typdelim,
    CASE WHEN n.nspname = 'pg_catalog' OR t.typname = 'citext' THEN t.typname
      WHEN t.typtype = 'e' THEN 'enum' ELSE 'other' END AS kind
  FROM kind k JOIN pg_type t ON t.oid = k.oid JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typtype <> 'd'
)
SELECT a.attname, own.kind, format_type(a.atttypid, a.atttypmod), format_type(own.oid, -1), element.kind,
  coalesce(element.typdelim, ','), a.attgenerated <> '', a.attidentity,
  (SELECT array_position(CAST(i.indkey AS int2[]), a.attnum) FROM pg_index i
    WHERE i.indrelid = a.attrelid AND i.indisprimary
      AND array_position(CAST(i.indkey AS int2[]), a.attnum) < i.indnkeyatts)  -- not those that it INCLUDEs
FROM pg_attribute a
JOIN resolved own ON own.attnum = a.attnum AND NOT own.element
LEFT JOIN resolved element ON element.attnum = a.attnum AND element.element
WHERE a.attrelid = CAST($1 AS oid)
ORDER BY a.attnum
"""

_TABLES = f"""
SELECT c.relname, n.nspname, pg_table_is_visible(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND {NOT_THE_USERS}
  AND NOT starts_with(c.relname, '{OURS}')
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2, 1
"""


class Table(NamedTuple):
    """A table or view. `kind`: what it is, in words. `triggered`: the application has a say in what is stored;
    `secured`: it has policies which row is seen by whom."""

    oid: str
    schema: str
    name: str
    kind: str
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    triggered: bool
    secured: bool

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def is_view(self) -> bool:
        return self.kind.endswith("view")

    @property
    def handle(self) -> tuple[str, ...]:
        """The columns by which exactly one row is addressed, as SQL; empty if there are none. Where there is no
        primary key it is the place of the row, good for as long as the row is locked."""
        if self.primary_key:
            return tuple(map(quoted, self.primary_key))
        return ("tableoid", "ctid") if self.kind == "table" else ()


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def table_name(store: Store, type: str) -> str:
    """The table that holds the type: the option `table`, else the type's own name."""
    return str(store.option(type, "table") or type)


def schema_name(store: Store, type: str) -> str | None:
    """The schema it stands in; None for the one that `search_path` finds."""
    found = store.option(type, "schema")
    return None if found is None else str(found)


def load(connection: Connection, name: str, schema: str | None) -> Table | None:
    """The table or view of this name, or None."""
    if schema is None:
        found = connection.execute(f"{_TABLE} AND pg_table_is_visible(c.oid)".encode(), [name]).fetchone()
    else:
        found = connection.execute(f"{_TABLE} AND n.nspname = $2".encode(), [name, schema]).fetchone()
    if found is None:
        return None
    oid, schema, kind, rules, secured, triggers = found
    columns, keys = {}, {}
    for told in connection.execute(_COLUMNS.encode(), [oid]):
        column, own, declared, base, element, delimiter, generated, identity, key = told
        columns[column] = Column(
            column, own, declared, base, element, delimiter, generated == "t", _IDENTITIES.get(identity, "")
        )
        if key is not None:
            keys[int(key)] = column
    primary_key = tuple(keys[number] for number in sorted(keys))
    return Table(
        oid, schema, name, _KINDS[kind], columns, primary_key, "t" in (rules, triggers), secured == "t"
    )


def existing(connection: Connection, store: Store, type: str) -> Table:
    """The table of the type; raises Unreachable, naming the nearest, if there is none."""
    name, schema = table_name(store, type), schema_name(store, type)
    table = load(connection, name, schema)
    if table is not None:
        return table
    names = _names(connection, schema)
    where = f" in the schema {schema!r}" if schema is not None else ""
    hint = nearest(name, names) or (f"there are: {', '.join(names)}" if names else "there are no tables")
    elsewhere = [one for one, found in _everywhere(connection) if one == name and found != schema]
    if elsewhere:
        schemas = sorted(found for one, found in _everywhere(connection) if one == name)
        hint = f"set the option schema: it is in {', '.join(schemas)}"
    raise Unreachable(f"store {store.name!r}: there is no table {name!r}{where}", hint)


def _names(connection: Connection, schema: str | None) -> list[str]:
    where = "pg_table_is_visible(c.oid)" if schema is None else "n.nspname = $1"
    sql = (
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND {NOT_THE_USERS} AND {where} ORDER BY 1"
    )
    return [row[0] for row in connection.execute(sql.encode(), None if schema is None else [schema])]


def _everywhere(connection: Connection) -> list[tuple[str, str]]:
    return [(name, schema) for name, schema, _ in connection.execute(_TABLES.encode())]


def discover(connection: Connection) -> dict[str, dict[str, str]]:
    """Every table that the user may read, by the name of a type and the options that lead to it."""
    return {
        name if visible == "t" else f"{schema}.{name}": (
            {} if visible == "t" else {"table": name, "schema": schema}
        )
        for name, schema, visible in connection.execute(_TABLES.encode())
    }


def hindrance(connection: Connection, table: Table) -> str | None:
    """Why the table cannot be written, or None."""
    (read_only,) = connection.execute(b"SELECT current_setting('transaction_read_only')").fetchone() or ("",)
    if read_only == "on":
        return 'the database is read-only: name the primary server, or set role = "source"'
    missing = [
        privilege
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
        if connection.execute(
            b"SELECT has_table_privilege(CAST($1 AS oid), $2)", [table.oid, privilege]
        ).fetchone()
        != ("t",)
    ]
    if missing:
        user = connection.info.user
        return f"the rights are missing: run: GRANT {', '.join(missing)} ON {table.sql} TO {quoted(user)}"
    return None


def describe(table: Table) -> Description:
    """The columns with the value types that they declare."""
    types = {column.name: type_of(column) for column in table.columns.values()}
    generated = frozenset(name for name, column in table.columns.items() if column.generated)
    return Description(types, table.primary_key, generated=generated)


def creation(name: str, schema: str | None, binding: Binding) -> str:
    """The CREATE TABLE statement for what the binding holds: the key fields first, then the others by name."""
    types = binding.local_types
    key = binding.key_locals
    others = sorted(local for local in types if local not in key)
    lines = [f"{quoted(local)} {COLUMN_TYPES[types[local]]} NOT NULL" for local in key]
    lines += [f"{quoted(local)} {COLUMN_TYPES[types[local]]}" for local in others]
    aside = {binding.changed_at: COLUMN_TYPES["datetime"], binding.changed_by: COLUMN_TYPES["str"]}
    lines += [f"{quoted(local)} {kind}" for local, kind in aside.items() if local and local not in types]
    names = ", ".join(map(quoted, key))
    if binding.id is not None and binding.id not in types:
        lines.insert(0, f"{quoted(binding.id)} bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
        lines.append(f"UNIQUE ({names})")
    else:
        lines.append(f"PRIMARY KEY ({names})")
    table = quoted(name) if schema is None else f"{quoted(schema)}.{quoted(name)}"
    return f"CREATE TABLE IF NOT EXISTS {table} (\n  " + ",\n  ".join(lines) + "\n)"
