"""What is listed of failures and quarantined rows."""

from __future__ import annotations

from typing import Any

import pytest
from projects import NOON_MICROS, held, memory, together

from accessors.memory import MemoryAccessor
from evsync.errors import Refused, UsageError
from evsync.journal.journal import Journal
from evsync.journal.troubles import quarantined_as
from evsync.projections.replicas import Quarantined, Replicas, ensure_binding


class Picky(MemoryAccessor):
    """Takes no second thing."""

    def add(self, store: Any, data: Any) -> Any:
        if data.fields["id"] == 2:
            raise Refused("no second thing")
        return super().add(store, data)


def test_a_record_that_fails_is_listed_until_it_is_mended(noon: Any) -> None:
    source = memory("source", {"id": 1}, {"id": 2}, role="source")
    with together(source, memory("picky", accessor=Picky()), fields={"id": "int"}, journal=None) as sync:
        assert list(sync.failures()) == []
        sync.sync()
        [failure] = sync.failures()
        assert failure == {
            "store": "picky", "type": "thing", "key": "2", "seq": 2, "action": "create", "error": "no second thing",
            "attempts": failure["attempts"], "next_try": failure["next_try"], "state": "refused",
        }  # fmt: skip
        assert failure["attempts"] >= 1
        assert failure["next_try"].startswith("2026-01-31T12:0") and failure["next_try"].endswith("Z")
        assert list(sync.failures("picky")) == [failure]
        assert list(sync.failures("source")) == []
        with pytest.raises(UsageError, match="no store 'piky'"):
            sync.failures("piky")


def test_a_row_that_cannot_be_read_is_listed_until_it_is_mended(noon: Any) -> None:
    with together(memory("one", {"id": 1, "n": "x"}), fields={"id": "int", "n": "int"}, journal=None) as sync:
        assert list(sync.quarantine()) == []
        sync.ingest()
        [row] = sync.quarantine("one")
        assert {name: row[name] for name in ("store", "type", "row", "seen_at")} == {
            "store": "one", "type": "thing", "row": {"id": 1, "n": "x"}, "seen_at": "2026-01-31T12:00:00Z",
        }  # fmt: skip
        assert "'x' is not of type int" in row["error"]
        held(sync.stores["one"])[1,]["n"] = 3
        sync.ingest()
        assert list(sync.quarantine()) == []
        with pytest.raises(UsageError, match="no store 'two'"):
            sync.quarantine("two")


def test_a_record_knows_the_rows_that_may_be_it() -> None:
    with Journal.open(None) as journal:
        with journal.write():
            state = ensure_binding(journal, "crm", "contact")
            Replicas(journal, state.id).quarantine(
                [
                    Quarantined("", 7, "{}", "by id", []),
                    Quarantined("", None, "{}", "hidden", ["ann", "ben"]),
                    Quarantined("", "cem", "{}", "by name", []),
                    Quarantined("", None, '{"email":"dan"}', "by key", []),
                ],
                NOON_MICROS,
            )

        def found(key: str, id: int | None = None) -> list[str]:
            return list(quarantined_as(journal, "crm", "contact", key, id, lambda row: row.get("email")))

        assert found("ann", 7) == ["by id", "hidden"]
        assert found("ben", 8) == ["hidden"]
        assert found("cem") == ["by name"]
        assert found("dan") == ["by key"]
        assert found("eve") == []


def test_a_record_tells_that_its_row_cannot_be_read() -> None:
    stores = memory("one", {"id": 1, "n": 1}), memory("two", {"id": 1, "n": 1})
    with together(*stores, fields={"id": "int", "n": "int"}, journal=None) as sync:
        sync.sync()
        assert sync.show("thing", "1")["quarantined"] == []
        held(stores[1])[1,]["n"] = "x"
        sync.ingest()
        [row] = sync.show("thing", "1")["quarantined"]
        assert row["store"] == "two"
