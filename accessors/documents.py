"""A file as a sequence of records with their text: what a format has to say of itself to be read and rewritten."""

from __future__ import annotations

import codecs
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from evsync.accessor import Row
from evsync.binding import Binding, nearest
from evsync.errors import BrokenStore, ConfigError

LONGEST = 1 << 26
"""No line or record is longer, in characters; so a broken file cannot take all memory."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_USUAL = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "ascii", "shift_jis", "gb18030", "big5", "euc-kr")


class Record(NamedTuple):
    """One record as it stands in a file: what stands between it and the one before, and its own text."""

    row: Row
    before: str
    text: str
    after: str = ""  # its line end, where a line is a record


class Document(ABC):
    """One file of records, open for one pass through it."""

    def __init__(self, path: Path, file: BinaryIO, option: str | None = None) -> None:
        """`file` is at its beginning; `option`: the encoding that the user says it has.

        Raises ConfigError for an encoding that does not exist."""
        self.path = path
        self.head = file.read(1 << 16)
        file.seek(0)
        self.encoding, marked = encoding_of(self.head, option)
        self.stream = io.TextIOWrapper(file, self.encoding, newline="")
        self.mark = self.stream.read(1) if marked else ""  # the byte order mark: kept, and no text

    def broken(self, line: int, problem: str, hint: str = "") -> BrokenStore:
        """The error for a file that cannot be read; nothing is taken from it, nothing written to it."""
        return BrokenStore(f"{self.path}, line {line}: {problem}", hint or "mend the file by hand")

    @abstractmethod
    def rows(self, binding: Binding) -> Iterator[Row]:
        """All records, quickly. Raises BrokenStore."""

    @abstractmethod
    def records(self, binding: Binding) -> Iterator[Record]:
        """All records with their text, in order. Raises BrokenStore."""

    @abstractmethod
    def written(self, record: Record, text: str | None) -> str:
        """What is to be written for a record whose text is now `text` (None: it is gone).

        Called once for every record, in order."""

    @abstractmethod
    def rest(self, texts: Iterable[str]) -> Iterator[str]:
        """What is to be written after the last record, with the new records' `texts`."""

    @abstractmethod
    def encode(self, text: str | None, values: Mapping[str, Any], binding: Binding) -> str:
        """The text of a record with these typed values; `text` is its old one, None for a new record.

        Raises Refused for what the format cannot hold."""

    @abstractmethod
    def parse(self, text: str, place: str | None) -> Row:
        """The record that `text` holds, as `records` (which was called before) would give it."""


def encoding_of(head: bytes, option: str | None) -> tuple[str, bool]:
    """The encoding of a file that begins with `head`, and whether a byte order mark says so.

    Raises ConfigError for one that does not exist."""
    try:
        "".encode(option or "utf-8")  # there are codecs that are not for text
        name = codecs.lookup(option or "utf-8").name
    except LookupError:
        raise ConfigError(f"there is no encoding {option!r}", nearest(option or "", _USUAL)) from None
    for mark, encoding in _BOMS:
        if head.startswith(mark) and (option is None or name.startswith(encoding[:5])):
            return encoding, True
    return {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(name, name), False


def undecodable_line(path: Path, encoding: str) -> int:
    """The line of the first bytes that are not in this encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        try:
            while chunk := file.read(1 << 16):
                line += decoder.decode(chunk).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(encoding).count("\n")
    return line
