"""What a store is known to hold of one record: the side of a conflict that is the store's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.merge import view
from evsync.projections.replicas import Replicas, binding_state


class Holding(msgspec.Struct, frozen=True):
    """A record in a store. `fields` None: the store does not hold it; `deleted`: because it deleted it, which is
    in dispute. `types`: the fields that the store maps, with the value type of each."""

    fields: Fields | None
    deleted: bool
    types: Mapping[str, str]


def holding(journal: Journal, store: str, type: str, key: str) -> Holding | None:
    """What the store is known to hold of the record; None if nothing of this type is known of it."""
    state = binding_state(journal, store, type)
    if state is None or state.mapping is None:
        return None
    types = {name: value_type for name, (_, value_type) in state.mapping["fields"].items()}
    replica = Replicas(journal, state.id).by_key([key]).get(key)
    if replica is None:
        return Holding(None, False, types)
    if replica.fingerprint is None:
        return Holding(None, True, types)
    if replica.content is not None:
        return Holding(replica.content, False, types)
    return Holding(view(journal.revisions([replica.seq]).get(replica.seq, {}), list(types)), False, types)
