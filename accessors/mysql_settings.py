"""How a server has to write its binary log so that it tells every change, and for how long it keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

WANTED: Final = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "log_slave_updates": "ON",
    "log_replica_updates": "ON",
    "binlog_transaction_compression": "OFF",
    "binlog_row_value_options": "",
}
"""The settings; of these a server knows those that are of its kind and version."""

_ON_REPLICAS_ONLY: Final = frozenset({"log_slave_updates", "log_replica_updates"})
_AT_START_ONLY: Final = _ON_REPLICAS_ONLY | {"log_bin"}
_EXPIRY: Final = {"binlog_expire_logs_seconds": 1, "expire_logs_days": 86_400}


class Wrong(NamedTuple):
    """What keeps a server from telling every change, and what is to be done about it."""

    message: str
    hint: str


def variables(connection: sa.Connection) -> dict[str, str]:
    """The settings that matter, as far as the server has them."""
    names = (*WANTED, *_EXPIRY)
    asked = f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({', '.join(['%s'] * len(names))})"
    return {str(name).lower(): str(value) for name, value in connection.exec_driver_sql(asked, names)}


def wrong_settings(found: Mapping[str, str], *, replica: bool) -> Wrong | None:
    """What is wrong with them. `replica`: whether the server gets its changes from another one."""
    if "binlog_row_metadata" not in found:
        return Wrong(
            "the server has no binlog_row_metadata, without which its log names no columns",
            "MySQL has it from 8.0 on, MariaDB from 10.5 on",
        )
    wrong = {
        name: value
        for name, value in WANTED.items()
        if found.get(name, value).upper() != value and (replica or name not in _ON_REPLICAS_ONLY)
    }
    if not wrong:
        return None
    lines = ", ".join(
        name if name == "log_bin" else f"{name} = {value}".strip() for name, value in wrong.items()
    )
    hint = f"in my.cnf, under [mysqld]: {lines}"
    if _AT_START_ONLY.isdisjoint(wrong):
        sets = ", ".join(f"GLOBAL {name} = {value!r}" for name, value in wrong.items())
        hint += f"; and, for the sessions that begin from now on: SET {sets}"
    else:
        hint += "; then restart the server"
    now = ", ".join(f"{name} is {found[name] or 'empty'}" for name in wrong)
    return Wrong(f"the binary log does not tell every change: {now}", hint)


def kept_for(found: Mapping[str, str]) -> str:
    """How long the log is kept, in words."""
    seconds = max(float(found.get(name) or 0) * unit for name, unit in _EXPIRY.items())
    if not seconds:
        return "until somebody removes it"
    days = seconds / 86_400
    return f"for {days:.4g} days" if days >= 1 else f"for {seconds / 3600:.3g} hours"
