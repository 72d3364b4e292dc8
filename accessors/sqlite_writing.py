"""Writing the records of one SQLite table inside an open transaction, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accessors.applying import Action
from accessors.sqlite_records import Found, Handle, Records
from evsync.accessor import Change, Outcome, Row
from evsync.errors import Refused


class Writing:
    """Writes single records."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def one(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Row | None:
        """Write one record; the row as it is then, None if it is gone. Raises Refused."""
        handle = self.write(action, values, found)
        return None if handle is None else self.records.at(handle)

    def write(self, action: Action, values: Mapping[str, Any], found: Found | None) -> Handle | None:
        """The same; answers where it is then."""
        if action == "create":
            if found is not None:
                raise Refused(f"{self.records}: there is a record with this key already")
            return self.records.insert(values)
        if action == "update":
            if found is None:
                raise Refused(f"{self.records}: there is no such record to update")
            return self.records.update(found.handle, values)
        if found is not None:
            self.records.delete(found.handle)
        return None


def applied(changes: Sequence[Change], records: Records) -> list[Outcome]:
    """What became of each change, in order. Raises Refused if the transaction as a whole was refused."""
    writing = Writing(records)
    outcomes: list[Outcome] = []
    to_read: list[tuple[Outcome, Handle]] = []
    for change, found in zip(changes, _current(records, changes), strict=True):
        verdict = change.judge(None if found is None else found.row)
        if verdict != "write":
            outcomes.append(Outcome(verdict, None if found is None else found.row))
            continue
        try:
            handle = writing.write(change.action, change.values, found)
        except Refused as error:
            if not records.connection.in_transaction:  # it took everything before it along
                raise
            outcomes.append(Outcome("failed", error=error))
            continue
        if handle is None:
            outcomes.append(Outcome("written", id=change.id))
        elif records.is_certain(change.values):
            outcomes.append(Outcome("written", exact=True, id=records.id_at(handle, change.values)))
        else:
            outcomes.append(Outcome("written"))
            to_read.append((outcomes[-1], handle))
    # Last, since a later write may touch an earlier one through a trigger.
    for outcome, handle in to_read:
        outcome.row = records.at(handle)
        if outcome.row is not None:
            outcome.id = outcome.row[0]
    return outcomes


def _current(records: Records, changes: Sequence[Change]) -> list[Found | None]:
    """The records of the changes as they are now."""
    if records.is_empty():
        return [None] * len(changes)
    by_id = records.by_id(change.id for change in changes if change.id is not None)
    by_name = records.by_name(change.name for change in changes if change.id is None)
    return [
        by_name.get(records.name_of(change.name)) if change.id is None else by_id.get(change.id)
        for change in changes
    ]
