"""A run of `ingest`: read every store, ask the guards, and only then journal."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence

import msgspec

from evsync import __version__
from evsync.accessor import CanCapture, CanDescribe, CanFeed, CanScanAt, Row
from evsync.errors import EvsyncError, GuardTripped, PositionLost, StoreError, Unreachable
from evsync.journal.journal import Journal, clock
from evsync.linked import Linked
from evsync.projections.feeding import enter_feed
from evsync.projections.following import Following, follow
from evsync.projections.guarding import Allowed, Tripped, guard
from evsync.projections.ingest import Adoption, Counts, Ingest
from evsync.projections.merge import Rules
from evsync.projections.noting import recall
from evsync.projections.references import forget_expected, reader_of
from evsync.projections.replicas import (
    LOST,
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
    accept_gap: bool = False,
) -> Report:
    """Observe the chosen stores and journal what changed. Raises GuardTripped before anything is journalled.
    `command`: what the person called, to be told with the option that lets it through. `scan`: read what nobody seems
    to have touched, too, and, once it was followed, what has a feed. `accept_gap`: where a feed was lost, go on by comparing."""
    observing = _Observing(linked, chosen, dry_run, allowed, progress, command)
    try:
        report = observing.run(scan, accept_gap)
        observing.reconcile(report, observing.followed if scan else observing.missed)
    finally:
        observing.leave_to_the_next()
    return report


class _Observing:
    """One run over the chosen stores."""

    def __init__(
        self,
        linked: Linked,
        chosen: Sequence[Store],
        dry_run: bool,
        allowed: Allowed,
        progress: Progress | None,
        command: str,
    ) -> None:
        self.linked, self.chosen, self.dry_run = linked, chosen, dry_run
        self.allowed, self.progress, self.command = allowed, progress, command
        self.followed: list[tuple[Store, str]] = []  # types whose feeds were read
        self.missed: list[tuple[Store, str]] = []  # those of them of which they missed something
        # Stores whose capture was set up again: they will not tell once more that they missed something.
        self.mended: set[str] = set()
        self.compared: set[tuple[str, str]] = set()  # types by store
        self.errors: dict[str, EvsyncError] = {}

    def run(self, scan: bool, accept_gap: bool) -> Report:
        """Read every store, ask the guards, and only then journal."""
        linked, journal = self.linked, self.linked.journal
        errors = self.errors = {
            store.name: linked.bound.errors[store.name]
            for store in self.chosen
            if store.name in linked.bound.errors
        }
        staged: list[tuple[Store, str, Staged]] = []
        following: dict[str, Following] = {}
        forget_expected(journal)
        for store in self.chosen:
            if store.name in errors:
                continue
            try:
                for type in store.types:
                    recall(journal, store, type, binding_state(journal, store.name, type))
                lost = self._follow(store, following, staged, accept_gap)
                self._set_up(store, {type for one, type, _ in staged if one is store})
            except (StoreError, OSError) as error:
                errors.setdefault(store.name, as_store_error(error, store))
                continue
            fed = {type for one, type, _ in staged if one is store}
            for type in linked.ordered(store.types):
                if type in fed:
                    continue
                try:
                    if yet_to_come(linked, store, type):
                        continue
                    self._parents(store, type, {name for one, name, _ in staged if one is store})
                    state = binding_state(journal, store.name, type)
                    mark = mark_now(store, type)
                    found = None if scan else as_before(journal, store, type, state, mark)
                    found = found or _read(linked, store, type, state, self.progress)
                    found.mark = mark
                    found.run = "gap" if lost else "ingest"
                except (StoreError, OSError) as error:
                    errors.setdefault(store.name, as_store_error(error, store))
                    continue
                staged.append((store, type, found))
        report = _report("ingest", self.dry_run)
        self._guard(staged, report)
        return _enter(linked, self.chosen, staged, following, errors, report, self.progress)

    def reconcile(self, report: Report, types: Sequence[tuple[Store, str]]) -> None:
        """Compare what has a feed with what is known by it, and journal what it missed. Raises GuardTripped."""
        journal = self.linked.journal
        for store, type in types:
            if store.name in self.errors:
                continue
            rows: Generator[Sequence[Row], None, None] | None = None
            try:
                accessor = store.accessor(type)
                if (store, type) in self.missed and not self.dry_run and isinstance(accessor, CanCapture):
                    self.mended.add(store.name)
                    accessor.install(store)  # from here on nothing is missed
                state = binding_state(journal, store.name, type)
                assert state is not None
                position: str | None = None
                if isinstance(accessor, CanScanAt):
                    position, rows = accessor.scan_at(store, type)
                # Up to the state that is scanned every step is told by the feed.
                following = follow(journal, store, {type: state}, self.progress, position)
                following.acknowledges = False
                some = [(store, type, following.staged[type])]
                steps = _report("ingest", self.dry_run)
                self._guard(some, steps)
                _enter(self.linked, [store], some, {store.name: following}, {}, steps, self.progress)
                self._parents(store, type, set())
                state = binding_state(journal, store.name, type)
                found = stage(journal, store, type, state, self.progress, rows=rows)
            except (StoreError, OSError) as error:
                self.errors.setdefault(store.name, as_store_error(error, store))
                self._tell(report, store)
                continue
            finally:
                if rows is not None:
                    rows.close()
            found.run, found.position = "reconcile", position
            compared = _report("ingest", self.dry_run)
            self._guard([(store, type, found)], compared, before="what was found by comparing was journalled")
            _enter(self.linked, [store], [(store, type, found)], {}, {}, compared, self.progress)
            self.compared.add((store.name, type))
            for one in (steps, compared):
                report.add(one)

    def leave_to_the_next(self) -> None:
        """Have the next ingest read as a whole what missed something and, as a guard or an error stopped the run, was not
        compared."""
        left = [
            (store.name, type)
            for store, type in self.missed
            if store.name in self.mended and (store.name, type) not in self.compared
        ]
        for name, type in left:
            self._forget_position(name, type)

    def _forget_position(self, store: str, type: str) -> None:
        journal = self.linked.journal
        with journal.write():
            state = binding_state(journal, store, type)
            if state is not None:
                set_position(journal, state.id, None)

    def _tell(self, report: Report, store: Store) -> None:
        error = self.errors[store.name]
        entry = next(entry for entry in report["stores"] if entry["store"] == store.name)
        entry["error"], report["ok"] = error.message, False
        report.hints[store.name] = error.hint
        report.exit_code = max(error.exit_code, report.exit_code if report.exit_code != 4 else 0)

    def _guard(
        self,
        staged: Sequence[tuple[Store, str, Staged]],
        report: Report,
        before: str = "anything was journalled or written",
    ) -> None:
        tripped: dict[tuple[str, str], list[Tripped]] = {}
        for store, type, found in staged:
            state = binding_state(self.linked.journal, store.name, type)
            reasons = guard(self.linked.journal, store, type, found, state, self.allowed)
            if reasons:
                tripped[store.name, type] = reasons
        if tripped:
            for _, _, found in staged:
                found.different.discard()
            raise _stopped(report, self.chosen, tripped, self.command, before)

    def _follow(
        self,
        store: Store,
        following: dict[str, Following],
        staged: list[tuple[Store, str, Staged]],
        accept_gap: bool,
    ) -> bool:
        """Read the store's feed for the types that were read before. Answers whether it was lost and that is accepted."""
        states = self._fed(store)
        if not states:
            return False
        try:
            lost = [type for type, feeds in states.items() if feeds is None]
            if lost:
                install = f"evsync capture install {store.name}"
                again = store.accessor(lost[0])
                if isinstance(again, CanDescribe) and again.describe(store, lost[0]) is None:
                    raise _gone(store, lost[0])
                mended = isinstance(again, CanFeed) and again.feeds(store, lost[0])
                raise PositionLost(
                    f"store {store.name!r}, type {lost[0]!r}: its changes"
                    + (" were not captured for a while" if mended else " are not captured any more")
                    + "; what happened since the last ingest cannot be told step by step",
                    ("" if mended else f"set it up again: {install}; then ")
                    + f"go on by comparing: evsync ingest {store.name} --accept-gap",
                )
            known = {type: state for type, state in states.items() if state is not None}
            found = follow(self.linked.journal, store, known, self.progress)
        except PositionLost:
            if not accept_gap:
                raise
            for type in store.types:
                self._forget_position(store.name, type)
            return True
        following[store.name] = found
        for type in self.linked.ordered(known):
            staged.append((store, type, found.staged[type]))
            self.followed.append((store, type))
            if type in found.missed:
                self.missed.append((store, type))
        return False

    def _fed(self, store: Store) -> dict[str, BindingState | None]:
        """The types of a store that go on with its feed; None for one that did, but has none any more."""
        found: dict[str, BindingState | None] = {}
        for type in self.linked.ordered(store.types):
            accessor = store.accessor(type)
            state = binding_state(self.linked.journal, store.name, type)
            if not isinstance(accessor, CanFeed) or state is None or state.position is None:
                continue
            if state.position == LOST or not accessor.feeds(store, type):
                if store.option(type, "capture") != "scan":
                    found[type] = None
                    continue
                with self.linked.journal.write():
                    set_position(self.linked.journal, state.id, None)
            elif state.mapping == store.binding(type).as_document():
                found[type] = state
        return found

    def _set_up(self, store: Store, fed: Collection[str]) -> None:
        """Have changes captured where the configuration names a way to do it, and mend the capture of what is about to be
        read as a whole, not followed: nobody else would notice. Raises StoreError."""
        for type in [] if self.dry_run else store.types:
            accessor = store.accessor(type)
            if not isinstance(accessor, CanCapture) or not isinstance(accessor, CanFeed):
                continue
            if type in fed or (store.name, type) in self.linked.bound.missing:
                continue
            asked = store.option(type, "capture", "auto") not in ("auto", "scan")
            feeds = accessor.feeds(store, type)
            if (asked and not feeds) or (feeds and not accessor.captured(store).ok):
                self.mended.add(store.name)
                for other in set(store.types) - set(fed):
                    self._forget_position(store.name, other)
                accessor.install(store)
                return

    def _parents(self, store: Store, type: str, read: Collection[str]) -> None:
        for parent in {field.references for field in store.binding(type).translated} - set(read):
            assert parent is not None  # of its own type, or in a circle
            ids_ahead(self.linked.journal, store, parent)


