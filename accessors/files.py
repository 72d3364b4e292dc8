"""What the accessors of files share: where the file is, reading it, and rewriting it record by record.

A format says how its records are told apart and written (`Document`); everything else is `FileAccessor`.
Records are known by their key, or by the column that the setting `id` names. They are found at a line.
Text that is not to be changed stays as it is, byte for byte.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

from accessors.rewriting import explained, locked, replacing, state_of
from evsync.accessor import HEADER, Accessor, Change, Outcome, Row, Verdict
from evsync.binding import Binding, nearest
from evsync.data import Data
from evsync.errors import BadValue, BrokenStore, ConfigError, Refused, Retry, Unreachable
from evsync.store import Store, native
from evsync.values import ABSENT, dump, encode, read, same

SCANNED = 2_000
"""How many rows `scan` hands out at a time."""

LONGEST = 1 << 26
"""No line or record is longer, in characters; so a broken file cannot take all memory."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Record(NamedTuple):
    """One record as it stands in a file: what stands between it and the one before, and its own text."""

    row: Row
    before: str
    text: str
    after: str = ""  # its line end, where a line is a record


class Document(ABC):
    """One file of records, open for one pass through it."""

    def __init__(self, path: Path, file: BinaryIO, option: str | None = None) -> None:
        """`file` is at its beginning; `option`: the encoding that the user says it has.

        Raises ConfigError for an encoding that does not exist."""
        self.path = path
        self.head = file.read(1 << 16)
        file.seek(0)
        self.encoding, marked = encoding_of(self.head, option)
        self.stream = io.TextIOWrapper(file, self.encoding, newline="")
        self.mark = self.stream.read(1) if marked else ""  # the byte order mark: kept, and no text

    def broken(self, line: int, problem: str, hint: str = "") -> BrokenStore:
        """The error for a file that cannot be read; nothing is taken from it, nothing written to it."""
        return BrokenStore(f"{self.path}, line {line}: {problem}", hint or "mend the file by hand")

    @abstractmethod
    def rows(self, binding: Binding) -> Iterator[Row]:
        """All records, quickly. Raises BrokenStore."""

    @abstractmethod
    def records(self, binding: Binding) -> Iterator[Record]:
        """All records with their text, in order. Raises BrokenStore."""

    @abstractmethod
    def written(self, record: Record, text: str | None) -> str:
        """What is to be written for a record whose text is now `text` (None: it is gone).

        Called once for every record, in order."""

    @abstractmethod
    def rest(self, texts: Iterable[str]) -> Iterator[str]:
        """What is to be written after the last record, with the new records' `texts`."""

    @abstractmethod
    def encode(self, text: str | None, values: Mapping[str, Any], binding: Binding) -> str:
        """The text of a record with these typed values; `text` is its old one, None for a new record.

        Raises Refused for what the format cannot hold."""

    @abstractmethod
    def parse(self, text: str, place: str | None) -> Row:
        """The record that `text` holds, as `records` (which was called before) would give it."""


