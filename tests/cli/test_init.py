"""`evsync init`: it looks into stores, and what it writes works, end to end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cli.conftest import Project
from mariadb_server import ask
from mariadb_server import fresh_database as fresh_mariadb
from postgres_server import WITH_PASSWORD, database_url, fresh_database, server_url

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT, updated_at TIMESTAMP);
CREATE TABLE orders (number TEXT PRIMARY KEY, customer_id INTEGER REFERENCES customers, total DECIMAL);
CREATE TABLE order_items (order_no TEXT REFERENCES orders, line INTEGER, sku TEXT, PRIMARY KEY (order_no, line));
CREATE TABLE employees (id INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE, boss INTEGER REFERENCES employees);
CREATE TABLE profiles (customer_id INTEGER PRIMARY KEY REFERENCES customers, bio TEXT);
CREATE TABLE visits (profile INTEGER REFERENCES profiles, page TEXT);
CREATE VIEW totals AS SELECT customer_id, sum(total) FROM orders GROUP BY 1;
"""
ROWS = """
INSERT INTO customers VALUES (7, 'ann', 'Ann', '2024-01-01 10:00:00'), (8, 'ben', 'Ben', '2024-01-01 10:00:00');
INSERT INTO orders VALUES ('A1', 8, 1.50), ('A2', 7, 2.50);
INSERT INTO order_items VALUES ('A1', 1, 'x'), ('A1', 2, 'y'), ('A2', 1, 'x');
INSERT INTO employees VALUES (1, 'yan', NULL), (2, 'zoe', 1);
INSERT INTO profiles VALUES (7, 'I am Ann');
INSERT INTO visits VALUES (7, '/'), (7, '/');
"""
OTHER = """
CREATE TABLE Customers (nr INTEGER PRIMARY KEY, EMail TEXT NOT NULL UNIQUE, Name TEXT);
CREATE TABLE orders (number TEXT PRIMARY KEY, customer_id INTEGER REFERENCES Customers, total DECIMAL, note TEXT);
INSERT INTO Customers VALUES (70, 'zoe', 'Zoe'), (71, 'ann', 'Ann');
INSERT INTO orders VALUES ('B1', 70, 9.50, 'n');
"""
CARRIED = [
    ("select email, name from customers order by 1", [("ann", "Ann"), ("ben", "Ben")]),
    ("select number, customer_id from orders order by 1", [("A1", "ben"), ("A2", "ann")]),
    (
        "select order_no, line, sku from order_items order by 1, 2",
        [("A1", 1, "x"), ("A1", 2, "y"), ("A2", 1, "x")],
    ),
    ("select login, boss from employees order by 1", [("yan", None), ("zoe", "yan")]),
    ("select customer_id, bio from profiles", [("ann", "I am Ann")]),
]
"""What a second, empty store holds in the end: keys in place of the first one's numbers."""


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    script(tmp_path / "crm.db", SCHEMA + ROWS)
    return Project(tmp_path)


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        yield url


@pytest.fixture
def mariadb() -> Iterator[str]:
    with fresh_mariadb() as url:
        yield url


