"""Telling when a file changes: by events of the operating system (watchfiles), or by looking at it.

Folders are watched, not files: a program that saves a file often puts a new one in its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from accessors.waiting import changing

LOOK = 0.2
"""Seconds between two looks where there are no events."""


def file_changes(paths: Sequence[Path], stop: Callable[[], bool]) -> Iterator[None]:
    """Yields whenever one of the files may have changed."""
    folders = sorted({path.parent for path in paths if path.parent.is_dir()})
    try:
        from watchfiles import watch
    except ImportError:
        yield from changing(lambda: [_look(path) for path in paths], stop, LOOK)
        return
    if not folders:
        while not stop():
            time.sleep(LOOK)
        return
    names = {str(path) for path in paths} | {str(path.resolve()) for path in paths}
    ended = threading.Event()
    for found in watch(
        *folders,
        watch_filter=lambda change, name: name in names,
        debounce=50,
        step=10,
        stop_event=ended,
        rust_timeout=200,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    ):
        if stop():
            ended.set()
        elif found:
            yield


def _look(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns)
