"""What `evsync init` proposes of what stores say of themselves, and what it leaves to a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from evsync.accessor import ForeignKey, Relations, Way
from evsync.config import Config, parse_config
from evsync.proposal import Look, Seen, key_of, propose
from evsync.proposal_text import written

URLS = {
    "crm": "sqlite:crm.db",
    "shop": "sqlite:shop.db",
    "out": "csv:out/",
    "m": "csv:m.csv",
    "db": "postgresql://h/db",
    "my": "mysql://h/db",
}


def table(
    name: str,
    columns: dict[str, str | None],
    key: tuple[str, ...] = (),
    *,
    store: str = "crm",
    refers: Sequence[tuple[Any, str, Any]] = (),
    unique: Sequence[tuple[str, ...]] = (),
    numbered: bool = False,
    **more: Any,
) -> Look:
    """`refers`: column or columns, the table, the column or columns there."""
    keys = tuple(ForeignKey(_names(own), target, _names(theirs)) for own, target, theirs in refers)
    relations = Relations(keys, tuple(unique), numbered)
    return Look(store, URLS[store], name, more.pop("options", {}), columns, key, relations=relations, **more)


def _names(told: Any) -> tuple[str, ...]:
    return (told,) if isinstance(told, str) else tuple(told)


def to_come(look: Look, store: str = "out") -> Look:
    return Look(store, URLS[store], look.type)


def proposed(*looks: Look, **more: Any) -> tuple[str, Config, list[str]]:
    """The text, what it means, and what is open. `more`: what is known of the stores as a whole."""
    stores = list(dict.fromkeys(look.store for look in looks))
    found = propose(
        [
            Seen(name, URLS[name], looks=[look for look in looks if look.store == name], **more.get(name, {}))
            for name in stores
        ]
    )
    text = written(found)
    return text, parse_config(text), found.undecided


CUSTOMERS = table(
    "customers", {"id": "int", "email": "str", "name": "str"}, ("id",), unique=[("email",)], numbered=True
)
ORDERS = table(
    "orders",
    {"number": "str", "customer_id": "int", "total": "decimal"},
    ("number",),
    refers=[("customer_id", "customers", "id")],
)
ITEMS = table(
    "items",
    {"order_no": "str", "line": "int", "qty": "int"},
    ("order_no", "line"),
    refers=[("order_no", "orders", "number")],
)


# -- keys --------------------------------------------------------------------------------------------------


def look(samples: list[dict[str, Any]], **more: Any) -> Look:
    columns = dict.fromkeys(samples[0]) if samples else {"name": None, "email": None}
    return Look("crm", "csv:crm.csv", "contact", columns=columns, samples=samples, **more)


def test_the_primary_key_is_the_key() -> None:
    assert key_of(look([{"a": "1", "b": "2"}], primary_key=("b", "a"))).columns == ("b", "a")


def test_a_unique_column_named_like_a_key_goes_before_another_unique_one() -> None:
    key = key_of(look([{"note": "x", "contactEmail": "1"}, {"note": "y", "contactEmail": "2"}]))
    assert key.columns == ("contactEmail",)
    assert "guessed" in key.why


def test_else_the_first_unique_column_is_the_key() -> None:
    assert key_of(look([{"id": "1", "x": "1"}, {"id": "1", "x": "2"}])).columns == ("x",)


def test_a_column_with_gaps_is_no_key() -> None:
    assert key_of(look([{"id": None, "x": "1"}, {"id": "1", "x": "2"}])).columns == ("x",)
    assert key_of(look([{"id": "", "x": "1"}, {"id": "1", "x": "2"}])).columns == ("x",)


def test_a_key_that_is_not_unique_is_said_to_be_none() -> None:
    assert "NOT UNIQUE" in key_of(look([{"id": "1"}, {"id": "1"}])).why


def test_without_records_the_name_decides() -> None:
    key = key_of(look([]))
    assert key.columns == ("email",)
    assert "holds no records" in key.why


def test_a_number_that_the_store_gives_out_is_its_own_id_where_something_else_is_unique() -> None:
    _, config, undecided = proposed(CUSTOMERS)
    assert config.types["customers"].key == ("email",)
    assert config.types["customers"].fields == {"email": "str", "name": "str"}
    assert config.stores["crm"].places["customers"].id == "id"
    assert undecided == []


def test_where_nothing_else_is_unique_the_number_is_the_key_and_that_is_said() -> None:
    text, config, undecided = proposed(table("log", {"id": "int", "text": "str"}, ("id",), numbered=True))
    assert config.types["log"].key == ("id",)
    assert config.stores["crm"].places["log"].id is None
    assert 'key = ["id"]  # numbered by crm: other stores will number differently' in text
    assert undecided == ["[types.log] key = id: numbered by crm: other stores will number differently"]


def test_of_two_stores_that_number_one_type_both_that_is_said_where_it_would_mix_them_up() -> None:
    here = table("log", {"id": "int"}, ("id",), numbered=True)
    there = table("log", {"id": "int"}, ("id",), numbered=True, store="shop")
    _, _, undecided = proposed(here, there)
    assert (
        "[stores.shop.types.log] id: numbered by shop, too: what has one number would be taken for one record"
        in (undecided)
    )


def test_the_shortest_unique_set_that_is_called_like_a_key_is_taken() -> None:
    found = table(
        "t",
        {"id": "int", "a": "int", "b": "int", "title": "str", "code": "str"},
        ("id",),
        unique=[("a", "b"), ("title",), ("code",)],
        numbered=True,
    )
    assert key_of(found).columns == ("code",)


def test_a_natural_primary_key_stays_though_another_column_is_unique() -> None:
    found = table("country", {"code": "str", "name": "str"}, ("code",), unique=[("name",)])
    assert key_of(found).columns == ("code",)


def test_the_number_of_another_table_s_record_is_not_given_out_here() -> None:
    profiles = table(
        "profiles",
        {"customer_id": "int", "bio": "str", "nick": "str"},
        ("customer_id",),
        refers=[("customer_id", "customers", "id")],
        unique=[("nick",)],
        numbered=True,
    )
    _, config, _ = proposed(CUSTOMERS, profiles)
    assert config.types["profiles"].key == ("customer_id",)
    assert config.types["profiles"].references == {"customer_id": "customers"}
    assert config.types["profiles"].fields["customer_id"] == "str"


# -- references --------------------------------------------------------------------------------------------


def test_a_foreign_key_is_a_reference_of_the_type_of_the_other_s_key() -> None:
    _, config, undecided = proposed(CUSTOMERS, ORDERS)
    assert config.types["orders"].references == {"customer_id": "customers"}
    assert config.types["orders"].fields == {"number": "str", "customer_id": "str", "total": "decimal"}
    assert undecided == []


def test_what_others_refer_to_is_written_first() -> None:
    text, config, _ = proposed(ITEMS, ORDERS, CUSTOMERS)
    assert list(config.types) == ["customers", "orders", "items"]
    assert list(config.stores["crm"].places) == ["customers", "orders", "items"]
    assert text.index("[types.customers]") < text.index("[types.orders]") < text.index("[types.items]")


def test_a_reference_may_be_part_of_a_key() -> None:
    _, config, _ = proposed(ORDERS, ITEMS)
    assert config.types["items"].key == ("order_no", "line")
    assert config.types["items"].references == {"order_no": "orders"}


def test_the_key_of_a_record_with_a_composite_key_is_a_text() -> None:
    items = table(
        "items",
        {"id": "int", "order_no": "str", "line": "int"},
        ("id",),
        unique=[("order_no", "line")],
        numbered=True,
    )
    parcels = table("parcels", {"code": "str", "item": "int"}, ("code",), refers=[("item", "items", "id")])
    _, config, _ = proposed(items, parcels)
    assert config.types["parcels"].references == {"item": "items"}
    assert config.types["parcels"].fields["item"] == "str"


def test_a_type_may_refer_to_itself() -> None:
    staff = table(
        "staff",
        {"id": "int", "login": "str", "boss": "int"},
        ("id",),
        refers=[("boss", "staff", "id")],
        unique=[("boss",), ("login",)],
        numbered=True,
    )
    _, config, undecided = proposed(staff)
    assert config.types["staff"].key == ("login",)  # no key can be made of keys of the same type
    assert config.types["staff"].references == {"boss": "staff"}
    assert undecided == []


def test_types_may_refer_to_each_other_in_a_circle() -> None:
    teams = table("teams", {"name": "str", "head": "str"}, ("name",), refers=[("head", "people", "login")])
    people = table("people", {"login": "str", "team": "str"}, ("login",), refers=[("team", "teams", "name")])
    _, config, _ = proposed(teams, people)
    assert config.types["teams"].references == {"head": "people"}
    assert config.types["people"].references == {"team": "teams"}


def test_no_key_is_made_of_itself_by_way_of_another() -> None:
    one = table("one", {"x": "str"}, ("x",), refers=[("x", "two", "y")])
    two = table("two", {"y": "str"}, ("y",), refers=[("y", "one", "x")])
    _, config, undecided = proposed(one, two)
    assert [spec.references for spec in config.types.values()] == [{}, {}]
    assert undecided == [
        "[types.one] x refers to two, whose key is made of keys of this type: told by no reference",
        "[types.two] y refers to one, whose key is made of keys of this type: told by no reference",
    ]


def test_what_refers_by_another_s_reference_means_the_third() -> None:
    profiles = table(
        "profiles", {"customer_id": "int"}, ("customer_id",), refers=[("customer_id", "customers", "id")]
    )
    visits = table(
        "visits", {"no": "int", "who": "int"}, ("no",), refers=[("who", "profiles", "customer_id")]
    )
    _, config, _ = proposed(CUSTOMERS, profiles, visits)
    assert config.types["visits"].references == {"who": "customers"}
    assert config.types["visits"].fields["who"] == "str"


def test_a_composite_foreign_key_is_told_and_its_parts_mean_what_they_mean_there() -> None:
    items = table(
        "items",
        {"customer": "int", "line": "int"},
        ("customer", "line"),
        refers=[("customer", "customers", "id")],
    )
    parcels = table(
        "parcels",
        {"code": "str", "customer": "int", "line": "int"},
        ("code",),
        refers=[(("customer", "line"), "items", ("customer", "line"))],
    )
    text, config, undecided = proposed(CUSTOMERS, items, parcels)
    assert config.types["parcels"].references == {"customer": "customers"}
    assert undecided == ["[types.parcels] customer, line together refer to items: told by no reference"]
    assert "# customer, line together refer to items: told by no reference" in text


def test_a_foreign_key_to_a_table_that_is_left_out_is_told() -> None:
    _, config, undecided = proposed(ORDERS)
    assert config.types["orders"].references == {}
    assert config.types["orders"].fields["customer_id"] == "int"
    assert undecided == ["[types.orders] customer_id refers to customers, which is left out"]


def test_a_foreign_key_to_neither_key_nor_id_is_told() -> None:
    people = table(
        "people",
        {"id": "int", "email": "str", "phone": "str"},
        ("id",),
        unique=[("email",), ("phone",)],
        numbered=True,
    )
    calls = table("calls", {"no": "int", "phone": "str"}, ("no",), refers=[("phone", "people", "phone")])
    _, config, undecided = proposed(people, calls)
    assert config.types["calls"].references == {}
    assert undecided == ["[types.calls] phone refers to people by phone, which is neither its key nor its id"]


def test_a_reference_that_only_a_name_suggests_is_asked_about_and_not_made() -> None:
    orders = table("orders", {"number": "str", "customer_id": "int"}, ("number",))
    _, config, undecided = proposed(CUSTOMERS, orders)
    assert config.types["orders"].references == {}
    assert undecided == [
        "[types.orders] customer_id may refer to customers, though no foreign key says so; then write: references ="
        " { customer_id = 'customers' }, and its type as the key of customers has it"
    ]


def test_a_column_that_holds_the_key_though_the_store_has_ids_is_by_key() -> None:
    letters = table("letters", {"no": "int", "to": "str"}, ("no",), refers=[("to", "customers", "email")])
    _, config, _ = proposed(CUSTOMERS, letters)
    assert config.types["letters"].references == {"to": "customers"}
    assert config.stores["crm"].places["letters"].by_key == ("to",)


def test_tables_of_two_schemas_are_told_apart() -> None:
    def at(schema: str, name: str, key: str, **more: Any) -> Look:
        options = {"table": name, "schema": schema} if schema else {}
        return table(
            f"{schema}.{name}" if schema else name, {key: "str"}, (key,), store="db", options=options, **more
        )

    orders, invoices = at("", "orders", "number"), at("billing", "invoices", "no")
    billed = at("billing", "orders", "number", refers=[("number", "orders", "number")])
    _, config, _ = proposed(orders, billed, invoices, to_come(billed), to_come(invoices))
    assert set(config.types) == {"orders", "billing_orders", "invoices"}
    assert config.types["billing_orders"].references == {"number": "orders"}
    assert config.stores["db"].places["invoices"].options == {"table": "invoices", "schema": "billing"}
    assert {name: place.options for name, place in config.stores["out"].places.items()} == {
        "billing_orders": {},
        "invoices": {},
    }


# -- two stores --------------------------------------------------------------------------------------------


CRM = table("customers", {"e_mail": "str", "Full Name": "str", "since": "date"}, ("e_mail",))


def test_one_store() -> None:
    _, config, undecided = proposed(CRM)
    assert config.types["customers"].key == ("e_mail",)
    assert config.types["customers"].fields == {"e_mail": "str", "Full Name": "str", "since": "date"}
    assert config.stores["crm"].url == "sqlite:crm.db"
    assert undecided == []


def test_a_target_that_is_not_there_gets_the_same_type() -> None:
    text, config, _ = proposed(CRM, to_come(CRM))
    assert "# not there yet" in text
    assert list(config.stores["out"].places) == ["customers"]


VISITS = table(
    "visits",
    {"nr": "int", "at": "datetime", "local": "datetime"},
    ("nr",),
    samples=[{"nr": 1, "at": None, "local": None}, {"nr": 2, "at": datetime(2024, 1, 1, tzinfo=UTC)}],
)


def test_a_store_to_come_whose_columns_of_times_have_no_zone_is_told_that_they_are_in_utc() -> None:
    text, config, undecided = proposed(VISITS, Look("my", URLS["my"], "visits", takes_zone=True))
    assert config.stores["my"].places["visits"].options == {"zone": "utc"}
    assert 'zone = "utc"  # so that' in text
    assert undecided == []


def test_times_without_an_offset_for_a_store_that_insists_on_one_are_pointed_at_with_a_way_out() -> None:
    naive = table(
        "visits", {"id": "int", "at": "datetime"}, ("id",), store="my",
        samples=[{"id": 1, "at": datetime(2024, 1, 1)}], takes_zone=True,
    )  # fmt: skip
    text, _, _ = proposed(naive, to_come(naive, "db"))
    assert (
        'a column that insists on one refuses them; if they are in UTC, set zone = "utc" in [stores.my]'
        in text
    )


def test_no_zone_is_named_where_none_is_needed_or_known() -> None:
    plain = msgspec.structs.replace(VISITS, samples=[{"nr": 1, "at": datetime(2024, 1, 1)}])
    for look, takes_zone in ((plain, True), (VISITS, False), (CRM, True)):
        _, config, _ = proposed(look, Look("my", URLS["my"], look.type, takes_zone=takes_zone))
        assert config.stores["my"].places[look.type].options == {}


def test_what_a_store_computes_is_taken_from_it_and_never_written() -> None:
    items = table(
        "items",
        {"nr": "int", "net": "int", "Gross": "int", "twice": "int"},
        ("nr",),
        generated=frozenset({"nr", "Gross", "twice"}),
    )
    other = table("items", {"nr": "int", "net": "int", "gross": "int"}, ("nr",), store="shop")
    text, config, _ = proposed(items, other)
    assert config.stores["crm"].places["items"].read_only == ("Gross", "twice")
    assert config.stores["shop"].places["items"].read_only == ()
    assert 'read_only = ["Gross", "twice"]  # computed there' in text
    _, config, _ = proposed(other, msgspec.structs.replace(items, relations=Relations()))
    assert config.stores["crm"].places["items"].read_only == ("gross",)


def test_stores_of_one_type_each_are_paired_and_columns_matched_by_name() -> None:
    mailing = table("people", {"EMail": None, "full_name": None, "extra": None}, store="m")
    _, config, undecided = proposed(CRM, mailing)
    assert list(config.types) == ["customers"]
    assert config.stores["m"].places["customers"].fields == {"e_mail": "EMail", "Full Name": "full_name"}
    assert "[stores.m.types.customers] not mapped: extra" in undecided
    assert "[stores.m.types.customers] has no column for: since" in undecided


def test_a_table_that_is_not_called_as_the_type_is_named() -> None:
    people = table("people", {"e_mail": "str"}, ("e_mail",), store="shop", named_by="table")
    _, config, _ = proposed(CRM, people)
    assert config.stores["shop"].places["customers"].options == {"table": "people"}


def test_a_key_without_a_counterpart_is_left_to_do() -> None:
    _, _, undecided = proposed(CRM, table("people", {"who": None}, store="m"))
    (left,) = [point for point in undecided if "TO DO" in point]
    assert (
        left == "[stores.m.types.customers] TO DO: say in `fields` which of its columns is the key's e_mail"
    )


def test_several_types_are_paired_by_name() -> None:
    orders = table("orders", {"no": "int"}, ("no",))
    other = table("Orders", {"No": "int"}, ("No",), store="shop", options={"table": "Orders"})
    _, config, undecided = proposed(CRM, orders, other)
    assert list(config.types) == ["customers", "orders"]
    assert config.stores["shop"].places["orders"].options == {"table": "Orders"}
    assert config.stores["shop"].places["orders"].fields == {"no": "No"}
    assert "[types.customers] found only in crm" in undecided


def test_a_reference_that_no_foreign_key_confirms_in_the_other_store_is_told() -> None:
    customers = table("customers", {"nr": "int", "email": "str"}, ("nr",), store="shop", numbered=True)
    orders = table("orders", {"number": "str", "customer_id": "int"}, ("number",), store="shop")
    _, config, undecided = proposed(CUSTOMERS, ORDERS, customers, orders)
    assert config.stores["shop"].places["customers"].id == "nr"
    assert (
        "[stores.shop.types.orders] customer_id: taken for the nr of customers; if it holds its key:"
        " by_key = ['customer_id']"
    ) in undecided


# -- when a record was changed -----------------------------------------------------------------------------


def test_the_one_column_that_says_when_a_record_was_changed_is_proposed_and_no_field() -> None:
    text, config, undecided = proposed(table("t", {"no": "int", "Updated_At": "datetime"}, ("no",)))
    assert config.stores["crm"].places["t"].changed_at == "Updated_At"
    assert config.types["t"].fields == {"no": "int"}
    assert 'changed_at = "Updated_At"  # guessed' in text
    assert [point for point in undecided if "changed_at = Updated_At" in point]


def test_text_that_reads_like_a_moment_counts_where_no_type_is_declared() -> None:
    found = table(
        "t", {"no": "int", "updated": None}, ("no",), samples=[{"no": 1, "updated": "2024-02-29 10:00:00"}]
    )
    _, config, _ = proposed(found)
    assert config.stores["crm"].places["t"].changed_at == "updated"


def test_of_two_none_is_taken_and_they_are_named() -> None:
    _, config, undecided = proposed(
        table("t", {"no": "int", "updated_at": "datetime", "modified_at": "datetime"}, ("no",))
    )
    assert config.stores["crm"].places["t"].changed_at is None
    assert config.types["t"].fields == {"no": "int", "updated_at": "datetime", "modified_at": "datetime"}
    assert undecided == ["[stores.crm.types.t] changed_at: could be updated_at or modified_at: not taken"]


def test_what_is_no_moment_is_not_taken() -> None:
    _, config, undecided = proposed(table("t", {"no": "int", "updated_at": "str"}, ("no",)))
    assert config.stores["crm"].places["t"].changed_at is None
    assert undecided == ["[stores.crm.types.t] changed_at: could be updated_at: not taken"]


# -- what is said ------------------------------------------------------------------------------------------


def test_what_was_guessed_is_marked() -> None:
    text, _, undecided = proposed(look([{"email": "a", "n": "1"}]))
    assert 'n = "int"  # guessed' in text
    assert "[types.contact] fields: the types of email, n are guessed" in undecided


def test_capture_is_offered_in_a_comment_and_never_switched_on() -> None:
    ways = [
        Way("wal", "every change can be told by the log", ("a", "b")),
        Way("triggers", "so it can by triggers"),
        Way("guessing", "which is told no more"),
    ]
    text, config, undecided = proposed(CRM, crm={"ways": ways})
    first = 'capture: every change can be told by the log ("wal"), but not as it is: a; b'
    second = 'capture: so it can by triggers ("triggers"); to set it up: evsync capture install crm'
    assert f"# {first}\n# {second}\n" in text
    assert undecided == [f"[stores.crm] {first}", f"[stores.crm] {second}"]
    assert config.stores["crm"].options == {}


def test_what_is_left_out_is_told_with_its_reason() -> None:
    left_out = {"totals": "a view", "sums": "a view", "secret": "no right to read it"}
    _, _, undecided = proposed(CRM, crm={"left_out": left_out})
    assert undecided == [
        "[stores.crm] left out: totals, sums (a view)",
        "[stores.crm] left out: secret (no right to read it)",
    ]


def test_what_cannot_be_created_is_told() -> None:
    text, _, undecided = proposed(CRM, to_come(CRM), out={"no_creation": "no right"})
    assert undecided == ["[stores.out] what is not there yet cannot be created: no right"]
    assert "# what is not there yet cannot be created: no right" in text


def test_a_password_out_of_the_environment_is_named_but_not_told() -> None:
    text, _, undecided = proposed(CRM, crm={"variables": {"EVSYNC_CRM_PASSWORD": "geheim"}})
    assert undecided == [
        "[stores.crm] url: set the environment variable EVSYNC_CRM_PASSWORD to the password, as it stood in the URL"
    ]
    assert "geheim" not in text
