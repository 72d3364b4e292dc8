"""The documents of status, show and blame, put together from the journal and what it knows of the stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from evsync.binding import TypeSpec, nearest
from evsync.data import join_key
from evsync.errors import BadValue, NotFound, UsageError
from evsync.filters import read_filter
from evsync.journal import query, troubles
from evsync.journal.journal import Journal
from evsync.projections.merge import same_record, view
from evsync.projections.reader import key_text
from evsync.projections.replicas import Replicas, binding_state, frozen_types
from evsync.store import Store
from evsync.values import moment, wire_of

Document = dict[str, Any]
OPERATIONS = ("create", "update", "delete", "read", "resolve", "undo")


def check_names(
    journal: Journal,
    types: Mapping[str, Any],
    stores: Mapping[str, Any],
    type: str | None,
    store: str | None = None,
    op: str | None = None,
) -> None:
    """Raises UsageError for a type, store or operation that neither the configuration nor the journal knows."""
    for what, name, known in (
        ("type", type, types),
        ("store", store, stores),
        ("operation", op, dict.fromkeys(OPERATIONS)),
    ):
        if (
            name is not None
            and name not in known
            and (what == "operation" or journal.known_name(name) is None)
        ):
            raise UsageError(
                f"there is no {what} {name!r}", nearest(name, known) or f"the {what}s are: {', '.join(known)}"
            )


def check_field(journal: Journal, types: Mapping[str, TypeSpec], type: str | None, field: str) -> None:
    """Raises UsageError for a field of which neither the configuration nor the journal knows anything."""
    if query.shapes_with(journal, field):
        return
    known = {
        name
        for spec in types.values()
        if type in (None, spec.name)
        for name in (*spec.key, *(spec.fields or ()), *frozen_types(journal, spec.name))
    }
    if field not in known:
        raise UsageError(
            f"there is no field {field!r}" + ("" if type is None else f" in the type {type!r}"),
            nearest(field, known) or f"the fields are: {', '.join(sorted(known)) or 'none so far'}",
        )


def status(journal: Journal, stores: Sequence[Store]) -> Document:
    """The document of `evsync status`."""
    head = journal.head().seq
    conflicts: dict[str, int] = {}
    for due in query.open_conflicts(journal).values():
        for name in {store for _, store in due}:
            conflicts[name] = conflicts.get(name, 0) + 1
    entries = []
    for store in stores:
        times = journal.connection.execute(
            "SELECT last_ingest, last_replay FROM store WHERE name = ?", (store.name,)
        ).fetchone() or (None, None)
        failures, quarantined = (
            journal.connection.execute(
                f"SELECT count(*) FROM {table} x JOIN binding b ON b.id = x.binding WHERE b.store = ?",
                (store.name,),
            ).fetchone()[0]
            for table in ("failure", "quarantine")
        )
        at = cursor(journal, store)
        entries.append(
            {
                "store": store.name,
                "role": store.role,
                "cursor": at,
                "behind": 0 if store.role == "source" else max(head - at, 0),
                "conflicts": conflicts.get(store.name, 0),
                "failures": failures,
                "quarantined": quarantined,
                "last_ingest": times[0] and moment(times[0]),
                "last_replay": times[1] and moment(times[1]),
            }
        )
    return {"head": head, "stores": entries}


def cursor(journal: Journal, store: Store) -> int:
    """Up to where all types of a store were replayed; 0 before anything was."""
    states = [binding_state(journal, store.name, type) for type in store.types]
    return min((0 if state is None else state.cursor for state in states), default=0)


def show(
    journal: Journal, stores: Iterable[Store], type: str, key: str, at: str | None, names: Sequence[str]
) -> Document:
    """The document of `evsync show`. Raises NotFound for a record that the journal never saw (see `check_key`)."""
    upto = None if at is None else query.position(journal, at)
    seq, fields, shown = query.state(journal, type, key, upto)
    if seq == 0:
        check_key(journal, type, key, names)
    replicas = []
    quarantined = []
    for store in stores:
        if type not in store.types:
            continue
        state = binding_state(journal, store.name, type)
        held = None if state is None else Replicas(journal, state.id).by_key([key]).get(key)
        known_as = None if held is None else held.known_as
        key_of = partial(_key_in, None if state is None else state.mapping)
        quarantined += [
            {"store": store.name, "error": error}
            for error in troubles.quarantined_as(journal, store.name, type, key, known_as, key_of)
        ]
        mapping = (state.mapping if state is not None else None) or {}
        names = list(mapping.get("fields", ()))
        where = read_filter(mapping.get("where"))
        wanted = fields is not None and (where is None or where.holds(fields))
        in_step = held is None and (fields is None or (where is not None and not wanted))
        if held is not None and held.fingerprint is not None and (wanted or fields is None):
            then = view(journal.revisions([held.seq]).get(held.seq, {}), names)
            in_step = held.in_line and same_record(then, view(fields, names))
        replicas.append(
            {
                "store": store.name,
                "seq": 0 if held is None else held.seq,
                "id": None if held is None else held.known_as,
                "in_step": in_step,
            }
        )
    return {
        "type": type,
        "key": key,
        "seq": seq,
        "fields": shown,
        "replicas": replicas,
        "quarantined": quarantined,
    }


def blame(journal: Journal, type: str, key: str, names: Sequence[str]) -> Document:
    """The document of `evsync blame`. Raises NotFound for a record that the journal never saw (see `check_key`)."""
    fields = query.blame(journal, type, key)
    if not fields:
        check_key(journal, type, key, names)
    return {"type": type, "key": key, "fields": fields}


def _key_in(mapping: Mapping[str, Any] | None, row: Mapping[str, Any]) -> str | None:
    """The key that stands in a store's raw row; None if it cannot be read."""
    if mapping is None:
        return None
    parts = []
    for name in mapping["key"]:
        local, value_type = mapping["fields"][name]
        try:
            parts.append(key_text(value_type, wire_of(value_type, row.get(local))))
        except (BadValue, TypeError, ValueError, AttributeError):
            return None
    return join_key(parts)


def check_key(journal: Journal, type: str, key: str, names: Sequence[str]) -> None:
    """Raises NotFound for a record that the journal never saw. `names`: the fields of which keys are made."""
    if key in journal.heads(type, [key]):
        return
    first = _first_called(journal, type, key, names)
    if first is not None:
        hint = f"that is how {first!r} is called since its key was edited; records keep their first one"
    else:
        hint = nearest(key, query.similar_keys(journal, type, key)) or f"see: evsync log {type}"
    raise NotFound(f"the journal knows no {type} {key!r}", hint)


def _first_called(journal: Journal, type: str, key: str, names: Sequence[str]) -> str | None:
    """The key under which a record stands in the journal whose fields make up this one now."""
    kinds = frozen_types(journal, type)
    for first, head in journal.heads(type, query.changed_in(journal, type, names)).items():
        fields = head.fields or {}
        if all(name in kinds and fields.get(name) is not None for name in names) and key == join_key(
            [key_text(kinds[name], fields[name]) for name in names]
        ):
            return first
    return None
