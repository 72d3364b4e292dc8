"""Transactions out of the events of the binary log: what is committed is told, in one piece, and nothing else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import pytest

from accessors import mysql_held
from accessors import mysql_log as log
from accessors.mysql_log import Event, Unreadable, parsed, uncompressed
from accessors.mysql_positions import Position, position_of
from accessors.mysql_statements import Kind
from accessors.mysql_transactions import Other, Rows, Statement, Transaction, Transactions

WRITE = 23
MARIADB = b"\x04\x0010.11-MariaDB".ljust(57, b"\0")
MYSQL = b"\x04\x008.0.36".ljust(57, b"\0")


class Log:
    """Writes events as a server does, one behind the other."""

    def __init__(self, version: bytes = MARIADB, at: int = log.FIRST, born: int = 1000) -> None:
        self.events: list[Event] = [
            Event(log.ROTATE, 0, 1, 0, 0, False, struct.pack("<Q", 4) + b"log.000007", 0)
        ]
        self.at = at
        if at == log.FIRST:
            self.add(log.FORMAT, version, at=born)
        else:
            self.events.append(Event(log.FORMAT, born, 1, 0, 0, False, version, 0))

    def add(self, type: int, body: bytes = b"", *, at: int = 2000, size: int = 0) -> Log:
        start, self.at = self.at, self.at + (size or 19 + len(body))
        wrapped = self.at & 0xFFFFFFFF
        self.events.append(
            Event(
                type,
                at,
                1,
                wrapped - (self.at - start),
                wrapped,
                False,
                body,
                zlib.crc32(body + bytes([type])),
            )
        )
        return self

    def gtid(self, flags: int = 0) -> Log:
        return self.add(log.MARIADB_GTID, struct.pack("<QIB", 1, 0, flags))

    def said(self, statement: str, schema: str = "d") -> Log:
        head = struct.pack("<IIBHH", 1, 0, len(schema), 0, 0)
        return self.add(log.QUERY, head + schema.encode() + b"\0" + statement.encode())

    def table(self, number: int, name: str) -> Log:
        body = number.to_bytes(6, "little") + b"\0\0\x01d\0" + bytes([len(name)]) + name.encode() + b"\0"
        return self.add(log.TABLE_MAP, body)

    def row(self, number: int, what: bytes = b"row", size: int = 0) -> Log:
        return self.add(WRITE, number.to_bytes(6, "little") + what, size=size)

    def commit(self) -> Log:
        return self.add(log.XID, b"12345678")

    def rotate(self, file: str, version: bytes = MARIADB) -> Log:
        self.add(log.ROTATE, struct.pack("<Q", 4) + file.encode())
        return self.next(file, version)

    def next(self, file: str, version: bytes = MARIADB) -> Log:
        """The next file, as after a crash, when the one before does not name it."""
        self.events.append(Event(log.ROTATE, 0, 1, 0, 0, False, struct.pack("<Q", 4) + file.encode(), 0))
        self.at = log.FIRST
        return self.add(log.FORMAT, version, at=3000)


def told(
    written: Log | Iterable[Event], since: Position | None = None
) -> list[tuple[Transaction, list[object]]]:
    """The transactions that say something, with what they say."""
    reader = Transactions(since or Position("log.000007", 4), lambda schema, table: table == "person")
    events = written.events if isinstance(written, Log) else written
    found = []
    for transaction in reader.of(events):
        parts = [part.event.body[6:] if isinstance(part, Rows) else part for part in transaction.parts]
        if parts:
            found.append((transaction, parts))
    return found


def rows(written: Log) -> list[list[object]]:
    return [parts for _, parts in told(written)]


def test_a_transaction_comes_as_a_whole_with_the_place_behind_it() -> None:
    written = Log().gtid().table(1, "person").row(1, b"a").row(1, b"b").commit()
    [(transaction, parts)] = told(written)
    assert parts == [b"a", b"b"]
    assert transaction.position.offset == written.at
    assert transaction.place < transaction.position.place
    assert transaction.at.timestamp() == 2000


def test_what_is_of_no_interest_is_left_out() -> None:
    written = Log().gtid().table(1, "person").table(2, "other").row(2, b"x").row(1, b"a").commit()
    written.gtid().table(2, "other").row(2).commit()
    assert rows(written) == [[b"a"]]


@pytest.mark.parametrize("version", [MARIADB, MYSQL])
def test_what_was_rolled_back_is_not_told(version: bytes) -> None:
    written = Log(version).said("BEGIN").table(1, "person").row(1, b"undone").said("ROLLBACK")
    written.said("BEGIN").table(1, "person").row(1, b"done").said("COMMIT")
    assert rows(written) == [[b"done"]]


def test_what_a_crash_cut_off_is_not_told() -> None:
    written = Log().gtid().table(1, "person").row(1, b"cut").next("log.000008")
    written.gtid().table(1, "person").row(1, b"whole").commit()
    assert rows(written) == [[b"whole"]]
    [(transaction, _)] = told(written)
    assert (transaction.position.file, transaction.position.born) == ("log.000008", 3000)


def test_a_file_follows_the_other() -> None:
    written = Log().gtid().table(1, "person").row(1, b"a").commit().rotate("log.000008")
    written.gtid().table(1, "person").row(1, b"b").commit()
    places = [transaction.position.place for transaction, _ in told(written)]
    assert places == sorted(places)
    assert rows(written) == [[b"a"], [b"b"]]


def test_what_xa_prepares_is_not_told_but_that_it_was_committed() -> None:
    mariadb = (
        Log().gtid(64).table(1, "person").row(1, b"prepared").said("XA END 'x'").add(log.XA_PREPARE, b"\0x")
    )
    mysql = Log(MYSQL).said("XA START 'x'").table(1, "person").row(1, b"prepared").said("XA END 'x'")
    for written in (mariadb, mysql.add(log.XA_PREPARE, b"\0x")):
        assert rows(written) == []
        [[statement]] = rows(written.gtid(1).said("XA COMMIT 'x'"))
        assert isinstance(statement, Statement)
        assert statement.kind is Kind.UNKNOWN


def test_what_xa_commits_in_one_step_is_told() -> None:
    written = Log(MYSQL).said("XA START 'x'").table(1, "person").row(1, b"a").said("XA END 'x'")
    assert rows(written.add(log.XA_PREPARE, b"\1x")) == [[b"a"]]


@pytest.mark.parametrize("event", [log.PAYLOAD, 26, 200])
def test_what_cannot_be_read_may_be_anything(event: int) -> None:
    [[statement]] = rows(Log(MYSQL).add(event, b"?"))
    assert isinstance(statement, Statement)
    assert statement.kind is Kind.UNKNOWN


def test_an_update_of_a_part_of_a_document_may_be_anything() -> None:
    written = (
        Log(MYSQL).said("BEGIN").table(2, "other").add(log.PARTIAL_UPDATE, (2).to_bytes(6, "little")).commit()
    )
    assert rows(written) == []
    written.said("BEGIN").table(1, "person").add(log.PARTIAL_UPDATE, (1).to_bytes(6, "little")).commit()
    [[statement]] = rows(written)
    assert isinstance(statement, Statement)


def test_mysql_says_to_the_microsecond_when_it_was_committed() -> None:
    when = 1_700_000_000_123_456
    body = bytes(25) + b"\x02" + bytes(16) + (when | 1 << 55).to_bytes(7, "little") + bytes(8)
    written = Log(MYSQL).add(log.ANONYMOUS_GTID, body).said("BEGIN").table(1, "person").row(1).commit()
    [(transaction, _)] = told(written)
    assert round(transaction.at.timestamp() * 1e6) == when


# -- going on ------------------------------------------------------------------------------------------------------


def after_first() -> tuple[Log, Position]:
    written = Log().gtid().table(1, "person").row(1, b"a").commit()
    [(transaction, _)] = told(written)
    return written, position_of(transaction.position.text)


def resumed(position: Position, written: Log, born: int = 1000) -> list[Event]:
    """What a server sends to who goes on behind a position."""
    begin = [Event(log.ROTATE, 0, 1, 0, 0, False, struct.pack("<Q", position.begin) + b"log.000007", 0)]
    begin.append(Event(log.FORMAT, born, 1, 0, 0, False, MARIADB, 0))
    return begin + [event for event in written.events if event.end and event.start >= position.begin]


def test_it_goes_on_behind_the_last_event_and_tells_nothing_twice() -> None:
    written, position = after_first()
    written.gtid().table(1, "person").row(1, b"b").commit()
    assert [parts for _, parts in told(resumed(position, written), position)] == [[b"b"]]


@pytest.mark.parametrize("other", ["begun at another time", "another event", "an event of another length"])
def test_another_log_of_the_same_name_is_told_from_it(other: str) -> None:
    written, position = after_first()
    written.gtid().table(1, "person").row(1, b"b").commit()
    events = resumed(position, written, born=1001 if other == "begun at another time" else 1000)
    if other == "another event":
        events[2] = events[2]._replace(crc=events[2].crc ^ 1)
    elif other == "an event of another length":
        events[2] = events[2]._replace(end=events[2].end + 1)
    with pytest.raises(Other):
        told(events, position)


def test_positions_sort_as_the_places_follow_each_other() -> None:
    places = [
        Position("log.000001", 4), Position("log.000001", 1000), Position("log.000002", 4),
        Position("log.000002", 5_000_000_000), Position("log.999999", 9), Position("log.1000000", 4),
    ]  # fmt: skip
    assert [one.text for one in places] == sorted(one.text for one in places)
    assert [position_of(one.text) for one in places] == places


def test_a_transaction_of_more_than_four_gigabytes() -> None:
    written = Log().gtid().table(1, "person").row(1, b"a", size=3 << 30).row(1, b"b", size=3 << 30).commit()
    [(transaction, parts)] = told(written)
    assert parts == [b"a", b"b"]
    assert transaction.position.offset == written.at > 1 << 32


def test_a_large_transaction_is_held_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysql_held, "IN_MEMORY", 1000)
    written = Log()
    for commit in (True, False, True):
        written.gtid().table(1, "person")
        for number in range(100):
            written.row(1, str(number).encode())
        written.commit() if commit else written.said("ROLLBACK")
    whole: list[object] = [str(number).encode() for number in range(100)]
    assert rows(written) == [whole, whole]


# -- events ------------------------------------------------------------------------------------------------------


def sent(type: int, body: bytes, *, flags: int = 0, checksum: bool = True) -> bytes:
    size = 19 + len(body) + (4 if checksum else 0)
    data = struct.pack("<IBIIIH", 7, type, 1, size, 1000, flags) + body
    return data + struct.pack("<I", zlib.crc32(data)) if checksum else data


def test_an_event_is_checked() -> None:
    event, _ = parsed(sent(log.XID, b"12345678"), True)
    assert (event.body, event.start, event.end) == (b"12345678", 1000 - 31, 1000)
    with pytest.raises(Unreadable, match="checksum"):
        parsed(sent(log.XID, b"12345678")[:-1] + b"?", True)


def test_whether_events_are_checked_is_told_first() -> None:
    assert parsed(sent(log.FORMAT, MARIADB + b"\x01"), False)[1]
    assert not parsed(sent(log.FORMAT, MARIADB + b"\x00"), True)[1]
    event, _ = parsed(sent(log.XID, b"12345678", checksum=False), False)
    assert event.body == b"12345678"


def test_what_is_not_in_the_file_has_no_place() -> None:
    event, _ = parsed(sent(log.ROTATE, b"\x04" + bytes(7) + b"log.000001", flags=0x20), False)
    assert (event.end, event.body[8:]) == (0, b"log.000001")


def test_what_mariadb_compresses() -> None:
    rows = b"\x01\x00\x00\x00\x00\x00\x01\x00\x02\xff"
    packed = bytes([0x82]) + struct.pack(">H", 300) + zlib.compress(b"x" * 300)
    assert uncompressed(166, rows + packed) == rows + b"x" * 300
    assert uncompressed(167, rows + b"\xff" + packed) == rows + b"\xff" + b"x" * 300
    query = struct.pack("<IIBHH", 1, 0, 1, 0, 2) + b"vvd\0"
    assert uncompressed(165, query + packed) == query + b"x" * 300
