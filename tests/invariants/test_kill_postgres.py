"""Killed beside a real PostgreSQL that is followed by its log, or by triggers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from beside_server import KilledBesideServer, Play
from postgres_server import PostgresServer
from servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.close()


class PostgresPlay(Play):
    def ask(self, *statements: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        self.ask(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )
        with psycopg.connect(self.url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self.url.rpartition('/')[2]} WITH (FORCE)".encode())


@pytest.mark.parametrize("way", ["wal", "triggers"])
class TestPostgres(KilledBesideServer):
    driver, methods, narrowest = psycopg.Connection, ("execute",), "execute"

    def begin(self, server: Server, folder: Path, name: str, way: str) -> Play:
        assert isinstance(server, PostgresServer)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE play_{name}".encode())
        return PostgresPlay(
            server, server.url.rpartition("/")[0] + f"/play_{name}", folder / name, way, "text"
        )
