"""Records in CSV files.

The dialect is found in the file: delimiter, line ends, byte order mark. An unquoted empty cell is null, a
quoted one (`""`) the empty string; with the setting `null = "NA"` it is the unquoted NA that is null.
Every other cell is text, which the declared types of the fields read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from accessors.documents import Record
from accessors.files import FileAccessor
from accessors.lines import LinesDocument, is_blank, split_end
from evsync.accessor import Row
from evsync.binding import Binding, Description
from evsync.errors import BrokenStore, ConfigError, Refused
from evsync.store import Store
from evsync.values import ABSENT, to_text

LONGEST_CELL = 1 << 24
"""Characters. A quote that is never closed would otherwise swallow the rest of the file into memory."""

DELIMITERS = ",;\t|"

_QUOTED = re.compile(r'"[^"]*"?')
_SPECIAL_IN_HEADER = re.compile(rf'[{DELIMITERS}"\r\n]')


class CsvAccessor(FileAccessor):
    """A CSV file per type, its first line the names of the columns. Declares no types."""

    options: ClassVar[Mapping[str, str]] = {
        "file": "the type's file in the folder, if it is not called <type>.csv",
        "null": "the unquoted cell that stands for null; left out: the empty one",
        "encoding": "of the file; left out: UTF-8, or UTF-16 if a byte order mark says so",
        "delimiter": "one character; left out: found in the header",
    }
    json_is_text: ClassVar[bool] = True
    suffix: ClassVar[str] = ".csv"

    def document(self, store: Store, type: str, path: Path, file: BinaryIO) -> CsvDocument:
        encoding, delimiter, null = self._settings(store, type)
        return CsvDocument(path, file, encoding, delimiter, null, lambda: self.blank(store, type)[0])

    def blank(self, store: Store, type: str) -> tuple[str, str]:
        """A header: the id's column if there is one, the key's, then the others by name, then when and by whom."""
        binding = store.binding(type)
        first = ([binding.id] if binding.id else []) + list(binding.key_locals)
        last = [name for name in (binding.changed_at, binding.changed_by) if name]
        names = list(dict.fromkeys([*first, *sorted(binding.locals), *last]))
        encoding, delimiter, _ = self._settings(store, type)
        cells = [format_cell(name, _SPECIAL_IN_HEADER, "") for name in names]
        return (delimiter or ",").join(cells) + "\n", encoding or "utf-8"

    def describe(self, store: Store, type: str) -> Description | None:
        if not self.file_of(store, type).exists():
            return None
        with self._open(store, type) as (document, _):
            assert isinstance(document, CsvDocument)
            return Description(dict.fromkeys(document.header()))

    def _settings(self, store: Store, type: str) -> tuple[str | None, str | None, str]:
        delimiter, null = store.option(type, "delimiter"), str(store.option(type, "null", ""))
        if delimiter is not None and (len(str(delimiter)) != 1 or delimiter in '"\r\n'):
            raise ConfigError(
                f"store {store.name!r}: the option `delimiter` is one character, not {delimiter!r}"
            )
        if re.search(r'["\r\n]', null) or (delimiter or ",") in null:
            raise ConfigError(
                f"store {store.name!r}: the option `null` cannot be {null!r}",
                "a cell with quotes, line ends or delimiters is never unquoted",
            )
        return store.option(type, "encoding"), delimiter, null


class CsvDocument(LinesDocument):
    """A CSV file, open for one pass."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        encoding: str | None,
        delimiter: str | None,
        null: str,
        header: Callable[[], str],
    ) -> None:
        """`header`: the first line that a file without one is to get."""
        super().__init__(path, file, encoding)
        self._delimiter = delimiter
        self._null = null
        self._quoted_null = f'"{null}"'
        self._cell = self._special = _QUOTED  # set by `_find_dialect`
        self._header = header
        self.names: list[str] = []
        self._row: Callable[[list[Any], str | None], Row]  # set by `records`

    # -- reading ---------------------------------------------------------------------------------------

    def header(self) -> list[str]:
        """The names of the columns, none in a file of no bytes. Raises BrokenStore if they cannot serve as such."""
        if self.head:
            self._open_reader()
        return self.names

    def rows(self, binding: Binding) -> Iterator[Row]:
        if not self.head:
            return
        reader = self._open_reader()
        row = self._picker(binding)
        for line, cells, _ in self._cells(reader):
            yield row(cells, f"line {line}")

    def records(self, binding: Binding) -> Iterator[Record]:
        reader = self._open_reader()
        row = self._row = self._picker(binding)
        for line, cells, text in self._cells(reader):
            yield Record(row(cells, f"line {line}"), self.gathered(), *split_end(text))

    def parse(self, text: str, place: str | None) -> Row:
        cells = self._values(text)
        return self._row(cells + [ABSENT] * (len(self.names) - len(cells)), place)

    def _open_reader(self) -> Iterator[list[Any]]:
        """Finds the dialect and reads the header; answers with the reader of what follows it."""
        csv.field_size_limit(LONGEST_CELL)
        # A file that was emptied of its header, too, is written as one that is new.
        lines = self.lines() if self.head else self._fresh()
        for line in lines:
            if not is_blank(line):
                break
            self.gap += self.take()
        else:
            raise self.broken(
                1, "the file is empty, it has no header line", "write the names of the columns into it"
            )
        self._find_dialect(line)
        reader = csv.reader(chain([line], lines), delimiter=self._delimiter or ",", strict=True)
        number = self.taken + 1
        try:
            self.names = next(reader)
        except csv.Error as error:
            raise self._unreadable(error) from None
        self.gap += self.take()
        for position, name in enumerate(self.names, 1):
            if not name.strip():
                raise self.broken(number, f"column {position} has no name")
            if name in self.names[: position - 1]:
                raise self.broken(number, f"two columns are called {name!r}")
        return reader

    def _fresh(self) -> Iterator[str]:
        header = self._header()
        self.pending.append(header)
        yield header

    def _find_dialect(self, header: str) -> None:
        self.newline = split_end(header)[1] or "\n"
        bare = _QUOTED.sub("", header)
        self._delimiter = self._delimiter or max(DELIMITERS, key=bare.count)
        self._places: dict[str, int] = {}
        delimiter = re.escape(self._delimiter)
        self._cell = re.compile(rf'"[^"]*+(?:""[^"]*+)*+"|[^{delimiter}]*+')
        self._special = re.compile(rf'[{delimiter}"\r\n]')

    def _cells(self, reader: Iterator[list[Any]]) -> Iterator[tuple[int, list[Any], str]]:
        """Line, cells and text of each record; None for null, ABSENT for the cells that a short line lacks."""
        null, quoted_null, width = self._null, self._quoted_null, len(self.names)
        take = self.take
        try:
            for cells in reader:
                line, text = self.taken + 1, take()
                if null in cells:
                    # csv.reader does not tell a quoted cell from an unquoted one; so look, where it matters.
                    if quoted_null in text:
                        cells = self._values(split_end(text)[0])
                    else:
                        cells = [None if cell == null else cell for cell in cells]
                if len(cells) != width:
                    if not cells:
                        self.gap += text
                        continue
                    if len(cells) > width:
                        raise self.broken(line, f"{len(cells)} cells, but the header has {width}")
                    cells += [ABSENT] * (width - len(cells))
                yield line, cells, text
        except csv.Error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: csv.Error) -> BrokenStore:
        hint = "look for a quote that is never closed, and for a wrong `delimiter`"
        return self.broken(self.taken + 1, f"cannot be read as CSV: {error}", hint)

    def _picker(self, binding: Binding) -> Callable[[list[Any], str | None], Row]:
        """Makes a Row of a record's cells. Raises BrokenStore if a column is missing."""
        at = [self._index(name) for name in binding.locals]
        values = itemgetter(*at) if len(at) > 1 else lambda cells: (cells[at[0]],)
        if binding.id is None and binding.changed_at is None and binding.changed_by is None:
            return lambda cells, place: (None, place, None, None) + values(cells)  # noqa: RUF005  (faster)
        own = [
            None if name is None else self._index(name)
            for name in (binding.id, binding.changed_at, binding.changed_by)
        ]

        def row(cells: list[Any], place: str | None) -> Row:
            id, moment, by = [None if i is None or cells[i] is ABSENT else cells[i] for i in own]
            return (id, place, moment, by, *values(cells))

        return row

    def _index(self, name: str) -> int:
        if not self._places:
            self._places = {column: at for at, column in enumerate(self.names)}
        try:
            return self._places[name]
        except KeyError:
            raise self.broken(1, f"there is no column {name!r}", "the header was changed") from None

    def _split(self, text: str) -> list[str]:
        """The cells of a record as they are written, quotes and all."""
        if '"' not in text:
            return text.split(self._delimiter)
        cells, start = [], 0
        while found := self._cell.match(text, start):
            cells.append(found[0])
            start = found.end() + 1
            if start > len(text):
                break
        return cells

    def _values(self, text: str) -> list[Any]:
        return [
            cell[1:-1].replace('""', '"') if cell[:1] == '"' else None if cell == self._null else cell
            for cell in self._split(text)
        ]

    # -- writing ---------------------------------------------------------------------------------------

    def encode(self, text: str | None, values: Mapping[str, Any], binding: Binding) -> str:
        cells = [self._null] * len(self.names) if text is None else self._split(text)
        types = binding.local_types
        for local, typed in values.items():
            at = self._index(local)
            cells += [self._null] * (at + 1 - len(cells))
            if typed is None or typed is ABSENT:
                cells[at] = self._null
                continue
            value = str(typed) if typed.__class__ is int else to_text(types[local], typed)
            if len(value) > LONGEST_CELL:
                raise Refused(f"{local}: a cell of {len(value):,} characters is too long")
            cells[at] = format_cell(value, self._special, self._null)
        if cells == [""]:
            raise Refused("an empty cell alone in its line would be taken for a blank line")
        return (self._delimiter or ",").join(cells)


def format_cell(value: str, special: re.Pattern[str], null: str) -> str:
    """A cell that is read back as this text and never as null."""
    if value in ("", null) or special.search(value) or value[0].isspace() or value[-1].isspace():
        return '"' + value.replace('"', '""') + '"'
    return value
