"""A run of `ingest`: read every store, ask the guards, and only then journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from evsync import __version__
from evsync.accessor import CanDescribe, CanFeed
from evsync.errors import EvsyncError, GuardTripped, StoreError, Unreachable
from evsync.journal.journal import Journal, clock
from evsync.linked import Linked
from evsync.projections.feeding import enter_feed, stage_feed
from evsync.projections.guarding import Allowed, Tripped, guard
from evsync.projections.ingest import Adoption, Counts, Ingest
from evsync.projections.merge import Rules
from evsync.projections.references import forget_expected, reader_of
from evsync.projections.replicas import (
    BindingState,
    Replicas,
    binding_state,
    clear_intents,
    ensure_binding,
    freeze_types,
    look_at_all,
    note,
    only_elsewhere,
    set_mapping,
    set_mark,
    set_position,
)
from evsync.projections.spool import Doubled
from evsync.projections.staging import Progress, Staged, duplicate_key, ids_ahead, stage
from evsync.projections.untouched import as_before, mark_now, remembered
from evsync.report import COUNTS, Report, as_store_error, code_of
from evsync.settling import settle
from evsync.store import Store


def run_ingest(
    linked: Linked,
    chosen: Sequence[Store],
    *,
    dry_run: bool,
    allowed: Allowed,
    progress: Progress | None,
    command: str = "ingest",
    scan: bool = False,
) -> Report:
    """Observe the chosen stores and journal what changed. Raises GuardTripped before anything is journalled.
    `command`: what the person called, to be told with the option that lets it through. `scan`: read what nobody seems
    to have touched, too."""
    journal, bound = linked.journal, linked.bound
    errors: dict[str, EvsyncError] = {
        store.name: bound.errors[store.name] for store in chosen if store.name in bound.errors
    }
    staged: list[tuple[Store, str, Staged]] = []
    tripped: dict[tuple[str, str], list[Tripped]] = {}
    forget_expected(journal)
    for store, type in [(one, name) for one in chosen for name in linked.ordered(one.types)]:
        if store.name in bound.errors:
            continue
        try:
            if yet_to_come(linked, store, type):
                continue
            read = {name for one, name, _ in staged if one is store}
            for parent in {f.references for f in store.binding(type).translated} - read:
                assert parent is not None  # of its own type, or in a circle
                ids_ahead(journal, store, parent)
            state = binding_state(journal, store.name, type)
            mark = mark_now(store, type)
            skipped = None if scan else as_before(journal, store, type, state, mark)
            found = skipped or _read(linked, store, type, state, progress, scan)
            found.mark = mark
        except (StoreError, OSError) as error:
            errors.setdefault(store.name, as_store_error(error, store))
            continue
        staged.append((store, type, found))
        reasons = guard(journal, store, type, found, state, allowed)
        if reasons:
            tripped[store.name, type] = reasons
    report = Report(command="ingest", ok=True, dry_run=dry_run, run=None, first=None, last=None, stores=[])
    if tripped:
        for _, _, found in staged:
            found.different.discard()
        raise _stopped(report, chosen, tripped, command)
    return _enter(linked, chosen, staged, errors, report, progress)


def _read(
    linked: Linked,
    store: Store,
    type: str,
    state: BindingState | None,
    progress: Progress | None,
    scan: bool,
) -> Staged:
    """Read a type of a store: by its own feed where it has one and was read before, else, or to `scan`, all of it."""
    accessor, journal = store.accessor(type), linked.journal
    if not isinstance(accessor, CanFeed):
        streams = accessor.snapshot and not (linked.types[type].match or store.binding(type).translated)
        return stage(journal, store, type, state, progress, streams)
    mapping = store.binding(type).as_document()
    if state is not None and state.position is not None and state.mapping == mapping and not scan:
        return stage_feed(journal, store, type, state, accessor, progress)
    position = accessor.position(store, type)
    found = stage(journal, store, type, state, progress)
    found.position = position
    return found


def _enter(
    linked: Linked,
    chosen: Sequence[Store],
    staged: Sequence[tuple[Store, str, Staged]],
    errors: dict[str, EvsyncError],
    report: Report,
    progress: Progress | None,
) -> Report:
    journal = linked.journal
    before = journal.head().seq
    known = {type for type in {type for _, type, _ in staged} if journal.has_type(type)}
    with journal.write():
        run = journal.begin_run("ingest", __version__)
        for type in {type: None for _, type, _ in staged}:
            freeze_types(journal, type, linked.bound.types[type])
    totals = {store.name: Counts() for store in chosen}
    created: dict[str, int] = {}
    adoptions: dict[tuple[str, str], Adoption] = {}
    read: list[Store] = []
    for store, type, found in staged:
        with journal.write():
            state = ensure_binding(journal, store.name, type)
        reader = reader_of(journal, store, type)
        ingest = Ingest(
            journal,
            store,
            type,
            reader,
            linked.rules.get(type, Rules()),
            state,
            run,
            linked.types[type].match,
        )
        try:
            _enter_one(ingest, found, progress)
        except StoreError as broken:  # it was read meanwhile
            errors.setdefault(store.name, broken)
            continue
        finally:
            totals[store.name].add(ingest.counts)
            created[type] = created.get(type, 0) + ingest.counts.created
        read.append(store)
        if found.first_met and (state.mapping is None or found.found):
            adoptions[store.name, type] = ingest.adoption()
        with journal.write():
            if found.position is not None:
                set_position(journal, state.id, found.position)
            mapping = store.binding(type).as_document()
            if state.mapping is not None and any(
                state.mapping.get(name) != mapping.get(name) for name in ("where", "read_only", "write_only")
            ):
                look_at_all(journal, state.id, type)
            set_mapping(journal, state.id, mapping)
            clear_intents(journal, state.id)
            replicas = Replicas(journal, state.id)
            replicas.quarantine(found.bad, clock())
            if not found.as_before:
                settled = ingest.complete and not found.bad and found.mark is not None
                set_mark(journal, state.id, remembered(found.mark, replicas.count()) if settled else None)
    settle(journal, run)
    for store in chosen:
        error = errors.get(store.name)
        report["stores"].append(
            {
                "store": store.name,
                **{name: getattr(totals[store.name], name) for name in COUNTS},
                "adoption": _adoption(journal, store, adoptions, known, created),
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
        for store in read:
            note(journal, store.name, "last_ingest", clock())
    report.exit_code = code_of(journal, errors, chosen)
    return report


def _enter_one(ingest: Ingest, found: Staged, progress: Progress | None) -> None:
    """Raises StoreError where the store is only read now."""
    if found.by_feed:
        enter_feed(ingest, found, progress)
        return
    try:
        ingest.enter(found, progress)
    except Doubled as double:
        raise duplicate_key(ingest.store, ingest.type, ingest.reader, double.key) from None


def _adoption(
    journal: Journal,
    store: Store,
    adoptions: Mapping[tuple[str, str], Adoption],
    known: Collection[str],
    created: Mapping[str, int],
) -> dict[str, int] | None:
    """How a store met for the first time compares with the journal, now that all stores were entered."""
    total = None
    for (name, type), adoption in adoptions.items():
        if name != store.name:
            continue
        total = total or Adoption()
        if type in known:
            state = binding_state(journal, name, type)
            assert state is not None
            adoption.missing = only_elsewhere(journal, type, state.id)
        else:  # all that there is was created in this run
            adoption.missing = created[type] - adoption.new - adoption.matched - adoption.differ
        total.add(adoption)
    return None if total is None else msgspec.structs.asdict(total)


def yet_to_come(linked: Linked, store: Store, type: str) -> bool:
    """Whether the store is one that a replay will create: not there, never was, and there is something to create it from."""
    journal, bound = linked.journal, linked.bound
    if (store.name, type) not in bound.missing or store.role == "source":
        return False
    accessor = store.accessor(type)
    if isinstance(accessor, CanDescribe) and accessor.describe(store, type) is not None:
        bound.missing.discard((store.name, type))  # it came since
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


def _stopped(
    report: Report,
    chosen: Sequence[Store],
    tripped: Mapping[tuple[str, str], Sequence[Tripped]],
    command: str,
) -> GuardTripped:
    """The error that ends the run, with the report of what was about to happen."""
    report["ok"] = False
    options: dict[str, dict[str, None]] = {}
    for store in chosen:
        told = []
        for (name, type), reasons in tripped.items():
            if name == store.name:
                told += [f"type {type!r}: {one.reason}" for one in reasons]
                options.setdefault(name, {}).update(dict.fromkeys(one.option for one in reasons))
        error = "; ".join(told) or None
        report["stores"].append(
            {"store": store.name, **dict.fromkeys(COUNTS, 0), "adoption": None, "error": error}
        )
    if command == "ingest":
        ways = [f"evsync ingest {name} {' '.join(allowing)}" for name, allowing in options.items()]
    else:
        ways = [f"evsync {command} {' '.join({o: None for one in options.values() for o in one})}"]
    stopped = GuardTripped(
        "stopped before anything was journalled or written: "
        + "; ".join(
            f"store {name!r}, type {type!r}: {one.reason} ({one.ahead})"
            for (name, type), reasons in tripped.items()
            for one in reasons
        ),
        f"if that is meant: {' && '.join(ways)}",
    )
    report.exit_code = stopped.exit_code
    stopped.document = report
    return stopped
