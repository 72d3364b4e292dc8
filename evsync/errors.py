"""What can go wrong, named after the situation.

Every error says what happened and where (`message`) and what to try (`hint`); `exit_code` is what the
command line ends with. Accessors raise the five at the end; the class tells the engine what to do.
"""

from __future__ import annotations

from typing import ClassVar

from evsync.secrets import mask


class EvsyncError(Exception):
    """Base of every error that evsync raises on purpose."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = mask(message)
        self.hint = mask(hint)
        super().__init__(self.message)


class ConfigError(EvsyncError):
    """The configuration is wrong, or does not fit the stores."""

    exit_code = 2
    code = "config"


class Unfit(ConfigError):
    """The configuration names what one store does not have. Stops this store, no other."""


class UsageError(EvsyncError):
    """A command or method was called with something it cannot take."""

    exit_code = 2
    code = "usage"


class NotFound(EvsyncError):
    """The record asked for is not known to the journal."""

    exit_code = 1
    code = "not-found"


class JournalError(EvsyncError):
    """The journal cannot be opened, read or written."""

    code = "journal"


class JournalBusy(JournalError):
    """Another process held the journal's write lock for longer than we wait."""

    code = "journal-busy"


class GuardTripped(EvsyncError):
    """A run was about to do something that is more likely an accident; nothing was done."""

    exit_code = 6
    code = "guard"

    document: dict[str, object] | None = None
    """The run's report, where a run was stopped."""


class BadValue(EvsyncError):
    """A value that the declared type of its field refuses."""

    code = "bad-value"

    def __init__(self, type_name: str, raw: object, reason: str = "") -> None:
        shown = repr(raw)
        if len(shown) > 60:
            shown = shown[:57] + "..."
        super().__init__(f"{shown} is not of type {type_name}" + (f": {reason}" if reason else ""))


class NotConvertible(BadValue):
    """A value that its field's conversion cannot carry over, or not back again."""

    code = "not-convertible"

    def __init__(self, message: str) -> None:
        EvsyncError.__init__(self, message)


class StoreError(EvsyncError):
    """A store could not be read or written. Stops this store, no other."""

    code = "store"


class Unreachable(StoreError):
    """The store does not exist or does not answer: a missing file or table, no network, no rights.

    Class *stop*: the store is left alone in this run; exit code 3."""

    exit_code = 3
    code = "unreachable"


class PositionLost(Unreachable):
    """The store's feed no longer reaches back to where we stopped; what happened in between cannot be told."""

    code = "position-lost"


class BrokenStore(StoreError):
    """The store answers, but with something that cannot be read: broken CSV or JSON, a torn read.

    Class *stop*. Never taken for a deletion."""

    code = "broken"


class DuplicateKey(StoreError):
    """Two records of one store have one key: that type of that store cannot be synchronized."""

    code = "duplicate-key"


class Retry(StoreError):
    """A passing trouble (a lock, a timeout, "too many requests"): class *retry*.

    `retry_after`: seconds the store asked us to wait, or None. Where it concerns the store as a whole: exit code 3."""

    exit_code = 3
    code = "retry"

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Refused(StoreError):
    """The store refuses this one record: class *skip and record*. The others go on."""

    code = "refused"
