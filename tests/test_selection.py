"""What a place in the configuration may say beyond names of columns, and what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evsync.binding import Description, PlaceSpec, TypeSpec, resolve
from evsync.config import parse_config
from evsync.conversions import load_conversions
from evsync.errors import ConfigError, Unfit
from evsync.selection import select

CONFIG = """
[types.contact]
key = ["email"]
{contract}
{fields}
[stores.crm]
url = "sqlite:crm.db"
[stores.crm.types.contact]
{place}
"""
FIELDS = """[types.contact.fields]
email = "str"
name = "str"
credit = "decimal"
"""


def parsed(place: str = "", fields: str = FIELDS, contract: str = "") -> tuple[TypeSpec, PlaceSpec]:
    config = parse_config(
        CONFIG.format(place=place, fields=fields, contract=contract), environ={"TOWN": "Bern"}
    )
    return config.types["contact"], config.stores["crm"].places["contact"]


def test_a_place_with_all_of_it() -> None:
    spec, place = parsed(
        'where = { name = ["a", "b"], credit = { min = 3 } }\nread_only = ["credit"]\nwrite_only = ["name"]\n'
        '[stores.crm.types.contact.convert]\ncredit = "cents"\nname = { A = "active", I = "inactive" }',
        contract='contract = "freeze"',
    )
    assert spec.contract == "freeze"
    assert place.where == {"name": ["a", "b"], "credit": {"min": 3}}
    assert (place.read_only, place.write_only) == (("credit",), ("name",))
    assert place.convert == {"credit": "cents", "name": {"A": "active", "I": "inactive"}}


def test_a_place_without_any_of_it() -> None:
    spec, place = parsed()
    assert spec.contract == "evolve"
    assert (place.where, place.read_only, place.write_only, place.convert) == ({}, (), (), {})


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        ('where = { nmae = "x" }', "the filter names the unknown field 'nmae'", "did you mean 'name'?"),
        ("where = { credit = { mim = 1 } }", "unknown condition 'mim'", "did you mean 'min'?"),
        ('where = { credit = "much" }', "'much' is not of type decimal", "'decimal'"),
        ("where = { name = [] }", "names no value", "at least one"),
        ('where = { name = "${TOWN}" }', "cannot take a variable", "the value itself"),
        ('where = "name"', "'where' must be a table", ""),
        ('read_only = ["nmae"]', "'read_only' names the unknown field 'nmae'", "did you mean 'name'?"),
        ('write_only = ["email"]', "the key field 'email' cannot be 'write_only'", "both ways"),
        ('read_only = ["email"]', "the key field 'email' cannot be 'read_only'", "both ways"),
        ('read_only = ["name"]\nwrite_only = ["name"]', "'name' is both 'read_only' and 'write_only'", "ignore"),
        ('read_only = "name"', "'read_only' must be a list of texts", 'read_only = ["name"]'),
        ('read_only = ["name", "name"]', "names 'name' twice", ""),
        ('read_only = ["name"]\nignore = ["name"]', "which this store leaves out", "ignore"),
        ('write_only = ["name"]\nonly = ["credit"]', "which this store leaves out", "'write_only'"),
        ('convert = { nmae = "cents" }', "'convert' names the unknown field 'nmae'", "did you mean 'name'?"),
        ('convert = { credit = "cent" }', "unknown conversion 'cent'", "did you mean 'cents'?"),
        ("convert = { credit = 5 }", "neither a name nor a table of values", "A = "),
        ('convert = { name = { A = "x", B = "x" } }', "not one to one: 'A' and 'B' both stand for 'x'", "one of its own"),
        ('convert = { name = { A = "${TOWN}" } }', "cannot take a variable", "the value itself"),
        ('convrt = { name = "cents" }', "unknown key 'convrt'", "did you mean 'convert'?"),
        ('wher = { name = "x" }', "unknown key 'wher'", "did you mean 'where'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(place: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(place)
    assert caught.value.message.startswith("evsync.toml, [stores.crm.types.contact")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "Bern" not in str(caught.value)


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown contract 'frieze'") as caught:
        parsed(contract='contract = "frieze"')
    assert caught.value.hint == "did you mean 'freeze'?"


def test_fields_that_the_stores_will_tell_are_not_judged_beforehand() -> None:
    _, place = parsed('where = { town = "x" }\nread_only = ["total"]', fields="")
    assert (place.where, place.read_only) == ({"town": "x"}, ("total",))


# -- bound to a store -----------------------------------------------------------------------------------

TYPES = {"email": "str", "name": "str", "credit": "decimal", "town": "str"}
COLUMNS = Description(
    {"email": "str", "full_name": "str", "credit": "int", "fax": None},
    ("email",),
    generated=frozenset({"email", "credit"}),
    guessed=frozenset({"fax"}),
)


def selected(described: Description | None = COLUMNS, spec: Any = None, **place: Any) -> Any:
    spec = spec or TypeSpec("contact", ("email",), TYPES)
    at = PlaceSpec(fields={"name": "full_name"}, **place)
    binding = resolve("crm", spec, at, described, TYPES)
    pairs = load_conversions("crm", at.convert, Path())
    return select("crm", spec, at, binding, TYPES, described, pairs)


def test_a_binding_knows_all_of_it() -> None:
    binding = selected(where={"town": "Bern"}, write_only=("name",), convert={"credit": "cents"})
    assert binding.holds({"town": "Bern"})
    assert not binding.holds({"town": "Basel"})
    assert binding.view({"town": "Bern", "name": "Ann"}) == {"name": "Ann"}
    assert binding.view({"town": "Basel", "name": "Ann"}) is None
    assert binding.view(None) is None
    assert binding.unwritten == {"credit"}  # computed there; a key field has to be written all the same
    assert binding.local_types == {"credit": "int", "email": "str", "full_name": "str"}
    assert binding.columns == {"email": "str", "full_name": "str", "credit": "int", "fax": None}
    assert {name: binding.as_document()[name] for name in ("where", "write_only", "convert")} == {
        "where": {"town": {"type": "str", "in": ["Bern"]}}, "write_only": ["name"], "convert": {"credit": "cents"},
    }  # fmt: skip


def test_a_binding_without_any_of_it_has_the_document_it_always_had() -> None:
    document = selected(described=None).as_document()
    assert sorted(document) == ["fields", "id", "key", "options"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"where": {"town": "Bern"}}, False),
        ({"read_only": ("name",)}, False),
        ({"write_only": ("name",)}, False),
        ({"convert": {"credit": "cents"}}, False),
        ({"described": Description({**COLUMNS.columns, "more": "str"})}, True),
    ],
)
def test_what_else_is_read_or_written_has_another_digest(change: dict[str, Any], same: bool) -> None:
    assert (selected(**change).digest == selected().digest) is same


def test_columns_that_are_no_part_of_the_type_stand_behind_the_others() -> None:
    spec = TypeSpec("contact", ("email",), TYPES, contract="quarantine")
    binding = selected(spec=spec)
    assert binding.strange == ("fax",)
    assert binding.locals == ("credit", "email", "full_name", "fax")
    assert binding.names == ("credit", "email", "name")
    assert selected(spec=spec, ignore=("fax",)).strange == ()
    assert selected(spec=spec, only=("name",)).strange == ()
    assert selected(spec=spec, changed_by="fax").strange == ()
    assert selected().strange == ()


@pytest.mark.parametrize("option", ["read_only", "write_only"])
def test_a_field_that_the_store_does_not_have_does_not_fit(option: str) -> None:
    with pytest.raises(Unfit, match="names 'town', which is no field of this store"):
        selected(**{option: ("town",)})
    with pytest.raises(Unfit, match="'convert' names 'town'"):
        selected(convert={"town": {"A": "x"}})
