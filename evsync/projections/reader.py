"""From a store's raw rows to canonical content: typed, checked, written down once.

This is the hot path of every ingest. Rows are read together, column by column, as long as each has all fields and can be
taken; what a column needs is told by the Python types of its values, and worked out once for each set of types.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from evsync.accessor import HEADER, Accessor, Row
from evsync.binding import Binding, Field
from evsync.data import Data, join_key
from evsync.errors import BadValue, Refused
from evsync.journal.event import Fields, Revision
from evsync.values import ABSENT, TYPES, Absent, decode, dump, encode, load, micros, parse_json, read, wire_of

if TYPE_CHECKING:
    from evsync.projections.references import References

Names = tuple[str, ...]
KNOWN_TEXTS = 20_000  # kept of each type
LONGEST_KNOWN = 40  # characters
OFTEN_THE_SAME = frozenset({"int", "float", "decimal", "bool", "date", "time", "datetime", "uuid"})
SAME_ON_THE_WIRE = frozenset({"str", "int", "bool", "json"})


class Record(NamedTuple):
    """A row that was read. `text` is its content as a JSON array of the values of `names`; `id` is None where the
    store knows the record by its key. `changed_at` in microseconds."""

    key: str
    id: int | str | None
    names: Names
    text: str
    fingerprint: bytes
    changed_at: int | None
    changed_by: str | None
    place: str | None


def id_beside(key: str, record: Record) -> int | str | None:
    """What the store calls a record that is known here as `key`; None if it is that. A store without ids of its
    own calls a record by what stands in the key fields now, which may have been changed since the key was minted."""
    local = record.key if record.id is None else record.id
    return None if str(local) == key else local


class BadRow(Exception):
    """A row that cannot be taken: a value that its type refuses, or no key."""

    def __init__(self, row: Row, error: str) -> None:
        super().__init__(error)
        self.row = row
        self.error = error


def tag(names: Names) -> bytes:
    """What makes the same values under other names another content."""
    return hashlib.sha256(encode(names)).digest()


def fingerprint(tag: bytes, text: bytes) -> bytes:
    """Sixteen bytes that stand for a content: SHA-256, cut in half."""
    return hashlib.sha256(tag + text).digest()[:16]


def key_text(type_name: str, wire: Any) -> str:
    """A key field's value as it stands in a key."""
    return wire if type(wire) is str else TYPES[type_name].text(load(type_name, wire))


def wire_of_key(type_name: str, key: str) -> Any:
    """A key as the value of a field of this type that refers to the record."""
    return key if type_name == "str" else wire_of(type_name, key)


def id_as(type_name: str | None, id: int | str) -> Any:
    """What a store calls a record, as a typed value of the column that refers to it."""
    try:
        return id if type_name is None else read(type_name, id)
    except BadValue:
        return id


class Batch(NamedTuple):
    """Rows that were read together: a sequence each, in their order; `ids` None where all are None. `changed_at` and
    `changed_by` as the store says them."""

    keys: list[str]
    ids: list[int | str | None] | None
    contents: list[bytes]
    fingerprints: list[bytes]
    places: Sequence[str | None]
    changed_at: Sequence[Any]
    changed_by: Sequence[Any]

    def columns(self) -> tuple[Iterable[Any], ...]:
        """Key, id, text, fingerprint, changed_at, changed_by and place of each. See Record."""
        at, by, count = self.changed_at, self.changed_by, len(self.keys)
        return (
            self.keys,
            self.ids or repeat(None, count),
            map(bytes.decode, self.contents),
            self.fingerprints,
            repeat(None, count) if at.count(None) == count else map(moment_of, at),
            repeat(None, count) if by.count(None) == count else map(_author, by),
            self.places,
        )


class _OneByOne(Exception):
    """These rows cannot be read together."""


Convert = Callable[[Any], Any]
Plan = tuple[tuple[int, Convert], ...] | None  # the values to convert; None: some are absent


