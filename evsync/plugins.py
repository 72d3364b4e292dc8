"""Accessors are found through the entry-point group `evsync.accessors`, ours like anybody's."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from evsync.accessor import Accessor
from evsync.binding import nearest
from evsync.errors import ConfigError

GROUP = "evsync.accessors"


@lru_cache(maxsize=1)
def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def schemes() -> list[str]:
    """The URL schemes that some installed accessor serves."""
    return sorted(_found())


def accessor(scheme: str, where: str = "store") -> Accessor:
    """A new accessor for URLs of this scheme. Raises ConfigError if none is installed."""
    point = _found().get(scheme)
    if point is None:
        raise ConfigError(
            f"{where}: no accessor for URLs that start with {scheme + ':'!r}",
            nearest(scheme, _found()) or f"installed are: {', '.join(schemes())}",
        )
    try:
        made = point.load()()
    except ImportError as error:
        raise ConfigError(
            f"{where}: the accessor for {scheme!r} cannot be loaded: {error}",
            f"install what it needs: pip install 'evsync[{scheme}]'",
        ) from error
    if not isinstance(made, Accessor):
        raise ConfigError(f"{where}: {point.value} is not an evsync.Accessor", "it must extend that class")
    return made
