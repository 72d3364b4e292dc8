"""Which of two values stands, and what the choice was based on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from projects import NOON_MICROS

from evsync import secrets
from evsync.projections.choice import (
    LONGEST_REASON,
    TOLERANCE,
    Clash,
    Side,
    answered,
    newest,
    preferred,
    sentence,
    time_of,
    time_text,
    typed,
)
from evsync.values import ABSENT

NOON = NOON_MICROS
HOUR = 3_600_000_000
YEAR = 365 * 24 * HOUR


def at(store: str, occurred_at: int | None, observed_at: int | None = NOON) -> Side:
    return Side(store, occurred_at, observed_at)


@pytest.mark.parametrize(
    ("mine", "theirs", "stands", "basis"),
    [
        # both say when
        (NOON, NOON - HOUR, True, "crm says 2026-01-31T12:00:00Z, mail 2026-01-31T11:00:00Z"),
        (NOON - HOUR, NOON, False, "mail says 2026-01-31T12:00:00Z, crm 2026-01-31T11:00:00Z"),
        (NOON + 1, NOON, True, "crm says 2026-01-31T12:00:00.000001Z, mail 2026-01-31T12:00:00Z"),
        # the same: the journal's order
        (NOON, NOON, True, "crm and mail both say 2026-01-31T12:00:00Z, crm's came later to the journal"),
        # one or both do not
        (NOON, None, True, "crm's came later to the journal (mail gives no time)"),
        (None, NOON, True, "crm's came later to the journal (crm gives no time)"),
        (None, None, True, "crm's came later to the journal (neither gives a time)"),
        # a clock that is behind may lose, never in silence
        (NOON - 5 * YEAR, NOON, False, "mail says 2026-01-31T12:00:00Z, crm 2021-02-01T12:00:00Z"),
        # within the tolerance a clock is believed, beyond it it is not
        (NOON + TOLERANCE, NOON, True, "crm says 2026-01-31T12:05:00Z, mail 2026-01-31T12:00:00Z"),
        (NOON, NOON + TOLERANCE, False, "mail says 2026-01-31T12:05:00Z, crm 2026-01-31T12:00:00Z"),
        (
            NOON + TOLERANCE + 1, NOON, True,
            "crm's clock says 2026-01-31T12:05:00.000001Z, which lies ahead: by order in the journal (mail says 2026-01-31T12:00:00Z)",
        ),
        (
            NOON, NOON + 5 * YEAR, True,
            "mail's clock says 2031-01-30T12:00:00Z, which lies ahead: by order in the journal (crm says 2026-01-31T12:00:00Z)",
        ),
        (
            NOON + 5 * YEAR, None, True,
            "crm's clock says 2031-01-30T12:00:00Z, which lies ahead: by order in the journal (mail gives no time)",
        ),
        (
            NOON + HOUR, NOON + 5 * YEAR, True,
            "crm's clock says 2026-01-31T13:00:00Z and mail's 2031-01-30T12:00:00Z, which both lie ahead: by order in the journal",
        ),
    ],
)  # fmt: skip
def test_newest(mine: int | None, theirs: int | None, stands: bool, basis: str) -> None:
    assert newest(at("crm", mine), at("mail", theirs)) == (stands, f"newest: {basis}")


def test_each_clock_is_held_against_the_moment_at_which_its_change_was_seen() -> None:
    """At four mail spoke of five, an hour ahead of what could be; that it is six by now makes it no truer."""
    stands, basis = newest(at("crm", NOON, NOON + 2 * HOUR), at("mail", NOON + HOUR, NOON))
    assert stands
    assert "mail's clock says 2026-01-31T13:00:00Z, which lies ahead" in basis


def test_a_time_seen_at_nobody_knows_when_is_believed() -> None:
    assert newest(at("crm", NOON, None), at("mail", NOON + YEAR, None))[0] is False


def test_two_changes_of_one_store_are_told_apart() -> None:
    assert newest(at("crm", 5), at("crm", None))[1] == (
        "newest: crm's came later to the journal (the journal gives no time)"
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "stands", "basis"),
    [
        ("crm", "mail", True, "crm stands before mail"),
        ("mail", "crm", False, "crm stands before mail"),
        ("crm", "shop", True, "crm stands before shop"),
        ("shop", "mail", False, "mail stands before shop"),
        ("shop", "till", False, "neither shop nor till is listed, what the journal had stays"),
        ("crm", "crm", False, "both are from crm, what the journal had stays"),
        ("crm", "", True, "crm stands before the journal"),
    ],
)
def test_prefer(mine: str, theirs: str, stands: bool, basis: str) -> None:
    told = preferred(at(mine, None), at(theirs, None), ["crm", "mail"])
    assert told == (stands, f"prefer: {basis}")


def test_several_fields_tell_their_reasons_one_by_one_only_where_they_differ() -> None:
    assert sentence({"b": "first: x", "a": "first: x"}) == "first: x"
    assert sentence({"b": "first: x", "a": "manual: left open"}) == "a: manual: left open; b: first: x"


CLASH = Clash("contact", "ann", "name", "a", "b", "c", "crm", "mail", None, None)


def basis_of(error: Exception) -> str:
    def policy(clash: Clash) -> Any:
        raise error

    choice = answered("rules:decide", policy, "str", CLASH, ("a", "b", "c"))
    assert (choice.value, choice.policy, choice.open) == ("b", "rules:decide", True)
    return choice.basis


def test_a_secret_in_an_exception_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_names", {})
    secrets.remember("TOKEN", "hunter2")
    assert (
        basis_of(ValueError("denied: hunter2"))
        == "rules:decide raised ValueError: denied: ${TOKEN}; left open"
    )


def test_a_long_reason_is_cut() -> None:
    told = basis_of(ValueError("x" * 1000))
    assert told == f"rules:decide raised ValueError: {'x' * (LONGEST_REASON - 1)}…; left open"


def test_a_reason_that_cannot_be_written_is_written_otherwise() -> None:
    assert basis_of(ValueError("\ud800")) == r"rules:decide raised ValueError: \ud800; left open"


def test_an_exception_that_cannot_tell_its_reason_is_named_at_least() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert basis_of(Mute()) == "rules:decide raised Mute; left open"


def test_a_value_that_cannot_be_read_in_the_type_of_today_is_given_as_written() -> None:
    assert typed("int", "1") == "1"
    assert typed("date", "soon") == "soon"
    assert typed("decimal", "soon") == "soon"
    assert typed("date", None) is None
    assert typed("date", ABSENT) is ABSENT


@pytest.mark.parametrize("sign", [1, -1])
def test_a_time_beyond_the_calendar_is_held_at_its_end(sign: int) -> None:
    end = (datetime.max if sign > 0 else datetime.min).replace(tzinfo=UTC)
    assert time_of(sign * 2**62) == end
    assert time_text(sign * 2**62) == end.isoformat().replace("+00:00", "Z")


def test_no_time_is_none() -> None:
    assert time_of(None) is None
