"""Reading a large result as the server hands it out.

The driver's own cursor is asked, past SQLAlchemy, which would work on the values; and which, where a connection is lost or a
result is left before its end, would first have the driver read all the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from accessors.sql_connection import Connection


def streamed(connection: Connection, query: sa.Select[Any], size: int) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows in batches, as the driver tells them."""
    streaming = connection.sql.execution_options(stream_results=True, max_row_buffer=size)
    driver = connection.sql.connection.dbapi_connection
    with streaming.execute(query) as result:
        cursor = result.cursor
        assert cursor is not None  # it is a SELECT
        first: list[Sequence[Any]] = list(result.fetchmany(1))  # that one SQLAlchemy has asked for already
        if not first:
            return
        try:
            rows = [*first, *_fetched(connection.sql, cursor, size - 1)]
            while rows:
                yield rows
                rows = list(_fetched(connection.sql, cursor, size))
        except BaseException:
            connection.dialect.abandon(driver, cursor)
            raise


def _fetched(connection: sa.Connection, cursor: Any, size: int) -> Sequence[Sequence[Any]]:
    """Raises what goes wrong as SQLAlchemy would."""
    dialect = connection.dialect
    base: Any = dialect.loaded_dbapi.Error
    try:
        rows: Sequence[Sequence[Any]] = cursor.fetchmany(size)
    except base as error:
        gone = dialect.is_disconnect(error, None, cursor)
        raise exc.DBAPIError.instance(
            None, None, error, base, hide_parameters=True, connection_invalidated=gone, dialect=dialect
        ) from error
    return rows
