"""Accessors are found through the entry-point group `evsync.accessors`, our own and anybody's alike.

To import `importlib.metadata` takes a good part of a command's time, so the files that pip writes are looked at first
(https://packaging.python.org/en/latest/specifications/entry-points/); what is installed in another way it still finds.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from evsync.accessor import Accessor
from evsync.binding import nearest
from evsync.errors import ConfigError

GROUP = "evsync.accessors"


@lru_cache(maxsize=1)
def in_files() -> dict[str, str]:
    """URL scheme → where its accessor is, as the packages in the folders of `sys.path` say."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for file in sorted(Path(folder).glob("*.dist-info/entry_points.txt")):
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            _, header, rest = f"\n{text}".partition(f"\n[{GROUP}]\n")
            for line in rest.partition("\n[")[0].splitlines() if header else ():
                scheme, equals, place = line.partition("=")
                if equals and not line.lstrip().startswith(("#", ";")):
                    found.setdefault(scheme.strip(), _without_extras(place))
    return found


@lru_cache(maxsize=1)
def everywhere() -> dict[str, str]:
    """The same by whatever way packages are imported from."""
    from importlib.metadata import entry_points

    points = reversed(list(entry_points(group=GROUP)))  # the first on the path counts
    return {point.name: _without_extras(point.value) for point in points}


def _without_extras(place: str) -> str:
    return place.partition("[")[0].strip()


def _place(scheme: str) -> str | None:
    return in_files().get(scheme) or everywhere().get(scheme)


def schemes() -> list[str]:
    """The URL schemes that some installed accessor serves."""
    return sorted({*in_files(), *everywhere()})


def serves(scheme: str) -> bool:
    """Whether some installed accessor serves URLs of this scheme."""
    return _place(scheme) is not None


def accessor(scheme: str, where: str = "store") -> Accessor:
    """A new accessor for URLs of this scheme. Raises ConfigError if none is installed."""
    place = _place(scheme)
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
