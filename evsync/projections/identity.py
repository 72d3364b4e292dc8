"""Whether a store's id still means the record that it meant: stores deal out the ids of deleted records again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from evsync.journal.event import Fields
from evsync.values import ABSENT, equivalent


def is_another(
    had: Fields, now: Fields, key: Collection[str], types: Mapping[str, str], created_at: str | None
) -> bool:
    """Whether the record of this id, whose key fields changed, is another one. `had` and `now`: what it held and holds;
    `created_at`: the field that says when a record came to be, if there is one."""
    if created_at is not None:
        then, since = had.get(created_at, ABSENT), now.get(created_at, ABSENT)
        if then not in (None, ABSENT) and since not in (None, ABSENT):
            return not equivalent(types[created_at], then, since)
    compared = [
        name
        for name in had.keys() & now.keys()
        if name not in key and had[name] is not None and now[name] is not None
    ]
    return bool(compared) and not any(equivalent(types[name], had[name], now[name]) for name in compared)
