"""Accessor: how data is read and written in one kind of store.

Six methods are all that is required. Whatever else a kind of store can do (read everything in one go, write
many records in one transaction, describe itself, create itself) is found by the methods an accessor offers;
the `Can…` protocols below say which and what they promise.

An accessor is stateless: the store is passed in, so one accessor may serve several stores. It speaks the
store's own language: `Data.fields` carry the store's own names and native values on the way out, and typed
values (see `evsync.values`) under the store's own names on the way in. `store.binding(type)` says which
columns matter and what types they are declared to have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from evsync.binding import Description
from evsync.data import Data

if TYPE_CHECKING:
    from evsync.store import Store


class Accessor(ABC):
    """The six CRUD methods.

    Raise `evsync.errors.Unreachable`, `BrokenStore`, `Retry` or `Refused` for what goes wrong: the class
    tells the engine whether to stop the store, to try again, or to put the one record aside.
    """

    options: ClassVar[Mapping[str, str]] = {}
    """Names of the settings that `[stores.X]` and `[stores.X.types.Y]` may carry for this accessor, with a
    word on each. Any other key is an error."""

    json_is_text: ClassVar[bool] = False
    """True where `json` values are kept as text, and so have to be parsed."""

    snapshot: ClassVar[bool] = False
    """True where `scan` shows one state of the store from beginning to end, whatever is written meanwhile. A large store that is
    met for the first time is then journalled while it is read, which is quicker; else what was read is
    only believed once the scan has come to its end without an error."""

    @abstractmethod
    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        """The record that the store calls `id`, or None."""

    @abstractmethod
    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        """The record whose key fields have these typed values (under the store's own names), or None."""

    @abstractmethod
    def find(self, store: Store, type: str, match: Mapping[str, Any] | None = None) -> Iterator[Data]:
        """All records, or those with these typed values under the store's own names. Streams; an error midway is raised,
        never taken for the end."""

    @abstractmethod
    def add(self, store: Store, data: Data) -> Data:
        """Create the record; answers with it as stored, `id` included where the store assigns one."""

    @abstractmethod
    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Write `data.fields`, leaving the record's other columns alone; answers with the record as stored.

        The record is found by `data.id`, else by the key fields of `old`, else by those of `data`. Where
        the store can tell that the record is no longer `old`, it raises `Refused` instead of overwriting."""

    @abstractmethod
    def remove(self, store: Store, data: Data) -> None:
        """Delete the record, found by `data.id`, else by its key fields; no error if it is gone already."""


Row = tuple[Any, ...]
"""A record as `scan` and `apply` hand it out: `(id, place, changed_at, changed_by, *values)` with the values
in the order of `Binding.locals`, `ABSENT` for a field that the record does not have. `id`: the store's own id,
None where it has none. `place`: where a person finds the record ("line 7"), None where `id` says it."""

HEADER = 4
"""How many entries of a Row stand before its values."""

Verdict = Literal["write", "done", "changed"]


class Change(msgspec.Struct):
    """One record to be written by `apply`.

    `id`: the store's own id, None if it has none or the record is new. `name`: the key fields' typed values
    by which the store knows the record now. `values`: typed values under the store's own names, ABSENT for a
    field to be removed or nulled; empty for a delete. `judge` is to be asked, inside the transaction that will write, with the
    record as it is now (None: not there): "write", "done" (it is so already) or "changed" (hands off)."""

    action: Literal["create", "update", "delete"]
    id: int | str | None
    name: dict[str, Any]
    values: dict[str, Any]
    judge: Callable[[Row | None], Verdict]


class Outcome(msgspec.Struct):
    """What became of one Change.

    `state`: "written", "done", "changed", or "failed" with `error`. `row`: the record as it is stored now;
    None if it is gone, or where `exact` says that it is stored just as given. `id`: as assigned."""

    state: Literal["written", "done", "changed", "failed"]
    row: Row | None = None
    exact: bool = False
    id: int | str | None = None
    error: Exception | None = None


@runtime_checkable
class CanScan(Protocol):
    """Reads a whole type in batches of rows, in any order, at a memory that does not grow with it."""

    def scan(self, store: Store, type: str) -> Iterator[Sequence[Row]]: ...


@runtime_checkable
class CanApply(Protocol):
    """Writes many records at once, all or nothing as far as the store can.

    `batch` is how many changes it wants in one call. Answers one Outcome per change, in order."""

    batch: int

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]: ...


class Note(NamedTuple):
    """What a store puts down of a batch together with what it writes. `place`: whose note it is, which replaces the one there
    was; `number`: the how-manieth; `text`: what is to be remembered of the changes whose outcomes are given, the first ones."""

    place: str
    number: int
    text: Callable[[Sequence[Outcome]], str]


class Noted(NamedTuple):
    """The note last put down. `position`: what `Store.written_at` was then, where the store has a feed."""

    number: int
    text: str
    position: str | None = None


@runtime_checkable
class CanNote(Protocol):
    """Puts down what came of its changes, in the transaction that writes them: so a run that was killed before the journal
    knew of it is told just what it did, however the store or others have altered the records."""

    batch: int

    def apply_noted(self, store: Store, type: str, changes: Sequence[Change], note: Note) -> list[Outcome]:
        """As `apply`. A store in which nothing can be put down writes all the same."""
        ...

    def noted(self, store: Store, type: str, place: str) -> Noted | None:
        """The note that is there."""
        ...


Load = Callable[[Sequence[Sequence[Any]]], bool]
"""Adds records, given by the typed values of the binding's fields in their order: all of them, stored just as given
and called by their keys, or, where it answers False, none."""


@runtime_checkable
class CanLoad(Protocol):
    """Takes in the first records of a type in whole batches."""

    def loading(self, store: Store, type: str) -> AbstractContextManager[Load | None]:
        """None where the store holds records of the type, or cannot be counted on to store them just as given."""
        ...


@runtime_checkable
class CanDescribe(Protocol):
    """Says which columns a type has, and their types; None if the table or file does not exist."""

    def describe(self, store: Store, type: str) -> Description | None: ...


@runtime_checkable
class CanCreate(Protocol):
    """Creates the table or file of a type from `store.binding(type)`; nothing happens if it exists."""

    def create(self, store: Store, type: str) -> None: ...


@runtime_checkable
class CanAssign(Protocol):
    """Says whether the store gives the records of a type ids of its own, where neither the option `id` nor a
    primary key says so: then references to them are translated."""

    def assigns(self, store: Store, type: str) -> bool: ...


@runtime_checkable
class CanDiscover(Protocol):
    """Names the types that the store could hold, with the options that lead to each: `{"customers": {"table": …}}`."""

    def discover(self, store: Store) -> dict[str, dict[str, str]]: ...


class ForeignKey(msgspec.Struct, frozen=True):
    """`columns` hold the values of `target_columns` in what `discover` calls `target`."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


class Relations(msgspec.Struct, frozen=True):
    """What a store says of a type besides its columns, in its own names. `unique`: which columns besides the primary
    key tell records apart, and are never null; the best first. `assigned`: the store numbers the primary key by itself."""

    foreign_keys: tuple[ForeignKey, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    assigned: bool = False


@runtime_checkable
class CanRelate(Protocol):
    """Says how types hang together. Only `evsync init` asks."""

    def relations(self, store: Store, type: str) -> Relations: ...


@runtime_checkable
class CanLeaveOut(Protocol):
    """Names what there is besides what `discover` names, and says why it is no type: `{"totals": "a view"}`."""

    def left_out(self, store: Store) -> dict[str, str]: ...


@runtime_checkable
class CanRefuseCreation(Protocol):
    """Says why nothing could be created in the store, or None, without touching anything."""

    def why_not_created(self, store: Store) -> str | None: ...


@runtime_checkable
class CanCheck(Protocol):
    """Looks whether the store can be written; answers with what is wrong, or None."""

    def check(self, store: Store, type: str) -> str | None: ...


@runtime_checkable
class CanMark(Protocol):
    """Tells, without reading it, whether a store was touched."""

    def mark(self, store: Store, type: str) -> str | None:
        """A text that is certain to differ from the one before if a scan might show anything else than a scan then
        showed; None if that cannot be told, as where the store was written just now."""
        ...


class Kept:
    """Stands in a Row for a value that a feed does not tell because it did not change."""

    def __repr__(self) -> str:
        return "KEPT"


KEPT: Final = Kept()


class Fed(msgspec.Struct):
    """One change of one record out of a feed.

    `position`: where the feed stands behind it. Positions are texts, of which the later one sorts behind the earlier one; what
    stands behind a blank is for the accessor alone. `row`: the record as it was after the change, with KEPT for
    a value that did not change and is not told; None if it was deleted.
    `id` or `name` (the key fields' typed values under the store's own names) say which record a deletion was of, and what
    an update's was called before, where that changed. `changed_at` and `changed_by` say of a deletion when and by whom,
    where the store tells; else the row does.

    `whole`: False inside of a transaction that goes on. `own`: evsync wrote it. `emptied`: all records of the type were deleted
    at once; nothing else is said. `made`: where the feed stood when the change was made, to be compared with `Store.written_at`,
    where `position` does not say so."""

    type: str
    position: str
    row: Row | None
    id: int | str | None = None
    name: dict[str, Any] = {}
    changed_at: Any = None
    changed_by: str | None = None
    whole: bool = True
    own: bool = False
    emptied: bool = False
    made: str = ""


class Reached(msgspec.Struct):
    """There is nothing more for any type up to `position`."""

    position: str


class Missed(msgspec.Struct):
    """Changes of the type may have gone by unseen, and why: it is to be set up anew, and compared."""

    type: str
    why: str


@runtime_checkable
class CanFeed(Protocol):
    """Tells every change in its order. The first ingest scans, from then on the feed is followed.

    Who writes to such a store through the accessor sets `Store.written_at` to where the feed stands then, inside of the
    transaction that writes: what the feed tells of the records written up to there, and of this very
    transaction, is known already."""

    def feeds(self, store: Store, type: str) -> bool:
        """Whether changes of the type are fed now. Raises StoreError where they should be but are not."""
        ...

    def position(self, store: Store, type: str) -> str:
        """Where the feed stands now. Asked before the first scan: a change in between comes twice, none is missed."""
        ...

    def changes(
        self, store: Store, since: Mapping[str, str], until: str | None = None
    ) -> Iterator[Fed | Reached | Missed]:
        """All changes of each type named, behind its position, in one order; up to `until`, as `scan_at` gave it.
        Raises `evsync.errors.PositionLost` if the feed does not reach back so far."""
        ...


@runtime_checkable
class CanScanAt(Protocol):
    """Scans a state of which it knows where the feed stood: a change is in the one or in the other, never in both."""

    def scan_at(self, store: Store, type: str) -> tuple[str, Generator[Sequence[Row], None, None]]:
        """The position, and all rows as they were then. The rows may be waited for; close what is not read to its end."""
        ...


@runtime_checkable
class CanAcknowledge(Protocol):
    """Wants to know up to where its feed is safely journalled, so that it may forget it."""

    def acknowledge(self, store: Store, position: str) -> None: ...


@runtime_checkable
class CanCapture(Protocol):
    """Sets up in the store what its feed needs, and takes it away again."""

    def install(self, store: Store) -> list[str]:
        """Have the changes of all types of the store captured; answers with what was done, in words. Does nothing twice.
        Raises StoreError."""
        ...

    def uninstall(self, store: Store) -> list[str]:
        """Leave nothing of it behind; answers with what was done."""
        ...

    def captured(self, store: Store) -> Captured:
        """How it stands."""
        ...


@runtime_checkable
class CanCheckPosition(Protocol):
    """Says whether its feed goes on from where it was read last, without reading it."""

    def check_position(self, store: Store, since: Mapping[str, str]) -> None:
        """`since`: the positions by type, as for `changes`. Raises PositionLost, or another StoreError, as `changes` would."""
        ...


class Captured(msgspec.Struct):
    """How the capture of a store's changes stands. `mode`: "scan" where there is none. `ok`: whether it does what the
    configuration asks for; else `detail` says what is wrong and `hint` what to do. `waiting`: changes not journalled yet,
    `retained`: bytes that the database keeps for us; None where nobody knows. `absent`: nothing of what it asks for is there."""

    mode: str
    ok: bool
    detail: str = ""
    hint: str = ""
    waiting: int | None = None
    retained: int | None = None
    types: list[str] = []  # whose changes are captured
    absent: bool = False


class Way(msgspec.Struct, frozen=True):
    """A way in which changes could be captured. `mode`: what the option `capture` calls it; `means`: what would tell them;
    `needs`: what has to be done first, nothing if `install` would do as it is."""

    mode: str
    means: str
    needs: tuple[str, ...] = ()


@runtime_checkable
class CanOfferCapture(Protocol):
    """Says, without touching anything, in which ways the changes of all types of the store could be captured, the best first."""

    def ways(self, store: Store) -> list[Way]: ...


@runtime_checkable
class CanWake(Protocol):
    """Tells as soon as something happens in a store."""

    def waking(self, store: Store, stop: Callable[[], bool]) -> Iterator[None]:
        """Yields whenever something may have changed since it yielded last, or was begun. Ends soon after `stop()` says so,
        which is to be asked a few times a second. Raises StoreError."""
        ...
