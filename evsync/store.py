"""Store: a named set of data with one accessor per type, whose operations can be observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from evsync import plugins
from evsync.accessor import Accessor, CanCreate
from evsync.binding import Binding, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import ConfigError, Unreachable, UsageError
from evsync.urls import without_password
from evsync.values import ABSENT, read, to_text, wire_of

Operation = Literal["create", "read", "update", "delete"]
Role = Literal["both", "source", "target"]
ROLES: tuple[Role, ...] = ("both", "source", "target")


class Operated(NamedTuple):
    """What an observer is told of a successful operation: the record before and after it, in the store's own
    names and native values, and who did it. A read has both alike; a create has no `old`, a delete no `new`."""

    store: Store
    op: Operation
    type: str
    old: Data | None
    new: Data | None
    actor: str | None


class Translation(Protocol):
    """What the store calls a record of another type, and which record it means by that."""

    def key_of(self, type: str, local: Any) -> str: ...

    def id_of(self, type: str, key: str) -> int | str: ...


_MISSING = object()

Observer = Callable[[Operated], None]


class Store:
    """A database, a file, an account: a named set of data.

    `url` picks the accessor by its scheme ("sqlite:crm.db"); `accessor` or `accessors` (by type) give it by
    hand. `places` says where each type lies in the store. Relative paths in `url` start at `root`.
    A store may belong to several synchronizers; each observes it.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        places: Mapping[str, PlaceSpec] | None = None,
        accessor: Accessor | None = None,
        accessors: Mapping[str, Accessor] | None = None,
        role: Role = "both",
        max_deletes: int | str = "50%",
        options: Mapping[str, Any] | None = None,
        root: Path | None = None,
        shown_url: str | None = None,
        max_changes: int | str | None = None,
    ) -> None:
        if role not in ROLES:
            raise UsageError(f"store {name!r}: unknown role {role!r}", f"the roles are: {', '.join(ROLES)}")
        self.name = name
        self.url = url
        self.shown_url = without_password(shown_url or url)  # the only one to be printed
        self.role: Role = role
        self.max_deletes = max_deletes
        self.max_changes = max_changes
        self.written_at: str | None = (
            None  # where its feed stood when it was last written through an accessor
        )
        self.options: dict[str, Any] = dict(options or {})
        self.root = root or Path.cwd()
        self.places: dict[str, PlaceSpec] = dict(places or {})
        self._accessors: dict[str, Accessor] = dict(accessors or {})
        self._default = accessor
        self._bindings: dict[str, Binding] = {}
        self._binder: Callable[[], None] | None = None
        self._references: Callable[[], Translation] | None = None
        self._observers: list[tuple[frozenset[Operation] | None, Observer]] = []

    def __repr__(self) -> str:
        return f"Store({self.name!r}, {self.shown_url!r})"

    # -- what accessors ask ----------------------------------------------------------------------------

    @property
    def scheme(self) -> str:
        """ "sqlite" of "sqlite:crm.db"."""
        return self.url.partition(":")[0]

    @property
    def path(self) -> Path:
        """The part of the URL behind the scheme, as a path."""
        return self.root / self.url.partition(":")[2]

    def binding(self, type: str) -> Binding:
        """How `type` lies in this store. Raises ConfigError if it does not."""
        if type not in self._bindings and self._binder is not None:
            self._binder()
        try:
            return self._bindings[type]
        except KeyError:
            raise ConfigError(
                f"store {self.name!r} does not hold the type {type!r}",
                f"it holds: {', '.join(sorted(self._bindings)) or 'none'}",
            ) from None

    def option(self, type: str, name: str, default: Any = None) -> Any:
        """A setting of the accessor's: of the type's place in the store, else of the store."""
        place = self.places.get(type)
        found = None if place is None else place.options.get(name)
        return found if found is not None else self.options.get(name, default)

    # -- what the engine asks --------------------------------------------------------------------------

    def most_deletes(self, type: str) -> int | str:
        """How many records of `type` may be gone at once: a count or a percentage."""
        place = self.places.get(type)
        found = None if place is None else place.max_deletes
        return self.max_deletes if found is None else found

    def most_changes(self, type: str) -> int | str | None:
        """How many may have changed at once, if there is a limit."""
        place = self.places.get(type)
        found = None if place is None else place.max_changes
        return self.max_changes if found is None else found

    def accessor(self, type: str) -> Accessor:
        """The accessor of `type`."""
        found = self._accessors.get(type)
        if found is None:
            if self._default is None:
                self._default = plugins.accessor(self.scheme, where=f"store {self.name!r}")
            found = self._accessors[type] = self._default
        return found

    def bind(self, binding: Binding) -> None:
        """Fix how a type lies in this store. A synchronizer does it; without one, call it once per type."""
        self._bindings[binding.type] = binding

    def is_bound(self, type: str) -> bool:
        """Whether it is fixed already how `type` lies in this store."""
        return type in self._bindings

    def translate_with(self, references: Callable[[], Translation]) -> None:
        """Have references between records translated, where this store means them by ids of its own."""
        self._references = references

    def bind_with(self, binder: Callable[[], None]) -> None:
        """Have `binder` bind this store's types when the first of them is needed."""
        self._binder = binder

    @property
    def types(self) -> tuple[str, ...]:
        """The types that this store holds."""
        return tuple(self.places) or tuple(self._bindings)

    # -- the API ---------------------------------------------------------------------------------------

    def observe(self, observer: Observer, *operations: Operation) -> Callable[[], None]:
        """Call `observer` after each successful operation (only those named, if any); answers with the way to stop."""
        entry = (frozenset(operations) or None, observer)
        self._observers.append(entry)
        return lambda: self._observers.remove(entry)

    def get(self, type: str, id: int | str, *, actor: str | None = None) -> Data | None:
        """The record that this store calls `id`, in canonical names and typed values."""
        return self._read(type, self.accessor(type).get(self, type, id), actor)

    def get_by_name(self, type: str, *key: Any, actor: str | None = None) -> Data | None:
        """The record with these values of the key fields."""
        binding = self.binding(type)
        if len(key) != len(binding.key):
            raise UsageError(
                f"type {type!r} has the key {', '.join(binding.key)}: {len(binding.key)} value(s), not {len(key)}"
            )
        name = {
            binding.local_of[field]: _to_local(binding, field, value)
            for field, value in zip(binding.key, key, strict=True)
        }
        return self._read(type, self.accessor(type).get_by_name(self, type, name), actor)

    def find(self, type: str, *, actor: str | None = None, **match: Any) -> Iterator[Data]:
        """The records whose fields have these values; all of them without any."""
        binding = self.binding(type)
        for found in self.accessor(type).find(self, type, self._localise(binding, match)):
            data = self._read(type, found, actor)
            if data is not None:
                yield data

    def add(self, data: Data, *, actor: str | None = None) -> Data:
        """Create a record; answers with it as stored."""
        local, accessor = self._local(data), self.accessor(data.type)
        try:
            stored = accessor.add(self, local)
        except Unreachable:
            if not isinstance(accessor, CanCreate):
                raise
            accessor.create(self, data.type)  # a table or file that is not there yet; else this fails as well
            stored = accessor.add(self, local)
        self._notify("create", data.type, None, stored, actor)
        return self._canonical(data.type, stored)

    def update(self, data: Data, *, actor: str | None = None) -> Data:
        """Write the fields given, leaving the others alone; answers with the record as stored."""
        accessor = self.accessor(data.type)
        old = self._current(data)
        if old is None:
            raise UsageError(f"store {self.name!r} has no such {data.type!r} to update: {_called(data)}")
        local = self._local(data)
        local.id = old.id if local.id is None else local.id
        stored = accessor.update(self, local, old)
        self._notify("update", data.type, old, stored, actor)
        return self._canonical(data.type, stored)

    def remove(self, data: Data, *, actor: str | None = None) -> None:
        """Delete a record; no error if it is gone already."""
        old = self._current(data)
        if old is None:
            return
        self.accessor(data.type).remove(self, old)
        self._notify("delete", data.type, old, None, actor)

    # -- canonical ↔ local -----------------------------------------------------------------------------

    def _current(self, data: Data) -> Data | None:
        accessor, binding = self.accessor(data.type), self.binding(data.type)
        if data.id is not None:
            return accessor.get(self, data.type, data.id)
        missing = [name for name in binding.key if data.fields.get(name) is None]
        if missing:
            raise UsageError(
                f"{data.type!r}: the key field(s) {', '.join(missing)} are needed to find the record"
            )
        return accessor.get_by_name(
            self, data.type, self._localise(binding, {name: data.fields[name] for name in binding.key})
        )

    def _localise(self, binding: Binding, fields: Mapping[str, Any]) -> dict[str, Any]:
        unknown = [name for name in fields if name not in binding.local_of]
        if unknown:
            raise UsageError(
                f"store {self.name!r}, type {binding.type!r}: no field {unknown[0]!r}",
                f"it has: {', '.join(binding.names)}",
            )
        return {
            field.local: value
            if value is None or value is ABSENT
            else self._local_value(binding, field, value)
            for field in binding.fields
            if (value := fields.get(field.name, _MISSING)) is not _MISSING
        }

    def _local_value(self, binding: Binding, field: Field, value: Any) -> Any:
        if field.name in binding.convert:
            return _to_local(binding, field.name, value)
        typed = read(field.type, value)
        if field.references is None or self._references is None:
            return typed
        id = self._references().id_of(field.references, to_text(field.type, typed))
        return id if field.local_type is None else read(field.local_type, id)

    def _canonical_value(self, type: str, binding: Binding, field: Field, raw: Any) -> Any:
        if field.references is None or self._references is None or raw is None:
            return _to_canonical(self.accessor(type), binding, field, raw)
        return read(field.type, self._references().key_of(field.references, raw))

    def _local(self, data: Data) -> Data:
        binding = self.binding(data.type)
        return Data(data.type, self._localise(binding, data.fields), data.key, data.id, data.version)

    def _canonical(self, type: str, local: Data) -> Data:
        binding = self.binding(type)
        fields = {}
        for field in binding.fields:
            raw = local.fields.get(field.local, ABSENT)
            if raw is not ABSENT:
                fields[field.name] = self._canonical_value(type, binding, field, raw)
        return Data(type, fields, local.key, local.id, local.version, local.changed_at, local.changed_by)

    def _read(self, type: str, found: Data | None, actor: str | None) -> Data | None:
        if found is None:
            return None
        self._notify("read", type, found, found, actor)
        return self._canonical(type, found)

    def _notify(
        self, op: Operation, type: str, old: Data | None, new: Data | None, actor: str | None
    ) -> None:
        for operations, observer in list(self._observers):
            if operations is None or op in operations:
                observer(Operated(self, op, type, old, new, actor))


def _to_local(binding: Binding, name: str, typed: Any) -> Any:
    """What the store holds for a field's value; without a conversion just that."""
    conversion = binding.convert.get(name)
    return (
        typed if conversion is None or typed is None else conversion.local_of(wire_of(conversion.type, typed))
    )


def _to_canonical(accessor: Accessor, binding: Binding, field: Field, raw: Any) -> Any:
    conversion = binding.convert.get(field.name)
    if conversion is None or raw is None:
        return native(accessor, field.type, raw)
    return conversion.typed_of(
        raw if conversion.local_type is None else native(accessor, conversion.local_type, raw)
    )


def native(accessor: Accessor, type_name: str, raw: Any) -> Any:
    """The typed value of what an accessor hands out."""
    if type_name == "json" and accessor.json_is_text and isinstance(raw, str | bytes):
        from evsync.values import parse_json

        return parse_json(raw)
    return read(type_name, raw)


def _called(data: Data) -> str:
    return repr(data.id if data.id is not None else data.key or data.fields)
