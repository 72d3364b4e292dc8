"""Keeping stores in step for as long as the process lives.

A thread for each store waits for something to happen in it, by the store's own means where its accessor has some. One thread
alone works with the journal: it ingests the stores that have woken, and brings the others after them. Every so often
all stores are looked at, whether they have woken or not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evsync.accessor import CanWake
from evsync.errors import EvsyncError, GuardTripped, Unreachable
from evsync.report import Report
from evsync.store import Store
from evsync.synchronizer import Synchronizer

GATHER = 0.02
"""Seconds for which more changes are waited for once something has happened."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds for which a store in trouble is left alone: twice as long each time."""

Told = Callable[[Report], None]


class Trouble:
    """Stores that are left alone for a while, since they were in trouble."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._waits: dict[str, float] = {}

    def met(self, store: str, now: float) -> float:
        """The store is in trouble; answers with how long it is left alone."""
        wait = min(self._waits.get(store, FIRST_WAIT / 2) * 2, LONGEST_WAIT)
        self._waits[store], self._until[store] = wait, now + wait
        return wait

    def over(self, store: str) -> None:
        self._until.pop(store, None)
        self._waits.pop(store, None)

    def due(self, store: str, now: float) -> bool:
        """Whether it may be tried."""
        return self._until.get(store, now) <= now

    def next(self, now: float) -> float | None:
        """Seconds until the first of them may be tried again."""
        return max(0.0, min(self._until.values()) - now) if self._until else None


class Watching:
    """Watches all stores of a synchronizer until `stop`. `interval`: seconds between two looks at all of them."""

    def __init__(self, synchronizer: Synchronizer, interval: float, told: Told) -> None:
        self._synchronizer, self._interval, self._told = synchronizer, interval, told
        self._woken: set[str] = set()
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._ended = False
        self._trouble = Trouble()

    def stop(self) -> None:
        """End after the batch in hand. May be called by a signal."""
        self._ended = True
        self._event.set()

    def run(self, begun: Callable[[], None] = lambda: None) -> None:
        """`begun` is called once it is certain that nobody else watches. Raises Unreachable if another process does."""
        with watching_alone(self._synchronizer.path):
            begun()
            threads = [
                threading.Thread(target=self._wait, args=(store,), name=f"evsync-{store.name}", daemon=True)
                for store in self._synchronizer.stores.values()
                if store.role != "target"
            ]
            for thread in threads:
                thread.start()
            try:
                self._work()
            finally:
                self.stop()
                for thread in threads:
                    thread.join(2.0)

    # -- one thread for each store ---------------------------------------------------------------------

    def _wait(self, store: Store) -> None:
        accessor = store.accessor(next(iter(store.types)))
        if not isinstance(accessor, CanWake):
            return  # it is looked at every so often
        wait = FIRST_WAIT
        while not self._ended:
            try:
                for _ in accessor.waking(store, lambda: self._ended):
                    wait = FIRST_WAIT
                    with self._lock:
                        self._woken.add(store.name)
                    self._event.set()
            except Exception:  # told by the next look at it
                end = time.monotonic() + wait
                while not self._ended and time.monotonic() < end:
                    time.sleep(0.05)
                wait = min(wait * 2, LONGEST_WAIT)

    # -- the one that works ----------------------------------------------------------------------------

    def _work(self) -> None:
        all_read = [store.name for store in self._synchronizer.stores.values() if store.role != "target"]
        looked = -self._interval
        first = True
        while not self._ended:
            now = time.monotonic()
            everything = first or now - looked >= self._interval
            with self._lock:
                woken, self._woken = self._woken, set()
            self._event.clear()
            names = [
                name
                for name in all_read
                if self._trouble.due(name, now)
                and (everything or name in woken or self._trouble.next(now) == 0)
            ]
            if everything:
                looked = now
            if names:
                self._round(names, first)
                first = False
            if self._ended:
                return
            left = self._interval - (time.monotonic() - looked)
            again = self._trouble.next(time.monotonic())
            if (
                self._event.wait(max(0.0, left if again is None else min(left, max(again, 0.05))))
                and not self._ended
            ):
                time.sleep(GATHER)  # what happens together is taken together

    def _round(self, names: Sequence[str], first: bool) -> None:
        synchronizer = self._synchronizer
        tried_again = self._trouble.next(time.monotonic()) == 0  # a store that is only written, too
        try:
            ingest = synchronizer.ingest(names)
        except GuardTripped as guard:
            self._stopped(names, guard)
            return
        now = time.monotonic()
        troubled = _in_trouble(ingest)
        for name in troubled:
            self._trouble.met(name, now)
        if ingest["last"] is None and ingest["ok"]:
            synchronizer.reuse_run(ingest)
        replay = Report(command="replay", ok=True, dry_run=False, run=None, stores=[])
        if first or tried_again or ingest["last"] is not None or synchronizer.is_behind():
            writable = [name for name in synchronizer.stores if self._trouble.due(name, now)]
            try:
                replay = synchronizer.replay(writable) if writable else replay
            except GuardTripped as guard:
                self._stopped(names, guard)
                return
            for name in _in_trouble(replay):
                self._trouble.met(name, now)
            troubled |= _in_trouble(replay)
            if not any(
                entry[name]
                for entry in replay["stores"]
                for name in ("created", "updated", "deleted", "failed")
            ):
                synchronizer.reuse_run(replay)
        for entry in (*ingest["stores"], *replay["stores"]):
            if entry["store"] not in troubled:
                self._trouble.over(entry["store"])
        report = Report(command="sync", ok=ingest["ok"] and replay["ok"], ingest=ingest, replay=replay)
        report.hints = {**ingest.hints, **replay.hints}
        self._told(report)

    def _stopped(self, names: Sequence[str], guard: GuardTripped) -> None:
        """A guard stops the stores of a round; each is then tried alone, and the one that it concerns waits."""
        if len(names) > 1:
            for name in names:
                self._round([name], False)
            return
        self._trouble.met(names[0], time.monotonic())
        entry: dict[str, Any] = {"store": names[0], "error": guard.message}
        report = Report(command="sync", ok=False, ingest={"stores": [entry]}, replay={"stores": []})
        report.hints = {names[0]: guard.hint}
        self._told(report)


def _in_trouble(report: Report) -> set[str]:
    return {entry["store"] for entry in report["stores"] if entry["error"] is not None}


@contextmanager
def watching_alone(journal: Path | None) -> Iterator[None]:
    """Raises Unreachable if another process watches with this journal."""
    try:
        import fcntl
    except ImportError:  # where there is no such lock, two that watch are correct, only not useful
        yield
        return
    if journal is None:
        yield
        return
    path = journal.with_name(journal.name + ".watch")
    try:
        file = path.open("a")
    except OSError as error:
        raise EvsyncError(
            f"{path} cannot be written: {error.strerror}", "check the rights on its folder"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unreachable(
                f"another process watches with the journal {journal.name} already", "end that one first"
            ) from None
        yield
