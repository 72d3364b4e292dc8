"""Commands whose parameters are converted only if there is something to convert.

Typer converts each parameter by a library that takes longer to load than most commands to run. What was not given
needs no conversion, nor does a text that stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer.core

Conversions = Mapping[str, Callable[[str], Any]]
"""By the names of parameters: what makes of a text, or of each of several, what the command takes."""


def conversions(command: Callable[..., Any] | None) -> Conversions:
    """Those of a function's parameters that are simple."""
    simple: dict[Any, Callable[[str], Any]] = {str: str, list[str]: str, Path: Path}
    hints = {} if command is None else get_type_hints(command)
    found = {}
    for name, hint in hints.items():
        for kind in (hint, *get_args(hint)):
            if kind in simple:
                found[name] = simple[kind]
    return found


class Command(typer.core.TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _ease(self.get_params(ctx), conversions(self.callback))
        return super().parse_args(ctx, args)


class Group(typer.core.TyperGroup):
    """What stands before the commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _ease(self.get_params(ctx), conversions(self.callback))
        return super().parse_args(ctx, args)


def _ease(parameters: list[Any], known: Conversions) -> None:
    for parameter in parameters:
        parameter.process_value = _process(parameter, known.get(parameter.name))


def _process(parameter: Any, convert: Callable[[str], Any] | None) -> Callable[[Any, Any], Any]:
    ordinary = type(parameter).process_value.__get__(parameter)  # not what a run before put in its place
    several = parameter.multiple or parameter.nargs != 1

    def process(ctx: Any, value: Any) -> Any:
        if value is None and not parameter.required:
            value = () if several else None
        elif convert is not None and several and _are_texts(value):
            value = type(value)(map(convert, value))
        elif convert is not None and not several and isinstance(value, str):
            value = convert(value)
        elif not (isinstance(value, str | int) and value == parameter.default):
            return ordinary(ctx, value)
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    return process


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
