"""The examination behind `evsync doctor`: everything that would keep a sync from going well, and what to do about it.

It writes nothing, neither to the journal nor to a store. Each check is a dictionary with the keys `store`, `type`,
`check`, `ok`, `detail` and `hint`; `store` and `type` are None where a check is about neither. Whatever goes wrong
in one store is a check that is not ok, and stops no other.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from evsync.accessor import CanCheck
from evsync.binder import Bound, bind
from evsync.binding import Binding
from evsync.capturing import standing
from evsync.errors import DuplicateKey, EvsyncError, JournalError, Unreachable
from evsync.ingesting import yet_to_come
from evsync.journal.journal import Journal
from evsync.journal.schema import FORMAT
from evsync.linked import Linked
from evsync.projections.guarding import Allowed, guard
from evsync.projections.guards import mapping_changed
from evsync.projections.replicas import BindingState, Quarantined, binding_state, frozen_types, mapped_fields
from evsync.projections.staging import Staged, ids_ahead, stage
from evsync.store import Store

if TYPE_CHECKING:
    from evsync.synchronizer import Synchronizer

Check = dict[str, Any]

WAIT_MILLISECONDS = 1_000
"""How long the journal's lock is waited for, to see whether it can be had."""


def examine(synchronizer: Synchronizer) -> dict[str, Any]:
    """The document of `evsync doctor`."""
    checks: list[Check] = []
    try:
        journal, own = synchronizer.journal(create=False), False
    except JournalError as error:
        checks.append(_bad("journal", error))
        journal, own = Journal.open(None), True  # the stores can be examined all the same
    else:
        checks += _journal(synchronizer, journal)
    try:
        if not synchronizer.stores:
            checks.append(
                _check(
                    "stores",
                    False,
                    "no stores are configured",
                    "add a [stores.NAME] with a url, or run: evsync init --from URL",
                )
            )
        bound, troubles = _bound(synchronizer, journal)
        for store in synchronizer.stores.values():
            if store.name in troubles:
                checks.append(_trouble(store, troubles[store.name]))
                continue
            for number, type in enumerate(store.types):
                read = store.types[:number]
                checks += _Examination(synchronizer, journal, store, type, bound, read).checks()
    finally:
        if own:
            journal.close()
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


# -- the journal ------------------------------------------------------------------------------------------


def _journal(synchronizer: Synchronizer, journal: Journal) -> Iterator[Check]:
    path = synchronizer.path
    if path is None:
        yield _check("journal", True, "in memory: gone when the program ends")
        return
    if journal.temporary:
        if not path.parent.is_dir():
            yield _check("journal", False, f"there is no folder {path.parent} for it", "create the folder")
        elif not os.access(path.parent, os.W_OK):
            yield _check("journal", False, f"no right to write in {path.parent}", "check the folder's rights")
        else:
            yield _check("journal", True, f"{path.name} is not there yet; the first ingest makes it")
        return
    try:
        head = journal.head()
        row = journal.connection.execute(
            "SELECT seq, hash, (SELECT min(seq) FROM event) FROM event ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        last, hash, first = row or (0, head.hash, 1)
    except sqlite3.Error as error:
        yield _check("journal", False, f"{path} cannot be read: {error}", "restore it from a backup")
        return
    whole = (last, hash, first) == (head.seq, head.hash, 1)
    yield _check(
        "journal",
        whole,
        f"{path.name}, format {FORMAT}, {head.seq:,} event{'' if head.seq == 1 else 's'}"
        if whole
        else f"its head says {head.seq} events, but it holds {first} to {last} or another hash",
        "" if whole else "evsync verify tells what is wrong",
    )
    yield _journal_writable(journal)


def _journal_writable(journal: Journal) -> Check:
    """Whether the lock can be had. A process that has it just now is no trouble."""
    connection = journal.connection
    before = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute(f"PRAGMA busy_timeout = {WAIT_MILLISECONDS}")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):
            return _check("journal writable", True, "another process is writing to it just now")
        return _check("journal writable", False, str(error), "check the rights of the file and its folder")
    finally:
        connection.execute(f"PRAGMA busy_timeout = {before}")
    return _check("journal writable", True)


# -- binding ----------------------------------------------------------------------------------------------


