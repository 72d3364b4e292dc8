"""Stores behind SQLAlchemy: what every accessor promises, over the dialects of several databases, and what can go wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mariadb_server import fresh_database as fresh_mariadb
from postgres_server import fresh_database as fresh_postgres

from accessors.sql import SqlAccessor
from evsync.binding import Binding, PlaceSpec
from evsync.store import Store
from evsync.testing.conformance import EDGES, THING, AccessorConformance, thing

accessor = SqlAccessor()


class OverSql(AccessorConformance):
    """The contract, whatever the database."""

    table: ClassVar[str] = "Things of {} 100%"

    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    def make_store(self, tmp_path: Path) -> Store:
        places = {THING: PlaceSpec(options={"table": self.table.format(tmp_path.name)})}
        url = self.url(tmp_path)
        store = Store("db", url, root=tmp_path, places=places, accessor=SqlAccessor())
        store.bind(self.binding())
        return store


class TestOverSqlite(OverSql):
    # INTEGER has 64 bits; REAL knows no NaN and no negative zero, and to write those as text is for `sqlite:`.
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),
        "float": (math.inf, -math.inf, 0.0, 1.0, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308),
    }

    def url(self, tmp_path: Path) -> str:
        return "sql:sqlite:///things.db"


class TestOverSqliteAssigningIds(TestOverSqlite):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


class TestOverPostgres(OverSql):
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "str": tuple(text for text in EDGES["str"] if "\0" not in text),  # no text holds NUL
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),  # bigint has 64 bits
        # numeric knows neither exponents nor a negative zero.
        "decimal": tuple(
            map(Decimal, ("0", "0.00", "1.50", "1E-7", "12345678901234567890.123", "NaN", "Infinity"))
        ),
        "time": (time(0), time(12, 30), time.max),  # `time` has no offset
        "datetime": (
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        ),
    }

    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        with fresh_postgres() as url:
            self._url = url.replace("postgresql:", "sql:postgresql+psycopg:")
            yield

    def url(self, tmp_path: Path) -> str:
        return self._url


class TestOverPostgresAssigningIds(TestOverPostgres):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


class TestOverMariaDb(OverSql):
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),
        "float": (0.0, 1.0, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308),
        "date": (date(1, 1, 1), date(2024, 2, 29), date.max),
        "time": (time(0), time(12, 30), time.max),
        "datetime": (datetime(1, 1, 1), datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.max),
    }

    @pytest.fixture(autouse=True)
    def _database(self) -> Iterator[None]:
        with fresh_mariadb() as url:
            self._url = url.replace("mysql:", "sql:mariadb+pymysql:")
            yield

    def url(self, tmp_path: Path) -> str:
        return self._url
