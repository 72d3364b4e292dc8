"""The guards: what is more likely an accident than an intention. Each is a pure predicate with its reason.

They are asked after a store was read and before anything is journalled. An answer is the sentence to be told;
None: nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def emptied(known: int, found: int) -> str | None:
    """A store that held records and now shows none: a truncated file, a wrong path, an expired login."""
    if known and not found:
        return f"it held {known} record{_s(known)} and now shows none"
    return None


def too_many_deletes(known: int, gone: int, limit: int | str) -> str | None:
    """More records gone than `limit` (a count, or a percentage of the known ones)."""
    if not gone:
        return None
    if isinstance(limit, str):
        percent = float(limit.removesuffix("%"))
        if gone * 100 > percent * known:
            return f"{gone} of {known} known records are gone, more than max_deletes = {limit!r} allows"
        return None
    if gone > limit:
        return f"{gone} of {known} known records are gone, more than max_deletes = {limit} allows"
    return None


def mapping_changed(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], open: bool = False
) -> str | None:
    """Another mapping reads other content out of the same store; taken for edits, it would spread everywhere.

    `open`: the store's records may come to have further fields by themselves, which is no change of mapping."""
    if before is None or before == now:
        return None
    told = []
    old, new = before.get("fields", {}), now.get("fields", {})
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            told.append(f"field {name!r} is no longer mapped")
        elif name not in old and open:
            continue
        elif name not in old:
            told.append(f"field {name!r} is new")
        elif old[name] != new[name]:
            told.append(f"field {name!r} was {_mapped(old[name])}, now {_mapped(new[name])}")
    for what in ("key", "id", "options"):
        if before.get(what) != now.get(what):
            told.append(f"{what} was {before.get(what)!r}, now {now.get(what)!r}")
    if not told:
        return None
    return "its mapping changed since the last run: " + "; ".join(told)


def _mapped(pair: Any) -> str:
    return f"{pair[0]!r} ({pair[1]})"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
