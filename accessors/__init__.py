"""The accessors that come with evsync."""

from typing import Final

ACCESSORS: Final = {
    "sqlite": "accessors.sqlite:SqliteAccessor",
    "csv": "accessors.csv:CsvAccessor",
    "json": "accessors.json:JsonAccessor",
    "jsonl": "accessors.jsonl:JsonLinesAccessor",
    "memory": "accessors.memory:MemoryAccessor",
}
"""URL scheme → where its accessor is; what the entry points of this package say as well. Reading them takes longer
than most commands."""
