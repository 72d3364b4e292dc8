"""Capturing PostgreSQL's changes out of its write-ahead log: a publication says which tables, a slot how far we are."""

from __future__ import annotations

from typing import NamedTuple

from accessors import postgres_noting as noting
from accessors import postgres_schema as schema
from accessors.postgres_connection import Connection, InUse, slot_name, transaction
from accessors.postgres_schema import Table, quoted
from accessors.postgres_wal import lsn_of, lsn_text
from evsync.accessor import Captured
from evsync.binding import Binding
from evsync.errors import StoreError, Unreachable
from evsync.store import Store

_IDENTITY = """
SELECT c.relreplident, coalesce((
  SELECT array_to_string(array_agg(quote_ident(a.attname)), ',') FROM pg_index i
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
  WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END), '')
FROM pg_class c WHERE c.oid = CAST($1 AS oid)
"""
_GENERATED = b"""
SELECT attname, attgenerated FROM pg_attribute
WHERE attrelid = CAST($1 AS oid) AND attnum > 0 AND NOT attisdropped AND attgenerated <> ''
"""
_SLOT = """
SELECT confirmed_flush_lsn, restart_lsn, active, wal_status, database = current_database(), plugin,
  pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)
FROM pg_replication_slots WHERE slot_name = $1
"""


class Slot(NamedTuple):
    """A replication slot. `confirmed`: up to where we told that we have everything; `retained`: bytes of the log that
    are kept for it."""

    confirmed: int
    active: bool
    status: str
    ours: bool
    retained: int
    behind: int


def slot(connection: Connection, name: str) -> Slot | None:
    """The slot, if it is there."""
    row = connection.execute(_SLOT.encode(), [name]).fetchone()
    if row is None:
        return None
    confirmed, _, active, status, ours, plugin, retained, behind = row
    return Slot(
        0 if confirmed is None else lsn_of(confirmed),
        active == "t",
        status or "",
        ours == "t" and plugin == "pgoutput",
        int(float(retained or 0)),
        int(float(behind or 0)),
    )


def advance(connection: Connection, name: str, lsn: int) -> bool:
    """Let the server forget what is before; whether it could."""
    try:
        connection.execute(
            b"SELECT pg_replication_slot_advance($1, CAST($2 AS pg_lsn))", [name, lsn_text(lsn)]
        )
    except InUse:
        return False
    return True


def published(connection: Connection, name: str) -> set[tuple[str, str]]:
    """The tables of a publication, schema and name, of which it tells every change."""
    rows = connection.execute(
        b"SELECT t.schemaname, t.tablename FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname"
        b" WHERE t.pubname = $1 AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate",
        [name],
    )
    return {(one, table) for one, table in rows} - {
        (one, table) for one, table, some_rows, _ in _partial(connection, name) if some_rows
    }


def _partial(connection: Connection, name: str) -> list[tuple[str, str, bool, bool]]:
    """The tables of a publication of which it tells only some rows, or some columns: schema, name, and which of both."""
    if connection.info.server_version < 150_000:
        return []
    rows = connection.execute(
        b"SELECT n.nspname, c.relname, r.prqual IS NOT NULL, r.prattrs IS NOT NULL FROM pg_publication_rel r"
        b" JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid"
        b" JOIN pg_namespace n ON n.oid = c.relnamespace"
        b" WHERE p.pubname = $1 AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)",
        [name],
    )
    return [
        (one, table, some_rows == "t", some_columns == "t") for one, table, some_rows, some_columns in rows
    ]


def is_captured(connection: Connection, store: Store, type: str) -> bool:
    """Whether the changes of a type's table are captured."""
    name = slot_name(connection, store)
    found = slot(connection, name)
    if found is None or not found.ours:
        return False
    table = schema.load(connection, schema.table_name(store, type), schema.schema_name(store, type))
    return table is not None and (table.schema, table.name) in published(connection, name)


def check_identity(connection: Connection, table: Table, binding: Binding, where: str) -> None:
    """Raises Unreachable for a table of which an update or a deletion would not say of which record it is; without
    any identity PostgreSQL would refuse the application's own updates once the table is published. Also for one with
    columns whose values are not in the log."""
    bound = {*binding.locals, binding.id, binding.changed_at, binding.changed_by}
    untold = [
        name
        for name, generated in connection.execute(_GENERATED, [table.oid])
        if name in bound and (generated != "s" or not _tells_generated(connection))
    ]
    if untold:
        raise Unreachable(
            f"{where}: the log does not tell the values of the generated column {untold[0]!r} of {table.sql}",
            'set capture = "triggers", or leave the column out',
        )
    kind, told = connection.execute(_IDENTITY.encode(), [table.oid]).fetchone() or ("n", "")
    if kind == "f":
        return
    columns = {name.strip('"').replace('""', '"') for name in told.split(",") if name}
    id = binding.id or (table.primary_key[0] if len(table.primary_key) == 1 else None)
    if columns and (id in columns or set(binding.key_locals) <= columns):
        return
    hint = f"run: ALTER TABLE {table.sql} REPLICA IDENTITY FULL"
    raise Unreachable(
        f"{where}: updates and deletes of {table.sql} do not say which record they are of"
        + ("" if columns else ", and would fail once its changes are captured"),
        hint if table.primary_key else f"give it a primary key, or {hint}",
    )


