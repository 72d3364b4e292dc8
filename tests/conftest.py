"""What all tests share: a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from projects import NOON

# A busy machine is no failure, and what fails for one fails for all: drawn from the test, not from chance.
settings.register_profile(
    "evsync", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("evsync")


@pytest.fixture
def noon() -> Iterator[Any]:
    """It is noon; `tick` and `move_to` change that."""
    with freeze_time(NOON) as frozen:
        yield frozen
