"""Files in which a record is a line, or a few: CSV and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from accessors.documents import LONGEST, Document, Record


class LinesDocument(Document):
    """A file of lines. Each keeps its own line end; new ones get that of the first."""

    def __init__(self, path: Path, file: BinaryIO, option: str | None = None) -> None:
        super().__init__(path, file, option)
        self.newline = "\n"
        self.pending: list[str] = []  # lines read and not yet taken
        self.taken = 0  # how many lines were taken
        self.gap = self.mark  # what was passed over since the last record
        self._ended = True  # whether the last line read has a line end
        self._length, self._out = 0, ""  # how much was written, and its last character

    def lines(self) -> Iterator[str]:
        """Lines with their ends; each is `pending` until `take` is called."""
        readline, pending = self.stream.readline, self.pending
        line = ""
        while True:
            line, last = readline(LONGEST), line
            if not line:
                break
            if len(line) >= LONGEST:
                raise self.broken(self.taken + len(pending) + 1, f"longer than {LONGEST:,} characters")
            pending.append(line)
            yield line
        self._ended = last == "" or last[-1] in "\r\n"

    def take(self) -> str:
        """The text of the lines read since the last call."""
        pending = self.pending
        text = pending[0] if len(pending) == 1 else "".join(pending)
        self.taken += len(pending)
        pending.clear()
        return text

    def gathered(self) -> str:
        """What was passed over since the last call: header, blank lines."""
        gap, self.gap = self.gap, ""
        return gap

    def written(self, record: Record, text: str | None) -> str:
        return self._wrote(record.before + ("" if text is None else text + record.after))

    def rest(self, texts: Iterable[str]) -> Iterator[str]:
        yield self._wrote(self.gathered())
        for text in texts:
            fresh = self._length == len(self.mark) or self._out in "\r\n"
            before = "" if fresh else self.newline
            yield self._wrote(before + text + (self.newline if self._ended else ""))

    def _wrote(self, text: str) -> str:
        self._length += len(text)
        self._out = text[-1:] or self._out
        return text


def split_end(text: str) -> tuple[str, str]:
    """The text of a line and its end."""
    bare = text.rstrip("\r\n")
    return bare, text[len(bare) :]


def is_blank(text: str) -> bool:
    return not text.strip(" \t\r\n")
