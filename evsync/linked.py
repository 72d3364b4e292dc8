"""What a run works with: the journal, the stores linked to it, and how the types lie in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from evsync.binder import Bound
from evsync.binding import TypeSpec
from evsync.journal.journal import Journal
from evsync.projections.merge import Rules
from evsync.store import Store


class Linked(NamedTuple):
    """Stores linked to a journal, their types bound."""

    journal: Journal
    stores: Mapping[str, Store]
    types: Mapping[str, TypeSpec]
    rules: Mapping[str, Rules]
    bound: Bound

    def ordered(self, types: Iterable[str]) -> list[str]:
        """Parents before children, along the references; by name otherwise, and where they run in a circle."""
        wanted = sorted(types)
        graph = {
            type: {
                target
                for target in self.types[type].references.values()
                if target in wanted and target != type
            }
            for type in wanted
        }
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError:
            return wanted
