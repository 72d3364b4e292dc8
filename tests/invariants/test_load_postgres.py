"""4 and 8 under load: many applications write at once while evsync follows, and the journal holds each of their changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from load import CREATE, DATABASES, ROWS, TABLES, Database, Step, Writer, truth
from projects import sql, synchronizer

from evsync import Synchronizer

CONFIG = """
[types.account]
key = ["code"]
[types.entry]
key = ["code"]
[stores.app]
url = "{url}"
max_deletes = "100%"
max_changes = "100%"
{options}
[stores.app.types.account]
[stores.app.types.entry]
[stores.copy]
url = "sqlite:copy.db"
max_deletes = "100%"
max_changes = "100%"
[stores.copy.types.account]
[stores.copy.types.entry]
"""


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Database:
    return DATABASES[request.param]


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    with database.place() as url:
        for statement in CREATE:
            run(database, url, statement)
        for table in TABLES:
            for line in range(ROWS):
                run(database, url, f"INSERT INTO counter VALUES ('{table}', {line}, 0, NULL)")
        yield url


def run(database: Database, url: str, statement: str) -> list[Any]:
    with closing(database.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        found = list(cursor.fetchall()) if cursor.description else []
        connection.commit()
        return found


def told(sync: Synchronizer) -> dict[tuple[str, int], list[Step]]:
    """What the journal says became of each row, in order. What is called by another key is there another record."""
    found: dict[tuple[str, int], list[Step]] = defaultdict(list)
    for event in sync.log(store="app"):
        fields = event["after"]
        steps = found[event["type"], (fields or event["before"])["line"]]
        if fields is None:
            steps.append(("gone", event["before"]["n"] + 1))
        else:
            if steps and steps[-1] == ("gone", fields["n"]):
                steps.pop()
            steps.append(("put", fields["n"], fields["code"], fields["said"]))
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_the_journal_holds_each_change_that_any_application_committed(
    database: Database, url: str, tmp_path: Path, scan: bool
) -> None:
    """`scan`: what the feed told is compared with what is there, too. Each type is then read at a moment of its own, so
    that only the changes of each row are in order."""
    writers = [Writer(database, url, f"writer {number}", 120) for number in range(5)]
    with (
        synchronizer(tmp_path, CONFIG.format(url=url, options=database.options)) as sync,
        closing(database.connect(url)) as patient,
    ):
        assert sync.sync()["ok"]
        patient.cursor().execute("INSERT INTO account VALUES (900, 'patient', 900, 1, 'patient.0')")
        for writer in writers:
            writer.start()
        rounds = 0
        while any(writer.is_alive() for writer in writers):
            rounds += 1
            assert sync.ingest(["app"], scan=scan and rounds % 3 == 0)["ok"]
        for writer in writers:
            writer.join()
            assert writer.error is None, writer.error
        patient.commit()
        assert sync.sync()["ok"]
        assert rounds > 3
        wanted = truth(writers) | {("account", 900): [("put", 1, "patient", "patient.0")]}
        assert told(sync) == wanted
        assert scan or out_of_order(sync, database.whole) == []
        for table in TABLES:
            held = f"SELECT code, line, n, said FROM {table}"
            assert sorted(run(database, url, held)) == sorted(sql(tmp_path / "copy.db", held))
        before = sync.journal().head().seq
        sync.ingest(scan=True)
        assert list(sync.log(after=before)) == []
        missed = "SELECT count(*) FROM run WHERE command = 'reconcile' AND counts LIKE '%ated%'"
        assert sync.journal().connection.execute(missed).fetchall() == [(0,)]
        assert sync.verify()["ok"]


def out_of_order(sync: Synchronizer, whole: bool) -> list[tuple[str, str]]:
    """Pairs of transactions of one application of which the second one stands before the first; if they have to be `whole`,
    also those that are told in two parts."""
    said = [event["after"]["said"] for event in sync.log(store="app") if event["after"]]
    found, last = [], dict[str, str]()
    for name in [name for name, _ in groupby(said)] if whole else dict.fromkeys(said):
        writer, _, number = name.partition(".")
        if int(last.get(writer, ".-1").partition(".")[2]) >= int(number):
            found.append((last[writer], name))
        last[writer] = name
    return found


# -- a transaction of many rows -----------------------------------------------------------------------------

MANY = 100_000
GROWTH = 96 * 2**20

FOLLOW = """
import resource, sys
from pathlib import Path
from projects import synchronizer

folder = Path(sys.argv[1])
with synchronizer(folder, (folder / "config").read_text()) as sync:
    for line in sys.stdin:
        report = sync.ingest(["app"], allow_deletes=True)
        counts = {what: report["stores"][0][what] for what in ("created", "updated", "deleted", "error")}
        print([*counts.values(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024], flush=True)
"""

DIGITS = " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10))
NUMBERS = ", ".join(f"({DIGITS}) AS t{place}" for place in range(5))
NUMBER = " + ".join(f"{10**place} * t{place}.d" for place in range(5))


@pytest.mark.slow
def test_the_size_of_a_transaction_does_not_matter_to_memory(
    database: Database, url: str, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(CONFIG.format(url=url, options=database.options))
    paths = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", FOLLOW, tmp_path],
        env={**os.environ, "PYTHONPATH": paths}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as follower:  # fmt: skip
        assert follower.stdin is not None and follower.stdout is not None
        peaks = []
        for statement, counts in (
            ("INSERT INTO entry VALUES ('first', 1, 1, 'first')", [1, 0, 0]),
            ("UPDATE entry SET n = 2", [0, 1, 0]),
            (
                f"INSERT INTO entry SELECT concat('e', {NUMBER}), 1, 1, repeat('x', 30) FROM {NUMBERS}",
                [MANY, 0, 0],
            ),
            ("UPDATE entry SET n = n + 1, said = repeat('y', 30)", [0, MANY + 1, 0]),
            ("DELETE FROM entry", [0, 0, MANY + 1]),
        ):
            run(database, url, statement)
            follower.stdin.write("ingest\n")
            follower.stdin.flush()
            *told, error, peak = json.loads(follower.stdout.readline().replace("None", "null"))
            assert (told, error) == (counts, None)
            peaks.append(peak)
        follower.stdin.close()
    assert peaks[-1] - peaks[1] < GROWTH, peaks
