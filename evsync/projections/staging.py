"""The first half of an ingest: read a store through, and stage what differs from its replicas.

Nothing is journalled here. What differs goes to disk, and which records were seen is one bit each, so memory
does not grow with the store. Only when the whole read went well and the guards have
passed does `ingest` take over, in order of the keys, so that the order of a store's rows changes nothing. A large store
that is met for the first time, with its rows in order, is left to be read by `ingest` (see streaming).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

import msgspec

from evsync.accessor import Accessor, CanScan, Row
from evsync.errors import BrokenStore, DuplicateKey, EvsyncError
from evsync.journal.journal import Journal
from evsync.journal.query import changed_in
from evsync.projections.expected import Expected
from evsync.projections.identity import is_another
from evsync.projections.merge import view
from evsync.projections.reader import BadRow, Reader, Record, id_beside
from evsync.projections.references import References, is_referenced, reader_of
from evsync.projections.replicas import BindingState, Quarantined, Replica, Replicas, binding_state
from evsync.projections.spool import Doubled, Order, Spool, by_number, by_text, places
from evsync.projections.streaming import Stream, in_order, read_ahead
from evsync.store import Store
from evsync.values import ABSENT, encode

BATCH = 2_000  # rows looked up at once where the accessor has no batches of its own

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many records are done, and how many there are if that is known."""


class Staged(msgspec.Struct):
    """A type of a store, read through. `different` holds what differs, in order of the keys (see
    `ingest.Found`); `known` is how many records the store held
    before, `found` how many rows it showed now, `gone` how many known ones are not among them."""

    different: Spool | Stream
    known: int = 0
    found: int = 0
    unchanged: int = 0
    gone: int = 0
    moved: list[tuple[int | str | None, int]] = []  # (id, replica row): equal content under another id
    bad: list[Quarantined] = []
    by_feed: bool = False  # `different` holds steps (see steps.Step)
    emptied: bool = False  # the feed told that all records were deleted at once
    position: str | None = None  # up to where the store's own feed was read, if it has one
    changed: int = 0  # how many known records hold something else now
    first_met: bool = False  # nothing was known of the store's records of this type
    as_before: bool = False  # nobody has touched the store since it was read last: nothing was read
    mark: str | None = None  # what the store was like before it was read (see untouched)
    run: str = "ingest"  # as what a run finds it: "reconcile" beside a feed that was followed, "gap" where it was lost


