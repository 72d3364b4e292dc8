"""Records known by other fields than their key, when a store shows them for the first time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import canonical, did, dump, entry, events, held, memory, put, rows, synchronizer

from evsync.binding import PlaceSpec, TypeSpec
from evsync.config import parse_config
from evsync.errors import ConfigError
from evsync.projections import matching
from evsync.store import Store
from evsync.synchronizer import Synchronizer

FIELDS = {"id": "str", "email": "str", "name": "str", "born": "int"}
MATCH = (("email",), ("name", "born"))


def person(
    id: str, email: str | None = None, name: str | None = None, born: int | None = None
) -> dict[str, Any]:
    return {"id": id, "email": email, "name": name, "born": born}


ANN, BEN = person("1", "ann@x", "Ann", 1970), person("2", "ben@x", "Ben", 1980)


def linked(*stores: Store, match: Any = MATCH, **more: Any) -> Synchronizer:
    return Synchronizer(
        stores, [TypeSpec("thing", ("id",), FIELDS, {}, match)], more.pop("journal", None), **more
    )


def quarantine(sync: Synchronizer) -> list[tuple[Any, ...]]:
    return sync.journal().connection.execute("SELECT id, error FROM quarantine ORDER BY id").fetchall()


def test_without_match_a_record_of_another_key_is_another_record() -> None:
    with linked(memory("one", ANN), memory("two", {**ANN, "id": "a"}), match=()) as sync:
        assert did(sync.ingest(), "two") == {"created": 1}


def test_a_record_is_known_by_the_first_list_that_finds_one() -> None:
    one = memory("one", ANN, BEN)
    two = memory(
        "two", person("a", "ann@x", "Anne", 1970), person("b", None, "Ben", 1980), person("c", "cem@x")
    )
    with linked(one, two) as sync:
        report = sync.ingest()
        assert did(report, "two") == {"adopted": 2, "created": 1, "conflicts": 2}
        assert entry(report, "two")["adoption"] == {
            "matched": 0, "differ": 2, "new": 1, "missing": 0, "ambiguous": 0,
        }  # fmt: skip
        assert canonical(sync, "1") == ANN  # `adopt`: what is in the journal stays
        sync.sync()
        assert rows(one) == rows(two) == [ANN, BEN, person("c", "cem@x")]
        before = dump(sync)
        assert did(sync.sync(dry_run=True)["ingest"], "two") == {"unchanged": 3}
        assert dump(sync) == before


def test_it_works_between_two_new_stores_in_one_run_and_in_a_dry_run(tmp_path: Path) -> None:
    path = tmp_path / "evsync.db"
    with linked(memory("one", ANN, BEN), memory("two", {**ANN, "id": "a"}), journal=path) as sync:
        dry = sync.sync(dry_run=True)
        assert entry(dry["ingest"], "two")["adopted"] == 1
        assert not path.exists()
        assert [(s["action"], s["key"]) for s in entry(dry["replay"], "two")["plan"]] == [
            ("update", "1"), ("create", "2"),
        ]  # fmt: skip


def test_a_stores_own_id_is_kept_and_later_changes_find_the_record(tmp_path: Path) -> None:
    one = memory("one", {**ANN, "id": "ann"})
    two = memory("two", {**ANN, "id": "a"}, assign_ids=True)
    with linked(one, two) as sync:
        sync.sync()
        assert {r["store"]: r["id"] for r in sync.show("thing", "ann")["replicas"]}["two"] == 1
        held(two)[1]["born"] = 1971
        sync.sync()
        assert rows(one) == rows(two) == [{**ANN, "id": "ann", "born": 1971}]
        assert len(held(two)) == 1


@pytest.mark.parametrize("missing", [{"email": None}, {"email": "ANN@x"}])
def test_null_matches_nothing_and_only_the_same_value_does(missing: dict[str, Any]) -> None:
    with linked(
        memory("one", {**ANN, **missing}),
        memory("two", {**ANN, "id": "a", "email": None}),
        match=(("email",),),
    ) as sync:
        assert did(sync.ingest(), "two") == {"created": 1}


def test_a_list_with_a_field_that_the_store_does_not_map_is_passed_over() -> None:
    one = memory("one", ANN)
    place = PlaceSpec(only=("id", "name", "born"))
    with linked(one, memory("two", {"id": "a", "name": "Ann", "born": 1970}, place=place)) as sync:
        assert did(sync.ingest(), "two") == {"adopted": 1, "conflicts": 1}


def test_who_stands_under_its_own_key_or_is_held_already_is_no_candidate() -> None:
    one = memory("one", ANN, BEN)
    two = memory("two", ANN, person("x", "ann@x"))
    with linked(one, two) as sync:
        assert did(sync.ingest(), "two") == {"adopted": 1, "created": 1}
        held(two)["y",] = person("y", "ann@x")
        assert did(sync.ingest(), "two") == {"created": 1, "unchanged": 2}


def test_a_later_list_decides_between_several() -> None:
    one = memory("one", person("1", "us@x", "Ann", 1970), person("2", "us@x", "Ben", 1980))
    with linked(one, memory("two", person("b", "us@x", "Ben", 1980))) as sync:
        sync.sync()
        assert events(sync, "op", "key", store="two") == [("update", "2")]


def test_a_row_that_may_be_several_records_is_put_aside_until_it_is_clear() -> None:
    twins = [person("1", "us@x", "Ann"), person("2", "us@x", "Ben")]
    one, two = memory("one", *twins), memory("two", person("b", "us@x"), BEN | {"id": "9", "email": "z"})
    with linked(one, two) as sync:
        report = sync.sync()
        assert did(report["ingest"], "two") == {"created": 1, "quarantined": 1}
        assert entry(report["ingest"], "two")["adoption"]["ambiguous"] == 1
        assert report.exit_code == 4
        [(id, reason)] = quarantine(sync)
        assert (id, reason) == ("b", "it may be any of the records '1', '2': nobody can tell which")
        assert sorted(row["id"] for row in rows(two)) == ["9", "b"]  # neither was written beside it
        again = sync.sync()
        assert did(again["ingest"], "two") == {"quarantined": 1, "unchanged": 1}
        assert len(quarantine(sync)) == 1
        held(one)["1",]["email"] = "ann@x"
        sync.sync()
        assert quarantine(sync) == []
        assert sorted(row["id"] for row in rows(two)) == ["1", "2", "9"]
        assert rows(one) == rows(two)
        assert events(sync, "op", op="delete") == []


def test_two_rows_that_may_be_one_record_are_both_put_aside() -> None:
    one, two = memory("one", ANN), memory("two", person("a", "ann@x"), person("b", None, "Ann", 1970))
    with linked(one, two) as sync:
        assert did(sync.sync()["ingest"], "two") == {"quarantined": 2}
        reason = "the rows 'a', 'b' may all be the record '1': nobody can tell which"
        assert quarantine(sync) == [("a", reason), ("b", reason)]
        assert sorted(row["id"] for row in rows(two)) == ["a", "b"]
        del held(two)["b",]
        assert did(sync.ingest(), "two") == {"adopted": 1, "conflicts": 1}
        assert quarantine(sync) == []


def test_more_records_than_fit_into_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "BATCH", 7)
    people = [person(str(number), f"{number}@x") for number in range(50)]
    one, two = (
        memory("one", *people),
        memory("two", *({**row, "id": f"z{row['id']}"} for row in reversed(people))),
    )
    with linked(one, two) as sync:
        assert did(sync.ingest(), "two") == {"adopted": 50, "conflicts": 50}


def test_a_record_deleted_in_the_journal_is_no_candidate() -> None:
    one, two = memory("one", ANN, BEN), memory("two")
    with linked(one, two) as sync:
        sync.ingest(["one"])
        put(one, BEN)
        sync.ingest(["one"])
        put(two, {**ANN, "id": "a"})
        assert did(sync.ingest(["two"]), "two") == {"created": 1}


def test_two_ways_of_writing_a_number_are_one_value(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,price\n1,1.50\n")
    (tmp_path / "two.csv").write_text("id,price\na,1.5\n")
    config = """
        [types.thing]
        key = ["id"]
        match = [["price"]]
        fields = { id = "str", price = "decimal" }
        [stores.one]
        url = "csv:one.csv"
        [stores.one.types.thing]
        [stores.two]
        url = "csv:two.csv"
        [stores.two.types.thing]
        """
    with synchronizer(tmp_path, config) as sync:
        assert did(sync.ingest(), "two")["adopted"] == 1


# -- configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('"email"', "'match' must be a list of lists of fields"),
        ('["email"]', "'match' must be a list of lists of fields"),
        ("[[1]]", "'match' must be a list of lists of fields"),
        ("[]", "'match' is empty"),
        ("[[]]", "has an empty list in it"),
        ('[["mail"]]', "'match': 'mail' is no field of 'thing'"),
    ],
)
def test_lists_that_cannot_match_are_refused(written: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        parse_config(f'[types.thing]\nkey = ["id"]\nfields = {{ email = "str" }}\nmatch = {written}')


def test_a_field_that_no_store_has_is_refused_once_the_stores_are_asked() -> None:
    one = memory("one", ANN)
    spec = TypeSpec("thing", ("id",), None, {}, (("phone",),))
    with (
        Synchronizer([one], [spec], None) as sync,
        pytest.raises(ConfigError, match="'phone', which no store has"),
    ):
        sync.ingest()
