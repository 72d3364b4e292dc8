"""Writes the journal that `test_formats.py` opens for ever after: run once when a format is released.

    python tests/journal/formats/make.py

It makes `format<N>.db`, N being the current format, and the log that it must show beside it. A file that is
there already is left alone: a format that was released does not change.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from freezegun import freeze_time

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from projects import held, memory, thing  # noqa: E402

from evsync.data import Data  # noqa: E402
from evsync.journal.schema import FORMAT  # noqa: E402
from evsync.projections.merge import Rules  # noqa: E402
from evsync.synchronizer import Synchronizer  # noqa: E402

FIELDS = {
    "id": "str", "text": "str", "whole": "int", "ratio": "float", "price": "decimal", "on": "bool", "day": "date",
    "hour": "time", "moment": "datetime", "ident": "uuid", "blob": "bytes", "tree": "json",
}  # fmt: skip

ALL: dict[str, Any] = {
    "id": "all",
    "text": 'Zürich\n"quoted" ☃\U0001f600\0',
    "whole": 2**70,
    "ratio": 0.1,
    "price": Decimal("1.50"),
    "on": True,
    "day": date(2024, 2, 29),
    "hour": time(23, 59, 59, 999999),
    "moment": datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC),
    "ident": UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "blob": b"\0\xff",
    "tree": {"b": [1, 1.0, None, True], "a": {"": "x"}},
}
ODD: dict[str, Any] = {
    "id": "odd/key %2F", "text": "", "whole": -1, "ratio": float("nan"), "price": Decimal("-0E+3"), "on": False,
    "moment": datetime(2024, 2, 29, 12), "blob": b"", "tree": [],
}  # fmt: skip


def fill(synchronizer: Synchronizer, tick: Any) -> None:
    """Creates, updates, deletes, a conflict that was decided and one that is open, a merge, a read, an adoption."""
    a, b = synchronizer.stores["a"], synchronizer.stores["b"]
    for record in (ALL, ODD, {"id": "nulls", **dict.fromkeys(list(FIELDS)[1:])}, {"id": "bare"}):
        held(a)[(record["id"],)] = dict(record)
    held(b)[("bare",)] = {"id": "bare", "text": "from b"}
    synchronizer.sync()
    tick()
    held(a)[("all",)] |= {"text": "a says", "ratio": -0.0}
    held(b)[("all",)] |= {"text": "b says", "price": Decimal("1.5")}
    held(a)[("odd/key %2F",)]["whole"] = 1
    held(b)[("odd/key %2F",)]["whole"] = 2  # manual: stays open
    del held(b)[("nulls",)]
    del held(a)[("bare",)]["text"]
    synchronizer.sync()
    tick()
    a.update(Data("thing", {"id": "bare", "text": "by hand"}), actor="eve")
    a.get_by_name("thing", "bare", actor="tom")
    a.add(Data("thing", {"id": "new", "on": None}), actor="eve")
    b.remove(Data("thing", {"id": "all"}))
    tick()
    synchronizer.sync()


def make(path: Path) -> list[dict[str, Any]]:
    """A journal at `path`; answers with its log."""
    with freeze_time("2026-01-31T12:00:00.123456Z") as frozen:
        rules = {"thing": Rules(by_field={"whole": "manual"})}
        stores = [memory("a"), memory("b")]
        with Synchronizer(stores, [thing(FIELDS)], path, rules=rules, audit_reads=["a"]) as synchronizer:
            fill(synchronizer, lambda: frozen.tick(1))
            connection = synchronizer.journal().connection
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, whole in itself
            connection.execute("PRAGMA page_size = 512")  # small, as it stays in the repository
            connection.execute("VACUUM")
            log = list(synchronizer.log())
    return log


if __name__ == "__main__":
    target = HERE / f"format{FORMAT}.db"
    if target.exists():
        sys.exit(f"{target} is there already; a format that was released does not change")
    told = make(target)
    text = json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True)
    target.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(f"{target}: {len(told)} events, {target.stat().st_size} bytes")
