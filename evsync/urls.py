"""URLs of stores, as they may be printed."""

from __future__ import annotations

import re

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
