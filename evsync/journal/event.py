"""The event, as it is handed to the journal and as it comes back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from evsync.journal.chain import shape_digest
from evsync.values import decode, encode

Op = Literal["create", "update", "delete", "read"]
OWN = "evsync"
"""The store of events that evsync itself decides."""

Fields = dict[str, Any]
"""Canonical names with wire values; a field that is missing is absent."""


class Shape(msgspec.Struct, frozen=True):
    """The names and value types, in order of the names, of the values in a payload. Stored once per combination."""

    id: int
    names: tuple[str, ...]
    types: tuple[str, ...]
    digest: bytes


def shape_text(names: tuple[str, ...], types: tuple[str, ...]) -> str:
    """How a shape is stored."""
    return encode(list(zip(names, types, strict=True))).decode()


def read_shape(id: int, text: str) -> Shape:
    """The shape that is stored so."""
    pairs = decode(text)
    digest = shape_digest(text)
    assert digest is not None
    return Shape(id, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), digest)


class NewEvent(msgspec.Struct):
    """An event to be appended. Payloads are encoded already: `after` and `before` are JSON arrays of the values
    that `after_shape` and `before_shape` name; `conflict` is a JSON object. Times are microseconds since 1970."""

    op: str
    store: str
    type: str
    key: str
    base: int
    after: str | None = None
    after_shape: Shape | None = None
    before: str | None = None
    before_shape: Shape | None = None
    changed: Shape | None = None
    conflict: str | None = None
    occurred_at: int | None = None
    actor: str | None = None


class Head(NamedTuple):
    """The journal's last position, its hash, and when it was written (microseconds)."""

    seq: int
    hash: bytes
    observed_at: int


class Revision(NamedTuple):
    """A record's state at an event: `fields` is None if it does not exist after it. `text` is the payload as
    stored, in the shape `shape`."""

    seq: int
    fields: Fields | None
    text: str | None
    shape: Shape | None
