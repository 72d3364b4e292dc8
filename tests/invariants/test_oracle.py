"""All twelve invariants under random play with failures, kills and wrong clocks, against a model of its own.

1 positions, 2 finality, 3 the fold, 4 exactly once, 5 a replayed store is the state, 6 quiescence, 7 convergence, 8 no
edit is lost, 9 guards, 10 one failure stops no other, 11 same inputs and clock make the same journal, 12 dry runs.

After every step the journal's events, what each store holds, the cursors and the open conflicts are those that
`oracle` works out from the script alone. No record gets more than one new code, and no old code is given away again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from oracle import Policies, Record, World
from postgres_server import fresh_database
from unlike import PLACES, STORES, Faults, Scene

from evsync.errors import EvsyncError, GuardTripped

START = datetime(2026, 1, 31, 12)
KEYS = ("p", "q", "r/1")
TEXTS = (None, "Ann", " Ann", "Bob ", "ü")
ANOTHER = {"name": "Zoe", "note": "another", "score": 99.5}  # with no value that anybody else has
NUMBERS = (None, 0.25, 1.5, -7.75)
TIMES = (None, "1999-01-01T00:00:00Z", "2026-01-31T12:00:00Z", "2051-06-01T00:00:00Z")

changes = st.dictionaries(
    st.sampled_from(("name", "note", "score")), st.integers(0, 4), min_size=1, max_size=3
).map(lambda drawn: {n: NUMBERS[v % 4] if n == "score" else TEXTS[v] for n, v in drawn.items()})
stores = st.sampled_from(STORES)
some_stores = st.one_of(st.just(STORES), stores.map(lambda one: (one,)), st.permutations(STORES).map(tuple))
keys = st.sampled_from(KEYS)
days = st.sampled_from((-1500, -3, 0, 2, 700))
attempts = st.sampled_from(
    (("refused", "refused"), ("retry", "retry"), ("retry",), ("lost",), ("lost", "retry"))
)
codes = (*KEYS, "new1", "new2")
failing = st.dictionaries(
    stores,
    st.one_of(
        attempts.map(lambda kinds: dict.fromkeys(codes, kinds)),
        st.dictionaries(st.sampled_from(codes), attempts, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=2,
)
broken = st.one_of(
    st.builds(Faults, writes=failing),
    st.builds(Faults, unread=stores),
    st.builds(Faults, unreachable=st.tuples(stores, st.integers(1, 3), st.booleans())),
    st.builds(Faults, kill=st.tuples(st.just("write"), st.integers(1, 5), st.booleans())),
    st.builds(Faults, kill=st.tuples(st.just("commit"), st.integers(1, 14), st.booleans())),
)
faults = st.one_of(st.just(Faults()), st.builds(Faults, writes=failing), broken)
policies = st.builds(
    Policies,
    fields=st.sampled_from(("newest", "first", "prefer", "manual")),
    delete=st.sampled_from(("edit-wins", "delete-wins", "manual")),
    adopt=st.sampled_from(("first", "newest", "prefer", "manual")),
    prefer=st.just(("web", "crm")),
)


class Play(RuleBasedStateMachine):
    """People, evsync and misfortune, one after the other."""

    clock: Any  # the frozen time
    server: str | None = None  # where one of the stores is; see Scene

    @initialize(drawn=policies, records=st.dictionaries(keys, changes, max_size=3))
    def begin(self, drawn: Policies, records: dict[str, Record]) -> None:
        self.folder = folder_in_memory()
        self.policies = drawn
        self.scene = Scene(self.folder, drawn, self.server)
        self.worlds = [World(PLACES, drawn, START)]
        self.now = START
        self.script: list[tuple[datetime, str, tuple[Any, ...], dict[str, Any]]] = []
        self.hashes: list[bytes] = []
        self.typed: dict[str, set[tuple[str, Any]]] = {store: set() for store in STORES}
        self.observed: set[tuple[str, Any]] = set()  # what people wrote and an ingest saw
        self.found: set[tuple[str, Any]] = set()  # of that, what the journal has
        self.renamed: dict[str, str] = {}  # key → code
        self.clock.move_to(START)
        for key, fields in records.items():
            self.put("crm", key, fields, None)
        self.sync(Faults(), 0)

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        try:
            self.settle()
            self.again()
        finally:
            self.scene.close()
            shutil.rmtree(self.folder)

    def do(self, name: str, *values: Any, **more: Any) -> Any:
        """Have something done, and note it in the script."""
        self.script.append((self.now, name, values, more))
        return getattr(self.scene, name)(*values, **more)

    def again(self) -> None:
        """11: the same script by the same clock makes the same journal, byte for byte."""
        folder = folder_in_memory()
        scene = Scene(folder, self.policies, self.server)
        try:
            for now, name, values, more in self.script:
                self.clock.move_to(now)
                with suppress(EvsyncError):
                    getattr(scene, name)(*values, **more)
            assert scene.sync.journal().head() == self.scene.sync.journal().head()
        finally:
            scene.close()
            shutil.rmtree(folder)

    def wait(self, days: int) -> None:
        """The clock stands still, or jumps by more than any failure has to wait."""
        then = self.now + timedelta(days=days)
        self.now = then if 1990 < then.year < 2080 else START + timedelta(days=self.now.day)
        self.clock.move_to(self.now)
        for world in self.worlds:
            world.now = self.now

    # -- people ----------------------------------------------------------------------------------------

    def code_in(self, store: str, key: str) -> str | None:
        held = self.scene.holds(store)
        return next((code for code in (key, self.renamed.get(key)) if code in held), None)

    def put(self, store: str, code: str, fields: Record, at: str | None) -> None:
        self.do("put", store, code, fields, at)
        for world in self.worlds:
            world.put(store, code, fields, at)
        kept = self.scene.holds(store)[fields.get("code", code)]
        self.typed[store] |= {(name, kept[name]) for name in fields if kept[name] is not None}

    @rule(store=stores, key=keys, fields=changes, at=st.sampled_from(TIMES))
    def edit(self, store: str, key: str, fields: Record, at: str | None) -> None:
        code = self.code_in(store, key)
        if code is None and key in self.renamed:
            return
        self.put(store, code or key, {n: v for n, v in fields.items() if n in PLACES[store].fields}, at)

    @rule(data=st.data(), pair=st.permutations(STORES), key=keys, fields=changes, days=days)
    def disagree(self, data: st.DataObject, pair: list[str], key: str, fields: Record, days: int) -> None:
        """Two people change the same of one record, or one of them removes it."""
        one, other, _ = pair
        self.edit(one, key, fields, data.draw(st.sampled_from(TIMES)))
        if data.draw(st.booleans()):
            self.edit(other, key, data.draw(changes), data.draw(st.sampled_from(TIMES)))
        else:
            self.remove(other, key)
        self.ingest(STORES, Faults(), days)

    @rule(store=st.sampled_from(("list", "web")), key=keys, other=keys)
    def recode(self, store: str, key: str, other: str) -> None:
        """A record is taken away, and stands there under the code of another."""
        code, taken = self.code_in(store, key), self.code_in(store, other)
        if code is not None and taken is None and other not in self.renamed:
            fields = {name: value for name, value in self.scene.holds(store)[code].items() if name != "code"}
            self.do("remove", store, code)
            for world in self.worlds:
                world.remove(store, code)
            self.put(store, other, fields, None)

    @rule(store=stores, key=keys)
    def remove(self, store: str, key: str) -> None:
        code = self.code_in(store, key)
        if code is not None:
            self.do("remove", store, code)
            for world in self.worlds:
                world.remove(store, code)

    @rule(key=keys, fields=st.one_of(changes, st.just(ANOTHER)), at=st.sampled_from(TIMES))
    def rename(self, key: str, fields: Record, at: str | None) -> None:
        """Another code for a record whose id is known, and which every store that has it was seen to have."""
        self.ingest(STORES, Faults(), 2)
        if self.code_in("crm", key) == key and key not in self.renamed:
            self.renamed[key] = f"new{len(self.renamed) + 1}"
            self.put("crm", key, {**fields, "code": self.renamed[key]}, at)

    @rule(data=st.data(), take=st.one_of(st.none(), stores), fields=st.one_of(st.just({}), changes))
    def resolve(self, data: st.DataObject, take: str | None, fields: Record) -> None:
        """Somebody decides: as a store has it, or with other values, or as it is."""
        due = sorted({key for _, key in self.worlds[0].disputes()})
        if len(self.worlds) > 1 or not due:
            return
        key = data.draw(st.sampled_from(due))
        fields = {} if take is not None else fields
        if self.worlds[0].resolve(key, take, fields):
            self.do("resolve", key, take, fields)
        else:
            with pytest.raises(EvsyncError, match=r"nothing to take|does not hold what is in dispute"):
                self.do("resolve", key, take, fields)
        self.compare(self.worlds)

    @rule(data=st.data(), days=days)
    def give_in(self, data: st.DataObject, days: int) -> None:
        """Somebody takes over the journal's side of a conflict by hand."""
        due = [entry for _, entry in self.worlds[0].due() if entry.store in STORES]
        if len(self.worlds) > 1 or not due:
            return
        entry = data.draw(st.sampled_from(due))
        theirs, code = self.worlds[0].shared(entry.key), self.code_in(entry.store, entry.key)
        if code is not None and theirs is None:
            self.remove(entry.store, entry.key)
        elif code is not None and theirs is not None:
            fields = {name: theirs.get(name) for name in sorted(entry.disputed - {"code"})}
            self.put(entry.store, code, fields, None)
        self.ingest((entry.store,), Faults(), days)

    @rule(share=st.floats(0, 1))
    def undo(self, share: float) -> None:
        """Somebody takes an event back."""
        position = round(share * self.scene.sync.journal().head().seq)
        if len(self.worlds) == 1 and position:
            self.do("undo", position)
            self.worlds[0].undo(position)
            self.compare(self.worlds)

    # -- evsync ----------------------------------------------------------------------------------------

    def see(self, names: Iterable[str]) -> None:
        """Note what an ingest saw of what people wrote; but not what evsync, or the store, had written there before."""
        for name in names:
            news = [
                {
                    (field, value)
                    for key, (_, row) in world.recognised(name).items()
                    for field, value in row.fields.items() - world.remembered(name, key).items()
                }
                for world in self.worlds
            ]
            self.observed |= self.typed[name].intersection(*news)

    def read(self, command: str, chosen: tuple[str, ...], faults: Faults) -> Any:
        """Ingest, or sync. 9: a guard speaks just where too much is gone, and then nothing was done."""
        read = [name for name in chosen if name != faults.unread]
        more = {"stores": list(chosen)} if command == "ingest" else {}
        before = self.scene.trace()
        try:
            report = self.do("run", command, faults, **more)
        except GuardTripped as stopped:
            assert stopped.document is not None and not stopped.document["ok"]
            assert self.scene.trace() == before
            self.worlds = [world for world in self.worlds if any(map(world.guarded, read))]
            assert self.worlds, "a guard spoke without a cause"
            report = self.do("run", command, faults, allow_deletes=True, **more)
        else:
            if report is not None:
                self.worlds = [world for world in self.worlds if not any(map(world.guarded, read))]
                assert self.worlds, "no guard spoke"
        if report is not None:
            self.see(read)
        return report

    @rule(chosen=some_stores, faults=faults, days=days)
    def ingest(self, chosen: tuple[str, ...], faults: Faults, days: int) -> None:
        self.wait(days)
        report = self.read("ingest", chosen, faults)
        cut = self.ingested(chosen, faults)
        self.compare(self.worlds if report is not None else cut)
        if report is not None:
            assert {e["store"] for e in report["stores"] if e["error"]} == {faults.unread} & set(chosen)

    def ingested(self, chosen: Iterable[str], faults: Faults) -> list[World]:
        """Bring the worlds behind an ingest; answers with those that it may have left if it was cut off."""
        cut = []
        for world in self.worlds:
            world.trail = cut
            world.pause()
            world.ingest([name for name in chosen if name != faults.unread])
            world.trail = None
        return cut

    @rule(
        chosen=some_stores,
        faults=faults,
        share=st.one_of(st.none(), st.floats(0, 1)),
        each=st.booleans(),
        days=days,
    )
    def replay(
        self, chosen: tuple[str, ...], faults: Faults, share: float | None, each: bool, days: int
    ) -> None:
        self.wait(days)
        until = None if share is None else round(share * self.scene.sync.journal().head().seq)
        each = each and faults == Faults()
        more = {"stores": list(chosen), "until": until, "each": each}
        report = self.do("run", "replay", faults, **more)
        cut = self.replayed(chosen, faults, until, report, counted=not each)
        self.compare(self.worlds if report is not None else cut)

    def replayed(
        self, chosen: Iterable[str], faults: Faults, until: int | None, report: Any, counted: bool = True
    ) -> list[World]:
        """Bring the worlds behind a replay; answers with those that it may have left if it was cut off."""
        cut: list[World] = []
        entries = {} if report is None else {entry["store"]: entry for entry in report["stores"]}
        for store in chosen:
            entry, after, foretold = entries.get(store), [], []
            for world in self.worlds:
                trail: list[World] = []
                world.trail = trail
                world.pause()
                counts = world.replay(
                    store, until, {k: list(v) for k, v in faults.writes.get(store, {}).items()}
                )
                world.trail = None
                foretold.append(counts)
                cut += trail
                if entry is not None and entry["error"]:
                    after += trail
                elif entry is None or not counted or counts == told(entry):
                    after.append(world)
            if entry is not None and entry["error"]:
                # 10: trouble is where it was made, or what it left behind is not read.
                assert faults.unread == store or (faults.unreachable or ("",))[0] == store, entry
            assert after, (entry, foretold)
            self.worlds = after
        return cut

    @rule(faults=faults, days=days)
    def sync(self, faults: Faults, days: int) -> None:
        self.wait(days)
        report = self.read("sync", STORES, faults)
        cut = self.ingested(STORES, faults)
        cut += self.replayed(STORES, faults, None, None if report is None else report["replay"])
        self.compare(self.worlds if report is not None else cut)

    @rule(store=stores, share=st.one_of(st.none(), st.floats(0, 1)), days=days)
    def dry_replay(self, store: str, share: float | None, days: int) -> None:
        """12: the plan is what the real run is going to do, and nothing was done yet."""
        self.wait(days)
        until = None if share is None else round(share * self.scene.sync.journal().head().seq)
        before = self.scene.trace()
        report = self.do("run", "replay", stores=[store], until=until, dry_run=True)
        assert self.scene.trace() == before
        [entry] = report["stores"]
        plan = {(step["action"], step["key"]) for step in entry["plan"]}
        sure = [world for world in self.worlds if not world.unsure[store]]
        assert len(sure) < len(self.worlds) or plan in [world.plan(store, until) for world in sure]

    @rule(chosen=some_stores)
    def dry_ingest(self, chosen: tuple[str, ...]) -> None:
        """12: an ingest is rehearsed, and tells what the real one does."""
        before = self.scene.trace()
        rehearsed = self.do("run", "ingest", stores=list(chosen), dry_run=True, allow_deletes=True)
        assert self.scene.trace() == before
        done = self.do("run", "ingest", stores=list(chosen), allow_deletes=True)
        self.see(chosen)
        assert [rehearsed[part] for part in ("first", "last", "stores")] == [
            done[part] for part in ("first", "last", "stores")
        ]
        self.ingested(chosen, Faults())
        self.compare(self.worlds)

    @rule()
    def settle(self) -> None:
        """5, 6, 7: after two rounds all agree but on what somebody has to decide, and a third one finds nothing."""
        for _ in range(2):
            self.sync(Faults(), 2)
        for entry in self.scene.sync.status()["stores"]:  # what waits for a decision may have failed before
            assert entry["failures"] <= sum(s == entry["store"] for w in self.worlds for s, _ in w.disputes())
        head, holds = self.scene.sync.journal().head(), [self.scene.holds(store) for store in STORES]
        report = self.do("run", "sync")
        self.ingested(STORES, Faults())
        self.replayed(STORES, Faults(), None, report["replay"])
        self.compare(self.worlds)
        assert self.scene.sync.journal().head() == head
        assert [self.scene.holds(store) for store in STORES] == holds
        assert not any(sum(told(entry).values()) for entry in report["replay"]["stores"])
        [world, *_] = self.worlds
        for store, place in PLACES.items():
            disputed = {key for name, key in world.disputes() if name == store}
            held = self.scene.holds(store)
            for key, record in world.state().items():
                if key not in disputed:
                    assert held[record["code"]] == place.written(place.view(record) or {})
            gone = world.keys() - world.state().keys() - disputed
            assert not gone & held.keys()

    # -- always ----------------------------------------------------------------------------------------

    def compare(self, worlds: list[World]) -> None:
        """3, 4, 5, 10: what is, is what had to come; of several worlds, those that are left."""
        events, holds = self.scene.events(), {store: self.scene.holds(store) for store in STORES}
        cursors = {s["store"]: s["cursor"] for s in self.scene.sync.status()["stores"]}
        left: list[World] = []
        for world in worlds:
            if (
                [(e.op, e.store, e.key, e.after, e.open) for e in world.journal] == events
                and holding(world) == holds
                and world.cursor == cursors
                and world not in left
            ):
                left.append(world)
        assert left, [
            (
                [(e.op, e.store, e.key, e.after, e.open) for e in w.journal], events, holding(w), holds, w.cursor, cursors,
            )
            for w in worlds[:1]
        ]  # fmt: skip
        self.worlds = left

    @invariant()
    def contiguous_and_final(self) -> None:
        """1, 2: positions 1, 2, 3 …; what was hashed stays so; the journal is whole."""
        if not hasattr(self, "scene"):
            return
        rows = (
            self.scene.sync.journal()
            .connection.execute("SELECT seq, hash FROM event ORDER BY rowid")
            .fetchall()
        )
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        hashes = [hash for _, hash in rows]
        if hashes == self.hashes:
            return
        assert hashes[: len(self.hashes)] == self.hashes
        self.hashes = hashes
        verified = self.scene.sync.verify()
        assert verified["ok"], verified

    @invariant()
    def nothing_is_lost(self) -> None:
        """8: every value that an ingest saw stands in the journal."""
        if not hasattr(self, "scene"):
            return
        if self.observed == self.found:
            return
        told: set[tuple[str, Any]] = set()
        for event in self.scene.sync.log():
            for fields in (event["after"], event["before"]):
                told |= set((fields or {}).items())
            for name, sides in ((event["conflict"] or {}).get("fields") or {}).items():
                told |= {(name, value) for value in sides.values()}
        assert self.observed <= told, self.observed - told
        self.found = set(self.observed)