def _report(command: str, dry_run: bool) -> Report:
    return Report(command=command, ok=True, dry_run=dry_run, run=None, first=None, last=None, stores=[])


def _read(
    linked: Linked, store: Store, type: str, state: BindingState | None, progress: Progress | None
) -> Staged:
    """Read all of a type of a store; where it has a feed, remember where that stood."""
    accessor, journal = store.accessor(type), linked.journal
    streams = accessor.snapshot and not (linked.types[type].match or store.binding(type).translated)
    if not isinstance(accessor, CanFeed) or not accessor.feeds(store, type):
        return stage(journal, store, type, state, progress, streams)
    if isinstance(accessor, CanScanAt):
        position, rows = accessor.scan_at(store, type)
        try:
            found = stage(journal, store, type, state, progress, streams, rows)
        except BaseException:
            rows.close()
            raise
    else:
        position = accessor.position(store, type)
        found = stage(journal, store, type, state, progress)
    found.position = position
    return found


def _enter(
    linked: Linked,
    chosen: Sequence[Store],
    staged: Sequence[tuple[Store, str, Staged]],
    following: Mapping[str, Following],
    errors: dict[str, EvsyncError],
    report: Report,
    progress: Progress | None,
) -> Report:
    journal = linked.journal
    before = journal.head().seq
    known = {type for type in {type for _, type, _ in staged} if journal.has_type(type)}
    runs: dict[str, int] = {}
    with journal.write():
        for command in dict.fromkeys(found.run for _, _, found in staged) or ["ingest"]:
            runs[command] = journal.begin_run(command, __version__)
        for type in {type: None for _, type, _ in staged}:
            freeze_types(journal, type, linked.bound.types[type])
    totals = {store.name: Counts() for store in chosen}
    created: dict[str, int] = {}
    adoptions: dict[tuple[str, str], Adoption] = {}
    missed: dict[str, int] = {}
    read: list[Store] = []
    ingests: dict[tuple[str, str], Ingest] = {}

    def ingest_of(store: Store, type: str, found: Staged) -> Ingest:
        with journal.write():
            state = ensure_binding(journal, store.name, type)
        reader = reader_of(journal, store, type)
        rules, match = linked.rules.get(type, Rules()), linked.types[type].match
        return Ingest(journal, store, type, reader, rules, state, runs[found.run], match)

    for store, type, found in staged:
        fed = following.get(store.name) if found.by_feed else None
        begins = fed is not None and (store.name, type) not in ingests
        for name, one in fed.staged.items() if fed is not None and begins else [(type, found)]:
            if fed is None or begins:
                ingests[store.name, name] = ingest_of(store, name, one)
        ingest = ingests[store.name, type]
        state = ingest.state
        try:
            if fed is None:
                _enter_one(ingest, found, progress)
            elif begins:  # all types of the store in one sequence
                together = {name: ingests[store.name, name] for name in fed.staged}
                enter_feed(fed, together, report["dry_run"], progress)
        except StoreError as broken:  # it was read meanwhile
            errors.setdefault(store.name, broken)
            continue
        finally:
            totals[store.name].add(ingest.counts)
            created[type] = created.get(type, 0) + ingest.counts.created
        read.append(store)
        if found.run != "ingest":
            counts = ingest.counts
            missed[store.name] = (
                missed.get(store.name, 0) + counts.created + counts.updated + counts.deleted + counts.adopted
            )
        if found.first_met and (state.mapping is None or found.found):
            adoptions[store.name, type] = ingest.adoption()
        with journal.write():
            if found.position is not None and not found.by_feed:
                set_position(journal, state.id, found.position)
            mapping = store.binding(type).as_document()
            if state.mapping is not None and any(
                state.mapping.get(name) != mapping.get(name) for name in ("where", "read_only", "write_only")
            ):
                look_at_all(journal, state.id, type)
            set_mapping(journal, state.id, mapping)
            clear_intents(journal, state.id)
            replicas = Replicas(journal, state.id)
            if fed is not None:
                replicas.quarantine_more(found.bad, fed.told.get(type, ()), clock())
            else:
                replicas.quarantine(found.bad, clock())
            if not found.as_before:
                settled = ingest.complete and not found.bad and found.mark is not None
                set_mark(journal, state.id, remembered(found.mark, replicas.count()) if settled else None)
    run = next(iter(runs.values()))
    settle(journal, run)
    for store in chosen:
        error = errors.get(store.name)
        report["stores"].append(
            {
                "store": store.name,
                **{name: getattr(totals[store.name], name) for name in COUNTS},
                "adoption": _adoption(journal, store, adoptions, known, created),
                **({"missed": missed[store.name]} if store.name in missed else {}),
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
        for number in runs.values():
            journal.end_run(number, report.counts(COUNTS))
        for store in read:
            note(journal, store.name, "last_ingest", clock())
    report.exit_code = code_of(journal, errors, chosen)
    return report


def _enter_one(ingest: Ingest, found: Staged, progress: Progress | None) -> None:
    """Raises StoreError where the store is only read now."""
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


def _gone(store: Store, type: str) -> Unreachable:
    return Unreachable(
        f"store {store.name!r}: {store.shown_url} is not there any more (type {type!r})",
        f"bring it back, or fill a new one: evsync replay --store {store.name} --rebuild",
    )


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
        raise _gone(store, type)
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
    before: str,
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
            {
                "store": store.name,
                **dict.fromkeys(COUNTS, 0),
                "adoption": None,
                "error": error,
            }
        )
    if command == "ingest":
        ways = [f"evsync ingest {name} {' '.join(allowing)}" for name, allowing in options.items()]
    else:
        ways = [f"evsync {command} {' '.join({o: None for one in options.values() for o in one})}"]
    stopped = GuardTripped(
        f"stopped before {before}: "
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
