"""The hash chain, format 1.

    payload_hash = SHA256("evsync/payload/v1" ‖ before ‖ after ‖ conflict)
    entry        = "evsync/entry/v1" ‖ the event's other columns ‖ payload_hash
    leaf         = SHA256(0x00 ‖ entry)
    hash         = SHA256(0x02 ‖ the predecessor's hash ‖ leaf)

Every column is prefixed by its length (u32, 0xFFFFFFFF: null), text is UTF-8, integers are eight bytes, big
endian. The other columns are, in this order: op, store, type, after_shape, before_shape, changed, actor, run,
observed_at, seq, base, key, occurred_at. Where a row holds a number that stands for a text, the text is hashed:
of store and type the name itself, of a shape the SHA-256 of its text. The payload enters by its own hash, so
that it can be withheld, encrypted or erased without touching the chain; as long as it stands beside it, its hash is not
stored (format 4 of the journal). The prefix 0x01 is left for the inner nodes of a Merkle tree over the leaves (RFC 6962).

A chain shows that nothing was altered, removed, inserted or reordered in the middle by someone who did not
recompute it. It cannot show that its tail was not cut off, nor stop someone who can write the file from
hashing everything anew; for that the head's hash has to be kept elsewhere.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

_sha256 = hashlib.sha256
_U32 = struct.Struct(">I").pack
_TAIL = struct.Struct(">IqIqI").pack  # seq, base, and the key's length
_OCCURRED = struct.Struct(">IqI").pack  # occurred_at, and the payload hash's length
_NULL = b"\xff\xff\xff\xff"
_NOT_TOLD = _NULL + b"\x00\x00\x00\x20"  # the same where the store does not say when it happened
_PAYLOAD_TAG = b"evsync/payload/v1"
_ENTRY_TAG = b"\x00evsync/entry/v1"

GENESIS = _sha256(b"evsync/journal/v1").digest()
"""What stands in for the first event's predecessor."""


def column(data: bytes | None) -> bytes:
    """A column as it is hashed."""
    return _NULL if data is None else _U32(len(data)) + data


def text_column(text: str | None) -> bytes:
    """A text column as it is hashed."""
    return _NULL if text is None else column(text.encode())


def integer_column(number: int) -> bytes:
    """An integer column as it is hashed."""
    return column(number.to_bytes(8, "big", signed=True))


def shape_digest(fields: str | None) -> bytes | None:
    """What stands for a list of field names and types in the entry."""
    return None if fields is None else _sha256(fields.encode()).digest()


_ONLY_AFTER = (_PAYLOAD_TAG + _NULL, _NULL)


def payload_hash_of_after(after: bytes) -> bytes:
    """`payload_hash(None, after, None)`, which is that of every creation, in one step."""
    start, end = _ONLY_AFTER
    return _sha256(b"".join((start, _U32(len(after)), after, end))).digest()


def payload_hash(before: bytes | None, after: bytes | None, conflict: bytes | None) -> bytes:
    """The hash of an event's payload, from the very bytes that are stored."""
    return _sha256(b"".join((_PAYLOAD_TAG, column(before), column(after), column(conflict)))).digest()


def entry_prefix(
    op: str,
    store: str,
    type: str,
    after_shape: bytes | None,
    before_shape: bytes | None,
    changed: bytes | None,
    actor: str | None,
    run: int,
    observed_at: int,
) -> bytes:
    """The first columns of an entry, which the events of a batch mostly share; shapes by their digests."""
    return b"".join(
        (
            _ENTRY_TAG,
            text_column(op),
            text_column(store),
            text_column(type),
            column(after_shape),
            column(before_shape),
            column(changed),
            text_column(actor),
            integer_column(run),
            integer_column(observed_at),
        )
    )


def link_creations(
    previous: bytes, prefix: bytes, seq: int, creations: Iterable[tuple[str, str, int | None]]
) -> Iterator[bytes]:
    """The hashes of creations that follow `previous` from `seq` on, given (key, after, occurred_at) of
    each: the same as `payload_hash_of_after` and `link` of one after the other, with nothing called twice."""
    sha256, pack, length, join = _sha256, _TAIL, _U32, b"".join
    start, end = _ONLY_AFTER
    for key, after, occurred_at in creations:
        text, name = after.encode(), key.encode()
        payload = sha256(join((start, length(len(text)), text, end))).digest()
        rest = _NOT_TOLD if occurred_at is None else _OCCURRED(8, occurred_at, 32)
        leaf = sha256(join((prefix, pack(8, seq, 8, 0, len(name)), name, rest, payload))).digest()
        previous = sha256(join((b"\x02", previous, leaf))).digest()
        seq += 1
        yield previous


def link(
    previous: bytes, prefix: bytes, seq: int, base: int, key: bytes, occurred_at: int | None, payload: bytes
) -> bytes:
    """The hash of the event that follows `previous`."""
    rest = _NOT_TOLD if occurred_at is None else _OCCURRED(8, occurred_at, 32)
    leaf = _sha256(b"".join((prefix, _TAIL(8, seq, 8, base, len(key)), key, rest, payload))).digest()
    return _sha256(b"".join((b"\x02", previous, leaf))).digest()