def _bound(synchronizer: Synchronizer, journal: Journal) -> tuple[Bound, dict[str, Exception]]:
    """How the types lie in the stores, and the stores of which that cannot be said, with the reason."""
    types = synchronizer.types
    frozen = {type: frozen_types(journal, type) for type in types}
    remembered = mapped_fields(journal)
    stores, troubles = list(synchronizer.stores.values()), dict[str, Exception]()
    try:
        bound = bind(stores, types, frozen, remembered=remembered)
    except Exception:
        # One of them does not fit. Which, shows when each is asked alone.
        for store in stores:
            try:
                bind([store], types, frozen, remembered=remembered)
            except Exception as error:
                troubles[store.name] = error
        fitting = [store for store in stores if store.name not in troubles]
        try:
            bound = bind(fitting, types, frozen, remembered=remembered)
        except Exception as error:
            return Bound({}, {}, set()), {**{store.name: error for store in fitting}, **troubles}
    return bound, {**bound.errors, **troubles}


def _trouble(store: Store, error: Exception) -> Check:
    """Why a store could not be bound: it is out of reach, or the configuration does not fit it."""
    check = "reachable" if not isinstance(error, EvsyncError) or error.code != "config" else "mapping"
    return _bad(check, error, store)


# -- one type in one store --------------------------------------------------------------------------------


class _Examination:
    """Examines one type in one store."""

    def __init__(
        self,
        synchronizer: Synchronizer,
        journal: Journal,
        store: Store,
        type: str,
        bound: Bound,
        read: Collection[str],
    ) -> None:
        """`read`: the types of the store that were examined before."""
        self._synchronizer, self._journal, self._bound = synchronizer, journal, bound
        self._store, self._type, self._read = store, type, read

    def checks(self) -> list[Check]:
        """All that can be found out. Never raises."""
        checks: list[Check] = []
        try:
            for check in self._checks():
                checks.append(check)
        except Exception as error:
            checks.append(_bad("reachable", error, self._store, self._type))
        return checks

    def _checks(self) -> Iterator[Check]:
        store, type = self._store, self._type
        if (store.name, type) in self._bound.missing:
            yield self._missing()
            return
        binding = store.binding(type)
        state = binding_state(self._journal, store.name, type)
        try:
            for parent in {field.references for field in binding.translated} - set(self._read):
                if parent is not None and (store.name, parent) not in self._bound.missing:
                    ids_ahead(self._journal, store, parent)  # of its own type, or one that comes later
            found = stage(self._journal, store, type, state)
        except DuplicateKey as error:
            yield self._ok("reachable", store.shown_url)
            yield _bad("keys", error, store, type)
        except (EvsyncError, OSError) as error:
            yield _bad("reachable", error, store, type)
            return
        else:
            yield self._ok("reachable", f"{store.shown_url}, {found.found:,} record{_s(found.found)}")
            yield from self._rows(found)
            yield from self._guards(found)
        yield from self._mapping(binding, state)
        yield from self._writable()
        yield self._capture()

    def _missing(self) -> Check:
        """A table or file that is not there: either a replay will create it, or something is wrong."""
        store, type = self._store, self._type
        hint = f"check the url of [stores.{store.name}] and the options of its type"
        if store.role == "source":
            return self._not_ok(
                "reachable", f"{store.shown_url} is not there, and a source is never created", hint
            )
        try:
            linked = Linked(
                self._journal,
                self._synchronizer.stores,
                self._synchronizer.types,
                self._synchronizer.rules,
                self._bound,
            )
            coming = yet_to_come(linked, store, type)
        except Unreachable as error:
            return _bad("reachable", error, store, type)
        if coming:
            return self._ok("reachable", f"{store.shown_url} is not there yet; a replay creates it")
        detail = f"{store.shown_url} is not there, and no other store has this type to fill it with"
        return self._not_ok("reachable", detail, hint)

    def _rows(self, found: Staged) -> Iterator[Check]:
        """Rows that an ingest would put aside: those without a key, and those with a value of another type."""
        keyless = [bad for bad in found.bad if bad.error.startswith("the key field")]
        unfit = [bad for bad in found.bad if not bad.error.startswith("the key field")]
        for check, rows, good in (
            ("keys", keyless, f"by {', '.join(self._store.binding(self._type).key)}, none twice"),
            ("values", unfit, "all of their declared types"),
        ):
            yield (
                self._ok(check, good)
                if not rows
                else self._not_ok(
                    check,
                    f"{len(rows):,} row{_s(len(rows))} would be quarantined; the first: {_told(rows[0])}",
                    "correct them in the store; all others are synchronized"
                    + (
                        "" if check == "keys" else f", or declare another type in [types.{self._type}.fields]"
                    ),
                )
            )

    def _guards(self, found: Staged) -> Iterator[Check]:
        """What would stop an ingest before it begins."""
        store = self._store
        if store.role == "target":
            return
        state = binding_state(self._journal, store.name, self._type)
        for one in guard(self._journal, store, self._type, found, state, Allowed(mapping=True)):
            check = "deletions" if one.option == "--allow-deletes" else "changes"
            yield self._not_ok(
                check, one.reason, f"if that is meant: evsync ingest {store.name} {one.option}"
            )

    def _mapping(self, binding: Binding, state: BindingState | None) -> Iterator[Check]:
        before: Mapping[str, Any] | None = None if state is None else state.mapping
        reason = mapping_changed(
            before,
            binding.as_document(),
            binding.open,
            binding.contract,
            evolves=self._store.role != "target",
        )
        if reason is None:
            named = (f.name if f.name == f.local else f"{f.name} = {f.local}" for f in binding.fields)
            yield self._ok("mapping", ", ".join(named))
            return
        way = (
            f"replay --store {self._store.name} --rebuild"
            if self._store.role == "target"
            else f"ingest {self._store.name} --allow-mapping"
        )
        yield self._not_ok("mapping", reason, f"if that is meant: evsync {way}")

    def _capture(self) -> Check:
        try:
            found = standing(self._store, self._journal)
        except (EvsyncError, OSError) as error:
            return _bad("capture", error, self._store, self._type)
        kept = "" if found.retained is None else f"; {found.retained:,} bytes are kept for it"
        if found.ok:
            return self._ok("capture", found.detail + kept)
        return self._not_ok("capture", found.detail + kept, found.hint)

    def _writable(self) -> Iterator[Check]:
        store, type = self._store, self._type
        if store.role == "source":
            return
        accessor = store.accessor(type)
        if not isinstance(accessor, CanCheck):
            yield self._ok("writable", "its accessor cannot tell beforehand")
            return
        try:
            reason = accessor.check(store, type)
        except (EvsyncError, OSError) as error:
            yield _bad("writable", error, store, type)
            return
        if reason is None:
            yield self._ok("writable")
        else:
            yield self._not_ok(
                "writable", reason, f'allow it, or set role = "source" in [stores.{store.name}]'
            )

    def _ok(self, check: str, detail: str = "") -> Check:
        return _check(check, True, detail, store=self._store, type=self._type)

    def _not_ok(self, check: str, detail: str, hint: str) -> Check:
        return _check(check, False, detail, hint, self._store, self._type)