def _tells_generated(connection: Connection) -> bool:
    """Whether a publication can have the stored values of generated columns told."""
    return connection.info.server_version >= 180_000


def _options(connection: Connection) -> str:
    """What is published besides the columns that are written."""
    options = ["publish = 'insert, update, delete, truncate'"]
    if connection.info.server_version >= 130_000:
        options.append("publish_via_partition_root = true")
    if _tells_generated(connection):
        options.append("publish_generated_columns = stored")
    return ", ".join(options)


def install(connection: Connection, store: Store) -> list[str]:
    """Set up what is missing, on a connection without a transaction; answers with what was done. Raises StoreError."""
    done: list[str] = []
    where = f"store {store.name!r}"
    name = slot_name(connection, store)
    (level,) = connection.execute(b"SHOW wal_level").fetchone() or ("",)
    if level != "logical":
        raise Unreachable(
            f"{where}: the server's wal_level is {level!r}; changes are only told with 'logical'",
            "run: ALTER SYSTEM SET wal_level = 'logical', and restart the server",
        )
    found = slot(connection, name)
    if found is not None and not found.ours:
        raise Unreachable(
            f"{where}: the slot {name!r} is somebody else's",
            f'name another: slot = "…" in [stores.{store.name}]',
        )
    tables = []
    for type in store.types:
        table = schema.existing(connection, store, type)
        if table.kind != "table":
            raise Unreachable(f"{where}: {table.sql} is a {table.kind}, whose changes are not in the log", "")
        check_identity(connection, table, store.binding(type), where)
        tables.append(table)
    there = connection.execute(b"SELECT 1 FROM pg_publication WHERE pubname = $1", [name]).fetchone()
    if there is None:
        _check_rights(connection, where)
        options = _options(connection)
        listed = ", ".join(dict.fromkeys(table.sql for table in tables))
        connection.execute(
            f"CREATE PUBLICATION {quoted(name)} FOR TABLE {listed}{options and f' WITH ({options})'}".encode()
        )
        done.append(f"the publication {name} of {listed}")
    else:
        if options := _options(connection):  # it may have been made by an older server, or an older evsync
            connection.execute(f"ALTER PUBLICATION {quoted(name)} SET ({options})".encode())
        with transaction(connection):  # at once, so that no change falls between
            for one, partly, _, _ in _partial(connection, name):
                sql = f"{quoted(one)}.{quoted(partly)}"
                connection.execute(f"ALTER PUBLICATION {quoted(name)} DROP TABLE {sql}".encode())
            known = published(connection, name)
            for table in tables:
                if (table.schema, table.name) not in known:
                    connection.execute(f"ALTER PUBLICATION {quoted(name)} ADD TABLE {table.sql}".encode())
                    done.append(f"{table.sql} in the publication {name}")
    if found is not None and found.status == "lost":
        connection.execute(b"SELECT pg_drop_replication_slot($1)", [name])
        found = None
    if found is None:
        connection.execute(b"SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [name])
        done.append(f"the slot {name}")
    return done


def _check_rights(connection: Connection, where: str) -> None:
    """Raises Unreachable where the role may make no publication."""
    (may, database) = connection.execute(
        b"SELECT has_database_privilege(current_database(), 'CREATE'), current_database()"
    ).fetchone() or ("f", "")
    if may != "t":
        raise Unreachable(
            f"{where}: no right to create a publication",
            f"run: GRANT CREATE ON DATABASE {quoted(database)} TO {quoted(connection.info.user)}",
        )


def uninstall(connection: Connection, store: Store) -> list[str]:
    """Drop the slot and the publication."""
    done = []
    name = slot_name(connection, store)
    found = slot(connection, name)
    if found is not None and found.ours:
        connection.execute(b"SELECT pg_drop_replication_slot($1)", [name])
        done.append(f"the slot {name}")
    if connection.execute(b"SELECT 1 FROM pg_publication WHERE pubname = $1", [name]).fetchone():
        connection.execute(f"DROP PUBLICATION {quoted(name)}".encode())
        done.append(f"the publication {name}")
    for type in store.types:
        table = schema.load(connection, schema.table_name(store, type), schema.schema_name(store, type))
        if table is not None and noting.drop(connection, table):
            done.append(f"the table {noting.TABLE}")
    return done


def status(connection: Connection, store: Store) -> Captured:
    """How the capture by the log stands, where there is a slot."""
    name, way = slot_name(connection, store), f"evsync capture install {store.name}"
    found = slot(connection, name)
    assert found is not None
    types = [type for type in store.types if is_captured(connection, store, type)]
    if found.status == "lost":
        detail = f"the slot {name!r} was given up by the server: it kept too much of the log"
        return Captured(
            "wal", False, detail, f"{way}, then: evsync ingest {store.name} --accept-gap", None, 0, types
        )
    for type in store.types:
        try:
            table = schema.existing(connection, store, type)
            check_identity(connection, table, store.binding(type), f"type {type!r}")
        except StoreError as error:
            return Captured("wal", False, error.message, error.hint, None, found.retained, types)
        if type not in types:
            detail = f"type {type!r}: its table is not in the publication {name!r}"
            return Captured("wal", False, detail, way, None, found.retained, types)
    detail = f"every change, by the slot {name}, {found.behind:,} bytes behind"
    return Captured("wal", True, detail, "", None, found.retained, types)
