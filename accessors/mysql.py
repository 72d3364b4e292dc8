"""MySQL and MariaDB: `mysql://user@host/database`, one table per type, its name in the option `table`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pymysql  # noqa: F401 - the driver behind the URLs: what to install is told before the first of them is opened

from accessors.sql import SqlAccessor


class MySqlAccessor(SqlAccessor):
    """Reads and writes tables of any shape that have a key and transactions; views are read only.

    A scan is one statement of a consistent snapshot.
    """

    snapshot = True
    options: ClassVar[Mapping[str, str]] = {
        "table": "the table's name; left out: the type's",
        "schema": "another database of the same server; left out: the one in the url",
        "zone": "utc, if DATETIME columns are meant in UTC",
    }
