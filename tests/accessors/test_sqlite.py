"""The SQLite accessor: what every accessor promises, tables of every shape, and what can go wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from one_table import bound, create, rows, update

from accessors import sqlite_connection
from accessors.sqlite import SqliteAccessor
from evsync.accessor import HEADER, Change
from evsync.binding import Binding, Description, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import BrokenStore, Refused, Retry, Unreachable
from evsync.store import Store
from evsync.testing.conformance import AccessorConformance, always, thing
from evsync.values import ABSENT

accessor = SqliteAccessor()


class TestSqliteAccessor(AccessorConformance):
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_connection, "BUSY_SECONDS", 0.0)

    def make_store(self, tmp_path: Path) -> Store:
        store = Store("db", "sqlite:a b?#%41.db", root=tmp_path, accessor=SqliteAccessor())
        store.bind(self.binding())
        return store


class TestSqliteAccessorAssigningIds(TestSqliteAccessor):
    assigns_ids = True

    def binding(self) -> Binding:
        return thing(self.value_types, id="number")


Make = Callable[..., Store]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A store over the tables that some SQL makes, with the type "t" bound."""

    def made(
        sql: str,
        *,
        key: str | tuple[str, ...] = "k",
        table: str | None = None,
        id: str | None = None,
        **fields: str,
    ) -> Store:
        with closing(sqlite3.connect(tmp_path / "db")) as connection:
            connection.executescript(sql)
        places = {"t": PlaceSpec(options={"table": table})} if table else {}
        store = Store("crm", "sqlite:db", root=tmp_path, places=places, accessor=accessor)
        return bound(store, key, id, **fields)

    return made


def run(store: Store, sql: str) -> list[Any]:
    with closing(sqlite3.connect(store.path)) as connection, connection:
        return connection.execute(sql).fetchall()


# -- what a record is called ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "id"),
    [
        ("(k TEXT, v TEXT)", 1),
        ("(k TEXT PRIMARY KEY, v TEXT)", "a"),
        ("(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID", "a"),
        ("(n INTEGER PRIMARY KEY, k TEXT, v TEXT)", 1),
        ("(k TEXT, v TEXT, PRIMARY KEY (k, v))", None),
        ("(k TEXT, v TEXT, PRIMARY KEY (k, v)) WITHOUT ROWID", None),
        ("(k TEXT, v TEXT, rowid TEXT)", 1),
        ("(k TEXT, v TEXT, rowid TEXT, oid TEXT, _rowid_ TEXT)", None),
        ("(k TEXT, v TEXT, b BLOB PRIMARY KEY DEFAULT x'00')", None),
    ],
)
def test_the_id_is_the_primary_key_else_the_rowid(make: Make, columns: str, id: Any) -> None:
    store = make(f"CREATE TABLE t {columns}", v="str")
    if "oid" in columns and "_rowid_" in columns:
        run(store, "INSERT INTO t (k, v) VALUES ('a', 'b')")
    else:
        assert accessor.add(store, Data("t", {"k": "a", "v": "b"})).id == id
    assert rows(store) == [(id, None, None, None, "a", "b")]
    assert [data.id for data in accessor.find(store, "t")] == [id]


def test_the_binding_may_name_another_column_as_the_id(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY, code TEXT UNIQUE); INSERT INTO t VALUES ('a', 'X1')", id="code"
    )
    assert rows(store) == [("X1", None, None, None, "a")]
    found = accessor.get(store, "t", "X1")
    assert found is not None
    assert found.fields == {"k": "a"}


