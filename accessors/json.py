"""Records in JSON files: one array of objects, read as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from accessors import json_values
from accessors.documents import LONGEST, Document, Record
from accessors.files import FileAccessor
from evsync.accessor import Row
from evsync.binding import Binding, Description
from evsync.store import Store

CHUNK = 1 << 20
"""Characters read at a time."""

_NEAR = 32
"""An error this close to the end of what was read may be due to its ending there: "tru", "\\u12"."""


class JsonAccessor(FileAccessor):
    """A JSON file per type, an array of objects. The types are those that its values have."""

    options: ClassVar[Mapping[str, str]] = {
        "file": "the type's file in the folder, if it is not called <type>.json",
    }
    suffix: ClassVar[str] = ".json"

    def document(self, store: Store, type: str, path: Path, file: BinaryIO) -> JsonDocument:
        return JsonDocument(path, file)

    def blank(self, store: Store, type: str) -> tuple[str, str]:
        return "[]\n", "utf-8"

    def describe(self, store: Store, type: str) -> Description | None:
        """Reads the whole file."""
        if not self.file_of(store, type).exists():
            return None
        with self._open(store, type) as (document, _):
            assert isinstance(document, JsonDocument)
            return json_values.describe(members for _, members, _, _ in document.objects(None))


class JsonDocument(Document):
    """A JSON array of objects, open for one pass."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(path, file)
        self._row: Callable[[Mapping[str, Any], str | None], Row]  # set by `records`
        self._decoder: json.JSONDecoder  # likewise
        self._buffer, self._at, self._line = "", 0, 1  # `_line` is that of `_buffer[_at]`
        self._all_read = False
        self._escaped = self.head.isascii() and b"\\u" in self.head
        self._style: json_values.Style | None = None
        self._head = self.mark  # up to and with the "["
        self._first = ""  # what stands before the first record, behind the "["
        self._between = ""  # what is to stand before a new one
        self._tail = ""  # behind the last record, with the "]"
        self._anything = False  # whether a record was written

    # -- reading ---------------------------------------------------------------------------------------

    def objects(self, binding: Binding | None) -> Iterator[tuple[int, dict[str, Any], str, str]]:
        """Line, object and text of each record, and the text before it."""
        decode = json_values.decoder(binding)
        self._head += self._white()
        if self._peek() == "":
            raise self.broken(self._line, "the file is empty: an array is expected", "write [] into it")
        if self._peek() != "[":
            raise self.broken(self._line, f"an array of objects is expected, not {self._shown()}")
        self._head += self._step()
        gap = self._white()
        if self._peek() != "]":
            while True:
                line = self._line
                members, text = self._object(decode)
                yield line, members, text, gap
                gap = self._white()
                if self._peek() == "]":
                    break
                if self._peek() != ",":
                    raise self.broken(self._line, f"',' or ']' is expected, not {self._shown()}")
                gap += self._step() + self._white()
        self._tail = gap + self._step() + self._white()
        if self._peek():
            raise self.broken(self._line, f"the array is over, but there follows {self._shown()}")

    def _object(self, decode: json.JSONDecoder) -> tuple[dict[str, Any], str]:
        if self._peek() != "{":
            raise self.broken(self._line, f"an object is expected, not {self._shown()}")
        while True:
            try:
                members, end = decode.raw_decode(self._buffer, self._at)
                break
            except json.JSONDecodeError as error:
                # Before `_more`, which moves the buffer.
                line = self._line + self._buffer.count("\n", self._at, error.pos)
                column = error.pos - self._buffer.rfind("\n", 0, error.pos)
                where = f", column {column}" if "\n" in self._buffer[: error.pos] or line == 1 else ""
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - _NEAR
                if cut and len(self._buffer) - self._at < LONGEST and self._more():
                    continue
                raise self.broken(line, f"{error.msg}{where}") from None
            except (ValueError, RecursionError) as error:
                raise self.broken(self._line, str(error)) from None
        text = self._buffer[self._at : end]
        self._pass(text)
        return members, text

    def _white(self) -> str:
        """The white space that follows, passed over."""
        passed = ""
        while True:
            found = json_values.WHITE.match(self._buffer, self._at)
            passed += self._pass(found[0] if found else "")
            if self._at < len(self._buffer) or not self._more():
                return passed

    def _peek(self) -> str:
        """The next character; "" at the end. Only to be asked behind `_white`."""
        return self._buffer[self._at : self._at + 1]

    def _step(self) -> str:
        return self._pass(self._peek())

    def _pass(self, text: str) -> str:
        self._at += len(text)
        self._line += text.count("\n")
        return text

    def _more(self) -> bool:
        """Reads on, as much again as there is, so that a long record is not tried over and over."""
        rest = self._buffer[self._at :]
        found = self.stream.read(max(CHUNK, len(rest)))
        self._buffer, self._at = rest + found, 0
        return found != ""

    def _shown(self) -> str:
        return repr(self._buffer[self._at : self._at + 20]) if self._peek() else "the end of the file"

    def rows(self, binding: Binding) -> Iterator[Row]:
        row = json_values.row_maker(binding)
        for line, members, _, _ in self.objects(binding):
            yield row(members, f"line {line}")

    def records(self, binding: Binding) -> Iterator[Record]:
        row = self._row = json_values.row_maker(binding)
        self._decoder = json_values.decoder(binding)
        for position, (line, members, text, gap) in enumerate(self.objects(binding)):
            if self._style is None:
                self._style = json_values.style_of(text, self._escaped)
            if position == 0:
                self._first = gap
            elif position == 1:
                self._between = gap
            yield Record(row(members, f"line {line}"), gap, text)

    def parse(self, text: str, place: str | None) -> Row:
        return self._row(self._decoder.decode(text), place)

    # -- writing ---------------------------------------------------------------------------------------

    def written(self, record: Record, text: str | None) -> str:
        if text is None:
            return ""
        if self._anything:
            return record.before + text
        self._anything = True
        return self._head + self._first + text

    def rest(self, texts: Iterable[str]) -> Iterator[str]:
        if self._style is None and not self._first and not self._anything:  # an empty array shows no style
            self._first, self._tail = "\n  ", "\n" + self._tail.lstrip()
        tight = self._style is not None and self._style.separator == ","
        between = self._between or "," + (self._first or ("" if tight else " "))
        for text in texts:
            yield (between if self._anything else self._head + self._first) + text
            self._anything = True
        yield self._tail if self._anything else self._head + self._tail.lstrip()

    def encode(self, text: str | None, values: Mapping[str, Any], binding: Binding) -> str:
        style = self._style or json_values.INDENTED._replace(escaped=self._escaped)
        return json_values.write(text, values, binding.local_types, style)
