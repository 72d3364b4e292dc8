"""Stores with filters, one-way fields and conversions: whatever is edited where, they come to rest and agree."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import Row, at_rest, entry, held, memory, placed, together

from accessors.memory import MemoryAccessor
from evsync import Data, Store

FIELDS = {"id": "str", "n": "int", "name": "str", "total": "int"}
STATUS = {"A": "x", "B": "y", "C": "z"}


class Computing(MemoryAccessor):
    """Computes the total by itself when it writes n."""

    def add(self, store: Store, data: Data) -> Data:
        return super().add(store, _computed(data))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        return super().update(store, _computed(data), old)


def _computed(data: Data) -> Data:
    if isinstance(data.fields.get("n"), int):
        data.fields["total"] = data.fields["n"] * 10
    return data


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["plain", "few", "shop", "own"]),
        st.sampled_from(["a", "b"]),
        st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {}, optional={"n": st.integers(0, 3), "name": st.sampled_from(sorted(STATUS))}
            ),
        ),
        st.sampled_from(["", "", "ingest", "sync"]),
    ),
    max_size=12,
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(EDITS)
def test_stores_with_selections_come_to_rest_and_agree(edits: list[tuple[str, str, Row | None, str]]) -> None:
    stores: dict[str, Store] = {
        "plain": memory("plain"),
        "few": placed(memory("few"), where={"n": {"min": 2}}),
        "shop": placed(memory("shop", accessor=Computing()), read_only=("total",)),
        "own": placed(memory("own"), write_only=("n",), convert={"name": STATUS}),
    }
    with together(*stores.values(), fields=FIELDS) as sync:
        for name, key, edit, then in edits:
            records = held(stores[name])
            if edit is None:
                records.pop((key,), None)
            else:
                if "name" in edit and name != "own":
                    edit = {**edit, "name": STATUS[edit["name"]]}
                records[key,] = {"id": key, **records.get((key,), {}), **edit}
            if then == "ingest":
                sync.ingest([name], allow_deletes=True)
            elif then == "sync":
                sync.sync(allow_deletes=True)
        for _ in range(4):
            report = sync.sync(allow_deletes=True)
            assert all(entry(report["replay"], name)["failed"] == 0 for name in stores)
        assert at_rest(sync)
        assert sync.verify()["ok"]
        for key in ("a", "b"):
            known = canonical_of(sync, key)
            for name, store in stores.items():
                found = held(store).get((key,))
                assert found == seen_by(name, known, found), (name, key)
                [replica] = (
                    [r for r in sync.show("thing", key)["replicas"] if r["store"] == name]
                    if known
                    else [None]
                )
                assert replica is None or replica["in_step"], (name, key)
        assert all(sync.diff(name) == {"differences": []} for name in stores)


def canonical_of(sync: Any, key: str) -> Row | None:
    journal = sync.journal()
    head = journal.heads("thing", [key]).get(key)
    found: Row | None = None if head is None else head.fields
    return found


def seen_by(name: str, known: Row | None, found: Row | None) -> Row | None:
    """What the store should hold of a canonical record."""
    if known is None or (name == "few" and not (known.get("n") or 0) >= 2):
        return None
    if name == "shop" and found is not None:  # its own total stands
        return {
            **{n: v for n, v in known.items() if n != "total"},
            **{n: v for n, v in found.items() if n == "total"},
        }
    if name == "own" and "name" in known:
        return {**known, "name": {canonical: local for local, canonical in STATUS.items()}[known["name"]]}
    return known
