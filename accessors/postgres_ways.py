"""The ways in which PostgreSQL's changes are captured, and which one a store goes: `wal` out of the log, or `triggers`."""

from __future__ import annotations

from typing import Literal

import msgspec

from accessors import postgres_capture as wal
from accessors import postgres_triggers as triggers
from accessors.captures import capture_mode
from accessors.postgres_connection import Connection, slot_name, transaction
from accessors.postgres_offer import lacks_for_wal
from evsync.accessor import Captured
from evsync.errors import ConfigError
from evsync.store import Store

MODES = ("auto", "wal", "triggers", "scan")

Way = Literal["wal", "triggers"]


def mode(store: Store, type: str) -> str:
    """How changes are to be found, as configured. Raises ConfigError."""
    return capture_mode(store, type, MODES)


def asked(store: Store) -> str:
    """The same of the store as a whole. Its types are told in one sequence, so all go one way."""
    modes = list(dict.fromkeys(mode(store, type) for type in store.types or ("",)))
    others = [one for one in modes if one != "scan"]
    if len(others) > 1:
        raise ConfigError(
            f"store {store.name!r}: its types have different ways of capture: {', '.join(others)}",
            f"set capture once, in [stores.{store.name}]",
        )
    return others[0] if others else "scan"


def way(connection: Connection, store: Store) -> Way | None:
    """The way that is set up, of those that the configuration allows; out of the log first."""
    wanted = asked(store)
    if wanted in ("auto", "wal") and _has_slot(connection, store):
        return "wal"
    if wanted in ("auto", "triggers") and triggers.queue(connection, store) is not None:
        return "triggers"
    return None


def is_captured(connection: Connection, store: Store, type: str) -> bool:
    """Whether the changes of a type's table are captured."""
    found = way(connection, store)
    if found is None:
        return False
    if found == "wal":
        return wal.is_captured(connection, store, type)
    return triggers.is_captured(connection, store, type)


def install(connection: Connection, store: Store) -> list[str]:
    """Set up what is missing, on a connection without a transaction; answers with what was done. Raises StoreError."""
    wanted = asked(store)
    if wanted == "auto":
        wanted = way(connection, store) or ("wal" if _may_stream(connection, store) else "triggers")
    return wal.install(connection, store) if wanted == "wal" else triggers.install(connection, store)


def uninstall(connection: Connection, store: Store) -> list[str]:
    """Take away whatever there is."""
    return [*wal.uninstall(connection, store), *triggers.uninstall(connection, store)]


def status(connection: Connection, store: Store) -> Captured:
    """How the capture of a store stands."""
    wanted, slot, queue = asked(store), _has_slot(connection, store), triggers.queue(connection, store)
    found = way(connection, store)
    again = f"evsync capture remove {store.name}"
    if found is None and wanted in ("wal", "triggers"):
        what = (
            "the triggers are not set up"
            if wanted == "triggers"
            else f"there is no slot {slot_name(connection, store)!r}"
        )
        state = Captured(wanted, False, what, f"evsync capture install {store.name}", absent=True)
    elif found == "wal":
        state = wal.status(connection, store)
    elif found == "triggers" and queue is not None:
        state = triggers.status(connection, store, queue)
    else:
        state = Captured("scan", True, "by comparing: an ingest sees the last state, not each step")
    left = []
    if slot and found != "wal":
        left.append(f"the slot {slot_name(connection, store)!r} is there and keeps the log")
    if queue is not None and found != "triggers":
        left.append(f"triggers are there and fill the queue {queue.sql}")
    if not left or not (state.ok or found is None):
        return state
    hint = again if wanted == "scan" else f"{again}, then: evsync capture install {store.name}"
    why = (
        "but the configuration says " + wanted
        if wanted != "auto"
        else "beside the slot, which is what is read"
    )
    return msgspec.structs.replace(
        state, ok=False, absent=False, detail=f"{' and '.join(left)}, {why}", hint=hint
    )


def _has_slot(connection: Connection, store: Store) -> bool:
    found = wal.slot(connection, slot_name(connection, store))
    return found is not None and found.ours


def _may_stream(connection: Connection, store: Store) -> bool:
    """Whether there is nothing that keeps us from reading the log."""
    with transaction(connection):
        return next(lacks_for_wal(connection, store), None) is None
