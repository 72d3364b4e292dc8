"""INI files for evsync: a section is a record, its name the key, its options the other fields."""

import configparser
import json
import os
import re

from evsync import Accessor, Data
from evsync.errors import BrokenStore, Refused, Unreachable
from evsync.store import native
from evsync.values import ABSENT, dump, read, to_text


class IniAccessor(Accessor):
    json_is_text = True  # values are kept as text, so json has to be parsed

    def get(self, store, type, id):
        return None  # there are no ids: a section is known by its name

    def get_by_name(self, store, type, name):
        return _data(store, type, _load(store), _section(store, type, name))

    def find(self, store, type, match=None):
        types, file = store.binding(type).local_types, _load(store)
        for section in file.sections():
            data = _data(store, type, file, section)
            # Two values are the same if their wire forms are: 1.50 in the file is not 1.5.
            if all(
                local in data.fields
                and dump(types[local], native(self, types[local], data.fields[local]))
                == dump(types[local], typed)
                for local, typed in (match or {}).items()
            ):
                yield data

    def add(self, store, data):
        file, section = _load(store), _section(store, data.type, data.fields)
        if section in file:
            raise Refused(f"{store.path} has a section [{section}] already")
        return self._write(store, file, section, data)

    def update(self, store, data, old=None):
        file, section = _load(store), _section(store, data.type, (old or data).fields)
        if section not in file:
            raise Refused(f"{store.path} has no section [{section}] to update")
        kept = dict(file[section])
        renamed = _section(store, data.type, {**(old or data).fields, **data.fields})
        if renamed != section:
            if renamed in file:
                raise Refused(f"{store.path} has a section [{renamed}] already")
            file.remove_section(section)
            file[renamed] = kept
        return self._write(store, file, renamed, data)

    def remove(self, store, data):
        file = _load(store)
        if file.remove_section(_section(store, data.type, data.fields)):
            _save(store, file)

    def _write(self, store, file, section, data):
        binding = store.binding(data.type)
        if section not in file:
            file.add_section(section)
        for local, typed in data.fields.items():
            if local in binding.key_locals:
                continue
            if typed is None or typed is ABSENT:  # INI knows no null: such a field is left out
                file.remove_option(section, local)
            else:
                type = binding.local_types[local]
                file[section][local] = _escaped(to_text(type, read(type, typed)))
        _save(store, file)
        return _data(store, data.type, file, section)


def _section(store, type, fields):
    [key] = store.binding(type).key_locals
    name = _escaped(to_text("str", str(fields.get(key) or "")))
    if not name:
        raise Refused(f"{store.path}: a section needs a name")
    return name


def _data(store, type, file, section):
    """The record under the store's own names; the values as they stand, the engine reads them."""
    if section not in file:
        return None
    [key] = store.binding(type).key_locals
    fields = {local: _unescaped(text) for local, text in file[section].items()}
    return Data(type, {**fields, key: _unescaped(section)})


def _load(store):
    # No interpolation, no section of defaults, names as they are written.
    file = configparser.ConfigParser(interpolation=None, default_section="\n", delimiters=("=",))
    file.optionxform = str
    try:
        with store.path.open(encoding="utf-8") as lines:
            file.read_file(lines)
    except OSError as error:  # never taken for an empty store
        raise Unreachable(f"{store.path}: {error.strerror}", "check the url of the store") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise BrokenStore(" ".join(str(error).split()), f"mend {store.path.name} by hand") from None
    return file


def _save(store, file):
    """In one step: a reader sees the old file or the new one."""
    new = store.path.with_name(store.path.name + ".new")
    try:
        with new.open("w", encoding="utf-8") as lines:
            file.write(lines)
    except UnicodeEncodeError as error:
        new.unlink()
        raise Refused(f"{store.path}: {error.reason}") from None
    os.replace(new, store.path)


def _escaped(text):
    """One line without space at its ends, with the escapes of JSON."""
    return re.sub(r"^\s|\s$", lambda m: f"\\u{ord(m[0]):04x}", json.dumps(text, ensure_ascii=False)[1:-1])


def _unescaped(text):
    try:
        return json.loads(f'"{text}"')
    except ValueError:  # written by hand
        return text
