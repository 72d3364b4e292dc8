"""The rows of a transaction, held back until it is known what becomes of it."""

from __future__ import annotations

import pickle  # only what this process has written is read
import tempfile
from collections.abc import Iterator
from typing import IO, Generic, TypeVar

IN_MEMORY = 4_000_000
"""Bytes of a transaction that are held in memory; the rest is written to a file."""

T = TypeVar("T")


class Held(Generic[T]):
    """Holds things in their order, at a memory that does not grow with them."""

    def __init__(self) -> None:
        self._some: list[T] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    def add(self, one: T, size: int) -> None:
        """`size`: about how many bytes it takes."""
        self._some.append(one)
        self._size += size
        if self._size > IN_MEMORY:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="evsync-")  # noqa: SIM115
            pickle.dump(self._some, self._file, pickle.HIGHEST_PROTOCOL)
            self._some, self._size = [], 0

    def __iter__(self) -> Iterator[T]:
        """All of them, once."""
        if self._file is not None:
            end = self._file.tell()
            self._file.seek(0)
            while self._file.tell() < end:
                yield from pickle.load(self._file)  # noqa: S301
        yield from self._some

    def clear(self) -> None:
        """Forget them."""
        self._some, self._size = [], 0
        if self._file is not None:
            self._file.close()
            self._file = None