@pytest.mark.parametrize(
    "columns",
    [
        "(k TEXT, v TEXT)",
        "(k TEXT PRIMARY KEY, v TEXT)",
        "(k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID",
        "(n INTEGER PRIMARY KEY, k TEXT, v TEXT)",
        "(n INTEGER PRIMARY KEY DESC, k TEXT, v TEXT)",
        "(k TEXT, v TEXT, PRIMARY KEY (k, v))",
        "(k TEXT, v TEXT, PRIMARY KEY (k, v)) WITHOUT ROWID",
        "(a INT DEFAULT 1, b INT DEFAULT 2, k TEXT UNIQUE, v TEXT, PRIMARY KEY (a, b, k))",
        "(rowid TEXT, k TEXT, v TEXT)",
        "(k TEXT, v TEXT) STRICT",
    ],
)
def test_a_table_of_any_shape_is_written(make: Make, columns: str) -> None:
    store = make(f"CREATE TABLE t {columns}", v="str")
    names = "abcde"
    accessor.apply(store, "t", [create(k=k, v="1") for k in names])
    ids = {row[HEADER]: row[0] for row in rows(store)}
    outcomes = accessor.apply(
        store,
        "t",
        [
            update(ids["a"], {"k": "a"}, v="2"),
            update(ids["b"], {"k": "b"}, k="B", v="3"),
            Change("delete", ids["c"], {"k": "c"}, {}, always("write")),
            update(None, {"k": "d"}, v=ABSENT)
            if "PRIMARY KEY (k" not in columns
            else update(None, {"k": "d"}, v="4"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4
    last = "4" if "PRIMARY KEY (k" in columns else None
    assert sorted(row[HEADER:] for row in rows(store)) == [("B", "3"), ("a", "2"), ("d", last), ("e", "1")]


def test_names_may_be_anything(make: Make) -> None:
    store = make(
        'CREATE TABLE "my ""table"" ü" ("select" TEXT PRIMARY KEY, "a b?" TEXT, "ro\'w" INT, "rowid" TEXT)',
        key="select", table='my "table" ü', **{"a b?": "str", "ro'w": "int", "rowid": "str"},
    )  # fmt: skip
    accessor.add(store, Data("t", {"select": "k", "a b?": "x", "ro'w": 1, "rowid": "r"}))
    outcome = accessor.apply(store, "t", [update("k", {"select": "k"}, **{"a b?": "y"})])[0]
    assert outcome.row == ("k", None, None, None, "y", 1, "r", "k")
    assert rows(store) == [outcome.row]


def test_a_composite_key_is_looked_up_through_its_index(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT, l INT, v TEXT, PRIMARY KEY (k, l))", key=("k", "l"), l="int", v="str"
    )
    changes = [
        Change("create", None, {}, {"k": k, "l": n, "v": ""}, always("write")) for k in "ab" for n in (1, 2)
    ]
    for change in changes:
        change.name = {"k": change.values["k"], "l": change.values["l"]}
    accessor.apply(store, "t", changes)
    accessor.apply(
        store, "t", [update(None, {"k": "b", "l": 1}, v="x"), update(None, {"k": "a", "l": 2}, l=3)]
    )
    assert sorted(row[HEADER:] for row in rows(store)) == [
        ("a", 1, ""), ("a", 3, ""), ("b", 1, "x"), ("b", 2, ""),
    ]  # fmt: skip


def test_generated_columns_are_read_and_never_written(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY, g TEXT AS (upper(k)), s TEXT AS (k || k) STORED)",
        g="str",
        s="str",
    )
    [outcome] = accessor.apply(store, "t", [create(k="a", g="other", s="other")])
    assert outcome.row == ("a", None, None, None, "A", "a", "aa")
    assert not outcome.exact
    described = accessor.describe(store, "t")
    assert described is not None
    assert list(described.columns) == ["k", "g", "s"]


def test_a_view_is_read_but_not_written(make: Make) -> None:
    store = make("CREATE TABLE x (k TEXT); INSERT INTO x VALUES ('a'); CREATE VIEW t AS SELECT k FROM x")
    assert rows(store) == [(None, None, None, None, "a")]
    assert accessor.get_by_name(store, "t", {"k": "a"}) is not None
    with pytest.raises(Unreachable, match="view"):
        accessor.add(store, Data("t", {"k": "b"}))
    assert "view" in (accessor.check(store, "t") or "")


def test_changed_at_and_changed_by_are_told(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT, changed_at TEXT, changed_by TEXT);"
        "INSERT INTO t VALUES ('a', '2024-01-02 03:04:05', 'ann'), ('b', 'yesterday', NULL)",
        changed_at="datetime", changed_by="str",
    )  # fmt: skip
    assert rows(store)[0] == (1, None, "2024-01-02 03:04:05", "ann", "a")
    one, two = accessor.find(store, "t")
    assert (one.changed_at, one.changed_by) == (datetime(2024, 1, 2, 3, 4, 5), "ann")
    assert (two.changed_at, two.changed_by) == (None, None)


