"""A real MariaDB for tests, from the programs `mariadbd` and `mariadb-install-db` of this machine.

One server a process, started by the first test that asks for a database. `EVSYNC_TEST_MARIADB` names another one to be
used instead: `mysql://user:password@host:port/database` whose user may do everything. It should have log_bin on, binlog_format ROW
and binlog_row_metadata FULL. Where there is neither, tests that need one are skipped, and the run says so in a line; not in CI.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
import pytest
from servers import Server

SETTINGS = {
    "bind-address": "127.0.0.1",
    "log-bin": "log",
    "binlog-format": "ROW",
    "binlog-row-metadata": "FULL",
    "binlog-row-image": "FULL",
    "server-id": "1",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-size": "64M",
    "character-set-server": "utf8mb4",
    "performance-schema": "OFF",
}
LEFT_OUT = "no MariaDB on this machine (apt-get install mariadb-server-core mariadb-client-core)"


class MariaDbServer(Server):
    """`settings`: what is not as in SETTINGS, with _ for -. Where it cannot be had the test is skipped, but not in CI."""

    prefix, stopping, killing = "evsync-my-", signal.SIGTERM, signal.SIGKILL

    def __init__(self, **settings: str) -> None:
        if _program("mariadbd") is None:
            if os.environ.get("CI"):
                raise RuntimeError(LEFT_OUT)
            pytest.skip(LEFT_OUT)
        super().__init__()
        self._settings = SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        self.run(
            _program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/mysql"

    def command(self) -> Sequence[object]:
        return [
            _program("mariadbd"), "--no-defaults", f"--datadir={self.data}", f"--port={self.port}",
            f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}",
            # Its own, since a server that starts removes the temporary tables that it finds there.
            f"--tmpdir={self.directory}",
            *(f"--{name}={value}" for name, value in self._settings.items()),
        ]  # fmt: skip

    def answers(self) -> bool:
        with suppress(pymysql.Error):
            connected(self.url).close()
            return True
        return False


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def connected(url: str, **options: Any) -> pymysql.Connection[Any]:
    """A connection to the database of a URL, which commits each statement."""
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")) or None,
        # Getting ready for TLS reads all certificates of this machine, each time.
        **{"autocommit": True, "charset": "utf8mb4", "ssl_disabled": True} | options,
    )


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Each a transaction of its own; the rows of the last one."""
    with closing(connected(url)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@lru_cache(maxsize=1)
def server_url() -> str:
    """The URL of the server that the tests of this process share; it ends with the process."""
    given = os.environ.get("EVSYNC_TEST_MARIADB")
    if given:
        return given
    server = MariaDbServer()
    atexit.register(server.close)
    server.start()
    return server.url


_numbers = itertools.count(1)


@contextmanager
def fresh_database() -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"evsync_{os.getpid()}_{next(_numbers)}"
    ask(server_url(), f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    try:
        yield database_url(name)
    finally:
        ask(server_url(), f"DROP DATABASE IF EXISTS `{name}`")


def database_url(name: str) -> str:
    """The URL of a database of the shared server."""
    return f"{server_url().rpartition('/')[0]}/{name}"
