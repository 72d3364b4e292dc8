"""In which way the changes of a MySQL store could be captured, and what it needs. Nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator

from accessors import sql_schema as schema
from accessors.mysql_capture import is_replica, wrong_table
from accessors.mysql_following import known_again
from accessors.mysql_server import log_end
from accessors.mysql_settings import Wrong, variables, wrong_settings
from accessors.sql_connection import Connection
from accessors.sql_errors import where_of
from evsync.accessor import Way
from evsync.errors import StoreError
from evsync.store import Store


def ways(connection: Connection, store: Store) -> list[Way]:
    """The one way, the binary log."""
    needs = dict.fromkeys(f"{wrong.message}: {wrong.hint}" for wrong in _lacks(connection, store))
    return [Way("binlog", "every change can be told by the server's log", tuple(needs))]


def _lacks(connection: Connection, store: Store) -> Iterator[Wrong]:
    """What `install` would complain of."""
    wrong = wrong_settings(variables(connection.sql), replica=is_replica(connection.sql))
    if wrong is not None:
        yield wrong
    try:
        end = log_end(connection.sql, store)
        if end is not None:
            known_again(store, end)
        for type in store.types:
            wrong = wrong_table(connection, store, schema.existing(connection, store, type))
            if wrong is not None:
                yield wrong
    except StoreError as error:
        yield Wrong(
            error.message.removeprefix(f"{where_of(store)} ").removeprefix(f"{where_of(store)}: "), error.hint
        )
