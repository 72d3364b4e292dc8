"""Data, the pivot: one record of one type; and how a record's key is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec


class Data(msgspec.Struct):
    """One record of one type.

    On the side of `Store` and `Synchronizer` the `fields` carry the canonical names and typed values; on the
    side of an accessor they carry the store's own names and native values. A field that is missing from
    `fields` is absent; None is null.

    `key` identifies the record everywhere, `id` is what one store calls it (None where the store knows it by
    its key alone). `version` is an opaque token of the record's state, where the store has one (an etag);
    `changed_at` and `changed_by` say when and by whom it was changed, where the store tells.
    """

    type: str
    fields: dict[str, Any]
    key: str | None = None
    id: int | str | None = None
    version: str | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None


_AMBIGUOUS = re.compile(r"%(?=2F|25)")
_ESCAPED = re.compile(r"%(2F|25)")


def join_key(parts: Sequence[str]) -> str:
    """The text of a key: the only part as it is; several joined by "/", a "/" inside a part as "%2F"."""
    if len(parts) == 1:
        return parts[0]
    return "/".join(_AMBIGUOUS.sub("%25", part).replace("/", "%2F") for part in parts)


def split_key(key: str, parts: int) -> list[str]:
    """The parts of a key's text; raises ValueError if there are not `parts` of them."""
    if parts == 1:
        return [key]
    found = key.split("/")
    if len(found) != parts:
        raise ValueError(f"a key of {parts} parts joined by '/' is expected, not {key!r}")
    return [_ESCAPED.sub(lambda m: "/" if m[1] == "2F" else "%", part) for part in found]
