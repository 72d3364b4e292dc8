"""The text of a whole record, as PostgreSQL writes it: `(1,"say ""yes"" now",,"")`.

postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX; a null is nothing at all, quotes and backslashes are doubled.
"""

from __future__ import annotations

import re

_FIELD = re.compile(r'"((?:[^"]|"")*)"|[^,]*')


def fields_of(text: str) -> list[str | None]:
    """The texts of the fields; None for null."""
    inner = text[1:-1]
    if '"' not in inner:
        return [field or None for field in inner.split(",")]
    fields: list[str | None] = []
    at = 0
    while True:
        found = _FIELD.match(inner, at)
        assert found is not None  # it matches the empty text, too
        quoted = found[1]
        if quoted is None:
            fields.append(found[0] or None)
        else:
            fields.append(quoted.replace('""', '"').replace("\\\\", "\\"))
        at = found.end() + 1
        if at > len(inner):
            return fields
