"""A password that stands in a URL is never printed."""

from __future__ import annotations

import pytest

from evsync.store import Store
from evsync.urls import name_of, with_variables, without_password


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


@pytest.mark.parametrize(
    ("url", "written", "values"),
    [
        (
            "postgresql://me:ge%3Ah@host/db",
            "postgresql://me:${CRM_PASSWORD}@host/db",
            {"CRM_PASSWORD": "ge%3Ah"},
        ),
        (
            "postgresql://me:ge@he/im@host/db",
            "postgresql://me:${CRM_PASSWORD}@host/db",
            {"CRM_PASSWORD": "ge@he/im"},
        ),
        (
            "postgresql://h/db?password=x&a=b",
            "postgresql://h/db?password=${CRM_PASSWORD}&a=b",
            {"CRM_PASSWORD": "x"},
        ),
        (
            "postgresql://me:x@h/db?sslpassword=y",
            "postgresql://me:${CRM_PASSWORD}@h/db?sslpassword=${CRM_SSLPASSWORD}",
            {"CRM_PASSWORD": "x", "CRM_SSLPASSWORD": "y"},
        ),
        (
            "postgresql://me:x@h/db?password=y",
            "postgresql://me:${CRM_PASSWORD}@h/db?password=${CRM_PASSWORD_}",
            {"CRM_PASSWORD": "x", "CRM_PASSWORD_": "y"},
        ),
        ("postgresql://me:${PW}@host/db", "postgresql://me:${PW}@host/db", {}),
        ("postgresql://me@host/db", "postgresql://me@host/db", {}),
        ("sqlite:crm.db", "sqlite:crm.db", {}),
    ],
)
def test_a_url_is_written_down_without_its_password(url: str, written: str, values: dict[str, str]) -> None:
    assert with_variables(url, "crm") == (written, values)


def test_a_variable_is_called_as_the_environment_can_call_it() -> None:
    assert with_variables("x://me:y@h/d", "my store-é")[1] == {"MY_STORE___PASSWORD": "y"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:p@h:5432/crm?x=y", "crm"),
        ("postgresql://u:p/w?@h:5432/crm", "crm"),
        ("postgresql://u@h/my%20db", "my db"),
        ("postgresql:///crm", "crm"),
        ("postgresql://h?dbname=crm", "crm"),
        ("postgresql://?service=crm", "crm"),
        ("postgresql://u@db.example.com:5432", "db.example.com"),
        ("postgresql://", "postgresql"),
        ("sqlite:data/crm.db", "crm"),
        ("csv:data/", "data"),
        ("csv:", "csv"),
        ("mysql+pymysql://u:p@h/shop?charset=utf8", "shop"),
    ],
)
def test_a_store_is_called_after_its_database_or_file(url: str, name: str) -> None:
    assert name_of(url) == name
