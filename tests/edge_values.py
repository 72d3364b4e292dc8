"""Values that stores are known to alter, by value type: what `evsync.testing.conformance` tries of each, and much more."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from evsync.testing.conformance import EDGES
from evsync.values import ABSENT, TYPES, dump

WEST, EAST = timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))
DEEP: Any = "core"
for _ in range(90):
    DEEP = [DEEP]

MORE: Mapping[str, Mapping[str, Any]] = {
    "str": {
        "blanks behind": "text  ",
        "blanks before": "  text",
        "a tab behind": "text\t",
        "only a line end": "\n",
        "ends in a backslash": "C:\\",
        "ends in a quote": "12\"",
        "apostrophe": "O'Brien",
        "percent": "100% %s ? :x {y}",
        "before the surrogates": "\ud7ff",
        "behind the surrogates": "\ue000",
        "last character": "\U0010ffff",
        "not a character": "\ufffe\uffff",
        "byte order mark": "\ufefftext",
        "replacement": "\ufffd",
        "composed": "\u00e9",
        "combined": "e\u0301",
        "right to left": "\u202eabc",
        "zero width": "a\u200db\u00ad",
        "line separators": "a\u2028b\u2029c\x85d\x0be",
        "all controls": "".join(map(chr, [*range(1, 32), 127])),
        "half of a pair": "\ud800",
        "very long": "0123456789" * 30_000,
        "very long, of four bytes": "😀" * 70_000,
        "looks like null in SQL": "\\N",
        "looks like a truth": "true",
        "looks like a date": "2024-02-29",
        "looks like bytes": "\\x00ff",
        "looks like JSON": '{"a": null}',
        "looks like a number": "1.50",
        "larger than a number": "9" * 40,
        "looks like infinity": "Infinity",
        "looks like hexadecimal": "0x10",
        "looks like a formula": "=1+1",
        "signed zeros": "-0",
        "a comma": ",",
        "only blanks": "   ",
    },
    "int": {
        "31 bits": 2**31,
        "beyond a double": 2**53 + 1,
        "64 bits unsigned": 2**64 - 1,
        "64 bits and one": 2**64,
        "40 digits": 10**40 + 1,
        "400 digits": -(10**400) - 7,
        "4000 digits": 10**3999,
    },
    "float": {
        "least normal": 2.2250738585072014e-308,
        "largest subnormal": 2.225073858507201e-308,
        "negative least": -5e-324,
        "least of all": -1.7976931348623157e308,
        "2**53": 2.0**53,
        "2**63": 2.0**63,
        "2**64": 2.0**64,
        "17 digits": 0.30000000000000004,
        "single precision": 3.4028234663852886e38,
        "a third": 1 / 3,
        "negative integer": -3.0,
        "1e16": 1e16,
        "1e-5": 1e-5,
    },
    "decimal": {
        name: Decimal(name)
        for name in (
            "1234567890123456789012345678901234567890",
            "0.1234567890123456789012345678901234567890",
            "12345678901234567890.12345678901234567890",
            "1.0000000000000000000000000000000000000000",
            "-0.00", "0E+3", "0E-20", "1.5E+30", "1E+400", "1E-400", "-1.50", "100", "1E-16383", "1E+131072",
            "-NaN", "sNaN", "-Infinity", "NaN123",
        )
    },
    "date": {"first": date.min, "year 9999": date(9999, 12, 31), "gregorian": date(1582, 10, 10), "before 1970": date(1969, 12, 31)},
    "time": {
        "least": time(0, 0, 0, 1),
        "milliseconds": time(1, 2, 3, 450_000),
        "UTC": time(12, tzinfo=UTC),
        "west": time(12, tzinfo=WEST),
        "east": time(0, 30, tzinfo=EAST),
    },
    "datetime": {
        "first": datetime.min,
        "last": datetime.max,
        "first in UTC": datetime.min.replace(tzinfo=UTC),
        "last in UTC": datetime.max.replace(tzinfo=UTC),
        "first in the east": datetime.min.replace(tzinfo=EAST),  # before year 1 in UTC
        "last in the west": datetime.max.replace(tzinfo=WEST),  # year 10000 in UTC
        "first in the west": datetime.min.replace(tzinfo=WEST),
        "last in the east": datetime.max.replace(tzinfo=EAST),
        "naive": datetime(2024, 3, 31, 2, 30),
        "naive, microseconds": datetime(2024, 3, 31, 2, 30, 0, 1),
        "milliseconds": datetime(2024, 3, 31, 2, 30, 0, 120_000, tzinfo=UTC),
        "before 1970": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "offset of seconds": datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=17, seconds=30))),
        "beyond 2038": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    },
    "bytes": {
        "all values, twice": bytes(range(256)) * 2,
        "looks like text": b"text",
        "looks like hexadecimal": b"\\x00",
        "no UTF-8": b"\xff\xfe\x80",
        "long": bytes(range(256)) * 400,
    },
    "json": {
        "false": False,
        "zeros": [0, -0.0, 0.0],
        "large numbers": [2**64, -(2**70), 1e300, 5e-324],
        "40 digits": 10**40,
        "deep": DEEP,
        "null inside": {"a": None, "b": [None]},
        "names": {"": 1, " ": 2, "\x00": 3, "ä\u0301": 4, "\"": 5},
        "names in no order": {"b": 1, "a": 2, "B": 3},
        "looks like a number": "1.50",
        "looks like JSON": '{"a": 1}',
        "looks like null": "null",
        "text of blanks": "  ",
        "half of a pair": "\ud800",
        "long": ["0123456789" * 10] * 3_000,
        "integer and real": [1, 1.0, True],
    },
    "bool": {},
    "uuid": {},
}  # fmt: skip
"""What EDGES lacks."""


def _written(kind: str, value: Any) -> str:
    return repr(value) if kind in ("str", "bytes") else str(dump(kind, value))


VALUES: Mapping[tuple[str, str], Any] = {
    **{(kind, _written(kind, value)): value for kind, values in EDGES.items() for value in values},
    **{(kind, name): value for kind, values in MORE.items() for name, value in values.items()},
    **{(kind, "null"): None for kind in TYPES},
    **{(kind, "absent"): ABSENT for kind in TYPES},
}
"""By value type and name."""
