"""Which of a store's columns hold which canonical fields."""

from __future__ import annotations

from typing import Any

import pytest

from evsync.binding import (
    Binding,
    Description,
    PlaceSpec,
    TypeSpec,
    check_types,
    local_key,
    nearest,
    offered,
    resolve,
)
from evsync.errors import ConfigError

TYPES = {"email": "str", "name": "str", "credit": "decimal"}
DECLARED = TypeSpec("contact", ("email",), TYPES)
OPEN = TypeSpec("contact", ("email",))
COLUMNS = Description(
    {"id": "int", "email": "str", "full_name": "str", "credit": None, "note": "str"}, ("id",)
)


def resolved(spec: TypeSpec = DECLARED, described: Description | None = COLUMNS, **place: Any) -> Binding:
    return resolve("crm", spec, PlaceSpec(**place), described, TYPES)


def mapped(binding: Binding) -> dict[str, str]:
    return {field.name: field.local for field in binding.fields}


@pytest.mark.parametrize(
    ("place", "described", "expected"),
    [
        # what the store has and the type knows; the rest is not ours
        ({}, COLUMNS, {"email": "email", "credit": "credit"}),
        (
            {"fields": {"name": "full_name"}},
            COLUMNS,
            {"email": "email", "credit": "credit", "name": "full_name"},
        ),
        ({"only": ("credit",)}, COLUMNS, {"email": "email", "credit": "credit"}),  # the key always
        (
            {"only": ("name",), "fields": {"name": "full_name"}},
            COLUMNS,
            {"email": "email", "name": "full_name"},
        ),
        ({"ignore": ("credit",)}, COLUMNS, {"email": "email"}),
        # ignored by the canonical name or by the store's own
        (
            {"ignore": ("name",), "fields": {"name": "full_name"}},
            COLUMNS,
            {"email": "email", "credit": "credit"},
        ),
        (
            {"ignore": ("full_name",), "fields": {"name": "full_name"}},
            COLUMNS,
            {"email": "email", "credit": "credit"},
        ),
        # a store that does not exist yet will be created with all fields
        ({}, None, {"email": "email", "name": "name", "credit": "credit"}),
        (
            {"fields": {"name": "full_name"}},
            None,
            {"email": "email", "name": "full_name", "credit": "credit"},
        ),
        ({"only": ("email",)}, None, {"email": "email"}),
        # two columns may swap their names
        (
            {"fields": {"name": "credit", "credit": "name"}},
            Description({"email": None, "name": None, "credit": None}),
            {"email": "email", "name": "credit", "credit": "name"},
        ),
    ],
)
def test_which_columns_hold_which_fields(
    place: dict[str, Any], described: Description | None, expected: dict[str, str]
) -> None:
    assert mapped(resolved(described=described, **place)) == expected


def test_fields_are_in_order_of_their_canonical_names_and_carry_their_types() -> None:
    binding = resolved(fields={"name": "full_name"})
    assert binding.names == ("credit", "email", "name")
    assert binding.locals == ("credit", "email", "full_name")
    assert binding.local_types == {"credit": "decimal", "email": "str", "full_name": "str"}
    assert binding.local_of["name"] == "full_name"


def test_the_key_keeps_its_own_order() -> None:
    spec = TypeSpec("contact", ("name", "email"), TYPES)
    binding = resolve("crm", spec, PlaceSpec(fields={"name": "full_name"}), COLUMNS, TYPES)
    assert binding.key_locals == ("full_name", "email")
    assert local_key(binding, ["Ann", "a@x"]) == {"full_name": "Ann", "email": "a@x"}


@pytest.mark.parametrize(
    ("spec", "place", "message", "hint"),
    [
        (DECLARED, {"fields": {"nane": "full_name"}}, "field 'nane' is not declared", "did you mean 'name'?"),
        (DECLARED, {"only": ("phone",)}, "field 'phone' is not declared", "declare it, or remove it"),
        (DECLARED, {"fields": {"name": "fullname"}}, "no column 'fullname'", "did you mean 'full_name'?"),
        (
            DECLARED,
            {"fields": {"name": "xyz"}},
            "no column 'xyz'",
            "it has: id, email, full_name, credit, note",
        ),
        (DECLARED, {"only": ("name",)}, "no column 'name'", "did you mean 'full_name'?"),
        (
            DECLARED,
            {"fields": {"email": "e_mail"}},
            "no column 'e_mail', which the key field 'email' needs",
            "did you mean 'email'?",
        ),
        (OPEN, {"only": ("creditt",)}, "no column 'creditt'", "did you mean 'credit'?"),
        (DECLARED, {"id": "ident"}, "id names the column 'ident', which is not there", "it has: "),
        (DECLARED, {"changed_at": "notes"}, "changed_at names the column 'notes'", "did you mean 'note'?"),
        (DECLARED, {"changed_by": "who"}, "changed_by names the column 'who'", "it has: "),
    ],
)
def test_what_does_not_fit_the_store_is_named(
    spec: TypeSpec, place: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(spec, **place)
    assert "store 'crm', type 'contact'" in caught.value.message
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)


def test_a_store_that_will_be_created_gets_the_columns_that_say_when_and_by_whom() -> None:
    binding = resolved(described=None, changed_at="updated_at", changed_by="updated_by", id="nr")
    assert (binding.changed_at, binding.changed_by, binding.id) == ("updated_at", "updated_by", "nr")