def script(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(text)


def run(url: str, sql: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def asked(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def works(project: Project, store: str) -> None:
    """What was proposed holds: the doctor finds nothing, all is carried over, and then there is nothing left to do."""
    doctor = project("doctor", "--json")
    assert doctor.code == 0, [check for check in doctor.json["checks"] if not check["ok"]]
    ended = project("sync")
    assert ended.code == 0, ended.out + ended.err
    assert project("diff", store).code == 0
    again = project("sync", "--json").json
    assert again["ingest"]["first"] is None
    assert all(
        entry["created"] + entry["updated"] + entry["deleted"] == 0 for entry in again["replay"]["stores"]
    )


# -- end to end --------------------------------------------------------------------------------------------


def test_what_is_proposed_of_a_database_fills_an_empty_one(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db", "--to", "sqlite:copy.db", "--json")
    assert ended.code == 0, ended.err
    works(shop, "copy")
    for sql, rows in CARRIED:
        assert asked(shop.folder / "copy.db", sql) == rows
    assert ended.json["undecided"] == [
        '[stores.crm] capture: every change can be told by triggers ("triggers"); to set it up: evsync capture install crm',
        "[stores.crm] left out: totals (a view)",
        "[stores.crm] left out: visits (nothing tells its records apart)",
        "[stores.crm.types.customers] changed_at = updated_at: guessed from its name; not compared, and not copied",
    ]


def test_what_is_open_is_told_after_what_was_written(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db")
    assert ended.out == "wrote evsync.toml\n"
    told = ended.err.splitlines()
    assert told[1] == "look over: [stores.crm] left out: totals (a view)"
    assert told[-1] == "next: evsync ingest"


def test_capture_can_be_set_up_as_proposed(shop: Project) -> None:
    shop("init", "--from", "sqlite:crm.db", "--to", "sqlite:copy.db")
    (command,) = [
        line.partition("evsync ")[2] for line in shop.read("evsync.toml").splitlines() if "# capture" in line
    ]
    assert shop(*command.split()).code == 0
    assert shop("sync").code == 0


def test_what_is_proposed_fills_a_folder(shop: Project) -> None:
    (shop.folder / "out").mkdir()
    shop("init", "--from", "sqlite:crm.db", "--to", "csv:out")
    works(shop, "out")
    assert shop.read("out/employees.csv") == "login,boss\nyan,\nzoe,yan\n"


def test_two_databases_that_number_their_records_each_for_itself(shop: Project) -> None:
    script(shop.folder / "shop.db", OTHER)
    ended = shop("init", "--from", "sqlite:crm.db", "--to", "sqlite:shop.db", "--json")
    works(shop, "shop")
    orders = "select number, {} from orders o join customers c on c.{} = o.customer_id order by 1"
    all_orders = [("A1", "ben"), ("A2", "ann"), ("B1", "zoe")]
    assert asked(shop.folder / "crm.db", orders.format("email", "id")) == all_orders
    assert asked(shop.folder / "shop.db", orders.format("email", "nr")) == all_orders
    assert asked(shop.folder / "shop.db", "select nr from customers where email = 'ann'") == [(71,)]
    assert "[stores.shop.types.orders] not mapped: note" in ended.json["undecided"]


def test_a_postgresql_database(database: str, tmp_path: Path) -> None:
    project = Project(tmp_path)
    schema = SCHEMA.replace("id INTEGER PRIMARY KEY", "id serial PRIMARY KEY").replace(
        "_serial", "_id serial"
    )
    run(database, schema.replace("customer_id serial PRIMARY", "customer_id int PRIMARY") + ROWS)
    run(
        database,
        "CREATE SCHEMA billing; CREATE TYPE state AS ENUM ('open', 'paid');"
        "CREATE TABLE billing.invoices (no text PRIMARY KEY, order_no text REFERENCES public.orders, state state, more jsonb);"
        "INSERT INTO billing.invoices VALUES ('R1', 'A1', 'paid', '[1, null]')",
    )
    with fresh_database() as copy:
        ended = project("init", "--from", database, "--to", copy, "--json")
        assert ended.code == 0, ended.err
        works(project, copy.rpartition("/")[2])
        for sql, rows in CARRIED:
            assert run(copy, sql) == rows
        assert run(copy, "select * from invoices") == [("R1", [1, None], "A1", "paid")]
    crm = database.rpartition("/")[2]
    assert ended.json["undecided"] == [
        f'[stores.{crm}] capture: every change can be told by the server\'s log ("wal"); to set it up:'
        f" evsync capture install {crm}",
        f"[stores.{crm}] left out: totals (a view)",
        f"[stores.{crm}] left out: visits (nothing tells its records apart)",
        f"[stores.{crm}.types.customers] changed_at = updated_at: guessed from its name; not compared, and not copied",
    ]


def test_a_mariadb_database(mariadb: str, tmp_path: Path) -> None:
    ask(
        mariadb,
        "CREATE TABLE customers (id int AUTO_INCREMENT PRIMARY KEY, email varchar(100) NOT NULL UNIQUE, name text)",
        "CREATE TABLE orders (number varchar(20) PRIMARY KEY, customer_id int, total decimal(9, 2),"
        " twice decimal(9, 2) AS (total * 2),"
        " FOREIGN KEY (customer_id) REFERENCES customers (id))",
        "CREATE VIEW totals AS SELECT customer_id, sum(total) FROM orders GROUP BY 1",
        "INSERT INTO customers VALUES (7, 'ann', 'Ann'), (8, 'ben', 'Ben')",
        "INSERT INTO orders (number, customer_id, total) VALUES ('A1', 8, 1.50), ('A2', 7, 2.50)",
    )
    project, store = Project(tmp_path), mariadb.rpartition("/")[2]
    ended = project("init", "--from", mariadb, "--to", "sqlite:copy.db", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["undecided"] == [
        f'[stores.{store}] capture: every change can be told by the server\'s log ("binlog"); to set it up:'
        f" evsync capture install {store}",
        f"[stores.{store}] left out: totals (a view)",
    ]
    assert 'read_only = ["twice"]' in project.read("evsync.toml")
    assert project("capture", "install", store).code == 0
    works(project, "copy")
    for sql, rows in CARRIED[:2]:
        assert asked(tmp_path / "copy.db", sql) == rows


def test_a_database_whose_times_have_a_zone_fills_one_whose_columns_have_none(
    database: str, mariadb: str, tmp_path: Path
) -> None:
    run(database, "CREATE TABLE visits (nr text PRIMARY KEY, began timestamptz)")
    run(database, "INSERT INTO visits VALUES ('a', '2024-01-01 10:00:00+02'), ('b', NULL)")
    project = Project(tmp_path)
    ended = project("init", "--from", database, "--to", mariadb)
    assert ended.code == 0, ended.err
    works(project, mariadb.rpartition("/")[2])
    assert ask(mariadb, "SELECT nr, cast(began AS char) FROM visits ORDER BY nr") == [
        ("a", "2024-01-01 08:00:00.000000"),
        ("b", None),
    ]


def test_what_a_store_computes_is_never_written_there(tmp_path: Path) -> None:
    script(
        tmp_path / "crm.db",
        "CREATE TABLE items (sku TEXT PRIMARY KEY, net INTEGER, gross INTEGER GENERATED ALWAYS AS (net * 2));"
        "INSERT INTO items VALUES ('x', 5)",
    )
    script(tmp_path / "shop.db", "CREATE TABLE items (sku TEXT PRIMARY KEY, net INTEGER, gross INTEGER)")
    project = Project(tmp_path)
    assert project("init", "--from", "sqlite:crm.db", "--to", "sqlite:shop.db").code == 0
    assert 'read_only = ["gross"]' in project.read("evsync.toml")
    works(project, "shop")
    script(tmp_path / "shop.db", "UPDATE items SET net = 7, gross = 7")
    assert project("sync").code == 0
    assert project("sync").code == 0
    for name in ("crm.db", "shop.db"):
        assert asked(tmp_path / name, "SELECT * FROM items") == [("x", 7, 14)]


# -- urls --------------------------------------------------------------------------------------------------


@pytest.fixture
def with_password(database: str) -> Iterator[str]:
    """The database for a role that has to tell a password in which everything stands for something else."""
    run(server_url(), f"CREATE ROLE {WITH_PASSWORD} SUPERUSER LOGIN PASSWORD 'ge:h@im'")
    yield database_url(database.rpartition("/")[2], user=WITH_PASSWORD, password="ge%3Ah%40im")
    run(server_url(), f"DROP ROLE {WITH_PASSWORD}")


@pytest.mark.skipif("EVSYNC_TEST_POSTGRES" in os.environ, reason="makes roles")
def test_a_password_is_not_written_down(database: str, with_password: str, tmp_path: Path) -> None:
    run(database, "CREATE TABLE t (k text PRIMARY KEY)")
    project, store = Project(tmp_path), database.rpartition("/")[2]
    ended = project("init", "--from", with_password)
    assert ended.code == 0, ended.err
    variable = f"EVSYNC_{store.upper()}_PASSWORD"
    assert f":${{{variable}}}@" in project.read("evsync.toml")
    assert f"set the environment variable {variable} to the password" in ended.err
    assert "ge" + "%3A" not in project.read("evsync.toml") + ended.out + ended.err
    assert project("ingest").code == 2
    assert project("ingest", **{variable: "ge%3Ah%40im"}).code == 0


def test_a_variable_in_a_url_is_filled_in_but_not_written_down(shop: Project) -> None:
    assert shop("init", "--from", "sqlite:${FOLDER}/crm.db").code == 2
    assert shop("init", "--from", "sqlite:${FOLDER}/crm.db", FOLDER=str(shop.folder)).code == 0
    assert 'url = "sqlite:${FOLDER}/crm.db"' in shop.read("evsync.toml")


def test_a_server_that_does_not_answer_is_not_taken_for_one_to_come(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db", "--to", "postgresql://me:geheim@127.0.0.1:1/shop")
    assert ended.code == 3
    assert "does not answer" in ended.err
    assert "geheim" not in ended.err
    assert not (shop.folder / "evsync.toml").exists()


def test_nor_is_a_database_that_the_server_does_not_have(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db", "--to", database_url("evsync_none"))
    assert ended.code == 3
    assert "there is no database 'evsync_none'" in ended.err


def test_nor_is_a_url_that_names_no_database(mariadb: str, tmp_path: Path) -> None:
    ended = Project(tmp_path)("init", "--from", mariadb.rpartition("/")[0])
    assert ended.code == 3
    assert "the url names no database" in ended.err
    assert "hint: the form is mysql://user@host/database" in ended.err


def test_a_file_cannot_take_several_types(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db", "--to", "csv:out.csv")
    assert ended.code == 2
    assert "--to csv:out/" in ended.err


def test_a_target_that_could_not_be_created_is_told(shop: Project) -> None:
    ended = shop("init", "--from", "sqlite:crm.db", "--to", "sqlite:no/copy.db")
    assert ended.code == 0
    assert "what is not there yet cannot be created: there is no directory" in ended.err


# -- without looking ---------------------------------------------------------------------------------------


def test_init_by_looking_into_stores(project: Project) -> None:
    ended = project("init", "--force", "--from", "sqlite:crm.db", "--to", "csv:copy.csv", "--json")
    assert ended.code == 0
    capture = 'every change can be told by triggers ("triggers"); to set it up: evsync capture install crm'
    assert ended.json == {
        "ok": True,
        "command": "init",
        "files": ["evsync.toml"],
        "undecided": [f"[stores.crm] capture: {capture}"],
    }
    assert project("sync").code == 0
    assert "Ann" in project.read("copy.csv")


def test_init_overwrites_nothing(project: Project) -> None:
    before = project.read("evsync.toml")
    assert project("init").code == 2
    assert project("init", "--example").code == 2
    assert project.read("evsync.toml") == before


def test_init_of_a_store_that_is_not_there(tmp_path: Path) -> None:
    ended = Project(tmp_path)("init", "--from", "sqlite:none.db")
    assert ended.code == 3
    assert list(tmp_path.iterdir()) == []


def test_init_without_anything_writes_a_template(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert project("init").code == 0
    ended = project("ingest")
    assert ended.code == 2
    assert "store" in ended.err


def test_init_lays_out_the_example(tmp_path: Path) -> None:
    ended = Project(tmp_path)("init", "--example", "fleet")
    assert ended.code == 0
    assert "evsync ingest" in ended.err
    assert Project(tmp_path / "fleet")("sync").code == 0
    assert Project(tmp_path)("init", "--example", "again", "--json").json["undecided"] == []
