"""A first `evsync.toml`, proposed from what stores say of themselves. Pure: looks in, text out.

Guesses are careful, for a wrong type quarantines records and a wrong key merges them; each is marked as
guessed, so that a person can look it over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from evsync.values import infer

GUESSED = "guessed"

_INT = re.compile(r"-?(0|[1-9][0-9]{0,17})\Z")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATETIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}")
_KEY_WORD = re.compile(
    r"(^|[^a-z])(id|uuid|key|code|email|mail|number|no|num|nr|slug|login|isbn|sku|tail|tailnum)([^a-z]|$)",
    re.I,
)
_NAME = re.compile(r"(^|[^a-z])name([^a-z]|$)", re.I)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


class Look(msgspec.Struct, frozen=True):
    """What was seen of one type in one store. `columns` None: it does not exist yet and will be created."""

    store: str
    url: str
    type: str
    options: Mapping[str, str] = {}
    columns: Mapping[str, str | None] | None = None
    primary_key: tuple[str, ...] = ()
    samples: Sequence[Mapping[str, Any]] = ()


class Key(msgspec.Struct, frozen=True):
    """A proposed key, and why it was chosen."""

    columns: tuple[str, ...]
    why: str


# -- guessing --------------------------------------------------------------------------------------------


def type_of(values: Iterable[Any]) -> str:
    """The value type that all of `values` have, "str" in doubt. Text is never taken for true or false."""
    kinds = {_kind(value) for value in values if value is not None}
    if not kinds:
        return "str"
    if kinds <= {"int", "float", "decimal"}:
        # One value that a float would write differently (1.10) makes all of them decimals.
        return next(kind for kind in ("decimal", "float", "int") if kind in kinds)
    if len(kinds) == 1:
        return kinds.pop()
    return "json" if kinds & {"json", "bool", "bytes"} else "str"


def _kind(value: Any) -> str:
    if not isinstance(value, str):
        return infer(value) or "str"
    if _INT.match(value) and value != "-0":
        return "int"
    if _NUMBER.match(value):
        return "float" if repr(float(value)) == value else "decimal"
    try:
        if _DATE.match(value):
            date.fromisoformat(value)
            return "date"
        if _DATETIME.match(value):
            datetime.fromisoformat(value)
            return "datetime"
    except ValueError:
        pass
    return "str"


def key_of(look: Look) -> Key:
    """The columns by which records of a look are told apart: the primary key, else one that is unique in the sample."""
    if look.primary_key:
        return Key(look.primary_key, f"its primary key in {look.store}")
    columns = list(look.columns or ())
    unique = [column for column in columns if look.samples and _unique(column, look.samples)]
    seen = f"no two of the first {len(look.samples)} records in {look.store} have the same"
    if unique:
        return Key((_likeliest(unique),), f"{GUESSED}: {seen}")
    if look.samples:
        return Key(
            (_likeliest(columns),), f"{GUESSED}, AND NOT UNIQUE: name the fields that tell records apart"
        )
    return Key((_likeliest(columns),), f"{GUESSED} from its name: {look.store} holds no records")


def _likeliest(columns: Sequence[str]) -> str:
    """The first column that is called like a key, else like a name, else the first."""
    for pattern in (_KEY_WORD, _NAME):
        for column in columns:
            if pattern.search(_HUMP.sub("_", column)):
                return column
    return columns[0] if columns else "id"


def _unique(column: str, samples: Sequence[Mapping[str, Any]]) -> bool:
    values = [sample.get(column) for sample in samples]
    return None not in values and "" not in values and len({repr(value) for value in values}) == len(values)


# -- proposing -------------------------------------------------------------------------------------------


def propose(looks: Sequence[Look]) -> str:
    """The text of an `evsync.toml` for these looks. The first look at a type gives its key and fields; the
    columns of later ones are matched to them by name."""
    types = _paired(looks)
    lines = [
        "# Written by `evsync init`. Look over what is marked as guessed, then run: evsync ingest",
        "",
        'journal = "evsync.db"  # where all changes are written down',
    ]
    fields_of: dict[str, dict[str, str]] = {}
    for name, seen in types.items():
        fields_of[name] = fields = _fields(seen[0])
        key = key_of(seen[0])
        lines += ["", f"[types.{_key(name)}]", f"key = {_list(key.columns)}  # {_comment(key.why)}"]
        lines += [f"[types.{_key(name)}.fields]"]
        declared = seen[0].columns or {}
        for field, type_name in fields.items():
            note = f"  # {GUESSED}" if declared.get(field) is None else ""
            lines.append(f'{_key(field)} = "{type_name}"{note}')
    urls = {look.store: look.url for look in looks}
    for store, url in urls.items():
        lines += ["", f"[stores.{_key(store)}]", f"url = {_text(url)}"]
        for name, seen in types.items():
            for look in seen:
                if look.store == store:
                    lines += _place(name, look, fields_of[name], key_of(seen[0]).columns)
    return "\n".join(lines) + "\n"


def _paired(looks: Sequence[Look]) -> dict[str, list[Look]]:
    """The looks by type. Two stores with one type each mean the same by it, whatever they call it.

    In a folder the type's name is the file's, so it cannot be called otherwise."""
    by_store: dict[str, list[Look]] = {}
    for look in looks:
        by_store.setdefault(look.store, []).append(look)
    if len(by_store) > 1 and all(
        len(held) == 1 and not held[0].url.endswith("/") for held in by_store.values()
    ):
        return {looks[0].type: list(looks)}
    types: dict[str, list[Look]] = {}
    for look in looks:
        alike = (known for known in types if _plain(known) == _plain(look.type))
        name = look.type if look.url.endswith("/") else next(alike, look.type)
        types.setdefault(name, []).append(look)
    return types


def _fields(look: Look) -> dict[str, str]:
    columns = look.columns or {}
    return {
        column: declared or type_of(sample.get(column) for sample in look.samples)
        for column, declared in columns.items()
    }


def _place(name: str, look: Look, fields: Mapping[str, str], key: Sequence[str]) -> Iterator[str]:
    yield f"[stores.{_key(look.store)}.types.{_key(name)}]"
    for option, value in look.options.items():
        if not (look.columns is None and name != look.type):
            yield f"{_key(option)} = {_text(value)}"
    if look.columns is None:
        yield "# not there yet: it will be created"
        return
    plain = {_plain(column): column for column in look.columns}
    local_of = {field: field if field in look.columns else plain.get(_plain(field)) for field in fields}
    renamed = {field: local for field, local in local_of.items() if local is not None and local != field}
    if renamed:
        pairs = ", ".join(f"{_key(field)} = {_text(local)}" for field, local in renamed.items())
        yield f"fields = {{ {pairs} }}  # canonical = its own name"
    missing = [field for field in key if local_of[field] is None]
    if missing:
        yield f"# TO DO: say in `fields` which of its columns is the key's {', '.join(map(_comment, missing))}"
    used = {local for local in local_of.values() if local is not None}
    left = [column for column in look.columns if column not in used]
    if left:
        yield f"# not mapped: {', '.join(map(_comment, left))}"


# -- writing TOML ----------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """A name without what spellings differ in: "Full Name", "full_name" and "fullName" are one."""
    return re.sub(r"[\W_]", "", name).lower()


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.match(name) else _text(name)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


TEMPLATE = """\
# evsync.toml: which stores evsync keeps in step. Paths are relative to this file; ${NAME} takes a secret
# from the environment. Take out the "#" in front of what you need, then run: evsync doctor

journal = "evsync.db"  # where all changes are written down

# [conflicts]            # what happens if two stores change one field differently
# fields = "newest"      # newest, first, prefer, manual, or "module:function"
# delete = "edit-wins"   # edit-wins, delete-wins or manual
# prefer = ["crm", "mailing"]

# [types.contact]        # a kind of record, and the fields by which two stores mean the same one
# key = ["email"]
# match = [["name", "since"]]       # how else to know a record, when two stores first meet
# [types.contact.fields] # str int float decimal bool date time datetime uuid bytes json
# email = "str"
# name = "str"
# since = "date"

# [stores.crm]
# url = "sqlite:crm.db"
# role = "both"          # source: never written; target: never read as a source
# max_deletes = "50%"    # more records gone than this, and a run stops
# [stores.crm.types.contact]
# table = "customers"
# fields = { name = "full_name" }   # canonical = its own name, where they differ
# changed_at = "updated_at"         # says when a record was changed

# [stores.mailing]
# url = "csv:mailing.csv"
# [stores.mailing.types.contact]
# only = ["email", "name"]          # the fields that this store holds
# where = { since = { min = "2020-01-01" } }   # and the records
"""
