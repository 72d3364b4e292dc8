"""Journals operations done through a store's own methods, at once and with their actor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from evsync import __version__
from evsync.data import Data
from evsync.journal.event import NewEvent
from evsync.journal.journal import Journal
from evsync.projections.ingest import Found, Ingest
from evsync.projections.merge import Rules
from evsync.projections.reader import BadRow, Reader, Record, id_beside
from evsync.projections.references import reader_of
from evsync.projections.replicas import Replica, Replicas, ensure_binding, set_mapping
from evsync.store import Operated, Store
from evsync.values import encode


class Observing:
    """The observer that a synchronizer sets upon each of its stores."""

    def __init__(
        self,
        stores: Iterable[Store],
        journal: Callable[[], Journal],
        rules: Mapping[str, Rules],
        audit_reads: frozenset[str],
    ) -> None:
        self._journal, self._rules, self._audit_reads = journal, rules, audit_reads
        self._run: int | None = None
        self._stops = [store.observe(self._operated) for store in stores]

    def stop(self) -> None:
        """Observe no more."""
        for stop in self._stops:
            stop()
        self._stops = []

    def _operated(self, done: Operated) -> None:
        if done.op == "read" and done.store.name not in self._audit_reads:
            return
        run = self._run
        try:
            self._enter(done)
        except BaseException:
            self._run = run  # if it began here, it was rolled back with the rest
            raise

    def _enter(self, done: Operated) -> None:
        journal = self._journal()
        store, type = done.store, done.type
        reader = reader_of(journal, store, type)
        with journal.write():
            if self._run is None:
                self._run = journal.begin_run("api", __version__)
            state = ensure_binding(journal, store.name, type)
            if state.mapping is None:
                set_mapping(journal, state.id, store.binding(type).as_document())
            rules = self._rules.get(type, Rules())
            ingest = Ingest(journal, store, type, reader, rules, state, self._run)
            replicas = Replicas(journal, state.id)
            # What others did to the record before this operation is theirs, not the actor's.
            before = self._see(ingest, replicas, reader, done.old, None) if done.old is not None else None
            now = before
            if done.op == "read":
                self._read(journal, store, type, before, done.actor)
            elif done.new is not None:
                now = self._see(ingest, replicas, reader, done.new, done.actor, before)
            elif before is not None:
                ingest.batch(
                    [
                        Found(
                            before.key,
                            before.id,
                            None,
                            None,
                            None,
                            None,
                            None,
                            None,
                            before.row,
                            before.fingerprint,
                        )
                    ],
                    done.actor,
                )
            if done.op != "read" and now is not None and state.position is not None:
                replicas.wrote([now.key], store.written_at)

    def _see(
        self,
        ingest: Ingest,
        replicas: Replicas,
        reader: Reader,
        data: Data,
        actor: str | None,
        before: Replica | None = None,
    ) -> Replica | None:
        """Enter the record as it is now; answers with its replica. `before`: the same record, just before."""
        try:
            record = reader.read(reader.row_of(data))
        except BadRow:
            return None  # the next ingest will quarantine it
        known = before or self._known(replicas, record)
        key = record.key if known is None else known.key
        if known is None or known.fingerprint != record.fingerprint:
            names = None if record.names is reader.binding.names else encode(record.names).decode()
            ingest.batch(
                [
                    Found(
                        key,
                        id_beside(key, record),
                        names,
                        record.text,
                        record.fingerprint,
                        record.changed_at,
                        record.changed_by,
                        record.place,
                        None if known is None else known.row,
                        None if known is None else known.fingerprint,
                    )
                ],
                actor,
            )
        return replicas.by_key([key]).get(key)

    @staticmethod
    def _known(replicas: Replicas, record: Record) -> Replica | None:
        local = record.key if record.id is None else record.id
        return replicas.by_id([local]).get(local) or replicas.by_key([record.key]).get(record.key)

    def _read(
        self, journal: Journal, store: Store, type: str, read: Replica | None, actor: str | None
    ) -> None:
        if read is not None and self._run is not None:
            journal.append([NewEvent("read", store.name, type, read.key, read.seq, actor=actor)], self._run)
