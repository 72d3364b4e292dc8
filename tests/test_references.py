"""References between records whose ids differ from store to store: what stands in the journal is the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import canonical, content_of, did, entry, held, last, memory, sql, synchronizer

from accessors.memory import MemoryAccessor
from evsync import Data, Store, Synchronizer
from evsync.binding import PlaceSpec, TypeSpec
from evsync.errors import ConfigError, Refused
from evsync.report import exit_code

CONFIG = """
[types.contact]
key = ["email"]
[types.order]
key = ["number"]
references = { customer = "contact" }
[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
[stores.crm.types.order]
fields = { customer = "customer_id" }
[stores.shop]
url = "sqlite:shop.db"
[stores.shop.types.contact]
table = "people"
[stores.shop.types.order]
table = "orders"
fields = { customer = "person" }
[stores.list]
url = "csv:orders.csv"
[stores.list.types.order]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Synchronizer]:
    """Two databases that number their contacts each for itself, and a file that only knows orders."""
    crm, other = tmp_path / "crm.db", tmp_path / "shop.db"
    sql(crm, "create table contact (id integer primary key, email text unique, name text)")
    sql(
        crm,
        'create table "order" (number integer primary key, customer_id integer references contact, total int)',
    )
    sql(other, "create table people (nr integer primary key autoincrement, email text unique, name text)")
    sql(other, "create table orders (number integer primary key, person int references people, total int)")
    sql(other, "insert into people (nr, email, name) values (70, 'zoe', 'Zoe')")
    sql(crm, "insert into contact values (1, 'ann', 'Ann'), (2, 'ben', 'Ben')")
    sql(crm, 'insert into "order" values (10, 2, 5), (11, 1, 6), (12, null, 7)')
    with synchronizer(tmp_path, CONFIG) as sync:
        yield sync


def orders(tmp_path: Path) -> list[tuple[Any, ...]]:
    return sql(
        tmp_path / "shop.db",
        "select number, (select email from people where nr = person), total from orders order by number",
    )


def test_the_journal_holds_keys_and_every_store_its_own_ids(shop: Synchronizer, tmp_path: Path) -> None:
    assert shop.sync()["ok"]
    assert canonical(shop, "10", "order") == {"number": 10, "customer": "ben", "total": 5}
    assert canonical(shop, "12", "order") == {"number": 12, "customer": None, "total": 7}
    assert orders(tmp_path) == [(10, "ben", 5), (11, "ann", 6), (12, None, 7)]
    assert sql(tmp_path / "shop.db", "select min(person) from orders") == [(71,)]
    assert (tmp_path / "orders.csv").read_text() == "number,customer,total\n10,ben,5\n11,ann,6\n12,,7\n"
    again = shop.sync()
    assert again["ingest"]["first"] is None
    assert all(did(again["replay"], name) == {} for name in ("crm", "shop", "list"))


def test_a_reference_that_is_changed_anywhere_is_changed_everywhere(
    shop: Synchronizer, tmp_path: Path
) -> None:
    shop.sync()
    sql(tmp_path / "shop.db", "update orders set person = 70 where number = 10")
    shop.sync()
    assert last(shop, type="order")["after"]["customer"] == "zoe"
    ((zoe,),) = sql(tmp_path / "crm.db", "select id from contact where email = 'zoe'")
    assert sql(tmp_path / "crm.db", 'select customer_id from "order" where number = 10') == [(zoe,)]
    file = tmp_path / "orders.csv"
    file.write_text(file.read_text().replace("11,ann", "11,zoe"))
    shop.sync()
    assert orders(tmp_path)[1] == (11, "zoe", 6)
    assert shop.diff("crm")["differences"] == shop.diff("shop", "list")["differences"] == []


