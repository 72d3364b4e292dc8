"""The accessor for MySQL and MariaDB: what every accessor promises, tables of every shape, and what can go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from mariadb_server import fresh_database

from accessors.mysql import MySqlAccessor
from evsync.binding import Binding, PlaceSpec
from evsync.store import Store
from evsync.testing.conformance import EDGES, THING, AccessorConformance, thing

accessor = MySqlAccessor()


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


class TestMySql(AccessorConformance):
    # What MySQL's types have no room for; that such values are refused is tested with the values.
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **EDGES,
        "int": (0, -1, 2**53 + 1, 2**63 - 1, -(2**63)),  # BIGINT has 64 bits
        "float": (0.0, 1.0, 0.1 + 0.2, 1e22, 5e-324, 1.7976931348623157e308),  # no NaN, no infinity, no -0.0
        "time": (time(0), time(12, 30), time.max),  # TIME has no offset
        # DATETIME has none either, unless the option zone says in which it is.
        "datetime": (datetime(1, 1, 1), datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.max),
    }
    options: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = database

    def make_store(self, tmp_path: Path) -> Store:
        places = {THING: PlaceSpec(options={"table": f"Things of {tmp_path.name} 100%"} | self.options)}
        store = Store("db", self.url, root=tmp_path, places=places, accessor=MySqlAccessor())
        store.bind(self.binding())
        return store


class TestMySqlAssigningIds(TestMySql):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


class TestMySqlInUtc(TestMySql):
    options: ClassVar[Mapping[str, str]] = {"zone": "utc"}
    edges: ClassVar[Mapping[str, Sequence[Any]]] = {
        **TestMySql.edges,
        "datetime": (
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
        ),
    }
