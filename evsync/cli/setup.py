"""The commands that set up: init and doctor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from evsync.cli import output
from evsync.cli.options import ConfigOption, DebugOption, JsonOption, opened
from evsync.config import FILE_NAME, parse_config
from evsync.errors import UsageError


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; by default here.")] = Path(),
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL", help="A store to look into, e.g. sqlite:crm.db, seen from DIR."
        ),
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option("--to", metavar="URL", help="Another; it may not exist yet.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Lay out three small stores to play with.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help=f"Replace an {FILE_NAME} that is there.")] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> int:
    """Write a first evsync.toml.

    With --from and --to it looks into your stores and proposes types, keys, references and fields; look over what it
    could not decide. A password in a URL is not written down."""
    if targets and len(targets) > 1:
        raise UsageError(
            "--to can be given once", "write the further stores into evsync.toml like the second one"
        )
    target = targets[0] if targets else None
    undecided: list[str] = []
    if example:
        if source or target:
            raise UsageError("--example brings its own stores", "leave out --from and --to")
        from evsync.example import lay_out

        written = lay_out(folder)
    else:
        path = folder / FILE_NAME
        if path.exists() and not force:
            raise UsageError(f"{path} exists", "nothing was written; --force replaces it")
        text, undecided = _proposed(folder, source, target)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written = [path]
    if json:
        output.document(
            {"ok": True, "command": "init", "files": [str(path) for path in written], "undecided": undecided}
        )
        return 0
    for path in written:
        output.line(f"wrote {output.escape(str(path))}")
    output.flush()
    for point in undecided:
        output.say(f"look over: {output.escape(point)}")
    move = "" if folder.resolve() == Path.cwd() else f"cd {output.escape(str(folder))}, then "
    output.say(f"next: {move}" + ("evsync ingest" if example or source else "edit it and run evsync doctor"))
    return 0


def doctor(config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False) -> int:
    """Check that all stores and mappings work.

    Reaches every store, checks keys, mappings and rights, and says what to do. Exit code 1 if anything is wrong."""
    with opened(config) as synchronizer:
        document = synchronizer.doctor()
    if json:
        output.document(document)
    else:
        output.table(
            ("", "store", "type", "check", "detail"),
            (
                (
                    "ok" if check["ok"] else "BAD",
                    check["store"],
                    check["type"],
                    check["check"],
                    check["detail"],
                )
                for check in document["checks"]
            ),
        )
        wrong = (
            (f"{check['store'] or 'journal'}: {check['detail'] or check['check']}", check["hint"] or "")
            for check in document["checks"]
            if not check["ok"]
        )
        for message, hint in dict.fromkeys(wrong):  # what is wrong with all types of a store is told once
            output.failure(message, hint)
        if document["ok"]:
            output.line(output.style("all is well", "green"))
    return 0 if document["ok"] else 1


def _proposed(folder: Path, source: str | None, target: str | None) -> tuple[str, list[str]]:
    """The text of the file, and what is open in it."""
    from evsync import looking, proposal_text

    if source is None and target is None:
        parse_config(proposal_text.TEMPLATE, folder / FILE_NAME)
        return proposal_text.TEMPLATE, []
    found = looking.proposed(folder, source, target)
    text = proposal_text.written(found)
    variables = {name: value for seen in found.stores for name, value in seen.variables.items()}
    parse_config(text, folder / FILE_NAME, {**os.environ, **variables})  # what we propose is what we accept
    return text, found.undecided