class FileAccessor(Accessor):
    """The six methods, and `scan`, `apply`, `create`, `discover` and `check`, over a `Document`.

    The URL's path is a file, which holds one type, or a folder (it ends with "/", or is one), which holds
    a file for each type: `<type><suffix>`, or what the setting `file` says.
    """

    suffix: ClassVar[str]
    batch: int = 50_000

    @abstractmethod
    def document(self, store: Store, type: str, path: Path, file: BinaryIO) -> Document:
        """The open file, ready to be read."""

    @abstractmethod
    def blank(self, store: Store, type: str) -> tuple[str, str]:
        """The text of a file without records, and its encoding."""

    # -- the six methods -------------------------------------------------------------------------------

    def get(self, store: Store, type: str, id: int | str) -> Data | None:
        """None as well where no column holds an id: the store then calls records by nothing but their key."""
        binding = store.binding(type)
        with closing(self._scanned(store, type)) as rows:
            return next(
                (_data(binding, row) for row in rows if row[0] is not None and str(row[0]) == str(id)), None
            )

    def get_by_name(self, store: Store, type: str, name: Mapping[str, Any]) -> Data | None:
        """The first one, if several have this key."""
        with closing(self.find(store, type, name)) as found:
            return next(found, None)

    def find(
        self, store: Store, type: str, match: Mapping[str, Any] | None = None
    ) -> Generator[Data, None, None]:
        binding = store.binding(type)
        wire = _wire_reader(self, binding)
        types = binding.local_types
        wanted = [
            (binding.locals.index(local), local, dump(types[local], typed))
            for local, typed in (match or {}).items()
        ]
        for row in self._scanned(store, type):
            if all(_alike(wire(local, row[HEADER + at]), value) for at, local, value in wanted):
                yield _data(binding, row)

    def add(self, store: Store, data: Data) -> Data:
        """Raises Refused if there is a record with this key."""
        binding = store.binding(data.type)
        judge = _judge(lambda row: row is None)
        key = self._key(binding, data.fields)
        outcome = self._one(store, data.type, "create", None, key, data.fields, judge)
        if outcome.state == "changed":
            raise Refused(f"{self.file_of(store, data.type)} has a {data.type!r} with this key already")
        return _data(binding, _written(outcome))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        """Raises Refused if the record is gone, is no longer `old`, or would take another one's key."""
        binding = store.binding(data.type)
        key = self._key(binding, data.fields if old is None else old.fields)
        self._refuse_taken(store, binding, key, key | self._key(binding, data.fields), data.id)
        wire = _wire_reader(self, binding)
        missing: list[bool] = []

        def untouched(row: Row | None) -> bool:
            missing.append(row is None)
            return row is not None and (old is None or _is(row, old, binding, wire))

        outcome = self._one(store, data.type, "update", data.id, key, data.fields, _judge(untouched))
        if outcome.state == "changed":
            words = "is not there" if missing[-1] else "was changed meanwhile"
            raise Refused(f"{self.file_of(store, data.type)}: the {data.type!r} to be updated {words}")
        return _data(binding, _written(outcome))

    def remove(self, store: Store, data: Data) -> None:
        key = self._key(store.binding(data.type), data.fields)
        self._one(store, data.type, "delete", data.id, key, {}, _judge(lambda row: True))

    def _key(self, binding: Binding, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The typed values of those key fields that have one."""
        return {
            local: native(self, binding.local_types[local], fields[local])
            for local in binding.key_locals
            if fields.get(local, ABSENT) not in (None, ABSENT)
        }

    def _one(
        self,
        store: Store,
        type: str,
        action: Any,
        id: int | str | None,
        key: dict[str, Any],
        values: Mapping[str, Any],
        judge: Callable[[Row | None], Verdict],
    ) -> Outcome:
        """One change. Raises what kept it from being written."""
        names = store.binding(type).key
        if id is None and len(key) < len(names):
            raise Refused(f"a {type!r} cannot be found or added without its key: {', '.join(names)}")
        [outcome] = self._apply(store, type, [Change(action, id, key, dict(values), judge)], exact=False)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    def _refuse_taken(
        self,
        store: Store,
        binding: Binding,
        key: Mapping[str, Any],
        after: Mapping[str, Any],
        id: int | str | None,
    ) -> None:
        """Raises Refused if an update would give a record the key of another."""
        if len(after) < len(binding.key) or (id is None and key == after):
            return
        other = self.get_by_name(store, binding.type, after)
        if other is not None and (id is None or str(other.id) != str(id)):
            raise Refused(
                f"{self.file_of(store, binding.type)} has a {binding.type!r} with the new key already"
            )

    # -- many at once ----------------------------------------------------------------------------------

    def scan(self, store: Store, type: str) -> Generator[Sequence[Row], None, None]:
        """Raises Retry if the file was written to while it was read: what was read might be half of it."""
        with self._open(store, type) as (document, found):
            rows = document.rows(store.binding(type))
            while batch := list(islice(rows, SCANNED)):
                yield batch
            if state_of(os.fstat(document.stream.fileno())) != state_of(found):
                raise Retry(f"{document.path} changed while it was read")

    def _scanned(self, store: Store, type: str) -> Generator[Row, None, None]:
        for batch in self.scan(store, type):
            yield from batch

    def apply(self, store: Store, type: str, changes: Sequence[Change]) -> list[Outcome]:
        """All changes in one pass; the file is replaced in one step, or not at all if there is nothing to write."""
        return self._apply(store, type, changes, exact=True)

    def _apply(self, store: Store, type: str, changes: Sequence[Change], exact: bool) -> list[Outcome]:
        if not changes:
            return []
        binding = store.binding(type)
        named = self.file_of(store, type)
        with explained(named, "written"):
            target = named.resolve(strict=True)  # the file that a link leads to, not the link
            if not os.access(target, os.W_OK):
                raise Unreachable(f"no right to have {named} written", "check the rights of the file")
            with locked(target.parent), self._open(store, type, "written") as (document, found):
                work = _Work(self, binding, document, changes, exact)
                with replacing(target, document.encoding, found) as new:
                    for record in document.records(binding):
                        new.write(document.written(record, work.settle(record)))
                    for piece in document.rest(work.remaining()):
                        new.write(piece)
                    new.wanted = work.dirty
        return work.outcomes

    # -- what else a file can do -----------------------------------------------------------------------

    def create(self, store: Store, type: str) -> None:
        path = self.file_of(store, type)
        if path.exists():
            return
        if not path.parent.is_dir():
            raise Unreachable(
                f"there is no folder {path.parent} to create {path.name} in", "create the folder"
            )
        text, encoding = self.blank(store, type)
        with explained(path, "written"), locked(path.parent):
            if not path.exists():
                with replacing(path, encoding, None) as new:
                    new.write(text)
                    new.wanted = True

    def discover(self, store: Store) -> dict[str, dict[str, str]]:
        """A file holds the type of its name; a folder one type for each file with the format's ending."""
        path = store.path
        with explained(path, "read"):
            path.stat()
            files = path.iterdir() if path.is_dir() else [path]
            stems = [
                file.stem
                for file in files
                if file == path or (file.suffix == self.suffix and file.is_file() and file.name[0] != ".")
            ]
        return {stem: {} for stem in sorted(stems)}

    def check(self, store: Store, type: str) -> str | None:
        path = self.file_of(store, type)
        if not path.exists():
            return f"there is no file {path}"
        if not path.is_file():
            return f"{path} is no regular file"
        for place in (path, path.resolve().parent):
            if not os.access(place, os.W_OK):
                return f"no right to write {place}"
        return None

    # -- the file --------------------------------------------------------------------------------------

    def file_of(self, store: Store, type: str) -> Path:
        """The file that holds `type`. Raises ConfigError where one file would have to hold several types."""
        path = store.path
        if store.url.endswith("/") or path.is_dir():
            return path / str(store.option(type, "file") or type + self.suffix)
        if len(store.types) > 1:
            raise ConfigError(
                f"store {store.name!r}: the file {path} cannot hold several types ({', '.join(store.types)})",
                "give each type a file of its own in a folder, and end the URL with '/'",
            )
        return path

    @contextmanager
    def _open(
        self, store: Store, type: str, doing: str = "read"
    ) -> Iterator[tuple[Document, os.stat_result]]:
        """The file open for reading, and its status. Raises Unreachable and BrokenStore."""
        path = self.file_of(store, type)
        with explained(path, doing):
            status = path.stat()
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                raise Unreachable(f"{path} is no regular file")  # opening a pipe would wait for ever
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                encoding = ""
                try:
                    document = self.document(store, type, path, file)
                    encoding = document.encoding
                    yield document, found
                except UnicodeDecodeError as error:
                    line = undecodable_line(path, encoding or error.encoding)
                    raise BrokenStore(
                        f"{path}, line {line}: bytes that are not {encoding or error.encoding}",
                        "set the option `encoding` of the store if the file is in another one",
                    ) from None


class _Work:
    """The changes of one pass: which record each one means, and what becomes of it."""

    def __init__(
        self, accessor: Accessor, binding: Binding, document: Document, changes: Sequence[Change], exact: bool
    ) -> None:
        self._binding, self._document, self._changes, self._exact = binding, document, changes, exact
        self._wire = _wire_reader(accessor, binding)
        self._keys = [(HEADER + binding.locals.index(local), local) for local in binding.key_locals]
        self._by_id: dict[str, list[int]] = {}
        self._by_key: dict[tuple[Any, ...], list[int]] = {}
        self._outcomes: dict[int, Outcome] = {}
        self.dirty = False
        types = binding.local_types
        for number, change in enumerate(changes):
            if change.id is not None:
                self._by_id.setdefault(str(change.id), []).append(number)
            else:
                key = tuple(_hashable(dump(types[local], change.name[local])) for _, local in self._keys)
                self._by_key.setdefault(key, []).append(number)

    @property
    def outcomes(self) -> list[Outcome]:
        return [self._outcomes[number] for number in range(len(self._changes))]

    def settle(self, record: Record) -> str | None:
        """The text of the record after the changes that mean it; None if it is gone."""
        numbers = self._meaning(record.row)
        return self._settle(numbers, record.row, record.text) if numbers else record.text

    def remaining(self) -> Iterator[str]:
        """The texts of the records that were not in the file and are now to be."""
        for numbers in sorted([*self._by_id.values(), *self._by_key.values()]):
            text = self._settle(numbers, None, None)
            if text is not None:
                yield text

    def _meaning(self, row: Row) -> list[int]:
        """The changes that mean this record; taken off the list, so that a second one with its key is left alone."""
        numbers: list[int] = []
        if self._by_id and row[0] is not None:
            numbers += self._by_id.pop(str(row[0]), ())
        if self._by_key:
            key = tuple([_hashable(self._wire(local, row[at])) for at, local in self._keys])
            numbers += self._by_key.pop(key, ())
        return sorted(numbers)

    def _settle(self, numbers: list[int], row: Row | None, text: str | None) -> str | None:
        """The changes to one record, one after the other; each is judged by what the one before has left."""
        for number in numbers:
            change = self._changes[number]
            verdict = change.judge(row)
            if verdict != "write":
                self._outcomes[number] = Outcome(verdict, row=row, id=row[0] if row else None)
                continue
            if change.action == "delete":
                self._outcomes[number] = Outcome("done" if row is None else "written")
                self.dirty = self.dirty or row is not None
                row = text = None
                continue
            try:
                new = self._encoded(change, row, text)
            except Refused as error:
                self._outcomes[number] = Outcome("failed", error=error)
                continue
            if new == text:
                self._outcomes[number] = Outcome("done", row=row, id=row[0] if row else None)
                continue
            self.dirty = True
            text, old = new, row
            if self._as_given(change, old) and len(numbers) == 1:
                self._outcomes[number] = Outcome("written", exact=True)
            else:
                row = self._document.parse(text, old[1] if old else None)
                self._outcomes[number] = Outcome("written", row=row, id=row[0])
        return text

    def _as_given(self, change: Change, old: Row | None) -> bool:
        return (
            self._exact
            and old is None
            and self._binding.id is None
            and len(change.values) == len(self._binding.locals)
            and not any(value is ABSENT for value in change.values.values())
        )

    def _encoded(self, change: Change, row: Row | None, text: str | None) -> str:
        """The record's new text, in which only values that differ from those it has are written anew."""
        values = change.values
        if row is not None:
            types = self._binding.local_types
            had = dict(zip(self._binding.locals, row[HEADER:], strict=True))
            values = {
                local: typed
                for local, typed in values.items()
                if not _alike(
                    self._wire(local, had[local]), typed if typed is ABSENT else dump(types[local], typed)
                )
            }
            if not values and text is not None:
                return text
        try:
            new = self._document.encode(text, values, self._binding)
            new.encode(self._document.encoding)
        except RecursionError:
            raise Refused("a value is nested too deeply") from None
        except UnicodeEncodeError as error:
            letters = new[error.start : error.end][:20]
            raise Refused(f"{self._document.encoding} cannot hold {letters!r}") from None
        if len(new) > LONGEST // 2:
            raise Refused(f"a record of {len(new):,} characters is too long")
        return new


_UNREADABLE: Any = object()
"""In place of the wire form of a value that its type refuses."""


def _wire_reader(accessor: Accessor, binding: Binding) -> Callable[[str, Any], Any]:
    """Turns the raw value of a column into its wire form, or into `_UNREADABLE`."""
    types = binding.local_types

    def wire(local: str, raw: Any) -> Any:
        type_name = types[local]
        if type_name == "str" and raw.__class__ is str:
            return raw
        if raw is ABSENT:
            return ABSENT
        try:
            return dump(type_name, native(accessor, type_name, raw))
        except BadValue:
            return _UNREADABLE

    return wire


def _alike(one: Any, other: Any) -> bool:
    """Whether two wire values are the same; one that could not be read is like no other."""
    return one is not _UNREADABLE and other is not _UNREADABLE and same(one, other)


def _hashable(wire: Any) -> Any:
    return encode(wire) if isinstance(wire, list | dict) else wire


def _judge(accepts: Callable[[Row | None], bool]) -> Callable[[Row | None], Verdict]:
    return lambda row: "write" if accepts(row) else "changed"


def _is(row: Row, old: Data, binding: Binding, wire: Callable[[str, Any], Any]) -> bool:
    """Whether the row still has the values of `old`, in so far as that tells them."""
    now = dict(zip(binding.locals, row[HEADER:], strict=True))
    return all(
        now[local] == value or _alike(wire(local, now[local]), wire(local, value))
        for local, value in old.fields.items()
        if local in now
    )


def _written(outcome: Outcome) -> Row:
    assert outcome.row is not None
    return outcome.row


def _data(binding: Binding, row: Row) -> Data:
    try:
        changed_at = read("datetime", row[2])
    except BadValue:
        changed_at = None
    fields = {
        local: value for local, value in zip(binding.locals, row[HEADER:], strict=True) if value is not ABSENT
    }
    changed_by = None if row[3] is None else str(row[3])
    return Data(binding.type, fields, id=row[0], changed_at=changed_at, changed_by=changed_by)


def encoding_of(head: bytes, option: str | None) -> tuple[str, bool]:
    """The encoding of a file that begins with `head`, and whether a byte order mark says so.

    Raises ConfigError for one that does not exist."""
    for mark, encoding in _BOMS:
        if head.startswith(mark) and (option is None or option.lower().startswith(encoding[:5])):
            return encoding, True
    try:
        name = codecs.lookup(option or "utf-8").name
    except LookupError:
        raise ConfigError(f"there is no encoding {option!r}", nearest(option or "", _USUAL)) from None
    return {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(name, name), False


_USUAL = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "ascii", "shift_jis", "gb18030", "big5", "euc-kr")


def undecodable_line(path: Path, encoding: str) -> int:
    """The line of the first bytes that are not in this encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        try:
            while chunk := file.read(1 << 16):
                line += decoder.decode(chunk).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(encoding).count("\n")
    return line
