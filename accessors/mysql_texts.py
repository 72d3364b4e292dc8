"""Texts in the binary log, which stand there in the character sets of their columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

Ask = Callable[[str], Any]
"""What the server answers to an expression."""

_UNICODE: Final = {
    "utf8": "utf-8", "utf8mb3": "utf-8", "utf8mb4": "utf-8", "ucs2": "utf-16-be", "utf16": "utf-16-be",
    "utf16le": "utf-16-le", "utf32": "utf-32-be",
}  # fmt: skip


class Texts:
    """Reads texts of any collation as the server would hand them out. `charsets`: the character set of each collation; `single`:
    those in which each byte is a letter."""

    def __init__(self, charsets: Mapping[int, str], single: Collection[str], ask: Ask) -> None:
        self._charsets, self._single, self._ask = charsets, single, ask
        self._readers: dict[str, Callable[[bytes], Any]] = {}

    def __call__(self, collation: int | None) -> Callable[[bytes], Any]:
        """How the bytes of a text are read; those of what is no text stay bytes."""
        charset = "binary" if collation is None else self._charsets.get(collation, "binary")
        if charset not in self._readers:
            self._readers[charset] = self._reader(charset)
        return self._readers[charset]

    def _reader(self, charset: str) -> Callable[[bytes], Any]:
        if charset == "binary":
            return bytes
        if charset in _UNICODE:
            codec = _UNICODE[charset]
            return lambda data: data.decode(codec, "surrogateescape" if codec == "utf-8" else "replace")
        if re.fullmatch(r"\w+", charset) is None:
            raise ValueError(f"a character set called {charset!r}")

        def converted(data: bytes) -> str:
            return str(self._ask(f"CONVERT(_{charset} X'{data.hex()}' USING utf8mb4)"))

        if charset in self._single:
            letters = converted(bytes(range(256)))
            return lambda data: "".join([letters[one] for one in data])
        return lru_cache(maxsize=10_000)(converted)


def of_type(declared: str, ask: Ask) -> Callable[[bytes], str] | None:
    """How the bytes of a column are read of which the log does not say that they are a text to a reader."""
    if declared == "uuid":
        return _uuid
    if declared in ("inet6", "inet4"):
        return lru_cache(maxsize=10_000)(lambda data: str(ask(f"INET6_NTOA(X'{data.hex()}')")))
    return None


def _uuid(data: bytes) -> str:
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
