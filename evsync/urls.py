"""URLs of stores: as they may be printed and written down, and what a store is called after them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote

# Whatever stands between the first colon and the last @ may be part of a password that was not escaped as it should be.
_USER_INFO = re.compile(r"(?s)(?<=://)([^:@/]*):(.*)@")
_PARAMETER = re.compile(r"(?i)((?:^|[?&\s])(?:ssl)?password\s*=)([^&\s]*)")
_NAMED = re.compile(r"\$\{\w+\}\Z")


def without_password(url: str) -> str:
    """The URL with *** in place of a password. The name of one that is in the environment, `${NAME}`, is no secret."""
    url = _USER_INFO.sub(lambda found: f"{found[1]}:{_masked(found[2])}@", url)
    return _PARAMETER.sub(lambda found: found[1] + _masked(found[2]), url)


def _masked(password: str) -> str:
    return password if _NAMED.match(password) else "***"


def with_variables(url: str, prefix: str) -> tuple[str, dict[str, str]]:
    """The URL with variables in place of its passwords, and what these have to be set to: just what stood there."""
    values: dict[str, str] = {}

    def named(password: str, name: str) -> str:
        if not password or _NAMED.match(password):
            return password
        name = re.sub(r"[^A-Z0-9]", "_", f"{prefix}_{name}".upper())
        while values.get(name, password) != password:
            name += "_"
        values[name] = password
        return f"${{{name}}}"

    url = _USER_INFO.sub(lambda found: f"{found[1]}:{named(found[2], 'password')}@", url)
    url = _PARAMETER.sub(lambda found: found[1] + named(found[2], re.sub(r"[^A-Za-z]", "", found[1])), url)
    return url, values


def name_of(url: str) -> str:
    """What a store is called after its URL: the database or the file, else the host, else the kind of store."""
    scheme, _, rest = without_password(url).partition(":")
    rest, _, query = rest.partition("?")
    if not rest.startswith("//"):
        return PurePosixPath(unquote(rest)).stem or scheme
    host, _, database = rest[2:].rpartition("@")[2].partition("/")
    told = parse_qs(query)
    named = unquote(database).rstrip("/").rpartition("/")[2] or "".join(
        told.get("dbname") or told.get("service") or ()
    )
    return PurePosixPath(named).stem or re.sub(r":\d+\Z", "", host) or scheme
