"""What all tests share: a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from projects import NOON


@pytest.fixture
def noon() -> Iterator[Any]:
    """It is noon; `tick` and `move_to` change that."""
    with freeze_time(NOON) as frozen:
        yield frozen
