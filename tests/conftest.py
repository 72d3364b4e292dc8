"""What all tests share: a clock that stands still, and a disk that does not make them wait."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, settings
from mariadb_server import LEFT_OUT
from projects import NOON

# Tests are about the order of steps and what is left when a process or a server dies, not about disks: in memory every wait for
# one is saved. A machine that has little of it, or names another place in TMPDIR, does without.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

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
