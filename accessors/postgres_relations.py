"""How PostgreSQL's tables hang together, and what there is that is no table of the user's: what `evsync init` asks."""

from __future__ import annotations

from itertools import groupby

from accessors.postgres_connection import Connection
from accessors.postgres_schema import NOT_THE_USERS, Table, quoted
from evsync.accessor import ForeignKey, Relations

# Those that stand in for the one of a partitioned table have a parent.
_FOREIGN_KEYS = """
SELECT k.oid, own.attname, CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END,
  other.attname
FROM pg_constraint k
CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair(own, other, place)
JOIN pg_attribute own ON own.attrelid = k.conrelid AND own.attnum = pair.own
JOIN pg_attribute other ON other.attrelid = k.confrelid AND other.attnum = pair.other
JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conrelid = CAST($1 AS oid) AND k.conparentid = 0
ORDER BY k.conname, k.oid, pair.place
"""
_UNIQUE = """
SELECT i.indexrelid, a.attname, a.attnotnull
FROM pg_index i
CROSS JOIN LATERAL unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS part(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
WHERE i.indrelid = CAST($1 AS oid) AND i.indisunique AND i.indisvalid AND NOT i.indisprimary
  AND i.indpred IS NULL AND i.indexprs IS NULL AND part.place <= i.indnkeyatts
ORDER BY i.indexrelid, part.place
"""
_NUMBERED = """
SELECT 1 FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = CAST($1 AS oid) AND a.attname = $2
  AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%')
"""
# Partitions are part of their table, and what an extension brought is not the user's.
_LEFT_OUT = f"""
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END,
  CASE WHEN starts_with(c.relname, '_evsync_') THEN 'evsync''s own'
    WHEN c.relkind = 'v' THEN 'a view' WHEN c.relkind = 'm' THEN 'a materialized view'
    WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'no right to use its schema'
    ELSE 'no right to read it' END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition AND {NOT_THE_USERS}
  AND (c.relkind IN ('v', 'm') OR starts_with(c.relname, '_evsync_')
    OR NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT'))
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname
"""
_CREATION = """
SELECT current_schema(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), FALSE), pg_is_in_recovery()
  OR current_setting('default_transaction_read_only') = 'on'
"""


def relations(connection: Connection, table: Table) -> Relations:
    """Foreign keys, what else is unique, and whether the primary key is numbered."""
    keys = []
    for _, parts in groupby(connection.execute(_FOREIGN_KEYS.encode(), [table.oid]), lambda row: row[0]):
        pairs = list(parts)
        keys.append(ForeignKey(tuple(row[1] for row in pairs), pairs[0][2], tuple(row[3] for row in pairs)))
    numbered = (
        len(table.primary_key) == 1
        and connection.execute(_NUMBERED.encode(), [table.oid, table.primary_key[0]]).fetchone()
    )
    return Relations(tuple(keys), _unique(connection, table), bool(numbered))


def _unique(connection: Connection, table: Table) -> tuple[tuple[str, ...], ...]:
    """The sets of columns without nulls; those first that cannot come to have any."""
    certain, found = [], []
    rows = connection.execute(_UNIQUE.encode(), [table.oid]).fetchall()
    for _, parts in groupby(rows, lambda row: row[0]):
        columns = {row[1]: row[2] == "t" for row in parts}
        if any(table.columns[column].generated for column in columns):
            continue
        if all(columns.values()):
            certain.append(tuple(columns))
        elif not any(_has_null(connection, table, name) for name, full in columns.items() if not full):
            found.append(tuple(columns))
    return tuple(dict.fromkeys([*certain, *found]))


def _has_null(connection: Connection, table: Table, column: str) -> bool:
    sql = f"SELECT 1 FROM {table.sql} WHERE {quoted(column)} IS NULL LIMIT 1"
    return connection.execute(sql.encode()).fetchone() is not None


def left_out(connection: Connection) -> dict[str, str]:
    """What is no type, and why."""
    return dict(connection.execute(_LEFT_OUT.encode()).fetchall())


def why_not_created(connection: Connection) -> str | None:
    """Why no table could be created where `search_path` leads, or None."""
    schema, allowed, read_only = connection.execute(_CREATION.encode()).fetchone() or (None, "f", "f")
    if read_only == "t":
        return "the database is read-only"
    if schema is None:
        return "search_path leads to no schema"
    if allowed != "t":
        user = quoted(connection.info.user)
        return f"no right to create tables: run: GRANT CREATE ON SCHEMA {quoted(schema)} TO {user}"
    return None