class Seen:
    """Which replicas were met again: one bit each."""

    def __init__(self, last_row: int) -> None:
        self._bits = bytearray(last_row // 8 + 1)
        self.count = 0

    def add(self, row: int) -> bool:
        """Mark a replica; False if it was marked already."""
        byte, bit = row >> 3, 1 << (row & 7)
        if self._bits[byte] & bit:
            return False
        self._bits[byte] |= bit
        self.count += 1
        return True

    def __contains__(self, row: int) -> bool:
        return bool(self._bits[row >> 3] & (1 << (row & 7)))


def stage(
    journal: Journal,
    store: Store,
    type: str,
    state: BindingState | None,
    progress: Progress | None = None,
    streams: bool = False,
    rows: Iterable[Sequence[Row]] | None = None,
) -> Staged:
    """Read `type` of `store` through; `rows` are what to read, where that was begun already. `streams`: leave that to
    `ingest` where nothing needs to be known before. Raises StoreError if the read breaks off, DuplicateKey for two records of one key."""
    accessor, reader = store.accessor(type), reader_of(journal, store, type)
    replicas = Replicas(journal, -1 if state is None else state.id)
    with journal.reading():  # the replicas stand still meanwhile
        references = References(journal, store) if is_referenced(store, type) else None
        order = by_number if reader.keys_are_numbers else by_text
        staging = _Staging(store, type, reader, replicas, Spool(order), journal, references)
        # A write whose answer was lost may have taken place, and left its record waiting.
        if not staging.any_known or replicas.any_left_over():
            staging.called_now = called_now(journal, type, reader, None)
        # A run that was killed may have written such a record.
        for intent in () if state is None else state.intents:
            staging.called_now |= called_now(journal, type, reader, intent)
        found = batches(accessor, reader, store, type) if rows is None else from_store(store, rows)
        streams = streams and references is None and not (staging.any_known or staging.called_now)
        if streams:
            ahead, more = read_ahead(found)
            found = chain(ahead, found)
            if more and staging.in_order(ahead, order):
                staging.staged.different = Stream(found, staging.read, order)
                return staging.staged
        for batch in found:
            staging.take(batch)
            if progress:
                progress(f"reading {store.name} {type}", staging.staged.found, None)
        staging.finish()
    return staging.staged


def ids_ahead(journal: Journal, store: Store, type: str) -> None:
    """Learn the ids of records to which others will refer that are read before them. Raises StoreError."""
    accessor, reader = store.accessor(type), reader_of(journal, store, type)
    state = binding_state(journal, store.name, type)
    replicas = Replicas(journal, -1 if state is None else state.id)
    references = References(journal, store)
    for rows in batches(accessor, reader, store, type):
        read = [
            (row[0] if isinstance(row[0], int | str) else key, key)
            for row in rows
            if (key := reader.key_of(row)) is not None
        ]
        known = replicas.by_id([local for local, _ in read])
        references.expect(type, ((local, known[local].key if local in known else key) for local, key in read))


def batches(accessor: Accessor, reader: Reader, store: Store, type: str) -> Iterator[Sequence[Row]]:
    """The rows of a type, by `scan` where the accessor has it, else by `find`."""
    if isinstance(accessor, CanScan):
        yield from from_store(store, accessor.scan(store, type))
        return
    batch: list[Row] = []
    for data in from_store(store, accessor.find(store, type)):
        batch.append(reader.row_of(data))
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


T = TypeVar("T")


def from_store(store: Store, answers: Iterable[T]) -> Iterator[T]:
    """What an accessor hands out. An error that it did not foresee is trouble with its store, and no other's."""
    try:
        yield from answers
    except EvsyncError:
        raise
    except Exception as error:
        raise BrokenStore(
            f"store {store.name!r}: reading broke off: {type(error).__name__}: {error}",
            "nothing was taken for deleted; run again with --debug to see where",
        ) from error


class _Staging:
    def __init__(
        self,
        store: Store,
        type: str,
        reader: Reader,
        replicas: Replicas,
        spool: Spool,
        journal: Journal,
        references: References | None,
    ) -> None:
        self.journal = journal
        self.references = references  # where other records refer to these
        self.store, self.type, self.reader, self.replicas = store, type, reader, replicas
        self.spool, staged = spool, Staged(spool)
        self.staged = staged
        staged.known = replicas.count()
        last_row = replicas.last_row()
        self.seen = Seen(last_row)
        self.any_known = staged.known > 0 or replicas.any()
        staged.first_met = not self.any_known
        self.has_ids = self.any_known and replicas.has_ids()
        self.glancing = self.any_known and not self.has_ids
        self.expected = Expected(replicas, staged.known, last_row)
        self.called_now: dict[str, str] = {}  # what stands in the key fields now → the key that was minted
        self.strangers: list[tuple[Record, str]] = []  # records of that description, and their keys
        self.renamed: list[tuple[Record, int, bytes | None]] = []
        self.unattributed: list[int] = []  # positions in staged.bad of rows that might be any record

    def take(self, rows: Sequence[Row]) -> None:
        self.staged.found += len(rows)
        if self.glancing:
            rows = self._not_as_before(rows)
        records = self.reader.read_all(rows, self._quarantine)
        if self.any_known:
            self._match(records)
        else:
            self._put(
                [(record, self.called_now.get(record.key, record.key), None, None) for record in records]
            )

    def in_order(self, batches: Iterable[Sequence[Row]], order: Order) -> bool:
        """Whether these come in order of their keys, and none twice."""
        records = [record for rows in batches for record in self.reader.read_all(rows, lambda bad: None)]
        return in_order(places(order, records))

    def read(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """What rows hold of which nothing is known, as it is entered."""
        self.staged.found += len(rows)
        batch = self.reader.batch(rows)
        if batch is not None:
            keys, ids, *others = batch.columns()
            nothing = [repeat(None, len(rows)) for _ in range(3)]
            return list(zip(keys, ids, nothing[0], *others, *nothing[1:], strict=True))
        records = self.reader.read_all(rows, self._quarantine)
        return self._as_found([(record, record.key, None, None) for record in records])

    def _match(self, records: Sequence[Record]) -> None:
        by_key = self.expected.fingerprints([record.key for record in records])
        by_id = {}
        if self.has_ids:
            by_id = self.replicas.by_id([_local(record) for record in records])
            for local in self._dealt_anew(records, by_key, by_id):
                del by_id[local]
        different: list[tuple[Record, str, int | None, bytes | None]] = []
        for record in records:
            row, was, known_id = by_key.get(record.key, (None, None, None))
            called = by_id.get(_local(record))
            if called is not None:
                # The store's id says which record it is; but where ids were dealt out anew, equal content
                # under the record's own key says more.
                if (
                    called.key != record.key
                    and called.fingerprint != record.fingerprint
                    and row is not None
                    and was == record.fingerprint
                    and row not in self.seen
                ):
                    self._same(row, record, moved=True)
                    continue
                row, was, key = called.row, called.fingerprint, called.key
            elif row is not None and known_id == record.id:
                key = record.key
            elif row is not None:
                # Known by its key, but the store calls it otherwise now: settled when all was read.
                self.renamed.append((record, row, was))
                continue
            elif record.key in self.called_now:
                self.strangers.append((record, self.called_now[record.key]))
                continue
            else:
                different.append((record, record.key, None, None))
                continue
            if was == record.fingerprint:
                self._same(row, record)
            else:
                self._mark(row, record.key)
                different.append((record, key, row, was))
        self._put(different)

    def _not_as_before(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows but for those that are as they were: nearly all of most stores, which a glance tells."""
        batch = self.reader.batch(rows)
        if batch is None or batch.ids is not None:
            return rows
        by_key = self.expected.fingerprints(batch.keys)
        rest: list[Row] = []
        mark, get = self.seen.add, by_key.get
        for row, key, fingerprint in zip(rows, batch.keys, batch.fingerprints, strict=True):
            known = get(key)
            if known is None or known[1] != fingerprint or known[2] is not None:
                rest.append(row)
            elif not mark(known[0]):
                raise self._duplicate(key)
        self.staged.unchanged += len(rows) - len(rest)
        self.glancing = len(rest) * 2 < len(rows)  # else it is not worth the while
        return rest

    def _dealt_anew(
        self, records: Sequence[Record], by_key: Collection[str], by_id: Mapping[int | str, Replica]
    ) -> list[int | str]:
        """The ids under which the store shows records that it did not have before."""
        edited = [
            (record, replica)
            for record in records
            if (replica := by_id.get(_local(record))) is not None
            and replica.key != record.key
            and replica.fingerprint not in (None, record.fingerprint)
            and record.key not in by_key
        ]
        binding = self.reader.binding
        types = {field.name: field.type for field in binding.fields}
        revisions = self.journal.revisions(replica.seq for _, replica in edited)
        found = []
        for record, replica in edited:
            had = replica.content or view(revisions.get(replica.seq), binding.names) or {}
            # The key that was minted may long stand for other key fields than these.
            if not had.keys() >= set(binding.key) or self.reader.key_in(had) == record.key:
                continue
            now = self.reader.fields_of(record)
            if is_another(had, now, binding.key, types, binding.created_at):
                found.append(_local(record))
        return found

    def _same(self, row: int, record: Record, moved: bool = False) -> None:
        self._mark(row, record.key)
        self.staged.unchanged += 1
        if moved:
            self._move(record, row, record.key)

    def _move(self, record: Record, row: int, key: str) -> None:
        self.staged.moved.append((record.id, row))
        if self.references is not None:
            self.references.expect(self.type, [(_local(record), key)])

    def _mark(self, row: int, key: str) -> None:
        if not self.seen.add(row):
            raise self._duplicate(key)

    def _put(self, found: Sequence[tuple[Record, str, int | None, bytes | None]]) -> None:
        if self.references is not None:
            self.references.expect(self.type, ((_local(record), key) for record, key, _, _ in found))
        self.staged.changed += sum(row is not None for _, _, row, _ in found)
        self.spool.add(self._as_found(found))

    def _as_found(
        self, found: Sequence[tuple[Record, str, int | None, bytes | None]]
    ) -> list[tuple[Any, ...]]:
        full = self.reader.binding.names
        return [
            (
                key,
                id_beside(key, record),
                None if record.names is full else encode(record.names).decode(),
                record.text,
                record.fingerprint,
                record.changed_at,
                record.changed_by,
                record.place,
                row,
                was,
            )
            for record, key, row, was in found
        ]

    def _quarantine(self, bad: BadRow) -> None:
        self.staged.bad.append(quarantined(self.reader, bad))
        if not self.any_known:
            return
        # A record that cannot be read is not a record that is gone.
        known = self._known_by(bad.row)
        if known is None:
            self.unattributed.append(len(self.staged.bad) - 1)
        else:
            self.seen.add(known)

    def _known_by(self, row: Row) -> int | None:
        key, id = self.reader.key_of(row), row[0]
        if isinstance(id, str) and not _is_text(id):
            id = None
        local = id if isinstance(id, int | str) else key
        if local is not None:
            called = self.replicas.by_id([local]).get(local)
            if called is not None:
                return called.row
        for candidate in (key, None if id is None else str(id)):
            found = self.replicas.fingerprints([candidate]).get(candidate) if candidate is not None else None
            if found is not None:
                return found[0]
        return None

    def finish(self) -> None:
        """What is gone, what only changed its id, and whether any key stands twice."""
        self._settle_strangers()
        self._settle_ids()
        # Those in dispute are not among the known ones, but are seen when they are there again.
        if self.seen.count < self.staged.known + self.replicas.disputed():
            self._gone()
        try:
            self.spool.close()
        except Doubled as doubled:
            raise self._duplicate(doubled.key) from None

    def _settle_strangers(self) -> None:
        """Records that the store did not have under this name, but the journal has: all was read, so nobody else is
        that record."""
        for record, key in self.strangers:
            row, was, _ = self.replicas.fingerprints([key]).get(key, (None, None, None))
            if row is None:
                self._put([(record, key, None, None)])
            elif self.seen.add(row):
                self._put([(record, key, row, was)])
            else:
                self._put([(record, record.key, None, None)])

    def _settle_ids(self) -> None:
        """Records known by their key that the store calls otherwise now: all was read, so nobody else is that record."""
        for record, row, was in self.renamed:
            self._mark(row, record.key)
            if record.fingerprint == was:
                self.staged.unchanged += 1
                self._move(record, row, record.key)
            else:
                self._put([(record, record.key, row, was)])

    def _gone(self) -> None:
        known = self.replicas.hidden()
        hidden = {key for bad in self.staged.bad for key in known.get((bad.row, bad.error), ())}
        gone = [(row, key) for row, key in self.replicas.rows() if row not in self.seen and key not in hidden]
        fresh = [
            i for i in self.unattributed if (self.staged.bad[i].row, self.staged.bad[i].error) not in known
        ]
        for index, bad in enumerate(self.staged.bad):
            self.staged.bad[index] = bad._replace(hides=known.get((bad.row, bad.error), []))
        if fresh and gone:
            keys = [key for _, key in gone]
            self.staged.bad[fresh[0]] = self.staged.bad[fresh[0]]._replace(hides=keys)
            return
        self.staged.gone = len(gone)
        for start in range(0, len(gone), BATCH):
            known_as = self.replicas.fingerprints([key for _, key in gone[start : start + BATCH]])
            self.spool.add(
                [
                    (key, None, None, None, None, None, None, None, row, known_as[key][1])
                    for row, key in gone[start : start + BATCH]
                ]
            )

    def _duplicate(self, key: str) -> DuplicateKey:
        called = self.replicas.by_key([key]).get(key) if self.any_known else None
        return duplicate_key(self.store, self.type, self.reader, key, None if called is None else called.id)


def duplicate_key(
    store: Store, type: str, reader: Reader, key: str, id: int | str | None = None
) -> DuplicateKey:
    """The error that names both rows: they are looked for once more, as this ends the type anyway. `id`: what the store
    is known to call the record."""
    places: list[str] = []
    count, renamed = 0, None
    for rows in batches(store.accessor(type), reader, store, type):
        for row in rows:
            count += 1
            if id is not None and id == row[0] and reader.key_of(row) != key:
                renamed = id
            if reader.key_of(row) == key or (id is not None and id == row[0]):
                places.append(
                    str(row[1])
                    if row[1] is not None
                    else f"id {row[0]!r}"
                    if row[0] is not None
                    else f"record {count}"
                )
        if len(places) > 1:
            break
    return DuplicateKey(
        f"store {store.name!r}, type {type!r}: two records have the key {key!r}: {' and '.join(places[:2])}",
        f"remove or correct one of them, or choose another `key` for [types.{type}]"
        if renamed is None
        else f"{renamed!r} has it no more, but keeps it as its name, under which it was first seen: give the new one another",
    )


def quarantined(reader: Reader, bad: BadRow) -> Quarantined:
    """A row that was refused, as it is kept."""
    id, place = bad.row[0], bad.row[1]
    if isinstance(id, str) and not _is_text(id):
        id = None
    return Quarantined(
        str(place) if place is not None else f"id {id}" if id is not None else "",
        id if isinstance(id, int | str | None) else str(id),
        _raw(reader, bad.row),
        bad.error,
        [],
    )


def called_now(journal: Journal, type: str, reader: Reader, until: int | None) -> dict[str, str]:
    """The records whose key fields were changed after their key was minted: what stands there → the key."""
    heads = journal.heads(type, changed_in(journal, type, reader.binding.key), until)
    named = {reader.key_in(head.fields): key for key, head in heads.items() if head.fields is not None}
    return {name: key for name, key in named.items() if name != key}


def _is_text(id: str) -> bool:
    """Half a surrogate pair is none."""
    try:
        return bool(id.encode()) or not id
    except UnicodeEncodeError:
        return False


def _local(record: Record) -> int | str:
    return record.key if record.id is None else record.id


def _raw(reader: Reader, row: Row) -> str:
    """A row that was refused, as JSON a person can read."""
    fields: dict[str, Any] = {}
    for local, value in zip(reader.binding.locals, row[4:], strict=True):
        if value is not ABSENT:
            fields[local] = _plain(value)
    return encode(fields).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    try:
        encode(value)
    except (TypeError, ValueError):
        return str(value)
    return value