class Texts(dict[str | None, Any]):
    """What the texts in a store stand for, as wire values of one type: the same few come again and again."""

    def __init__(self, type_name: str) -> None:
        super().__init__()
        self._type_name = type_name
        self[None] = None

    def __missing__(self, text: str) -> Any:
        """Raises BadValue."""
        wire = wire_of(self._type_name, text)
        if len(self) >= KNOWN_TEXTS:
            self.clear()
            self[None] = None
        if len(text) <= LONGEST_KNOWN:
            self[text] = wire
        return wire


class Reader:
    """Reads the rows of one binding. `references` translates the fields that refer to other records by the store's
    own ids; see `references.reader_of`."""

    def __init__(self, binding: Binding, accessor: Accessor, references: References | None = None) -> None:
        self.binding = binding
        self._references = references
        self._referring: dict[int, Field] = {
            index: field
            for index, field in enumerate(binding.fields)
            if field.references is not None and references is not None
        }
        self._json_is_text = accessor.json_is_text
        self._types = tuple(field.type for field in binding.fields)
        self._convert = {i: binding.convert.get(name) for i, name in enumerate(binding.names)}
        self._width = HEADER + len(binding.fields) if binding.strange else None
        # Where wire form and typed value are the same there is nothing to convert.
        self._loads: dict[str, tuple[str, Convert | None]] = {
            field.name: (field.local, None if field.type in SAME_ON_THE_WIRE else TYPES[field.type].load)
            for field in binding.fields
        }
        for field in self._referring.values():
            self._loads[field.name] = (field.local, self._id_of(field))
        self._key_at = tuple(binding.names.index(name) for name in binding.key)
        self.keys_are_numbers = [self._types[at] for at in self._key_at] == ["int"]
        self._plans: dict[tuple[type, ...], Plan] = {}
        self._texts: dict[str, Texts] = {}
        self._ways: list[dict[frozenset[type], Callable[[Sequence[Any]], list[Any]] | None]]
        self._ways = [{} for _ in binding.names]
        self._tags: dict[Names, bytes] = {binding.names: tag(binding.names)}
        self._full_tag = self._tags[binding.names]

    def batch(self, rows: Sequence[Row]) -> Batch | None:
        """Rows read by columns, which is quicker; None where they have to be read one by one, as some lack a field or cannot
        be taken."""
        if self._width is not None or not rows:
            return None
        ids, places, changed_at, changed_by, *columns = zip(*rows, strict=True)
        try:
            values = [self._column(index, column) for index, column in enumerate(columns)]
            keys = self._keys(values)
            contents = list(map(encode, zip(*values, strict=True)))
        except (_OneByOne, BadValue, ValueError):
            return None
        sha256, marker = hashlib.sha256, self._full_tag
        return Batch(
            keys,
            _ids(ids, keys),
            contents,
            [sha256(marker + content).digest()[:16] for content in contents],
            places,
            changed_at,
            changed_by,
        )

    def _column(self, index: int, column: Sequence[Any]) -> Sequence[Any]:
        """The wire values of a field. Raises _OneByOne, BadValue, ValueError."""
        kinds = frozenset(map(type, column))
        try:
            way = self._ways[index][kinds]
        except KeyError:
            way = self._ways[index][kinds] = self._way(index, kinds)
        return column if way is None else way(column)

    def _way(self, index: int, kinds: frozenset[type]) -> Callable[[Sequence[Any]], list[Any]] | None:
        """How to convert a column of values of these types; None if there is nothing to convert."""
        if Absent in kinds:
            raise _OneByOne
        steps = {kind: step for kind in kinds if (step := self._step(index, kind)) is not None}
        if not steps:
            return None
        if kinds <= {str, type(None)} and isinstance(texts := getattr(steps[str], "__self__", None), Texts):
            if self._types[index] == "int" and kinds == {str}:
                return lambda column: _numbers(column) or list(map(texts.__getitem__, column))
            return lambda column: list(map(texts.__getitem__, column))
        return lambda column: [
            value if (step := steps.get(type(value))) is None else step(value) for value in column
        ]

    def _keys(self, values: Sequence[Sequence[Any]]) -> list[str]:
        """The keys of a batch. Raises _OneByOne if one lacks a part."""
        parts = []
        for at in self._key_at:
            column, kinds = values[at], set(map(type, values[at]))
            if type(None) in kinds:
                raise _OneByOne
            type_name = self._types[at]
            if kinds == {int} and type_name == "int":
                parts.append(list(map(str, column)))
            else:
                parts.append([key_text(type_name, value) for value in column])
        return parts[0] if len(parts) == 1 else list(map(join_key, zip(*parts, strict=True)))

    def read_all(self, rows: Sequence[Row], bad: Callable[[BadRow], None]) -> list[Record]:
        """The records that rows hold, but for those that cannot be taken: they go to `bad`."""
        batch = self.batch(rows)
        if batch is not None:
            keys, ids, *others = batch.columns()
            new, names = tuple.__new__, repeat(self.binding.names, len(rows))
            return [new(Record, one) for one in zip(keys, ids, names, *others, strict=True)]
        records = []
        for row in rows:
            try:
                records.append(self.read(row))
            except BadRow as one:
                bad(one)
        return records

    def read(self, row: Row) -> Record:
        """The record that a row holds. Raises BadRow."""
        values: Sequence[Any] = row[HEADER : self._width]
        if self._width is not None:
            self._refuse_strange(row)
        kinds = tuple(map(type, values))
        try:
            plan = self._plans[kinds]
        except KeyError:
            plan = self._plan(kinds)
        names = self.binding.names
        try:
            if plan:
                converted = list(values)
                for index, convert in plan:
                    converted[index] = convert(converted[index])
                values = converted
            elif plan is None:
                values = [
                    value if value is ABSENT else self._wire(i, value) for i, value in enumerate(values)
                ]
        except (BadValue, ValueError):
            raise BadRow(row, self._blame(row)) from None
        if len(self._key_at) == 1:
            key = values[self._key_at[0]]
            if type(key) is int:
                key = str(key)
            elif type(key) is not str:
                key = self._key(row, values)
        else:
            key = self._key(row, values)
        marker = self._full_tag
        if plan is None:
            names = tuple(name for name, value in zip(names, values, strict=True) if value is not ABSENT)
            values = [value for value in values if value is not ABSENT]
            marker = self._tag(names)
        try:
            content = encode(values)
            text = content.decode()
        except UnicodeEncodeError:
            raise BadRow(row, self._blame(row)) from None
        id, place, changed_at, changed_by = row[:HEADER]
        if id is not None:
            if type(id) is not int and type(id) is not str:
                id = str(id)
            if str(id) == key:
                id = None
        return Record(
            key,
            id,
            names,
            text,
            hashlib.sha256(marker + content).digest()[:16],
            None if changed_at is None else moment_of(changed_at),
            _author(changed_by),
            place,
        )

    def key_of(self, row: Row) -> str | None:
        """The key of a row whose other fields may be beyond reading; None if it has none."""
        values = row[HEADER : self._width]
        try:
            key = self._key(
                row, [self._wire(i, v) if i in self._key_at else None for i, v in enumerate(values)]
            )
            key.encode()  # half a surrogate pair is no key
            return key
        except (BadRow, BadValue, ValueError):
            return None

    def key_in(self, fields: Fields) -> str:
        """What stands in the key fields of a record, as a key: the record's own, unless they were changed."""
        types = dict(zip(self.binding.names, self._types, strict=True))
        return join_key([key_text(types[name], fields[name]) for name in self.binding.key])

    def row_of(self, data: Data) -> Row:
        """The row form of what one of the six methods answered."""
        fields = data.fields
        binding = self.binding
        changed_at: Any = data.changed_at
        if changed_at is None and binding.changed_at is not None:
            changed_at = fields.get(binding.changed_at)
        changed_by: Any = data.changed_by
        if changed_by is None and binding.changed_by is not None:
            changed_by = fields.get(binding.changed_by)
        return (
            data.id,
            None,
            changed_at,
            changed_by,
            *(fields.get(local, ABSENT) for local in binding.locals),
        )

    def native(self, fields: Fields, names: Sequence[str]) -> dict[str, Any]:
        """These of a content's wire values as an accessor takes them: typed, under the store's own names.

        Raises Refused for a value that cannot be converted, and references.Waits (one of them) for a record that
        refers to one which the store does not hold."""
        values = {}
        for name in names:
            local, convert = self._loads[name]
            wire = fields.get(name, ABSENT)
            if name in self.binding.convert and wire is not None and wire is not ABSENT:
                values[local] = self._converted(name, self.binding.convert[name].local_of, wire)
                continue
            values[local] = wire if convert is None or wire is None or wire is ABSENT else convert(wire)
        return values

    def typed(self, rows: list[list[Any]]) -> list[list[Any]]:
        """Rows of wire values of all fields as an accessor takes them; changed in place. There is nothing in the
        binding that converts a value or refers to another record."""
        steps = [
            (i, load) for i, n in enumerate(self.binding.names) if (load := self._loads[n][1]) is not None
        ]
        for index, load in steps:
            for row in rows:
                if row[index] is not None:
                    row[index] = load(row[index])
        return rows

    def read_back(self, fields: Fields) -> Fields:
        """A canonical content as it would be read again once it was written: a conversion may write a value
        another way. Raises Refused."""
        back = dict(fields)
        for name, conversion in self.binding.convert.items():
            wire = fields.get(name)
            if wire is not None:
                back[name] = self._converted(name, conversion.read_back, wire)
        return back

    @staticmethod
    def _converted(name: str, way: Convert, wire: Any) -> Any:
        try:
            return way(wire)
        except BadValue as error:
            raise Refused(f"field {name!r}: {error.message}") from error

    @staticmethod
    def fields_of(record: Record) -> Fields:
        """A record's content as wire values."""
        return dict(zip(record.names, decode(record.text), strict=True))

    def fingerprint_of_revision(self, revision: Revision, want: Fields) -> bytes:
        """The fingerprint of a canonical record as this store would hold it. Mostly the payload as it stands
        is what is hashed: then it need not be written down again."""
        shape = revision.shape
        if shape is not None and revision.text is not None and len(want) == len(shape.names):
            return fingerprint(self._tag(shape.names), revision.text.encode())
        return self.fingerprint_of(want)

    def fingerprints(self, texts: Sequence[str]) -> list[bytes]:
        """The fingerprints of contents that have all fields, given as JSON arrays of their values."""
        sha256, tag = hashlib.sha256, self._full_tag
        return [sha256(tag + text.encode()).digest()[:16] for text in texts]

    def fingerprint_of(self, fields: Fields) -> bytes:
        """The fingerprint of a content given as wire values."""
        names = tuple(name for name in self.binding.names if name in fields)
        return fingerprint(self._tag(names), encode([fields[name] for name in names]))

    def _tag(self, names: Names) -> bytes:
        found = self._tags.get(names)
        if found is None:
            if len(self._tags) > 10_000:  # records that each have other fields must not fill the memory
                self._tags.clear()
            found = self._tags[names] = tag(names)
        return found

    def _plan(self, kinds: tuple[type, ...]) -> Plan:
        plan: Plan
        if Absent in kinds:
            plan = None
        else:
            plan = tuple(
                (index, step)
                for index, kind in enumerate(kinds)
                if (step := self._step(index, kind)) is not None
            )
        if len(self._plans) > 10_000:
            self._plans.clear()
        self._plans[kinds] = plan
        return plan

    def _step(self, index: int, kind: type) -> Convert | None:
        """How to convert a value of this type in this column; None if there is nothing to convert."""
        type_name = self._types[index]
        own = index in self._referring or self._convert[index] is not None
        if kind is type(None) or (kind in TYPES[type_name].plain and not own):
            return None
        if kind is float and type_name == "float" and not own:
            return _float
        if kind is str and not own and type_name in OFTEN_THE_SAME:
            return self._texts.setdefault(type_name, Texts(type_name)).__getitem__
        return self._converter(index)

    def _converter(self, index: int) -> Convert:
        return lambda value: self._wire(index, value)

    def _wire(self, index: int, value: Any) -> Any:
        conversion = self._convert[index]
        if conversion is not None and value is not None:
            if conversion.local_type == "json" and self._json_is_text and isinstance(value, str | bytes):
                value = parse_json(value)
            return conversion.wire_of(value)
        type_name = self._types[index]
        field = self._referring.get(index)
        if field is not None:
            assert self._references is not None and field.references is not None
            if value is None:
                return None
            return wire_of_key(type_name, self._references.key_of(field.references, value))
        if type_name == "json" and self._json_is_text and isinstance(value, str | bytes):
            return parse_json(value)
        return wire_of(type_name, value)

    def _id_of(self, field: Field) -> Convert:
        references, parent = self._references, field.references
        assert references is not None and parent is not None
        return lambda wire: id_as(field.local_type, references.id_of(parent, key_text(field.type, wire)))

    def _refuse_strange(self, row: Row) -> None:
        """A value in a column that is no part of the type, where its contract says that such rows wait."""
        for local, value in zip(self.binding.strange, row[self._width :], strict=True):
            if value is not None and value is not ABSENT:
                raise BadRow(row, f"field {local!r} is not part of {self.binding.type!r}")

    def _key(self, row: Row, values: Sequence[Any]) -> str:
        parts = []
        for name, index in zip(self.binding.key, self._key_at, strict=True):
            value = values[index]
            if value is None or value is ABSENT:
                raise BadRow(row, f"the key field {name!r} is {'null' if value is None else 'missing'}")
            parts.append(key_text(self._types[index], value))
        return join_key(parts)

    def _blame(self, row: Row) -> str:
        """Which field it was, found out once it matters."""
        for index, value in enumerate(row[HEADER : self._width]):
            field = self.binding.fields[index]
            if value is None or value is ABSENT:
                continue
            try:
                encode(self._wire(index, value))
            except BadValue as error:
                return f"field {field.name!r}: {error.message}"
            except UnicodeEncodeError:
                return f"field {field.name!r}: {value!r} is not valid Unicode text"
            except ValueError as error:
                return f"field {field.name!r}: {error}"
        return "cannot be read"


