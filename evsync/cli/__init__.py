"""The command line. `main` is the entry point `evsync`; nothing else is imported before it runs."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command in `sys.argv` and exit with its code."""
    from evsync.cli.failures import guarded

    sys.exit(guarded(sys.argv[1:]))
