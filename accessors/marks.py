"""What tells that nobody has written to a file since: its place, its size, its times, and what counts in it.

A file system's clock ticks in milliseconds, some in seconds: whoever writes twice within a tick leaves the same
time. So a file that was written just now has no mark yet.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

SETTLED = 2.0
"""Seconds that a file has to be at rest."""

_HEADER = 100  # of a database: sqlite.org/fileformat.html §1.3
_WAL_HEADER = 32  # of a write-ahead log: §4.1
_INDEX_HEADER = 48  # of its index: sqlite.org/walformat.html §2.1


def file_mark(path: Path) -> str | None:
    """The mark of a file; None if it was written just now, or is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    # Of the machine, whatever a program is told that the time is.
    now = time.clock_gettime(time.CLOCK_REALTIME)
    if now - max(status.st_mtime, status.st_ctime) < SETTLED:
        return None
    return ":".join(
        str(part)
        for part in (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    )


def database_mark(path: Path) -> str | None:
    """The mark of an SQLite database. None also while a transaction is under way, or was left halfway.

    A commit changes the file or its write-ahead log. One that was cut off between writing the log and saying
    so in the log's index comes to light with the next recovery, which changes the index: so that counts as well."""
    path = path.resolve()
    log, index, journal = (path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))
    parts = [file_mark(path)]
    try:
        if journal.exists() and journal.stat().st_size:
            return None
        parts.append(_start(path, _HEADER))
        if log.exists() and log.stat().st_size:
            parts += [file_mark(log), _start(log, _WAL_HEADER), _start(index, _INDEX_HEADER)]
    except OSError:
        return None
    return None if None in parts else "/".join(map(str, parts))


def _start(path: Path, size: int) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, size).hex()
    finally:
        os.close(descriptor)