@pytest.mark.parametrize(
    ("spec", "place", "expected"),
    [
        # a generated number is the store's own business, unless somebody names it
        (OPEN, {}, {"email": "str", "full_name": "str", "credit": None, "note": "str"}),
        (OPEN, {"only": ("id", "note")}, {"id": "int", "email": "str", "note": "str"}),
        (OPEN, {"fields": {"number": "id"}}, {"number": "int", "email": "str", "full_name": "str", "credit": None, "note": "str"}),
        (TypeSpec("contact", ("id",)), {}, {"id": "int", "email": "str", "full_name": "str", "credit": None, "note": "str"}),
        (OPEN, {"id": "note"}, {"id": "int", "email": "str", "full_name": "str", "credit": None}),
        # so are the columns that say when and by whom
        (OPEN, {"changed_at": "note", "changed_by": "credit"}, {"email": "str", "full_name": "str"}),
        (OPEN, {"ignore": ("note", "credit")}, {"email": "str", "full_name": "str"}),
        (OPEN, {"fields": {"name": "full_name"}, "ignore": ("name",)}, {"email": "str", "credit": None, "note": "str"}),
        (OPEN, {"fields": {"name": "full_name"}}, {"email": "str", "name": "str", "credit": None, "note": "str"}),
        (OPEN, {"fields": {"name": "full_name"}, "only": ("name",)}, {"email": "str", "name": "str"}),
    ],
)  # fmt: skip
def test_what_a_store_offers_by_itself(
    spec: TypeSpec, place: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert offered(spec, PlaceSpec(**place), COLUMNS) == expected


def test_a_primary_key_of_several_columns_is_data() -> None:
    two = Description({"a": "int", "b": "int", "email": "str"}, ("a", "b"))
    assert set(offered(OPEN, PlaceSpec(), two)) == {"a", "b", "email"}


BASE: dict[str, Any] = {"fields": {"name": "full_name"}, "written": {"table": "t", "null": "-"}}
WIDE = Description({"id": None, "nr": None, "email": None, "full_name": None, "note": None, "credit": None})


@pytest.mark.parametrize(
    "place",
    [
        {**BASE, "fields": {"name": "note"}},
        {**BASE, "only": ("email",)},
        {**BASE, "ignore": ("credit",)},
        {**BASE, "id": "nr"},
        {**BASE, "written": {"table": "u", "null": "-"}},
        {**BASE, "written": {"table": "t"}},
    ],
)
def test_another_mapping_has_another_digest(place: dict[str, Any]) -> None:
    assert resolved(described=WIDE, **place).digest != resolved(described=WIDE, **BASE).digest


def test_another_key_or_value_type_has_another_digest() -> None:
    base = resolve("crm", DECLARED, PlaceSpec(), WIDE, TYPES)
    key = resolve("crm", TypeSpec("contact", ("credit",), TYPES), PlaceSpec(), WIDE, TYPES)
    type = resolve("crm", DECLARED, PlaceSpec(), WIDE, {**TYPES, "credit": "str"})
    assert len({base.digest, key.digest, type.digest}) == 3


@pytest.mark.parametrize(
    "place",
    [
        {"written": {"null": "-", "table": "t"}, "fields": {"name": "full_name"}},
        {**BASE, "changed_at": "note", "changed_by": "nr"},  # never compared, so nothing else is read
        {**BASE, "only": ("name", "credit", "email")},
        {**BASE, "only": ("credit", "email", "name")},
    ],
)
def test_what_reads_the_same_content_has_the_same_digest(place: dict[str, Any]) -> None:
    assert resolved(described=WIDE, **place).digest == resolved(described=WIDE, **BASE).digest


def test_the_order_of_columns_and_types_does_not_matter() -> None:
    backwards = Description(dict(reversed(WIDE.columns.items())))
    types = dict(reversed(TYPES.items()))
    assert (
        resolve("crm", DECLARED, PlaceSpec(**BASE), backwards, types).digest
        == resolved(described=WIDE, **BASE).digest
    )


def test_secrets_that_were_filled_in_are_not_part_of_what_is_remembered() -> None:
    binding = resolved(options={"table": "s3cret"}, written={"table": "${TABLE}"})
    assert "s3cret" not in str(binding.as_document())


def test_an_unknown_value_type_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="field 'credit' has the unknown type 'decimel'") as caught:
        check_types("here", {"name": "str", "credit": "decimel"})
    assert caught.value.hint == "did you mean 'decimal'?"
    with pytest.raises(ConfigError) as caught:
        check_types("here", {"name": "qqq"})
    assert caught.value.hint.startswith("the types are: str, int")


def test_the_nearest_name_or_nothing() -> None:
    assert nearest("nmae", ["name", "email"]) == "did you mean 'name'?"
    assert nearest("xyz", ["name", "email"]) == ""


def test_a_store_that_cannot_say_what_it_has_is_taken_at_the_configurations_word() -> None:
    place = PlaceSpec(changed_at="updated_at", changed_by="updated_by")
    binding = resolve("crm", DECLARED, place, None, TYPES, silent=True)
    assert (binding.changed_at, binding.changed_by) == ("updated_at", "updated_by")
