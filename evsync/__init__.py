"""Data stores in step through one ordered, append-only journal.

The four classes: a `Synchronizer` links several `Store`s to one journal; a store has one `Accessor` per type of
data; `Data` is one record. `TypeSpec` and `PlaceSpec` say, in Python, what `[types.X]` and `[stores.X.types.Y]` say
in `evsync.toml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from evsync.accessor import Accessor
    from evsync.binding import PlaceSpec, TypeSpec
    from evsync.data import Data
    from evsync.store import Store
    from evsync.synchronizer import Synchronizer

_HOMES = {
    "Accessor": "evsync.accessor",
    "Data": "evsync.data",
    "PlaceSpec": "evsync.binding",
    "Store": "evsync.store",
    "Synchronizer": "evsync.synchronizer",
    "TypeSpec": "evsync.binding",
}

__all__ = ["Accessor", "Data", "PlaceSpec", "Store", "Synchronizer", "TypeSpec", "__version__"]


def __getattr__(name: str) -> Any:
    """The public classes, loaded when they are first asked for: `evsync --help` needs none of them."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'evsync' has no attribute {name!r}")