def test_a_key_is_found_however_another_program_wrote_it(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k DATETIME, v INT); INSERT INTO t VALUES ('2024-01-01 10:00:00', 1)",
        k="datetime",
        v="int",
    )
    [outcome] = accessor.apply(store, "t", [update(None, {"k": datetime(2024, 1, 1, 10)}, v=2)])
    assert outcome.row == (1, None, None, None, "2024-01-01 10:00:00", 2)


def test_more_records_than_a_statement_takes_parameters(make: Make) -> None:
    store = make("CREATE TABLE t (n INTEGER PRIMARY KEY, k TEXT, v INT)", v="int")
    names = [f"k{number}" for number in range(1203)]
    created = accessor.apply(store, "t", [create(k=k, v=1) for k in names])
    by_id = [update(o.id, {"k": k}, v=2) for o, k in zip(created, names, strict=True)][:601]
    by_name = [update(None, {"k": k}, v=2) for k in names[601:]]
    assert {outcome.state for outcome in accessor.apply(store, "t", by_id + by_name)} == {"written"}
    assert run(store, "SELECT v, count(*) FROM t") == [(2, 1203)]


def test_what_an_integer_primary_key_cannot_hold_is_told_with_its_column(make: Make) -> None:
    store = make("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)", k="int", v="str")
    taken, refused, long = accessor.apply(
        store, "t", [create(k=2**63 - 1), create(k=2**63), create(k=10**400)]
    )
    assert (taken.state, refused.state, long.state) == ("written", "failed", "failed")
    assert "column 'k' (declared INTEGER) cannot hold 9223372036854775808" in str(refused.error)
    assert len(str(long.error)) < 300


# -- what apply answers ---------------------------------------------------------------------------------


def test_what_is_certainly_stored_as_given_is_not_read_back(make: Make) -> None:
    store = make("CREATE TABLE t (n INTEGER PRIMARY KEY, k TEXT, v REAL)", v="float")
    whole, part = accessor.apply(store, "t", [create(k="a", v=1.5), create(k="b")])
    assert (whole.state, whole.exact, whole.row, whole.id) == ("written", True, None, 1)
    assert (part.state, part.exact, part.row, part.id) == (
        "written",
        False,
        (2, None, None, None, "b", None),
        2,
    )


def test_a_default_and_a_trigger_show_in_the_outcome(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT);"
        "CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET v = upper(v) WHERE k = new.k; END;",
        v="str",
    )
    [outcome] = accessor.apply(store, "t", [create(k="a", v="b")])
    assert outcome.row == ("a", None, None, None, "a", "B")


def test_a_primary_key_filled_in_by_a_default_is_found(make: Make) -> None:
    store = make(
        "CREATE TABLE t (a INT DEFAULT 1, k TEXT, v TEXT, PRIMARY KEY (a, k)) WITHOUT ROWID", a="int", v="str"
    )
    [outcome] = accessor.apply(store, "t", [create(k="x", v="y")])
    assert outcome.row == (None, None, None, None, 1, "x", "y")


def test_a_change_of_the_key_is_answered_under_the_new_one(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID; INSERT INTO t VALUES ('a', 'x')", v="str"
    )
    [outcome] = accessor.apply(store, "t", [update("a", {"k": "a"}, k="b")])
    assert outcome.row == ("b", None, None, None, "b", "x")
    assert outcome.id == "b"


def test_a_refused_record_leaves_the_others_written(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT PRIMARY KEY, v INT CHECK (v < 5), w INT)", v="int", w="str")
    outcomes = accessor.apply(
        store, "t", [create(k="a", v=1), create(k="b", v=9), create(k="c", v=1, w="007"), create(k="d", v=2)]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "failed", "written"]
    assert isinstance(outcomes[1].error, Refused)
    assert "CHECK" in str(outcomes[1].error)
    message = str(outcomes[2].error)
    assert "'w'" in message
    assert "INT" in message
    assert "'007'" in message
    assert run(store, "SELECT k FROM t ORDER BY k") == [("a",), ("d",)]


