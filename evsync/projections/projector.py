"""The projector: carries one store from its cursor to a position of the journal.

Effects come first, the cursor after them; in between the journal notes towards which position a write is
under way, so that a run that was killed finds its own writes again instead of taking them for the store's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from evsync.accessor import CanCreate, CanDescribe
from evsync.errors import GuardTripped, Unreachable
from evsync.journal.event import Fields
from evsync.journal.journal import Journal, clock
from evsync.journal.query import open_conflicts
from evsync.projections.apply import Effect, Judge, batch_size, change_of, write
from evsync.projections.contents import Content, content_of, load_contents
from evsync.projections.guards import too_many_deletes
from evsync.projections.ingest import Ingest
from evsync.projections.merge import Rules, view
from evsync.projections.plan import Step, plan
from evsync.projections.reader import Reader
from evsync.projections.replicas import (
    BindingState,
    Replica,
    Replicas,
    add_intent,
    binding_state,
    clear_intents,
    ensure_binding,
    set_cursor,
    set_mapping,
)
from evsync.projections.staging import Progress, stage
from evsync.store import Store

CONTENT = "evsync_content"


class Written(msgspec.Struct):
    """What a replay did to a store, in records, and the plan of a dry run."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    failed: int = 0
    plan: list[dict[str, Any]] = []


class Options(msgspec.Struct, frozen=True):
    """How to replay. `until`: a position, None for the head."""

    until: int | None = None
    each: bool = False
    rebuild: bool = False
    dry_run: bool = False
    allow_deletes: bool = False


def replay(
    journal: Journal,
    store: Store,
    types: Sequence[str],
    options: Options,
    written: Written,
    progress: Progress | None = None,
) -> None:
    """Bring `types` (parents before children) of `store` to the journal's state, counting into `written`.
    Raises StoreError for trouble with the store as a whole; what was done until then is counted and remembered.
    Raises GuardTripped for a rebuild that would delete too much, before anything is written."""
    head = journal.head().seq
    until = head if options.until is None else min(options.until, head)
    if not options.dry_run and not options.rebuild:
        for type in types:
            _recover(journal, store, type)
    if options.each and not options.dry_run:
        # All at once: a statement that is still open would lock the tables that a pass works with.
        for step_until in list(_one_event_a_record(journal, store, types, until)):
            _pass(journal, store, types, step_until, options, written, progress)
    _pass(journal, store, types, until, options, written, progress)


def _recover(journal: Journal, store: Store, type: str) -> None:
    """A run that was killed left writes of which nobody knows whether they took place: look, before more is written."""
    state = binding_state(journal, store.name, type)
    if state is not None and state.intents:
        reader = Reader(store.binding(type), store.accessor(type))
        found = stage(journal, store, type, state)
        Ingest(journal, store, type, reader, Rules(), state, 0).recover(found)


def _pass(
    journal: Journal,
    store: Store,
    types: Sequence[str],
    until: int,
    options: Options,
    written: Written,
    progress: Progress | None,
) -> None:
    projections = [
        _Projection(journal, store, type, until, options, written, progress, f"evsync_todo_{number}")
        for number, type in enumerate(types)
    ]
    for projection in projections:
        projection.collect()
    for projection in projections:
        projection.run(deletes=False)
    for projection in reversed(projections):
        projection.run(deletes=True)
    for projection in projections:
        projection.retry()
        projection.finish()


def _one_event_a_record(journal: Journal, store: Store, types: Sequence[str], until: int) -> Iterator[int]:
    """Positions such that no record has two events between one and the next: the steps of `--each`."""
    states = [binding_state(journal, store.name, type) for type in types]
    start = min((0 if state is None else state.cursor for state in states), default=0)
    met: set[tuple[int, str]] = set()
    rows = journal.connection.execute(
        "SELECT seq, type, key FROM event WHERE seq > ? AND seq <= ? AND op <> 'read' ORDER BY seq",
        (start, until),
    )
    numbers = {journal.known_name(type) for type in types}
    for seq, type, key in rows:
        if type not in numbers:
            continue
        if (type, key) in met or len(met) >= 50_000:
            yield seq - 1
            met.clear()
        met.add((type, key))


