"""Accessors are found through the entry-point group `evsync.accessors`; our own are known without looking there."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from accessors import ACCESSORS
from evsync.accessor import Accessor
from evsync.binding import nearest
from evsync.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "evsync.accessors"


@lru_cache(maxsize=1)
def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def schemes() -> list[str]:
    """The URL schemes that some installed accessor serves."""
    return sorted({*ACCESSORS, *_found()})


def serves(scheme: str) -> bool:
    """Whether some installed accessor serves URLs of this scheme."""
    return scheme in ACCESSORS or scheme in _found()


def accessor(scheme: str, where: str = "store") -> Accessor:
    """A new accessor for URLs of this scheme. Raises ConfigError if none is installed."""
    place = ACCESSORS.get(scheme) or (_found()[scheme].value if scheme in _found() else None)
    if place is None:
        raise ConfigError(
            f"{where}: no accessor for URLs that start with {scheme + ':'!r}",
            nearest(scheme, schemes()) or f"installed are: {', '.join(schemes())}",
        )
    module, _, name = place.partition(":")
    try:
        made = getattr(import_module(module), name)()
    except ImportError as error:
        raise ConfigError(
            f"{where}: the accessor for {scheme!r} cannot be loaded: {error}",
            f"install what it needs: pip install 'evsync[{scheme}]'",
        ) from error
    if not isinstance(made, Accessor):
        raise ConfigError(f"{where}: {place} is not an evsync.Accessor", "it must extend that class")
    return made
