"""Which of two values of one field stands, and on what that was based: the policies, one by one.

Pure but for the functions that a configuration names: what these do is their author's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from evsync.secrets import mask
from evsync.values import ABSENT, encode, load, micros, moment, wire_of

TOLERANCE = 5 * 60 * 1_000_000
"""How far, in microseconds, a store's clock may be ahead of ours and still be believed."""

LONGEST_REASON = 200  # characters of an exception's text that are kept

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Origin(msgspec.Struct, frozen=True):
    """Where a field's canonical value came from: the store, when it says that it happened, and when evsync saw
    it (microseconds)."""

    store: str
    occurred_at: int | None = None
    observed_at: int | None = None


class Clash(msgspec.Struct, frozen=True):
    """One conflict, as a custom function gets it. Values are typed (Decimal, datetime …), null is None, and a
    field that is not there is ABSENT. Times are what the stores say, as datetimes in UTC, or None."""

    type: str
    key: str
    field: str
    base: Any
    theirs: Any
    mine: Any
    theirs_store: str
    mine_store: str
    theirs_at: datetime | None
    mine_at: datetime | None


class Side(NamedTuple):
    """Who says a value, when the store says that it happened, and when evsync saw it."""

    store: str
    occurred_at: int | None
    observed_at: int | None

    @property
    def ahead(self) -> bool:
        """Whether that time cannot be: it was seen before it happened, by more than clocks may differ."""
        if self.occurred_at is None or self.observed_at is None:
            return False
        return self.occurred_at > self.observed_at + TOLERANCE


class Choice(NamedTuple):
    """The value that stands. `open`: nobody decided yet."""

    value: Any
    policy: str
    basis: str
    open: bool = False


def newest(mine: Side, theirs: Side) -> tuple[bool, str]:
    """Whether mine stands, and why.

    The later time does, if both sides give one that can be. Otherwise, and where both give the same, the order
    in the journal decides: mine, which comes to it now."""
    me, other = mine.store, _other(mine, theirs)
    if mine.ahead or theirs.ahead:
        return True, f"newest: {_astray(mine, me, theirs, other)}"
    if mine.occurred_at is None or theirs.occurred_at is None:
        if mine.occurred_at is None and theirs.occurred_at is None:
            untimed = "neither gives a time"
        else:
            untimed = f"{me if mine.occurred_at is None else other} gives no time"
        return True, f"newest: {me}'s came later to the journal ({untimed})"
    mine_at, theirs_at = time_text(mine.occurred_at), time_text(theirs.occurred_at)
    if mine.occurred_at == theirs.occurred_at:
        return True, f"newest: {me} and {other} both say {mine_at}, {me}'s came later to the journal"
    if mine.occurred_at > theirs.occurred_at:
        return True, f"newest: {me} says {mine_at}, {other} {theirs_at}"
    return False, f"newest: {other} says {theirs_at}, {me} {mine_at}"


def _astray(mine: Side, me: str, theirs: Side, other: str) -> str:
    if mine.ahead and theirs.ahead:
        return (
            f"{me}'s clock says {time_text(mine.occurred_at)} and {other}'s {time_text(theirs.occurred_at)},"
            " which both lie ahead: by order in the journal"
        )
    wrong, name, right, rest = (mine, me, theirs, other) if mine.ahead else (theirs, other, mine, me)
    told = "gives no time" if right.occurred_at is None else f"says {time_text(right.occurred_at)}"
    return (
        f"{name}'s clock says {time_text(wrong.occurred_at)}, which lies ahead: by order in the journal"
        f" ({rest} {told})"
    )


def preferred(mine: Side, theirs: Side, prefer: Sequence[str]) -> tuple[bool, str]:
    """Whether mine stands, and why: the store that stands first in the list does. Of two that are not in it, and
    of one and the same, what the journal has stays."""
    me, other = mine.store, theirs.store
    ranks = [prefer.index(name) if name in prefer else len(prefer) for name in (me, other)]
    if ranks[0] < ranks[1]:
        return True, f"prefer: {me} stands before {_other(mine, theirs)}"
    if ranks[1] < ranks[0]:
        return False, f"prefer: {other} stands before {me}"
    if me == other:
        return False, f"prefer: both are from {me}, what the journal had stays"
    return False, f"prefer: neither {me} nor {_other(mine, theirs)} is listed, what the journal had stays"


def answered(
    policy: str,
    function: Callable[[Clash], Any],
    type_name: str,
    clash: Clash,
    wires: tuple[Any, Any, Any],
) -> Choice:
    """What a custom function makes of a clash; `wires` are base, theirs and mine as the journal has them.

    If it raises, or answers with what cannot be, theirs stands for the time being and the conflict stays open."""
    theirs = wires[1]
    try:
        answer = function(clash)
    except Exception as error:
        reason = _reason(error)
        told = f"{error.__class__.__name__}: {reason}" if reason else error.__class__.__name__
        return Choice(theirs, policy, f"{policy} raised {told}; left open", True)
    if answer is ABSENT:
        return Choice(ABSENT, policy, f"{policy} answered, and took the field away")
    if answer is None and not any(wire is None or wire is ABSENT for wire in wires):
        return Choice(theirs, policy, f"{policy} answered nothing (None); left open", True)
    try:
        wire = wire_of(type_name, copy.deepcopy(answer) if type_name == "json" else answer)
        encode(wire)  # what cannot be written, such as half a surrogate pair
    except Exception as error:
        return Choice(theirs, policy, f"{policy} answered what cannot be: {_reason(error)}; left open", True)
    return Choice(wire, policy, f"{policy} answered")


def typed(type_name: str, wire: Any) -> Any:
    """A value as a custom function gets it, its own to alter; what an older revision has in a type that cannot be
    read as this one stays as it is written."""
    if wire is ABSENT:
        return ABSENT
    try:
        return copy.deepcopy(load(type_name, wire))
    except (ValueError, TypeError, ArithmeticError):
        return copy.deepcopy(wire)


def time_of(microseconds: int | None) -> datetime | None:
    """The datetime, in UTC; one beyond the calendar's ends is held at them."""
    if microseconds is None:
        return None
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


def time_text(microseconds: int | None) -> str:
    """The same as text."""
    when = time_of(microseconds)
    return "no time" if when is None else moment(micros(when))


def sentence(bases: dict[str, str]) -> str:
    """What a decision about these fields was based on."""
    told = set(bases.values())
    return told.pop() if len(told) == 1 else "; ".join(f"{name}: {bases[name]}" for name in sorted(bases))


def _other(mine: Side, theirs: Side) -> str:
    return "the journal" if theirs.store in ("", mine.store) else theirs.store


def _reason(error: Exception) -> str:
    try:
        text = " ".join(mask(str(error)).split())
    except Exception:  # the exception's own text may be as broken as the function
        return ""
    if len(text) > LONGEST_REASON:
        text = text[: LONGEST_REASON - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