def test_a_second_record_of_one_key_is_refused_even_without_a_constraint(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT); INSERT INTO t VALUES ('a')")
    [outcome] = accessor.apply(store, "t", [create(k="a")])
    assert isinstance(outcome.error, Refused)
    with pytest.raises(Refused, match="already"):
        accessor.add(store, Data("t", {"k": "a"}))
    assert len(rows(store)) == 1


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_an_orphan_is_refused_and_the_others_are_written(make: Make, deferred: str) -> None:
    store = make(
        "CREATE TABLE parent (p TEXT PRIMARY KEY); INSERT INTO parent VALUES ('p');"
        f"CREATE TABLE t (k TEXT PRIMARY KEY, p TEXT REFERENCES parent {deferred})",
        p="str",
    )
    outcomes = accessor.apply(
        store, "t", [create(k="a", p="p"), create(k="b", p="nobody"), create(k="c", p=None)]
    )
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written"]
    assert [row[HEADER] for row in rows(store)] == ["a", "c"]


def test_a_trigger_that_rolls_back_costs_only_its_own_record(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY);"
        "CREATE TRIGGER x BEFORE INSERT ON t WHEN new.k = 'b' BEGIN SELECT RAISE(ROLLBACK, 'no b'); END;"
    )
    outcomes = accessor.apply(store, "t", [create(k=k) for k in "abcd"])
    assert [outcome.state for outcome in outcomes] == ["written", "failed", "written", "written"]
    assert "no b" in str(outcomes[1].error)
    assert [row[0] for row in rows(store)] == ["a", "c", "d"]


@pytest.mark.parametrize("conflict", ["k TEXT UNIQUE ON CONFLICT IGNORE", "k TEXT"])
def test_a_record_that_is_silently_ignored_is_no_success(make: Make, conflict: str) -> None:
    store = make(
        f"CREATE TABLE t (n INTEGER PRIMARY KEY, {conflict}, u TEXT UNIQUE ON CONFLICT IGNORE);"
        "INSERT INTO t (k, u) VALUES ('a', 'same')",
        u="str",
    )
    [outcome] = accessor.apply(store, "t", [create(k="b", u="same")])
    assert isinstance(outcome.error, Refused)


def test_updating_what_is_gone_is_refused(make: Make) -> None:
    store = make("CREATE TABLE t (n INTEGER PRIMARY KEY, k TEXT)")
    [outcome] = accessor.apply(store, "t", [update(5, {"k": "a"}, k="b")])
    assert isinstance(outcome.error, Refused)


def test_an_unknown_column_is_refused_with_the_nearest(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT, colour TEXT)")
    with pytest.raises(Refused) as caught:
        accessor.add(store, Data("t", {"k": "a", "color": "red"}))
    assert "'colour'" in caught.value.hint


def test_an_update_over_a_change_made_meanwhile_is_refused(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v INT, other INT); INSERT INTO t VALUES ('a', 1, 0)", v="int"
    )
    old = accessor.get_by_name(store, "t", {"k": "a"})
    run(store, "UPDATE t SET other = 9")
    accessor.update(store, Data("t", {"v": 2}, id="a"), old)  # a column that is not ours may change
    with pytest.raises(Refused, match="meanwhile"):
        accessor.update(store, Data("t", {"v": 3}, id="a"), old)
    assert run(store, "SELECT * FROM t") == [("a", 2, 9)]


def test_replaced_rows_fire_the_delete_triggers(make: Make) -> None:
    store = make(
        "CREATE TABLE gone (k); CREATE TABLE t (k TEXT PRIMARY KEY, u TEXT UNIQUE ON CONFLICT REPLACE);"
        "CREATE TRIGGER x AFTER DELETE ON t BEGIN INSERT INTO gone VALUES (old.k); END;"
        "INSERT INTO t VALUES ('a', 'same')",
        u="str",
    )
    accessor.add(store, Data("t", {"k": "b", "u": "same"}))
    assert run(store, "SELECT k FROM gone") == [("a",)]


# -- what the tables say of themselves ------------------------------------------------------------------


def test_describe_tells_declared_and_found_types(make: Make) -> None:
    store = make(
        "CREATE TABLE t (a, b, c, d, k TEXT, at DATETIME, PRIMARY KEY (at, k));"
        "INSERT INTO t VALUES (1, 1.5, 'x', NULL, 'k', ''), (2, 1, 'y', NULL, 'l', '')"
    )
    assert accessor.describe(store, "t") == Description(
        {"a": "int", "b": "float", "c": "str", "d": None, "k": "str", "at": "datetime"},
        ("at", "k"),
        guessed=frozenset("abcd"),
    )