class Planned(NamedTuple):
    """A step with what it rests on: the replica, what the store is taken to hold, and whom the accessor asks
    whether the record may be written."""

    step: Step
    replica: Replica | None
    holds: Fields | None
    judge: Judge


class _Projection:
    """One type of one store, on its way to `until`."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        type: str,
        until: int,
        options: Options,
        written: Written,
        progress: Progress | None,
        table: str,
    ) -> None:
        self.journal, self.store, self.type, self.until = journal, store, type, until
        self.options, self.written, self.progress = options, written, progress
        self.db = journal.connection
        self.binding = store.binding(type)
        self.reader = Reader(self.binding, store.accessor(type))
        self.state: BindingState | None = binding_state(journal, store.name, type)
        self.replicas = Replicas(journal, -1 if self.state is None else self.state.id)
        self.table = table
        self.again: list[str] = []
        self.prepared = False
        self.leftovers = self.replicas.any_left_over()  # pending or failing records
        self.disputed = {key for named, key in open_conflicts(journal, store.name) if named == type}

    # -- what there is to do ---------------------------------------------------------------------------

    def collect(self) -> None:
        """Which records to look at: those with events between the cursor and the goal, and those left over."""
        db = self.db
        db.execute(f"DROP TABLE IF EXISTS temp.{self.table}")
        db.execute(f"CREATE TEMP TABLE {self.table} (key TEXT PRIMARY KEY) WITHOUT ROWID")
        db.execute(f"DROP TABLE IF EXISTS temp.{self.table}_deletes")
        db.execute(f"CREATE TEMP TABLE {self.table}_deletes (key TEXT PRIMARY KEY) WITHOUT ROWID")
        number = self.journal.known_name(self.type)
        state = self.state
        if self.options.rebuild:
            self._create_if_missing()
            load_contents(self.journal, self.store, self.type, state, CONTENT)
            self._insert(f"SELECT key FROM temp.{CONTENT}")
            self._insert("SELECT key FROM replica WHERE binding = ?", self.replicas.binding)
            low, high = 0, self.until
        else:
            cursor = 0 if state is None else state.cursor
            # On the way back a store is ahead of its cursor by its own later changes, too.
            head = self.journal.head().seq
            low, high = min(cursor, self.until), self.until if self.until >= head else max(cursor, head)
            self._insert("SELECT key FROM pending WHERE binding = ?", self.replicas.binding)
            self._insert(
                "SELECT key FROM failure WHERE binding = ? AND next_try <= ?", self.replicas.binding, clock()
            )
        if low == 0 and number is not None:
            self._insert(
                "SELECT DISTINCT key FROM event WHERE type = ? AND op <> 'read' AND seq <= ?", number, high
            )
        else:
            self._insert(
                "SELECT DISTINCT key FROM event WHERE type = ? AND op <> 'read' AND seq > ? AND seq <= ?",
                number,
                low,
                high,
            )
        if not self.options.rebuild and number is not None:
            # A store's own changes, which it holds already: nearly everything, after a first ingest.
            db.execute(
                f"DELETE FROM temp.{self.table} WHERE key IN (SELECT r.key FROM replica r WHERE r.binding = ?"
                " AND r.in_line AND r.content IS NULL AND r.seq = (SELECT max(seq) FROM event WHERE type = ?"
                " AND key = r.key AND op <> 'read' AND seq <= ?))"
                " AND key NOT IN (SELECT key FROM pending WHERE binding = ?)"
                " AND key NOT IN (SELECT key FROM failure WHERE binding = ?)",
                (self.replicas.binding, number, self.until, self.replicas.binding, self.replicas.binding),
            )
        self.total = db.execute(f"SELECT count(*) FROM temp.{self.table}").fetchone()[0]
        self.done = 0
        if self.options.rebuild and not self.options.allow_deletes:
            self._guard_rebuild()

    def _insert(self, select: str, *values: Any) -> None:
        self.db.execute(f"INSERT OR IGNORE INTO temp.{self.table} {select}", values)

    def _guard_rebuild(self) -> None:
        held = self.db.execute(f"SELECT count(*) FROM temp.{CONTENT}").fetchone()[0]
        extra = sum(
            planned.step.action == "delete" for batch in self._batches(self.table) for planned in batch
        )
        reason = too_many_deletes(held, extra, self.store.max_deletes)
        if reason:
            raise GuardTripped(
                f"store {self.store.name!r}, type {self.type!r}: a rebuild would delete {extra} of its {held} records: "
                + reason.partition(", ")[2],
                f"see them with: evsync diff {self.store.name}; if that is meant, add --allow-deletes",
            )

    # -- planning --------------------------------------------------------------------------------------

    def _batches(self, table: str) -> Iterator[list[Planned]]:
        size = batch_size(self.store.accessor(self.type))
        last, compare = "", ">="
        while keys := [
            row[0]
            for row in self.db.execute(
                f"SELECT key FROM temp.{table} WHERE key {compare} ? ORDER BY key LIMIT ?",
                (last, size),
            )
        ]:
            last, compare = keys[-1], ">"
            yield self._plan(keys)

    def _plan(self, keys: list[str]) -> list[Planned]:
        names = self.binding.names
        heads = self.journal.heads(self.type, keys, self.until)
        replicas = self.replicas.by_key(keys) if self.state is not None else {}
        actual: dict[str, Content] = {}
        if self.options.rebuild:
            for start in range(0, len(keys), 500):
                actual.update(content_of(self.journal, CONTENT, keys[start : start + 500]))
        older = self.journal.revisions(
            r.seq for key, r in replicas.items() if (h := heads.get(key)) is None or h.seq != r.seq
        )
        planned = []
        for key in keys:
            head, replica = heads.get(key), replicas.get(key)
            want = None if head is None else view(head.fields, names)
            version = None
            if replica is not None:
                version = (
                    want
                    if head is not None and replica.seq == head.seq
                    else view(older.get(replica.seq), names)
                )
            if self.options.rebuild:
                content = actual.get(key)
                holds = None if content is None else content.fields
                known = (
                    replica
                    if content is not None
                    and replica is not None
                    and (replica.fingerprint == content.fingerprint)
                    else None
                )
                held_at = known.seq if known is not None and known.in_line else None
                if content is not None:
                    replica = Replica(0, key, 0, content.fingerprint, content.id, True, None)
            else:
                holds = held_at = None
                if replica is not None and replica.fingerprint is not None:
                    holds = replica.content if replica.content is not None else version
                    held_at = replica.seq if replica.in_line else None
            step = plan(self.type, key, 0 if head is None else head.seq, want, holds, held_at, version)
            if key in self.disputed:
                step = Step("none", self.type, key, step.seq, None, [])
            expected = None if replica is None else replica.fingerprint
            wanted = None if want is None or head is None else self.reader.fingerprint_of_revision(head, want)
            judge = Judge(self.reader, expected, wanted, self.options.rebuild)
            planned.append(Planned(step, replica, holds, judge))
        return planned

    # -- doing -----------------------------------------------------------------------------------------

    def run(self, deletes: bool) -> None:
        """Creates and updates; or the deletes, which were left for afterwards."""
        for batch in self._batches(f"{self.table}_deletes" if deletes else self.table):
            now = [planned for planned in batch if (planned.step.action == "delete") is deletes]
            if not deletes:
                self.db.executemany(
                    f"INSERT INTO temp.{self.table}_deletes VALUES (?)",
                    ((planned.step.key,) for planned in batch if planned.step.action == "delete"),
                )
            self.done += len(now)
            if self.options.dry_run:
                self._print(now)
            else:
                self._write(now)
            if self.progress and now:
                self.progress(f"writing {self.store.name} {self.type}", self.done, self.total)

    def retry(self) -> None:
        """What failed is tried once more after the rest: it may have waited for a neighbour."""
        if not self.again or self.options.dry_run:
            return
        keys, self.again = self.again, []
        self.written.failed -= len(keys)
        for start in range(0, len(keys), 500):
            self._write(self._plan(keys[start : start + 500]))

    def finish(self) -> None:
        """All is written: move the cursor."""
        if self.options.dry_run:
            return
        with self.journal.write():
            state = self._known_state()
            set_mapping(self.journal, state.id, self.binding.as_document())
            set_cursor(self.journal, state.id, self.until)
            clear_intents(self.journal, state.id)

    def _print(self, batch: Sequence[Planned]) -> None:
        for step in (planned.step for planned in batch):
            if step.action in ("create", "update", "delete"):
                self.written.plan.append(step.as_document())
                self._count(step, "written")

    def _known_state(self) -> BindingState:
        self.state = ensure_binding(self.journal, self.store.name, self.type)
        self.replicas = Replicas(self.journal, self.state.id)
        return self.state

    def _prepare(self) -> None:
        """Before the first write: the store exists, and the journal knows that one is under way."""
        if self.prepared:
            return
        self.prepared = True
        self._create_if_missing()
        with self.journal.write():
            state = self._known_state()
            add_intent(self.journal, state, self.until)
            if self.until < state.cursor:  # on the way back; should it end midway, the rest is ahead again
                set_cursor(self.journal, state.id, self.until)

    def _create_if_missing(self) -> None:
        accessor = self.store.accessor(self.type)
        if not isinstance(accessor, CanCreate) or not isinstance(accessor, CanDescribe):
            return
        if self.options.dry_run or accessor.describe(self.store, self.type) is not None:
            return
        held = 0 if self.state is None else self.replicas.count()
        if held and not self.options.rebuild:
            raise Unreachable(
                f"store {self.store.name!r}, type {self.type!r}: {self.store.shown_url} is not there any more;"
                f" it held {held} records",
                f"bring it back, or fill a new one: evsync replay --store {self.store.name} --rebuild",
            )
        accessor.create(self.store, self.type)

    def _write(self, batch: Sequence[Planned]) -> None:
        doing = [planned for planned in batch if planned.step.action in ("create", "update", "delete")]
        effects: list[Effect] = []
        if doing:
            self._prepare()
            changes = [change_of(p.step, p.replica, p.holds, self.reader, p.judge) for p in doing]
            steps, judges = [p.step for p in doing], [p.judge for p in doing]
            effects = write(self.store, self.reader, steps, changes, judges)
        self._remember(batch, effects)

    def _remember(self, batch: Sequence[Planned], effects: Sequence[Effect]) -> None:
        put: list[tuple[str, int, bytes | None, Any, bool, Any]] = []
        forget: list[str] = []
        settled: list[str] = []
        pend: list[str] = []
        failed: list[Effect] = []
        for step, replica, holds, _ in batch:
            if step.key in self.disputed:
                continue
            if step.action in ("note", "none"):
                settled.append(step.key)
                if self.options.rebuild and step.want is None and replica is not None:
                    forget.append(step.key)  # gone here, and gone there
                if (
                    replica is not None
                    and step.want is not None
                    and (step.action == "note" or self.options.rebuild)
                ):
                    own = None if step.want == holds else holds
                    local = replica.id if replica.id is None or str(replica.id) != step.key else None
                    put.append((step.key, step.seq, replica.fingerprint, local, True, own))
        for effect in effects:
            step = effect.step
            self._count(step, effect.state)
            if effect.state == "failed":
                failed.append(effect)
                continue
            if effect.state == "changed":
                pend.append(step.key)
                continue
            settled.append(step.key)
            if step.want is None:
                forget.append(step.key)
            else:
                put.append((step.key, step.seq, effect.fingerprint, effect.id, True, effect.content))
        if not (put or forget or settled or pend or failed):
            return
        with self.journal.write():
            self._known_state()
            self.replicas.forget(forget)
            self.replicas.put(put)
            if self.leftovers:
                self.replicas.settle(settled)
                self.replicas.mended(settled)
            self.replicas.pend(pend)
            now = clock()
            self.leftovers = self.leftovers or bool(failed or pend)
            for effect in failed:
                self.again.append(effect.step.key)
                self.replicas.failed(
                    effect.step.key, effect.step.seq, effect.step.action, str(effect.error), now
                )

    def _count(self, step: Step, state: str) -> None:
        written = self.written
        if state == "failed":
            written.failed += 1
        elif state == "changed":
            written.skipped += 1
        elif state == "done":
            pass
        elif step.action == "create":
            written.created += 1
        elif step.action == "update":
            written.updated += 1
        else:
            written.deleted += 1
