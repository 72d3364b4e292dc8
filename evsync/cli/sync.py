"""The commands that run: ingest, replay, sync, and status."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import typer

from evsync.cli import output
from evsync.cli.options import (
    ConfigOption,
    DebugOption,
    Document,
    JsonOption,
    complete_store,
    configured,
    opened,
)
from evsync.cli.progress import Progress
from evsync.errors import UsageError

AllowDeletes = Annotated[
    bool, typer.Option("--allow-deletes", help="Go on even if unusually many records are gone.")
]
AllowMapping = Annotated[
    bool, typer.Option("--allow-mapping", help="Go on although the mapping of a store was changed.")
]
AllowChanges = Annotated[
    bool, typer.Option("--allow-changes", help="Go on even if all known records changed at once.")
]
Scan = Annotated[
    bool, typer.Option("--scan", help="Read stores through even if nobody seems to have touched them.")
]
AcceptGap = Annotated[
    bool,
    typer.Option(
        "--accept-gap", help="Go on by comparing where a store's changes were not captured for a while."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def ingest(
    stores: Annotated[
        list[str] | None,
        typer.Argument(metavar="STORE", help="By default all.", autocompletion=complete_store),
    ] = None,
    dry_run: DryRun = False,
    allow_deletes: AllowDeletes = False,
    allow_mapping: AllowMapping = False,
    allow_changes: AllowChanges = False,
    scan: Scan = False,
    accept_gap: AcceptGap = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Write down in the journal what changed.

    Looks into the stores; writes to none of them."""
    with opened(config) as synchronizer, Progress(False if json else None) as progress:
        document = synchronizer.ingest(
            stores or None,
            dry_run=dry_run,
            allow_deletes=allow_deletes,
            allow_mapping=allow_mapping,
            allow_changes=allow_changes,
            scan=scan,
            accept_gap=accept_gap,
            progress=progress,
        )
    if json:
        output.document(document)
    else:
        _show_ingest(document)
    show_errors(document)
    return _exit_code(document)


