"""The commands that ask the journal: log, show, blame, diff and verify."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, Literal

import typer

from evsync.cli import output
from evsync.cli.options import (
    ConfigOption,
    DebugOption,
    Document,
    JsonOption,
    complete_store,
    complete_type,
    opened,
)
from evsync.cli.progress import Progress
from evsync.cli.sync import when
from evsync.errors import UsageError

POLL = 0.5
"""Seconds between two looks for new events."""

DIFFERENT = 5
COLUMNS = (
    "seq", "op", "store", "type", "key", "base", "before", "after", "changed", "observed_at", "occurred_at", "actor",
    "run", "conflict",
)  # fmt: skip

TypeName = Annotated[str, typer.Argument(metavar="TYPE", autocompletion=complete_type)]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The parts of a composite key are joined by '/'.")]
At = Annotated[str | None, typer.Option(metavar="SEQ|TIME", help="As it was then.")]


def log(
    type: Annotated[
        str | None,
        typer.Argument(metavar="TYPE", help="Events of this type only.", autocompletion=complete_type),
    ] = None,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Events of this record only.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Observed in this store.", autocompletion=complete_store),
    ] = None,
    op: Annotated[
        str | None, typer.Option(metavar="OP", help="create, update, delete, read, resolve or undo.")
    ] = None,
    field: Annotated[str | None, typer.Option(metavar="NAME", help="Changed this field.")] = None,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Done by this one.")] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=2**63 - 1, help="Written by this run.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="SEQ|TIME", help="Not before.")] = None,
    until: Annotated[str | None, typer.Option(metavar="SEQ|TIME", help="Not after.")] = None,
    conflicts: Annotated[bool, typer.Option("--conflicts", help="Conflicts only.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=0, help="Only the newest N.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new events.")] = False,
    format: Annotated[
        Literal["table", "json", "jsonl", "csv"], typer.Option("--format", help="How to print.")
    ] = "table",
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """What happened, oldest first."""
    shape = "json" if json else format
    if follow and shape in ("json", "csv"):
        raise UsageError(f"--follow never ends, so it cannot be --format {shape}", "use --format jsonl")
    with opened(config) as synchronizer:

        def found(after: int, limit: int | None) -> Iterator[Document]:
            return synchronizer.log(
                type=type, key=key, store=store, op=op, field=field, actor=actor, run=run, since=since,
                until=until, conflicts=conflicts, limit=limit, after=after,
            )  # fmt: skip

        events = found(0, limit)
        if shape == "json":
            output.array(events)
        elif shape == "csv":
            _csv(events)
        elif not follow:
            _print_events(events, shape)
        else:
            last = _print_events(events, shape)
            try:
                while True:
                    output.flush()
                    time.sleep(POLL)
                    last = _print_events(found(last, None), shape, headed=last > 0) or last
            except KeyboardInterrupt:
                return 130
    return 0


def show(
    type: TypeName,
    key: Key,
    at: At = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """A record, as it is or was, and who holds it."""
    with opened(config) as synchronizer:
        document = synchronizer.show(type, key, at)
    if json:
        output.document(document)
        return 0
    called = f"{output.escape(document['type'])} {output.escape(document['key'])}"
    output.line(f"{output.style(called, 'bold')}  (event {document['seq']})")
    if document["fields"] is None:
        output.line("does not exist" + (" at that time" if at else " any more"))
    else:
        output.table(("field", "value"), ((n, output.literal(v)) for n, v in document["fields"].items()))
    if document["replicas"]:
        output.line()
        output.table(
            ("store", "in step", "has seen event", "its own id"),
            (
                (held["store"], "yes" if held["in_step"] else "no", held["seq"], held["id"])
                for held in document["replicas"]
            ),
            right=("has seen event",),
        )
    for row in document["quarantined"]:
        output.say(
            f"store {output.escape(row['store'])}: a row that may be this record could not be read:"
            f" {output.escape(row['error'])}"
        )
    return 0


def blame(
    type: TypeName,
    key: Key,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Where each value of a record comes from.

    Since when it is so, from which store, by whom."""
    with opened(config) as synchronizer:
        document = synchronizer.blame(type, key)
    if json:
        output.document(document)
        return 0
    output.table(
        ("field", "value", "event", "since", "store", "by"),
        (
            (
                line["field"], output.literal(line["value"]), line["seq"], when(line["observed_at"]), line["store"],
                line["actor"],
            )
            for line in document["fields"]
        ),
        right=("event",),
    )  # fmt: skip
    return 0


