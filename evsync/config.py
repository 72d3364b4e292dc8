"""The configuration: `evsync.toml` read, checked and turned into values. Nothing here touches a store."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from evsync import plugins
from evsync.accessor import Accessor
from evsync.binding import CONTRACTS, PlaceSpec, TypeSpec, check_types, nearest
from evsync.conversions import check_conversions
from evsync.errors import ConfigError
from evsync.filters import check_shape, parse_filter
from evsync.journal.event import OWN
from evsync.policies import Conflicts, TypeConflicts, check_stores, read_conflicts, read_type_conflicts
from evsync.store import ROLES, Role
from evsync.toml_table import Table
from evsync.urls import without_password

FILE_NAME = "evsync.toml"
DEFAULT_JOURNAL = "evsync.db"
DEFAULT_MAX_DELETES = "50%"

_PERCENT = re.compile(r"(\d{1,3})%\Z", re.ASCII)
_LINE = re.compile(r" \(at line (\d+), column \d+\)\Z")


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
    max_changes: int | str | None = None


class Config(msgspec.Struct, frozen=True):
    """All of `evsync.toml`. Relative paths start at `root`, the file's folder."""

    path: Path | None
    root: Path
    journal: str = DEFAULT_JOURNAL
    conflicts: Conflicts = Conflicts()
    type_conflicts: dict[str, TypeConflicts] = {}
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
    top = Table(file, "", raw, os.environ if environ is None else environ)
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
    for name, table in top.tables("types"):
        check_stores(table.table("conflicts"), type_conflicts[name].prefer or (), stores)
    config = Config(
        path,
        root,
        top.text("journal", DEFAULT_JOURNAL),
        read_conflicts(top.table("conflicts"), stores),
        type_conflicts,
        types,
        stores,
        audit_reads,
    )
    top.finish()
    return config


def _type(name: str, table: Table) -> tuple[TypeSpec, TypeConflicts]:
    """A type, and its policies."""
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
    for field, target in references.items():
        if field in key and target == name:
            raise table.error(
                f"the key field {field!r} references its own type",
                "a key cannot be made of keys of the same type: choose another `key`",
            )
    known = None if fields is None else {*fields, *key}
    for field in references:
        if known is not None and field not in known:
            raise table.error(
                f"{field!r} is no field of {name!r}",
                nearest(field, known) or f"the fields are: {', '.join(sorted(known))}",
            )
    conflicts = read_type_conflicts(table.table("conflicts"), name, known)
    match = _match(table, name, known)
    contract = table.text("contract", "evolve")
    if contract not in CONTRACTS:
        raise table.error(
            f"unknown contract {table.written('contract')!r}",
            nearest(contract, CONTRACTS) or f"the contracts are: {', '.join(CONTRACTS)}",
        )
    table.finish()
    return TypeSpec(name, key, fields, references, match, contract), conflicts


def _match(table: Table, type: str, known: Collection[str] | None) -> tuple[tuple[str, ...], ...]:
    """Lists of fields; which fields there are is only known here if they are declared."""
    found = table.value("match")
    if found is None:
        return ()
    example = 'match = [["email"], ["name", "born"]]'
    if not isinstance(found, list) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in found
    ):
        raise table.error("'match' must be a list of lists of fields", f"write: {example}")
    if not found or not all(found):
        raise table.error("'match' is empty, or has an empty list in it", f"name fields: {example}")
    for name in (name for names in found for name in names):
        if known is not None and name not in known:
            raise table.error(
                f"'match': {name!r} is no field of {type!r}",
                nearest(name, known) or f"the fields are: {', '.join(sorted(known))}",
            )
    return tuple(tuple(dict.fromkeys(names)) for names in found)


def _store(name: str, table: Table, types: Mapping[str, TypeSpec], audit_reads: bool) -> StoreSpec:
    if name == OWN:
        raise table.error(
            f"a store cannot be called {OWN!r}: that is who decides in the journal", "give it another name"
        )
    url = table.text("url")
    shown_url = without_password(str(table.written("url")))
    known = _accessor(table, url, shown_url).options
    role = table.text("role", "both")
    if role not in ROLES:
        raise table.error(
            f"unknown role {table.written('role')!r}",
            nearest(role, ROLES) or f"the roles are: {', '.join(ROLES)}",
        )
    max_deletes = _limit(table, "max_deletes")
    max_changes = _limit(table, "max_changes")
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
    return StoreSpec(
        name,
        url,
        shown_url,
        role,
        DEFAULT_MAX_DELETES if max_deletes is None else max_deletes,
        audit_reads,
        options,
        places,
        max_changes,
    )


