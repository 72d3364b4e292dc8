"""The hash chain against a second implementation, written from the description of format 1 alone."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import append

from evsync.journal import chain
from evsync.journal.journal import Journal

Value = str | bytes | int | None


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hashed(value: Value) -> bytes:
    """A column: its length in four bytes and its bytes; four times 0xFF for null."""
    if value is None:
        return b"\xff\xff\xff\xff"
    if isinstance(value, str):
        value = value.encode("utf-8")
    elif isinstance(value, int):
        value = struct.pack(">q", value)
    return struct.pack(">I", len(value)) + value


def event_hash(previous: bytes, columns: list[Value], payload: list[Value]) -> bytes:
    payload_hash = sha256(b"evsync/payload/v1" + b"".join(map(hashed, payload)))
    entry = b"evsync/entry/v1" + b"".join(map(hashed, [*columns, payload_hash]))
    leaf = sha256(b"\x00" + entry)
    return sha256(b"\x02" + previous + leaf)


def fields(*pairs: tuple[str, str]) -> bytes:
    """What stands for the names and types of fields."""
    return sha256(("[" + ",".join(f'["{name}","{type}"]' for name, type in pairs) + "]").encode())


GENESIS = sha256(b"evsync/journal/v1")


def test_a_journal_is_chained_as_described(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "evsync.db") as journal:
        assert journal.head().hash == GENESIS
        append(journal, "create", "ann", {"email": "ann", "age": 31}, now=1_000_000, actor="eve", run=7)
        append(
            journal, "update", "ann", {"email": "ann", "age": 32}, before={"age": 31}, changed=["age"],
            now=2_000_000, base=1, occurred_at=-1, conflict='{"open":true}', store="mäil", run=8,
        )  # fmt: skip
        append(journal, "delete", "ann", None, before={"email": "ann", "age": 32}, now=3_000_000, base=2)
        append(journal, "read", "", store="", type="", now=3_000_000)
        stored = [row[0] for row in journal.connection.execute("select hash from event order by seq")]
        end = journal.head().hash
    both, age = fields(("age", "int"), ("email", "str")), fields(("age", "int"))
    first = event_hash(
        GENESIS,
        ["create", "crm", "contact", both, None, both, "eve", 7, 1_000_000, 1, 0, "ann", None],
        [None, '[31,"ann"]', None],
    )
    second = event_hash(
        first,
        ["update", "mäil", "contact", both, age, age, None, 8, 2_000_000, 2, 1, "ann", -1],
        ["[31]", '[32,"ann"]', '{"open":true}'],
    )
    third = event_hash(
        second,
        ["delete", "crm", "contact", None, both, both, None, 1, 3_000_000, 3, 2, "ann", None],
        ['[32,"ann"]', None, None],
    )
    fourth = event_hash(
        third, ["read", "", "", None, None, None, None, 1, 3_000_000, 4, 0, "", None], [None, None, None]
    )
    assert stored == [first, second, third, fourth]
    assert end == fourth


def test_known_answers() -> None:
    """Computed once; whoever changes these changes the format."""
    prefix = chain.entry_prefix("create", "crm", "contact", None, None, None, None, 1, 0)
    payload = chain.payload_hash(None, b"[]", None)
    assert chain.GENESIS.hex() == GENESIS.hex()
    assert payload.hex() == sha256(b"evsync/payload/v1\xff\xff\xff\xff\0\0\0\x02[]\xff\xff\xff\xff").hex()
    assert (
        chain.link(chain.GENESIS, prefix, 1, 0, b"ann", None, payload).hex()
        == "19f40d4f6a5c5d2b4480e931e830c3dd8d1aa10bf9a7359315f9105c90b3cb1e"
    )


def test_null_is_not_the_empty_text() -> None:
    assert chain.text_column(None) == b"\xff\xff\xff\xff"
    assert chain.text_column("") == b"\0\0\0\0"
    assert chain.column(None) != chain.column(b"")
    assert chain.payload_hash(None, None, None) != chain.payload_hash(b"", b"", b"")
    assert chain.shape_digest(None) is None
    assert chain.shape_digest("") is not None


def test_integers_are_eight_bytes_in_order() -> None:
    assert chain.integer_column(1) == b"\0\0\0\x08" + b"\0" * 7 + b"\x01"
    assert chain.integer_column(-1) == b"\0\0\0\x08" + b"\xff" * 8


TEXTS = st.none() | st.text(max_size=4)


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_columns_cannot_be_shifted_into_each_other(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    def joined(texts: tuple[Any, ...]) -> bytes:
        return b"".join(map(chain.text_column, texts))

    assert (joined(one) == joined(other)) == (one == other)


def link(**changes: Any) -> bytes:
    columns = {
        "op": "update", "store": "crm", "type": "contact", "after_shape": b"a" * 32, "before_shape": b"b" * 32,
        "changed": b"c" * 32, "actor": "eve", "run": 1, "observed_at": 5,
    }  # fmt: skip
    tail = {"seq": 2, "base": 1, "key": b"ann", "occurred_at": 4, "payload": b"p" * 32}
    columns.update({name: value for name, value in changes.items() if name in columns})
    tail.update({name: value for name, value in changes.items() if name in tail})
    return chain.link(changes.get("previous", b"0" * 32), chain.entry_prefix(**columns), **tail)


@pytest.mark.parametrize(
    "changes",
    [
        {"op": "create"}, {"store": "cr"}, {"store": "crmc", "type": "ontact"}, {"type": "order"},
        {"after_shape": None}, {"before_shape": None}, {"changed": None}, {"after_shape": b"b" * 32, "before_shape": b"a" * 32},
        {"actor": None}, {"actor": ""}, {"run": 2}, {"observed_at": 6}, {"seq": 3}, {"base": 0},
        {"seq": 1, "base": 2}, {"key": b""}, {"key": b"ann\0"}, {"occurred_at": None}, {"occurred_at": 0},
        {"payload": b"q" * 32}, {"previous": b"1" * 32},
    ],
    ids=str,
)  # fmt: skip
def test_every_column_enters_the_hash(changes: dict[str, Any]) -> None:
    assert link(**changes) != link()
    assert link() == link()


@pytest.mark.parametrize(
    "moved", [lambda b, a, c: (a, b, c), lambda b, a, c: (b, c, a), lambda b, a, c: (None, a, c)]
)
def test_every_part_of_a_payload_enters_its_hash(moved: Callable[..., Any]) -> None:
    parts = (b"[1]", b"[2]", b"{}")
    assert chain.payload_hash(*moved(*parts)) != chain.payload_hash(*parts)
