"""Looking into live stores for what `evsync init` proposes. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from evsync import plugins, proposal
from evsync.accessor import (
    CanCreate,
    CanDescribe,
    CanDiscover,
    CanLeaveOut,
    CanOfferCapture,
    CanRefuseCreation,
    CanRelate,
    Relations,
)
from evsync.binding import Binding, Field, PlaceSpec
from evsync.errors import StoreError, Unreachable, UsageError
from evsync.journal.event import OWN
from evsync.proposal import Look, Seen
from evsync.store import Store
from evsync.toml_table import Table
from evsync.urls import name_of, with_variables, without_password

SAMPLED = 1000
"""How many records are looked at to guess types and keys."""


def proposed(folder: Path, source: str | None, target: str | None) -> proposal.Proposal:
    """What to write for these stores, as seen from `folder`. Raises UsageError, StoreError."""
    stores: list[Seen] = []
    if source is not None:
        store, seen = _named(source, folder, ())
        stores.append(_looked(store, seen, ()))
        if not stores[0].looks:
            raise UsageError(
                f"there is nothing to look into in {store.shown_url}",
                "it exists, but holds no table or record that could be read",
            )
    if target is not None:
        store, seen = _named(target, folder, [seen.store for seen in stores])
        known = stores[0].looks if stores else []
        if not _is_yet_to_come(store):
            seen = _looked(store, seen, set(map(proposal.plain, proposal.names_of(known).values())))
        if not seen.looks and not known:
            raise UsageError(
                f"there is nothing to look into in {store.shown_url}",
                "name a store that holds data: --from URL",
            )
        stores.append(_with_what_it_lacks(store, seen, known))
    return proposal.propose(stores)


def _named(url: str, folder: Path, taken: Collection[str]) -> tuple[Store, Seen]:
    """The store at `url`, by a name that nobody has yet, and how it is to be written down."""
    filled = Table("the command line", "", {"url": url}, os.environ).text("url")
    scheme = url.partition(":")[0]
    accessor = plugins.accessor(scheme, where=f"the URL {without_password(url)!r}")
    name = name_of(url)
    if name in taken or name == OWN:
        name = f"{name}-{scheme}"
    if name in taken:
        name = f"{name}-2"
    written, variables = with_variables(url, f"evsync_{name}")
    store = Store(name, filled, accessor=accessor, root=folder, shown_url=written)
    if not url.endswith("/") and "://" not in url and store.path.is_dir():
        return _named(url + "/", folder, taken)
    return store, Seen(name, written, variables)


def _is_yet_to_come(store: Store) -> bool:
    """Whether it is a file that is not there. A server that does not answer is there, for all we know."""
    return "://" not in store.url and not store.path.exists() and _is_unreachable(store)


def _is_unreachable(store: Store) -> bool:
    accessor = store.accessor("")
    try:
        if isinstance(accessor, CanDiscover):
            accessor.discover(store)
    except Unreachable:
        return True
    return False


def _looked(store: Store, seen: Seen, known: Collection[str]) -> Seen:
    """A look at each type that the store could hold, and at what there is besides. `known`: the types of which another
    store gives the key."""
    accessor = store.accessor("")
    if not isinstance(accessor, CanDescribe):
        raise UsageError(
            f"a store like {store.shown_url!r} cannot say what it holds",
            "run evsync init without it, and write it by hand",
        )
    found = accessor.discover(store) if isinstance(accessor, CanDiscover) else {store.name: {}}
    left_out = accessor.left_out(store) if isinstance(accessor, CanLeaveOut) else {}
    looks = []
    for type, options in found.items():
        store.places[type] = PlaceSpec(options=options)
        try:
            look = _look(store, seen, type, options)
        except StoreError as error:
            if len(found) == 1:
                raise
            look, left_out[type] = None, error.message
        alone = len(found) == 1 or look is None or proposal.plain(look.options.get("table", type)) in known
        if look is not None and not alone and proposal.is_without_key(look):
            look, left_out[type] = None, "nothing tells its records apart"
        if look is None:
            del store.places[type]
        else:
            looks.append(look)
    ways = accessor.ways(store) if isinstance(accessor, CanOfferCapture) and looks else []
    return msgspec.structs.replace(seen, looks=looks, left_out=left_out, ways=ways)


def _look(store: Store, seen: Seen, type: str, options: Mapping[str, str]) -> Look | None:
    """None for what has no columns."""
    accessor = store.accessor(type)
    described = accessor.describe(store, type) if isinstance(accessor, CanDescribe) else None
    if described is None or not described.columns:
        return None
    columns = described.columns
    fields = tuple(Field(name, name, columns[name] or "str") for name in sorted(columns))
    key = described.primary_key or tuple(columns)[:1]
    store.bind(Binding(type, key, fields, options=options))
    return Look(
        seen.store,
        seen.url,
        type,
        options,
        columns,
        described.primary_key,
        _samples(store, type),
        accessor.relations(store, type) if isinstance(accessor, CanRelate) else Relations(),
        described.guessed,
        "table" if "table" in accessor.options else None,
        described.generated,
        takes_zone="zone" in accessor.options,
    )


def _samples(store: Store, type: str) -> list[Mapping[str, Any]]:
    rows = store.accessor(type).find(store, type)
    found: list[Mapping[str, Any]] = [data.fields for data in islice(rows, SAMPLED)]
    if hasattr(rows, "close"):
        rows.close()
    return found


def _with_what_it_lacks(store: Store, seen: Seen, known: Sequence[Look]) -> Seen:
    """The target, with the types of the source that are to be created there, under the same names."""
    here = set(map(proposal.plain, proposal.names_of(seen.looks).values()))
    names = proposal.names_of(known)
    fresh = [
        look
        for look in known
        if not seen.looks or (len(known) > 1 and proposal.plain(names[look.type]) not in here)
    ]
    accessor = store.accessor("")
    if (
        len(fresh) > 1
        and "://" not in store.url
        and not store.url.endswith("/")
        and "file" in accessor.options
    ):
        raise UsageError(
            f"{store.shown_url} is one file, but there are {len(fresh)} types to write into it",
            f"name a folder: --to {store.scheme}:{store.name}/",
        )
    zone = "zone" in accessor.options
    looks = [Look(seen.store, seen.url, look.type, look.options, takes_zone=zone) for look in fresh]
    return msgspec.structs.replace(
        seen, looks=[*seen.looks, *looks], no_creation=_why_not_created(store) if fresh else None
    )


def _why_not_created(store: Store) -> str | None:
    accessor = store.accessor("")
    if not isinstance(accessor, CanCreate):
        return f"evsync cannot create anything in a store like {store.shown_url}: do it beforehand"
    if isinstance(accessor, CanRefuseCreation):
        return accessor.why_not_created(store)
    folder = store.path if store.url.endswith("/") else store.path.parent
    if "://" not in store.url and not folder.is_dir():
        return f"there is no directory {folder}: make it first"
    return None
