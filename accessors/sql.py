"""Any database that SQLAlchemy has a dialect for: `sql:` and SQLAlchemy's own URL, one table per type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import sqlalchemy as sa

from accessors import sql_relations as related
from accessors import sql_schema as schema
from accessors.applying import applied, in_halves
from accessors.sql_connection import Connection, is_there, opened, reading, transaction, writing
from accessors.sql_loading import loading
from accessors.sql_records import Records
from accessors.sql_writing import Writing
from accessors.tables import TableAccessor, told
from evsync.accessor import Change, Load, Outcome, Relations
from evsync.binding import Description
from evsync.errors import StoreError
from evsync.store import Store


class SqlAccessor(TableAccessor):
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

    # -- opening ---------------------------------------------------------------------------------------

    @contextmanager
    def read_from(self, store: Store, type: str) -> Iterator[Records]:
        with reading(store) as connection:
            yield Records(connection, store, type)

    @contextmanager
    def write_to(self, store: Store, type: str) -> Iterator[Writing]:
        with writing(store) as connection:
            yield Writing(_writable(connection, store, type), told=True)

    # -- everything at once ----------------------------------------------------------------------------

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
            return told(error)


def _writable(connection: Connection, store: Store, type: str) -> Records:
    records = Records(connection, store, type, locked=True)
    records.check_writable()
    return records


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
