"""What a command ends with: exceptions become two lines on stderr and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import ParamSpec, TypeVar

from evsync.cli import output
from evsync.errors import EvsyncError, GuardTripped
from evsync.secrets import mask

P = ParamSpec("P")
R = TypeVar("R")


class Interrupted(EvsyncError):
    """Ctrl-C."""

    exit_code = 130
    code = "interrupted"

    def __init__(self) -> None:
        super().__init__("interrupted", "nothing is half done: run the command again to go on")


class ReaderGone(Exception):
    """The other end of the pipe was closed (`evsync log | head`): nothing went wrong, and there is nobody to tell."""


def plain(command: Callable[P, R]) -> Callable[P, R]:
    """`command` with the two errors renamed that typer would handle in ways of its own."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted from None
        except BrokenPipeError:
            raise ReaderGone from None

    return wrapped


def guarded(arguments: Sequence[str]) -> int:
    """Run the command line `arguments`; answers with the exit code."""
    options = _before_dashes(arguments)
    as_json, debug = _wants_json(options), "--debug" in options
    try:
        # A console that cannot show a character shows its code instead of ending the command.
        output.never_fail_on_characters()
        from evsync.cli.app import run

        code = run(list(arguments))
        sys.stdout.flush()
        return code
    except (ReaderGone, BrokenPipeError):
        return _reader_is_gone()
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            import traceback

            output.say(mask(traceback.format_exc()).rstrip())
        try:
            return report(Interrupted() if isinstance(error, KeyboardInterrupt) else error, as_json)
        except BrokenPipeError:
            return _reader_is_gone()


def report(error: Exception, as_json: bool) -> int:
    """Tell of `error`; answers with its exit code."""
    code, message, hint, exit_code = described(error)
    if as_json and not output.begun():
        document = {"ok": False, "error": {"code": code, "message": message, "hint": hint}}
        # A run that a guard stopped still shows what it found.
        stopped = getattr(error, "document", None) if isinstance(error, GuardTripped) else None
        output.document(stopped or document)
        sys.stdout.flush()
    output.failure(message, hint)
    return exit_code


def described(error: Exception) -> tuple[str, str, str, int]:
    """The code, message, hint and exit code of whatever went wrong."""
    if isinstance(error, EvsyncError):
        return error.code, error.message, error.hint, error.exit_code
    if hasattr(error, "format_message"):  # typer's own errors, whatever it is built upon
        return "usage", _one_line(error.format_message()), _help_for(error), 2
    named = mask(f"{type(error).__name__}: {error}") if str(error) else type(error).__name__
    return "unexpected", f"unexpected error: {_one_line(named)}", "run again with --debug", 1


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"see: {context.command_path if context is not None else 'evsync'} --help"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments that may be options: what follows "--" is data."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _wants_json(options: Sequence[str]) -> bool:
    """Whether errors are to be a document as well. Asked of the bare words, for a wrong command line cannot be parsed."""
    return "--json" in options or "--format=json" in options or ("--format", "json") in pairwise(options)


def _reader_is_gone() -> int:
    """Python flushes stdout once more as it ends: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
