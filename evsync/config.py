"""The configuration: `evsync.toml` read, checked and turned into values. Nothing here touches a store."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from evsync import plugins, secrets
from evsync.accessor import Accessor
from evsync.binding import PlaceSpec, TypeSpec, check_types, nearest
from evsync.errors import ConfigError
from evsync.store import ROLES, Role

FILE_NAME = "evsync.toml"
DEFAULT_JOURNAL = "evsync.db"
DEFAULT_MAX_DELETES = "50%"

FIELD_POLICIES = ("newest", "first", "prefer", "manual")
DELETE_POLICIES = ("edit-wins", "delete-wins", "manual")

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_PERCENT = re.compile(r"(\d{1,3})%\Z", re.ASCII)
_LINE = re.compile(r" \(at line (\d+), column \d+\)\Z")


class Conflicts(msgspec.Struct, frozen=True):
    """The policies of `[conflicts]`; `prefer` lists the stores that win, the best first."""

    fields: str = "newest"
    delete: str = "edit-wins"
    adopt: str = "first"
    prefer: tuple[str, ...] = ()


class StoreSpec(msgspec.Struct, frozen=True):
    """A store as configured: `[stores.NAME]`. Only `shown_url` may be printed: `url` has its secrets filled in."""

    name: str
    url: str
    shown_url: str
    role: Role = "both"
    max_deletes: int | str = DEFAULT_MAX_DELETES
    audit_reads: bool = False
    options: dict[str, Any] = {}
    places: dict[str, PlaceSpec] = {}


class Config(msgspec.Struct, frozen=True):
    """All of `evsync.toml`. Relative paths start at `root`, the file's folder."""

    path: Path | None
    root: Path
    journal: str = DEFAULT_JOURNAL
    conflicts: Conflicts = Conflicts()
    type_conflicts: dict[str, dict[str, str]] = {}  # type → field → policy
    types: dict[str, TypeSpec] = {}
    stores: dict[str, StoreSpec] = {}
    audit_reads: bool = False


def find_config(start: Path) -> Path:
    """The `evsync.toml` in `start` or the nearest of its parents."""
    start = start.absolute()
    for folder in (start, *start.parents):
        found = folder / FILE_NAME
        if found.is_file():
            return found
    raise ConfigError(
        f"no {FILE_NAME} in {start} or above it",
        "write one with: evsync init, or name it with --config",
    )


def load_config(path: Path) -> Config:
    """The configuration in the file `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "write one with: evsync init") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "name the file itself") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8", "save the file as UTF-8") from None
    return parse_config(text, path)


def parse_config(text: str, path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration that `text` says; `path` is where it was read from.

    Raises ConfigError for everything that can be known to be wrong without looking into a store."""
    file = FILE_NAME if path is None else path.name
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        where = f"{file}, line {line[1]}" if line else file
        raise ConfigError(
            f"{where}: {_LINE.sub('', str(error))}",
            'this line is not TOML; texts stand in quotes: name = "value"',
        ) from None
    top = _Table(file, "", raw, os.environ if environ is None else environ)
    root = Path.cwd() if path is None else path.absolute().parent

    audit_reads = top.flag("audit_reads", False)
    types, type_conflicts = {}, {}
    for name, table in top.tables("types"):
        types[name], type_conflicts[name] = _type(name, table)
    for name, spec in types.items():
        for field, target in spec.references.items():
            if target not in types:
                raise ConfigError(
                    f"{file}, [types.{name}]: {field!r} references the unknown type {target!r}",
                    nearest(target, types) or f"declare it: [types.{target}]",
                )
    stores = {name: _store(name, table, types, audit_reads) for name, table in top.tables("stores")}
    config = Config(
        path,
        root,
        top.text("journal", DEFAULT_JOURNAL),
        _conflicts(top.table("conflicts"), stores),
        type_conflicts,
        types,
        stores,
        audit_reads,
    )
    top.finish()
    return config


