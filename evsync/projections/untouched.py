"""Stores that nobody has touched since they were read: there is nothing to read again.

Before a store is read it is asked for its mark; once all that was read is journalled, the mark is kept. If the
store still has that mark at the next ingest, and everything else on which the outcome depends is as it was, reading
would show what is known already. Whatever is in doubt is read.
"""

from __future__ import annotations

import hashlib

from evsync import __version__
from evsync.accessor import CanFeed, CanMark
from evsync.journal.journal import Journal
from evsync.projections.replicas import BindingState, mark_of
from evsync.projections.spool import Spool
from evsync.projections.staging import Staged
from evsync.store import Store
from evsync.values import decode, encode


def mark_now(store: Store, type: str) -> str | None:
    """What the store is like now, and how it is read; None if that cannot be told.

    References are left out: what they mean depends on other stores' ids, and so are conversions by somebody's code."""
    accessor, binding = store.accessor(type), store.binding(type)
    if not isinstance(accessor, CanMark) or binding.translated:
        return None
    if isinstance(accessor, CanFeed) and accessor.feeds(store, type):
        return None
    if any(isinstance(one.document, str) and ":" in one.document for one in binding.convert.values()):
        return None
    mark = accessor.mark(store, type)
    options = {name: str(value) for name, value in store.options.items()}
    read = [__version__, store.url, options, binding.digest, binding.contract, mark]
    return None if mark is None else hashlib.sha256(encode(read)).hexdigest()


def remembered(mark: str | None, held: int) -> str | None:
    """What to keep: the mark, and how many records the store holds."""
    return None if mark is None else encode([mark, held]).decode()


def as_before(
    journal: Journal, store: Store, type: str, state: BindingState | None, mark: str | None
) -> Staged | None:
    """What reading the store would stage, if that is certain without reading it."""
    if mark is None or state is None or state.intents or state.mapping != store.binding(type).as_document():
        return None
    kept = mark_of(journal, state.id)
    then, held = (None, 0) if kept is None else decode(kept)
    if then != mark:
        return None
    return Staged(Spool(), known=held, found=held, unchanged=held, as_before=True)
