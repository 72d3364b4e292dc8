"""Which tables a foreign key may change by itself."""

from __future__ import annotations

import pytest

from accessors.mysql_cascades import Cascades, Reference


def table(name: str) -> tuple[str, str]:
    return "d", name


def reference(
    child: str,
    column: str,
    parent: str,
    on_delete: str = "RESTRICT",
    on_update: str = "RESTRICT",
    referred: str = "id",
) -> Reference:
    return Reference(table(child), (column,), table(parent), (referred,), on_delete, on_update)


CHAIN = [
    reference("team", "firm", "firm", "CASCADE", "CASCADE"),
    reference("person", "team", "team", "SET NULL"),
    reference("desk", "person", "person", "CASCADE", "CASCADE"),
    reference("phone", "firm", "team", "CASCADE", "CASCADE", referred="firm"),
    reference("bill", "firm", "firm"),
]


@pytest.mark.parametrize(
    ("deleted", "touched"),
    [
        ("firm", {"team", "person", "phone"}),  # of a person only the team is set to null: its desk stays
        ("team", {"person", "phone"}),
        ("person", {"desk"}),
        ("desk", set()),
        ("bill", set()),
    ],
)
def test_a_deletion(deleted: str, touched: set[str]) -> None:
    every = [table(name) for name in ("firm", "team", "person", "desk", "phone", "bill")]
    assert Cascades(CHAIN, every).by_delete(table(deleted)) == {table(name) for name in touched}


def test_an_update_acts_if_it_changes_what_is_referred_to() -> None:
    cascades = Cascades(CHAIN, [table(name) for name in ("team", "person", "desk", "phone")])
    firm = table("firm")
    assert cascades.by_update(firm, {"id": 1, "name": "a"}, {"id": 2, "name": "a"}) == {
        table("team"),
        table("phone"),
    }
    assert not cascades.by_update(firm, {"id": 1, "name": "a"}, {"id": 1, "name": "b"})
    assert not cascades.by_update(firm, {"id": 1}, {"id": 1})
    assert not cascades.by_update(table("team"), {"id": 1, "firm": 1}, {"id": 2, "firm": 1})


def test_only_what_may_touch_a_table_that_is_followed_is_looked_at() -> None:
    assert Cascades(CHAIN, [table("desk")]).parents == {table("person")}
    assert Cascades(CHAIN, [table("person")]).parents == {table("firm"), table("team")}
    assert Cascades(CHAIN, [table("bill")]).parents == frozenset()


def test_a_circle_comes_to_an_end() -> None:
    circle = [
        reference("a", "b", "b", "CASCADE"),
        reference("b", "a", "a", "CASCADE"),
        reference("a", "up", "a", "CASCADE"),
    ]
    cascades = Cascades(circle, [table("a"), table("b")])
    assert cascades.by_delete(table("a")) == {table("a"), table("b")}
    assert cascades.all_of(table("b")) == {table("a"), table("b")}
