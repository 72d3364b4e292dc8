"""Stores behind SQLAlchemy: what every accessor promises, over the dialects of several databases, and what can go wrong."""

from __future__ import annotations

import math
import re
import sqlite3
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from mariadb_server import fresh_database as fresh_mariadb
from one_table import bound, create, rows
from postgres_server import fresh_database as fresh_postgres
from projects import sql

from accessors import sql_dialect
from accessors.sql import SqlAccessor
from evsync.accessor import HEADER
from evsync.binding import Binding, Description, PlaceSpec
from evsync.data import Data
from evsync.errors import ConfigError, EvsyncError, Refused, Retry, Unreachable
from evsync.store import Store
from evsync.testing.conformance import EDGES, THING, AccessorConformance, thing

accessor = SqlAccessor()


@pytest.fixture
def postgres() -> Iterator[str]:
    with fresh_postgres() as url:
        yield url.replace("postgresql:", "sql:postgresql+psycopg:")


@pytest.fixture
def mariadb() -> Iterator[str]:
    with fresh_mariadb() as url:
        yield url.replace("mysql:", "sql:mariadb+pymysql:")


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


@pytest.mark.slow
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
    def _database(self, postgres: str) -> None:
        self._url = postgres

    def url(self, tmp_path: Path) -> str:
        return self._url


@pytest.mark.slow
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
    def _database(self, mariadb: str) -> None:
        self._url = mariadb

    def url(self, tmp_path: Path) -> str:
        return self._url


# -- what is particular about some databases ------------------------------------------------------------


def store_of(url: str, root: Path, *, options: Mapping[str, str] | None = None, **types: str) -> Store:
    """A store with the type "t", whose key is the text k."""
    places = {"t": PlaceSpec(options=options)} if options else {}
    store = Store("db", url, root=root, places=places, accessor=accessor)
    return bound(store, **types)


def test_a_relative_path_starts_at_the_stores_root(tmp_path: Path) -> None:
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT PRIMARY KEY)")
    sql(tmp_path / "x.db", "INSERT INTO t VALUES ('a')")
    assert [row[0] for row in rows(store_of("sql:sqlite:///x.db", tmp_path))] == ["a"]


def test_what_sqlite_would_make_of_a_value_is_refused(tmp_path: Path) -> None:
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER, d NUMERIC)")
    store = store_of("sql:sqlite:///x.db", tmp_path, v="str", d="decimal")
    good, *bad = accessor.apply(
        store,
        "t",
        [
            create(k="a", v="abc", d=Decimal("1.5")), create(k="b", v="007"),
            create(k="c", d=Decimal("12345678901234567890.123")), create(k="d", v="\ud800"),
        ],
    )  # fmt: skip
    assert good.state == "written"
    assert [type(outcome.error) for outcome in bad] == [Refused] * 3
    assert "column 'v' (INTEGER) cannot hold '007': it would become 7" in str(bad[0].error)
    assert [row[0] for row in rows(store)] == ["a"]


def test_beside_a_trigger_of_sqlites_what_it_made_is_told(tmp_path: Path) -> None:
    for statement in (
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)",
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET v = upper(v) WHERE k = new.k; END",
    ):
        sql(tmp_path / "x.db", statement)
    [outcome] = accessor.apply(store_of("sql:sqlite:///x.db", tmp_path, v="str"), "t", [create(k="a", v="b")])
    assert outcome.row == ("a", None, None, None, "a", "B")


def test_a_locked_file_is_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_dialect, "LOCK_SECONDS", 0.01)
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT PRIMARY KEY)")
    store = store_of("sql:sqlite:///x.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert rows(store) == []
        with pytest.raises(Retry, match="locked"):
            accessor.add(store, Data("t", {"k": "a"}))


def test_a_table_without_a_key_is_read_only(tmp_path: Path) -> None:
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT)")
    sql(tmp_path / "x.db", "INSERT INTO t VALUES ('a')")
    store = store_of("sql:sqlite:///x.db", tmp_path)
    assert [row[HEADER] for row in rows(store)] == ["a"]
    with pytest.raises(Unreachable, match="no key"):
        accessor.add(store, Data("t", {"k": "b"}))


