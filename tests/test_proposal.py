"""What `evsync init` guesses, and that what it writes is a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.config import Config, parse_config
from evsync.proposal import TEMPLATE, Look, key_of, propose, type_of

TYPES = [
    (["1", "-20", "0"], "int"),
    (["01", "2"], "str"),  # leading zeros are part of a code
    (["+1"], "str"),
    (["-0"], "str"),
    (["1" * 19], "str"),
    (["1", "2.5"], "float"),
    (["1.10"], "decimal"),  # a float would write 1.1
    (["1.5", "1.50"], "decimal"),
    (["1e5"], "str"),
    (["1", ""], "str"),
    (["1", None], "int"),
    (["true", "false"], "str"),
    (["2024-02-29"], "date"),
    (["2023-02-29"], "str"),
    (["2024-02-29", "soon"], "str"),
    (["2024-02-29T10:00:00Z", "2024-02-29 10:00"], "datetime"),
    (["2024-02-29", "2024-02-29T10:00:00"], "str"),
    (["Ann"], "str"),
    ([None], "str"),
    ([], "str"),
    ([1, 2.5], "float"),
    ([True, False], "bool"),
    ([1, "x"], "str"),
    ([True, "x"], "json"),
    ([{"a": 1}], "json"),
]


@pytest.mark.parametrize(("values", "expected"), TYPES)
def test_types_are_guessed_with_care(values: list[Any], expected: str) -> None:
    assert type_of(values) == expected


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


CRM = Look(
    "crm", "sqlite:crm.db", "customers", {"table": "customers"}, {"e_mail": "str", "Full Name": "str", "since": "date"},
    ("e_mail",),
)  # fmt: skip


def proposed(*looks: Look) -> tuple[str, Config]:
    text = propose(looks)
    return text, parse_config(text)


def test_one_store() -> None:
    _, config = proposed(CRM)
    assert config.types["customers"].key == ("e_mail",)
    assert config.types["customers"].fields == {"e_mail": "str", "Full Name": "str", "since": "date"}
    assert config.stores["crm"].url == "sqlite:crm.db"
    assert config.stores["crm"].places["customers"].options == {"table": "customers"}


def test_a_target_that_is_not_there_gets_the_same_type() -> None:
    text, config = proposed(CRM, Look("out", "csv:out.csv", "customers"))
    assert "# not there yet" in text
    assert list(config.stores["out"].places) == ["customers"]


def test_stores_of_one_type_each_are_paired_and_columns_matched_by_name() -> None:
    mailing = Look("m", "csv:m.csv", "people", {}, {"EMail": None, "full_name": None, "extra": None})
    text, config = proposed(CRM, mailing)
    assert list(config.types) == ["customers"]
    assert config.stores["m"].places["customers"].fields == {"e_mail": "EMail", "Full Name": "full_name"}
    assert "# not mapped: extra" in text


def test_a_key_without_a_counterpart_is_left_to_do() -> None:
    text, _ = proposed(CRM, Look("m", "csv:m.csv", "people", {}, {"who": None}))
    assert "TO DO" in text
    assert "e_mail" in text.split("TO DO")[1]


def test_several_types_are_paired_by_name() -> None:
    orders = Look("crm", "sqlite:crm.db", "orders", {"table": "orders"}, {"no": "int"}, ("no",))
    other = Look("shop", "sqlite:shop.db", "Orders", {"table": "Orders"}, {"No": "int"}, ("No",))
    _, config = proposed(CRM, orders, other)
    assert list(config.types) == ["customers", "orders"]
    assert config.stores["shop"].places["orders"].options == {"table": "Orders"}
    assert config.stores["shop"].places["orders"].fields == {"no": "No"}


@pytest.mark.parametrize(
    "name", ['a "quoted" one', "back\\slash", "tab\there", "new\nline", "naïve", "a.b", "\x7f", "#"]
)
def test_any_name_survives_being_written(name: str) -> None:
    _, config = proposed(Look("s", "csv:s.csv", name, {}, {name: "str"}, (name,)))
    assert config.types[name].key == (name,)
    assert config.types[name].fields == {name: "str"}


def test_what_was_guessed_is_marked() -> None:
    text, _ = proposed(look([{"email": "a", "n": "1"}]))
    assert 'n = "int"  # guessed' in text


def test_the_template_is_valid_and_so_it_is_with_everything_taken_in() -> None:
    assert parse_config(TEMPLATE).stores == {}
    taken_in = "\n".join(
        line.removeprefix("# ")
        for line in TEMPLATE.splitlines()
        if not line.startswith(("# evsync.toml", "# from"))
    )
    assert list(parse_config(taken_in).stores) == ["crm", "mailing"]
