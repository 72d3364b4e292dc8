"""Transactions out of the events of the binary log.

A transaction stands there as a whole, in the order of the commits. Its rows are held back until its end is read: what was rolled
back, prepared only, or cut off by a crash of the server is never told.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from accessors import mysql_log as log
from accessors.mysql_held import Held
from accessors.mysql_log import Event
from accessors.mysql_positions import Position
from accessors.mysql_rows import number_of
from accessors.mysql_statements import Kind, kind_of
from accessors.mysql_tables import place_of

_STANDALONE: Final = 1
_TOLD_BEFORE_ROWS: Final = frozenset({5, 13, 14, 29, 160})
_ROWS: Final = log.INSERTS | log.UPDATES | log.DELETES


class Rows(NamedTuple):
    """Rows of a table that were changed by one statement, and the body of the TABLE_MAP that says how to read them."""

    table: bytes
    event: Event


class Statement(NamedTuple):
    """A statement that is told instead of rows. `kind`: TRUNCATE, DEFINITION or UNKNOWN; `schema`: in which it was said."""

    kind: Kind
    text: str
    schema: str


Part = Rows | Statement


class Transaction(NamedTuple):
    """What was committed at once. `position`: behind it; `place`: where it begins. Its parts can be read once, before
    the next transaction is asked for."""

    position: Position
    place: str
    at: datetime
    parts: Iterable[Part]


class Transactions:
    """Reads events, of which the first one stands at `since.begin`, and gives transactions; also one without parts for whatever
    else the log is behind. `wanted`: whether the rows of a table, by its schema and name, are of interest.

    Raises Other where the log is not the one that `since` is of."""

    def __init__(self, since: Position, wanted: Callable[[str, str], bool]) -> None:
        self.mariadb = False
        self._since, self._wanted = since, wanted
        self._file, self._at, self._grown = since.file, since.begin, 0
        self._born = self._server = 0
        self._tables: dict[int, bytes] = {}
        self._held: Held[Part] = Held()
        self._filled = self._open = False
        self._begin, self._when = "", 0
        self._met = since.last == 0  # the event by which we know the log again

    def of(self, events: Iterable[Event]) -> Generator[Transaction, None, None]:
        try:
            for event in map(self._placed, events):
                if event.type == log.ROTATE:
                    self._rotated(event)
                elif event.type == log.FORMAT and not self._begun(event):
                    raise Other
                elif not self._met and event.end:
                    since = self._since
                    if (event.start, event.end, event.crc) != (since.last, since.offset, since.crc):
                        raise Other
                    self._met = True
                elif event.end and (ended := self._take(event)) is not None:
                    yield ended
                    self._clear()
        finally:
            self._clear()

    @property
    def known(self) -> bool:
        """Whether the log was found to be the one that was read before."""
        return self._met and self._server != 0

    # -- where we are ----------------------------------------------------------------------------------

    def _placed(self, event: Event) -> Event:
        """An event says where it ends in 32 bits only."""
        if not event.end:
            return event
        end = event.end + (self._grown << 32)
        if end < self._at:
            self._grown += 1
            end += 1 << 32
        start, self._at = end - (event.end - event.start), end
        return event._replace(start=start, end=end)

    def _behind(self, event: Event) -> Position:
        return Position(self._file, self._at, self._born, self._server, event.start, event.crc)

    # -- what it says ----------------------------------------------------------------------------------

    def _take(self, event: Event) -> Transaction | None:
        type = event.type
        if type in _ROWS or type == log.PARTIAL_UPDATE:
            self._row(event)
            return None
        if type == log.TABLE_MAP:
            self._table(event)
            return None
        if type in (log.XID, log.FORMAT):
            return self._ended(event)
        if type == log.QUERY:
            return self._said(event)
        if type == log.MARIADB_GTID:
            self._begins(event, event.at * 1_000_000, standing_alone=bool(event.body[12] & _STANDALONE))
            return None
        if type in (log.GTID, log.ANONYMOUS_GTID):
            self._begins(event, _committed(event), standing_alone=True)
            return None
        if type == log.XA_PREPARE:
            if self.mariadb or not event.body[0]:  # else it was committed in one step
                self._clear()
            return self._ended(event)
        if type in _TOLD_BEFORE_ROWS:
            return None
        if type in log.SAYS_NOTHING or event.ignorable:
            return None if self._open else self._ended(event)
        what = "a compressed transaction" if type == log.PAYLOAD else f"an event of kind {type}"
        return self._unclear(event, f"{what}, which cannot be read")

    def _rotated(self, event: Event) -> None:
        """Another file goes on. It is told at the end of the one before, and again before the first event."""
        file = event.body[8:].decode()
        if file != self._file:
            self._clear()
            self._file, self._at, self._grown = file, log.FIRST, 0

    def _begun(self, event: Event) -> bool:
        """What a file begins with, which is told too where we begin in its middle; whether it is the file that we know."""
        self._clear()
        self._tables.clear()
        self._born, self._server = event.at, event.server
        self.mariadb = b"MariaDB" in event.body[:52]
        since = self._since
        return (
            self._file != since.file
            or not since.born
            or (since.born, since.server) == (event.at, event.server)
        )

    def _begins(self, event: Event, when: int, *, standing_alone: bool) -> None:
        self._clear()
        self._open, self._when = not standing_alone, when

    def _table(self, event: Event) -> None:
        self._enter(event)
        number, schema, name = place_of(event.body)
        if self._wanted(schema, name):
            self._tables[number] = event.body
        else:
            self._tables.pop(number, None)

    def _row(self, event: Event) -> None:
        self._enter(event)
        table = self._tables.get(number_of(event))
        if table is None:
            return
        if event.type == log.PARTIAL_UPDATE:
            self._hold(Statement(Kind.UNKNOWN, "an update of a part of a JSON document", ""), 100)
        else:
            self._hold(Rows(table, event), len(event.body) + 200)

    def _said(self, event: Event) -> Transaction | None:
        text, schema = statement_of(event.body)
        kind = kind_of(text)
        if kind in (Kind.BEGIN, Kind.XA_BEGIN):
            self._enter(event)
            return None
        if kind is Kind.ROLLBACK:
            self._clear()
            return self._ended(event)
        if kind is Kind.COMMIT:
            return self._ended(event)
        if kind is Kind.XA_COMMIT:
            return self._unclear(event, "a transaction that was prepared by XA")
        if kind is not Kind.NOTHING:
            self._hold(Statement(kind, text, schema), len(text))
        return None if self._open else self._ended(event)

    def _unclear(self, event: Event, what: str) -> Transaction | None:
        self._hold(Statement(Kind.UNKNOWN, what, ""), 100)
        return None if self._open else self._ended(event)

    # -- what is held back -----------------------------------------------------------------------------

    def _enter(self, event: Event) -> None:
        self._open = True
        if not self._begin:
            self._begin = Position(self._file, event.end).place

    def _hold(self, part: Part, size: int) -> None:
        self._held.add(part, size)
        self._filled = True

    def _ended(self, event: Event) -> Transaction:
        position = self._behind(event)
        when = self._when or event.at * 1_000_000
        return Transaction(
            position, self._begin or position.place, _moment(when), self._held if self._filled else ()
        )

    def _clear(self) -> None:
        if self._filled:
            self._held.clear()
        self._filled = self._open = False
        self._begin, self._when = "", 0


class Other(Exception):
    """The log is another one than the position is of."""


def statement_of(body: bytes) -> tuple[str, str]:
    """The statement that a QUERY tells, and the schema in which it was said."""
    schema_size, variables = body[8], int.from_bytes(body[11:13], "little")
    at = 13 + variables
    schema = body[at : at + schema_size].decode("utf-8", "replace")
    return body[at + schema_size + 1 :].decode("utf-8", "replace"), schema


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _committed(event: Event) -> int:
    """When a transaction was committed: MySQL says it in microseconds."""
    body = event.body
    if len(body) >= 49 and body[25] == 2:
        return int.from_bytes(body[42:49], "little") & (1 << 55) - 1
    return event.at * 1_000_000
