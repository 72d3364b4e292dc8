"""A real database server for tests: a child of this process, with a data directory of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SECONDS = 30  # to start or to stop


class Server:
    """`start`, `stop`, `kill` (it has to recover from that) and `restart`, all on the same data and port."""

    prefix: str  # of the directory's name; short, as the path of a Unix socket has at most 107 bytes
    stopping: signal.Signals  # as an administrator stops it
    killing: signal.Signals  # as a crash does: at once

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=self.prefix))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] | None = None
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # as which no server likes to run
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def command(self) -> Sequence[object]:
        """What runs the server, in its directory."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it takes connections."""
        raise NotImplementedError

    def start(self) -> None:
        """Answers once the server takes connections."""
        with (self.directory / "log").open("ab") as log:
            # A child of ours, no daemon: it can be reaped.
            self._process = subprocess.Popen(
                list(map(str, self.command())), cwd=self.directory, env=self._environment, stdout=log, stderr=log,
                **self._as_user,
            )  # fmt: skip
        for _ in range(SECONDS * 20):
            if self._process.poll() is not None:
                break
            if self.answers():
                return
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self) -> None:
        """Everything is written down."""
        self._end(self.stopping)

    def kill(self) -> None:
        """The next start has to recover."""
        self._end(self.killing)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends the server and removes its data."""
        try:
            self.kill()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *command: object, check: bool = True) -> int:
        """Run a program beside the server, as its user."""
        done = subprocess.run(
            list(map(str, command)), cwd=self.directory, env=self._environment, stdout=subprocess.DEVNULL, check=check,
            **self._as_user,
        )  # fmt: skip
        return done.returncode


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
