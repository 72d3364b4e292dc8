"""What the captures of all databases have in common: how they are asked for, whose they are, and scans that keep their place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from hashlib import sha256
from typing import TypeVar

from evsync.accessor import Row
from evsync.binding import nearest
from evsync.errors import ConfigError
from evsync.store import Store

T = TypeVar("T")


def scan_from(
    reading: AbstractContextManager[T],
    place: Callable[[T], str],
    rows: Callable[[T], Iterable[Sequence[Row]]],
) -> tuple[str, Generator[Sequence[Row], None, None]]:
    """See evsync.accessor.CanScanAt: where the feed stands in a transaction, and the rows that this shows. The transaction
    is begun at once, and ended with the generator, read to the end or not."""
    with ExitStack() as beginning:
        connection = beginning.enter_context(reading)
        position = place(connection)
        stack = beginning.pop_all()

    def shown() -> Generator[Sequence[Row], None, None]:
        with stack:
            yield ()
            yield from rows(connection)

    begun = shown()
    next(begun)  # from here on it closes the connection
    return position, begun


def capture_mode(store: Store, type: str, modes: Sequence[str]) -> str:
    """How changes are to be found, as configured. Raises ConfigError for what is none of these ways."""
    found = str(store.option(type, "capture", "auto"))
    if found not in modes:
        raise ConfigError(
            f"store {store.name!r}: unknown capture {found!r}",
            nearest(found, modes) or f"the ways are: {', '.join(modes)}",
        )
    return found


def project_of(store: Store) -> str:
    """By what two projects are told apart that work with one database: where they lie."""
    return sha256(str(store.root.resolve()).encode()).hexdigest()[:16]
