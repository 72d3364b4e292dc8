"""How a server has to write its binary log."""

from __future__ import annotations

import pytest

from accessors.mysql_settings import kept_for, wrong_settings

MARIADB = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "log_slave_updates": "OFF",
}
MYSQL = MARIADB | {
    "log_slave_updates": "ON",
    "log_replica_updates": "ON",
    "binlog_transaction_compression": "OFF",
    "binlog_row_value_options": "",
}


@pytest.mark.parametrize("found", [MARIADB, MYSQL])
def test_as_it_should_be(found: dict[str, str]) -> None:
    assert wrong_settings(found, replica=False) is None


@pytest.mark.parametrize(
    ("found", "said", "to_do"),
    [
        (
            MARIADB | {"binlog_format": "MIXED", "binlog_row_metadata": "NO_LOG"},
            "binlog_format is MIXED, binlog_row_metadata is NO_LOG",
            "SET GLOBAL binlog_format = 'ROW', GLOBAL binlog_row_metadata = 'FULL'",
        ),
        (MARIADB | {"log_bin": "OFF"}, "log_bin is OFF", "[mysqld]: log_bin; then restart"),
        (MYSQL | {"binlog_row_image": "noblob"}, "binlog_row_image is noblob", "binlog_row_image = FULL"),
        (
            MYSQL | {"binlog_transaction_compression": "ON"},
            "compression is ON",
            "binlog_transaction_compression = OFF",
        ),
        (
            MYSQL | {"binlog_row_value_options": "PARTIAL_JSON"},
            "PARTIAL_JSON",
            "GLOBAL binlog_row_value_options = ''",
        ),
        ({"log_bin": "ON", "binlog_format": "ROW"}, "has no binlog_row_metadata", "from 8.0"),
    ],
)
def test_what_is_wrong_is_named_and_what_to_write_instead(
    found: dict[str, str], said: str, to_do: str
) -> None:
    wrong = wrong_settings(found, replica=False)
    assert wrong is not None
    assert said in wrong.message
    assert to_do in wrong.hint


def test_a_replica_has_to_log_what_it_is_told() -> None:
    wrong = wrong_settings(MARIADB, replica=True)
    assert wrong is not None
    assert "log_slave_updates is OFF" in wrong.message
    assert "restart" in wrong.hint


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"binlog_expire_logs_seconds": "2592000"}, "for 30 days"),
        ({"binlog_expire_logs_seconds": "864000", "expire_logs_days": "10.000000"}, "for 10 days"),
        ({"binlog_expire_logs_seconds": "5400"}, "for 1.5 hours"),
        ({"expire_logs_days": "0"}, "until somebody removes it"),
        ({}, "until somebody removes it"),
    ],
)
def test_how_long_it_is_kept(found: dict[str, str], words: str) -> None:
    assert kept_for(found) == words
