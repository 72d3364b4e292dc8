"""Synchronizer: links several stores to one journal. `ingest`, `replay`, `sync`, and the questions of the audit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from evsync import audit, capturing
from evsync.binder import Bound, bind
from evsync.binding import TypeSpec, nearest
from evsync.config import Config
from evsync.errors import ConfigError, GuardTripped, UsageError
from evsync.ingesting import run_ingest, yet_to_come
from evsync.journal import conflicts, troubles
from evsync.journal.event import OWN
from evsync.journal.journal import Journal
from evsync.journal.query import Filter, log, position
from evsync.journal.verify import verify
from evsync.linked import Linked
from evsync.observing import Observing
from evsync.projections.guarding import Allowed
from evsync.projections.merge import Rules
from evsync.projections.projection import Options
from evsync.projections.references import References
from evsync.projections.replicas import frozen_types, mapped_fields
from evsync.projections.staging import Progress
from evsync.replaying import guard_mappings, run_replay
from evsync.report import Report
from evsync.resolving import Choice, check, resolve
from evsync.rules import rules_of
from evsync.store import Store
from evsync.undoing import undo

Document = dict[str, Any]


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
        if OWN in self.stores:
            raise UsageError(
                f"a store cannot be called {OWN!r}: that is who decides in the journal",
                "give it another name",
            )
        specs = types.values() if isinstance(types, Mapping) else types
        self.types = {spec.name: spec for spec in specs}
        self.path = None if journal is None else Path(journal)
        self.rules = dict(rules or {})
        self._journal: Journal | None = None
        self._bound: Bound | None = None
        self._bound_stores: set[str] = set()
        self._observing = Observing(self.stores.values(), self.journal, self.rules, frozenset(audit_reads))
        for store in self.stores.values():
            store.bind_with(self._bind_for_operation)
            store.translate_with(lambda store=store: References(self.journal(), store))  # type: ignore[misc]

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
                max_changes=spec.max_changes,
            )
            for spec in config.stores.values()
        ]
        return cls(
            stores,
            config.types,
            _journal_path(config),
            rules={
                name: rules_of(config.conflicts, config.type_conflicts.get(name), config.root)
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
        allow_changes: bool = False,
        scan: bool = False,
        accept_gap: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Observe the stores (all that are read, by default) and journal what changed. `scan`: read through those,
        too, that nobody seems to have touched, and compare what has a feed with what the feed told. `accept_gap`: go on
        by comparing where a feed does not reach back to the last ingest.

        A store in trouble stops no other. Raises GuardTripped, with the report as its `document`, if what was
        found looks like an accident; then nothing was journalled."""
        chosen = self._chosen(stores, "target", "ingest", "it is a target, never read as a source")
        journal = self.journal(create=not dry_run)
        allowed = Allowed(allow_deletes, allow_mapping, allow_changes)
        with journal.rehearsal() if dry_run else nullcontext():
            return run_ingest(
                self._linked(chosen),
                chosen,
                dry_run=dry_run,
                allowed=allowed,
                progress=progress,
                scan=scan,
                accept_gap=accept_gap,
            )

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
        retry: bool = False,
        progress: Progress | None = None,
    ) -> Report:
        """Bring stores (all that may be written, by default) to the journal's state, or to that of `until`, a
        position or a time. `strict`: a record that fails makes the run fail. `retry`: records that failed are tried now,
        not when their time has come."""
        chosen = self._chosen(stores, "source", "replay", "it is a source, never written")
        journal = self.journal(create=not dry_run)
        goal = None if until is None else position(journal, str(until))
        options = Options(goal, each, rebuild, dry_run, allow_deletes, retry)
        return run_replay(self._linked(chosen), chosen, options, strict=strict, progress=progress)

    def retry(self, store: str | None = None, progress: Progress | None = None) -> Report:
        """Replay the stores with failing records (or this one), and try those records now, not when their time has come."""
        failing = {failure["store"] for failure in self.failures(store)}
        return self.replay([name for name in self.stores if name in failing], retry=True, progress=progress)

    def sync(
        self,
        allow_deletes: bool = False,
        allow_mapping: bool = False,
        progress: Progress | None = None,
        *,
        allow_changes: bool = False,
        dry_run: bool = False,
        scan: bool = False,
    ) -> Report:
        """Ingest all, replay all. Raises GuardTripped before anything is journalled, or before anything is written.

        `dry_run`: say what would be found, and plan the replay as it would follow, but keep nothing of it. `scan`: see
        `ingest`."""
        ingest = Report(
            command="ingest", ok=True, dry_run=dry_run, run=None, first=None, last=None, stores=[]
        )
        replay = Report(command="replay", ok=True, dry_run=dry_run, run=None, stores=[])
        targets = [store for store in self.stores.values() if store.role == "target"]
        read = self._chosen(None, "target", "ingest", "")
        written = self._chosen(None, "source", "replay", "")
        allowed = Allowed(allow_deletes, allow_mapping, allow_changes)
        journal = self.journal(create=not dry_run)
        with journal.rehearsal() if dry_run else nullcontext():
            try:
                guard_mappings(self._linked(targets), targets, Options(), replay)
                linked = self._linked(read)
                ingest = run_ingest(
                    linked,
                    read,
                    dry_run=dry_run,
                    allowed=allowed,
                    progress=progress,
                    command="sync",
                    scan=scan,
                )
                options = Options(dry_run=dry_run, allow_deletes=allow_deletes)
                replay = run_replay(self._linked(written), written, options, strict=False, progress=progress)
            except GuardTripped as guard:
                stopped = guard.document or {}
                guard.document = Report(
                    command="sync",
                    ok=False,
                    ingest=stopped if stopped.get("command") == "ingest" else ingest,
                    replay=stopped if stopped.get("command") == "replay" else replay,
                )
                raise
        report = Report(command="sync", ok=ingest["ok"] and replay["ok"], ingest=ingest, replay=replay)
        codes = (ingest.exit_code, replay.exit_code)
        report.exit_code = next((code for code in (3, 2, 1, 4) if code in codes), 0)
        return report

    # -- decisions by hand -----------------------------------------------------------------------------

    def resolve(
        self,
        type: str,
        key: str,
        *,
        take: str | None = None,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
        keep: bool = False,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> Document:
        """Decide the open conflicts of a record: `take` what a store holds of the fields in dispute, `set` and `unset`
        fields, or `keep` the journal's state. Stores follow at the next replay. Raises NotFound, UsageError, or
        EvsyncError if no conflict is open."""
        choice = Choice(take, dict(set or {}), tuple(unset), keep)
        check(choice)
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, self.stores, type)
        # Before a journal that is not there would be created.
        audit.check_key(journal, type, key, self._key_of(type))
        journal = self.journal(create=not dry_run)
        spec = self.types.get(type)
        with journal.rehearsal() if dry_run else nullcontext():
            return resolve(
                journal,
                type,
                key,
                choice,
                stores=[store.name for store in self.stores.values() if type in store.types],
                key_fields=() if spec is None else spec.key,
                declared={} if spec is None else spec.fields or {},
                actor=actor,
            )

    def undo(
        self,
        seq: int | None = None,
        *,
        run: int | None = None,
        actor: str | None = None,
        dry_run: bool = False,
    ) -> Report:
        """Append the inverse of an event, or of all events of a run; stores follow at the next replay. What was
        changed since is left as it is, as an open conflict. Raises NotFound or UsageError."""
        exists = not self.journal(create=False).missing
        computed: dict[str, set[str]] = {}
        for store in self.stores.values():
            for type, place in store.places.items():
                computed.setdefault(type, set()).update(place.read_only)
        journal = self.journal(create=exists and not dry_run)
        return undo(journal, seq, run, computed, actor=actor, dry_run=dry_run)

    # -- questions -------------------------------------------------------------------------------------

    def status(self) -> Document:
        """How far each store is, what is open, and what stores keep for us that tell their changes."""
        journal = self.journal(create=False)
        document = audit.status(journal, list(self.stores.values()))
        for entry in document["stores"]:
            entry.update(capturing.kept(self.stores[entry["store"]], journal))
        return document

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
        stores = self.stores.values()
        return audit.show(journal, stores, type, key, None if at is None else str(at), self._key_of(type))

    def blame(self, type: str, key: str) -> Document:
        """Per field of a record: its value, since when, from which store, by whom. Raises NotFound."""
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, self.stores, type)
        return audit.blame(journal, type, key, self._key_of(type))

    def _key_of(self, type: str) -> Sequence[str]:
        return self.types[type].key if type in self.types else ()

    def conflicts(
        self,
        type: str | None = None,
        key: str | None = None,
        *,
        store: str | None = None,
        only_open: bool = False,
    ) -> Iterator[Document]:
        """All conflicts, decided and open, oldest first."""
        journal = self.journal(create=False)
        audit.check_names(journal, self.types, {**self.stores, OWN: None}, type, store)
        if type is not None and key is not None:
            audit.check_key(journal, type, key, self._key_of(type))
        return conflicts.conflicts(journal, type, key, store, only_open)

    def failures(self, store: str | None = None) -> Iterator[Document]:
        """The records that could not be written, by store."""
        journal = self.journal(create=False)
        return troubles.failures(journal, None if store is None else self._store(store).name)

    def quarantine(self, store: str | None = None) -> Iterator[Document]:
        """The rows that could not be read, by store."""
        journal = self.journal(create=False)
        return troubles.quarantined(journal, None if store is None else self._store(store).name)

    def field_types(self, type: str) -> dict[str, str]:
        """The value types of a type's fields, as far as they are known without asking a store."""
        spec = self.types.get(type)
        declared = {} if spec is None else spec.fields or {}
        return {**frozen_types(self.journal(create=False), type), **declared}

    def diff(self, store: str, other: str | None = None, at: str | int | None = None) -> Document:
        """How a store differs from the canonical state, now or then, or how `other` differs from it."""
        from evsync.projections.differences import between, from_state

        chosen = [self._store(name) for name in (store, other) if name is not None]
        if other is not None and at is not None:
            raise UsageError(
                "--at compares with the journal, so it takes one store only", f"evsync diff {store} --at {at}"
            )
        journal = self.journal(create=False)
        linked = self._linked(chosen)
        for one in chosen:
            if one.name in linked.bound.errors:
                raise linked.bound.errors[one.name]
        differences: list[Document] = []
        shared = [type for type in chosen[0].types if type in chosen[-1].types]
        if not shared:
            raise UsageError(f"stores {store!r} and {other!r} hold no type in common")
        for type in linked.ordered(shared):
            to_come = [one.name for one in chosen if yet_to_come(linked, one, type)]
            if other is None:
                upto = None if at is None else position(journal, str(at))
                differences += from_state(journal, chosen[0], type, upto, to_come=bool(to_come))
            else:
                differences += between(journal, chosen[0], chosen[1], type, to_come)
        return {"differences": differences}

    def verify(self, progress: Progress | None = None) -> Document:
        """Check the journal: chain, positions, fold, replicas."""
        return verify(self.journal(create=False), progress)

    def doctor(self) -> Document:
        """Reach every store, check keys, mappings and rights, and say what to do."""
        from evsync.doctor import examine

        return examine(self)

    def is_behind(self) -> bool:
        """Whether a replay has anything to do: events that a store has not seen, or records that are to be tried now."""
        journal = self.journal(create=False)
        return any(
            store["behind"] or store["failures"]
            for store in audit.status(journal, list(self.stores.values()))["stores"]
            if store["role"] != "source"
        )

    def reuse_run(self, report: Report) -> None:
        """The next run of this kind takes the place of one that did nothing."""
        if report["run"] is not None:
            self.journal().reuse_run(report["command"], report["run"])

    def capture(self, stores: Sequence[str] | None = None) -> Report:
        """How the changes of these stores (all, by default) are captured."""
        return capturing.status(self._to_capture(stores), self.journal(create=False))

    def install_capture(self, stores: Sequence[str] | None = None) -> Report:
        """Have the changes of these stores captured by themselves."""
        return capturing.install(self._to_capture(stores), self.journal(create=True))

    def remove_capture(self, stores: Sequence[str] | None = None) -> Report:
        """Leave nothing of that behind."""
        return capturing.remove(self._to_capture(stores), self.journal(create=True))

    def _to_capture(self, names: Sequence[str] | None) -> list[Store]:
        chosen = list(self.stores.values()) if names is None else [self._store(name) for name in names]
        self._linked(chosen)
        return chosen

    # -- within ----------------------------------------------------------------------------------------

    def journal(self, create: bool = True) -> Journal:
        """The open journal. Without `create` a missing file is an empty journal, and stays missing."""
        if self._journal is not None and self._journal.temporary:
            made = self._journal.missing and self.path is not None and self.path.exists()  # by somebody else
            if create or made:  # not closed: a question may still be reading it
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
            self._bound = bind(
                list(self.stores.values()), self.types, frozen, self._bound_stores, mapped_fields(journal)
            )
        return self._bound

    def _linked(self, stores: Sequence[Store]) -> Linked:
        return Linked(self.journal(create=False), self.stores, self.types, self.rules, self.bound(stores))

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
