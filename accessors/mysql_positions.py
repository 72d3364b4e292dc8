"""Places in the binary log, and how they are written down."""

from __future__ import annotations

import json
from typing import NamedTuple

from accessors.mysql_log import FIRST


class Position(NamedTuple):
    """A place between two transactions.

    `born`: when the file was begun, and `server`, by which server, which tells it from one of the same name after a RESET or
    on another server. `last`, `crc`: where the event before the place begins, and its checksum: while both are as they were,
    so is everything before it. 0 where there is none, or nobody has seen it."""

    file: str
    offset: int
    born: int = 0
    server: int = 0
    last: int = 0
    crc: int = 0

    @property
    def place(self) -> str:
        """A text that sorts as the places follow each other."""
        return place_of(self.file, self.offset)

    @property
    def text(self) -> str:
        return f"{self.place} {json.dumps(self[:1] + self[2:], separators=(',', ':'))}"

    @property
    def begin(self) -> int:
        """From where on the log is read, so as to see that it still is the same."""
        return self.last or self.offset


def place_of(file: str, offset: int) -> str:
    """Files are numbered; the number may have more digits than the name shows at first."""
    return f"{int(file.rpartition('.')[2]):010d}.{offset:014d}"


def position_of(text: str) -> Position:
    """What `Position.text` has written."""
    place, _, rest = text.partition(" ")
    file, *others = json.loads(rest)
    return Position(file, int(place.partition(".")[2]), *others)


def start_of(file: str) -> Position:
    """Where a file begins."""
    return Position(file, FIRST)
