"""The binary log of MySQL and MariaDB as the server sends it: event by event, by PyMySQL alone.

We ask for it as a replica does, from a place in a file on, and never wait for what is not written yet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from secrets import randbelow
from typing import Any, Final, NamedTuple

import pymysql

# Kinds of events, as far as they are told apart.
QUERY, STOP, ROTATE, FORMAT, XID, TABLE_MAP, HEARTBEAT = 2, 3, 4, 15, 16, 19, 27
GTID, ANONYMOUS_GTID, XA_PREPARE, PARTIAL_UPDATE, PAYLOAD = 33, 34, 38, 39, 40
INSERTS: Final = frozenset({23, 30})
UPDATES: Final = frozenset({24, 31})
DELETES: Final = frozenset({25, 32})
MARIADB_GTID, MARIADB_QUERY_COMPRESSED = 162, 165
UNCOMPRESSED: Final = {165: QUERY, 166: 23, 167: 24, 168: 25, 169: 30, 170: 31, 171: 32}
SAYS_NOTHING: Final = frozenset({STOP, 5, 13, 14, 28, 29, 35, 36, 37, 160, 161, 163, 164})
"""Variables of a statement that follows, heartbeats, what the statement of a row was, lists of GTIDs."""

_DUMP: Final = 0x12
_NOT_WAITING: Final = 1
_HEADER: Final = struct.Struct("<IBIIIH")
_IGNORABLE, _ARTIFICIAL = 0x80, 0x20
FIRST: Final = 4
"""Where the first event of a file stands."""


class Unreadable(Exception):
    """What stands in the log cannot be read, and why."""


class Event(NamedTuple):
    """An event of the log. `at`: seconds since 1970; `server`: the server_id of who wrote it first; `start`, `end`: where it
    stands in its file, both 0 for one that is not in it; `crc`: by which it is known again."""

    type: int
    at: int
    server: int
    start: int
    end: int
    ignorable: bool
    body: bytes
    crc: int


def follow(connection: pymysql.Connection[Any], file: str, start: int) -> Iterator[Event]:
    """All that is written, from a place in a file on, on a connection that is used for nothing else. A ROTATE tells of the
    file that the following events are of. Raises pymysql.Error, Unreadable."""
    with connection.cursor() as cursor:
        for statement in (
            "SET @master_binlog_checksum = @@global.binlog_checksum",
            "SET @source_binlog_checksum = @@global.binlog_checksum",
            "SET @mariadb_slave_capability = 4",  # MariaDB tells its GTIDs, instead of BEGIN
        ):
            cursor.execute(statement)
    # Two followers of one server must not have the same number, nor one that a replica has.
    server = 0x80000000 + randbelow(0x7FFFFFF0)
    ask: Any = connection
    ask._execute_command(_DUMP, struct.pack("<IHI", start, _NOT_WAITING, server) + file.encode())
    checked = False
    while True:
        packet = ask._read_packet()
        if packet.is_eof_packet():
            return
        event, checked = parsed(packet.get_all_data()[1:], checked)
        yield event


def parsed(data: bytes, checked: bool) -> tuple[Event, bool]:
    """An event, and whether those behind it end in a checksum. Raises Unreadable."""
    at, type, server, size, end, flags = _HEADER.unpack_from(data)
    crc = zlib.crc32(data[:-4])
    true = int.from_bytes(data[-4:], "little") == crc
    if type == FORMAT:
        checked = data[-5] == 1
        body = data[_HEADER.size : -5]
        crc = zlib.crc32(body)  # a flag before it says whether the file is in use
    elif checked or (type == ROTATE and flags & _ARTIFICIAL and true):
        if not true:
            raise Unreadable(f"it is damaged before the place {end}: a checksum is wrong")
        body = data[_HEADER.size : -4]
    else:
        body, crc = data[_HEADER.size :], zlib.crc32(data)
    if flags & _ARTIFICIAL or type == HEARTBEAT:
        end = 0
    start = end - size if end else 0
    if type in UNCOMPRESSED:
        type, body = UNCOMPRESSED[type], uncompressed(type, body)
    return Event(type, at, server, start, end, bool(flags & _IGNORABLE), body, crc), checked


def uncompressed(type: int, body: bytes) -> bytes:
    """What MariaDB compresses of an event: the statement, or the rows."""
    if type == MARIADB_QUERY_COMPRESSED:
        schema, variables = body[8], int.from_bytes(body[11:13], "little")
        head = 13 + variables + schema + 1
    else:
        head = 8
        if type >= 169:
            head += int.from_bytes(body[8:10], "little")
        columns, at = packed(body, head)
        head = at + (columns + 7) // 8 * (2 if UNCOMPRESSED[type] in UPDATES else 1)
    length = body[head] & 7
    return body[:head] + zlib.decompress(body[head + 1 + length :])


def packed(data: bytes, at: int) -> tuple[int, int]:
    """A number of a length that it says itself, and where it ends."""
    first = data[at]
    if first < 251:
        return first, at + 1
    size = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size
