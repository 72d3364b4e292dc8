"""What a store puts down of a batch in the very transaction that writes it, and how it is taken up again.

A run may be killed when the store has committed and the journal does not know of it yet. What it wrote can mostly be told
by its content (`Ingest.own_writes`); not so where the store has altered it, or somebody has changed it since. A store that
keeps a note (`CanNote`) says it exactly. A note counts only for the journal that made it: its place is named after the
journal's first event, and it holds the hash of the event up to which was replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from evsync.accessor import CanNote
from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.references import is_referenced
from evsync.projections.replicas import BindingState, Replicas, binding_state, set_noted
from evsync.store import Store

Put = tuple[str, int, bytes | None, int | str | None, bool, Fields | None]
"""What a replica is to remember: see `Replicas.put`."""


class Memory(msgspec.Struct, array_like=True):
    """A note: the journal's event `until` and its hash, the replicas to be remembered, those to be forgotten, and which
    records were written (the others were so already)."""

    until: int
    hash: bytes
    put: Sequence[Put]
    forget: Sequence[str]
    wrote: Sequence[str]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Memory)


def place_of(journal: Journal, store: str, type: str) -> str | None:
    """Where the notes of this journal stand in a store; None while it is empty."""
    first = _hash(journal, 1)
    if first is None:
        return None
    named = msgspec.json.encode([store, type])
    return hashlib.sha256(first + named).hexdigest()[:32]


def text_of(
    journal: Journal, until: int, put: Sequence[Put], forget: Sequence[str], wrote: Sequence[str]
) -> str:
    """The text of a note."""
    return _encoder.encode(Memory(until, _hash(journal, until) or b"", put, forget, wrote)).decode()


def recall(journal: Journal, store: Store, type: str, state: BindingState | None) -> BindingState | None:
    """Remember what a run that was killed has written last, where the store says so; answers with the binding's state.
    Raises StoreError."""
    accessor = store.accessor(type)
    if state is None or not state.intents or not isinstance(accessor, CanNote):
        return state
    place = place_of(journal, store.name, type)
    found = None if place is None else accessor.noted(store, type, place)
    if found is None or found.number <= state.noted:
        return state
    try:
        memory = _decoder.decode(found.text)
    except msgspec.DecodeError:  # whoever wrote that, it was not us
        return state
    if memory.hash != _hash(journal, memory.until):
        return state
    replicas = Replicas(journal, state.id)
    with journal.write():
        replicas.forget(memory.forget, is_referenced(store, type))
        replicas.put(memory.put)
        if state.position is not None:
            replicas.wrote(memory.wrote, found.position)
        settled = [*(key for key, *_ in memory.put), *memory.forget]
        replicas.settle(settled)
        replicas.mended(settled)
        set_noted(journal, state.id, found.number)
    return binding_state(journal, store.name, type)


def _hash(journal: Journal, seq: int) -> bytes | None:
    row = journal.connection.execute("SELECT hash FROM event WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])
