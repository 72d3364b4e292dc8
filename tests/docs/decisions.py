"""The cases of docs/decisions.md: each is played on real stores, and what it shows is what happened.

    python tests/docs/decisions.py        writes the page anew

`test_decisions.py` plays them all and compares. A case is what is done, step by step, under which settings; the
columns *result* and *event* are read from the stores and the journal afterwards.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "decisions.md"
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from projects import Row, held, memory  # noqa: E402

from accessors.memory import MemoryAccessor  # noqa: E402
from evsync import Data, Store, Synchronizer  # noqa: E402
from evsync.config import parse_config  # noqa: E402
from evsync.errors import EvsyncError, Refused  # noqa: E402

TYPE = "contact"
START: Row = {"id": "ann", "name": "Ann", "phone": "1"}
STORES = """
[stores.a]
url = "memory:"
{a}
[stores.a.types.contact]
{a_place}
[stores.b]
url = "memory:"
{b}
[stores.b.types.contact]
{b_place}
"""

Step = tuple[Any, ...]


class Case(NamedTuple):
    """`steps`: see `Played`. `settings`: what stands in evsync.toml, shown as it is. `start`: whether both stores begin
    in step with one record."""

    steps: Sequence[Step]
    settings: str = ""
    start: bool = True
    note: str = ""
    many: int = 3  # so many records besides, that guards have something to count


class Picky(MemoryAccessor):
    """Refuses what is called Refused, and trims what it is given."""

    def add(self, store: Store, data: Data) -> Data:
        return super().add(store, _trimmed(data))

    def update(self, store: Store, data: Data, old: Data | None = None) -> Data:
        return super().update(store, _trimmed(data), old)


def _trimmed(data: Data) -> Data:
    if data.fields.get("name") == "Refused":
        raise Refused("this name is not taken")
    fields = {name: value.strip() if isinstance(value, str) else value for name, value in data.fields.items()}
    return Data(data.type, fields, data.key, data.id)


class Played:
    """A case on its stores. Steps: (store, fields) sets fields of ann, (store, key, fields) of another record, with None
    for a field that is taken away; (store, "delete"[, key]); (verb, arguments…) calls a method of the synchronizer."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.records: dict[str, dict[Any, Row]] = {}
        self.told: list[str] = []
        self.config = _config(case.settings)
        self.stores = self._stores()
        config = parse_config(self.config, folder / "evsync.toml")
        configured = Synchronizer.from_config(config)
        self.sync = Synchronizer(
            self.stores.values(), config.types, folder / "evsync.db", rules=configured.rules
        )
        configured.close()
        for name, store in self.stores.items():
            places = config.stores[name]
            store.role, store.max_deletes, store.places = places.role, places.max_deletes, places.places
        if case.start:
            for number in range(case.many):
                self.put("a", f"r{number:03}", {"name": f"No. {number}"})
            self.put("a", "ann", START)
            if self.stores["a"].role == "target":
                self.put("b", "ann", START)
            self.sync.sync()
        self.before = self.sync.status()["head"]

    def _stores(self) -> dict[str, Store]:
        return {
            name: memory(name, type=TYPE, accessor=Picky() if name == "b" else None) for name in ("a", "b")
        }

    def put(self, store: str, key: str, fields: Row) -> None:
        records = held(self.stores[store], TYPE)
        record = {**records.get((key,), {"id": key}), **fields}
        records[key,] = {name: value for name, value in record.items() if value is not None}

    def play(self) -> None:
        for step in self.case.steps:
            store = self.stores.get(step[0])
            if store is None:
                self._run(step)
            elif step[1] == "delete":
                held(store, TYPE).pop((step[2] if len(step) > 2 else "ann",))
            elif step[1] == "empty":
                held(store, TYPE).clear()
            elif step[1] == "every":
                for record in held(store, TYPE).values():
                    record.update(step[2])
            else:
                key, fields = (step[1], step[2]) if len(step) > 2 else ("ann", step[1])
                self.put(store.name, key, fields)

    def _run(self, step: Step) -> None:
        verb, *arguments = step
        named = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
        try:
            getattr(self.sync, verb)(*arguments, **named)
        except EvsyncError as error:
            self.told.append(error.message)

    # -- what is shown -----------------------------------------------------------------------------------

    def doing(self) -> str:
        return "; ".join(filter(None, map(_said, self.case.steps)))

    def result(self) -> str:
        """What the journal and the stores hold of the records concerned."""
        keys = sorted({key for step in self.case.steps for key in _keys(step)} or {"ann"})
        return "; ".join(self._held(key, len(keys) > 1) for key in keys)

    def _held(self, key: str, named: bool) -> str:
        fields: dict[str, Row | None] = {}
        try:
            fields["journal"] = self.sync.show(TYPE, key)["fields"]
        except EvsyncError:
            fields["journal"] = None
        for name, store in self.stores.items():
            fields[name] = held(store, TYPE).get((key,))
        shown = {where: _record(record) for where, record in fields.items()}
        prefix = f"{key}: " if named else ""
        if len(set(shown.values())) == 1:
            return f"{prefix}{shown['journal']} everywhere"
        return prefix + ", ".join(f"{where}: {record}" for where, record in shown.items())

    def events(self) -> str:
        """The events that the steps led to."""
        if self.told:
            return "none: stopped. " + " ".join(self.told)
        told = [self._event(event) for event in self.sync.log(after=self.before)]
        counted = {one: told.count(one) for one in told}
        return "; ".join(f"{n} × {one}" if n > 3 else one for one, n in counted.items()) or "none"

    def _event(self, event: Row) -> str:
        changed = f" of {', '.join(event['changed'])}" if event["changed"] and event["op"] == "update" else ""
        told = f"`{event['op']}`{changed} by {event['store']}"
        conflict = event["conflict"]
        if conflict is not None:
            fields = ", ".join(conflict["fields"])
            state = "open" if conflict["open"] else "decided"
            told += f", conflict{f' of {fields}' if fields else ''} {state} by `{conflict['policy']}`"
        return told