# -- a check ----------------------------------------------------------------------------------------------


def _check(
    check: str,
    ok: bool,
    detail: str = "",
    hint: str = "",
    store: Store | None = None,
    type: str | None = None,
) -> Check:
    return {
        "store": None if store is None else store.name,
        "type": type,
        "check": check,
        "ok": ok,
        "detail": detail,
        "hint": hint,
    }


def _bad(check: str, error: Exception, store: Store | None = None, type: str | None = None) -> Check:
    """A check that an exception settled."""
    # What was not raised on purpose may hold anything; through our own class it is told as all errors are.
    known = error if isinstance(error, EvsyncError) else EvsyncError(_named(error))
    message = known.message
    if store is not None:
        for prefix in (f"store {store.name!r}, type {type!r}: ", f"store {store.name!r}: "):
            message = message.removeprefix(prefix)
    default = "check evsync.toml" if store is None else f"check [stores.{store.name}] in evsync.toml"
    return _check(check, False, message, known.hint or default, store, type)


def _named(error: Exception) -> str:
    return (
        " ".join(str(error).split()) if isinstance(error, OSError) else f"{error.__class__.__name__}: {error}"
    )


def _told(bad: Quarantined) -> str:
    return f"{bad.place}: {bad.error}" if bad.place else bad.error


def _s(count: int) -> str:
    return "" if count == 1 else "s"