def test_describe_tells_the_columns_that_the_table_computes(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER, twice INTEGER AS (n * 2))")
    described = accessor.describe(store, "t")
    assert described is not None
    assert (described.generated, described.guessed) == (frozenset({"twice"}), frozenset())


def test_describe_of_what_is_not_there_is_none_and_makes_nothing(make: Make, tmp_path: Path) -> None:
    assert accessor.describe(make("CREATE TABLE x (k)"), "t") is None
    missing = Store("crm", "sqlite:missing", root=tmp_path, accessor=accessor)
    assert accessor.describe(missing, "t") is None
    assert not missing.path.exists()


def test_discover_names_the_users_tables(make: Make) -> None:
    store = make(
        "CREATE TABLE b (n INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE a (k); CREATE VIEW v AS SELECT 1;"
        "CREATE VIRTUAL TABLE f USING fts5 (body)"
    )
    assert accessor.discover(store) == {"a": {}, "b": {}, "f": {}}


def test_create_makes_a_plain_key_the_rowid_and_an_own_id_besides(tmp_path: Path) -> None:
    store = Store("db", "sqlite:db", root=tmp_path, accessor=accessor)
    store.bind(Binding("t", ("k",), (Field("k", "k", "int"),)))
    accessor.create(store, "t")
    assert accessor.add(store, Data("t", {"k": 7})).id == 7
    store.bind(Binding("u", ("k",), (Field("k", "k", "str"), Field("v", "v", "json")), id="id"))
    accessor.create(store, "u")
    assert accessor.describe(store, "u") == Description({"id": "int", "k": "str", "v": "json"}, ("id",))
    assert accessor.add(store, Data("u", {"k": "a", "v": 1.5})).id == 1


# -- what can go wrong ----------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_SECONDS", 0.01)


OPERATIONS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: accessor.get(store, "t", 1),
    "get_by_name": lambda store: accessor.get_by_name(store, "t", {"k": "a"}),
    "find": lambda store: list(accessor.find(store, "t")),
    "scan": rows,
    "add": lambda store: accessor.add(store, Data("t", {"k": "a"})),
    "update": lambda store: accessor.update(store, Data("t", {"k": "a"})),
    "remove": lambda store: accessor.remove(store, Data("t", {"k": "a"})),
    "apply": lambda store: accessor.apply(store, "t", [create(k="a")]),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


@every_operation
def test_a_missing_file_is_unreachable_and_not_made(make: Make, operation: Callable[[Store], Any]) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    store.url = "sqlite:dbb"
    with pytest.raises(Unreachable, match="dbb") as caught:
        operation(store)
    assert "'db'" in caught.value.hint
    assert not store.path.exists()


def test_a_missing_directory_is_unreachable(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    store.url = "sqlite:nowhere/db"
    with pytest.raises(Unreachable, match="nowhere"):
        rows(store)
    with pytest.raises(Unreachable, match="nowhere"):
        accessor.create(store, "t")
    assert "nowhere" in (accessor.check(store, "t") or "")


@every_operation
def test_a_missing_table_is_unreachable_and_the_nearest_is_named(
    make: Make, operation: Callable[[Store], Any]
) -> None:
    store = make("CREATE TABLE customers (k TEXT)", table="customer")
    with pytest.raises(Unreachable, match="'customer'") as caught:
        operation(store)
    assert caught.value.hint == "did you mean 'customers'?"


def test_a_missing_column_is_unreachable_never_a_constant(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT, colour TEXT)", color="str")
    with pytest.raises(Unreachable, match="'color'") as caught:
        rows(store)
    assert "'colour'" in caught.value.hint


@every_operation
def test_a_file_that_is_no_database_is_broken(make: Make, operation: Callable[[Store], Any]) -> None:
    store = make("")
    store.path.write_bytes(b"name,email\n" * 1000)
    with pytest.raises(BrokenStore, match="not an SQLite database"):
        operation(store)


@pytest.mark.usefixtures("impatient")
@every_operation
def test_a_lock_is_a_retry(make: Make, operation: Callable[[Store], Any]) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Retry, match="locked"):
            operation(store)