def _config(settings: str) -> str:
    """A whole evsync.toml from the few lines that matter."""
    parts = {"a": "", "b": "", "a_place": "", "b_place": "", "": "", "type": ""}
    where = ""
    for line in settings.splitlines():
        if line.startswith("["):
            names = {"[stores.a]": "a", "[stores.b]": "b", "[types.contact]": "type"}
            names |= {"[stores.a.types.contact]": "a_place", "[stores.b.types.contact]": "b_place"}
            where = names.get(line, "")
            if where:
                continue
        parts[where] += line + "\n"
    types = f'[types.contact]\nkey = ["id"]\n{parts["type"]}'
    fields = '[types.contact.fields]\nid = "str"\nname = "str"\nphone = "str"\n'
    return types + fields + STORES.format(**parts) + parts[""]


def _keys(step: Step) -> Iterator[str]:
    if step[0] in ("a", "b"):
        if len(step) > 2 and step[1] != "every":
            yield step[2] if step[1] == "delete" else step[1]
        else:
            yield "ann"


def _said(step: Step) -> str:
    if step[0] not in ("a", "b"):
        verb, *arguments = step
        named = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
        words = [" ".join(map(str, a)) if isinstance(a, list) else str(a) for a in arguments]
        words += [f"--{name.replace('_', '-')} {_option(value)}".strip() for name, value in named.items()]
        return verb if not words else f"`{' '.join([verb, *words])}`"
    if step[1] == "delete":
        return f"{step[0]} deletes {step[2] if len(step) > 2 else 'it'}"
    if step[1] == "empty":
        return f"{step[0]} is emptied"
    if step[1] == "every":
        return f"{step[0]} sets {_sets(step[2])} in every record"
    key, fields = (step[1] + ": ", step[2]) if len(step) > 2 else ("", step[1])
    return f"{step[0]} sets {key}{_sets(fields)}"


def _option(value: Any) -> str:
    if value is True:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items())
    return str(value)


def _sets(fields: Row) -> str:
    return ", ".join(
        f"{name} = {value!r}" if value is not None else f"no {name}" for name, value in fields.items()
    )


def _record(record: Row | None) -> str:
    if record is None:
        return "gone"
    fields = {name: value for name, value in record.items() if name != "id"}
    return " ".join(f"{name}={value!r}" for name, value in fields.items()) or "no fields"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")


def rows(cases: Sequence[Case]) -> Iterator[str]:
    """The lines of a table."""
    yield "| case | result | setting | event written |"
    yield "|---|---|---|---|"
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            played = Played(case, Path(folder))
            with played.sync:
                played.play()
                setting = " ".join(f"`{line}`" for line in case.settings.splitlines()) or "as it comes"
                case_told = played.doing() + (f" ({case.note})" if case.note else "")
                cells = (case_told, played.result(), setting, played.events())
        yield f"| {' | '.join(map(_cell, cells))} |"


def page(sections: Sequence[tuple[str, str, Sequence[Case]]], opening: str, closing: str) -> str:
    """The whole page."""
    parts = [opening.strip()]
    for title, text, cases in sections:
        parts += [f"## {title}", text.strip(), "\n".join(rows(cases))]
    return "\n\n".join([*parts, closing.strip()]) + "\n"


