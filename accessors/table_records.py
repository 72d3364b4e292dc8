"""What the records of a bound table are in every database: found by an id or a key, told as data, compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from accessors.comparing import is_unchanged, moment
from evsync.accessor import HEADER, Row
from evsync.binding import nearest
from evsync.data import Data
from evsync.errors import Refused, Unreachable
from evsync.store import Store


class Located(Protocol):
    """A row that was found, and how to get back to it."""

    @property
    def row(self) -> Row: ...


class BoundTable(Protocol):
    """A table as its schema tells it."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> Mapping[str, Any]: ...

    @property
    def primary_key(self) -> Sequence[str]: ...


F = TypeVar("F", bound=Located)


class TableRecords(Generic[F]):
    """One type's records. Raises Unreachable if a column that is bound is not there."""

    def __init__(self, store: Store, type: str, table: BoundTable) -> None:
        self.store, self.type = store, type
        self._where = f"store {store.name!r}, table {table.name!r}"
        self.binding = binding = store.binding(type)
        for column in (*binding.locals, binding.id, binding.changed_at, binding.changed_by):
            if column is not None and column not in table.columns:
                raise Unreachable(
                    f"{self}: there is no column {column!r}",
                    nearest(column, table.columns) or f"it has: {', '.join(table.columns)}",
                )
        self.id_column = binding.id or (table.primary_key[0] if len(table.primary_key) == 1 else None)
        self._key_at = [HEADER + binding.locals.index(local) for local in binding.key_locals]

    def __str__(self) -> str:
        return self._where

    # -- what a database does in its own way -------------------------------------------------------------

    def batches(self) -> Iterator[Sequence[Row]]:
        """All rows."""
        raise NotImplementedError

    def matching(self, match: Mapping[str, Any]) -> Iterable[Row]:
        """The rows with these typed values. Raises Refused for a field that is not there."""
        raise NotImplementedError

    def with_id(self, id: int | str) -> F | None:
        """The record with this id."""
        raise NotImplementedError

    def by_name(self, names: Iterable[Mapping[str, Any]]) -> Mapping[Any, F]:
        """The records with these key values, by `name_of` them."""
        raise NotImplementedError

    def name_of(self, name: Mapping[str, Any]) -> bytes | None:
        """A key's typed values as one hashable thing: equal if and only if they are the same. None if it is no text."""
        raise NotImplementedError

    # -- what all do alike -------------------------------------------------------------------------------

    def one(self, id: int | str | None, name: Mapping[str, Any] | None) -> F | None:
        """The record with this id, or without an id, with these key values."""
        if id is not None:
            return self.with_id(id)
        if name is None or any(local not in name for local in self.binding.key_locals):
            raise Refused(f"{self}: neither an id nor the key {', '.join(self.binding.key_locals)} is given")
        return self.by_name([name]).get(self.name_of(name))

    def data(self, row: Row) -> Data:
        """A row with the store's own names and native values."""
        return Data(
            self.type,
            dict(zip(self.binding.locals, row[HEADER:], strict=True)),
            id=row[0] if isinstance(row[0], int | str) else None,
            changed_at=moment(row[2]),
            changed_by=None if row[3] is None else str(row[3]),
        )

    def same(self, row: Row, old: Mapping[str, Any]) -> bool:
        """Whether the row still holds the native values of `old`."""
        types = self.binding.local_types
        now = dict(zip(self.binding.locals, row[HEADER:], strict=True))
        return all(is_unchanged(types[local], now[local], old[local]) for local in old if local in now)
