"""What all tests share: a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from mariadb_server import LEFT_OUT
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


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was left out for want of a server is said, in one line."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(LEFT_OUT in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"left out: {count} tests that need MariaDB: {LEFT_OUT}")
