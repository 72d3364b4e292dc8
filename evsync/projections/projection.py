"""One type of one store on its way to a position of the journal: what there is to do, doing it, and remembering it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from evsync.accessor import CanCreate, CanDescribe, CanLoad, CanNote
from evsync.errors import EvsyncError, GuardTripped, Refused, Retry, Unreachable
from evsync.journal.event import Fields
from evsync.journal.journal import Journal, clock
from evsync.journal.query import open_conflicts
from evsync.projections.apply import Effect, Judge, Noting, batch_size, change_of, write
from evsync.projections.contents import Content, content_of, load_contents
from evsync.projections.filling import Filled, Filling, batches, is_simple
from evsync.projections.guards import too_many_deletes
from evsync.projections.ingest import as_if_written
from evsync.projections.merge import same_record, view
from evsync.projections.noting import Put, place_of, text_of
from evsync.projections.plan import Step, plan
from evsync.projections.references import Waits, is_referenced, reader_of
from evsync.projections.replicas import (
    LONGEST_WAIT,
    BindingState,
    Replica,
    Replicas,
    add_intent,
    binding_state,
    clear_intents,
    ensure_binding,
    set_cursor,
    set_mapping,
    set_noted,
)
from evsync.projections.staging import Progress
from evsync.store import Store

_EVER = 2**63 - 1


class Written(msgspec.Struct):
    """What a replay did to a store, in records, and the plan of a dry run."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    skipped: int = 0
    failed: int = 0
    plan: list[dict[str, Any]] = []


class Options(msgspec.Struct, frozen=True):
    """How to replay. `until`: a position, None for the head. `retry`: what failed is due now, whenever it was to be tried
    again."""

    until: int | None = None
    each: bool = False
    rebuild: bool = False
    dry_run: bool = False
    allow_deletes: bool = False
    retry: bool = False


def without(record: Fields | None, names: Collection[str]) -> Fields | None:
    """A record but for these fields."""
    return record if record is None or not names else {n: v for n, v in record.items() if n not in names}


class Planned(NamedTuple):
    """A step with what it rests on: the replica, what the store is taken to hold, and whom the accessor asks
    whether the record may be written."""

    step: Step
    replica: Replica | None
    holds: Fields | None
    judge: Judge


