"""Records in JSON lines files: one object a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import msgspec

from accessors import json_values
from accessors.documents import Record
from accessors.files import FileAccessor
from accessors.lines import LinesDocument, is_blank, split_end
from evsync.accessor import Row
from evsync.binding import Binding, Description
from evsync.store import Store


class JsonLinesAccessor(FileAccessor):
    """A file of JSON objects per type, each in a line of its own. The types are those that its values have."""

    options: ClassVar[Mapping[str, str]] = {
        "file": "the type's file in the folder, if it is not called <type>.jsonl",
    }
    suffix: ClassVar[str] = ".jsonl"

    def document(self, store: Store, type: str, path: Path, file: BinaryIO) -> JsonLinesDocument:
        return JsonLinesDocument(path, file)

    def blank(self, store: Store, type: str) -> tuple[str, str]:
        return "", "utf-8"

    def describe(self, store: Store, type: str) -> Description | None:
        """Reads the whole file."""
        if not self.file_of(store, type).exists():
            return None
        with self._open(store, type) as (document, _):
            assert isinstance(document, JsonLinesDocument)
            return json_values.describe(members for _, members, _ in document.objects(None))


class JsonLinesDocument(LinesDocument):
    """A file of JSON lines, open for one pass."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self._row: Callable[[Mapping[str, Any], str | None], Row]  # set by `records`
        self._decoder: json.JSONDecoder  # likewise
        self._style: json_values.Style | None = None
        self._escaped = self.head.isascii() and b"\\u" in self.head

    def objects(self, binding: Binding | None) -> Iterator[tuple[int, dict[str, Any], str]]:
        """Line, object and text of each record."""
        slow = json_values.decoder(binding)
        fast = None if json_values.needs_decimals(binding) else msgspec.json.Decoder().decode
        for line in self.lines():
            text = self.take()
            if is_blank(text):
                self.gap += text
                continue
            try:
                members = fast(line) if fast else self._decoded(slow, line)
            except (msgspec.MsgspecError, RecursionError):
                members = self._decoded(slow, line)  # takes NaN, and says better what is wrong
            if members.__class__ is not dict:
                raise self.broken(self.taken, f"an object is expected, not {line[:40].strip()!r}")
            yield self.taken, members, text

    def _decoded(self, slow: json.JSONDecoder, line: str) -> Any:
        try:
            return slow.decode(line)
        except json.JSONDecodeError as error:
            raise self.broken(self.taken, f"column {error.colno}: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise self.broken(self.taken, str(error)) from None

    def rows(self, binding: Binding) -> Iterator[Row]:
        row = json_values.row_maker(binding)
        for line, members, _ in self.objects(binding):
            yield row(members, f"line {line}")

    def records(self, binding: Binding) -> Iterator[Record]:
        row = self._row = json_values.row_maker(binding)
        self._decoder = json_values.decoder(binding)
        for line, members, text in self.objects(binding):
            bare, end = split_end(text)
            if self._style is None:
                self._style = json_values.style_of(bare.strip(), self._escaped)
                self.newline = end or "\n"
            yield Record(row(members, f"line {line}"), self.gathered(), bare, end)

    def parse(self, text: str, place: str | None) -> Row:
        return self._row(self._decoder.decode(text), place)

    def encode(self, text: str | None, values: Mapping[str, Any], binding: Binding) -> str:
        style = self._style or json_values.Style(escaped=self._escaped)
        bare = None if text is None else text.lstrip()
        indent = "" if text is None or bare is None else text[: len(text) - len(bare)]
        return indent + json_values.write(bare, values, binding.local_types, style)
