"""Commands as processes of their own, but quick: each is a fork of a process that has loaded the program already.

A fork differs from a fresh process in one thing that tests may see: variables that Python itself reads when it starts
(PYTHONHASHSEED, LC_ALL) are those of this process. What needs others of them, or a look at what is loaded, starts a process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec


class Ended(msgspec.Struct):
    """What became of a command."""

    code: int
    out: str
    err: str


class _Order(msgspec.Struct):
    """A command that is to run; what it prints goes to the two files sent along."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]


def run(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: int = 60) -> Ended:
    """Run `evsync` with these arguments in `folder`. Raises TimeoutError, and ends the command, after so many seconds."""
    order = msgspec.json.encode(_Order(list(arguments), str(folder), dict(environment)))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(_server(), [b"!"], [theirs.fileno(), out.fileno(), err.fileno()])
            ours.sendall(order)
            ours.shutdown(socket.SHUT_WR)
            ours.settimeout(seconds)
            answers = ours.makefile("r")
            process = int(answers.readline())
            try:
                code = int(answers.readline())
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
        out.seek(0)
        err.seek(0)
        return Ended(code, out.read().decode(), err.read().decode())


@lru_cache(maxsize=1)
def _server() -> socket.socket:
    """The other end is a process that ends with this one."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def serve(orders: socket.socket) -> None:
    """One fork an order, one after the other, until the other end is closed. In a fork this answers: it is to run."""
    while True:
        _, files, _, _ = socket.recv_fds(orders, 1, 3)
        if not files:
            sys.exit()
        with socket.socket(fileno=files[0]) as asking:
            text = asking.makefile("rb").read()
            process = os.fork()
            if not process:
                orders.close()
                _become(msgspec.json.decode(text, type=_Order), files[1], files[2])
                return
            for file in files[1:]:
                os.close(file)
            with contextlib.suppress(OSError):  # who asked has gone
                asking.sendall(f"{process}\n".encode())
                asking.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())


def _become(order: _Order, out: int, err: int) -> None:
    """Take on what a process is started with."""
    for file, number in ((out, 1), (err, 2)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = ["evsync", *order.arguments]
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), "utf-8", "backslashreplace", write_through=True)


def load() -> None:
    """Everything that some command loads."""
    for package in (evsync, accessors):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in ("evsync.__main__", "evsync.testing.conformance"):
                importlib.import_module(module.name)
    evsync.cli.app.command_line()
    gc.freeze()


if __name__ == "__main__":
    import accessors
    import evsync.cli.app

    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        evsync.cli.main()
    except SystemExit as ended:
        # As Python ends, but for the taking down of all that is loaded, which takes longer than most commands.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended.code if isinstance(ended.code, int) else 1)
