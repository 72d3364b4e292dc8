"""A proposed configuration as the text of an `evsync.toml`, with a comment wherever something is guessed or open."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from evsync.proposal import GUESSED, Place, Proposal, Type, notes_on

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def written(proposal: Proposal) -> str:
    """The file."""
    lines = [
        "# Written by `evsync init`. Look over what is marked as guessed, then run: evsync ingest",
        "",
        'journal = "evsync.db"  # where all changes are written down',
    ]
    for type in proposal.types:
        lines += ["", *_type(type)]
    for seen in proposal.stores:
        lines += ["", f"[stores.{_key(seen.store)}]", f"url = {_text(seen.url)}"]
        lines += [f"# {_comment(note)}" for note in notes_on(seen)]
        for type in proposal.types:
            for place in type.places:
                if place.store == seen.store:
                    lines += _place(type.name, place)
    return "\n".join(lines) + "\n"


def _type(type: Type) -> Iterator[str]:
    yield f"[types.{_key(type.name)}]"
    yield f"key = {_list(type.key.columns)}  # {_comment(type.key.why)}"
    if type.references:
        yield f"references = {_table(type.references)}"
    yield from (f"# {_comment(note)}" for note in type.notes)
    yield f"[types.{_key(type.name)}.fields]"
    for field, value_type in type.fields.items():
        note = f"  # {GUESSED}" if field in type.doubtful else ""
        if field in type.references:
            note = f"  # the key of {_comment(type.references[field])}"
        yield f'{_key(field)} = "{value_type}"{note}'


def _place(name: str, place: Place) -> Iterator[str]:
    yield f"[stores.{_key(place.store)}.types.{_key(name)}]"
    for option, value in place.options.items():
        why = "  # so that its columns of times, which have no zone, take them" if option == "zone" else ""
        yield f"{_key(option)} = {_text(value)}{why}"
    if not place.there:
        yield "# not there yet: it will be created"
    if place.id is not None:
        yield f"id = {_text(place.id)}  # its own name for a record"
    if place.fields:
        yield f"fields = {_table(place.fields)}  # canonical = its own name"
    if place.by_key:
        yield f"by_key = {_list(place.by_key)}"
    if place.read_only:
        yield f"read_only = {_list(place.read_only)}  # computed there: taken from it, never written"
    if place.changed_at is not None:
        yield f"changed_at = {_text(place.changed_at)}  # {GUESSED} from its name; not compared, and not copied"
    yield from (f"# {_comment(note)}" for note in place.notes)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.match(name) else _text(name)


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _table(values: Mapping[str, str]) -> str:
    return f"{{ {', '.join(f'{_key(name)} = {_text(value)}' for name, value in values.items())} }}"


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
