"""What was filled in from the environment, so that no message shows it.

Only the values of `${NAME}` in a configuration come here; a value of fewer than four characters is not taken for a
secret, for it would hide half of every message.
"""

from __future__ import annotations

SHORTEST = 4

_names: dict[str, str] = {}


def remember(name: str, value: str) -> None:
    """Show `${name}` from now on where a message would show `value`."""
    if len(value) >= SHORTEST:
        _names[value] = name


def mask(text: str) -> str:
    """`text` without any value that was remembered."""
    for value in sorted(_names, key=len, reverse=True):
        text = text.replace(value, f"${{{_names[value]}}}")
    return text
