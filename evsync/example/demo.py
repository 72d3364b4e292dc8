"""`python -m evsync.example.demo FOLDER`: a walk through what evsync is for, with real commands on the example."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from evsync.errors import EvsyncError, UsageError
from evsync.example import lay_out

MARKER = ".evsync-demo"
"""A file by which a folder that this demo made is known: no other is ever removed."""


class Unexpected(Exception):
    """A command of the walk ended in a way that it should not."""


def walk(folder: Path) -> None:
    """Lay out the example in `folder` and walk through it."""
    _fresh(folder)
    run = _Runner(folder)

    run.say(
        "evsync keeps the records of unlike stores in step through one journal, and says of every value where it "
        "came from."
    )
    run.say(
        "Three stores hold one fleet of aircraft: the register (SQLite), the workshop's list (CSV) and the "
        "booking system's (JSON). Each knows other things, under other names; evsync.toml says what means what."
    )
    run("ls")
    run("head -3 maintenance.csv")

    run.say("evsync looks into each store and writes what it finds into one journal. No store is written.")
    run("evsync ingest")
    run.say("What one store knows and another lacks is still to be carried over.")
    run("evsync status")
    run.say("So carry it over. (sync is ingest, then replay to every store.)")
    run("evsync sync")
    run.say("Now all three agree, each in its own words. A second sync finds nothing to do.")
    run("evsync sync")
    before = run.head()

    run.say(
        "People go on working, each in their own store, with their own tools. The register notes a new engine:"
    )
    run(
        "sqlite-utils registry.db "
        "\"update aircraft set engine_type = 'Turbo-prop' where tail_number = 'N10156'\""
    )
    run.say("The workshop corrects the name of a maker in its list:")
    run("sed -i.bak 's/AIRBUS INDUSTRIE/AIRBUS/' maintenance.csv")
    run.say("Two seats are taken out of N10156, and the register strikes off N11106:")
    run("""sed -i.bak '/"N10156"/s/"seats": 55/"seats": 53/' seating.json""")
    run("sqlite-utils registry.db \"delete from aircraft where tail_number = 'N11106'\"")

    run.say("One command finds all of it, and carries it to the stores that have not seen it.")
    run("evsync sync")
    run.say("The workshop's list has the register's new engine ...")
    run("grep N10156 maintenance.csv")
    run.say("... and the register has the workshop's correction.")
    run(
        "sqlite-utils registry.db --table "
        "\"select manufacturer, count(*) from aircraft where manufacturer like 'AIRBUS%' group by 1\""
    )

    run.say("The journal tells what happened, in whatever store it happened. The newest five:")
    run("evsync log --limit 5")
    run.say("The history of one aircraft:")
    run("evsync log aircraft N10156")
    run.say("Where does each of its values come from?")
    run("evsync blame aircraft N10156")
    run.say(f"How was it before those edits? Event {before} was the last before them.")
    run(f"evsync show aircraft N10156 --at {before}")
    run.say("What was struck off is gone from every store, but not from the journal.")
    run(f"evsync show aircraft N11106 --at {before}")

    run.say("Somebody changes a store. diff says where it departs from the journal, and exits with 5.")
    run("sqlite-utils registry.db \"update aircraft set built = 1066 where tail_number = 'N10156'\"")
    run("evsync diff registry", expected=5)
    run.say("That was a mistake: bring the store back to what the journal says.")
    run("evsync replay --store registry --rebuild")
    run("evsync diff registry")

    run.say("Every event is chained to the one before it by a hash: the past cannot be edited unnoticed.")
    run("evsync verify")
    run.say("The journal is an SQLite file, open to any tool. Which fields were changed most, and where?")
    run(
        "sqlite-utils evsync.db --table \"select store, field, count(*) as changes from changes where op = 'update' "
        'group by 1, 2 order by 3 desc limit 5"'
    )
    run('sqlite-utils evsync.db --table "select seq, op, store, key from log order by seq desc limit 3"')
    run.say(f"That is evsync. The example is yours to play with: cd {folder}")


class _Runner:
    """Shows commands as a person would type them, and runs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # The programs that were installed beside this Python come first.
        beside = str(Path(sys.executable).parent)
        self._environment = {**os.environ, "PATH": os.pathsep.join((beside, os.environ.get("PATH", "")))}

    def say(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def __call__(self, command: str, expected: int = 0) -> None:
        print(f"$ {command}", flush=True)
        done = subprocess.run(self._words(command), cwd=self._folder, env=self._environment, check=False)
        if done.returncode != expected:
            raise Unexpected(f"{command!r} ended with {done.returncode}, not with {expected}")

    def head(self) -> int:
        """The journal's last position, asked for unseen."""
        asked = subprocess.run(
            self._words("evsync status --json"),
            cwd=self._folder,
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        return int(json.loads(asked.stdout)["head"])

    def _words(self, command: str) -> list[str]:
        program, *words = shlex.split(command)
        found = shutil.which(program, path=self._environment["PATH"])
        if found is None:
            raise Unexpected(f"there is no program {program!r}")
        return [found, *words]


def _fresh(folder: Path) -> None:
    """An example in `folder`, in place of an earlier one of ours."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise UsageError(f"{folder} exists and was not made by this demo", "name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    lay_out(folder)


def main() -> int:
    """Answers with the exit code."""
    if len(sys.argv) != 2:
        print("usage: python -m evsync.example.demo FOLDER", file=sys.stderr)
        return 2
    try:
        walk(Path(sys.argv[1]))
    except (EvsyncError, Unexpected) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, EvsyncError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
