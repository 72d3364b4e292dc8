"""Rewriting a file so that nobody ever sees half of it, and nobody's change is lost.

The new content goes to a temporary file beside the old one, which takes its place in one step.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from evsync.errors import Retry, StoreError, Unreachable

PATIENCE = 30.0
"""Seconds to wait for another process that is rewriting a file of the same folder."""


class State(NamedTuple):
    """What tells that a file is still the one that was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def state_of(status: os.stat_result) -> State:
    return State(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def explain(path: Path, error: OSError, doing: str) -> StoreError:
    """The error to be raised for what the operating system says; `doing` is "read" or "written"."""
    words = {
        errno.ENOENT: (f"there is no file {path}", "check the path, or let evsync create the file"),
        errno.ENOTDIR: (f"there is no file {path}: a part of its path is no folder", "check the path"),
        errno.EISDIR: (f"{path} is a folder, not a file", "end the URL with '/' to serve a folder"),
        errno.EROFS: (f"{path} cannot be {doing}: it lies on a read-only file system", ""),
        errno.ENOSPC: (f"{path} cannot be {doing}: the disk is full", "make room; the file is as it was"),
        errno.EDQUOT: (f"{path} cannot be {doing}: the quota is used up", "make room; the file is as it was"),
    }
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unreachable(
            f"no right to have {path} {doing}", "check the rights of the file and of its folder"
        )
    message, hint = words.get(
        error.errno or 0, (f"{path} cannot be {doing}: {error.strerror or error}", "the file is as it was")
    )
    return Unreachable(message, hint)


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Raises Unreachable with clear words for an OSError."""
    try:
        yield
    except OSError as error:
        raise explain(path, error, doing) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other evsync processes from rewriting files of this folder.

    The folder is locked and not the file, since the file is replaced by another. Raises Retry after `PATIENCE`.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Retry(f"another process keeps rewriting files in {folder}") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)  # gives the lock back


class Replacement:
    """The new content of a file in the making. Nothing takes its place until `wanted` is set."""

    def __init__(self, stream: TextIO) -> None:
        self.write = stream.write
        self.wanted = False


@contextmanager
def replacing(path: Path, encoding: str, found: os.stat_result | None) -> Iterator[Replacement]:
    """Writes a new file to take the place of `path`; the folder must be `locked`.

    `found` is the status of the file when it was opened for reading, None if it is to be created. Raises Retry
    if it is another, or in another state, by the time it would be replaced. Whatever is raised, the old file is untouched
    and no other is left behind.
    """
    temporary = path.with_name(f".{path.name}.evsync-tmp")
    temporary.unlink(missing_ok=True)  # of a process that was killed: a live one would hold the lock
    mode = 0o666 if found is None else 0o600  # nobody reads along before the old file's mode is known
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding=encoding, newline="") as stream:
            replacement = Replacement(stream)
            yield replacement
            if not replacement.wanted:
                return
            stream.flush()
            if found is not None:
                _take_after(descriptor, found)
            os.fsync(descriptor)
        # A writer that does not know of our lock can still slip in between these two lines.
        if _state(path) != (None if found is None else state_of(found)):
            raise Retry(f"{path} changed while it was being rewritten", "it is left as it is now")
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _state(path: Path) -> State | None:
    try:
        return state_of(path.stat())
    except FileNotFoundError:
        return None


def _take_after(descriptor: int, old: os.stat_result) -> None:
    """Gives the open file the owner and mode of the old one."""
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with suppress(PermissionError):  # only root may give files away
            os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _sync_folder(folder: Path) -> None:
    """Makes the new name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can; the file itself is safe
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
