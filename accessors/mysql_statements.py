"""What a statement in the binary log means for the rows of a table: whether it begins or ends a transaction, empties the
table, or may have changed it in a way that is not told row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final


class Kind(Enum):
    """What a statement does."""

    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    XA_BEGIN = auto()
    XA_COMMIT = auto()
    NOTHING = auto()
    TRUNCATE = auto()
    DEFINITION = auto()
    """It changes what a table is, or which."""
    UNKNOWN = auto()
    """It may change any row of any table: an INSERT that is not told row by row, a CALL."""


_SPACE = r"(?:\s|/\*M?!\d*|/\*(?!M?!).*?\*/|\*/|--\s[^\n]*\n|\#[^\n]*\n|;)"
_KINDS: Final = [
    (re.compile(rf"{_SPACE}*{text}", re.IGNORECASE | re.DOTALL), kind)
    for text, kind in (
        (r"(BEGIN|START\s+TRANSACTION)\b", Kind.BEGIN),
        (r"COMMIT\b", Kind.COMMIT),
        (r"ROLLBACK\s*(/\*.*)?$", Kind.ROLLBACK),
        (r"XA\s+(START|BEGIN)\b", Kind.XA_BEGIN),
        (r"XA\s+COMMIT\b", Kind.XA_COMMIT),
        (r"SET\s+STATEMENT\b", Kind.UNKNOWN),
        (r"(XA|ROLLBACK|SAVEPOINT|RELEASE|SET)\b", Kind.NOTHING),
        (r"(GRANT|REVOKE|ANALYZE|OPTIMIZE|CHECK|FLUSH|(UN)?INSTALL|SHUTDOWN)\b", Kind.NOTHING),
        (
            r"(CREATE|ALTER|DROP)\s+(OR\s+REPLACE\s+)?((ALGORITHM|DEFINER|SQL\s+SECURITY|AGGREGATE)\b[^('\"]*?)?"
            r"(USER|ROLE|SERVER|VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|TEMPORARY)\b",
            Kind.NOTHING,
        ),
        (r"TRUNCATE\b", Kind.TRUNCATE),
        (r"(CREATE|ALTER|DROP|RENAME|REPAIR|IMPORT)\b", Kind.DEFINITION),
    )
]
_NAME = r"(?:`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\"|[^\s.;`\"/(),]+)"
_TRUNCATED = re.compile(
    rf"{_SPACE}*TRUNCATE{_SPACE}+(?:TABLE{_SPACE}+)?({_NAME})(?:\s*\.\s*({_NAME}))?", re.I | re.S
)

_DROPPED = re.compile(rf"{_SPACE}*DROP\s+(DATABASE|SCHEMA)\b", re.I | re.S)


def kind_of(statement: str) -> Kind:
    """What the statement does."""
    for pattern, kind in _KINDS:
        if pattern.match(statement):
            return kind
    return Kind.UNKNOWN


def emptied(statement: str, schema: str) -> tuple[str, str] | None:
    """The schema and the name of the table that a TRUNCATE empties; `schema`: the one in which it was said."""
    found = _TRUNCATED.match(statement)
    if found is None:
        return None
    first, second = found.groups()
    return (schema, _unquoted(first)) if second is None else (_unquoted(first), _unquoted(second))


def _unquoted(name: str) -> str:
    quote = name[0]
    return name[1:-1].replace(quote * 2, quote) if quote in '`"' else name


def defines(statement: str, schema: str, name: str) -> bool:
    """Whether a statement of which only its kind is known, DEFINITION, may concern a table."""
    return _mentions(statement, name) or (bool(_DROPPED.match(statement)) and _mentions(statement, schema))


def _mentions(statement: str, name: str) -> bool:
    if "\ufffd" in statement and not name.isascii():  # it is written in letters that could not be read
        return True
    return any(
        re.search(rf"(?<![\w$]){re.escape(one)}(?![\w$])", statement, re.I) for one in _spellings(name)
    )


def _spellings(name: str) -> Iterator[str]:
    yield name
    for quote in '`"':
        if quote in name:
            yield name.replace(quote, quote * 2)