def replay(
    store: Annotated[
        list[str] | None,
        typer.Option("--store", metavar="NAME", help="May be repeated.", autocompletion=complete_store),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All stores that may be written.")] = False,
    until: Annotated[
        str | None, typer.Option(metavar="SEQ|TIME", help="Bring the store to this past state.")
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Step by step, not straight to the last state.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Compare with what the store really holds, and mend it.")
    ] = False,
    dry_run: DryRun = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail (exit code 1) if any record fails.")] = False,
    allow_deletes: AllowDeletes = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Write to stores what they have not seen.

    Brings a store from its last position in the journal to the newest, or to --until."""
    if every == bool(store):
        names = ", ".join(configured(config).stores) or "none so far"
        raise UsageError(
            "say which stores to write: --store NAME, or --all" + (", not both" if every else ""),
            f"the stores are: {names}",
        )
    with opened(config) as synchronizer, Progress(False if json else None) as progress:
        document = synchronizer.replay(
            None if every else store,
            until,
            each=each,
            rebuild=rebuild,
            dry_run=dry_run,
            strict=strict,
            allow_deletes=allow_deletes,
            progress=progress,
        )
    if json:
        output.document(document)
    else:
        show_replay(document)
    show_errors(document)
    return _exit_code(document)


def sync(
    dry_run: DryRun = False,
    allow_deletes: AllowDeletes = False,
    allow_mapping: AllowMapping = False,
    allow_changes: AllowChanges = False,
    scan: Scan = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Ingest all, replay all: then they agree."""
    with opened(config) as synchronizer, Progress(False if json else None) as progress:
        document = synchronizer.sync(
            allow_deletes, allow_mapping, progress, allow_changes=allow_changes, dry_run=dry_run, scan=scan
        )
    if json:
        output.document(document)
    else:
        output.line(output.style("found in the stores", "bold"))
        _show_ingest(document["ingest"])
        heading = "would be written to the stores" if dry_run else "written to the stores"
        output.line(output.style(heading, "bold"))
        show_replay(document["replay"])
    show_errors(document["ingest"])
    told = {(store["store"], store["error"]) for store in document["ingest"]["stores"]}
    show_errors(document["replay"], told)
    return _exit_code(document)


def status(config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False) -> int:
    """How far each store is, and what is open."""
    with opened(config) as synchronizer:
        document = synchronizer.status()
    if json:
        output.document(document)
        return 0
    stores = document["stores"]
    follows = any(store.get("retained") is not None for store in stores)
    output.line(f"the journal has {_count(document['head'], 'event')}")
    output.table(
        (
            "store", "role", "seen up to", "behind", "conflicts", "failures", "quarantined", "last ingest", "last replay",
            *(["kept for us"] if follows else []),
        ),
        (
            (
                store["store"], store["role"], store["cursor"], store["behind"], store["conflicts"],
                store["failures"], store["quarantined"], when(store["last_ingest"]), when(store["last_replay"]),
                *([output.size(store.get("retained"))] if follows else []),
            )
            for store in stores
        ),
        right=("seen up to", "behind", "conflicts", "failures", "quarantined", "kept for us"),
    )  # fmt: skip
    for store in stores:
        if store.get("trouble") is not None:
            output.failure(f"{store['store']}: {store['trouble']}", f"evsync capture status {store['store']}")
    return 0


def _exit_code(document: Document) -> int:
    from evsync.report import exit_code

    return exit_code(document)


def when(moment: str | None) -> str:
    """A moment as tables show it: to the second; "never" for None."""
    if moment is None:
        return "never"
    return moment[:19].replace("T", " ")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _told(store: Document, changes: Sequence[str], troubles: Sequence[str]) -> str:
    """ "12 created, 3 updated"; troubles last and only if there are any; nothing if all are zero."""
    told = [f"{store[name]:,} {name}" for name in changes if store[name]]
    told += [
        output.style(f"{store[name]:,} {name if store[name] != 1 else name.removesuffix('s')}", "yellow")
        for name in troubles
        if store[name]
    ]
    return ", ".join(told)


def told_of(entry: Document) -> str:
    """What was found in, or written to, a store, in a few words; nothing if that is nothing."""
    changes = [name for name in ("created", "updated", "deleted", "adopted") if name in entry]
    troubles = [name for name in ("conflicts", "quarantined", "skipped", "failed") if name in entry]
    return _told(entry, changes, troubles)


def _adopted(adoption: dict[str, int] | None) -> str:
    """ "120 alike, 3 differ"; nothing where there is nothing to compare with."""
    if adoption is None or not any(number for name, number in adoption.items() if name != "new"):
        return ""
    words = {
        "matched": "alike",
        "differ": "differ",
        "new": "only here",
        "missing": "only elsewhere",
        "ambiguous": "ambiguous",
    }
    return ", ".join(f"{adoption[name]:,} {word}" for name, word in words.items() if adoption[name])


def show_errors(document: Document, told: Collection[tuple[str, str]] = ()) -> None:
    """What went wrong in which store, for the person: under --json as well, beside the document. `told`: (store, error)
    that the person has heard of already."""
    for store in document["stores"]:
        if store["error"] and (store["store"], store["error"]) not in told:
            hint = getattr(document, "hints", {}).get(store["store"])
            output.failure(f"{store['store']}: {store['error']}", hint or "evsync doctor says more")


def _show_ingest(document: Document) -> None:
    stores = document["stores"]
    width = max((len(store["store"]) for store in stores), default=0)
    for store in stores:
        told = _told(store, ("created", "updated", "deleted", "adopted"), ("conflicts", "quarantined"))
        if store["error"]:
            told = f"{told}, then stopped by an error" if told else "stopped by an error"
        elif not told:
            # A store that tells its changes is not read: nobody counted.
            told = "nothing new" + (
                f" ({_count(store['unchanged'], 'record')})" if store["unchanged"] else ""
            )
        name = output.escape(store["store"]).ljust(width)
        output.line(f"{name}  {told}")
        if store.get("missed"):
            output.line(
                f"{name}  of these found by comparing only, as its changes were not told: {store['missed']:,}"
            )
        if adopted := _adopted(store["adoption"]):
            output.line(f"{name}  met for the first time: {adopted}")
    if document["dry_run"]:
        output.line("a dry run: nothing was written down")
    elif document["first"]:
        first, last = document["first"], document["last"]
        events = f"event {first}" if first == last else f"events {first}–{last}"
        output.line(f"{events} in the journal")


def show_replay(document: Document) -> None:
    """What a replay did to each store, and the plan of a dry run."""
    stores = document["stores"]
    width = max((len(store["store"]) for store in stores), default=0)
    for store in stores:
        told = _told(store, ("created", "updated", "deleted"), ("skipped", "failed"))
        if store["error"]:
            told = f"{told}, then stopped by an error" if told else "stopped by an error"
        told = told or "nothing to write"
        output.line(
            f"{output.escape(store['store']).ljust(width)}  {told}  (at event {store['cursor']} of {store['head']})"
        )
    if any(store["skipped"] for store in stores):
        output.line(
            "skipped: changed in the store since it was read last, or gone; the next ingest sees what was done to it"
        )
    if document["dry_run"] and not any(store.get("plan") for store in stores):
        output.line("a dry run: there would be nothing to write")
    elif document["dry_run"]:
        output.line("a dry run: nothing was written; it would")
        output.table(
            ("store", "action", "record", "event", "fields"),
            (
                (
                    store["store"], step["action"], f"{step['type']} {step['key']}", step["seq"],
                    ", ".join(step["fields"]),
                )
                for store in stores
                for step in store.get("plan", ())
            ),
            right=("event",),
        )  # fmt: skip
