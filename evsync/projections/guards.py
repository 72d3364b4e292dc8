"""The guards: what is more likely an accident than an intention. Each is a pure predicate with its reason.

They are asked after a store was read and before anything is journalled. An answer is the sentence to be told;
None: nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evsync.values import encode

ENOUGH = 10
"""So many records do not all change at once by themselves."""

SELECTION = {"where": "filter", "read_only": "read_only", "write_only": "write_only", "convert": "convert"}
"""What else a mapping says, and how it is called."""


def emptied(known: int, found: int) -> str | None:
    """A store that held records and now shows none: a truncated file, a wrong path, an expired login."""
    if known and not found:
        return f"it held {known} record{_s(known)} and now shows none"
    return None


def too_many_deletes(known: int, gone: int, limit: int | str) -> str | None:
    """More records gone than `limit` (a count, or a percentage of the known ones)."""
    if not gone:
        return None
    if _exceeds(gone, known, limit):
        return f"{gone} of {known} known records are gone, more than max_deletes = {limit!r} allows"
    return None


def too_many_changes(known: int, changed: int, unchanged: int, limit: int | str | None) -> str | None:
    """More known records changed than `limit` (a count, or a percentage of the known ones). Without a limit: all
    that are still there, if there are enough to tell an accident from a day's work."""
    if limit is not None:
        if changed and _exceeds(changed, known, limit):
            return f"{changed} of {known} known records changed, more than max_changes = {limit!r} allows"
        return None
    if unchanged or changed < ENOUGH:
        return None
    return f"all {changed} known records changed at once: a clock, a format, another file?"


def _exceeds(count: int, known: int, limit: int | str) -> bool:
    if isinstance(limit, str):
        return count * 100 > float(limit.removesuffix("%")) * known
    return count > limit


def mapping_changed(
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    open: bool = False,
    contract: str = "evolve",
    *,
    evolves: bool = True,
) -> str | None:
    """Another mapping reads other content out of the same store; taken for edits, it would spread everywhere.

    `open`: the store's records may come to have further fields by themselves, which is no change of mapping.
    `contract`: what it means if a store's columns changed. Under `evolve` one that was added is a further field, if
    the store is one that is ingested (`evolves`)."""
    if before is None or before == now:
        return None
    told = []
    old, new = before.get("fields", {}), now.get("fields", {})
    had, has = before.get("columns"), now.get("columns")
    if contract == "freeze" and had is not None and has is not None:
        told += _columns_changed(had, has)
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            if has is None or had is None or old[name][0] in has:
                told.append(f"field {name!r} is no longer mapped")
            elif contract == "freeze":
                told[told.index(_gone(old[name][0]))] = _field_gone(name, old[name][0])
            else:
                told.append(_field_gone(name, old[name][0]))
        elif name not in old and open and contract != "freeze":
            continue
        elif name not in old and had is not None and has is not None and new[name][0] not in had:
            if contract == "freeze":
                continue  # told already
            if contract != "evolve" or not evolves:
                told.append(f"field {name!r} is new")
        elif name not in old:
            told.append(f"field {name!r} is new")
        elif old[name] != new[name]:
            told.append(f"field {name!r} was {_mapped(old[name])}, now {_mapped(new[name])}")
    for what in ("key", "id", "options"):
        if before.get(what) != now.get(what):
            told.append(f"{what} was {before.get(what)!r}, now {now.get(what)!r}")
    for what, word in SELECTION.items():
        if before.get(what) != now.get(what):
            told.append(f"{word} was {_said(before.get(what))}, now {_said(now.get(what))}")
    if not told:
        return None
    return "its mapping changed since the last run: " + "; ".join(told)


def _columns_changed(had: Mapping[str, str | None], has: Mapping[str, str | None]) -> list[str]:
    told = []
    for local in sorted(had.keys() | has.keys()):
        if local not in has:
            told.append(_gone(local))
        elif local not in had:
            told.append(f"column {local!r} is new")
        elif had[local] != has[local]:
            told.append(f"column {local!r} was declared {_said(had[local])}, now {_said(has[local])}")
    return told


def _gone(local: str) -> str:
    return f"column {local!r} is gone"


def _field_gone(name: str, local: str) -> str:
    return (
        f"column {local!r}, which held the field {name!r}, is gone"
        f' (if it has another name now, map it: fields = {{ {name} = "…" }})'
    )


def _said(told: Any) -> str:
    return "none" if not told else told if isinstance(told, str) else encode(told).decode()


def _mapped(pair: Any) -> str:
    return f"{pair[0]!r} ({pair[1]})"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
