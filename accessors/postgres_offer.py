"""In which ways the changes of a PostgreSQL store could be captured, and what each needs. Nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator

from accessors import postgres_schema as schema
from accessors import postgres_triggers as triggers
from accessors.postgres_capture import check_identity
from accessors.postgres_connection import Connection
from accessors.postgres_schema import quoted
from evsync.accessor import Way
from evsync.errors import Unreachable
from evsync.store import Store

_SERVER = """
SELECT current_setting('wal_level'), pg_is_in_recovery(),
  (SELECT count(*) FROM pg_replication_slots) >= CAST(current_setting('max_replication_slots') AS int)
"""
_ROLE = """
SELECT rolsuper OR rolreplication, has_database_privilege(current_database(), 'CREATE'), current_database()
FROM pg_roles WHERE rolname = current_user
"""
_OWNED = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = CAST($1 AS oid)"


def ways(connection: Connection, store: Store) -> list[Way]:
    """Every way, the best first."""
    return [
        Way("wal", "every change can be told by the server's log", tuple(lacks_for_wal(connection, store))),
        Way(
            "triggers", "every change can be told by triggers", tuple(_lacks_for_triggers(connection, store))
        ),
    ]


def lacks_for_wal(connection: Connection, store: Store) -> Iterator[str]:
    """What capture by the log lacks."""
    level, standby, full = connection.execute(_SERVER.encode()).fetchone() or ("", "f", "f")
    if level != "logical":
        yield f"wal_level is {level!r}: run: ALTER SYSTEM SET wal_level = 'logical', and restart the server"
    if standby == "t":
        yield "the server is a standby: name the primary"
    if full == "t":
        yield "all replication slots are taken: raise max_replication_slots"
    user = quoted(connection.info.user)
    replicates, creates, database = connection.execute(_ROLE.encode()).fetchone() or ("f", "f", "")
    if replicates != "t":
        yield f"the role lacks REPLICATION: run: ALTER ROLE {user} REPLICATION"
    if creates != "t":
        yield f"no right to create a publication: run: GRANT CREATE ON DATABASE {quoted(database)} TO {user}"
    foreign = []
    for type in store.types:
        table = schema.existing(connection, store, type)
        if table.kind != "table":
            yield f"{table.sql} is a {table.kind}, whose changes are not in the log"
            continue
        if connection.execute(_OWNED.encode(), [table.oid]).fetchone() != ("t",):
            foreign.append(table.sql)
        try:
            check_identity(connection, table, store.binding(type), "")
        except Unreachable as error:
            yield _told(error)
    if foreign:
        yield f"only the owner of a table can have it published: {', '.join(foreign)}"


def _lacks_for_triggers(connection: Connection, store: Store) -> Iterator[str]:
    """What capture by triggers lacks."""
    first = None
    for type in store.types:
        table = schema.existing(connection, store, type)
        first = first or table
        parts = triggers.parts_of(connection, table)
        try:
            triggers.check(table, parts, store.binding(type), "")
            triggers.check_rights(connection, parts, "")
        except Unreachable as error:
            yield _told(error)
    try:
        if first is not None:
            triggers.place_for(connection, first, "")
    except Unreachable as error:
        yield _told(error)


def _told(error: Unreachable) -> str:
    said = error.message.removeprefix(": ")
    return f"{said}: {error.hint}" if error.hint else said
