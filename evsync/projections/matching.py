"""Knows a record by other fields than its key, when a store shows it for the first time (`match`).

Two stores rarely agree on a key before they were ever in step. A record whose key the journal does not have
is compared with those that this store is not known to hold; what it is compared by lies in tables on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from evsync.binding import Binding
from evsync.errors import BadValue
from evsync.journal.event import Fields
from evsync.journal.journal import Journal
from evsync.projections.replicas import Quarantined, Replicas
from evsync.projections.spool import Spool
from evsync.projections.staging import Staged
from evsync.values import ABSENT, decode, encode, load

BATCH = 2_000
NAMED = 5  # candidates told in a reason

KEY, ID, NAMES, TEXT, PLACE, REPLICA = 0, 1, 2, 3, 7, 8  # of a staged row, see ingest.Found


def matched(
    journal: Journal,
    type: str,
    binding: Binding,
    replicas: Replicas,
    lists: Sequence[Sequence[str]],
    staged: Staged,
) -> tuple[list[Quarantined], list[str]]:
    """Put the records that are found in the journal by a list of fields under the keys they have there. Answers
    with the rows that may be several records, taken out of what was staged, and with those records. Inside `write`."""
    db = journal.connection
    for table in ("claimed", "candidate", "match"):
        db.execute(f"DROP TABLE IF EXISTS temp.evsync_{table}")
    usable = [names for names in lists if set(names) <= set(binding.names)]
    if not usable or not journal.has_type(type) or not any(map(_is_new, staged.different)):
        return [], []
    db.execute("CREATE TEMP TABLE evsync_claimed (key TEXT PRIMARY KEY) WITHOUT ROWID")
    db.execute(
        "CREATE TEMP TABLE evsync_candidate (digest BLOB, key TEXT, PRIMARY KEY (digest, key)) WITHOUT ROWID"
    )
    db.execute("CREATE TEMP TABLE evsync_match (row TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
    _claim(journal, staged)
    _candidates(journal, type, replicas, binding, usable)
    doubtful = _look(journal, type, binding, usable, staged)
    db.execute("CREATE INDEX temp.evsync_match_key ON evsync_match (key)")
    return _rewrite(journal, binding, staged, doubtful)


def _is_new(row: Sequence[Any]) -> bool:
    return row[TEXT] is not None and row[REPLICA] is None


def _claim(journal: Journal, staged: Staged) -> None:
    journal.connection.executemany(
        "INSERT INTO temp.evsync_claimed VALUES (?)",
        ((row[KEY],) for row in staged.different if _is_new(row)),
    )


def _candidates(
    journal: Journal, type: str, replicas: Replicas, binding: Binding, lists: Sequence[Sequence[str]]
) -> None:
    """The live records that the store neither holds nor shows under their key, by what they are compared by."""
    last = ""
    while keys := [
        key
        for (key,) in journal.connection.execute(
            "SELECT DISTINCT key FROM event WHERE type = ? AND op <> 'read' AND key > ? ORDER BY key LIMIT ?",
            (journal.known_name(type), last, BATCH),
        )
    ]:
        last = keys[-1]
        held = replicas.fingerprints(keys)
        free = [key for key in keys if key not in held and not _claimed(journal, key)]
        journal.connection.executemany(
            "INSERT OR IGNORE INTO temp.evsync_candidate VALUES (?, ?)",
            (
                (digest, key)
                for key, head in journal.heads(type, free).items()
                if head.fields is not None
                for digest in _digests(binding, lists, head.fields)
                if digest is not None
            ),
        )


def _claimed(journal: Journal, key: str) -> bool:
    return (
        journal.connection.execute("SELECT 1 FROM temp.evsync_claimed WHERE key = ?", (key,)).fetchone()
        is not None
    )


def _look(
    journal: Journal, type: str, binding: Binding, lists: Sequence[Sequence[str]], staged: Staged
) -> dict[str, list[str]]:
    """Note which row is which record; answers with the rows that several records fit, and those."""
    db = journal.connection
    doubtful: dict[str, list[str]] = {}
    rows = filter(_is_new, staged.different)
    while batch := list(islice(rows, BATCH)):
        heads = journal.heads(type, [row[KEY] for row in batch])
        for row in batch:
            head = heads.get(row[KEY])
            if head is not None and head.fields is not None:
                continue  # known by its key
            names = binding.names if row[NAMES] is None else decode(row[NAMES])
            content = dict(zip(names, decode(row[TEXT]), strict=True))
            fit = _fit(db, _digests(binding, lists, content))
            if len(fit) == 1:
                db.execute("INSERT INTO temp.evsync_match VALUES (?, ?)", (row[KEY], fit[0]))
            elif fit:
                doubtful[row[KEY]] = fit
    return doubtful


def _fit(db: Any, digests: Iterator[bytes | None]) -> list[str]:
    """The one record that the first list with just one finds; else those that the first list with any found. A
    later list may decide between several, and finds no other."""
    several: list[str] = []
    for digest in digests:
        if digest is None:
            continue
        found = [
            key
            for (key,) in db.execute(
                "SELECT key FROM temp.evsync_candidate WHERE digest = ? ORDER BY key", (digest,)
            )
        ]
        if len(found) == 1 and (not several or found[0] in several):
            return found
        several = several or found
    return several


def _rewrite(
    journal: Journal, binding: Binding, staged: Staged, doubtful: dict[str, list[str]]
) -> tuple[list[Quarantined], list[str]]:
    """What was staged, in order of the keys the records have now."""
    db = journal.connection
    bad: list[Quarantined] = []
    waiting: dict[str, None] = {}
    again = Spool()
    for row in staged.different:
        if not _is_new(row):
            again.add([row])
            continue
        keys = doubtful.get(row[KEY])
        if keys is not None:
            reason = f"it may be any of the records {_told(keys)}: nobody can tell which"
            bad.append(_put_aside(binding, row, reason, keys))
            waiting.update(dict.fromkeys(keys))
            continue
        found = db.execute("SELECT key FROM temp.evsync_match WHERE row = ?", (row[KEY],)).fetchone()
        if found is None:
            again.add([row])
            continue
        [key] = found
        rivals = [
            one
            for (one,) in db.execute("SELECT row FROM temp.evsync_match WHERE key = ? ORDER BY row", (key,))
        ]
        if len(rivals) > 1:
            reason = f"the rows {_told(rivals)} may all be the record {key!r}: nobody can tell which"
            bad.append(_put_aside(binding, row, reason, [key]))
            waiting[key] = None
        else:
            local = row[ID] if row[ID] is not None else row[KEY]
            again.add([(key, None if str(local) == key else local, *row[NAMES:])])
    again.close()
    staged.different.discard()
    staged.different = again
    return bad, list(waiting)


def _put_aside(binding: Binding, row: Sequence[Any], reason: str, keys: list[str]) -> Quarantined:
    names = binding.names if row[NAMES] is None else decode(row[NAMES])
    fields = {binding.local_of[n]: v for n, v in zip(names, decode(row[TEXT]), strict=True)}
    local = row[ID] if row[ID] is not None else row[KEY]
    place = row[PLACE] if row[PLACE] is not None else f"id {local}"
    return Quarantined(str(place), local, encode(fields).decode(), reason, keys)


def _told(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(repr(key) for key in keys[:NAMED]) + more


def _digests(binding: Binding, lists: Sequence[Sequence[str]], content: Fields) -> Iterator[bytes | None]:
    """What stands for the values of each list; None where one is absent or null."""
    types = {field.name: field.type for field in binding.fields}
    for number, names in enumerate(lists):
        values = [content.get(name, ABSENT) for name in names]
        if any(value is None or value is ABSENT for value in values):
            yield None
            continue
        told = [number, *(_plain(types[name], value) for name, value in zip(names, values, strict=True))]
        yield hashlib.sha256(encode(told)).digest()[:16]


def _plain(type_name: str, wire: Any) -> Any:
    """One form for all ways of writing a value: 1.5 and 1.50 are one number."""
    if type_name == "decimal":
        with suppress(BadValue, ValueError, ArithmeticError):
            value = load(type_name, wire)
            return str(value.normalize()) if value.is_finite() and value else str(value + 0)
    return wire
