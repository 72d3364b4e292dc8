"""A store over a database's table `t`, and changes of its records, whose key is the text `k` if no other is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evsync.accessor import Change, Row
from evsync.binding import Binding, Field
from evsync.store import Store
from evsync.testing.conformance import always


def bound(store: Store, key: str | tuple[str, ...] = "k", id: str | None = None, **types: str) -> Store:
    """The store with the type "t" bound: its key and these fields; `changed_at` and `changed_by` are not among them, but
    say when and by whom."""
    keys = (key,) if isinstance(key, str) else key
    fields = dict.fromkeys(keys, "str") | types
    at, by = (name if fields.pop(name, None) else None for name in ("changed_at", "changed_by"))
    store.bind(Binding("t", keys, tuple(Field(n, n, fields[n]) for n in sorted(fields)), id, at, by))
    return store


def rows(store: Store) -> list[Row]:
    """All that the table holds, as a scan shows it."""
    return [row for batch in store.accessor("t").scan(store, "t") for row in batch]


def create(**values: Any) -> Change:
    return Change("create", None, {"k": values.get("k")}, values, always("write"))


def update(id: int | str | None, name: Mapping[str, Any], **values: Any) -> Change:
    return Change("update", id, dict(name), values, always("write"))


def delete(id: int | str | None, **name: Any) -> Change:
    return Change("delete", id, name, {}, always("write"))