@pytest.mark.usefixtures("impatient")
def test_check_tells_of_a_lock(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in (accessor.check(store, "t") or "")


def test_a_wal_database_is_read_beside_a_writer(make: Make) -> None:
    store = make("PRAGMA journal_mode=WAL; CREATE TABLE t (k TEXT); INSERT INTO t VALUES ('a')")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO t VALUES ('b')")
        assert [row[HEADER] for row in rows(store)] == ["a"]
        other.execute("COMMIT")
    assert [row[HEADER] for row in rows(store)] == ["a", "b"]
    assert [entry.name for entry in store.path.parent.iterdir()] == ["db"]


def test_a_scan_sees_one_state_of_the_store(make: Make) -> None:
    store = make("PRAGMA journal_mode=WAL; CREATE TABLE t (k TEXT)")
    accessor.apply(store, "t", [create(k=str(number)) for number in range(5000)])
    batches = accessor.scan(store, "t")
    seen = len(next(batches))
    run(store, "DELETE FROM t")
    assert seen + sum(map(len, batches)) == 5000


class Failing(sqlite3.Connection):
    """A connection on which one statement fails as SQLite would let it fail."""

    statement = ""
    errorname = ""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith(self.statement):
            error = sqlite3.OperationalError(self.errorname)
            error.sqlite_errorname = self.errorname
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Failing]]:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{"factory": Failing, **k}))
    yield Failing
    Failing.statement = Failing.errorname = ""


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT", "COMMIT"])
@pytest.mark.parametrize(
    ("errorname", "expected", "says"),
    [
        ("SQLITE_READONLY_DIRECTORY", Unreachable, "read-only"),
        ("SQLITE_FULL", Unreachable, "full"),
        ("SQLITE_IOERR_WRITE", Unreachable, "cannot be opened"),
        ("SQLITE_BUSY", Retry, "locked"),
        ("SQLITE_CORRUPT", BrokenStore, "cannot be read"),
    ],
)
def test_trouble_with_the_store_undoes_the_whole_batch(
    make: Make, failing: type[Failing], statement: str, errorname: str, expected: type[Exception], says: str
) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    failing.statement, failing.errorname = statement, errorname
    with pytest.raises(expected, match=says):
        accessor.apply(store, "t", [create(k="a"), create(k="b")])
    failing.statement = "nothing"
    assert rows(store) == []


def test_a_full_database_is_unreachable_and_nothing_is_half_done(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(Unreachable, match="full"):
        accessor.apply(store, "t", [create(k=letter * 3000) for letter in "abcdefgh"])
    assert rows(store) == []


def test_text_that_is_not_utf8_comes_as_bytes_and_hides_no_other_row(make: Make) -> None:
    store = make(
        "CREATE TABLE t (k TEXT, v TEXT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        "INSERT INTO t SELECT 'k' || i, iif(i = 4500, CAST(x'ff41' AS TEXT), 'ü') FROM n",
        v="str",
    )
    found = rows(store)
    assert [row[0] for row in found] == list(range(1, 5001))
    assert {row[HEADER + 1] for row in found} == {"ü", b"\xffA"}
    one = accessor.get(store, "t", 4500)
    assert one is not None
    assert one.fields["v"] == b"\xffA"


def test_a_torn_read_is_broken_never_the_end(make: Make) -> None:
    store = make("CREATE TABLE t (k TEXT)")
    accessor.apply(store, "t", [create(k=f"{number:0100}") for number in range(10_000)])
    content = bytearray(store.path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8 * 4096] = b"\xff" * (8 * 4096)
    store.path.write_bytes(content)
    with pytest.raises(BrokenStore, match="cannot be read"):
        rows(store)


def test_a_scan_shows_one_state_while_others_write(make: Make) -> None:
    store = make(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (k TEXT PRIMARY KEY);"
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
        " INSERT INTO t SELECT i FROM n",
        k="str",
    )
    scan = accessor.scan(store, "t")
    rows = list(next(scan))
    assert len(rows) < 2000
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute("DELETE FROM t")
    rows += [row for batch in scan for row in batch]
    assert len(rows) == 2000
