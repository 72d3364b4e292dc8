"""Commands whose parameters are converted only if there is something to convert.

Typer converts each parameter by a library that takes longer to load than most commands to run. What was not given
needs no conversion, nor does a text that stays one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import typer.core

Texts = frozenset[str]
"""The parameters of a command that are texts, or lists of them."""


def texts(command: Callable[..., Any]) -> Texts:
    """Those of a function."""
    wanted = (str, list[str])
    hints = get_type_hints(command)
    return frozenset(
        name for name, hint in hints.items() if hint in wanted or any(one in wanted for one in get_args(hint))
    )


class Command(typer.core.TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = texts(self.callback) if self.callback is not None else frozenset()
        for parameter in self.get_params(ctx):
            _ease(parameter, known)
        return super().parse_args(ctx, args)


class Group(typer.core.TyperGroup):
    """What stands before the commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for parameter in self.get_params(ctx):
            _ease(parameter, frozenset())
        return super().parse_args(ctx, args)


def _ease(parameter: Any, known: Texts) -> None:
    ordinary = parameter.process_value
    several = parameter.multiple or parameter.nargs != 1

    def process(ctx: Any, value: Any) -> Any:
        if value is None:
            if parameter.required:
                return ordinary(ctx, value)
            value = () if several else None
        elif not (parameter.name in known and _is_text(value, several)) and not _is_number(value):
            return ordinary(ctx, value)
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    parameter.process_value = process


def _is_number(value: Any) -> bool:
    """Whether this is a default; what is typed in is a text."""
    return type(value) is int


def _is_text(value: Any, several: bool) -> bool:
    if several:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return isinstance(value, str)
