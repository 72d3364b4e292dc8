"""Streaming a slot's changes over a replication connection, by psycopg alone."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator

import psycopg
from psycopg.pq import ExecStatus

from accessors.postgres_connection import CONNECT_SECONDS, SETTINGS, shown, translated
from accessors.postgres_wal import lsn_text
from evsync.errors import PositionLost, Retry, Unreachable
from evsync.store import Store

IDLE_SECONDS = 0.005  # before the server is asked how far it is
SILENT_SECONDS = 60.0  # after which it does not answer any more


def stream(store: Store, slot: str, publication: str, since: int, target: int) -> Iterator[tuple[int, bytes]]:
    """What is committed behind `since`, message by message, with how far the server was; ends once it has sent
    everything before `target`. Nothing is acknowledged. Raises StoreError."""
    where = f"store {store.name!r} ({shown(store)})"
    try:
        connection = psycopg.connect(
            store.url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="evsync",
            client_encoding="UTF8",
            replication="database",
        )
    except psycopg.Error as error:
        raise Unreachable(
            f"{where} does not let us follow its log: {' '.join(str(error).split())}",
            "the role needs REPLICATION: ALTER ROLE … REPLICATION",
        ) from None
    try:
        pg = connection.pgconn
        for name, value in SETTINGS.items():
            pg.exec_(f"SET {name} = '{value}'".encode())
        messages = ", messages 'true'" if connection.info.server_version >= 140_000 else ""
        pg.send_query(
            f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn_text(since)}'
            f" (proto_version '1', publication_names '\"{publication}\"'{messages})".encode()
        )
        result = pg.get_result()
        if result is None or result.status != ExecStatus.COPY_BOTH:
            said = b"" if result is None else result.error_message
            raise _not_started(said.decode("utf-8", "replace"), where, store, slot)
        yield from _messages(connection, where, target)
    except psycopg.Error as error:
        raise translated(error, store, connection.info.user) from error
    finally:
        connection.close()


def _messages(
    connection: psycopg.Connection[tuple[object, ...]], where: str, target: int
) -> Iterator[tuple[int, bytes]]:
    pg = connection.pgconn
    silent = 0.0
    while True:
        size, view = pg.get_copy_data(1)
        if size == 0:
            wait = IDLE_SECONDS if silent == 0 else 1.0
            if not select.select([pg.socket], [], [], wait)[0]:
                if silent == 0:
                    # 1: answer at once how far you are
                    pg.put_copy_data(struct.pack(">cQQQqB", b"r", 0, 0, 0, 0, 1))
                    pg.flush()
                silent += wait
                if silent > SILENT_SECONDS:
                    raise Unreachable(f"{where} does not answer any more", "check that the server runs")
                continue
            pg.consume_input()
            silent = 0.0
            continue
        if size < 0:
            result = pg.get_result()
            said = b"" if result is None else result.error_message
            raise Unreachable(
                f"{where} ended the stream of its changes: {' '.join(said.decode('utf-8', 'replace').split())}",
                "check that the server runs",
            )
        data = bytes(view)
        if data[:1] == b"w":
            (end,) = struct.unpack_from(">Q", data, 9)
            yield end, data[25:]
        elif data[:1] == b"k":
            (end,) = struct.unpack_from(">Q", data, 1)
            if end >= target:
                return


def _not_started(said: str, where: str, store: Store, slot: str) -> Exception:
    said = " ".join(said.split()).removeprefix("ERROR: ").strip()
    if "is active for" in said:
        return Retry(
            f"{where}: another process follows its slot {slot!r}", "end it, or wait until it is done"
        )
    if "can no longer" in said or "invalidated" in said or "does not exist" in said:
        return PositionLost(
            f"{where}: the changes since the last ingest are lost: {said}",
            f"evsync capture install {store.name}, then: evsync ingest {store.name} --accept-gap",
        )
    return Unreachable(f"{where}: its log cannot be followed: {said}", f"evsync capture status {store.name}")
