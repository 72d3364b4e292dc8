"""What a run did, as a document, and what it ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evsync import audit
from evsync.errors import EvsyncError, Unreachable
from evsync.journal.journal import Journal
from evsync.store import Store

COUNTS = ("created", "updated", "deleted", "adopted", "unchanged", "conflicts", "quarantined")
WRITTEN = ("created", "updated", "deleted", "skipped", "failed")


class Report(dict[str, Any]):
    """A run's document, with the exit code it calls for and, per store in trouble, what to try."""

    exit_code: int = 0

    def __init__(self, *entries: Any, **named: Any) -> None:
        super().__init__(*entries, **named)
        self.hints: dict[str, str] = {}

    def add(self, other: Report) -> None:
        """Count in what an ingest of some of the stores found besides."""
        entries = {entry["store"]: entry for entry in self["stores"]}
        for more in other["stores"]:
            entry = entries[more["store"]]
            for name in COUNTS:
                if name != "unchanged":
                    entry[name] += more[name]
            if "missed" in more:
                entry["missed"] = entry.get("missed", 0) + more["missed"]
                entry["unchanged"] += more["unchanged"]
        if other["last"] is not None:
            self["first"], self["last"] = self["first"] or other["first"], other["last"]
        self.exit_code = max(self.exit_code, other.exit_code)

    def counts(self, names: Sequence[str]) -> dict[str, dict[str, int]]:
        """What was done, per store, zeros left out: for the table of runs."""
        return {
            entry["store"]: {name: entry[name] for name in names if entry[name]} for entry in self["stores"]
        }


def exit_code(document: Mapping[str, Any]) -> int:
    """What a command ends with that did this."""
    return document.exit_code if isinstance(document, Report) else 0


def code_of(
    journal: Journal, errors: Mapping[str, EvsyncError], stores: Sequence[Store], failures: bool = False
) -> int:
    """The exit code of a run over `stores`: that of the gravest error, or 4 if anything is left open."""
    if errors:
        return max(error.exit_code for error in errors.values())
    for store in audit.status(journal, stores)["stores"]:
        if store["conflicts"] or store["quarantined"] or (failures and store["failures"]):
            return 4
    return 0


def as_store_error(error: Exception, store: Store) -> EvsyncError:
    """An operating system's error as one that can be told."""
    if isinstance(error, EvsyncError):
        return error
    return Unreachable(f"store {store.name!r}: {error}", "check that it exists, and your rights to it")
