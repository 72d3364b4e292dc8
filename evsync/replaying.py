"""A run of `replay`: bring stores to the journal's state, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evsync import __version__, audit
from evsync.errors import EvsyncError, GuardTripped, StoreError
from evsync.journal.journal import clock
from evsync.linked import Linked
from evsync.projections.guards import mapping_changed
from evsync.projections.projection import Options, Written
from evsync.projections.projector import guard_leaving, guard_rebuild, replay
from evsync.projections.replicas import binding_state, freeze_types, note
from evsync.projections.staging import Progress
from evsync.report import WRITTEN, Report, as_store_error, code_of
from evsync.store import Store


def run_replay(
    linked: Linked, chosen: Sequence[Store], options: Options, *, strict: bool, progress: Progress | None
) -> Report:
    """Bring the chosen stores to the journal's state. Raises GuardTripped before anything is written."""
    journal, bound = linked.journal, linked.bound
    report = Report(command="replay", ok=True, dry_run=options.dry_run, run=None, stores=[])
    guard_mappings(linked, chosen, options, report)
    if options.rebuild and not options.allow_deletes and sum(len(store.types) for store in chosen) > 1:
        _guard_rebuilds(linked, chosen, options, report)
    if not options.rebuild and not options.allow_deletes:
        _guard_filters(linked, chosen, options, report)
    run = None
    if chosen and not options.dry_run:
        with journal.write():
            run = report["run"] = journal.begin_run("replay", __version__)
            for type in {type: None for store in chosen for type in store.types}:
                freeze_types(journal, type, bound.types[type])
    errors: dict[str, EvsyncError] = {}
    for store in chosen:
        written, error = Written(), bound.errors.get(store.name)
        if error is None:
            try:
                replay(journal, store, linked.ordered(store.types), options, written, progress)
            except (StoreError, OSError) as trouble:
                error = as_store_error(trouble, store)
            except GuardTripped as guard:
                guard.document = report
                report["ok"] = False
                raise
        if error is not None:
            errors[store.name] = error
        entry = _entry(linked, store, written, None if error is None else error.message)
        if options.dry_run:
            entry["plan"] = written.plan
        report["stores"].append(entry)
    report.hints = {name: error.hint for name, error in errors.items()}
    report["ok"] = not errors and not (strict and any(entry["failed"] for entry in report["stores"]))
    if run is not None:
        with journal.write():
            journal.end_run(run, report.counts(WRITTEN))
            for store in chosen:
                if store.name not in errors:
                    note(journal, store.name, "last_replay", clock())
    report.exit_code = code_of(journal, errors, chosen, failures=True)
    if not errors and not report["ok"]:
        report.exit_code = 1
    return report


def guard_mappings(linked: Linked, chosen: Sequence[Store], options: Options, report: Report) -> None:
    """A mapping that changed would write other content than what the store is known to hold. Raises GuardTripped."""
    reasons: dict[tuple[str, str], str] = {}
    for store in chosen:
        if options.rebuild or store.name in linked.bound.errors:
            continue
        for type in store.types:
            state = binding_state(linked.journal, store.name, type)
            binding = store.binding(type)
            now = binding.as_document()
            reason = (
                None
                if state is None
                else mapping_changed(
                    state.mapping, now, binding.open, binding.contract, evolves=store.role != "target"
                )
            )
            if reason is not None:
                reasons[store.name, type] = reason
    if reasons:
        raise _stopped(linked, chosen, reasons, report)


def _guard_rebuilds(linked: Linked, chosen: Sequence[Store], options: Options, report: Report) -> None:
    """No store is written if one of them would lose too much. Raises GuardTripped."""
    tripped: dict[str, list[str]] = {}
    for store in chosen:
        if store.name in linked.bound.errors:
            continue
        try:
            for guard in guard_rebuild(linked.journal, store, linked.ordered(store.types), options):
                tripped.setdefault(store.name, []).append(guard.message)
        except (StoreError, OSError):
            continue  # the rebuild will meet it again, and tell
    if not tripped:
        return
    named = " ".join(f"--store {name}" for name in tripped)
    stopped = GuardTripped(
        "stopped before anything was written: " + "; ".join(one for all in tripped.values() for one in all),
        f"see them with: evsync diff {next(iter(tripped))};"
        f" if that is meant: evsync replay {named} --rebuild --allow-deletes",
    )
    report["ok"] = False
    report["stores"] = [
        _entry(linked, one, Written(), "; ".join(tripped.get(one.name, ())) or None) for one in chosen
    ]
    stopped.document = report
    raise stopped


def _guard_filters(linked: Linked, chosen: Sequence[Store], options: Options, report: Report) -> None:
    """Raises GuardTripped before any store is written."""
    for store in chosen:
        if store.name in linked.bound.errors:
            continue
        try:
            guard_leaving(linked.journal, store, store.types, options)
        except GuardTripped as guard:
            report["ok"] = False
            report["stores"] = [
                _entry(linked, one, Written(), guard.message if one is store else None) for one in chosen
            ]
            guard.document = report
            raise


def _stopped(
    linked: Linked, chosen: Sequence[Store], reasons: Mapping[tuple[str, str], str], report: Report
) -> GuardTripped:
    told: dict[str, str] = {}
    for (name, _), reason in reasons.items():
        told[name] = f"{told[name]}; {reason}" if name in told else reason
    ways = [
        f"evsync replay --store {name} --rebuild"
        if linked.stores[name].role == "target"
        else f"evsync ingest {name} --allow-mapping"
        for name in told
    ]
    guard = GuardTripped(
        "stopped before anything was written: "
        + "; ".join(f"store {name!r}, type {type!r}: {reason}" for (name, type), reason in reasons.items()),
        f"if that is meant: {' && '.join(ways)}",
    )
    report["ok"] = False
    report["stores"] = [_entry(linked, one, Written(), told.get(one.name)) for one in chosen]
    guard.document = report
    return guard


def _entry(linked: Linked, store: Store, written: Written, error: str | None) -> dict[str, object]:
    return {
        "store": store.name,
        **{name: getattr(written, name) for name in WRITTEN},
        "cursor": audit.cursor(linked.journal, store),
        "head": linked.journal.head().seq,
        "error": error,
    }