OPENING = """
# What evsync decides, and how to change it

Two stores, `a` and `b`, begin in step with the record `ann` (name 'Ann', phone '1') unless a case says that they meet
for the first time. Then people change things in both before the next `sync`, which ingests `a` first. Each row was
played on real stores to write this page: *result* is what the journal and the stores hold afterwards, *event written*
is what stands in the journal for it. The setting is what has to stand in `evsync.toml`; without one it is the default.

Nothing that is decided is lost: the event of a conflict keeps both values, what the choice was based on, and
`evsync undo` takes it back.
"""

CLOSING = """
## What no setting changes

- A field that only one side changed is never in conflict, and a change never returns to the store it came from.
- A record that changed in a store after it was last read there is not overwritten; the next ingest sees a conflict.
- A store that cannot be read holds what it held: an error is never a deletion.
- When a guard stops a run, nothing was journalled and no store was written.
"""

FULL: Row = {"name": "Ann", "phone": "1"}
A, B = {"name": "Anna"}, {"name": "Anne"}
BOTH: list[Step] = [("a", A), ("b", B), ("sync",)]
EDIT_DELETE: list[Step] = [("a", A), ("b", "delete"), ("sync",)]
DELETE_EDIT: list[Step] = [("a", "delete"), ("b", B), ("sync",)]
FIELDS, DELETE, ADOPT = "[conflicts]\nfields = ", "[conflicts]\ndelete = ", "[conflicts]\nadopt = "
TYPE_B = "[stores.b.types.contact]\n"
MANUAL = FIELDS + '"manual"'

