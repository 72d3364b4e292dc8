"""The commands about how a store's changes are captured: install, remove, status."""

from __future__ import annotations

from typing import Annotated

import typer

from evsync.cli import failures, output
from evsync.cli.options import ConfigOption, DebugOption, Document, JsonOption, complete_store, opened
from evsync.cli.parameters import Command, Group

app = typer.Typer(
    name="capture",
    help="How the changes of a store are captured: set it up, take it away, see how it stands.",
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=False,
)

Stores = Annotated[
    list[str] | None,
    typer.Argument(metavar="STORE", help="By default all.", autocompletion=complete_store),
]


def install(
    stores: Annotated[list[str], typer.Argument(metavar="STORE", autocompletion=complete_store)],
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Have every change captured by the store itself.

    Sets up triggers and a queue, or a replication slot, as `capture` says; what is there already stays."""
    with opened(config) as synchronizer:
        document = synchronizer.install_capture(stores)
        code = _told(document, json)
    installed = [store["store"] for store in document["stores"] if store["error"] is None and store["done"]]
    if installed and not json:
        output.say(f"every step is told from the next ingest on: evsync ingest {' '.join(installed)}")
    return code


def remove(
    stores: Annotated[list[str], typer.Argument(metavar="STORE", autocompletion=complete_store)],
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Leave nothing behind in the store; it is compared from then on."""
    with opened(config) as synchronizer:
        return _told(synchronizer.remove_capture(stores), json)


def status(
    stores: Stores = None, config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False
) -> int:
    """How the changes of each store are captured, and what waits. Exit code 3 if anything is amiss."""
    with opened(config) as synchronizer:
        return _told(synchronizer.capture(stores or None), json)


for command in (install, remove, status):
    app.command(cls=Command)(failures.plain(command))


def _told(document: Document, json: bool) -> int:
    from evsync.report import exit_code

    if json:
        output.document(document)
    else:
        for store in document["stores"]:
            for done in store["done"]:
                output.line(f"{output.escape(store['store'])}: {output.escape(done)}")
        output.table(
            ("store", "capture", "", "waiting", "retained", "types", "detail"),
            (
                (
                    store["store"],
                    store["mode"],
                    "ok" if store["ok"] else "BAD",
                    store["waiting"],
                    output.size(store["retained"]),
                    ", ".join(store["types"]),
                    store["detail"],
                )
                for store in document["stores"]
                if store["error"] is None
            ),
            right=("waiting", "retained"),
        )
    for store in document["stores"]:
        if store["error"] is not None:
            output.failure(
                f"{store['store']}: {store['error']}", getattr(document, "hints", {}).get(store["store"], "")
            )
        elif not store["ok"]:
            output.failure(f"{store['store']}: {store['detail']}", store["hint"])
    return exit_code(document)
