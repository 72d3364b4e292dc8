"""A password that stands in a URL is never printed."""

from __future__ import annotations

import pytest

from evsync.store import Store
from evsync.urls import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:geheim@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:ge@he/im@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:geheim@host/db", "postgresql://:***@host/db"),
        (
            "postgresql://host/db?password=geheim&sslmode=require",
            "postgresql://host/db?password=***&sslmode=require",
        ),
        ("postgresql://me:${DB_PASSWORD}@host/db", "postgresql://me:${DB_PASSWORD}@host/db"),
        ("postgresql://me:${HALF}geheim@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?password=${DB_PASSWORD}", "postgresql://host/db?password=${DB_PASSWORD}"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:crm.db", "sqlite:crm.db"),
        ("csv:me:and@you.csv", "csv:me:and@you.csv"),
    ],
)
def test_a_url_is_printed_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_store_shows_no_password() -> None:
    store = Store("crm", "postgresql://me:geheim@host/db")
    assert store.url == "postgresql://me:geheim@host/db"
    assert repr(store) == "Store('crm', 'postgresql://me:***@host/db')"