_FIRST, _LAST = micros(datetime.min), micros(datetime.max)


def _ids(ids: Sequence[Any], keys: Sequence[str]) -> list[int | str | None] | None:
    """What the store calls records, where that is not their key; None if it nowhere is."""
    kinds = set(map(type, ids))
    if kinds == {type(None)} or (kinds == {int} and list(map(str, ids)) == keys):
        return None
    found = [
        None if id is None or str(id) == key else id if type(id) is int or type(id) is str else str(id)
        for id, key in zip(ids, keys, strict=True)
    ]
    return found if any(id is not None for id in found) else None


def _numbers(column: Sequence[str]) -> list[int] | None:
    """Texts as whole numbers, where most differ and all are written as numbers are: as ids are."""
    if len(set(column)) * 2 < len(column):
        return None
    try:
        found = list(map(int, column))
        return found if list(map(str, found)) == list(column) else None
    except ValueError:
        return None


def _float(value: float) -> Any:
    return value if math.isfinite(value) else dump("float", value)


def _author(changed_by: Any) -> str | None:
    return None if changed_by is None else str(changed_by).encode("utf-8", "backslashreplace").decode()


def moment_of(raw: Any) -> int | None:
    """When the store says that a record was changed; what cannot be understood counts as not said."""
    if raw is None:
        return None
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        found = int(raw * 1_000_000) if abs(raw) < 1e11 else None
    else:
        try:
            found = micros(read("datetime", raw))
        except BadValue:
            found = None
    return found if found is not None and _FIRST <= found <= _LAST else None
