"""What a database behind SQLAlchemy says of how its tables hang together, and MySQL of how its changes could be captured."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from mariadb_server import MariaDbServer, ask
from mariadb_server import fresh_database as fresh_mariadb
from postgres_server import fresh_database as fresh_postgres

from accessors.mysql import MySqlAccessor
from accessors.sql import SqlAccessor
from evsync.accessor import ForeignKey, Relations, Way
from evsync.binding import Binding, Field, PlaceSpec
from evsync.errors import Unreachable
from evsync.store import Store

accessor = MySqlAccessor()
Make = Callable[..., Store]


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_mariadb() as url:
        yield url


def store_at(url: str, *types: str, root: Path | None = None) -> Store:
    kind = MySqlAccessor() if url.startswith("mysql:") else SqlAccessor()
    places = {type: PlaceSpec() for type in types}
    store = Store("crm", url, places=places, accessor=kind, root=root or Path())
    for type in types:
        store.bind(Binding(type, ("k",), (Field("k", "k", "str"),)))
    return store


@pytest.fixture
def in_mariadb(database: str) -> Make:
    def made(sql: str, *types: str) -> Store:
        ask(database, *sql.split(";"))
        return store_at(database, *types)

    return made


@pytest.fixture
def in_sqlite(tmp_path: Path) -> Make:
    def made(sql: str, *types: str) -> Store:
        with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
            connection.executescript(sql)
        return store_at("sql:sqlite:///x.db", *types, root=tmp_path)

    return made


@pytest.fixture(params=["mariadb", "sqlite"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.getfixturevalue(f"in_{request.param}")
    return made


# -- relations ---------------------------------------------------------------------------------------------


def test_foreign_keys_name_the_columns_at_both_ends(make: Make) -> None:
    store = make(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, email varchar(50) NOT NULL UNIQUE);"
        "CREATE TABLE `lines` (order_no int, line int, PRIMARY KEY (order_no, line), UNIQUE (line, order_no));"
        "CREATE TABLE t (k varchar(50) PRIMARY KEY, a int, b varchar(50), c int, d int,"
        " FOREIGN KEY (d, c) REFERENCES `lines` (line, order_no),"
        " FOREIGN KEY (b) REFERENCES people (email), FOREIGN KEY (a) REFERENCES people (id))",
        "t",
    )
    assert store.accessor("t").relations(store, "t").foreign_keys == (  # type: ignore[attr-defined]
        ForeignKey(("a",), "people", ("id",)),
        ForeignKey(("b",), "people", ("email",)),
        ForeignKey(("d", "c"), "lines", ("line", "order_no")),
    )


def test_names_are_spelt_as_the_columns_are(in_sqlite: Make) -> None:
    store = in_sqlite(
        "CREATE TABLE People (Id INTEGER PRIMARY KEY); CREATE TABLE t (k TEXT, Who INTEGER REFERENCES people);"
        "CREATE TABLE u (k TEXT, Who INTEGER, FOREIGN KEY (who) REFERENCES people (ID))",
        "t",
        "u",
    )
    for type in ("t", "u"):
        found = SqlAccessor().relations(store, type).foreign_keys
        assert found == (ForeignKey(("Who",), "People", ("Id",)),)


def test_names_with_backticks_are_told_as_they_are(in_mariadb: Make) -> None:
    store = in_mariadb(
        "CREATE TABLE people (`i``d` int PRIMARY KEY);"
        "CREATE TABLE t (k int PRIMARY KEY, `w``o` int UNIQUE NOT NULL, FOREIGN KEY (`w``o`) REFERENCES people (`i``d`))"
    )
    assert accessor.relations(store, "t") == Relations(
        (ForeignKey(("w`o",), "people", ("i`d",)),), (("w`o",),)
    )


def test_a_foreign_key_to_another_database_names_it(in_mariadb: Make) -> None:
    with fresh_mariadb() as other:
        ask(other, "CREATE TABLE people (id int PRIMARY KEY)")
        there = other.rpartition("/")[2]
        store = in_mariadb(
            f"CREATE TABLE t (k int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES {there}.people (id))"
        )
        assert accessor.relations(store, "t").foreign_keys == (
            ForeignKey(("a",), f"{there}.people", ("id",)),
        )
        ask(store.url, "DROP TABLE t")


def test_unique_is_what_tells_records_apart_without_nulls(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k INTEGER PRIMARY KEY, maybe varchar(9) UNIQUE, sure varchar(9) NOT NULL UNIQUE,"
        " nulls varchar(9) UNIQUE, x varchar(9) NOT NULL, y varchar(9) NOT NULL,"
        " g varchar(9) GENERATED ALWAYS AS (upper(x)) STORED, UNIQUE (x, y));"
        "CREATE UNIQUE INDEX i1 ON t (y); CREATE INDEX i2 ON t (x); CREATE UNIQUE INDEX i3 ON t (g);"
        "INSERT INTO t (k, maybe, sure, nulls, x, y) VALUES (1, 'a', 'a', NULL, 'a', 'a')",
        "t",
    )
    found = store.accessor("t").relations(store, "t").unique  # type: ignore[attr-defined]
    assert set(found) == {("sure",), ("x", "y"), ("y",), ("maybe",)}
    assert found[-1] == ("maybe",)


def test_an_index_of_some_records_or_of_an_expression_is_not_unique(in_sqlite: Make) -> None:
    store = in_sqlite(
        "CREATE TABLE t (k TEXT PRIMARY KEY, p TEXT NOT NULL);"
        "CREATE UNIQUE INDEX i1 ON t (p) WHERE p <> ''; CREATE UNIQUE INDEX i2 ON t (lower(p))"
    )
    assert SqlAccessor().relations(store, "t").unique == ()


@pytest.mark.parametrize(
    ("columns", "assigned"),
    [
        ("k int AUTO_INCREMENT PRIMARY KEY", True),
        ("k int PRIMARY KEY", False),
        ("k int AUTO_INCREMENT, v int, PRIMARY KEY (k, v)", False),
        ("k int", False),
    ],
)
def test_a_primary_key_that_mariadb_counts_on_is_numbered_by_the_store(
    in_mariadb: Make, columns: str, assigned: bool
) -> None:
    assert accessor.relations(in_mariadb(f"CREATE TABLE t ({columns})"), "t") == Relations(assigned=assigned)


@pytest.mark.parametrize(
    ("columns", "assigned"),
    [
        ("k INTEGER PRIMARY KEY", True),
        ("k integer PRIMARY KEY AUTOINCREMENT", True),
        ("k INT PRIMARY KEY", False),
        ("k TEXT PRIMARY KEY", False),
    ],
)
def test_the_rowid_is_numbered_by_the_store(in_sqlite: Make, columns: str, assigned: bool) -> None:
    store = in_sqlite(f"CREATE TABLE t ({columns})")
    assert SqlAccessor().relations(store, "t") == Relations(assigned=assigned)


def test_a_rowid_that_a_table_lacks_is_not(in_sqlite: Make) -> None:
    store = in_sqlite("CREATE TABLE t (k INTEGER PRIMARY KEY) WITHOUT ROWID")
    assert SqlAccessor().relations(store, "t") == Relations()


@pytest.mark.parametrize("columns", ["k serial", "k bigint GENERATED ALWAYS AS IDENTITY"])
def test_a_sequence_or_an_identity_numbers_too(columns: str) -> None:
    with fresh_postgres() as url:
        store = store_at(url.replace("postgresql:", "sql:postgresql+psycopg:"))
        accessor = store.accessor("")
        assert isinstance(accessor, SqlAccessor)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLE t ({columns} PRIMARY KEY)")  # type: ignore[call-overload]
        assert accessor.relations(store, "t") == Relations(assigned=True)


# -- what is left out, what could be done ------------------------------------------------------------------


def test_what_is_no_type_is_left_out_with_the_reason(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k int PRIMARY KEY); CREATE VIEW v AS SELECT 1; CREATE TABLE _evsync_written (n int)"
    )
    accessor = store.accessor("")
    assert isinstance(accessor, SqlAccessor)
    assert accessor.left_out(store) == {"_evsync_written": "evsync's own", "v": "a view"}
    assert accessor.discover(store) == {"t": {}}
    assert accessor.why_not_created(store) is None


def test_a_url_without_a_database_is_told(database: str) -> None:
    with pytest.raises(Unreachable, match="the url names no database") as caught:
        accessor.discover(store_at(database.rpartition("/")[0]))
    assert "mysql://user@host/database" in caught.value.hint


def test_the_log_is_a_way_to_capture_and_nothing_is_set_up_by_asking(in_mariadb: Make) -> None:
    store = in_mariadb("CREATE TABLE t (k int PRIMARY KEY)", "t")
    assert accessor.ways(store) == [Way("binlog", "every change can be told by the server's log")]
    assert ask(store.url, "SHOW TABLES") == [("t",)]
    assert accessor.install(store)


def test_a_table_whose_changes_are_not_in_the_log_is_named(in_mariadb: Make) -> None:
    store = in_mariadb("CREATE TABLE t (k int PRIMARY KEY) ENGINE = Aria", "t")
    assert accessor.ways(store)[0].needs == (
        "'t' is of the engine Aria, of which no snapshot goes with the log: ALTER TABLE … ENGINE = InnoDB",
    )


@pytest.mark.skipif("EVSYNC_TEST_MARIADB" in os.environ, reason="makes users")
def test_the_rights_that_a_user_lacks_are_named(in_mariadb: Make, database: str) -> None:
    in_mariadb("CREATE TABLE t (k int PRIMARY KEY)")
    name = database.rpartition("/")[2]
    ask(database, f"CREATE USER {name}", f"GRANT SELECT ON {name}.* TO {name}")
    store = store_at(database.replace("root@", f"{name}@"), "t")
    try:
        assert accessor.ways(store)[0].needs == (
            "does not tell us where its binary log stands: GRANT BINLOG MONITOR, REPLICATION SLAVE ON *.* TO the user",
        )
        ask(database, f"GRANT BINLOG MONITOR ON *.* TO {name}")
        (need,) = accessor.ways(store)[0].needs
        assert need.startswith("does not send us its binary log")
        ask(database, f"GRANT REPLICATION SLAVE ON *.* TO {name}")
        assert accessor.ways(store)[0].needs == ()
    finally:
        ask(database, f"DROP USER {name}")


@pytest.mark.slow
def test_a_server_whose_log_tells_too_little_is_told_so() -> None:
    server = MariaDbServer(binlog_format="MIXED")
    try:
        server.start()
        ask(server.url, "CREATE TABLE t (k int PRIMARY KEY)")
        (need,) = accessor.ways(store_at(server.url, "t"))[0].needs
        assert need.startswith("the binary log does not tell every change: binlog_format is MIXED: in my.cnf")
    finally:
        server.close()
