"""Records that wait for each other in a circle: which of them to write first, without the reference."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

N = TypeVar("N", bound=Hashable)


def cuts(waits_for: Mapping[N, Collection[N]], never: Collection[N] = ()) -> list[N]:
    """One record out of each circle, so that all could be written in some order once these are; none of `never`, as far as
    a circle has another. `waits_for`: whom each record waits for. The same answer for the same order of the mapping."""
    found: list[N] = []
    done: set[N] = set()
    for start in waits_for:
        path: list[N] = []
        at: dict[N, int] = {}
        stack: list[tuple[N, bool]] = [(start, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                done.add(node)
                del at[path.pop()]
            elif node in at:
                circle = path[at[node] :]
                if not any(member in found for member in circle):
                    found.extend([member for member in circle if member not in never][:1])
            elif node not in done and node in waits_for:
                at[node] = len(path)
                path.append(node)
                stack.append((node, True))
                stack.extend((other, False) for other in waits_for[node])
    return found
