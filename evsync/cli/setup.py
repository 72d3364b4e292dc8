"""The commands that set up: init and doctor."""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from evsync.cli import output
from evsync.cli.options import ConfigOption, DebugOption, JsonOption, opened
from evsync.config import FILE_NAME, parse_config
from evsync.errors import Unreachable, UsageError

if TYPE_CHECKING:
    from evsync.proposal import Look
    from evsync.store import Store

SAMPLED = 1000
"""How many records are looked at to guess types and keys."""


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

    With --from and --to it looks into your stores and proposes types, keys and fields; look over what it
    marks as guessed."""
    if targets and len(targets) > 1:
        raise UsageError(
            "--to can be given once", "write the further stores into evsync.toml like the second one"
        )
    target = targets[0] if targets else None
    if example:
        if source or target:
            raise UsageError("--example brings its own stores", "leave out --from and --to")
        from evsync.example import lay_out

        written = lay_out(folder)
    else:
        path = folder / FILE_NAME
        if path.exists() and not force:
            raise UsageError(f"{path} exists", "nothing was written; --force replaces it")
        text = _proposed(folder, source, target)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written = [path]
    if json:
        output.document({"ok": True, "command": "init", "files": [str(path) for path in written]})
        return 0
    for path in written:
        output.line(f"wrote {output.escape(str(path))}")
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
        for check in document["checks"]:
            if not check["ok"]:
                output.failure(
                    f"{check['store'] or 'journal'}: {check['detail'] or check['check']}", check["hint"] or ""
                )
        if document["ok"]:
            output.line(output.style("all is well", "green"))
    return 0 if document["ok"] else 1


# -- looking into stores ----------------------------------------------------------------------------------


def _proposed(folder: Path, source: str | None, target: str | None) -> str:
    from evsync import proposal

    looks: list[Look] = []
    if source is not None:
        looks += _looks(_store(source, folder, []), target=False)
    if target is not None:
        store = _store(target, folder, [look.store for look in looks])
        found = _looks(store, target=True)
        known = [look.type for look in looks]
        if not found and not known:
            raise UsageError(
                f"there is nothing to look into in {target}", "name a store that holds data: --from URL"
            )
        # What the target does not hold yet is to be created there, under the same name.
        fresh = [name for name in known if not found] or [
            name for name in known if len(known) > 1 and name not in {look.type for look in found}
        ]
        looks += found + [proposal.Look(store.name, target, name) for name in fresh]
    text = proposal.propose(looks) if looks else proposal.TEMPLATE
    parse_config(text, folder / FILE_NAME)  # what we propose is what we accept
    return text


def _store(url: str, folder: Path, taken: list[str]) -> Store:
    from evsync import plugins
    from evsync.store import Store

    scheme, _, path = url.partition(":")
    accessor = plugins.accessor(scheme, where=f"the URL {url!r}")
    name = PurePosixPath(path.partition("?")[0]).stem or scheme
    if name in taken:
        name = f"{name}-{scheme}"
    store = Store(name if name not in taken else f"{name}-2", url, accessor=accessor, root=folder)
    if not url.endswith("/") and store.path.is_dir():
        return _store(url + "/", folder, taken)
    return store


def _looks(store: Store, target: bool) -> list[Look]:
    """A look at each type that the store could hold; none for a target that does not exist."""
    from evsync.accessor import CanDescribe, CanDiscover
    from evsync.binding import Binding, Field, PlaceSpec
    from evsync.proposal import Look

    accessor = store.accessor("")
    if not isinstance(accessor, CanDescribe):
        raise UsageError(
            f"a store like {store.url!r} cannot say what it holds",
            "run evsync init without it, and write it by hand",
        )
    try:
        found = accessor.discover(store) if isinstance(accessor, CanDiscover) else {store.name: {}}
    except Unreachable:
        if target:
            return []
        raise
    looks = []
    for type, options in found.items():
        store.places[type] = PlaceSpec(options=options)
        described = accessor.describe(store, type)
        if described is None or not described.columns:
            continue
        columns = described.columns
        fields = tuple(Field(name, name, columns[name] or "str") for name in sorted(columns))
        key = described.primary_key or tuple(columns)[:1]
        store.bind(Binding(type, key, fields, options=options))
        rows = accessor.find(store, type)
        samples = [data.fields for data in islice(rows, SAMPLED)]
        if hasattr(rows, "close"):
            rows.close()
        looks.append(Look(store.name, store.url, type, options, columns, described.primary_key, samples))
    if not looks and not target:
        raise UsageError(
            f"there is nothing to look into in {store.url}", "it exists, but holds no table or record"
        )
    return looks
