"""Synchronizer: links several stores to one journal. `ingest`, `replay`, `sync`, and the questions of the audit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from evsync import __version__, audit
from evsync.accessor import CanFeed
from evsync.binder import Bound, bind
from evsync.binding import TypeSpec, nearest
from evsync.config import Config
from evsync.errors import ConfigError, EvsyncError, GuardTripped, StoreError, Unreachable, UsageError
from evsync.journal.journal import Journal, clock
from evsync.journal.query import Filter, log, open_conflicts, position
from evsync.journal.verify import verify
from evsync.observing import Observing
from evsync.projections.feeding import enter_feed, stage_feed
from evsync.projections.guards import emptied, mapping_changed, too_many_deletes
from evsync.projections.ingest import Counts, Ingest
from evsync.projections.merge import Rules
from evsync.projections.projector import Options, Written
from evsync.projections.projector import replay as project
from evsync.projections.reader import Reader
from evsync.projections.replicas import (
    BindingState,
    Replicas,
    binding_state,
    clear_intents,
    ensure_binding,
    freeze_types,
    frozen_types,
    note,
    set_mapping,
    set_position,
)
from evsync.projections.staging import Progress, Staged, stage
from evsync.rules import rules_of
from evsync.store import Store

Document = dict[str, Any]

COUNTS = ("created", "updated", "deleted", "adopted", "unchanged", "conflicts", "quarantined")
WRITTEN = ("created", "updated", "deleted", "skipped", "failed")


class Report(dict[str, Any]):
    """A run's document, with the exit code it calls for and, per store in trouble, what to try."""

    exit_code: int = 0

    def __init__(self, *entries: Any, **named: Any) -> None:
        super().__init__(*entries, **named)
        self.hints: dict[str, str] = {}


def exit_code(document: Mapping[str, Any]) -> int:
    """What a command ends with that did this."""
    return document.exit_code if isinstance(document, Report) else 0


