"""A line on stderr that says how far a long command has come."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

INTERVAL = 0.1


class Progress:
    """To be called with a stage, how much is done and of how much. Shows nothing unless `shown`, by default
    whether stderr is a terminal; the line is gone when the command is done."""

    def __init__(self, shown: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty() if shown is None else shown
        self._stage = ""
        self._started = 0.0
        self._drawn = float("-inf")
        self._width = 0

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started = stage, now
        elif now - self._drawn < INTERVAL:
            return
        self._drawn = now
        seconds = now - self._started
        text = f"{stage}  {done:,}" + (f" of {total:,}" if total else "")
        if seconds > 0.5:
            text += f"  {done / seconds:,.0f}/s"
        self._draw(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._draw("")
            self._stream.write("\r")
            self._stream.flush()

    def _draw(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)
