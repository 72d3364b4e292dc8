"""The commands that list what is in the way: failures and quarantine."""

from __future__ import annotations

from typing import Annotated

import typer

from evsync.cli import output
from evsync.cli.options import ConfigOption, DebugOption, JsonOption, complete_store, opened
from evsync.cli.progress import Progress
from evsync.cli.sync import show_errors, show_replay, when

StoreName = Annotated[
    str | None,
    typer.Argument(metavar="STORE", help="Of this store only.", autocompletion=complete_store),
]


def failures(
    store: StoreName = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try them now, not when their time has come.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """The records that could not be written, and why.

    Later replays try them again: what was refused when it has changed, the rest after a while that grows."""
    code = 0
    with opened(config) as synchronizer, Progress(False if json else None) as progress:
        if retry:
            report = synchronizer.retry(store, progress)
            code = report.exit_code
            if not json:
                show_replay(report)
            show_errors(report)
        found = synchronizer.failures(store)
        if json:
            output.array(found)
            return code
        told = False
        for failure in found:
            told = True
            _headline(failure["store"], failure["type"], failure["key"])
            times = "once" if failure["attempts"] == 1 else f"{failure['attempts']} times"
            output.line(
                f"  {failure['state']}: {failure['action']} (event {failure['seq']}), tried {times},"
                f" next try {when(failure['next_try'])} UTC"
            )
            output.line(f"  {output.escape(failure['error'])}")
    if not told:
        output.line("no failures")
    return code


def quarantine(
    store: StoreName = None, config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False
) -> int:
    """The rows that could not be read, and why.

    They count as neither changed nor deleted until they are mended in their store."""
    with opened(config) as synchronizer:
        found = synchronizer.quarantine(store)
        if json:
            output.array(found)
            return 0
        told = False
        for row in found:
            told = True
            _headline(row["store"], row["type"], "" if row["id"] is None else str(row["id"]))
            output.line(f"  {output.escape(row['error'])}, seen since {when(row['seen_at'])} UTC")
            output.line(f"  {output.literal(row['row'])}")
    if not told:
        output.line("no quarantined rows")
    return 0


def _headline(store: str, type: str, record: str) -> None:
    output.line(output.style(output.escape(f"{store}  {type} {record}".rstrip()), "bold"))
