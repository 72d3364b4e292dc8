"""The Typer application: its commands, and the options that stand before a command."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from evsync import __version__
from evsync.cli import audit, capture, decisions, failures, output, setup, sync, troubles, watch
from evsync.cli.options import DebugOption, Given
from evsync.cli.parameters import Command, Group

app = typer.Typer(
    name="evsync",
    help="git log for your data stores: keeps unlike stores in step through one append-only journal.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 store unreachable, 4 done but something is "
    "open, 5 a difference or a broken journal was found, 6 stopped by a guard, 130 interrupted.",
    # Plain help: rich would cost every start more than the command itself.
    rich_markup_mode=None,
    cls=Group,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    setup.init, sync.ingest, sync.replay, sync.sync, watch.watch, sync.status, audit.log, audit.show, audit.blame, audit.diff,
    decisions.conflicts, decisions.resolve, decisions.undo, troubles.failures, troubles.quarantine,
    audit.verify, setup.doctor,
):  # fmt: skip
    app.command(cls=Command)(failures.plain(command))
app.add_typer(capture.app)


def _version(wanted: bool) -> None:
    if wanted:
        output.line(f"evsync {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="PATH", show_default=False, help="The configuration.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: DebugOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options before the command."""
    context.obj = Given(config, json)
    if context.invoked_subcommand is None:
        from evsync.errors import UsageError

        if not json:
            output.say(context.get_help() + "\n")
        raise UsageError("no command was given", "begin with: evsync init --example demo")


@lru_cache(maxsize=1)
def command_line() -> Any:
    """All commands with their parameters, made once a process."""
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Run a command line; answers with the exit code of the command, raises what it raises."""
    code = command_line()(arguments, prog_name="evsync", standalone_mode=False)
    return code if isinstance(code, int) else 0
