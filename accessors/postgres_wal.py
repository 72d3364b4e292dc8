"""What PostgreSQL's logical decoding says, by its own plugin pgoutput: messages out of bytes.

postgresql.org/docs/current/protocol-logicalrep-message-formats.html; protocol version 1, which every server since 10 knows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from evsync.accessor import KEPT, Kept

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_TRANSACTIONAL: Final = 1
_KEY: Final = 1

Value = str | None | Kept
"""A value as PostgreSQL's text, null, or, where it is large and did not change, not told."""


class Begin(NamedTuple):
    """A transaction that has committed. `lsn`: where; `at`: when; `xid`: its number, in 32 bits."""

    lsn: int
    at: datetime
    xid: int


class Commit(NamedTuple):
    """Its end; `lsn`: where the log goes on behind it."""

    lsn: int


class Relation(NamedTuple):
    """A table, told before the first change of it and when it was altered. `key`: the columns of its replica identity."""

    id: int
    schema: str
    name: str
    columns: tuple[str, ...]
    key: frozenset[str]


class Changed(NamedTuple):
    """A row inserted, updated (`old` where its identity changed, or where all of it is told), or deleted (`new` None).
    `whole`: whether `old` is the whole row, not only its identity."""

    relation: int
    old: tuple[Value, ...] | None
    new: tuple[Value, ...] | None
    whole: bool


class Truncated(NamedTuple):
    """Tables that were emptied."""

    relations: tuple[int, ...]


class Message(NamedTuple):
    """What a session has put in the log by itself."""

    prefix: str


Said = Begin | Commit | Relation | Changed | Truncated | Message


def said(data: bytes) -> Said | None:
    """What one message says; None for what concerns nobody here."""
    kind = data[:1]
    if kind == b"B":
        lsn, at, xid = struct.unpack_from(">QqI", data, 1)
        return Begin(lsn, _EPOCH + timedelta(microseconds=at), xid)
    if kind == b"C":
        return Commit(struct.unpack_from(">Q", data, 10)[0])
    if kind == b"R":
        return _relation(data)
    if kind in (b"I", b"U", b"D"):
        return _changed(data)
    if kind == b"T":
        (count,) = struct.unpack_from(">I", data, 1)
        return Truncated(struct.unpack_from(f">{count}I", data, 6))
    if kind == b"M" and data[1] & _TRANSACTIONAL:
        return Message(_text(data, 10)[0])
    return None


def _relation(data: bytes) -> Relation:
    (id,) = struct.unpack_from(">I", data, 1)
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    (count,) = struct.unpack_from(">H", data, at + 1)
    at += 3
    columns, key = [], set()
    for _ in range(count):
        flags = data[at]
        column, at = _text(data, at + 1)
        at += 8  # its type, and what the type is modified by
        columns.append(column)
        if flags & _KEY:
            key.add(column)
    return Relation(id, schema or "pg_catalog", name, tuple(columns), frozenset(key))


def _changed(data: bytes) -> Changed:
    (relation,) = struct.unpack_from(">I", data, 1)
    at, old, new, whole = 5, None, None, False
    while at < len(data):
        part = data[at : at + 1]
        values, at = _tuple(data, at + 1)
        if part == b"N":
            new = values
        else:
            old, whole = values, part == b"O"
    return Changed(relation, old, new, whole)


def _tuple(data: bytes, at: int) -> tuple[tuple[Value, ...], int]:
    (count,) = struct.unpack_from(">H", data, at)
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[at : at + 1]
        at += 1
        if kind == b"n":
            values.append(None)
        elif kind == b"u":
            values.append(KEPT)
        else:
            (size,) = struct.unpack_from(">I", data, at)
            values.append(data[at + 4 : at + 4 + size].decode("utf-8", "surrogateescape"))
            at += 4 + size
    return tuple(values), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("utf-8", "surrogateescape"), end + 1


class Snapshot(NamedTuple):
    """Which transactions a query sees, as `pg_current_snapshot()` says it."""

    text: str

    def sees(self, xid: int) -> bool:
        """Whether what a transaction did was seen. Its number comes in 32 bits, those of a snapshot have 64."""
        low, high, open_ = self.text.split(":")
        first = int(low)
        full = first - ((first - xid + 2**31) % 2**32 - 2**31)
        if full < first:
            return True
        return full < int(high) and str(full) not in open_.split(",")


def lsn_of(text: str) -> int:
    """A place in the log as a number: "16/B374D848"."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def lsn_text(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def values_of(relation: Relation, values: tuple[Value, ...]) -> Iterator[tuple[str, Value]]:
    """By the names of their columns."""
    return zip(relation.columns, values, strict=True)