def test_tables_are_discovered_and_described(tmp_path: Path) -> None:
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT PRIMARY KEY, v DECIMAL(10,2), w AS (k))")
    sql(tmp_path / "x.db", "CREATE VIEW v AS SELECT 1")
    store = store_of("sql:sqlite:///x.db", tmp_path)
    assert accessor.discover(store) == {"t": {}}
    assert accessor.describe(store, "t") == Description(
        {"k": "str", "v": "decimal", "w": "str"}, ("k",), generated=frozenset({"w"})
    )


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("sql:", "not one that SQLAlchemy understands", "dialect\\+driver"),
        ("sql:nonsense", "not one that SQLAlchemy understands", "dialect\\+driver"),
        ("sql:nosuch://host/db", "knows no such database", "dialect"),
        ("sql:oracle+oracledb://me:geheim@host/db", "driver is not installed", "pip install oracledb"),
        ("sql:sqlite:///nowhere.db", "there is no file", "url"),
        ("sql:postgresql+psycopg://me:geheim@127.0.0.1:1/db", "does not answer", "server runs"),
        ("sql:postgresql+psycopg://me:ge@heim@127.0.0.1:1/db", "no such host", "%40"),
    ],
)
def test_a_url_that_leads_nowhere_is_explained_without_its_password(
    tmp_path: Path, url: str, message: str, hint: str
) -> None:
    with pytest.raises(EvsyncError, match=message) as caught:
        rows(store_of(url, tmp_path))
    assert re.search(hint, caught.value.hint)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "heim" not in shown


def test_an_unknown_zone_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    sql(tmp_path / "x.db", "CREATE TABLE t (k TEXT PRIMARY KEY)")
    with pytest.raises(ConfigError, match="'Europe/Rome'"):
        rows(store_of("sql:sqlite:///x.db", tmp_path, options={"zone": "Europe/Rome"}))


def run(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("sql:postgresql+psycopg:", "postgresql:")) as connection:
        connection.execute(statement.encode())


def test_postgres_by_sqlalchemy_reads_what_its_driver_chokes_on(postgres: str, tmp_path: Path) -> None:
    run(
        postgres,
        "CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY, v date, w timestamp, i interval, a int[], j jsonb);"
        "INSERT INTO s.t VALUES ('a', 'infinity', '2024-01-01', '1 day', '{1,NULL}', '1.10'), ('b', NULL, NULL, NULL, NULL, NULL)",
    )
    options = {"schema": "s", "zone": "utc"}
    store = store_of(postgres, tmp_path, options=options, v="date", w="datetime", i="str", a="json", j="json")
    assert {row[0]: row[HEADER:] for row in rows(store)} == {
        "a": ("[1,null]", "P1D", "1.10", "a", "infinity", "2024-01-01 00:00:00+00:00"),
        "b": (None, None, None, "b", None, None),
    }
    given = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    accessor.update(store, Data("t", {"w": given, "a": [2], "j": {"x": 1}}, id="b"))
    found = accessor.get(store, "t", "b")
    assert found is not None
    assert (found.fields["w"], found.fields["a"]) == ("2024-01-01 11:00:00+00:00", "[2]")


def test_postgres_by_sqlalchemy_refuses_what_would_be_altered(postgres: str, tmp_path: Path) -> None:
    run(postgres, "CREATE TABLE t (k text PRIMARY KEY, v numeric(10,2), w timestamptz)")
    store = store_of(postgres, tmp_path, v="decimal", w="datetime")
    good, *bad = accessor.apply(
        store,
        "t",
        [
            create(k="a", v=Decimal("1.5"), w=datetime(2024, 1, 1, tzinfo=UTC)),
            create(k="b", v=Decimal("1.005")),
            create(k="c", w=datetime(2024, 1, 1)),
            create(k="d\0"),
        ],
    )
    assert good.state == "written"
    assert [type(outcome.error) for outcome in bad] == [Refused] * 3
    assert accessor.check(store, "t") is None