def _accessor(table: Table, url: str, shown_url: str) -> Accessor:
    scheme, colon, _ = url.partition(":")
    if not colon or not plugins.serves(scheme):
        schemes = plugins.schemes()
        # What was written is shown, never what was filled in.
        raise table.error(
            f"the url {shown_url!r} does not start with the name of an accessor and ':'",
            nearest(shown_url.partition(":")[0], schemes) or f"installed are: {', '.join(schemes)}",
        )
    return plugins.accessor(scheme, where=f"{table.file}, [{table.place}]")


def _limit(table: Table, key: str) -> int | str | None:
    """A number of records or a percentage of them, None if it is not there."""
    found = table.value(key)
    if found is None:
        return None
    if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    if isinstance(found, str) and (percent := _PERCENT.match(found)) and int(percent[1]) <= 100:
        return found
    raise table.error(f"{key!r} must be a number of records, or a percentage", f'write: {key} = "50%"')


def _place(table: Table, spec: TypeSpec, known: Collection[str]) -> PlaceSpec:
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
    by_key = table.texts("by_key") or ()
    for name in by_key:
        if name not in spec.references:
            raise table.error(
                f"'by_key' names {name!r}, which is no reference of {spec.name!r}",
                nearest(name, spec.references)
                or f"the references are: {', '.join(spec.references) or 'none'}",
            )
    created_at = table.optional("created_at")
    max_deletes, max_changes = _limit(table, "max_deletes"), _limit(table, "max_changes")
    changed_at, changed_by, own_id = (
        table.optional("changed_at"),
        table.optional("changed_by"),
        table.optional("id"),
    )
    selection = _selection(table, spec, only, ignore)
    options = table.rest(known)
    written = {name: table.entries[name] for name in options}
    place = PlaceSpec(
        own_id,
        fields,
        only,
        ignore,
        changed_at,
        changed_by,
        by_key,
        options,
        written,
        created_at,
        max_deletes,
        max_changes,
        **selection,
    )
    table.finish(known)
    return place


def _selection(
    table: Table, spec: TypeSpec, only: Collection[str] | None, ignore: Collection[str]
) -> dict[str, Any]:
    """The filter, the one-way fields and the conversions of a place. Values stand in them as they are written:
    they are kept in the journal, where no secret may come."""
    where = dict(table.table("where").entries)
    convert = dict(table.table("convert").entries)
    read_only, write_only = table.texts("read_only") or (), table.texts("write_only") or ()
    place = f"{table.file}, [{table.place}]"
    check_shape(place, where)
    check_conversions(place, convert)
    if spec.fields is not None:
        declared = {**dict.fromkeys(spec.key, "str"), **spec.fields}
        parse_filter(place, where, declared)
    for option, names in (("read_only", read_only), ("write_only", write_only), ("convert", tuple(convert))):
        for name in names:
            if spec.fields is not None and name not in {*spec.fields, *spec.key}:
                raise table.error(
                    f"{option!r} names the unknown field {name!r}",
                    nearest(name, spec.fields) or f"the fields are: {', '.join(spec.fields)}",
                )
            if name in ignore or (only is not None and name not in {*only, *spec.key}):
                raise table.error(
                    f"{option!r} names {name!r}, which this store leaves out",
                    f"take it out of {'ignore' if name in ignore else option!r}",
                )
            if name in spec.key and option != "convert":
                raise table.error(
                    f"the key field {name!r} cannot be {option!r}",
                    "by the key two stores mean the same record, so it goes both ways",
                )
    for name in read_only:
        if name in write_only:
            raise table.error(
                f"{name!r} is both 'read_only' and 'write_only'", "to leave it out altogether: ignore = …"
            )
    return {"where": where, "read_only": read_only, "write_only": write_only, "convert": convert}