class Projection:
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
        self.reader = reader_of(journal, store, type)
        self.state: BindingState | None = binding_state(journal, store.name, type)
        self.replicas = Replicas(journal, -1 if self.state is None else self.state.id)
        self.table, self.contents = table, f"{table}_contents"
        self.again: list[str] = []
        self.waiting: dict[str, list[tuple[str, str]]] = {}  # of these, whom they wait for
        self.failed: set[str] = set()  # tried in this run already
        self.halved: set[str] = set()  # created without a reference, which is still to be written
        self.retire = is_referenced(store, type)
        self.noted = 0 if self.state is None else self.state.noted
        self.prepared = False
        self.empty = False
        self.leftovers = self.replicas.any_left_over()  # pending or failing records
        self.disputed = {key for named, key in open_conflicts(journal, store.name) if named == type}
        self.disputed |= self.replicas.unclear()
        mapping = None if self.state is None else self.state.mapping
        # Fields that the store maps since it was last ingested: what it holds there, nobody has seen.
        self.fresh = (
            frozenset(self.binding.names) - set(mapping["fields"])
            if mapping is not None and store.role != "target" and not options.rebuild
            else frozenset()
        )

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
        self.empty = self._is_empty()
        self.done = 0
        if self.empty:
            self.total = self.journal.count(self.type, self.until)
            return
        if self.options.rebuild:
            self._create_if_missing()
            load_contents(self.journal, self.store, self.type, state, self.contents)
            self._insert(f"SELECT key FROM temp.{self.contents}")
            self._insert("SELECT key FROM replica WHERE binding = ?", self.replicas.binding)
            low, high = 0, self.until
        else:
            cursor = 0 if state is None else state.cursor
            # On the way back a store is ahead of its cursor by its own later changes, too.
            head = self.journal.head().seq
            low, high = min(cursor, self.until), self.until if self.until >= head else max(cursor, head)
            self._insert("SELECT key FROM pending WHERE binding = ?", self.replicas.binding)
            now = clock()
            self._insert(
                # Farther off than any wait: the clock was ahead when it failed.
                "SELECT key FROM failure WHERE binding = ? AND (next_try <= ? OR next_try > ?)",
                self.replicas.binding,
                _EVER if self.options.retry else now,
                now + LONGEST_WAIT,
            )
        if number is not None:
            # A store's own changes, which it holds already: nearly everything, after a first ingest.
            own = (
                ""
                if self.options.rebuild or high > self.until
                else (
                    " AND NOT EXISTS (SELECT 1 FROM replica r WHERE r.binding = ? AND r.key = e.key AND r.seq = e.seq"
                    " AND r.in_line AND r.content IS NULL)"
                )
            )
            self._insert(
                # By position: the index by record would lead through all that there ever was.
                "SELECT DISTINCT key FROM event e NOT INDEXED"
                f" WHERE type = ? AND op <> 'read' AND seq > ? AND seq <= ?{own}",
                number,
                low,
                high,
                *([self.replicas.binding] if own else []),
            )
        if not self.options.rebuild and number is not None:
            db.execute(
                f"DELETE FROM temp.{self.table} AS todo WHERE EXISTS (SELECT 1 FROM replica r WHERE r.binding = ?"
                " AND r.key = todo.key AND r.in_line AND r.content IS NULL AND r.seq = (SELECT max(seq) FROM event"
                " WHERE type = ? AND key = r.key AND op <> 'read' AND seq <= ?))"
                " AND key NOT IN (SELECT key FROM pending WHERE binding = ?)"
                " AND key NOT IN (SELECT key FROM failure WHERE binding = ?)",
                (self.replicas.binding, number, self.until, self.replicas.binding, self.replicas.binding),
            )
            # What is to be tried again later waits with all that happened to it since; a record that the store
            # refused may be another now.
            db.execute(
                f"DELETE FROM temp.{self.table} WHERE key IN"
                " (SELECT key FROM failure WHERE binding = ? AND next_try > ? AND next_try <= ? AND state = 'retry')",
                (self.replicas.binding, _EVER if self.options.retry else now, now + LONGEST_WAIT),
            )
        self.total = db.execute(f"SELECT count(*) FROM temp.{self.table}").fetchone()[0]
        if self.options.rebuild and not self.options.allow_deletes:
            self._guard_rebuild()

    def _is_empty(self) -> bool:
        """Whether the store is not known to hold anything, and can be filled without a plan."""
        state, options = self.state, self.options
        return (
            not (options.rebuild or options.dry_run or self.leftovers or self.disputed or self.fresh)
            and (state is None or (state.cursor == 0 and not state.intents))
            and not self.replicas.any()
            and is_simple(self.binding)
            and isinstance(self.store.accessor(self.type), CanLoad)
        )

    def _insert(self, select: str, *values: Any) -> None:
        self.db.execute(f"INSERT OR IGNORE INTO temp.{self.table} {select}", values)

    def _guard_rebuild(self) -> None:
        held = self.db.execute(f"SELECT count(*) FROM temp.{self.contents}").fetchone()[0]
        extra = sum(
            planned.step.action == "delete" for batch in self._batches(self.table) for planned in batch
        )
        reason = too_many_deletes(held, extra, self.store.most_deletes(self.type))
        if reason:
            raise GuardTripped(
                f"store {self.store.name!r}, type {self.type!r}: a rebuild would delete {extra} of its {held} records: "
                + reason.partition(", ")[2],
                f"see them with: evsync diff {self.store.name}; if that is meant:"
                f" evsync replay --store {self.store.name} --rebuild --allow-deletes",
            )

    def leaving(self) -> int:
        """How many records will be removed although they exist."""
        count = 0
        for batch in self._batches(self.table):
            keys = [planned.step.key for planned in batch if planned.step.action == "delete"]
            heads = self.journal.heads(self.type, keys, self.until) if keys else {}
            count += sum(head.fields is not None for head in heads.values())
        return count

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
                actual.update(content_of(self.journal, self.contents, keys[start : start + 500]))
        older = self.journal.revisions(
            r.seq for key, r in replicas.items() if (h := heads.get(key)) is None or h.seq != r.seq
        )
        planned = []
        for key in keys:
            head, replica = heads.get(key), replicas.get(key)
            want = None if head is None else without(self.binding.view(head.fields), self.fresh)
            version = None
            if replica is not None:
                then = head.fields if head is not None and replica.seq == head.seq else older.get(replica.seq)
                version = without(view(then, names), self.fresh)
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
                    seq = 0 if held_at is None else held_at
                    replica = Replica(0, key, seq, content.fingerprint, content.id, True, None)
            else:
                holds = held_at = None
                if replica is not None and replica.fingerprint is not None:
                    holds = replica.content if replica.content is not None else version
                    held_at = replica.seq if replica.in_line else None
            unwritten = self.binding.unwritten
            step = plan(
                self.type, key, 0 if head is None else head.seq, want, holds, held_at, version, unwritten
            )
            if key in self.disputed:
                step = Step("none", self.type, key, step.seq, None, [])
            expected = None if replica is None else replica.fingerprint
            wanted = None if want is None or head is None else self.reader.fingerprint_of_revision(head, want)
            judge = Judge(self.reader, expected, wanted, self.options.rebuild)
            planned.append(Planned(step, replica, holds, judge))
        return planned

    # -- doing -----------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Write all records into a store that holds none, but for those that need a plan."""
        self._prepare()
        accessor, number = self.store.accessor(self.type), self.journal.known_name(self.type)
        assert isinstance(accessor, CanLoad)
        with accessor.loading(self.store, self.type) as load:
            filling = None if load is None else Filling(self.journal, self.reader, load)
            for heads in batches(self.journal, -1 if number is None else number, self.until):
                done = Filled([], [head[0] for head in heads]) if filling is None else filling.write(heads)
                with self.journal.write():
                    self.replicas.add_flat([value for row in done.remember for value in row])
                    self.db.executemany(
                        f"INSERT INTO temp.{self.table} VALUES (?)", ((key,) for key in done.rest)
                    )
                self.written.created += len(done.remember)
                self.done += len(done.remember)
                if self.progress:
                    self.progress(f"writing {self.store.name} {self.type}", self.done, self.total)

    def run(self, deletes: bool) -> None:
        """Creates and updates; or the deletes, which were left for afterwards."""
        if self.empty and not deletes and self.total:
            self._fill()
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

    def left(self, only_waiting: bool) -> int:
        """How many records failed so far."""
        return 0 if self.options.dry_run else len(self.waiting if only_waiting else self.again)

    def retry(self, only_waiting: bool) -> None:
        """Try again what failed, or only what waits for another record."""
        if not self.left(only_waiting):
            return
        keys = list(self.waiting) if only_waiting else self.again
        self.again = [key for key in self.again if key not in self.waiting] if only_waiting else []
        self.waiting = {}
        self.written.failed -= len(keys)
        for start in range(0, len(keys), 500):
            self._write(self._plan(keys[start : start + 500]))

    def write_without(self, keys: list[str]) -> list[str]:
        """Create these records without the references for which they wait; answers with those that the store refused."""
        refused = []
        planned = self._plan(keys)
        cut = [p for p in planned if p.step.action == "create"]
        changes, steps, judges = [], [], []
        for step, replica, holds, _ in cut:
            assert step.want is not None
            present = {name for name in step.want if not self._is_missing(name, step.want)}
            want = {name: value for name, value in step.want.items() if name in present}
            less = Step(
                "create", step.type, step.key, step.seq, want, sorted(want.keys() - self.binding.unwritten)
            )
            judge = Judge(self.reader, None, self.reader.fingerprint_of(want))
            changes.append(change_of(less, replica, holds, self.reader, judge))
            steps.append(less)
            judges.append(judge)
        effects = write(self.store, self.reader, steps, changes, judges)
        put: list[Put] = []
        for effect in effects:
            key = effect.step.key
            if effect.state not in ("written", "done"):
                refused.append(key)
                continue
            del self.waiting[key]  # but it is still to be tried again: now it is an update
            self.waiting_again(key)
            self._count(effect.step, effect.state)
            self.halved.add(key)
            asked = effect.step.want or {}
            held = asked if effect.content is None else effect.content
            own, fingerprint = self._own_values(asked, held, effect.fingerprint)
            put.append((key, 0, fingerprint, effect.id, False, held if own is None else own))
        with self.journal.write():
            state = self._known_state()
            self.replicas.put(put)
            self.replicas.pend([key for key, *_ in put])
            if state.position is not None:
                self.replicas.wrote([key for key, *_ in put], self.store.written_at)
        self.leftovers = True
        return [*refused, *(p.step.key for p in planned if p.step.action != "create")]

    def waiting_again(self, key: str) -> None:
        """A record that can be written in full as soon as the others are there."""
        self.waiting[key] = []

    def _is_missing(self, name: str, want: Fields) -> bool:
        try:
            self.reader.native(want, [name])
        except Waits:
            return name not in self.binding.key
        return False

    def finish(self) -> None:
        """All is written: move the cursor."""
        if self.options.dry_run:
            return
        with self.journal.write():
            state = self._known_state()
            if not self.fresh:  # else the next ingest is to see them as new
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
            steps, changes, judges = [], [], []
            for step, replica, holds, judge in doing:
                try:
                    changes.append(change_of(step, replica, holds, self.reader, judge))
                except EvsyncError as error:  # what it refers to is not there
                    effects.append(Effect(step, "failed", error=error))
                    continue
                steps.append(step)
                judges.append(judge)
            had = {planned.step.key: planned.holds for planned in batch}
            found = write(self.store, self.reader, steps, changes, judges, self._noting(had))
            effects += map(self._in_turn, found)
        self._remember(batch, effects)

    def _in_turn(self, effect: Effect) -> Effect:
        """A new record under a key that another one still has is tried again when that one has given it up."""
        step = effect.step
        if effect.state != "changed" or step.action != "create":
            return effect
        name = self.reader.key_in(step.want or {})
        called = (*self.replicas.by_id([name]).values(), *self.replicas.by_key([name]).values())
        other = next((one for one in called if one.known_as == name and one.key != step.key), None)
        if other is None:
            return effect
        error = Refused(
            f"the store holds the record {other.key!r} under the key {name!r}", "it has to give that up first"
        )
        return Effect(step, "failed", error=error)

    def _noting(self, had: Mapping[str, Fields | None]) -> Noting | None:
        """What the store is to put down of a batch, if it can."""
        place = place_of(self.journal, self.store.name, self.type)
        if place is None or not isinstance(self.store.accessor(self.type), CanNote):
            return None

        def text(effects: Sequence[Effect]) -> str:
            put, forget = self._effected(effects, had)
            wrote = [effect.step.key for effect in effects if effect.state == "written"]
            return text_of(self.journal, self.until, put, forget, wrote)

        self.noted += 1
        return Noting(place, self.noted, text)

    def _effected(
        self, effects: Sequence[Effect], had: Mapping[str, Fields | None]
    ) -> tuple[list[Put], list[str]]:
        """What replicas are to remember of these effects, and which of them are gone. `had`: what the store was taken to
        hold."""
        put: list[Put] = []
        forget: list[str] = []
        for effect in effects:
            step = effect.step
            if effect.state not in ("written", "done"):
                continue
            if step.want is None:
                forget.append(step.key)
                continue
            own, fingerprint = effect.content, effect.fingerprint
            if own is not None:
                own, fingerprint = self._own_values(step.want, own, fingerprint, had.get(step.key))
            put.append((step.key, step.seq, fingerprint, effect.id, True, own))
        return put, forget

    def _remember(self, batch: Sequence[Planned], effects: Sequence[Effect]) -> None:
        put: list[Put] = []
        forget: list[str] = []
        settled: list[str] = []
        pend = [effect.step.key for effect in effects if effect.state == "changed"]
        failed = [effect for effect in effects if effect.state == "failed"]
        had = {planned.step.key: planned.holds for planned in batch}
        for step, replica, holds, _ in batch:
            if step.key in self.disputed:
                continue
            if step.action in ("note", "none"):
                settled.append(step.key)
                gone_there = self.options.rebuild or (replica is not None and replica.fingerprint is None)
                if gone_there and step.want is None and replica is not None:
                    forget.append(step.key)  # gone here, and gone there
                if (
                    replica is not None
                    and step.want is not None
                    and (step.action == "note" or self.options.rebuild)
                ):
                    own = None if step.want == holds else holds
                    fingerprint = replica.fingerprint
                    if self.options.rebuild and replica.seq == 0 and holds is not None:
                        own, fingerprint = self._own_values(step.want, holds, fingerprint)
                    local = replica.id if replica.id is None or str(replica.id) != step.key else None
                    put.append((step.key, step.seq, fingerprint, local, True, own))
        for effect in effects:
            self._count(effect.step, effect.state)
        done, gone = self._effected(effects, had)
        put += done
        forget += gone
        settled += [*(key for key, *_ in done), *gone]
        if not (put or forget or settled or pend or failed):
            return
        with self.journal.write():
            state = self._known_state()
            self.replicas.forget(forget, self.retire)
            self.replicas.put(put)
            if state.position is not None:
                keys = [effect.step.key for effect in effects if effect.state == "written"]
                self.replicas.wrote(keys, self.store.written_at)
            if self.leftovers:
                self.replicas.settle(settled)
                self.replicas.mended(settled)
            self.replicas.pend(pend)
            if self.noted > state.noted:
                set_noted(self.journal, state.id, self.noted)
            now = clock()
            self.leftovers = self.leftovers or bool(failed or pend)
            for effect in failed:
                self._fail(effect, now)

    def _fail(self, effect: Effect, now: int) -> None:
        step, error = effect.step, effect.error
        state, wait = "refused", None
        if isinstance(error, Waits):
            state, wait = "postponed", 0.0  # nothing but the other record is needed
            self.waiting.setdefault(step.key, []).append((error.type, error.key))
        elif isinstance(error, Retry):
            state, wait = "retry", error.retry_after
        self.replicas.failed(
            step.key, step.seq, step.action, str(error), now, state, wait, step.key in self.failed
        )
        self.again.append(step.key)
        self.failed.add(step.key)

    def _own_values(
        self, want: Fields, holds: Fields, fingerprint: bytes | None, had: Fields | None = None
    ) -> tuple[Fields | None, bytes | None]:
        """What to remember that the store holds. What it computes by itself counts as not seen yet, for the next
        ingest to take; from a store that is never ingested, nothing is taken."""
        if self.binding.unwritten and self.store.role != "target":
            known = as_if_written(self.binding, holds, want, had)
            if not same_record(known, holds):
                holds, fingerprint = known, self.reader.fingerprint_of(known)
        return (None if same_record(want, holds) else holds), fingerprint

    def _count(self, step: Step, state: str) -> None:
        written = self.written
        if state == "failed":
            written.failed += 1
        elif step.key in self.halved:
            pass  # counted when it was created
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