def diff(
    store: Annotated[str, typer.Argument(metavar="STORE", autocompletion=complete_store)],
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE2", help="By default the journal's state.", autocompletion=complete_store
        ),
    ] = None,
    at: At = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """What differs between a store and the journal.

    Or between two stores. Exit code 5 if anything does."""
    with opened(config) as synchronizer:
        document = synchronizer.diff(store, other, at)
    differences = document["differences"]
    if json:
        output.document(document)
    elif not differences:
        output.line(f"no difference between {store} and {other or 'the journal'}")
    else:
        output.table(
            ("", "record", "field", store if other else "journal", other or store),
            _difference_rows(differences),
        )
    return DIFFERENT if differences else 0


def verify(config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False) -> int:
    """Check that the journal was not tampered with.

    Finds events altered, removed, inserted or reordered; the exit code is then 5."""
    with opened(config) as synchronizer, Progress(False if json else None) as progress:
        document = synchronizer.verify(progress)
    if json:
        output.document(document)
    else:
        output.table(
            ("event", "problem", "detail"),
            ((problem["seq"], problem["kind"], problem["detail"]) for problem in document["problems"]),
            right=("event",),
        )
        verdict = output.style("intact", "green") if document["ok"] else output.style("BROKEN", "red")
        output.line(f"{verdict}: {document['events']:,} events, hash {document['hash']}")
    return 0 if document["ok"] else DIFFERENT


# -- how events are shown ---------------------------------------------------------------------------------


def _print_events(events: Iterable[Document], shape: str, headed: bool = False) -> int:
    """Print them as a table or as lines of JSON; answers with the last position, 0 if there was none."""
    last = 0

    def seen() -> Iterator[Document]:
        nonlocal last
        for event in events:
            last = event["seq"]
            yield event

    if shape == "jsonl":
        for event in seen():
            output.json_line(event)
        return last
    headers = ("seq", "when (UTC)", "op", "store", "record", "changes", "by")
    rows = (
        (
            event["seq"], when(event["observed_at"]), event["op"], event["store"],
            f"{event['type']} {event['key']}", _changes(event), event["actor"],
        )
        for event in seen()
    )  # fmt: skip
    lines = output.aligned(headers, rows, right=("seq",))
    if headed:
        next(lines, None)
    for line in lines:
        output.line(line)
    return last


def _changes(event: Document) -> str:
    """ "name: 'Ann' → 'Anna'", as far as a table shows it."""
    before, after = event["before"] or {}, event["after"] or {}
    told = "(conflict) " if event["conflict"] else ""
    clashes = (event["conflict"] or {}).get("fields", {})
    changed = event["changed"] or ([*after, *before] if event["op"] in ("create", "delete") else [])
    for name in dict.fromkeys([*changed, *clashes]):
        if len(told) > output.CELL:
            break
        told += f"{', ' if told and not told.endswith(') ') else ''}{name}: "
        if name not in changed:  # decided against what the store had
            told += f"{_value(clashes[name], 'chosen')}, not {_value(clashes[name], 'mine')}"
        elif event["op"] == "create":
            told += _value(after, name)
        elif event["after"] is None:
            told += f"{_value(before, name)} → gone"
        else:
            told += f"{_value(before, name)} → {_value(after, name)}"
    return told


def _value(fields: Document, name: str) -> str:
    return output.shorten(output.literal(fields[name]), 30) if name in fields else "nothing"


def _csv(events: Iterable[Document]) -> None:
    import csv

    import msgspec

    class Stdout:
        """What the csv module writes to."""

        def write(self, text: str) -> None:
            output.write(text)

    def flat(value: Any) -> Any:
        return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value

    writer = csv.writer(Stdout(), lineterminator="\n")
    for row in chain((COLUMNS,), ([flat(event[column]) for column in COLUMNS] for event in events)):
        writer.writerow(row)


def _difference_rows(differences: Iterable[Document]) -> Iterator[tuple[str, ...]]:
    for difference in differences:
        head = (difference["kind"], f"{difference['type']} {difference['key']}")
        fields = difference["fields"] if difference["kind"] == "different" else {}
        for name, (left, right) in fields.items():
            yield (*head, name, output.literal(left), output.literal(right))
            head = ("", "")
        if not fields:
            yield (*head, "", "", "")
