"""Records kept in memory: for tests, and as the smallest example of an accessor.

The records live on the store (`store.options["records"]`: type → id or key → fields), so that the accessor
itself stays without state and the records go when the store goes. Values are kept as the Python objects that
were given; only the six methods are offered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from evsync.accessor import Accessor
from evsync.data import Data
from evsync.errors import Refused
from evsync.store import Store
from evsync.values import ABSENT, dump, infer, same

Fields = dict[str, Any]


class MemoryAccessor(Accessor):
    """Keeps records in a dictionary: by a number of its own with `assign_ids`, else by their key."""

    options: ClassVar[Mapping[str, str]] = {
        "assign_ids": "true: every record gets a number as the store's own id; else it is known by its key",
        "records": "where the records are kept: {type: {id or key: fields}}; made when it is missing",
    }

    def assigns(self, store: Store, type: str) -> bool:
        return _assigns_ids(store, type)

    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        return _data(store, type, id) if _assigns_ids(store, type) and id in _records(store, type) else None

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        place = _place(store, Data(type, dict(name)))
        return None if place is None else _data(store, type, place)

    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        """All records there were at the start, or those that match."""
        for place, fields in list(_records(store, type).items()):
            if all(_alike(fields.get(local, ABSENT), typed) for local, typed in (match or {}).items()):
                yield _data(store, type, place)

    def add(self, store: Store, data: Data) -> Data:
        """Raises Refused if there is a record with this key."""
        records = _records(store, data.type)
        if _place(store, data) is not None:
            raise Refused(f"store {store.name!r} holds the {data.type} {_key(store, data)!r} already")
        place = max(records, default=0) + 1 if _assigns_ids(store, data.type) else _key(store, data)
        records[place] = _present(data.fields)
        return _data(store, data.type, place)

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is not there, is no longer `old`, or takes the key of another one."""
        records, where = _records(store, data.type), f"store {store.name!r}, type {data.type!r}"
        place = _place(store, data if old is None or data.id is not None else old)
        if place is None:
            raise Refused(f"{where}: there is no such record to update: {data.fields!r}")
        now = records[place]
        if old is not None and not all(_alike(now.get(n, ABSENT), v) for n, v in old.fields.items()):
            raise Refused(f"{where}: the record was changed meanwhile: {now!r}")
        fields = _present({**now, **data.fields})
        after = place if _assigns_ids(store, data.type) else _key(store, Data(data.type, fields))
        if after != place and after in records:
            raise Refused(f"{where}: another record has the key {after!r}")
        del records[place]
        records[after] = fields
        return _data(store, data.type, after)

    def remove(self, store: Store, data: Data) -> None:
        _records(store, data.type).pop(_place(store, data), None)


def _records(store: Store, type: str) -> dict[Any, Fields]:
    found: dict[Any, Fields] = store.options.setdefault("records", {}).setdefault(type, {})
    return found


def _assigns_ids(store: Store, type: str) -> bool:
    return bool(store.option(type, "assign_ids", False))


def _key(store: Store, data: Data) -> tuple[Any, ...]:
    return tuple(data.fields.get(local) for local in store.binding(data.type).key_locals)


def _place(store: Store, data: Data) -> Any:
    """Where the record is kept that `data` means, by its id, else by its key; None if it is not there."""
    records = _records(store, data.type)
    assigned = _assigns_ids(store, data.type)
    key = _key(store, data)
    if not assigned or data.id is not None:
        wanted = data.id if assigned else key
        return wanted if wanted in records else None
    return next((p for p, fields in records.items() if _key(store, Data(data.type, fields)) == key), None)


def _data(store: Store, type: str, place: Any) -> Data:
    id = place if _assigns_ids(store, type) else None
    return Data(type, dict(_records(store, type)[place]), id=id)


def _present(fields: Mapping[str, Any]) -> Fields:
    return {local: value for local, value in fields.items() if value is not ABSENT}


def _alike(one: Any, other: Any) -> bool:
    """Equal and of one type: 1 and true are two values, NaN is itself."""
    if one is ABSENT or other is ABSENT:
        return one is other
    kind = infer(one)
    return kind == infer(other) and (kind is None or same(dump(kind, one), dump(kind, other)))