class _Table:
    """One table of the file. Hands out its entries checked and with the environment's variables filled in,
    and complains at the end of those that nobody asked for."""

    def __init__(self, file: str, place: str, entries: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.file = file
        self.place = place
        self.entries = entries
        self.environ = environ
        self.asked: set[str] = set()

    def error(self, message: str, hint: str = "") -> ConfigError:
        """A ConfigError that begins with where this table stands."""
        return ConfigError(f"{self.file}{f', [{self.place}]' if self.place else ''}: {message}", hint)

    def written(self, key: str) -> Any:
        """The value just as it stands in the file; None if there is none."""
        self.asked.add(key)
        return self.entries.get(key)

    def value(self, key: str) -> Any:
        """The value, whatever it is; None if there is none."""
        return self._fill(self.written(key))

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty. Without a default it must be there."""
        found = self.value(key)
        if found is None:
            if default is None:
                meant = next((entry for entry in self.entries if nearest(entry, [key])), None)
                raise self.error(
                    f"{key!r} is missing",
                    f"write {key!r} in place of {meant!r}" if meant else f"add: {key} = …",
                )
            return default
        if not isinstance(found, str) or not found:
            raise self._expected(key, "a text", found)
        return found

    def optional(self, key: str) -> str | None:
        """A text, or None if it is not there."""
        return self.text(key) if key in self.entries else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, or None if it is not there."""
        found = self.value(key)
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(entry, str) and entry for entry in found):
            raise self._expected(key, "a list of texts", found)
        for entry in found:
            if found.count(entry) > 1:
                raise self.error(f"{key!r} names {entry!r} twice")
        return tuple(found)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        found = self.value(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self._expected(key, "true or false", found)
        return found

    def names(self, key: str) -> dict[str, str] | None:
        """A table of texts, or None if it is not there."""
        if key not in self.entries:
            return None
        table = self.table(key)
        return {name: table.text(name) for name in table.entries}

    def table(self, key: str) -> _Table:
        """The table under `key`, empty if it is not there."""
        found = self.written(key)
        if not isinstance(found, dict | None):
            raise self._expected(key, "a table", found)
        place = f"{self.place}.{key}" if self.place else key
        return _Table(self.file, place, found or {}, self.environ)

    def tables(self, key: str) -> Iterable[tuple[str, _Table]]:
        """The named tables under `key`."""
        parent = self.table(key)
        return [(name, parent.table(name)) for name in parent.entries]

    def rest(self, known: Collection[str]) -> dict[str, Any]:
        """The entries not asked for so far whose names are `known`."""
        return {name: self.value(name) for name in self.entries if name in known and name not in self.asked}

    def finish(self, also: Collection[str] = ()) -> None:
        """Raises ConfigError for a key that nobody asked for; `also` are further keys that could stand here."""
        for key in self.entries:
            if key not in self.asked:
                known = [*sorted(self.asked), *also]
                raise self.error(
                    f"unknown key {key!r}", nearest(key, known) or f"the keys are: {', '.join(known)}"
                )

    def _expected(self, key: str, expected: str, found: object) -> ConfigError:
        if found == "":
            return self.error(f"{key!r} is empty", f"it must be {expected}")
        hint = (
            f'write: {key} = ["{found}"]' if expected == "a list of texts" and isinstance(found, str) else ""
        )
        return self.error(f"{key!r} must be {expected}, not {_kind(found)}", hint)

    def _fill(self, value: Any) -> Any:
        """`value` with `${NAME}` in its texts replaced. Never tells a variable's value, not even in errors."""
        if isinstance(value, str):
            return _VARIABLE.sub(self._variable, value)
        if isinstance(value, list):
            return [self._fill(entry) for entry in value]
        if isinstance(value, dict):
            return {name: self._fill(entry) for name, entry in value.items()}
        return value

    def _variable(self, found: re.Match[str]) -> str:
        name = found[1]
        if name not in self.environ:
            raise self.error(
                f"the environment variable {name!r} is not set", f"set it before the command: export {name}=…"
            )
        secrets.remember(name, self.environ[name])
        return self.environ[name]


def _kind(value: object) -> str:
    """What a TOML value is, without showing it: it may hold a secret."""
    for kind, word in ((bool, "true or false"), (str, "a text"), (list, "a list"), (dict, "a table")):
        if isinstance(value, kind):
            return word
    return "a number" if isinstance(value, int | float) else "a date or time"


def _policy(table: _Table, key: str, default: str, known: tuple[str, ...]) -> str:
    """The name of a policy, or of a function that decides where fields are concerned."""
    policy = table.text(key, default)
    if policy in known or (known is FIELD_POLICIES and _FUNCTION.match(policy)):
        return policy
    functions = ', or "module:function"' if known is FIELD_POLICIES else ""
    raise table.error(
        f"{key!r} is the unknown policy {table.written(key)!r}",
        nearest(policy, known) or f"the policies are: {', '.join(known)}{functions}",
    )


def _conflicts(table: _Table, stores: Collection[str]) -> Conflicts:
    found = Conflicts(
        _policy(table, "fields", "newest", FIELD_POLICIES),
        _policy(table, "delete", "edit-wins", DELETE_POLICIES),
        _policy(table, "adopt", "first", FIELD_POLICIES),
        table.texts("prefer") or (),
    )
    for store in found.prefer:
        if store not in stores:
            raise table.error(
                f"'prefer' names the unknown store {store!r}",
                nearest(store, stores) or f"the stores are: {', '.join(stores) or 'none so far'}",
            )
    table.finish()
    return found


def _type(name: str, table: _Table) -> tuple[TypeSpec, dict[str, str]]:
    """A type, and the policies of its fields."""
    key = table.texts("key")
    if not key:
        raise table.error(
            "'key' is " + ("missing" if key is None else "empty"),
            'name the fields by which two stores mean the same record: key = ["email"]',
        )
    fields = table.names("fields")
    if fields is not None:
        check_types(f"{table.file}, [types.{name}.fields]", fields)
    references = table.names("references") or {}
    policies = table.table("conflicts")
    if fields is not None:
        known = {*fields, *key}
        for place, used in ((table, references), (policies, policies.entries)):
            for field in used:
                if field not in known:
                    raise place.error(
                        f"{field!r} is no field of {name!r}",
                        nearest(field, known) or f"the fields are: {', '.join(sorted(known))}",
                    )
    conflicts = {field: _policy(policies, field, "newest", FIELD_POLICIES) for field in policies.entries}
    table.finish()
    return TypeSpec(name, key, fields, references), conflicts


def _store(name: str, table: _Table, types: Mapping[str, TypeSpec], audit_reads: bool) -> StoreSpec:
    url = table.text("url")
    shown_url = str(table.written("url"))
    known = _accessor(table, url, shown_url).options
    role = table.text("role", "both")
    if role not in ROLES:
        raise table.error(
            f"unknown role {table.written('role')!r}",
            nearest(role, ROLES) or f"the roles are: {', '.join(ROLES)}",
        )
    max_deletes = _max_deletes(table)
    audit_reads = table.flag("audit_reads", audit_reads)
    places = {}
    for type_name, place in table.tables("types"):
        if type_name not in types:
            raise table.error(
                f"the type {type_name!r} is declared nowhere",
                nearest(type_name, types) or f"declare it: [types.{type_name}] with its key",
            )
        places[type_name] = _place(place, types[type_name], known)
    if not places:
        raise table.error(
            "the store holds no type",
            f"say which it holds: [{table.place}.types.{next(iter(types), 'NAME')}]",
        )
    options = table.rest(known)
    table.finish(known)
    return StoreSpec(name, url, shown_url, role, max_deletes, audit_reads, options, places)


def _accessor(table: _Table, url: str, shown_url: str) -> Accessor:
    scheme, colon, _ = url.partition(":")
    schemes = plugins.schemes()
    if not colon or scheme not in schemes:
        # What was written is shown, never what was filled in.
        raise table.error(
            f"the url {shown_url!r} does not start with the name of an accessor and ':'",
            nearest(shown_url.partition(":")[0], schemes) or f"installed are: {', '.join(schemes)}",
        )
    return plugins.accessor(scheme, where=f"{table.file}, [{table.place}]")


def _max_deletes(table: _Table) -> int | str:
    found = table.value("max_deletes")
    if found is None:
        return DEFAULT_MAX_DELETES
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    if isinstance(found, str) and (percent := _PERCENT.match(found)) and int(percent[1]) <= 100:
        return found
    raise table.error(
        "'max_deletes' must be a number of records, or a percentage", 'write: max_deletes = "50%"'
    )


def _place(table: _Table, spec: TypeSpec, known: Collection[str]) -> PlaceSpec:
    fields = table.names("fields") or {}
    only = table.texts("only")
    ignore = table.texts("ignore") or ()
    local_of: Callable[[str], str] = lambda name: fields.get(name, name)  # noqa: E731

    columns: dict[str, str] = {}
    for name in dict.fromkeys((*spec.key, *fields, *(only or ()))):
        other = columns.setdefault(local_of(name), name)
        if other != name:
            raise table.error(
                f"the column {local_of(name)!r} is mapped twice: to {other!r} and to {name!r}",
                'fields = { canonical = "local" } gives each field its own column',
            )
    for name in spec.key:
        if name in ignore or local_of(name) in ignore:
            raise table.error(f"the key field {name!r} cannot be ignored", "take it out of 'ignore'")
    changed_at, changed_by, own_id = (
        table.optional("changed_at"),
        table.optional("changed_by"),
        table.optional("id"),
    )
    options = table.rest(known)
    written = {name: table.entries[name] for name in options}
    place = PlaceSpec(own_id, fields, only, ignore, changed_at, changed_by, options, written)
    table.finish(known)
    return place
