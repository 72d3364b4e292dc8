"""The command that keeps going: watch."""

from __future__ import annotations

import json as text
import signal
from typing import Annotated, Any

import typer

from evsync.cli import output
from evsync.cli.options import ConfigOption, DebugOption, JsonOption, opened
from evsync.errors import UsageError


def watch(
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="Look at all stores at least so often.")
    ] = 30.0,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Keep all stores in step until it is ended.

    Wakes as soon as something changes in a store that can tell; prints a line for each batch (with --json a document a
    line). Ctrl-C or SIGTERM ends it once the batch in hand is done."""
    if not 0.05 <= interval <= 86_400:
        raise UsageError(f"--interval {interval:g}: give seconds between 0.05 and 86400")
    from evsync.watching import Watching

    ended_by: list[int] = []
    with opened(config) as synchronizer:
        watching = Watching(synchronizer, interval, _as_json if json else _in_words)

        def end(number: int, frame: object) -> None:
            ended_by.append(number)
            watching.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        watching.run(lambda: output.say(f"watching {', '.join(synchronizer.stores)}; Ctrl-C ends it"))
    return 130 if signal.SIGINT in ended_by else 0


def _as_json(report: dict[str, Any]) -> None:
    if not _is_idle(report):
        output.line(text.dumps(report, ensure_ascii=False))
        output.flush()


def _is_idle(report: dict[str, Any]) -> bool:
    entries = [*report["ingest"]["stores"], *report["replay"]["stores"]]
    ignored = ("unchanged", "cursor", "head", "skipped")
    return not any(
        entry["error"]
        or any(value for name, value in entry.items() if isinstance(value, int) and name not in ignored)
        for entry in entries
    )


def _in_words(report: Any) -> None:
    from evsync.cli.sync import told_of

    if _is_idle(report):
        return
    parts = []
    for side, words in (("ingest", "found in"), ("replay", "written to")):
        for entry in report[side]["stores"]:
            told = told_of(entry)
            if told:
                parts.append(f"{words} {output.escape(entry['store'])}: {told}")
            if entry["error"]:
                output.failure(f"{entry['store']}: {entry['error']}", report.hints.get(entry["store"], ""))
    if parts:
        output.line("; ".join(parts))
        output.flush()
