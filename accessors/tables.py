"""The six methods where records are the rows of a database's tables: what all databases have in common.

An accessor says how a table is opened for reading and for writing; what it opens finds, tells and writes the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from accessors.applying import Action
from accessors.table_records import TableRecords
from evsync.accessor import Accessor, Row
from evsync.data import Data
from evsync.errors import Refused, StoreError
from evsync.store import Store


class OneByOne(Protocol):
    """Writes single records in an open transaction."""

    @property
    def records(self) -> TableRecords[Any]: ...

    def one(self, action: Action, values: Mapping[str, Any], found: Any) -> Row | None:
        """Write one record, which was `found` or is new; the row as it is then, None if it is gone. Raises Refused."""
        ...


class TableAccessor(Accessor):
    """Reads and writes tables."""

    def read_from(self, store: Store, type: str) -> AbstractContextManager[TableRecords[Any]]:
        """The records of a type, in one read transaction."""
        raise NotImplementedError

    def write_to(self, store: Store, type: str) -> AbstractContextManager[OneByOne]:
        """The same in a write transaction, which is committed at the end. Raises Unreachable for what cannot be written."""
        raise NotImplementedError

    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        return self._one(store, type, id, None)

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        return self._one(store, type, None, name)

    def _one(
        self, store: Store, type: str, id: int | str | None, name: Mapping[str, Any] | None
    ) -> Data | None:
        with self.read_from(store, type) as records:
            found = records.one(id, name)
            return None if found is None else records.data(found.row)

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        with self.read_from(store, type) as records:
            for row in records.matching(match or {}):
                yield records.data(row)

    def add(self, store: Store, data: Data) -> Data:
        """Raises Refused if there is a record with this key, or the table does not want it."""
        with self.write_to(store, data.type) as writing:
            records = writing.records
            named = all(local in data.fields for local in records.binding.key_locals)
            found = records.one(None, data.fields) if named else None
            return _stored(records, writing.one("create", data.fields, found))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is gone or no longer `old`, or the table does not want it."""
        with self.write_to(store, data.type) as writing:
            records = writing.records
            found = records.one(data.id, (data if old is None else old).fields)
            if found is not None and old is not None and not records.same(found.row, old.fields):
                raise Refused(f"{records}: the record was changed meanwhile")
            return _stored(records, writing.one("update", data.fields, found))

    def remove(self, store: Store, data: Data) -> None:
        with self.write_to(store, data.type) as writing:
            found = writing.records.one(data.id, data.fields)
            if found is not None:
                writing.one("delete", {}, found)

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]:
        """All rows, by one statement."""
        with self.read_from(store, type) as records:
            yield from records.batches()


def _stored(records: TableRecords[Any], row: Row | None) -> Data:
    if row is None:
        raise Refused(f"{records}: the record was written, but a trigger took it away")
    return records.data(row)


def told(error: StoreError) -> str:
    """An error as what `check` answers: one line."""
    return f"{error.message}: {error.hint}" if error.hint else error.message