SECTIONS: list[tuple[str, str, Sequence[Case]]] = [
    (
        "One side changes",
        "Nothing to decide: the change is journalled and carried to the other stores.",
        [
            Case([("a", A), ("sync",)]),
            Case([("a", {"phone": None}), ("sync",)]),
            Case([("a", "delete"), ("sync",)]),
            Case([("a", "bob", {"name": "Bob"}), ("sync",)]),
            Case([("b", {"name": " Anna "}), ("sync",)], note="b is left as it is"),
            Case([("a", {"name": " Anna "}), ("sync",), ("sync",)], note="b trims what it is given"),
        ],
    ),
    (
        "Both sides change",
        "Compared field by field with what each store last had. `newest` goes by the times that both stores give "
        "(`changed_at`), else by the order in the journal.",
        [
            Case([("a", A), ("b", {"phone": "2"}), ("sync",)]),
            Case([("a", A), ("b", A), ("sync",)]),
            Case(BOTH),
            Case(BOTH, FIELDS + '"first"'),
            Case(BOTH, FIELDS + '"prefer"\nprefer = ["a"]'),
            Case(BOTH, MANUAL),
            Case(BOTH, "[types.contact.conflicts]\nname = \"manual\""),
            Case([("a", {**A, "phone": "2"}), ("b", B), ("sync",)], FIELDS + '"first"'),
            Case([("a", A), ("ingest", ["a"]), ("a", {"name": "Anja"}), ("sync",)]),
            Case([("a", "delete"), ("b", "delete"), ("sync",)]),
            Case([("a", "bob", A), ("b", "bob", A), ("sync",)]),
            Case([("a", "bob", A), ("b", "bob", B), ("sync",)]),
            Case([("a", "bob", A), ("b", "bob", B), ("sync",)], ADOPT + '"newest"'),
        ],
    ),
    (
        "An edit against a delete",
        "A delete of a record in which the store has seen everything is just a delete.",
        [
            Case(EDIT_DELETE),
            Case(EDIT_DELETE, DELETE + '"delete-wins"'),
            Case(EDIT_DELETE, DELETE + '"manual"'),
            Case(DELETE_EDIT),
            Case(DELETE_EDIT, DELETE + '"delete-wins"'),
            Case(DELETE_EDIT, DELETE + '"manual"'),
        ],
    ),
    (
        "Deciding by hand",
        "An open conflict holds up its own record in its own store, and nothing else.",
        [
            Case([*BOTH, ("resolve", "contact", "ann", {"take": "b"}), ("sync",)], MANUAL),
            Case([*BOTH, ("resolve", "contact", "ann", {"set": {"name": "Ann-Marie"}}), ("sync",)], MANUAL),
            Case([*BOTH, ("resolve", "contact", "ann", {"keep": True}), ("sync",)], MANUAL),
            Case([*BOTH, ("b", A), ("sync",)], MANUAL, note="b agrees"),
            Case([*BOTH, ("a", {"phone": "2"}), ("sync",)], MANUAL),
            Case([*EDIT_DELETE, ("resolve", "contact", "ann", {"take": "b"}), ("sync",)], DELETE + '"manual"'),
            Case([*EDIT_DELETE, ("resolve", "contact", "ann", {"take": "a"}), ("sync",)], DELETE + '"manual"'),
        ],
    ),
    (
        "Undo and the past",
        "An undo appends the inverse; what was changed since is not overwritten.",
        [
            Case([("a", A), ("sync",), ("undo", 5), ("sync",)]),
            Case([("a", A), ("sync",), ("undo", 5), ("undo", 6), ("sync",)], note="the undo is undone"),
            Case([("a", "delete"), ("sync",), ("undo", 5), ("sync",)]),
            Case([("a", A), ("sync",), ("b", B), ("sync",), ("undo", 5), ("sync",)]),
            Case([("a", A), ("sync",), ("replay", ["b"], {"until": 4}), ("ingest",)]),
            Case([("a", A), ("sync",), ("replay", ["b"], {"until": 4}), ("sync",)]),
        ],
    ),
    (
        "Meeting for the first time",
        "Two stores that already hold the same record, or nearly.",
        [
            Case([("a", FULL), ("b", FULL), ("sync",)], start=False),
            Case([("a", FULL), ("b", {"name": "Ann"}), ("sync",)], start=False),
            Case([("a", FULL), ("b", {**FULL, **B}), ("sync",)], start=False),
            Case([("a", FULL), ("b", {**FULL, **B}), ("sync",)], MANUAL + '\nadopt = "manual"', start=False),
            Case(
                [("a", FULL), ("b", "ann2", {"name": "Ann", "phone": "1"}), ("sync",)],
                '[types.contact]\nmatch = [["name", "phone"]]',
                start=False,
            ),
            Case(
                [("a", FULL), ("a", "eve", FULL), ("b", "ann2", {"name": "Ann", "phone": "1"}), ("sync",)],
                '[types.contact]\nmatch = [["name", "phone"]]',
                start=False,
                note="nobody can tell which: the row is quarantined",
            ),
        ],
    ),
    (
        "Which records and fields a store holds",
        "Roles, filters and directions.",
        [
            Case([("b", B), ("sync",)], '[stores.a]\nrole = "source"'),
            Case([("b", B), ("sync",)], '[stores.b]\nrole = "target"', note="shown by `diff`"),
            Case(
                [("b", B), ("replay", ["b"], {"rebuild": True, "allow_deletes": True})],
                '[stores.b]\nrole = "target"',
            ),
            Case([("a", {"phone": "2"}), ("b", B), ("sync",)], TYPE_B + 'only = ["name"]'),
            Case([("a", {"phone": "9"}), ("sync",)], TYPE_B + 'where = { phone = { not = "9" } }'),
            Case(
                [("a", {"phone": "9"}), ("sync",), ("a", {"phone": "1"}), ("sync",)],
                TYPE_B + 'where = { phone = { not = "9" } }',
            ),
            Case([("b", {"phone": "9"}), ("sync",)], TYPE_B + 'where = { phone = { not = "9" } }'),
            Case([("a", {"phone": "2"}), ("sync",)], TYPE_B + 'read_only = ["phone"]'),
            Case([("b", {"phone": "2"}), ("sync",)], TYPE_B + 'read_only = ["phone"]'),
            Case([("b", {"phone": "2"}), ("sync",)], TYPE_B + 'write_only = ["phone"]'),
        ],
    ),
    (
        "Failures",
        "A record that cannot be written stops no other; it is tried again when it has changed, or after a while.",
        [
            Case([("a", {"name": "Refused"}), ("sync",)], note="b refuses this name"),
            Case([("a", {"name": "Refused"}), ("sync",), ("a", A), ("sync",)]),
        ],
    ),
    (
        "Guards",
        "What is more likely an accident stops the run before anything is journalled or written.",
        [
            Case([("a", "empty"), ("sync",)]),
            Case([("a", "empty"), ("sync", {"allow_deletes": True})]),
            Case([("a", "delete"), ("sync",)], "[stores.a]\nmax_deletes = 0"),
            Case([("a", "delete"), ("a", "anna", FULL), ("sync",)], "[stores.a]\nmax_deletes = 0", note="a new key"),
            Case([("a", "every", {"phone": "0"}), ("sync",)], many=11),
            Case([("a", "every", {"phone": "0"}), ("sync", {"allow_changes": True})], many=11),
        ],
    ),
]  # fmt: skip


def written() -> str:
    """The page as it has to be."""
    return page(SECTIONS, OPENING, CLOSING)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(written(), encoding="utf-8")
    print(f"{PAGE}: {sum(len(cases) for _, _, cases in SECTIONS)} cases")