class Synchronizer:
    """Several stores and their journal.

    `types` says what the records are; by default a type's fields are those that the stores have. `journal` is
    the path of the journal's file, None for one in memory that is gone with the synchronizer. Operations done
    through `Store.add`, `update` and `remove` are journalled at once, and reads too for the stores named in
    `audit_reads`. Use it as a context manager, or close it.
    """

    def __init__(
        self,
        stores: Iterable[Store],
        types: Mapping[str, TypeSpec] | Iterable[TypeSpec],
        journal: Path | str | None = "evsync.db",
        *,
        rules: Mapping[str, Rules] | None = None,
        audit_reads: Iterable[str] = (),
    ) -> None:
        self.stores = {store.name: store for store in stores}
        specs = types.values() if isinstance(types, Mapping) else types
        self.types = {spec.name: spec for spec in specs}
        self.path = None if journal is None else Path(journal)
        self.rules = dict(rules or {})
        self._journal: Journal | None = None
        self._bound: Bound | None = None
        self._bound_stores: set[str] = set()
        self._observing = Observing(self, frozenset(audit_reads))
        for store in self.stores.values():
            store.bind_with(self._bind_for_operation)

    @classmethod
    def from_config(cls, config: Config) -> Synchronizer:
        """The synchronizer that an `evsync.toml` describes. Raises ConfigError."""
        stores = [
            Store(
                spec.name,
                spec.url,
                places=spec.places,
                role=spec.role,
                max_deletes=spec.max_deletes,
                options=spec.options,
                root=config.root,
                shown_url=spec.shown_url,
            )
            for spec in config.stores.values()
        ]
        return cls(
            stores,
            config.types,
            _journal_path(config),
            rules={
                name: rules_of(config.conflicts, config.type_conflicts.get(name, {}), config.root)
                for name in config.types
            },
            audit_reads=[spec.name for spec in config.stores.values() if spec.audit_reads],
        )

    def __enter__(self) -> Synchronizer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the stores and close the journal."""
        self._observing.stop()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # -- runs ------------------------------------------------------------------------------------------

    def ingest(
        self,
        stores: Sequence[str] | None = None,
        *,
        dry_run: bool = False,
        allow_deletes: bool = False,
        allow_mapping: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Observe the stores (all that are read, by default) and journal what changed.

        A store in trouble stops no other. Raises GuardTripped, with the report as its `document`, if what was
        found looks like an accident; then nothing was journalled."""
        chosen = self._chosen(stores, "target", "ingest", "it is a target, never read as a source")
        journal = self.journal(create=not dry_run)
        if not dry_run:
            return self._ingest(journal, chosen, False, allow_deletes, allow_mapping, progress)
        with journal.rehearsal():
            return self._ingest(journal, chosen, True, allow_deletes, allow_mapping, progress)

    def _ingest(
        self,
        journal: Journal,
        chosen: Sequence[Store],
        dry_run: bool,
        allow_deletes: bool,
        allow_mapping: bool,
        progress: Progress | None,
    ) -> Report:
        bound = self.bound(chosen)
        errors: dict[str, EvsyncError] = {
            store.name: bound.errors[store.name] for store in chosen if store.name in bound.errors
        }
        staged: list[tuple[Store, str, Staged]] = []
        reasons: dict[str, list[tuple[str, str]]] = {}
        for store, type in [(one, name) for one in chosen for name in self._ordered(one.types)]:
            if store.name in bound.errors:
                continue
            try:
                if self._yet_to_come(journal, store, type, bound):
                    continue
                state = binding_state(journal, store.name, type)
                found = self._read(journal, store, type, state, progress)
            except (StoreError, OSError) as error:
                errors.setdefault(store.name, _as_store_error(error, store))
                continue
            staged.append((store, type, found))
            tripped = self._guards(
                store, type, found, None if state is None else state.mapping, allow_deletes, allow_mapping
            )
            if tripped:
                reasons.setdefault(store.name, []).append(tripped)
        report = self._ingest_report(dry_run)
        if reasons:
            self._stop(report, chosen, reasons)
        return self._enter(journal, chosen, staged, errors, bound, report, progress)

    @staticmethod
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
        self,
        journal: Journal,
        chosen: Sequence[Store],
        staged: Sequence[tuple[Store, str, Staged]],
        errors: Mapping[str, EvsyncError],
        bound: Bound,
        report: Report,
        progress: Progress | None,
    ) -> Report:
        before = journal.head().seq
        with journal.write():
            run = journal.begin_run("ingest", __version__)
            for type in {type: None for _, type, _ in staged}:
                freeze_types(journal, type, bound.types[type])
        totals = {store.name: Counts() for store in chosen}
        for store, type, found in staged:
            with journal.write():
                state = ensure_binding(journal, store.name, type)
            reader = Reader(store.binding(type), store.accessor(type))
            ingest = Ingest(journal, store, type, reader, self.rules.get(type, Rules()), state, run)
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
            journal.end_run(run, _counts(report, COUNTS))
            for store, _, _ in staged:
                note(journal, store.name, "last_ingest", clock())
        report.exit_code = self._code(journal, errors, chosen)
        return report

    def replay(
        self,
        stores: Sequence[str] | None = None,
        until: str | int | None = None,
        *,
        each: bool = False,
        rebuild: bool = False,
        dry_run: bool = False,
        strict: bool = False,
        allow_deletes: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Bring stores (all that may be written, by default) to the journal's state, or to that of `until`, a
        position or a time. `strict`: a record that fails makes the run fail."""
        chosen = self._chosen(stores, "source", "replay", "it is a source, never written")
        journal = self.journal(create=not dry_run)
        bound = self.bound(chosen)
        options = Options(
            None if until is None else position(journal, str(until)), each, rebuild, dry_run, allow_deletes
        )
        report = Report(command="replay", ok=True, dry_run=dry_run, run=None, stores=[])
        errors: dict[str, EvsyncError] = {}
        for store in chosen:
            if store.name not in bound.errors:
                self._guard_replay(journal, store, report, chosen, rebuild)
        run = None
        if not dry_run:
            with journal.write():
                run = report["run"] = journal.begin_run("replay", __version__)
                for type in {type: None for store in chosen for type in store.types}:
                    freeze_types(journal, type, bound.types[type])
        for store in chosen:
            written, error = Written(), bound.errors.get(store.name)
            if error is None:
                try:
                    project(journal, store, self._ordered(store.types), options, written, progress)
                except (StoreError, OSError) as trouble:
                    error = _as_store_error(trouble, store)
                except GuardTripped as guard:
                    guard.document = report
                    report["ok"] = False
                    raise
            if error is not None:
                errors[store.name] = error
            entry = {
                "store": store.name,
                **{name: getattr(written, name) for name in WRITTEN},
                "cursor": self._cursor(journal, store),
                "head": journal.head().seq,
                "error": None if error is None else error.message,
            }
            if dry_run:
                entry["plan"] = written.plan
            report["stores"].append(entry)
        report.hints = {name: error.hint for name, error in errors.items()}
        report["ok"] = not errors and not (strict and any(entry["failed"] for entry in report["stores"]))
        if run is not None:
            with journal.write():
                journal.end_run(run, _counts(report, WRITTEN))
                for store in chosen:
                    if store.name not in errors:
                        note(journal, store.name, "last_replay", clock())
        report.exit_code = self._code(journal, errors, chosen, failures=True)
        if not errors and not report["ok"]:
            report.exit_code = 1
        return report

    def sync(
        self, allow_deletes: bool = False, allow_mapping: bool = False, progress: Progress | None = None
    ) -> Report:
        """Ingest all, replay all."""
        ingest = self.ingest(allow_deletes=allow_deletes, allow_mapping=allow_mapping, progress=progress)
        replay = self.replay(progress=progress)
        report = Report(command="sync", ok=ingest["ok"] and replay["ok"], ingest=ingest, replay=replay)
        codes = (ingest.exit_code, replay.exit_code)
        report.exit_code = next((code for code in (3, 1, 4) if code in codes), 0)
        return report

    # -- questions -------------------------------------------------------------------------------------

    def status(self) -> Document:
        """How far each store is, and what is open."""
        return audit.status(self.journal(create=False), list(self.stores.values()))

    def log(
        self,
        type: str | None = None,
        key: str | None = None,
        *,
        store: str | None = None,
        op: str | None = None,
        field: str | None = None,
        actor: str | None = None,
        run: int | None = None,
        since: str | None = None,
        until: str | None = None,
        conflicts: bool = False,
        limit: int | None = None,
        after: int = 0,
    ) -> Iterator[Document]:
        """The events that match, oldest first; with `limit` the newest so many of them."""
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, self.stores, type, store, op)
        if field is not None:
            audit.check_field(journal, self.types, type, field)
        wanted = Filter(type, key, store, op, field, actor, run, since, until, conflicts, after)
        return log(journal, wanted, limit)

    def show(self, type: str, key: str, at: str | int | None = None) -> Document:
        """A record, now or at a position or time, and who holds it. Raises NotFound."""
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, self.stores, type)
        return audit.show(journal, self.stores.values(), type, key, None if at is None else str(at))

    def blame(self, type: str, key: str) -> Document:
        """Per field of a record: its value, since when, from which store, by whom. Raises NotFound."""
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, self.stores, type)
        return audit.blame(journal, type, key)

    def diff(self, store: str, other: str | None = None, at: str | int | None = None) -> Document:
        """How a store differs from the canonical state, now or then, or how `other` differs from it."""
        from evsync.projections.differences import between, from_state

        chosen = [self._store(name) for name in (store, other) if name is not None]
        if other is not None and at is not None:
            raise UsageError(
                "--at compares with the journal, so it takes one store only", f"evsync diff {store} --at {at}"
            )
        journal = self.journal(create=False)
        bound = self.bound(chosen)
        for one in chosen:
            if one.name in bound.errors:
                raise bound.errors[one.name]
        differences: list[Document] = []
        shared = [type for type in chosen[0].types if type in chosen[-1].types]
        if not shared:
            raise UsageError(f"stores {store!r} and {other!r} hold no type in common")
        for type in self._ordered(shared):
            if other is None:
                upto = None if at is None else position(journal, str(at))
                differences += from_state(journal, chosen[0], type, upto)
            else:
                differences += between(journal, chosen[0], chosen[1], type)
        return {"differences": differences}

    def verify(self, progress: Progress | None = None) -> Document:
        """Check the journal: chain, positions, fold, replicas."""
        return verify(self.journal(create=False), progress)

    def doctor(self) -> Document:
        """Reach every store, check keys, mappings and rights, and say what to do."""
        from evsync.doctor import examine

        return examine(self)

    # -- within ----------------------------------------------------------------------------------------

    def journal(self, create: bool = True) -> Journal:
        """The open journal. Without `create` a missing file is an empty journal, and stays missing."""
        if self._journal is not None and self._journal.temporary and create:
            self._journal.close()
            self._journal = None
        if self._journal is None:
            self._journal = Journal.open(self.path, create=create)
        return self._journal

    def bound(self, stores: Iterable[Store] | None = None) -> Bound:
        """How the types lie in these stores (None: in all), asking them if that was not done yet."""
        if not self.stores:
            raise ConfigError(
                "no stores are configured", "add a [stores.NAME] with a url, or run: evsync init --from URL"
            )
        wanted = {store.name for store in (self.stores.values() if stores is None else stores)}
        if self._bound is None or not wanted <= self._bound_stores:
            journal = self.journal(create=False)
            frozen = {type: frozen_types(journal, type) for type in self.types}
            self._bound_stores |= wanted
            self._bound = bind(list(self.stores.values()), self.types, frozen, self._bound_stores)
        return self._bound

    def _bind_for_operation(self) -> None:
        bound = self.bound()
        if bound.errors:
            raise next(iter(bound.errors.values()))

    def _store(self, name: str) -> Store:
        found = self.stores.get(name)
        if found is None:
            raise UsageError(
                f"there is no store {name!r}",
                nearest(name, self.stores) or f"the stores are: {', '.join(self.stores)}",
            )
        return found

    def _chosen(self, names: Sequence[str] | None, unfit: str, verb: str, why: str) -> list[Store]:
        if names is None:
            return [store for store in self.stores.values() if store.role != unfit]
        chosen = list(dict.fromkeys(self._store(name) for name in names))
        for store in chosen:
            if store.role == unfit:
                raise UsageError(
                    f"cannot {verb} store {store.name!r}: {why}",
                    f'set role = "both" in [stores.{store.name}] if it should be',
                )
        return chosen

    def _ordered(self, types: Iterable[str]) -> list[str]:
        """Parents before children, along the references; by name otherwise, and where they run in a circle."""
        wanted = sorted(types)
        graph = {
            type: {
                target
                for target in self.types[type].references.values()
                if target in wanted and target != type
            }
            for type in wanted
            if type in self.types
        }
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError:
            return wanted

    def _yet_to_come(self, journal: Journal, store: Store, type: str, bound: Bound) -> bool:
        """Whether the store is one that a replay will create: not there, never was, and there is something to create it from."""
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
            for other in self.stores.values()
            if type in other.types and other.role != "target" and other is not store
        )
        return journal.has_type(type) or any((other.name, type) not in bound.missing for other in others)

    @staticmethod
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
            reason = mapping_changed(mapping, store.binding(type).as_document())
            if reason:
                return f"type {type!r}: {reason}", "--allow-mapping"
        if not allow_deletes:
            reason = None if found.by_feed else emptied(found.known, found.found)
            reason = reason or too_many_deletes(found.known, found.gone, store.max_deletes)
            if reason:
                return f"type {type!r}: {reason}", "--allow-deletes"
        return None

    def _ingest_report(self, dry_run: bool) -> Report:
        return Report(command="ingest", ok=True, dry_run=dry_run, run=None, first=None, last=None, stores=[])

    @staticmethod
    def _stop(report: Report, chosen: Sequence[Store], reasons: Mapping[str, list[tuple[str, str]]]) -> None:
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
        raise guard

    def _guard_replay(
        self, journal: Journal, store: Store, report: Report, chosen: Sequence[Store], rebuild: bool
    ) -> None:
        """A mapping that changed would write other content than what the store is known to hold."""
        for type in store.types if not rebuild else ():
            state = binding_state(journal, store.name, type)
            reason = (
                None if state is None else mapping_changed(state.mapping, store.binding(type).as_document())
            )
            if reason is None:
                continue
            way = (
                f"evsync replay --store {store.name} --rebuild"
                if store.role == "target"
                else f"evsync ingest {store.name} --allow-mapping"
            )
            guard = GuardTripped(
                f"stopped before anything was written: store {store.name!r}, type {type!r}: {reason}",
                f"if that is meant: {way}",
            )
            report["ok"] = False
            report["stores"] = [
                {
                    "store": one.name,
                    **dict.fromkeys(WRITTEN, 0),
                    "cursor": self._cursor(journal, one),
                    "head": journal.head().seq,
                    "error": reason if one is store else None,
                }
                for one in chosen
            ]
            guard.document = report
            raise guard

    def _cursor(self, journal: Journal, store: Store) -> int:
        return audit.cursor(journal, store)

    def _code(
        self,
        journal: Journal,
        errors: Mapping[str, EvsyncError],
        chosen: Sequence[Store],
        failures: bool = False,
    ) -> int:
        if errors:
            return max(error.exit_code for error in errors.values())
        names = {store.name for store in chosen}
        for store in audit.status(journal, list(chosen))["stores"]:
            if store["conflicts"] or store["quarantined"] or (failures and store["failures"]):
                return 4
        return 4 if names & {name for due in open_conflicts(journal).values() for _, name in due} else 0


def _journal_path(config: Config) -> Path | None:
    written = config.journal
    scheme, colon, rest = written.partition(":")
    if colon and scheme == "sqlite":
        written = rest
    elif colon and len(scheme) > 1:
        raise ConfigError(
            f"the journal cannot be at a {scheme + ':'!r} URL", "give the path of a file, such as evsync.db"
        )
    return config.root / written


def _as_store_error(error: Exception, store: Store) -> EvsyncError:
    if isinstance(error, EvsyncError):
        return error
    return Unreachable(f"store {store.name!r}: {error}", "")


def _counts(report: Report, names: Sequence[str]) -> Document:
    return {
        entry["store"]: {name: entry[name] for name in names if entry[name]} for entry in report["stores"]
    }
