"""What all files have in common: where they are, and that rewriting one harms nothing and nobody."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accessors import rewriting
from accessors.csv import CsvAccessor
from accessors.files import FileAccessor
from accessors.json import JsonAccessor
from accessors.jsonl import JsonLinesAccessor
from evsync.accessor import HEADER, Change, Outcome, Row, Verdict
from evsync.binding import Binding, Field, PlaceSpec
from evsync.data import Data
from evsync.errors import BrokenStore, ConfigError, Refused, Retry, Unreachable
from evsync.store import Store
from evsync.values import ABSENT

FORMATS: dict[str, tuple[FileAccessor, str]] = {
    "csv": (CsvAccessor(), "k,v,other\n1,one,x\n2,two,y\n3,three,z\n"),
    "json": (
        JsonAccessor(),
        '[\n {"k":1,"v":"one","other":"x"},\n {"k":2,"v":"two","other":"y"},\n {"k":3,"v":"three","other":"z"}\n]\n',
    ),
    "jsonl": (
        JsonLinesAccessor(),
        '{"k":1,"v":"one","other":"x"}\n{"k":2,"v":"two","other":"y"}\n{"k":3,"v":"three","other":"z"}\n',
    ),
}

THING = Binding("thing", ("k",), (Field("k", "k", "int"), Field("v", "v", "str")))


class Case:
    """A file of one of the formats with the records 1 one, 2 two, 3 three."""

    def __init__(self, format: str, folder: Path, url: str | None = None) -> None:
        self.accessor, self.text = FORMATS[format]
        self.folder, self.format = folder, format
        self.path = folder / f"t.{format}"
        self.path.write_text(self.text)
        self.store = Store("s", f"{format}:{url or self.path.name}", accessor=self.accessor, root=folder)
        self.store.bind(THING)

    def records(self) -> list[tuple[int, Any]]:
        rows = [row[HEADER:] for batch in self.accessor.scan(self.store, "thing") for row in batch]
        return [(int(k), v) for k, v in rows]

    def apply(self, *changes: Change) -> list[Outcome]:
        return self.accessor.apply(self.store, "thing", changes)

    def update(self, key: int, value: Any) -> Outcome:
        [outcome] = self.apply(change("update", key, v=value))
        return outcome

    def left_behind(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path != self.path)


@pytest.fixture(params=FORMATS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return Case(request.param, tmp_path)


def change(
    action: Any, key: int, judge: Callable[[Row | None], Verdict] = lambda row: "write", **values: Any
) -> Change:
    return Change(action, None, {"k": key}, values, judge)


def identity(path: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, path.read_bytes()


# -- where the file is -------------------------------------------------------------------------------------


def test_a_folder_holds_a_file_for_each_type(case: Case) -> None:
    folder = case.folder / "many"
    folder.mkdir()
    case.path.rename(folder / f"thing.{case.format}")
    for url in (f"{case.format}:many", f"{case.format}:many/"):
        store = Store("s", url, accessor=case.accessor, root=case.folder)
        store.bind(THING)
        assert len(list(case.accessor.find(store, "thing"))) == 3


def test_the_option_file_names_another(case: Case) -> None:
    places = {"thing": PlaceSpec(options={"file": case.path.name}), "more": PlaceSpec()}
    store = Store("s", f"{case.format}:./", accessor=case.accessor, root=case.folder, places=places)
    store.bind(THING)
    assert len(list(case.accessor.find(store, "thing"))) == 3


def test_one_file_cannot_hold_two_types(case: Case) -> None:
    places = {"thing": PlaceSpec(), "more": PlaceSpec()}
    store = Store(
        "s", f"{case.format}:{case.path.name}", accessor=case.accessor, root=case.folder, places=places
    )
    store.bind(THING)
    with pytest.raises(ConfigError, match="cannot hold several types"):
        list(case.accessor.find(store, "thing"))


def test_discover(case: Case) -> None:
    assert case.accessor.discover(case.store) == {"t": {}}
    (case.folder / f"b.{case.format}").touch()
    (case.folder / f".hidden.{case.format}").touch()
    (case.folder / "readme.txt").touch()
    (case.folder / f"folder.{case.format}").mkdir()
    store = Store("s", f"{case.format}:.", accessor=case.accessor, root=case.folder)
    assert list(case.accessor.discover(store).items()) == [("b", {}), ("t", {})]
    with pytest.raises(Unreachable, match="there is no file"):
        case.accessor.discover(Store("s", f"{case.format}:nowhere", root=case.folder))


def test_a_missing_file_is_unreachable_and_not_described(case: Case) -> None:
    case.path.unlink()
    name = str(case.path)
    for attempt in (
        case.records,
        lambda: case.accessor.get(case.store, "thing", 1),
        lambda: case.accessor.get_by_name(case.store, "thing", {"k": 1}),
        lambda: case.update(1, "x"),
    ):
        with pytest.raises(Unreachable, match="there is no file") as caught:
            attempt()
        assert name in caught.value.message
    assert case.accessor.describe(case.store, "thing") is None
    assert case.accessor.check(case.store, "thing") == f"there is no file {case.path}"


def test_create_needs_the_folder_and_keeps_what_is_there(case: Case) -> None:
    case.accessor.create(case.store, "thing")
    assert case.path.read_text() == case.text
    case.path.unlink()
    case.accessor.create(case.store, "thing")
    assert case.records() == []
    assert stat.S_IMODE(case.path.stat().st_mode) == 0o666 & ~_umask()
    assert case.left_behind() == []
    store = Store("s", f"{case.format}:no/where.x", accessor=case.accessor, root=case.folder)
    store.bind(THING)
    with pytest.raises(Unreachable, match="there is no folder"):
        case.accessor.create(store, "thing")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_pipe_is_not_waited_for(case: Case) -> None:
    case.path.unlink()
    os.mkfifo(case.path)
    with pytest.raises(Unreachable, match="no regular file"):
        case.records()
    assert "no regular file" in str(case.accessor.check(case.store, "thing"))


# -- which records a change means --------------------------------------------------------------------------


def test_only_the_columns_given_are_altered(case: Case) -> None:
    outcome = case.update(2, "TWO")
    assert outcome.state == "written"
    assert outcome.row is not None
    assert outcome.row[HEADER + 1] == "TWO"
    assert case.path.read_text() == case.text.replace("two", "TWO")


def test_new_records_come_last_in_the_order_given(case: Case) -> None:
    outcomes = case.apply(
        change("create", 9, k=9, v="nine"), change("delete", 1), change("create", 4, k=4, v=None)
    )
    assert [(outcome.state, outcome.exact) for outcome in outcomes] == [
        ("written", True),
        ("written", False),
        ("written", True),
    ]
    assert case.records() == [(2, "two"), (3, "three"), (9, "nine"), (4, None)]


def test_of_two_records_with_one_key_the_first_is_meant(case: Case) -> None:
    case.path.write_text(case.text.replace("2", "1"))
    case.apply(change("update", 1, v="ONE"))
    assert case.records() == [(1, "ONE"), (1, "two"), (3, "three")]
    case.apply(change("delete", 1))
    assert case.records() == [(1, "two"), (3, "three")]


def test_a_record_whose_key_cannot_be_read_is_passed_over(case: Case) -> None:
    case.path.write_text(case.text.replace("2,", '"x",'))
    case.apply(change("update", 3, v="THREE"), change("create", 2, k=2, v="two"))
    assert '"x",' in case.path.read_text()
    assert case.path.read_text().count("THREE") == 1


def test_every_change_is_judged_by_the_record_as_it_is(case: Case) -> None:
    seen: dict[str, Row | None] = {}

    def judge(name: str) -> Callable[[Row | None], Verdict]:
        def judged(row: Row | None) -> Verdict:
            seen[name] = row
            return "write"

        return judged

    case.apply(
        change("create", 9, judge("created"), k=9, v="nine"),
        change("update", 2, judge("updated"), v="TWO"),
        change("update", 2, judge("updated again"), v="2"),
        change("delete", 2, judge("deleted")),
        change("create", 2, judge("created again"), k=2, v="anew"),
        change("delete", 8, judge("not there")),
    )
    values = {name: None if row is None else row[HEADER + 1] for name, row in seen.items()}
    assert values == {
        "created": None,
        "updated": "two",
        "updated again": "TWO",
        "deleted": "2",
        "created again": None,
        "not there": None,
    }
    assert case.records() == [(1, "one"), (2, "anew"), (3, "three"), (9, "nine")]


@pytest.mark.parametrize(
    ("action", "verdict", "state", "records"),
    [
        ("update", "done", "done", 3),
        ("update", "changed", "changed", 3),
        ("update", "write", "written", 4),
        ("delete", "done", "done", 3),
        ("delete", "changed", "changed", 3),
        ("delete", "write", "done", 3),
    ],
)
def test_a_record_that_vanished(case: Case, action: Any, verdict: Verdict, state: str, records: int) -> None:
    values = {"k": 7, "v": "seven"} if action == "update" else {}
    [outcome] = case.apply(change(action, 7, lambda row: verdict, **values))
    assert outcome.state == state
    assert len(case.records()) == records


def test_what_a_judge_raises_leaves_the_file_alone(case: Case) -> None:
    before = identity(case.path)

    def judge(row: Row | None) -> Verdict:
        raise KeyError("judge")

    with pytest.raises(KeyError):
        case.apply(change("delete", 1), change("delete", 3, judge))
    assert identity(case.path) == before
    assert case.left_behind() == []


def test_a_refused_record_stops_no_other(case: Case) -> None:
    outcomes = case.apply(change("update", 1, v="\ud800"), change("update", 2, v="TWO"))
    assert [outcome.state for outcome in outcomes] == ["failed", "written"]
    assert isinstance(outcomes[0].error, Refused)
    assert case.records() == [(1, "one"), (2, "TWO"), (3, "three")]


def test_half_a_surrogate_pair_inside_of_json_stops_no_other(case: Case) -> None:
    case.store.bind(Binding("thing", ("k",), (Field("k", "k", "int"), Field("v", "v", "json"))))
    outcomes = case.apply(change("update", 1, v="\ud800"), change("update", 2, v="TWO"))
    assert [outcome.state for outcome in outcomes] == ["failed", "written"]
    assert isinstance(outcomes[0].error, Refused)
    assert str(outcomes[0].error).startswith("v: utf-8 cannot hold")


def test_a_record_does_not_take_the_key_of_another_unless_it_is_the_one_that_did(case: Case) -> None:
    def as_it_was(row: Row | None) -> Verdict:
        return "write" if row is not None else "changed"

    rekeyed = change("update", 1, as_it_was, k=9)
    [taken] = case.apply(change("update", 1, as_it_was, k=2))
    assert isinstance(taken.error, Refused)
    assert [case.apply(rekeyed)[0].state, case.apply(rekeyed)[0].state] == ["written", "changed"]
    [again] = case.apply(change("update", 1, k=9))  # whatever is there
    assert isinstance(again.error, Refused)
    assert case.records() == [(9, "one"), (2, "two"), (3, "three")]


# -- one at a time -----------------------------------------------------------------------------------------


def test_a_key_is_added_once(case: Case) -> None:
    with pytest.raises(Refused, match="already"):
        case.accessor.add(case.store, Data("thing", {"k": 1, "v": "again"}))
    with pytest.raises(Refused, match="without its key"):
        case.accessor.add(case.store, Data("thing", {"v": "nobody"}))


def test_an_update_of_what_was_changed_meanwhile_is_refused(case: Case) -> None:
    old = case.accessor.get_by_name(case.store, "thing", {"k": 1})
    case.update(1, "ONE")
    with pytest.raises(Refused, match="changed meanwhile"):
        case.accessor.update(case.store, Data("thing", {"k": 1, "v": "uno"}), old)
    assert case.records()[0] == (1, "ONE")


def test_an_update_does_not_take_the_key_of_another(case: Case) -> None:
    old = case.accessor.get_by_name(case.store, "thing", {"k": 1})
    with pytest.raises(Refused, match="new key already"):
        case.accessor.update(case.store, Data("thing", {"k": 2}), old)


def test_an_absent_value(case: Case) -> None:
    case.accessor.update(case.store, Data("thing", {"k": 1, "v": ABSENT}))
    assert not case.records()[0][1]


# -- the file is never harmed ------------------------------------------------------------------------------


def test_nothing_to_write_leaves_the_file_untouched(case: Case) -> None:
    before = identity(case.path)
    outcomes = case.apply(
        change("update", 1, v="one"), change("delete", 9), change("create", 8, lambda row: "done", k=8)
    )
    assert [outcome.state for outcome in outcomes] == ["done", "done", "done"]
    assert case.apply() == []
    assert identity(case.path) == before


def test_mode_and_owner_are_kept(case: Case) -> None:
    case.path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(case.path, 1234, 2345)
    case.update(1, "ONE")
    status = case.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    if os.getuid() == 0:
        assert (status.st_uid, status.st_gid) == (1234, 2345)


def test_a_link_stays_a_link(case: Case) -> None:
    elsewhere = case.folder / "elsewhere"
    elsewhere.mkdir()
    real = case.path.rename(elsewhere / "real")
    case.path.symlink_to(real)
    case.update(1, "ONE")
    assert case.path.is_symlink()
    assert real.read_text() == case.text.replace("one", "ONE")
    assert [path.name for path in elsewhere.iterdir()] == ["real"]


def test_a_file_that_changes_meanwhile_is_not_overwritten(case: Case) -> None:
    def judge(row: Row | None) -> Verdict:
        with case.path.open("a") as file:
            file.write("\n")
        return "write"

    with pytest.raises(Retry, match="changed while it was being rewritten"):
        case.apply(change("update", 1, judge, v="ONE"))
    assert case.path.read_text() == case.text + "\n"
    assert case.left_behind() == []


def test_a_file_that_is_replaced_or_gone_meanwhile_is_not_overwritten(case: Case) -> None:
    def replace(row: Row | None) -> Verdict:
        new = case.folder / "new"
        new.write_text(case.text)
        new.replace(case.path)
        return "write"

    def remove(row: Row | None) -> Verdict:
        case.path.unlink()
        return "write"

    with pytest.raises(Retry):
        case.apply(change("update", 1, replace, v="ONE"))
    assert case.path.read_text() == case.text
    with pytest.raises(Retry):
        case.apply(change("update", 1, remove, v="ONE"))
    assert not case.path.exists()


def test_a_read_into_which_somebody_wrote_is_no_read(case: Case) -> None:
    batches = case.accessor.scan(case.store, "thing")
    next(iter(batches))
    case.path.write_text(case.text.replace("one", "ONE ONE"))
    with pytest.raises(Retry, match="changed while it was read"):
        list(batches)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EIO, "Input/output error")],
)
def test_a_full_disk_leaves_the_file_as_it_was(
    case: Case, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    before = identity(case.path)

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Unreachable, match=words) as caught:
        case.update(1, "ONE")
    assert caught.value.hint
    assert "written" in caught.value.message
    assert identity(case.path) == before
    assert case.left_behind() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_writing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def full(path: Any, flags: int, *mode: int) -> int:
        return opened("/dev/full" if flags & os.O_EXCL else path, flags & ~(os.O_EXCL | os.O_CREAT), *mode)

    before = identity(case.path)
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(Unreachable, match="disk is full"):
        case.update(1, "ONE")
    assert identity(case.path) == before


def test_without_the_right_to_write(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Unreachable, match="no right") as caught:
        case.update(1, "ONE")
    assert caught.value.hint
    assert "no right to write" in str(case.accessor.check(case.store, "thing"))
    assert case.path.read_text() == case.text


def test_what_a_killed_process_left_behind_is_cleared_away(case: Case) -> None:
    (case.folder / f".{case.path.name}.evsync-tmp").write_text("half")
    case.update(1, "ONE")
    assert case.left_behind() == []
    assert case.path.read_text() == case.text.replace("one", "ONE")


def test_a_folder_that_another_process_keeps_locked(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "PATIENCE", 0.1)
    descriptor = os.open(case.folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(Retry, match="another process"):
            case.update(1, "ONE")
        assert len(case.records()) == 3  # reading needs no lock
    finally:
        os.close(descriptor)
    assert case.update(1, "ONE").state == "written"


def test_processes_that_write_at_once_lose_nothing(case: Case) -> None:
    program = (
        "import sys; from pathlib import Path; from evsync.store import Store; from evsync.data import Data\n"
        "from evsync.binding import Binding, Field\n"
        "store = Store('s', sys.argv[1], root=Path(sys.argv[2]))\n"
        "store.bind(Binding('thing', ('k',), (Field('k', 'k', 'int'), Field('v', 'v', 'str'))))\n"
        "for n in range(20): store.add(Data('thing', {'k': int(sys.argv[3]) + n, 'v': 'new'}))\n"
    )
    arguments = [sys.executable, "-c", program, f"{case.format}:{case.path.name}", str(case.folder)]
    processes = [subprocess.Popen([*arguments, str(start)]) for start in (100, 200, 300)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    wanted = [1, 2, 3, *range(100, 120), *range(200, 220), *range(300, 320)]
    assert sorted(k for k, _ in case.records()) == wanted
    assert case.left_behind() == []


def test_a_torn_file_is_not_written(case: Case) -> None:
    torn = case.text[: case.text.index("three") + 2] + ("" if case.format != "csv" else '\n4,"')
    case.path.write_text(torn)
    with pytest.raises(BrokenStore):
        case.update(1, "ONE")
    assert case.path.read_text() == torn
    assert case.left_behind() == []
