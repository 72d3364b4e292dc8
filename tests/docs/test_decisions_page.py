"""docs/decisions.md tells what happens: every case is played, and its row is what came of it."""

from __future__ import annotations

import difflib

from decisions import PAGE, written


def test_the_page_tells_what_happens() -> None:
    told, now = PAGE.read_text(encoding="utf-8"), written()
    assert told == now, "\n".join(
        [
            "if that is right, write it anew: python tests/docs/decisions.py",
            *difflib.unified_diff(told.splitlines(), now.splitlines(), "told", "happens", lineterm="", n=0),
        ]
    )
