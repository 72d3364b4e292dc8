"""The command line. `main` is the entry point `evsync`; nothing else is imported before it runs."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command in `sys.argv` and exit with its code."""
    from evsync.cli.failures import guarded

    # Rows come and go by the thousand and hold no cycles: looking for some at every 700th costs a run up to a tenth.
    gc.set_threshold(100_000, 20, 100)
    # A thread that has SQLite write is done in a few milliseconds, and would wait as long again for its turn.
    sys.setswitchinterval(0.0002)
    sys.exit(guarded(sys.argv[1:]))
