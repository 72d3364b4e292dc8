"""Any database that SQLAlchemy has a dialect for: `sql:` and SQLAlchemy's own URL, one table per type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import sqlalchemy as sa

from accessors import sql_relations as related
from accessors import sql_schema as schema
from accessors.applying import applied, in_halves
from accessors.sql_connection import Connection, is_there, opened, reading, transaction, writing
from accessors.sql_loading import loading
from accessors.sql_records import Records
from accessors.sql_writing import Writing
from evsync.accessor import Accessor, Change, Load, Outcome, Relations, Row
from evsync.binding import Description
from evsync.data import Data
from evsync.errors import Refused, StoreError
from evsync.store import Store


class SqlAccessor(Accessor):
    """Reads and writes tables that have a key; views and tables without any key are read only.

    The store's own id is the column that the binding names, else the primary key's one column; a record of a composite
    primary key, or of none, has no id and is found by its key fields.
    """

    json_is_text = True
    batch = 5000
    options: ClassVar[Mapping[str, str]] = {
        "table": "the table's name; left out: the type's",
        "schema": "the schema it stands in; left out: the connection's own",
        "zone": "utc, if columns of times without a time zone are meant in UTC",
    }

    # -- the six methods -------------------------------------------------------------------------------

    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        with reading(store) as connection:
            records = Records(connection, store, type)
            found = records.one(id, None)
            return None if found is None else records.data(found.row)

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        with reading(store) as connection:
            records = Records(connection, store, type)
            found = records.one(None, name)
            return None if found is None else records.data(found.row)

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        with reading(store) as connection:
            records = Records(connection, store, type)
            for row in records.matching(match or {}):
                yield records.data(row)

    def add(self, store: Store, data: Data) -> Data:
        """Raises Refused if there is a record with this key, or the table does not want it."""
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            named = all(local in data.fields for local in records.binding.key_locals)
            found = records.one(None, data.fields) if named else None
            return _stored(records, Writing(records, told=True).one("create", data.fields, found))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is gone or no longer `old`, or the table does not want it."""
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, (data if old is None else old).fields)
            if found is not None and old is not None and not records.same(found.row, old.fields):
                raise Refused(f"{records}: the record was changed meanwhile")
            return _stored(records, Writing(records, told=True).one("update", data.fields, found))

    def remove(self, store: Store, data: Data) -> None:
        with writing(store) as connection:
            records = _writable(connection, store, data.type)
            found = records.one(data.id, data.fields)
            if found is not None:
                Writing(records).one("delete", {}, found)

    # -- everything at once ----------------------------------------------------------------------------

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]:
        """All rows, by one statement."""
        with reading(store) as connection:
            yield from Records(connection, store, type).batches()

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """Writes the changes in one transaction; a record that is refused does not stop the others."""
        return in_halves(changes, lambda some, _: _apply(store, type, some))

    @contextmanager
    def loading(self, store: Store, type: str) -> Iterator[Load | None]:
        """See evsync.accessor.CanLoad."""
        with opened(store) as connection:
            with transaction(connection):
                records = _writable(connection, store, type)
            yield loading(connection, records)

    # -- the tables ------------------------------------------------------------------------------------

    def describe(self, store: Store, type: str) -> Description | None:
        if not is_there(store):
            return None
        with reading(store) as connection:
            table = schema.load(connection, store, type)
            return None if table is None else schema.describe(table)

    def create(self, store: Store, type: str) -> None:
        with opened(store, create=True) as connection, transaction(connection):
            if schema.load(connection, store, type) is None:
                name, within = schema.table_name(store, type), schema.schema_name(store, type)
                connection.sql.execute(schema.creation(connection, name, within, store.binding(type)))

    def discover(self, store: Store) -> dict[str, dict[str, str]]:
        """Every table but our own, a type each."""
        with reading(store) as connection:
            return schema.discover(connection, schema.schema_name(store, ""))

    def relations(self, store: Store, type: str) -> Relations:
        with reading(store) as connection:
            return related.relations(connection, schema.existing(connection, store, type))

    def left_out(self, store: Store) -> dict[str, str]:
        with reading(store) as connection:
            return related.left_out(connection, schema.schema_name(store, ""))

    def why_not_created(self, store: Store) -> str | None:
        with opened(store) as connection:
            return connection.dialect.hindrance(connection.sql)

    def check(self, store: Store, type: str) -> str | None:
        """Asked by statements that touch no row, in a transaction that is rolled back."""
        try:
            with opened(store) as connection:
                connection.dialect.begin_writing(connection.sql)
                records = _writable(connection, store, type)
                hindrance = connection.dialect.hindrance(connection.sql)
                if hindrance is None:
                    _try_rights(connection, records)
                return hindrance
        except StoreError as error:
            return f"{error.message}: {error.hint}" if error.hint else error.message


def _writable(connection: Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type, locked=True)
    records.check_writable()
    return records


def _stored(records: Records, row: Row | None) -> Data:
    if row is None:
        raise Refused(f"{records}: the record was written, but a trigger took it away")
    return records.data(row)


def _apply(store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
    """Raises Refused if the transaction as a whole was refused."""
    with writing(store) as connection:
        return apply_on(connection, store, type, changes)


def apply_on(connection: Connection, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
    """The same inside of an open transaction."""
    records = _writable(connection, store, type)
    return applied(changes, records, Writing(records))


def _try_rights(connection: Connection, records: Records) -> None:
    """Raises Unreachable where a right is missing."""
    written, never = records.written, sa.literal_column("1") == sa.literal_column("0")
    names = [c.name for c in records.table.columns.values() if not c.generated]
    columns = [written.c[name] for name in names]
    connection.sql.execute(sa.insert(written).from_select(names, sa.select(*columns).where(never)))
    connection.sql.execute(sa.update(written).values({names[-1]: columns[-1]}).where(never))
    connection.sql.execute(sa.delete(written).where(never))
