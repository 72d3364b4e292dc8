"""What has to come of a script of edits, worked out on plain dictionaries: the rules of a sync, and nothing else.

Nothing of evsync is used here. Records are dictionaries of fields; a field that is not there is absent, one that is
None is null, and these are two different things. There is one type, whose key field is `code`; what a record was
first called is its key for good.

A run that is cut off may leave several worlds behind, as nobody outside knows how far it came: each `pause` is a
place where it may have ended. What is seen afterwards tells which worlds are not the one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

Record = dict[str, Any]

OWN = "evsync"  # the store of what is decided by hand
TOLERANCE = timedelta(minutes=5)  # by which a store's clock may be ahead


@dataclass(frozen=True)
class Place:
    """What a store makes of records: the fields that it has, how it writes them, whether it numbers its rows,
    whether it says when they were changed, and whether it is left alone where a write would change nothing."""

    fields: tuple[str, ...]
    written: Callable[[Record], Record]
    numbers: bool = False
    dated: bool = True
    still: bool = False

    def view(self, record: Record | None) -> Record | None:
        return None if record is None else {name: record[name] for name in self.fields if name in record}


@dataclass(frozen=True)
class Policies:
    fields: str = "newest"
    delete: str = "edit-wins"
    adopt: str = "first"
    prefer: tuple[str, ...] = ()


@dataclass
class Row:
    """A record in a store, and when the store says that it was changed."""

    fields: Record
    at: str | None = None


@dataclass
class Memory:
    """What is remembered of a record in a store: under which handle it stood, what it held (None: it was deleted, and
    whether it may be is open), the shared record when the two were last in line, and whether they still are."""

    handle: Any
    had: Record | None
    seen: Record
    in_line: bool


@dataclass
class Entry:
    """An event. `at`: when the store says that it happened; `seen`: when it came to the journal. `open`: a person has
    to decide about `disputed`, or, without any, whether the record exists. `settles`: the positions of what is decided
    by it. `base`: the position of what an undo takes back; `wanted`: what it would have restored."""

    op: str
    store: str
    key: str
    after: Record | None
    changed: tuple[str, ...] = ()
    at: str | None = None
    seen: datetime | None = None
    conflict: bool = False
    open: bool = False
    disputed: frozenset[str] = frozenset()
    settles: tuple[int, ...] = ()
    base: int = 0
    wanted: Record | None = None

    @property
    def ahead(self) -> bool:
        """Whether its time cannot be."""
        return ahead(self.at, self.seen)


ABSENT = object()


def differing(one: Record, other: Record) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name, ABSENT) != other.get(name, ABSENT)}


def ahead(at: str | None, seen: datetime | None) -> bool:
    return at is not None and seen is not None and moment(at) > seen + TOLERANCE


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z"))


def filled(record: Record | None) -> Record | None:
    return None if record is None else {name: value for name, value in record.items() if value is not None}


@dataclass
class World:
    """`now` is what the clock says."""

    places: dict[str, Place]
    policies: Policies
    now: datetime
    rows: dict[str, dict[Any, Row]] = field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    cursor: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, list[int]] = field(default_factory=dict)  # positions of replays whose end nobody saw
    pending: dict[str, set[str]] = field(default_factory=dict)  # keys to look at again
    failed: dict[str, dict[str, tuple[str, datetime]]] = field(default_factory=dict)  # key → how, and when
    last: int = 0
    trail: list[World] | None = None

    def __post_init__(self) -> None:
        for store in self.places:
            self.rows.setdefault(store, {})
            self.memory.setdefault(store, {})
            self.cursor.setdefault(store, 0)
            self.unsure.setdefault(store, [])
            self.pending.setdefault(store, set())
            self.failed.setdefault(store, {})

    def copy(self) -> World:
        fresh = World(self.places, self.policies, self.now, last=self.last)
        for name in ("rows", "memory", "cursor", "unsure", "pending", "failed"):
            setattr(fresh, name, copy.deepcopy(getattr(self, name)))
        fresh.journal = list(self.journal)
        return fresh

    def pause(self) -> None:
        if self.trail is not None:
            self.trail.append(self.copy())

    # -- people ----------------------------------------------------------------------------------------

    def handle(self, store: str, code: str) -> Any:
        return next((h for h, row in self.rows[store].items() if row.fields["code"] == code), None)

    def put(self, store: str, code: str, fields: Record, at: str | None) -> None:
        """Create a record, or change these fields of it."""
        place, handle = self.places[store], self.handle(store, code)
        old = {"code": code} if handle is None else self.rows[store].pop(handle).fields
        row = Row(place.written({**old, **fields}), at if place.dated else None)
        self.rows[store][self._handle(store, row) if handle is None or not place.numbers else handle] = row

    def remove(self, store: str, code: str) -> None:
        self.rows[store].pop(self.handle(store, code), None)

    def _handle(self, store: str, row: Row) -> Any:
        self.last += 1
        return self.last if self.places[store].numbers else row.fields["code"]

    # -- the shared records ----------------------------------------------------------------------------

    def shared(self, key: str, until: int | None = None) -> Record | None:
        events = self.journal if until is None else self.journal[:until]
        return next((entry.after for entry in reversed(events) if entry.key == key), None)

    def keys(self, until: int | None = None) -> set[str]:
        return {entry.key for entry in (self.journal if until is None else self.journal[:until])}

    def state(self, until: int | None = None) -> dict[str, Record]:
        found = {key: self.shared(key, until) for key in self.keys(until)}
        return {key: record for key, record in found.items() if record is not None}

    def origin(self, key: str, name: str) -> Entry | None:
        """What last changed a field."""
        return next((e for e in reversed(self.journal) if e.key == key and name in e.changed), None)

    def observed(self) -> datetime:
        """When what comes to the journal now was seen: its times never go back."""
        return max([self.now, *(entry.seen for entry in self.journal[-1:] if entry.seen is not None)])

    def append(self, entry: Entry) -> None:
        self.journal.append(replace(entry, seen=self.observed()))

    # -- decisions by hand -----------------------------------------------------------------------------

    def due(self, key: str | None = None) -> list[tuple[int, Entry]]:
        """(position, event) of what a person has to decide, of all records or of this one."""
        events = [(n, e) for n, e in enumerate(self.journal, 1) if key in (None, e.key)]
        return [
            (n, entry)
            for n, entry in events
            if entry.open and not any(ends(later, n, entry) for m, later in events if m > n)
        ]

    def disputes(self) -> set[tuple[str, str]]:
        """(store, key) of what a person has to decide."""
        return {(entry.store, entry.key) for _, entry in self.due()}

    def side(self, entry: Entry) -> Record | None:
        """The side of a conflict that is not the journal's."""
        if entry.store == OWN:
            return entry.wanted
        known = self.memory[entry.store].get(entry.key)
        return None if known is None else known.had

    def settle(self) -> None:
        """What both sides agree about by now is decided."""
        agreed = []
        for position, entry in self.due():
            theirs, mine = self.shared(entry.key), self.side(entry)
            if theirs is None or mine is None:
                over = theirs is mine
            else:
                over = not differing(theirs, mine) & entry.disputed
            if over:
                agreed.append((position, entry.key))
        for position, key in agreed:
            self.decide(key, self.shared(key), Entry("resolve", OWN, key, None, settles=(position,)))

    def decide(self, key: str, after: Record | None, entry: Entry) -> None:
        """Append what evsync itself decides. A record that is gone by agreement is in dispute nowhere."""
        before = self.shared(key)
        changed = (before or {}).keys() if after is None else differing(before or {}, after)
        self.append(replace(entry, after=after, changed=tuple(changed)))
        for memory in self.memory.values():
            if after is None and key in memory and memory[key].had is None:
                del memory[key]

    def resolve(self, key: str, take: str | None = None, fields: Record | None = None) -> bool:
        """Decide about a record: as a store has it, or with these fields set, or as it is. False if the store has no
        side that could be taken."""
        due, theirs = self.due(key), self.shared(key)
        disputed = {name for _, entry in due for name in entry.disputed}
        existing = [e.after for e in self.journal if e.key == key and e.after is not None]
        after, last = theirs, theirs or existing[-1]
        if fields:
            after = {**last, **fields}
        elif take is not None:
            known = self.memory[take].get(key)
            held = None if known is None else known.had
            names = set(self.places[take].fields)
            if theirs is not None:
                if known is None or (held is not None and disputed and not disputed & names):
                    return False
                names &= disputed
            after = None if held is None else taken(last, held, names)
        settles = tuple(position for position, _ in due)
        self.decide(key, after, Entry("resolve", OWN, key, None, settles=settles))
        return True

    def undo(self, position: int) -> None:
        """Take an event back, but for what was changed since: that is left to a person."""
        target = self.journal[position - 1]
        key, post = target.key, target.after
        prior, now = self.shared(key, position - 1), self.shared(key)
        if self.undone(position) or prior in (post, now):
            return
        open, disputed, after = False, set[str](), now
        if prior is None:
            open = now is not None and bool(differing(now, post or {}))
            after = now if open else None
        elif now is None:
            open = post is not None
            after, disputed = (None, differing(prior, post or {})) if open else (prior, disputed)
        else:
            mine = differing(prior, post or {})
            unseen = differing(now, post) if post is not None else set(now)
            disputed = {n for n in mine & unseen if prior.get(n, ABSENT) != now.get(n, ABSENT)}
            open, after = bool(disputed), taken(now, prior, mine - disputed)
        wanted = {n: prior[n] for n in disputed if n in prior} if prior is not None and disputed else None
        entry = Entry(
            "undo", OWN, key, None, open=open, disputed=frozenset(disputed), base=position, wanted=wanted
        )
        if after == now and (not open or any(same_wish(entry, other) for _, other in self.due(key))):
            return
        self.decide(key, after, entry)

    def undone(self, position: int) -> bool:
        """Whether it was taken back, in whole, and that was not taken back."""
        due = {n for n, _ in self.due()}
        return any(
            entry.op == "undo" and entry.base == position and n not in due and not self.undone(n)
            for n, entry in enumerate(self.journal, 1)
        )

    def remembered(self, store: str, key: str) -> Record:
        """What is known that a store held of a record."""
        known = self.memory[store].get(key)
        return (known.had or {}) if known else {}

    # -- ingest ----------------------------------------------------------------------------------------

    def recognised(self, store: str) -> dict[str, tuple[Any, Row]]:
        """Which record each row is: by its handle, else by its code, if that is no other's."""
        memory, found, rest = self.memory[store], {}, []
        for handle, row in self.rows[store].items():
            known = [
                key
                for key, m in memory.items()
                if m.had is not None and m.handle == handle and not self.another(store, m.had, row.fields)
            ]
            if known:
                found[known[0]] = (handle, row)
            elif row.fields["code"] in memory:
                found[row.fields["code"]] = (handle, row)
            else:
                rest.append((handle, row))
        called = {record["code"]: key for key, record in self.state().items()}
        for handle, row in rest:
            code = row.fields["code"]
            key = called.get(code, code)
            found[code if key in found else key] = (handle, row)
        return found

    def another(self, store: str, had: Record, now: Record) -> bool:
        """Whether what stands under a known handle is another record: it has a code that nobody had, and not one
        value in common."""
        both = [
            name for name in had if name != "code" and had[name] is not None and now.get(name) is not None
        ]
        fresh = now["code"] != had["code"] and now["code"] not in self.memory[store]
        return fresh and bool(both) and all(had[name] != now[name] for name in both)

    def guarded(self, store: str) -> bool:
        """Whether so much is gone that it looks like an accident."""
        memory, found = self.memory[store], self.recognised(store)
        known = {key for key, m in memory.items() if m.had is not None}
        gone = known - found.keys()
        own = {
            key for key in gone if any(self.shared(key, position) is None for position in self.unsure[store])
        }
        left = len(gone) - len(own)
        if left * 2 > len(known):
            left -= self.renames(store, {key: memory[key].had or {} for key in gone}, found)
        return left * 2 > len(known) or (bool(known) and not self.rows[store])

    def renames(self, store: str, gone: dict[str, Record], found: dict[str, tuple[Any, Row]]) -> int:
        """How many of the records that are gone are there under another code, and nobody else is like them."""
        if self.places[store].numbers:
            return 0
        new = [row.fields for key, (_, row) in found.items() if key not in self.memory[store]]
        old, fresh = [nameless(record) for record in gone.values()], [nameless(record) for record in new]
        return sum(
            old.count(rest) == 1 == fresh.count(rest)
            for rest in old
            if any(v is not None for v in rest.values())
        )

    def ingest(self, stores: Iterable[str]) -> None:
        for store, found in [(store, self.recognised(store)) for store in stores]:
            memory = self.memory[store]
            self.pause()
            for key in sorted(found.keys() | memory.keys()):
                handle, row = found.get(key, (None, None))
                known = memory.get(key)
                if known is not None and known.had == (None if row is None else row.fields):
                    known.handle = handle
                elif not self.own_write(store, key, handle, row):
                    self.observe(store, key, handle, row)
            self.pause()
            self.unsure[store] = []
        self.pause()
        self.settle()
        self.pause()

    def own_write(self, store: str, key: str, handle: Any, row: Row | None) -> bool:
        """Whether this is what a replay wrote whose end nobody saw."""
        recognised = False
        for position in self.unsure[store]:
            record = self.shared(key, position)
            content = None if row is None else row.fields
            if filled(self.places[store].view(record)) == filled(content):
                recognised = True
                self.pending[store].add(key)
                if content is None:
                    self.memory[store].pop(key, None)
                else:
                    self.memory[store][key] = Memory(handle, dict(content), dict(record or {}), True)
        return recognised

    def observe(self, store: str, key: str, handle: Any, row: Row | None) -> None:
        """Enter what a store holds that differs from what it held."""
        place, rules, known = self.places[store], self.policies, self.memory[store].get(key)
        theirs = self.shared(key)
        had = (known.had or {}) if known else {}
        seen = known.seen if known else {}
        unseen = {
            name
            for name in differing(theirs or {}, seen)
            if name not in place.fields or (theirs or {}).get(name, ABSENT) != had.get(name, ABSENT)
        }
        if row is None:
            assert known is not None
            if theirs is None or not unseen:
                self.append(Entry("delete", store, key, None, tuple(theirs or {})))
                del self.memory[store][key]
            elif rules.delete == "delete-wins":
                self.append(Entry("delete", store, key, None, tuple(theirs), conflict=True))
                del self.memory[store][key]
            elif rules.delete == "edit-wins":
                self.append(Entry("delete", store, key, theirs, conflict=True))
                del self.memory[store][key]
            else:
                self.append(Entry("delete", store, key, theirs, conflict=True, open=True))
                self.memory[store][key] = Memory(None, None, seen, False)
            return

        content = row.fields
        mine = differing(content, had)
        if known is None and theirs is None:
            entry = Entry("create", store, key, dict(content), tuple(content), row.at)
        elif theirs is None:
            after = taken({}, seen, seen.keys()) if rules.delete == "edit-wins" else None
            stands = mine if seen else mine | content.keys()
            after = None if after is None else taken(after, content, stands)
            changed = () if after is None else tuple(stands)
            entry = Entry(
                "update", store, key, after, changed, row.at, conflict=True, open=rules.delete == "manual",
                disputed=frozenset(mine),
            )  # fmt: skip
        else:
            clash = {n for n in mine & unseen if content.get(n, ABSENT) != theirs.get(n, ABSENT)}
            policy = rules.adopt if known is None else rules.fields
            if known is None and not clash and not mine - unseen:
                shown = place.view(theirs)
                self.memory[store][key] = Memory(
                    handle, dict(content), theirs if shown == content else {}, shown == content
                )
                if shown != content:
                    self.pending[store].add(key)
                return
            won = {name for name in clash if self.wins(policy, store, key, name, row.at)}
            after = taken(theirs, content, (mine - clash) | won)
            changed = tuple(differing(after, theirs) & mine)
            entry = Entry(
                "update", store, key, after, changed, row.at, conflict=bool(clash),
                open=bool(clash) and policy == "manual", disputed=frozenset(clash),
            )  # fmt: skip
        self.append(entry)
        self.memory[store][key] = self.held(store, handle, content, entry, known)
        if not self.memory[store][key].in_line:
            self.pending[store].add(key)

    def wins(self, policy: str, store: str, key: str, name: str, at: str | None) -> bool:
        """Whether the store's value stands, against the one that is shared."""
        origin = self.origin(key, name)
        other, then = ("", None) if origin is None else (origin.store, origin.at)
        if policy == "newest":
            if ahead(at, self.observed()) or (origin is not None and origin.ahead):
                return True
            return at is None or then is None or at >= then
        if policy == "prefer":
            order = [*self.policies.prefer, *(s for s in (store, other) if s not in self.policies.prefer)]
            ranks = {s: min(order.index(s), len(self.policies.prefer)) for s in (store, other)}
            return ranks[store] < ranks[other]
        return False

    def held(self, store: str, handle: Any, content: Record, entry: Entry, known: Memory | None) -> Memory:
        """In line with the event if the store holds that; or its own way of writing that, in fields that nobody moved."""
        view = self.places[store].view
        shown = view(entry.after)
        if shown is not None and entry.after is not None:
            if shown == content:
                return Memory(handle, dict(content), entry.after, True)
            in_line = known is not None and known.in_line and bool(known.seen) and not entry.conflict
            moved = differing(shown, view(known.seen) or {}) if known is not None else set()
            if in_line and not differing(shown, content) & moved:
                return Memory(handle, dict(content), entry.after, True)
        return Memory(handle, dict(content), known.seen if known else {}, False)

    # -- replay ----------------------------------------------------------------------------------------

    def step(self, store: str, key: str, until: int) -> str:
        """What a replay has to do with a record: create, update, delete, or to note that it is in line."""
        known, want = self.memory[store].get(key), self.places[store].view(self.shared(key, until))
        had = known.had if known else None
        if (store, key) in self.disputes():
            return "leave"
        if want is None:
            return "leave" if known is None else "forget" if had is None else "delete"
        if had is None:
            return "create"
        assert known is not None
        own = known.in_line and self.places[store].view(known.seen) == want
        return "note" if own or had == want else "update"

    def due_in(self, store: str, goal: int) -> list[str]:
        """The records that a replay looks at: what happened on the way to the goal, or was left over. What failed waits;
        but one that the store refused may be another by now."""
        head, cursor = len(self.journal), self.cursor[store]
        low, high = min(cursor, goal), goal if goal >= head else max(cursor, head)
        keys = {entry.key for entry in self.journal[low:high]} | self.pending[store]
        for key, (how, when) in self.failed[store].items():
            if when != self.now:  # the clock only jumps by days, and that is the longest wait
                keys.add(key)
            elif how == "retry":
                keys.discard(key)
        return sorted(keys)

    def plan(self, store: str, until: int | None = None) -> set[tuple[str, str]]:
        """(action, key) of all that would be written."""
        goal = len(self.journal) if until is None else until
        steps = {(self.step(store, key, goal), key) for key in self.due_in(store, goal)}
        return {(action, key) for action, key in steps if action in ("create", "update", "delete")}

    def replay(
        self, store: str, until: int | None = None, faults: dict[str, list[str]] | None = None
    ) -> dict[str, int]:
        """`faults`: for records of these codes, what happens to each attempt to write them. Answers with the numbers
        of records that were written, left alone as somebody changed them, and failed."""
        counts = dict.fromkeys(("written", "skipped", "failed"), 0)
        goal = len(self.journal) if until is None else until
        waiting = {code: list(kinds) for code, kinds in (faults or {}).items()}
        self.pause()
        if self.unsure[store]:
            for key, (handle, row) in self.recognised(store).items():
                known = self.memory[store].get(key)
                if known is None or known.had != row.fields:
                    self.own_write(store, key, handle, row)
            for key in self.memory[store].keys() - self.recognised(store).keys():
                if self.memory[store][key].had is not None:
                    self.own_write(store, key, None, None)
            self.pause()
        again: list[str] = []
        keys = self.due_in(store, goal)
        for actions in (("create", "update", "note", "forget", "leave"), ("delete",)):
            self._write(
                store, goal, [k for k in keys if self.step(store, k, goal) in actions], waiting, again, counts
            )
        left = len(again) + 1
        while again and len(again) < left:  # once more, as long as that helps any
            left, failed, again = len(again), again, []
            counts["failed"] = 0
            self._write(store, goal, failed, waiting, again, counts)
        self.cursor[store] = goal
        self.unsure[store] = []
        self.pause()
        return counts

    def _write(
        self,
        store: str,
        goal: int,
        keys: list[str],
        faults: dict[str, list[str]],
        again: list[str],
        counts: dict[str, int],
    ) -> None:
        memory, notes, failed = self.memory[store], {}, {}
        pending, settled = set(), set()
        if any(self.step(store, key, goal) in ("create", "update", "delete") for key in keys):
            if goal not in self.unsure[store]:
                self.unsure[store].append(goal)
            self.cursor[store] = min(goal, self.cursor[store])
            self.pause()
        for key in keys:
            known, record = memory.get(key), self.shared(key, goal)
            action = self.step(store, key, goal)
            if action == "leave":
                settled |= set() if (store, key) in self.disputes() else {key}
                continue
            if action in ("note", "forget"):
                notes[key] = None if known is None or record is None else (known.handle, known.had, record)
                continue
            done, handle = self._attempt(store, key, goal, faults)
            if done in ("refused", "retry"):
                failed[key] = (done, self.now)
                again.append(key)
                counts["failed"] += 1
                self.pause()
                continue
            if done in counts:
                counts[done] += 1
            if done == "skipped":
                pending.add(key)
            else:
                notes[key] = (
                    None if record is None else (handle, dict(self.rows[store][handle].fields), record)
                )
            self.pause()
        for key, note in notes.items():
            if note is None:
                memory.pop(key, None)
            else:
                memory[key] = Memory(note[0], note[1], note[2], True)
        for key in settled | notes.keys():
            self.failed[store].pop(key, None)
        self.failed[store].update(failed)
        self.pending[store] = (self.pending[store] - settled - notes.keys()) | pending
        self.pause()

    def _attempt(self, store: str, key: str, goal: int, faults: dict[str, list[str]]) -> tuple[str, Any]:
        """Write one record, unless somebody was there before; answers with its handle."""
        place, rows, known = self.places[store], self.rows[store], self.memory[store].get(key)
        want = place.view(self.shared(key, goal))
        had = known.had if known else None
        name = (had or want or {})["code"]
        handle = self.handle(store, name)
        if place.numbers and known is not None and had is not None:
            handle = known.handle if known.handle in rows else None
        now = None if handle is None else rows[handle].fields
        if now == want:
            return "done", handle
        if now != had:
            return "skipped", handle
        fault = faults[name].pop(0) if faults.get(name) else None
        if fault in ("refused", "retry"):
            return fault, handle
        if place.still and now is not None and want is not None and place.written(want) == now:
            return ("retry" if fault else "done"), handle
        old = rows.pop(handle, None)
        if want is not None:
            row = Row(place.written(want), old.at if old else None)
            if old is None or not place.numbers:
                handle = self._handle(store, row)
            rows[handle] = row
        return ("retry" if fault else "written"), handle


def ends(later: Entry, position: int, entry: Entry) -> bool:
    """Whether an event ends the open conflict that stands at this position."""
    if later.op == "resolve":
        return position in later.settles
    if (later.store, later.key) != (entry.store, entry.key):
        return False
    if later.open:
        return not later.disputed or entry.disputed <= later.disputed
    return later.op == "undo" == entry.op and later.base == entry.base


def same_wish(entry: Entry, other: Entry) -> bool:
    """Whether two undos are about the same fields, and would have restored the same."""
    return other.store == OWN and (entry.disputed, entry.wanted) == (other.disputed, other.wanted)


def nameless(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "code"}


def taken(record: Record, content: Record, names: Iterable[str]) -> Record:
    """A record with these fields of another."""
    after = dict(record)
    for name in names:
        if name in content:
            after[name] = content[name]
        else:
            after.pop(name, None)
    return after
