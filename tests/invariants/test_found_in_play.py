"""What random play found, told plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from projects import FIELDS, canonical, content, did, held, make, memory, put, sql, together

from accessors.memory import MemoryAccessor
from evsync import Data, Store
from evsync.binding import PlaceSpec
from evsync.errors import Retry
from evsync.projections.merge import Rules


class Busy(MemoryAccessor):
    """Takes nothing as long as it is busy."""

    busy = True

    def add(self, store: Store, data: Data) -> Data:
        if self.busy:
            raise Retry("not now")
        return super().add(store, data)


def test_a_failure_does_not_wait_for_a_clock_that_was_years_ahead(noon: Any) -> None:
    accessor = Busy()
    left, right = memory("left", {"id": "a", "n": "1"}), memory("right", accessor=accessor)
    with together(left, right, fields={"id": "str", "n": "str"}) as sync:
        noon.move_to("2051-01-31T12:00:00Z")
        assert did(sync.sync()["replay"], "right") == {"failed": 1}
        accessor.busy = False
        noon.move_to("2026-01-31T12:00:00Z")
        assert did(sync.sync()["replay"], "right") == {"created": 1}
        assert list(held(right).values()) == [{"id": "a", "n": "1"}]


def test_a_table_taken_back_to_a_record_without_a_field_has_not_changed_it(tmp_path: Path) -> None:
    """Every column is written, one of them with nothing: the null that the table makes of it is no change."""
    sql(tmp_path / "t.db", "CREATE TABLE thing (nr INTEGER PRIMARY KEY, id TEXT, name TEXT, n INTEGER)")
    table = Store("table", "sqlite:t.db", places={"thing": PlaceSpec()}, root=tmp_path)
    web = memory("web", {"id": "a", "name": "Ann"})
    with together(web, table, fields={"id": "str", "name": "str", "n": "int"}) as sync:
        sync.sync()
        sql(tmp_path / "t.db", "UPDATE thing SET id = 'b', n = 1")
        sync.ingest(["table"])
        sync.replay(["table"], until=1)
        assert sql(tmp_path / "t.db", "SELECT id, name, n FROM thing") == [("a", "Ann", None)]
        assert did(sync.ingest(["table"]), "table") == {"unchanged": 1}


class Deaf(MemoryAccessor):
    """Trims what it is given; takes a change, and the answer gets lost."""

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        trimmed = {name: str(value).strip() for name, value in data.fields.items()}
        super().update(store, Data(data.type, trimmed, id=data.id), old)
        raise Retry("no answer")


def test_a_new_key_whose_answer_was_lost_makes_no_other_record() -> None:
    left = memory(
        "left", {"id": "a", "n": "1", "z": "z"}, {"id": "c", "n": "3"}, {"id": "d", "n": "4"}, assign_ids=True
    )
    right = memory("right", accessor=Deaf())
    with together(left, right, fields={"id": "str", "n": "str", "z": "str"}) as sync:
        sync.sync()
        held(left)[1].update(id="b", n=" 1")
        sync.sync()
        assert ("b",) in held(right)
        assert did(sync.ingest(["right"]), "right") == {"updated": 1, "unchanged": 2}
        assert canonical(sync, "a") == {"id": "b", "n": " 1", "z": "z"}


def test_a_record_in_dispute_that_is_there_again_hides_no_deletion() -> None:
    left = memory("left", {"id": "a", "n": "1"}, {"id": "b", "n": "1"}, {"id": "c", "n": "1"})
    right = memory("right")
    manual = {"thing": Rules(delete="manual")}
    with together(left, right, fields={"id": "str", "n": "str"}, rules=manual) as sync:
        sync.sync()
        held(left)[("a",)]["n"] = "2"
        del held(right)[("a",)]
        sync.ingest()
        held(right)[("a",)] = {"id": "a", "n": "3"}
        del held(right)[("b",)]
        assert did(sync.ingest(["right"]), "right").get("deleted") == 1


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_record_does_not_take_the_key_of_another_in_a_file(tmp_path: Path, kind: str) -> None:
    """The file got a record of that key which nobody has read yet."""
    crm = memory("crm", {"id": "old", "name": "Ann", "n": 1}, assign_ids=True)
    file = make(kind, "file", tmp_path)
    with together(crm, file, fields=FIELDS) as sync:
        sync.sync()
        put(file, {"id": "old", "name": "Ann", "n": 1}, {"id": "new", "name": "Bob", "n": 2})
        held(crm)[1]["id"] = "new"
        sync.ingest(["crm"])
        assert did(sync.replay(["file"]), "file") == {"failed": 1}
        assert sorted(row["id"] for row in content(file)) == ["new", "old"]


def test_an_edit_that_wins_over_a_deletion_before_the_first_replay_keeps_its_record_whole() -> None:
    """Its store was never in line with the journal, so there is no revision to start from."""
    left, right = (
        memory("left", {"id": "a", "n": "1", "z": "z"}),
        memory("right", {"id": "a", "n": "2", "z": "z"}),
    )
    with together(left, right, fields={"id": "str", "n": "str", "z": "str"}) as sync:
        sync.ingest()
        del held(left)[("a",)]
        held(right)[("a",)]["n"] = "3"
        sync.sync(allow_deletes=True)
        assert canonical(sync, "a") == {"id": "a", "n": "3", "z": "z"}
        assert list(held(left).values()) == [{"id": "a", "n": "3", "z": "z"}]
