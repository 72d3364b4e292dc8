"""What the accessors of files share: where the file is, reading it, and rewriting it record by record.

A format says how its records are told apart and written (`Document`); everything else is `FileAccessor`.
Records are known by their key, or by the column that the setting `id` names. They are found at a line.
Text that is not to be changed stays as it is, byte for byte.
"""

from __future__ import annotations

import os
import stat
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from accessors.changes import Work, alike, wire_reader
from accessors.documents import Document, undecodable_line
from accessors.file_events import file_changes
from accessors.marks import file_mark
from accessors.rewriting import explained, locked, replacing, state_of
from evsync.accessor import HEADER, Accessor, Change, Outcome, Row, Verdict
from evsync.binding import Binding
from evsync.data import Data
from evsync.errors import BadValue, BrokenStore, ConfigError, Refused, Retry, Unreachable
from evsync.store import Store, native
from evsync.values import ABSENT, dump, read

SCANNED = 2_000
"""How many rows `scan` hands out at a time."""


class FileAccessor(Accessor):
    """The six methods, and `scan`, `apply`, `create`, `discover` and `check`, over a `Document`.

    The URL's path is a file, which holds one type, or a folder (it ends with "/", or is one), which holds
    a file for each type: `<type><suffix>`, or what the setting `file` says.
    """

    suffix: ClassVar[str]
    batch: int = 20_000

    @abstractmethod
    def document(self, store: Store, type: str, path: Path, file: BinaryIO) -> Document:
        """The open file, ready to be read."""

    @abstractmethod
    def blank(self, store: Store, type: str) -> tuple[str, str]:
        """The text of a file without records, and its encoding."""

    def waking(self, store: Store, stop: Callable[[], bool]) -> Iterator[None]:
        """See evsync.accessor.CanWake: by what the operating system tells of the folder, if `watchfiles` is installed."""
        yield from file_changes(sorted({self.file_of(store, type) for type in store.types}), stop)

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
        wire = wire_reader(self, binding)
        types = binding.local_types
        wanted = [
            (binding.locals.index(local), local, dump(types[local], typed))
            for local, typed in (match or {}).items()
        ]
        for row in self._scanned(store, type):
            if all(alike(wire(local, row[HEADER + at]), value) for at, local, value in wanted):
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
        wire = wire_reader(self, binding)
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
                work = Work(self, binding, document, changes, exact)
                if exact and work.moves:
                    work.refuse_taken(self._scanned(store, type))
                with replacing(target, document.encoding, found) as new:
                    for record in document.records(binding):
                        new.write(document.written(record, work.settle(record)))
                    for piece in document.rest(work.remaining()):
                        new.write(piece)
                    new.wanted = work.dirty
        return work.outcomes

    def mark(self, store: Store, type: str) -> str | None:
        """See evsync.accessor.CanMark."""
        return file_mark(self.file_of(store, type).resolve())

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


def _judge(accepts: Callable[[Row | None], bool]) -> Callable[[Row | None], Verdict]:
    return lambda row: "write" if accepts(row) else "changed"


def _is(row: Row, old: Data, binding: Binding, wire: Callable[[str, Any], Any]) -> bool:
    """Whether the row still has the values of `old`, in so far as that tells them."""
    now = dict(zip(binding.locals, row[HEADER:], strict=True))
    return all(
        now[local] == value or alike(wire(local, now[local]), wire(local, value))
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
