"""Setting up what a store's feed needs, taking it away, and saying how it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from evsync.accessor import CanCapture, CanCheckPosition, CanDescribe, CanFeed, CanOfferCapture, Captured, Way
from evsync.errors import EvsyncError, StoreError, Unreachable, UsageError
from evsync.journal.journal import Journal
from evsync.projections.replicas import LOST, binding_state, ensure_binding, set_position
from evsync.report import Report, as_store_error
from evsync.store import Store

SCAN = "by comparing: an ingest sees the last state, not each step"


def capturer(store: Store) -> CanCapture | None:
    """What captures the changes of a store, if anything can."""
    accessor = store.accessor(next(iter(store.types), ""))
    return accessor if isinstance(accessor, CanCapture) else None


def captured(store: Store) -> Captured:
    """What captures a store's changes. Raises StoreError."""
    found = capturer(store)
    return Captured("scan", True, SCAN) if found is None else found.captured(store)


def standing(store: Store, journal: Journal) -> Captured:
    """The same, and whether it did so ever since the last ingest. Where nothing was set up so far, whether it can be."""
    if not _is_followed(store, journal) and _is_to_be_made(store):
        return Captured("scan", True, "it is not there yet")
    state = captured(store)
    if state.absent and not _is_followed(store, journal):
        return _to_come(store, state)
    lost = lost_types(store, journal) if state.ok else []
    if lost:
        install = "" if state.mode != "scan" else f"evsync capture install {store.name}, then: "
        return Captured(
            state.mode,
            False,
            f"type {lost[0]!r}: its changes were captured, but not all the while since the last ingest",
            f"{install}evsync ingest {store.name} --accept-gap",
            state.waiting,
            state.retained,
            [type for type in state.types if type not in lost],
        )
    return _checked(store, journal, state) if state.ok else state


def _checked(store: Store, journal: Journal, state: Captured) -> Captured:
    """The same, unless the feed does not go on from where it was read last."""
    accessor = store.accessor(next(iter(store.types), ""))
    if state.mode == "scan" or not isinstance(accessor, CanCheckPosition):
        return state
    states = {type: binding_state(journal, store.name, type) for type in store.types}
    since = {
        type: found.position
        for type, found in states.items()
        if found is not None and found.position is not None
    }
    try:
        if since:
            accessor.check_position(store, since)
    except StoreError as error:
        return msgspec.structs.replace(state, ok=False, detail=error.message, hint=error.hint)
    return state


def _is_followed(store: Store, journal: Journal) -> bool:
    states = (binding_state(journal, store.name, type) for type in store.types)
    return any(state is not None and state.position is not None for state in states)


def _is_to_be_made(store: Store) -> bool:
    """Whether a replay has yet to create all of it."""
    if store.role == "source" or not store.types:
        return False
    accessors = {type: store.accessor(type) for type in store.types}
    return all(
        isinstance(one, CanDescribe) and one.describe(store, type) is None for type, one in accessors.items()
    )


def _to_come(store: Store, state: Captured) -> Captured:
    accessor = capturer(store)
    ways: list[Way] = accessor.ways(store) if isinstance(accessor, CanOfferCapture) else []
    needs = [need for way in ways if way.mode == state.mode for need in way.needs]
    if needs:
        return msgspec.structs.replace(
            state, detail=f"{state.detail}, nor could they be: {needs[0]}", hint=""
        )
    return msgspec.structs.replace(
        state, ok=True, detail=f"{state.detail} so far: the next ingest does that", hint=""
    )


def kept(store: Store, journal: Journal) -> dict[str, Any]:
    """What a store keeps for us, of which we follow the changes: how they are captured, the bytes that wait for us, and
    what is amiss. Nothing of a store that is compared: it is not asked."""
    if capturer(store) is None or not _is_followed(store, journal):
        return {}
    try:
        state = standing(store, journal)
    except (StoreError, OSError, UsageError) as raised:
        return {"capture": None, "retained": None, "trouble": as_store_error(raised, store).message}
    return {
        "capture": state.mode,
        "retained": state.retained,
        "trouble": None if state.ok else state.detail,
    }


def lost_types(store: Store, journal: Journal) -> list[str]:
    """The types whose feed was followed, but does not go on from there."""
    lost = []
    for type in store.types:
        state, accessor = binding_state(journal, store.name, type), store.accessor(type)
        if state is None or state.position is None or not isinstance(accessor, CanFeed):
            continue
        if store.option(type, "capture") == "scan":
            continue
        if state.position == LOST or not accessor.feeds(store, type):
            lost.append(type)
    return lost


def install(stores: Sequence[Store], journal: Journal) -> Report:
    """Have the changes of these stores captured from now on. What was captured before, but not any more, has a gap
    from then on."""

    def one(store: Store) -> list[str]:
        found = capturer(store)
        if found is None:
            raise UsageError(
                f"store {store.name!r}: a store like {store.shown_url} cannot capture its changes",
                "it is read by comparing, which needs nothing to be set up",
            )
        if store.option(next(iter(store.types), ""), "capture") == "scan":
            raise UsageError(
                f'store {store.name!r} has capture = "scan"',
                f'set capture = "auto" in [stores.{store.name}], then install',
            )
        for type in store.types if store.role != "source" else ():
            accessor = store.accessor(type)
            if isinstance(accessor, CanDescribe) and accessor.describe(store, type) is None:
                raise Unreachable(
                    f"store {store.name!r}: {store.shown_url} is not there yet (type {type!r})",
                    f"have it created and filled first: evsync sync, then evsync capture install {store.name}",
                )
        lost = lost_types(store, journal)
        done = found.install(store)
        with journal.write():
            for type in lost:
                set_position(journal, ensure_binding(journal, store.name, type).id, LOST)
        return done

    return _each(stores, one, captured)


def remove(stores: Sequence[Store], journal: Journal) -> Report:
    """Leave nothing behind in these stores; from then on they are compared."""

    def one(store: Store) -> list[str]:
        found = capturer(store)
        done = [] if found is None else found.uninstall(store)
        with journal.write():
            for type in store.types:
                state = binding_state(journal, store.name, type)
                if state is not None and state.position is not None:
                    set_position(journal, state.id, None)
        return done

    return _each(stores, one, lambda store: standing(store, journal))


def status(stores: Sequence[Store], journal: Journal) -> Report:
    """How it stands."""
    return _each(stores, lambda store: [], lambda store: standing(store, journal))


def _each(
    stores: Sequence[Store], work: Callable[[Store], list[str]], state: Callable[[Store], Captured]
) -> Report:
    report = Report(command="capture", ok=True, stores=[])
    for store in stores:
        entry: dict[str, Any] = {"store": store.name, "done": [], "error": None}
        try:
            entry["done"] = work(store)
            entry.update(msgspec.structs.asdict(state(store)))
            del entry["absent"]
        except (StoreError, OSError, UsageError) as raised:
            error: EvsyncError = as_store_error(raised, store)
            entry["error"] = error.message
            report.hints[store.name] = error.hint
            report.exit_code = max(report.exit_code, error.exit_code)
        else:
            if not entry["ok"]:
                report.exit_code = max(report.exit_code, 3)
        report["stores"].append(entry)
    report["ok"] = report.exit_code == 0
    return report
