"""A run of `ingest`: read every store, ask the guards, and only then journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evsync import __version__
from evsync.accessor import CanFeed
from evsync.errors import EvsyncError, GuardTripped, StoreError, Unreachable
from evsync.journal.journal import Journal, clock
from evsync.linked import Linked
from evsync.projections.feeding import enter_feed, stage_feed
from evsync.projections.guards import emptied, mapping_changed, too_many_deletes
from evsync.projections.ingest import Counts, Ingest
from evsync.projections.merge import Rules
from evsync.projections.reader import Reader
from evsync.projections.replicas import (
    BindingState,
    Replicas,
    binding_state,
    clear_intents,
    ensure_binding,
    freeze_types,
    note,
    set_mapping,
    set_position,
)
from evsync.projections.staging import Progress, Staged, stage
from evsync.report import COUNTS, Report, as_store_error, code_of
from evsync.store import Store


def run_ingest(
    linked: Linked,
    chosen: Sequence[Store],
    *,
    dry_run: bool,
    allow_deletes: bool,
    allow_mapping: bool,
    progress: Progress | None,
) -> Report:
    """Observe the chosen stores and journal what changed. Raises GuardTripped before anything is journalled."""
    journal, bound = linked.journal, linked.bound
    errors: dict[str, EvsyncError] = {
        store.name: bound.errors[store.name] for store in chosen if store.name in bound.errors
    }
    staged: list[tuple[Store, str, Staged]] = []
    reasons: dict[str, list[tuple[str, str]]] = {}
    for store, type in [(one, name) for one in chosen for name in linked.ordered(one.types)]:
        if store.name in bound.errors:
            continue
        try:
            if yet_to_come(linked, store, type):
                continue
            state = binding_state(journal, store.name, type)
            found = _read(journal, store, type, state, progress)
        except (StoreError, OSError) as error:
            errors.setdefault(store.name, as_store_error(error, store))
            continue
        staged.append((store, type, found))
        tripped = _guards(
            store, type, found, None if state is None else state.mapping, allow_deletes, allow_mapping
        )
        if tripped:
            reasons.setdefault(store.name, []).append(tripped)
    report = Report(command="ingest", ok=True, dry_run=dry_run, run=None, first=None, last=None, stores=[])
    if reasons:
        for _, _, found in staged:
            found.different.discard()
        raise _stopped(report, chosen, reasons)
    return _enter(linked, chosen, staged, errors, report, progress)


def _read(
    journal: Journal, store: Store, type: str, state: BindingState | None, progress: Progress | None
) -> Staged:
    """Read a type of a store: by its own feed where it has one and was read before, else all of it."""
    accessor = store.accessor(type)
    if not isinstance(accessor, CanFeed):
        return stage(journal, store, type, state, progress)
    mapping = store.binding(type).as_document()
    if state is not None and state.position is not None and state.mapping == mapping:
        return stage_feed(journal, store, type, state, accessor, progress)
    position = accessor.position(store, type)
    found = stage(journal, store, type, state, progress)
    found.position = position
    return found


def _enter(
    linked: Linked,
    chosen: Sequence[Store],
    staged: Sequence[tuple[Store, str, Staged]],
    errors: Mapping[str, EvsyncError],
    report: Report,
    progress: Progress | None,
) -> Report:
    journal = linked.journal
    before = journal.head().seq
    with journal.write():
        run = journal.begin_run("ingest", __version__)
        for type in {type: None for _, type, _ in staged}:
            freeze_types(journal, type, linked.bound.types[type])
    totals = {store.name: Counts() for store in chosen}
    for store, type, found in staged:
        with journal.write():
            state = ensure_binding(journal, store.name, type)
        reader = Reader(store.binding(type), store.accessor(type))
        ingest = Ingest(journal, store, type, reader, linked.rules.get(type, Rules()), state, run)
        if found.by_feed:
            enter_feed(ingest, found, progress)
        else:
            ingest.enter(found, progress)
        totals[store.name].add(ingest.counts)
        with journal.write():
            if found.position is not None:
                set_position(journal, state.id, found.position)
            set_mapping(journal, state.id, store.binding(type).as_document())
            clear_intents(journal, state.id)
            Replicas(journal, state.id).quarantine(found.bad, clock())
    for store in chosen:
        error = errors.get(store.name)
        report["stores"].append(
            {
                "store": store.name,
                **{name: getattr(totals[store.name], name) for name in COUNTS},
                "error": None if error is None else error.message,
            }
        )
    last = journal.head().seq
    report["run"] = None if report["dry_run"] else run
    if last > before:
        report["first"], report["last"] = before + 1, last
    report["ok"] = not errors
    report.hints = {name: error.hint for name, error in errors.items()}
    with journal.write():
        journal.end_run(run, report.counts(COUNTS))
        for store, _, _ in staged:
            note(journal, store.name, "last_ingest", clock())
    report.exit_code = code_of(journal, errors, chosen)
    return report


def yet_to_come(linked: Linked, store: Store, type: str) -> bool:
    """Whether the store is one that a replay will create: not there, never was, and there is something to create it from."""
    journal, bound = linked.journal, linked.bound
    if (store.name, type) not in bound.missing or store.role == "source":
        return False
    state = binding_state(journal, store.name, type)
    if state is not None and Replicas(journal, state.id).any():
        raise Unreachable(
            f"store {store.name!r}: {store.shown_url} is not there any more (type {type!r})",
            f"bring it back, or fill a new one: evsync replay --store {store.name} --rebuild",
        )
    others = (
        other
        for other in linked.stores.values()
        if type in other.types and other.role != "target" and other is not store
    )
    return journal.has_type(type) or any((other.name, type) not in bound.missing for other in others)


def _guards(
    store: Store,
    type: str,
    found: Staged,
    mapping: Mapping[str, Any] | None,
    allow_deletes: bool,
    allow_mapping: bool,
) -> tuple[str, str] | None:
    """The reason why this looks like an accident, and the option that allows it."""
    if not allow_mapping:
        binding = store.binding(type)
        reason = mapping_changed(mapping, binding.as_document(), binding.open)
        if reason:
            return f"type {type!r}: {reason}", "--allow-mapping"
    if not allow_deletes:
        reason = None if found.by_feed else emptied(found.known, found.found)
        reason = reason or too_many_deletes(found.known, found.gone, store.max_deletes)
        if reason:
            return f"type {type!r}: {reason}", "--allow-deletes"
    return None


def _stopped(
    report: Report, chosen: Sequence[Store], reasons: Mapping[str, list[tuple[str, str]]]
) -> GuardTripped:
    """The error that ends the run, with the report of what was about to happen."""
    report["ok"] = False
    for store in chosen:
        told = "; ".join(reason for reason, _ in reasons.get(store.name, []))
        report["stores"].append({"store": store.name, **dict.fromkeys(COUNTS, 0), "error": told or None})
    name = next(iter(reasons))
    options = " ".join(dict.fromkeys(option for _, option in reasons[name]))
    guard = GuardTripped(
        f"stopped before anything was journalled: store {name!r}, "
        + "; ".join(reason for reason, _ in reasons[name]),
        f"if that is meant: evsync ingest {name} {options}",
    )
    report.exit_code = guard.exit_code
    guard.document = report
    return guard
