"""The text of a whole record, as PostgreSQL writes it: `(1,"say ""yes"" now",,"")`.

postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX; a null is nothing at all, quotes and backslashes are doubled.
"""

from __future__ import annotations

import re

_FIELD = re.compile(r'(?:^|,)("[^"]*(?:""[^"]*)*"|[^,"]*)')


def fields_of(text: str) -> list[str | None]:
    """The texts of the fields; None for null."""
    inner = text[1:-1]
    if '"' not in inner:
        return [field or None for field in inner.split(",")]
    return [
        (field[1:-1].replace('""', '"').replace("\\\\", "\\") if field[0] == '"' else field)
        if field
        else None
        for field in _FIELD.findall(inner)
    ]
