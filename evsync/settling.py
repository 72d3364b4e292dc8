"""Open conflicts end by themselves when both sides agree: somebody edited one to the other's value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evsync.decided import event_of, forget_deleted, types_of
from evsync.journal.conflicts import Dispute, open_disputes
from evsync.journal.event import OWN, Fields, Revision
from evsync.journal.journal import Journal
from evsync.projections.holding import Holding, holding
from evsync.values import ABSENT, equivalent


def agreement(
    dispute: Dispute, canonical: Fields | None, held: Fields | None, types: Mapping[str, str]
) -> str | None:
    """Why the conflict is over; None if it is not. `held`: what its store holds, None if it does not hold the
    record. `types`: of the fields that the store maps."""
    if canonical is None and held is None:
        return "both are without the record"
    if canonical is None or held is None:
        return None
    if not dispute.fields:
        return "both have the record again"
    if all(
        name in types and equivalent(types[name], held.get(name, ABSENT), canonical.get(name, ABSENT))
        for name in dispute.fields
    ):
        return "both came to hold the same"
    return None


def settle(journal: Journal, run: int) -> int:
    """Append a `resolve` event for each open conflict that both sides ended; answers with how many."""
    if not _agreed(journal):
        return 0
    with journal.write():
        agreed = _agreed(journal)  # as it is now that nobody else writes
        for dispute, head, side, basis in agreed:
            fields = {
                name: _sides(dispute, name, head.fields, side.fields) for name in sorted(dispute.fields)
            }
            conflict = {
                "fields": fields, "policy": "agreed", "open": False, "basis": basis, "settles": [dispute.seq],
            }  # fmt: skip
            event = event_of(
                journal, "resolve", dispute.type, dispute.key, head.seq, head, head.fields, {},
                conflict=conflict,
            )  # fmt: skip
            journal.append([event], run)
            if head.fields is None:
                forget_deleted(journal, dispute.type, dispute.key)
    return len(agreed)


def side_of(journal: Journal, dispute: Dispute, head: Revision) -> Holding | None:
    """The side of the conflict that is not the journal's: what the store holds, or what an undo wanted."""
    if dispute.store != OWN:
        return holding(journal, dispute.store, dispute.type, dispute.key)
    if not dispute.fields:
        return Holding(None, True, {})
    wanted = {name: sides["mine"] for name, sides in dispute.record["fields"].items() if "mine" in sides}
    types = types_of(journal, dispute.type, head)
    return Holding(wanted, False, {name: types.get(name, "json") for name in dispute.fields})


def _agreed(journal: Journal) -> list[tuple[Dispute, Revision, Holding, str]]:
    found = []
    for dispute in open_disputes(journal):
        head = journal.heads(dispute.type, [dispute.key])[dispute.key]
        side = side_of(journal, dispute, head)
        if side is None:
            continue
        basis = agreement(dispute, head.fields, side.fields, side.types)
        if basis is not None:
            found.append((dispute, head, side, basis))
    return found


def _sides(dispute: Dispute, name: str, canonical: Fields | None, held: Fields | None) -> dict[str, Any]:
    """The sides as they are now, with the base that they parted from."""
    sides = {
        "base": dispute.record["fields"].get(name, {}).get("base", ABSENT),
        "theirs": (canonical or {}).get(name, ABSENT),
        "mine": (held or {}).get(name, ABSENT),
        "chosen": (canonical or {}).get(name, ABSENT),
    }
    return {side: value for side, value in sides.items() if value is not ABSENT}
