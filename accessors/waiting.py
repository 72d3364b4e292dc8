"""Waiting for something to happen in a store that has to be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

STEP = 0.02
"""Seconds between two questions."""


def changing(asked: Callable[[], Any], stop: Callable[[], bool], step: float = STEP) -> Iterator[None]:
    """Yields whenever the answer is another one."""
    before = asked()
    while not stop():
        time.sleep(step)
        now = asked()
        if now != before:
            before = now
            yield


def until(happened: Callable[[], bool], seconds: float) -> bool:
    """Whether it happened before so many seconds were over."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() >= end:
            return False
        time.sleep(STEP)
    return True
