"""MySQL's decimals as they are stored: nine digits in four bytes, the highest bit turned over, all bits where it is negative."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Final

_DIGIT_BYTES: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


@lru_cache(maxsize=1000)
def parts(precision: int, scale: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """How many bytes it takes, and of what it is made: bytes and the digits in them."""
    before, first = divmod(precision - scale, 9)
    behind, last = divmod(scale, 9)
    found = [(_DIGIT_BYTES[first], first)] if first else []
    found += [(4, 9)] * (before + behind)
    if last:
        found.append((_DIGIT_BYTES[last], last))
    return sum(size for size, _ in found), tuple(found)


def decimal_of(precision: int, scale: int, data: bytes) -> Decimal:
    """The number, with the zeros at its end."""
    length, sizes = parts(precision, scale)
    raw = data[:length]
    negative = not raw[0] & 0x80
    bits = int.from_bytes(raw, "big") ^ 1 << 8 * length - 1
    if negative:
        bits ^= (1 << 8 * length) - 1
    raw, at, number = bits.to_bytes(length, "big"), 0, 0
    for size, digits in sizes:
        number = number * 10**digits + int.from_bytes(raw[at : at + size], "big")
        at += size
    return Decimal((int(negative and number != 0), tuple(map(int, str(number))), -scale))