def holding(world: World) -> dict[str, dict[str, Record]]:
    return {
        store: {row.fields["code"]: row.fields for row in rows.values()} for store, rows in world.rows.items()
    }


def told(entry: Any) -> dict[str, int]:
    """The counts of a replay, as the oracle has them."""
    written = sum(entry[what] for what in ("created", "updated", "deleted"))
    return {"written": written, "skipped": entry["skipped"], "failed": entry["failed"]}


def folder_in_memory() -> Path:
    return Path(tempfile.mkdtemp(prefix="evsync-"))


def play(examples: int, steps: int, with_server: bool = False) -> None:
    with ExitStack() as stack:
        if with_server:
            Play.server = stack.enter_context(fresh_database())
        Play.clock = stack.enter_context(freeze_time(START, ignore=["hypothesis", "psycopg"]))
        run_state_machine_as_test(
            Play,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def play_apart(*values: Any) -> None:
    """Play in a process of its own: what is drawn depends on which modules are loaded."""
    command = [sys.executable, "-c", f"import test_oracle; test_oracle.play(*{values})"]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    surroundings = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_oracle_foretells_random_play() -> None:
    """1 to 12."""
    play_apart(12, 15)


@pytest.mark.slow
def test_the_oracle_foretells_long_random_play() -> None:
    """The same over longer stretches."""
    play_apart(100, 50)


@pytest.mark.slow
def test_the_oracle_foretells_long_random_play_with_a_server() -> None:
    """The same with PostgreSQL in the place of SQLite."""
    play_apart(10, 25, True)
