"""How results are shown: JSON documents and aligned text on stdout, everything that is no result on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TextIO

import msgspec

CELL = 60
"""How many characters of a value a table shows."""

MEASURED = 200
"""How many rows are looked at before the first is printed; later ones may be wider than their column."""

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_written = False
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")


def never_fail_on_characters() -> None:
    """Let both streams write any text, whatever encoding the terminal has."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def begun() -> bool:
    """Whether something was printed on stdout already, so that no second document may follow."""
    return _written


def write(text: str) -> None:
    """`text` as it is, on stdout."""
    global _written
    _written = True
    sys.stdout.write(text)


def _encoded(data: bytes) -> str:
    """JSON that stdout can show: what its encoding lacks is escaped in JSON's own way, so that it stays JSON."""
    text = data.decode()
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
    return text


def document(value: Any) -> None:
    """`value` as one JSON document."""
    write(_encoded(msgspec.json.format(msgspec.json.encode(value), indent=2)) + "\n")


def array(values: Iterable[Any]) -> None:
    """A JSON array, an element a line, written as the elements come."""
    opening = "["
    for value in values:
        write(f"{opening}\n {_encoded(msgspec.json.encode(value))}")
        opening = ","
    write("[]\n" if opening == "[" else "\n]\n")


def json_line(value: Any) -> None:
    """`value` as one line of JSON."""
    write(_encoded(msgspec.json.encode(value)) + "\n")


def line(text: str = "") -> None:
    """A line of a result, already escaped."""
    write(text + "\n")


def flush() -> None:
    """Let what was printed be seen now."""
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(text + "\n")


def failure(message: str, hint: str = "") -> None:
    """What went wrong and what to try, in two lines on stderr."""
    say(f"{style('error:', 'red', sys.stderr)} {escape(message)}")
    if hint:
        say(f"{style('hint:', 'cyan', sys.stderr)} {escape(hint)}")


def escape(text: str) -> str:
    """`text` with everything that a terminal would act upon written as its code: data must not steer it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, width: int = CELL) -> str:
    """The beginning of `text`, with "…" if that is not all of it."""
    return text if len(text) <= width else text[: width - 1] + "…"


def literal(value: Any) -> str:
    """A value so that 1 and '1', null and 'null' look different."""
    if isinstance(value, str):
        return f"'{escape(value)}'"
    return escape(msgspec.json.encode(value).decode())


def cell(value: Any, width: int = CELL) -> str:
    """A value of a table, shortened; nothing for None."""
    if value is None:
        return ""
    return shorten(escape(value) if isinstance(value, str) else literal(value), width)


def size(bytes: int | None) -> str | None:
    """Bytes as a person reads them: "12.5 MB"; None where nobody knows."""
    if bytes is None:
        return None
    return f"{bytes / 1_000:,.1f} kB" if bytes < 1_000_000 else f"{bytes / 1_000_000:,.1f} MB"


def style(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour, if `stream` (stdout) is a terminal that is to have colours."""
    stream = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """Aligned columns, those named in `right` flush right; nothing at all if there are no rows."""
    for text in aligned(headers, rows, right):
        line(text)


def aligned(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()
) -> Iterator[str]:
    """The lines of a table. Streams: the first rows settle how wide the columns are."""
    cells = ([cell(value) for value in row] for row in rows)
    first = list(islice(cells, MEASURED))
    if not first:
        return
    widths = [max(map(_width, column)) for column in zip(headers, *first, strict=True)]
    flush = [header in right for header in headers]
    yield style(_row(headers, widths, flush), "bold")
    for row in chain(first, cells):
        yield _row(row, widths, flush)


def _row(cells: Sequence[str], widths: Sequence[int], flush: Sequence[bool]) -> str:
    padded = (
        " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
        for text, width, right in zip(cells, widths, flush, strict=True)
    )
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
