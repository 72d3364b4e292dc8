"""One table of a TOML file, its entries checked, the environment's variables filled in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from evsync import secrets
from evsync.binding import nearest
from evsync.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class Table:
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

    def table(self, key: str) -> Table:
        """The table under `key`, empty if it is not there."""
        found = self.written(key)
        if not isinstance(found, dict | None):
            raise self._expected(key, "a table", found)
        place = f"{self.place}.{key}" if self.place else key
        return Table(self.file, place, found or {}, self.environ)

    def tables(self, key: str) -> Iterable[tuple[str, Table]]:
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
        return self.error(f"{key!r} must be {expected}, not {kind_of(found)}", hint)

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


def kind_of(value: object) -> str:
    """What a TOML value is, without showing it: it may hold a secret."""
    for kind, word in ((bool, "true or false"), (str, "a text"), (list, "a list"), (dict, "a table")):
        if isinstance(value, kind):
            return word
    return "a number" if isinstance(value, int | float) else "a date or time"