def test_parents_that_were_numbered_anew_change_no_child(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    head = shop.status()["head"]
    sql(tmp_path / "crm.db", "update contact set id = id + 100")
    sql(tmp_path / "crm.db", 'update "order" set customer_id = customer_id + 100')
    report = shop.sync()
    assert shop.status()["head"] == head
    assert did(report["replay"], "crm") == {}
    sql(tmp_path / "shop.db", "insert into orders values (13, 71, 1)")
    shop.sync()
    assert sql(tmp_path / "crm.db", 'select customer_id from "order" where number = 13') == [(101,)]


def test_a_parent_whose_key_is_edited_keeps_its_children(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    head = shop.status()["head"]
    sql(tmp_path / "crm.db", "update contact set email = 'anna' where id = 1")
    shop.sync()
    assert shop.status()["head"] == head + 1
    assert orders(tmp_path)[1] == (11, "anna", 6)


def test_a_child_of_a_parent_that_was_deleted_is_not_taken_for_changed(
    shop: Synchronizer, tmp_path: Path
) -> None:
    shop.sync()
    head = shop.status()["head"]
    sql(tmp_path / "crm.db", "pragma foreign_keys = off")
    sql(tmp_path / "crm.db", "delete from contact where id = 1")
    report = shop.ingest(["crm"])
    assert did(report, "crm") == {"deleted": 1, "unchanged": 5}
    assert shop.status()["head"] == head + 1
    report = shop.ingest(["crm"])
    assert did(report, "crm") == {"unchanged": 5}
    # Where the store insists on the parent, its deletion fails until the child is gone, too.
    sql(tmp_path / "crm.db", 'delete from "order" where number = 11')
    shop.sync()
    assert orders(tmp_path) == [(10, "ben", 5), (12, None, 7)]
    assert sql(tmp_path / "shop.db", "select email from people order by email") == [("ben",), ("zoe",)]
    assert shop.status()["stores"][1]["failures"] == 0


def test_parents_come_first_children_go_first(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    sql(tmp_path / "crm.db", 'delete from "order" where number = 10')
    sql(tmp_path / "crm.db", "delete from contact where email = 'ben'")
    sql(tmp_path / "crm.db", "insert into contact values (9, 'abe', 'Abe')")
    sql(tmp_path / "crm.db", 'insert into "order" values (1, 9, 1)')
    plan = shop.ingest(["crm"]) and shop.replay(["shop"], dry_run=True)
    told = [(step["action"], step["type"]) for step in entry(plan, "shop")["plan"]]
    assert told == [("create", "contact"), ("create", "order"), ("delete", "order"), ("delete", "contact")]
    assert did(shop.replay(["shop"]), "shop") == {"created": 2, "deleted": 2}


def test_a_reference_to_what_nobody_knows_is_put_aside_until_it_is_known(
    shop: Synchronizer, tmp_path: Path
) -> None:
    sql(tmp_path / "crm.db", 'insert into "order" values (20, 99, 1)')
    report = shop.ingest(["crm"])
    assert did(report, "crm") == {"created": 5, "quarantined": 1}
    ((error,),) = shop.journal().connection.execute("select error from quarantine").fetchall()
    assert error == "field 'customer': store 'crm' has no contact with the id 99"
    sql(tmp_path / "crm.db", "insert into contact values (99, 'kim', 'Kim')")
    assert did(shop.ingest(["crm"]), "crm") == {"created": 2, "unchanged": 5}
    assert canonical(shop, "20", "order") == {"number": 20, "customer": "kim", "total": 1}


def test_a_reference_to_a_record_that_the_store_does_not_hold_waits_for_it(
    shop: Synchronizer, tmp_path: Path
) -> None:
    shop.sync()
    file = tmp_path / "orders.csv"
    file.write_text(file.read_text() + "30,new,3\n")
    report = shop.sync()
    assert exit_code(report) == 4
    assert did(report["replay"], "shop") == {"failed": 1}
    ((key, error, attempts, state),) = failing(shop, "shop")
    assert (key, attempts, state) == ("30", 1, "postponed")
    assert error == (
        "it waits for contact 'new', which this store does not hold: the journal knows no such record"
    )
    sql(tmp_path / "crm.db", "insert into contact values (50, 'new', 'New')")
    assert exit_code(shop.sync()) == 0
    assert orders(tmp_path)[-1] == (30, "new", 3)
    assert failing(shop, "shop") == []


def failing(sync: Synchronizer, store: str) -> list[tuple[Any, ...]]:
    return (
        sync.journal()
        .connection.execute(
            "select key, error, attempts, state from failure f join binding b on b.id = f.binding"
            " where store = ? order by key",
            (store,),
        )
        .fetchall()
    )


def test_a_reference_to_a_record_that_was_deleted_says_so(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    sql(tmp_path / "shop.db", "delete from people where email = 'zoe'")
    shop.sync()
    file = tmp_path / "orders.csv"
    file.write_text(file.read_text() + "30,zoe,3\n")
    shop.sync()
    ((_, error, _, state),) = failing(shop, "shop")
    assert state == "postponed"
    assert "it was deleted, by event" in error


def test_operations_of_a_program_speak_in_keys(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    crm = shop.stores["crm"]
    made = crm.add(Data("order", {"number": 40, "customer": "ben", "total": 1}), actor="eve")
    assert made.fields["customer"] == "ben"
    assert sql(tmp_path / "crm.db", 'select customer_id from "order" where number = 40') == [(2,)]
    assert last(shop)["after"] == {"customer": "ben", "number": 40, "total": 1}
    found = crm.get("order", 40)
    assert found is not None
    assert found.fields["customer"] == "ben"
    crm.update(Data("order", {"number": 40, "customer": "ann"}))
    assert sorted(order.fields["number"] for order in crm.find("order", customer="ann")) == [11, 40]
    with pytest.raises(Refused, match="contact 'nobody', which this store does not hold"):
        crm.update(Data("order", {"number": 40, "customer": "nobody"}))


def test_rebuild_and_the_past_translate_too(shop: Synchronizer, tmp_path: Path) -> None:
    shop.sync()
    then = shop.status()["head"]
    sql(tmp_path / "shop.db", "update orders set person = 70")
    sql(tmp_path / "crm.db", "update contact set id = 4 where id = 1")
    sql(tmp_path / "crm.db", 'update "order" set customer_id = 4 where customer_id = 1')
    shop.sync()
    shop.replay(["crm"], until=then)
    assert sql(tmp_path / "crm.db", 'select customer_id from "order" order by number') == [
        (2,),
        (4,),
        (None,),
    ]
    shop.replay(["crm"])
    ((zoe,),) = sql(tmp_path / "crm.db", "select id from contact where email = 'zoe'")
    sql(tmp_path / "crm.db", 'update "order" set customer_id = 2')
    assert did(shop.replay(["crm"], rebuild=True), "crm") == {"updated": 3}
    assert sql(tmp_path / "crm.db", 'select distinct customer_id from "order"') == [(zoe,)]


# -- circles --------------------------------------------------------------------------------------------

STAFF = """
[types.person]
key = ["code"]
references = { boss = "person" }
[stores.one]
url = "sqlite:one.db"
[stores.one.types.person]
[stores.two]
url = "sqlite:two.db"
[stores.two.types.person]
"""


@pytest.fixture
def staff(tmp_path: Path) -> Iterator[Synchronizer]:
    for name in ("one.db", "two.db"):
        sql(
            tmp_path / name,
            "create table person (id integer primary key, code text unique, boss int references person)",
        )
    sql(tmp_path / "two.db", "insert into person values (500, 'zed', null)")
    with synchronizer(tmp_path, STAFF) as sync:
        yield sync


def bosses(path: Path) -> list[tuple[Any, ...]]:
    return sql(
        path, "select code, (select b.code from person b where b.id = p.boss) from person p order by code"
    )


def test_a_long_chain_that_refers_forward_is_written_in_one_run(staff: Synchronizer, tmp_path: Path) -> None:
    for n in range(1, 30):
        sql(
            tmp_path / "one.db",
            "insert into person values (?, ?, ?)",
            n,
            f"p{n:02}",
            n + 1 if n < 29 else None,
        )
    report = staff.sync()
    assert did(report["replay"], "two") == {"created": 29}
    assert bosses(tmp_path / "two.db") == bosses(tmp_path / "one.db")
    again = staff.sync()
    assert again["ingest"]["first"] is None
    assert did(again["replay"], "two") == {}


def test_circles_are_written_in_one_run(staff: Synchronizer, tmp_path: Path) -> None:
    sql(tmp_path / "one.db", "insert into person values (1, 'a', 2), (2, 'b', 3), (3, 'c', 1)")
    sql(tmp_path / "one.db", "insert into person values (4, 'self', 4), (5, 'tail', 1)")
    report = staff.sync()
    assert did(report["replay"], "two") == {"created": 5}
    assert bosses(tmp_path / "two.db") == bosses(tmp_path / "one.db")
    again = staff.sync()
    assert again["ingest"]["first"] is None
    assert did(again["replay"], "two") == {}


def test_a_circle_is_begun_where_the_store_allows_it(tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        sql(
            tmp_path / name, "create table firm (id integer primary key, name text unique, head int not null)"
        )
        sql(tmp_path / name, "create table man (id integer primary key, name text unique, firm int)")
    sql(tmp_path / "one.db", "insert into firm values (1, 'acme', 2)")
    sql(tmp_path / "one.db", "insert into man values (2, 'bob', 1)")
    config = """
[types.firm]
key = ["name"]
references = { head = "man" }
[types.man]
key = ["name"]
references = { firm = "firm" }
[stores.one]
url = "sqlite:one.db"
[stores.one.types.firm]
[stores.one.types.man]
[stores.two]
url = "sqlite:two.db"
[stores.two.types.firm]
[stores.two.types.man]
"""
    with synchronizer(tmp_path, config) as sync:
        report = sync.sync()
        assert did(report["replay"], "two") == {"created": 2}
        assert sql(
            tmp_path / "two.db",
            "select f.name, m.name from firm f join man m on m.id = f.head and m.firm = f.id",
        ) == [("acme", "bob")]
        assert sync.sync()["ingest"]["first"] is None


class Dying(MemoryAccessor):
    """Dies as it updates."""

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        raise KeyboardInterrupt


def test_a_run_that_dies_between_the_halves_of_a_circle_is_gone_on_with(tmp_path: Path) -> None:
    types = [TypeSpec("thing", ("id",), {"id": "str", "boss": "str"}, {"boss": "thing"})]
    one = memory("one", {"id": "a", "boss": 2}, {"id": "b", "boss": 1}, assign_ids=True)
    two = memory("two", assign_ids=True, accessor=Dying())
    with Synchronizer([one, two], types, tmp_path / "evsync.db") as sync, pytest.raises(KeyboardInterrupt):
        sync.sync()
    assert len(held(two)) == 2
    alive = memory("two", assign_ids=True)
    alive.options["records"]["thing"] = held(two)
    with Synchronizer([one, alive], types, tmp_path / "evsync.db") as sync:
        report = sync.sync()
        assert report["ingest"]["first"] is None
        assert content_of(alive) == [{"id": "a", "boss": 2}, {"id": "b", "boss": 1}]


# -- where the column holds the key ----------------------------------------------------------------------


def test_a_column_that_cannot_hold_the_ids_holds_the_key(tmp_path: Path) -> None:
    sql(tmp_path / "crm.db", "create table contact (id integer primary key, email text unique)")
    sql(tmp_path / "crm.db", "create table bill (number integer primary key, customer text)")
    sql(tmp_path / "crm.db", "insert into contact values (1, 'ann')")
    sql(tmp_path / "crm.db", "insert into bill values (10, 'ann')")
    config = """
[types.contact]
key = ["email"]
[types.bill]
key = ["number"]
references = { customer = "contact" }
[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
[stores.crm.types.bill]
"""
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        assert canonical(sync, "10", "bill") == {"number": 10, "customer": "ann"}


def test_by_key_says_that_a_column_holds_the_key() -> None:
    parents = {1: {"id": "7"}}
    types = [
        TypeSpec("thing", ("id",), {"id": "str"}),
        TypeSpec("part", ("no",), {"no": "str", "of": "str"}, {"of": "thing"}),
    ]
    store = Store(
        "one", "memory:", accessor=MemoryAccessor(),
        places={"thing": PlaceSpec(), "part": PlaceSpec(by_key=("of",), options={"assign_ids": False})},
        options={"assign_ids": True, "records": {"thing": parents, "part": {("p",): {"no": "p", "of": "7"}}}},
    )  # fmt: skip
    with Synchronizer([store], types, None) as sync:
        sync.sync()
        assert canonical(sync, "p", "part") == {"no": "p", "of": "7"}


def test_a_reference_can_be_part_of_a_key(tmp_path: Path) -> None:
    for name, first in (("one.db", 1), ("two.db", 900)):
        sql(tmp_path / name, "create table bill (id integer primary key, number text unique)")
        sql(tmp_path / name, "create table line (bill int, no int, what text, primary key (bill, no))")
        sql(tmp_path / name, "insert into bill values (?, 'b/1')", first)
    sql(tmp_path / "one.db", "insert into line values (1, 1, 'pen'), (1, 2, 'ink')")
    config = """
[types.bill]
key = ["number"]
[types.line]
key = ["bill", "no"]
references = { bill = "bill" }
[stores.one]
url = "sqlite:one.db"
[stores.one.types.bill]
[stores.one.types.line]
[stores.two]
url = "sqlite:two.db"
[stores.two.types.bill]
[stores.two.types.line]
"""
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        assert canonical(sync, "b%2F1/2", "line") == {"bill": "b/1", "no": 2, "what": "ink"}
        assert sql(tmp_path / "two.db", "select * from line order by no") == [
            (900, 1, "pen"),
            (900, 2, "ink"),
        ]
        sql(tmp_path / "two.db", "update line set what = 'red ink' where no = 2")
        sql(tmp_path / "two.db", "delete from line where no = 1")
        sync.sync()
        assert sql(tmp_path / "one.db", "select * from line") == [(1, 2, "red ink")]
        assert sync.sync()["ingest"]["first"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[types.a]\nkey = ['up', 'name']\nreferences = { up = 'a' }",
            "the key field 'up' references its own type",
        ),
        (
            "[types.a]\nkey = ['name']\n[stores.s]\nurl = 'sqlite:s.db'\n[stores.s.types.a]\nby_key = ['up']",
            "'by_key' names 'up', which is no reference of 'a'",
        ),
    ],
)
def test_what_cannot_be_translated_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        synchronizer(tmp_path, text)


def test_children_of_a_record_that_was_matched_refer_to_what_it_is_now(tmp_path: Path) -> None:
    for name, email in (("one.db", "ann@old"), ("two.db", "ann@new")):
        sql(tmp_path / name, "create table contact (id integer primary key, email text unique, name text)")
        sql(tmp_path / name, "create table bill (number integer primary key, contact int)")
        sql(tmp_path / name, "insert into contact values (7, ?, 'Ann')", email)
    sql(tmp_path / "one.db", "insert into bill values (1, 7)")
    sql(tmp_path / "two.db", "insert into bill values (2, 7)")
    config = """
[types.contact]
key = ["email"]
match = [["name"]]
[types.bill]
key = ["number"]
references = { contact = "contact" }
[stores.one]
url = "sqlite:one.db"
[stores.one.types.contact]
[stores.one.types.bill]
[stores.two]
url = "sqlite:two.db"
[stores.two.types.contact]
[stores.two.types.bill]
"""
    with synchronizer(tmp_path, config) as sync:
        sync.sync()
        assert canonical(sync, "2", "bill") == {"number": 2, "contact": "ann@old"}
        assert [event["op"] for event in sync.log("bill")] == ["create", "create"]
        assert sync.sync()["ingest"]["first"] is None
        assert sql(tmp_path / "two.db", "select * from bill") == [(1, 7), (2, 7)]
        assert sql(tmp_path / "two.db", "select email from contact") == [("ann@old",)]
