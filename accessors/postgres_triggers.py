"""Capturing PostgreSQL's changes by triggers, into a queue beside the tables.

A store has one queue, so that the changes of all its tables keep their order: `_evsync_<store>_queue`, a row for each changed row.
Beside it stands `_evsync_<store>_state`: what the tables looked like when their triggers were set up, and up to where the queue was
emptied. Both are in the schema `evsync` where the role may make it or use it, else in that of the first table.

What a trigger must not do is to fail, or to mean anything to the statement that fires it. One function serves all tables: it names
no column, so it outlives every ALTER TABLE; it runs as the role that set it up, under settings of its own, so neither rights nor
DateStyle of the application matter; there is no constraint in the queue, and no sequence, so lastval() stays what it was; and where
the queue is gone it does nothing.

A row is put down as the text of the whole record. Its place in the order is where the log stood: that grows with every change of
a session, and who changes a record after somebody else had to wait for the other one's commit.

Which of several AFTER triggers comes first is told by their names; ours begin with a digit. Still a trigger of the application's
may write to a row before ours was told what the statement did to it: then the row has been superseded by then (`late`), and
`old_at` and `new_at`, the places of its versions, say in which order it was.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from accessors import postgres_schema as schema
from accessors.postgres_connection import (
    SETTINGS,
    Connection,
    queue_name,
    queue_schema,
    state_name,
    transaction,
)
from accessors.postgres_schema import TRIGGERS, Table, quoted
from evsync.accessor import Captured
from evsync.binding import Binding
from evsync.errors import StoreError, Unreachable
from evsync.store import Store

INSERTED, UPDATED, DELETED, EMPTIED = "i", "u", "d", "t"

SCHEMA = "evsync"
_MADE_BY_US = "made by evsync"

_PARTS = b"""
WITH RECURSIVE part AS (
  SELECT CAST($1 AS oid) AS oid
  UNION
  SELECT i.inhrelid FROM pg_inherits i JOIN part p ON i.inhparent = p.oid
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind, c.relispartition,
  has_table_privilege(c.oid, 'TRIGGER'), pg_has_role(c.relowner, 'USAGE'),
  a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attisdropped, a.attgenerated = 'v'
FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 ORDER BY c.oid, a.attnum
"""
_SET = b"""
SELECT t.tgrelid, t.tgname, t.tgenabled, t.tgparentid <> 0, format('%I.%I', n.nspname, c.relname)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace w ON w.oid = p.pronamespace
WHERE p.proname = $1 AND w.nspname = $2 AND NOT t.tgisinternal ORDER BY t.tgrelid
"""
_LEFT = b"""
SELECT nspname FROM pg_namespace n WHERE EXISTS (
  SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ($1, $2) AND c.relkind = 'r')
OR EXISTS (SELECT 1 FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = $3) ORDER BY nspname
"""


class Part(NamedTuple):
    """A table as it is stored: itself, a partition of it, or one that inherits from it. `columns`: number, name and
    type of each, in the order in which the text of a record has them; `dropped`: the numbers of those it had."""

    oid: str
    sql: str
    kind: str
    partition: bool
    columns: tuple[tuple[int, str, str], ...]
    dropped: tuple[int, ...]
    virtual: frozenset[str]
    may_trigger: bool
    owned: bool


class Trigger(NamedTuple):
    """A trigger of ours that is there. `on`: its table; `inherited`: it comes and goes with that of a partitioned table."""

    oid: str
    name: str
    enabled: str
    inherited: bool
    on: str


class Noted(NamedTuple):
    """A captured table as it was when its triggers were set up. `parts`: the columns of each; `enabled`: how the triggers
    are; `since`: where the log stood then."""

    oid: str
    parts: dict[str, tuple[tuple[int, str, str], ...]]
    dropped: dict[str, tuple[int, ...]]
    enabled: str
    since: int


class Queue(NamedTuple):
    """What is set up for a store. `token` tells this queue from one that was set up anew; `pruned`: up to where it was
    emptied; `tables`: by schema and name."""

    schema: str
    name: str
    state: str
    token: str
    store: str
    pruned: int
    tables: dict[tuple[str, str], Noted]

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def queue(connection: Connection, store: Store) -> Queue | None:
    """The store's queue, if it was set up."""
    found = _queue(connection, store)
    return found if found is not None and found.store == store.name else None


def _queue(connection: Connection, store: Store) -> Queue | None:
    """The same, be it that of another store whose name looks like this one's."""
    within = queue_schema(connection, store)
    if within is None:
        return None
    state = f"{quoted(within)}.{quoted(state_name(store))}"
    row = connection.execute(f"SELECT token, store, pruned, tables FROM {state}".encode()).fetchone()
    if row is None:
        return None
    token, name, pruned, tables = row
    noted = {
        (one["schema"], one["table"]): Noted(
            one["oid"],
            {oid: tuple(map(tuple, columns)) for oid, columns in one["parts"].items()},
            {oid: tuple(numbers) for oid, numbers in one["dropped"].items()},
            one["enabled"],
            one["since"],
        )
        for one in json.loads(tables)
    }
    return Queue(within, queue_name(store), state, token, name, int(pruned), noted)


def parts_of(connection: Connection, table: Table) -> dict[str, Part]:
    """The table, and all that belongs to it, by their oids."""
    found = {}
    rows = connection.execute(_PARTS, [table.oid]).fetchall()
    for (oid, sql, kind, partition, may_trigger, owned), group in groupby(rows, key=lambda row: row[:6]):
        columns = [row[6:] for row in group]
        found[oid] = Part(
            oid,
            sql,
            kind,
            partition == "t" and oid != table.oid,
            tuple((int(number), column, type) for number, column, type, gone, _ in columns if gone == "f"),
            tuple(int(number) for number, _, _, gone, _ in columns if gone == "t"),
            frozenset(column for _, column, _, gone, virtual in columns if gone == "f" and virtual == "t"),
            may_trigger == "t",
            owned == "t",
        )
    return found


def is_captured(connection: Connection, store: Store, type: str) -> bool:
    """Whether the changes of a type's table are captured."""
    found = queue(connection, store)
    table = schema.load(connection, schema.table_name(store, type), schema.schema_name(store, type))
    return found is not None and table is not None and (table.schema, table.name) in found.tables


def amiss(connection: Connection, queue: Queue, table: Table, parts: Mapping[str, Part]) -> str | None:
    """Why changes of the table may have gone by unseen; or None."""
    noted = queue.tables.get((table.schema, table.name))
    if noted is None:
        return "its changes are not captured"
    if noted.oid != table.oid:
        return "it is another table than the one that had the triggers"
    if set(noted.parts) != set(parts):
        return "its partitions, or what inherits from it, have changed"
    if any(noted.parts[oid] != part.columns for oid, part in parts.items()):
        return "its columns have changed"
    there = {(one.oid, one.name): one for one in _triggers(connection, queue.schema, _function(queue.name))}
    if any((oid, name) not in there for oid in parts for name in _names(queue)):
        return "its triggers are gone"
    if any(one.enabled != noted.enabled for one in there.values() if one.oid in parts):
        return "its triggers are disabled, or were for a while"
    return None


def _triggers(connection: Connection, within: str, function: str) -> list[Trigger]:
    rows = connection.execute(_SET, [function, within]).fetchall()
    return [Trigger(oid, name, enabled, inherited == "t", on) for oid, name, enabled, inherited, on in rows]


def _function(queue: str) -> str:
    return queue.removesuffix("queue") + "note"


def _names(queue: Queue) -> tuple[str, str]:
    """What the triggers of a table are called: for each row, and for TRUNCATE."""
    base = TRIGGERS + queue.name.removeprefix(schema.OURS).removesuffix("_queue")
    return base, f"{base}_t"


def check(table: Table, parts: Mapping[str, Part], binding: Binding, where: str) -> None:
    """Raises Unreachable for a table whose changes triggers do not see as they are read."""
    if table.kind != "table":
        raise Unreachable(f"{where}: {table.sql} is a {table.kind}, whose changes triggers do not see")
    foreign = next((part for part in parts.values() if part.kind == "f"), None)
    if foreign is not None:
        raise Unreachable(f"{where}: {foreign.sql} is a foreign table, whose changes triggers do not see")
    bound = {*binding.locals, binding.id, binding.changed_at, binding.changed_by}
    virtual = next((name for part in parts.values() for name in sorted(part.virtual) if name in bound), None)
    if virtual is not None:
        raise Unreachable(
            f"{where}: the column {virtual!r} of {table.sql} is virtual: triggers do not see its values",
            f'leave it out of the fields, make it STORED, or set capture = "scan" for {where or "the store"}',
        )


def install(connection: Connection, store: Store) -> list[str]:
    """Set up what is missing or amiss, on a connection without a transaction; answers with what was done. Raises StoreError."""
    where, done = f"store {store.name!r}", list[str]()
    with transaction(connection):
        tables = {}
        for type in store.types:
            table = schema.existing(connection, store, type)
            parts = parts_of(connection, table)
            check(table, parts, store.binding(type), where)
            check_rights(connection, parts, where)
            tables[table.schema, table.name] = (type, table)
        found = _queue(connection, store)
        if found is None:
            _dropped(connection, store)  # what was left of it
            found = _made(connection, store, next(iter(tables.values()))[1])
            done.append(f"the queue {found.sql}")
        elif found.store != store.name:
            raise Unreachable(
                f"{where}: the queue {found.sql} is that of the store {found.store!r}",
                f'name another: slot = "…" in [stores.{store.name}]',
            )
    # One table at a time: none is locked while another one is waited for.
    for type, table in tables.values():
        with transaction(connection):
            if _set_up(connection, store, type, found):
                done.append(f"triggers on {table.sql}")
    return done


def _set_up(connection: Connection, store: Store, type: str, queue_: Queue) -> bool:
    """Whether anything was missing or amiss."""
    connection.execute(
        f"SELECT 1 FROM {queue_.state} FOR UPDATE".encode()
    )  # others note their tables there, too
    found = queue(connection, store)
    assert found is not None
    table = schema.existing(connection, store, type)
    parts = parts_of(connection, table)
    if amiss(connection, found, table, parts) is None:
        return False
    before = found.tables.get((table.schema, table.name))
    stale = set(parts) | (set() if before is None else set(before.parts))
    for one in _triggers(connection, found.schema, _function(found.name)):
        if one.oid in stale and not one.inherited:
            connection.execute(f"DROP TRIGGER IF EXISTS {quoted(one.name)} ON {one.on}".encode())
    row, emptied = _names(found)
    function = f"{quoted(found.schema)}.{quoted(_function(found.name))}()"
    owned = all(part.owned for part in parts.values())
    for part in parts.values():
        if not part.partition:
            connection.execute(
                f"CREATE TRIGGER {quoted(row)} AFTER INSERT OR UPDATE OR DELETE ON {part.sql}"
                f" FOR EACH ROW EXECUTE PROCEDURE {function}".encode()
            )
        connection.execute(
            f"CREATE TRIGGER {quoted(emptied)} AFTER TRUNCATE ON {part.sql}"
            f" FOR EACH STATEMENT EXECUTE PROCEDURE {function}".encode()
        )
    for part in parts.values() if owned else ():
        for name in (row, emptied):  # also for what a replication applies
            alter = f"ALTER TABLE ONLY {part.sql} ENABLE ALWAYS TRIGGER {quoted(name)}"
            connection.execute(alter.encode())
    # As they are now that nobody else can write to them.
    parts = parts_of(connection, table)
    (now,) = connection.execute(b"SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone() or ("0",)
    noted = Noted(
        table.oid,
        {oid: part.columns for oid, part in parts.items()},
        {oid: part.dropped for oid, part in parts.items()},
        "A" if owned else "O",
        int(now),
    )
    _note(connection, found, {**found.tables, (table.schema, table.name): noted})
    return True


def _note(connection: Connection, found: Queue, tables: Mapping[tuple[str, str], Noted]) -> None:
    document = [
        {"schema": within, "table": name, **noted._asdict()} for (within, name), noted in tables.items()
    ]
    connection.execute(f"UPDATE {found.state} SET tables = $1".encode(), [json.dumps(document)])


def check_rights(connection: Connection, parts: Mapping[str, Part], where: str) -> None:
    """Raises Unreachable where the role may not set triggers."""
    for part in parts.values():
        if not part.may_trigger:
            raise Unreachable(
                f"{where}: there is no right to set triggers on {part.sql}",
                f"run: GRANT TRIGGER ON {part.sql} TO {quoted(connection.info.user)}",
            )


def _made(connection: Connection, store: Store, first: Table) -> Queue:
    """The tables and the function, without a trigger yet."""
    within, is_new = place_for(connection, first, f"store {store.name!r}")
    if is_new:
        connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        connection.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{_MADE_BY_US}'".encode())
    name, state = queue_name(store), state_name(store)
    found = Queue(within, name, f"{quoted(within)}.{quoted(state)}", secrets.token_hex(8), store.name, 0, {})
    (path,) = connection.execute(b"SHOW search_path").fetchone() or ("",)
    connection.execute(
        f"CREATE TABLE {found.sql} (n pg_lsn, xid bigint, rel oid, op text, late boolean, old_at tid, new_at tid,"
        " at timestamptz, actor text, old text, new text)"
        " WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)".encode()
    )
    connection.execute(
        f"CREATE TABLE {found.state} (token text, store text, pruned numeric, tables text)".encode()
    )
    for one in (found.sql, found.state):
        # A publication FOR ALL TABLES would have our own updates and deletes refused.
        connection.execute(f"ALTER TABLE {one} REPLICA IDENTITY FULL".encode())
    connection.execute(
        f"INSERT INTO {found.state} VALUES ($1, $2, 0, '[]')".encode(), [found.token, store.name]
    )
    connection.execute(_function_sql(found, path).encode())
    return found


def place_for(connection: Connection, first: Table, where: str) -> tuple[str, bool]:
    """The schema for the queue, and whether it has yet to be made. Raises Unreachable."""
    row = connection.execute(
        b"SELECT to_regnamespace($1) IS NOT NULL, has_database_privilege(current_database(), 'CREATE'),"
        b" has_schema_privilege($2, 'CREATE'), CASE WHEN to_regnamespace($1) IS NOT NULL"
        b" THEN has_schema_privilege($1, 'CREATE') END",
        [SCHEMA, first.schema],
    ).fetchone()
    assert row is not None
    there, may_create, beside, inside = (value == "t" for value in row)
    if there and inside:
        return SCHEMA, False
    if not there and may_create:
        return SCHEMA, True
    if beside:
        return first.schema, False
    raise Unreachable(
        f"{where}: there is no schema in which the queue of its changes could be made",
        f"run: CREATE SCHEMA {SCHEMA} AUTHORIZATION {quoted(connection.info.user)}"
        if not there
        else f"run: GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {quoted(connection.info.user)}",
    )


# Every name and operator says where it comes from: the path is not ours.
_BODY = """
BEGIN
  IF pg_catalog.to_regclass({literal}) IS NULL THEN
    RETURN NULL;
  ELSIF TG_OP {equals} 'INSERT' THEN
    INSERT INTO {queue} (n, xid, rel, op, late, new_at, at, actor, new) VALUES ({common}, 'i',
      NEW.xmax {differs} '0', NEW.ctid, {whose}, pg_catalog.textin(pg_catalog.record_out(NEW)));
  ELSIF TG_OP {equals} 'UPDATE' THEN
    INSERT INTO {queue} (n, xid, rel, op, late, old_at, new_at, at, actor, old, new) VALUES ({common}, 'u',
      NEW.xmax {differs} '0', OLD.ctid, NEW.ctid, {whose}, pg_catalog.textin(pg_catalog.record_out(OLD)),
      pg_catalog.textin(pg_catalog.record_out(NEW)));
  ELSIF TG_OP {equals} 'DELETE' THEN
    INSERT INTO {queue} (n, xid, rel, op, late, old_at, at, actor, old) VALUES ({common}, 'd',
      FALSE, OLD.ctid, {whose}, pg_catalog.textin(pg_catalog.record_out(OLD)));
  ELSE
    INSERT INTO {queue} (n, xid, rel, op, late, at, actor) VALUES ({common}, 't', FALSE, {whose});
  END IF;
  RETURN NULL;
END
"""
_COMMON = "pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.txid_current(), TG_RELID"
_WHOSE = """pg_catalog.clock_timestamp(),
      CASE WHEN pg_catalog.length(pg_catalog.current_setting('evsync.actor', TRUE)) {more} 0
        THEN pg_catalog.current_setting('evsync.actor', TRUE)
        WHEN pg_catalog.current_setting('role') {differs} 'none' THEN pg_catalog.current_setting('role')
        ELSE session_user END"""
_OPERATORS = {
    "equals": "OPERATOR(pg_catalog.=)",
    "differs": "OPERATOR(pg_catalog.<>)",
    "more": "OPERATOR(pg_catalog.>)",
}


def _function_sql(queue: Queue, path: str) -> str:
    """`path`: names in the text of a value, as those of tables, look as a scan shows them."""
    whose = _WHOSE.format(**_OPERATORS)
    body = _BODY.format(
        literal=_literal(queue.sql), queue=queue.sql, common=_COMMON, whose=whose, **_OPERATORS
    )
    settings = "".join(f" SET {name} = '{value}'" for name, value in SETTINGS.items())
    return (
        f"CREATE FUNCTION {quoted(queue.schema)}.{quoted(_function(queue.name))}() RETURNS trigger LANGUAGE plpgsql"
        f" SECURITY DEFINER SET search_path = {path or _literal('')}{settings} AS {_literal(body)}"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def uninstall(connection: Connection, store: Store) -> list[str]:
    """Drop the triggers and the queue, whatever of it is there, on a connection without a transaction."""
    with transaction(connection):
        return _dropped(connection, store)


def _dropped(connection: Connection, store: Store) -> list[str]:
    done = []
    queue, state = queue_name(store), state_name(store)
    other = _queue(connection, store)
    if other is not None and other.store != store.name:
        return []
    for (within,) in connection.execute(_LEFT, [queue, state, _function(queue)]).fetchall():
        there = _triggers(connection, within, _function(queue))
        done += [f"triggers on {on}" for on in dict.fromkeys(one.on for one in there if not one.inherited)]
        # The triggers go with the function.
        function = f"{quoted(within)}.{quoted(_function(queue))}"
        connection.execute(f"DROP FUNCTION IF EXISTS {function}() CASCADE".encode())
        for name in (queue, state):
            connection.execute(f"DROP TABLE IF EXISTS {quoted(within)}.{quoted(name)}".encode())
        done.append(f"the queue {quoted(within)}.{quoted(queue)}")
        if within == SCHEMA and _is_ours_and_empty(connection):
            connection.execute(f"DROP SCHEMA {SCHEMA}".encode())
    return done


def _is_ours_and_empty(connection: Connection) -> bool:
    found = connection.execute(
        b"SELECT pg_has_role(n.nspowner, 'USAGE') AND obj_description(n.oid, 'pg_namespace') = $2"
        b" AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = CAST('pg_namespace' AS regclass)"
        b" AND d.refobjid = n.oid) FROM pg_namespace n WHERE n.nspname = $1",
        [SCHEMA, _MADE_BY_US],
    ).fetchone()
    return found == ("t",)


def status(connection: Connection, store: Store, queue: Queue) -> Captured:
    """How the capture by triggers stands."""
    way = f"evsync capture install {store.name}"
    row = connection.execute(
        f"SELECT count(*), pg_total_relation_size({_literal(queue.sql)}) FROM {queue.sql}".encode()
    ).fetchone()
    assert row is not None
    waiting, retained = map(int, row)
    types = [type for type in store.types if is_captured(connection, store, type)]
    for type in store.types:
        try:
            table = schema.existing(connection, store, type)
            parts = parts_of(connection, table)
            check(table, parts, store.binding(type), f"type {type!r}")
        except StoreError as error:
            return Captured("triggers", False, error.message, error.hint, waiting, retained, types)
        why = amiss(connection, queue, table, parts)
        if why is not None:
            hint = f"evsync ingest {store.name}: sets them up again, and compares" if type in types else way
            return Captured("triggers", False, f"type {type!r}: {why}", hint, waiting, retained, types)
    some = [noted for noted in queue.tables.values() if noted.enabled != "A"]
    detail = "every change, by triggers" + (
        "; not what a replication applies: the tables are not ours" if some else ""
    )
    return Captured("triggers", True, detail, "", waiting, retained, types)


def shape(noted: Noted, oid: str, part: Part | None, count: int, n: int) -> Sequence[str] | None:
    """The columns of a record of so many fields that was put down at `n`; None where that is not certain."""
    columns = noted.parts.get(oid)
    if columns is None or n < noted.since:
        return None
    if part is not None and part.columns != columns:
        if part.dropped != noted.dropped[oid] or part.columns[: len(columns)] != _renamed(columns, part):
            return None
        columns = part.columns[:count]  # columns were added, one after the other
    return [name for _, name, _ in columns] if len(columns) == count else None


def _renamed(columns: tuple[tuple[int, str, str], ...], part: Part) -> tuple[tuple[int, str, str], ...]:
    """The columns by the names that they have now."""
    now = {number: name for number, name, _ in part.columns}
    return tuple((number, now.get(number, name), type) for number, name, type in columns)
