"""Killed beside a real MariaDB that is followed by its binary log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beside_server import KilledBesideServer, Play
from mariadb_server import MariaDbServer, ask
from pymysql.connections import Connection
from servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDbServer]:
    server = MariaDbServer(innodb_flush_log_at_trx_commit="1")
    server.start()
    yield server
    server.close()


class MariaDbPlay(Play):
    def ask(self, *statements: str) -> list[Any]:
        return ask(self.url, *statements)

    def drop(self) -> None:
        self.ask(f"DROP DATABASE {self.url.rpartition('/')[2]}")


@pytest.mark.parametrize("way", ["binlog"])
class TestMariaDb(KilledBesideServer):
    driver, methods, narrowest = (
        Connection, ("query", "commit", "rollback", "_execute_command"), "_execute_command",
    )  # fmt: skip

    def begin(self, server: Server, folder: Path, name: str, way: str) -> Play:
        assert isinstance(server, MariaDbServer)
        ask(server.url, f"CREATE DATABASE play_{name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        url = server.url.rpartition("/")[0] + f"/play_{name}"
        return MariaDbPlay(server, url, folder / name, way, "varchar(20)")
