"""The options that commands share, what the shell completes them with, and how a command gets at its stores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from evsync.config import FILE_NAME, Config, find_config, load_config
from evsync.errors import UsageError

if TYPE_CHECKING:
    from evsync.synchronizer import Synchronizer


class Given(NamedTuple):
    """The options given before the command; those behind it come first."""

    config: Path | None = None
    json: bool = False


def _given(context: typer.Context) -> Given:
    found = context.find_root().obj
    return found if isinstance(found, Given) else Given()


def _config(context: typer.Context, value: Path | None) -> Path | None:
    return value if value is not None else _given(context).config


def _json(context: typer.Context, value: bool) -> bool:
    return value or _given(context).json


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="PATH", callback=_config, show_default=False,
        help=f"The configuration; by default {FILE_NAME} here or in a parent folder.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", callback=_json, help="Print one JSON document.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


# -- completion: reads the file as it is, for it must not fail --------------------------------------------


def _names(context: typer.Context, table: str) -> Iterable[str]:
    import tomllib

    try:
        path = context.params.get("config") or _given(context).config or find_config(Path.cwd())
        return list(tomllib.loads(Path(path).read_text(encoding="utf-8"))[table])
    except Exception:
        return []


def complete_store(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stores of the configuration."""
    return [name for name in _names(ctx, "stores") if name.startswith(incomplete)]


def complete_type(ctx: typer.Context, incomplete: str) -> list[str]:
    """The types of the configuration."""
    return [name for name in _names(ctx, "types") if name.startswith(incomplete)]


# -- what commands work with -------------------------------------------------------------------------------


def configured(path: Path | None) -> Config:
    """The configuration given, or the one found."""
    if path is None:
        try:
            path = find_config(Path.cwd())
        except FileNotFoundError:
            raise UsageError(
                "the working directory is gone", "change to another, or name the file: --config PATH"
            ) from None
    return load_config(path)


def opened(path: Path | None) -> Synchronizer:
    """The synchronizer of the configuration; to be used as a context manager."""
    config = configured(path)
    from evsync.synchronizer import Synchronizer

    return Synchronizer.from_config(config)


Document = dict[str, Any]
