"""The commands that decide by hand: conflicts, resolve and undo."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Annotated

import typer

from evsync.cli import output
from evsync.cli.audit import Key, TypeName
from evsync.cli.options import (
    ConfigOption,
    DebugOption,
    Document,
    JsonOption,
    complete_store,
    complete_type,
    opened,
)
from evsync.cli.sync import DryRun, when

Actor = Annotated[
    str | None,
    typer.Option(metavar="NAME", show_default=False, help="Who decides; by default your login name."),
]
SIDES = ("base", "theirs", "mine", "chosen")


def conflicts(
    type: Annotated[
        str | None,
        typer.Argument(metavar="TYPE", help="Of this type only.", autocompletion=complete_type),
    ] = None,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Of this record only.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of this store only.", autocompletion=complete_store),
    ] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that wait for a decision.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Who disagreed about what, and how it was decided.

    Oldest first; for one that is open, the command that decides it."""
    with opened(config) as synchronizer:
        found = synchronizer.conflicts(type, key, store=store, only_open=only_open)
        if json:
            output.array(found)
            return 0
        count = 0
        for count, conflict in enumerate(found, 1):
            if count > 1:
                output.line()
            _show_conflict(conflict)
    if not count:
        output.line("no open conflicts" if only_open else "no conflicts")
    return 0


def resolve(
    type: TypeName,
    key: Key,
    take: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="What this store holds is right.", autocompletion=complete_store),
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", metavar="F=V", help="Field F is V. May be repeated.")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="F", help="Without field F. May be repeated.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="The journal's state is right.")] = False,
    actor: Actor = None,
    dry_run: DryRun = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Decide the open conflicts of a record.

    All stores follow at the next replay."""
    from evsync.resolving import parsed

    with opened(config) as synchronizer:
        document = synchronizer.resolve(
            type,
            key,
            take=take,
            set=parsed(set or (), synchronizer.field_types(type)),
            unset=unset or (),
            keep=keep,
            actor=login_name() if actor is None else actor,
            dry_run=dry_run,
        )
    if json:
        output.document(document)
        return 0
    called = f"{output.escape(document['type'])} {output.escape(document['key'])}"
    before, after = document["before"] or {}, document["after"] or {}
    output.line(f"{output.style(called, 'bold')}  (event {document['seq']})")
    if document["after"] is None:
        output.line("is gone" if document["before"] is None else "is deleted")
    elif not document["changed"]:
        output.line("stays as it is in the journal")
    else:
        output.table(
            ("field", "before", "after"),
            ((name, _value(before, name), _value(after, name)) for name in document["changed"]),
        )
    if dry_run:
        output.line("a dry run: nothing was written down")
    else:
        output.say("stores follow at the next replay: evsync replay --all")
    return 0


def undo(
    seq: Annotated[
        int | None, typer.Argument(metavar="SEQ", min=1, max=2**63 - 1, help="The event to undo.")
    ] = None,
    run: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=2**63 - 1, help="Undo all events of this run."),
    ] = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Append the inverse of an event, or of a run.

    What was changed since is not overwritten, but left as an open conflict (exit code 4). Stores follow at the
    next replay."""
    from evsync.report import exit_code

    with opened(config) as synchronizer:
        document = synchronizer.undo(
            seq, run=run, actor=login_name() if actor is None else actor, dry_run=dry_run
        )
    if json:
        output.document(document)
        return exit_code(document)
    output.table(
        ("event", "undoes", "record", "fields", ""),
        (
            (
                event["seq"], event["undoes"], f"{event['type']} {event['key']}", ", ".join(event["changed"]),
                "in conflict with later changes" if event["open"] else "",
            )
            for event in document["events"]
        ),
        right=("event", "undoes"),
    )  # fmt: skip
    written = 0 if document["first"] is None else document["last"] - document["first"] + 1
    if written > len(document["events"]):
        output.line(f"… and {written - len(document['events']):,} more")
    if document["reason"] is not None:
        output.line(f"nothing to undo: {output.escape(document['reason'])}")
    if document["conflicts"]:
        output.say("some fields were changed since, and left as they are; to decide: evsync conflicts --open")
    if dry_run:
        output.line("a dry run: nothing was written down")
    elif written:
        output.say("stores follow at the next replay: evsync replay --all")
    return exit_code(document)


def login_name() -> str | None:
    """Who is at the terminal, as far as the system tells."""
    import getpass

    try:
        return getpass.getuser() or None
    except (OSError, KeyError, ImportError):
        return None


# -- how a conflict is shown --------------------------------------------------------------------------------


def _show_conflict(conflict: Document) -> None:
    called = f"{output.escape(conflict['type'])} {output.escape(conflict['key'])}"
    output.line(
        f"{output.style(called, 'bold')}  event {conflict['seq']}, {when(conflict['observed_at'])},"
        f" store {output.escape(conflict['store'])}"
        + (f", by {output.escape(conflict['actor'])}" if conflict["actor"] else "")
    )
    fields = conflict["fields"]
    if fields:
        output.table(("field", *SIDES), (_sides(name, sides) for name, sides in fields.items()))
    else:
        output.line(f"{output.escape(conflict['store'])} deleted the record, which was changed elsewhere")
    output.line("; ".join(_verdict(conflict)))
    if conflict["open"]:
        for command in _commands(conflict):
            output.line(f"  {command}")


def _verdict(conflict: Document) -> Iterator[str]:
    policy = conflict["policy"]
    told = policy if isinstance(policy, str) else ", ".join(f"{n}: {p}" for n, p in policy.items())
    yield f"policy {output.escape(told)}"
    if conflict["basis"]:
        yield output.escape(conflict["basis"])
    if conflict["open"]:
        yield output.style("open", "yellow") + ", to decide it:"
    elif conflict["settled_by"] is not None:
        yield f"settled by event {conflict['settled_by']}"


def _commands(conflict: Document) -> Iterator[str]:
    record = output.escape(f"evsync resolve {shlex.quote(conflict['type'])} {shlex.quote(conflict['key'])}")
    yield f"{record} --take {output.escape(shlex.quote(conflict['store']))}"
    if conflict["fields"]:
        yield f"{record} --set {output.escape(shlex.quote(next(iter(conflict['fields']))))}=…"
    yield f"{record} --keep"


def _sides(name: str, sides: Document) -> tuple[str, ...]:
    return (name, *(output.literal(sides[side]) if side in sides else "nothing" for side in SIDES))


def _value(fields: Document, name: str) -> str:
    return output.literal(fields[name]) if name in fields else "nothing"
