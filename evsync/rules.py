"""From the configuration's conflict policies to the rules of a merge, custom functions included."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evsync.config import Conflicts
from evsync.errors import ConfigError
from evsync.projections.merge import Clash, Rules


def rules_of(conflicts: Conflicts, by_field: Mapping[str, str], root: Path) -> Rules:
    """The rules of one type. Custom functions (`module:function`) are looked for beside the configuration, too."""
    named = {conflicts.fields, conflicts.adopt, *by_field.values()}
    return Rules(
        fields=conflicts.fields,
        delete=conflicts.delete,  # type: ignore[arg-type]
        adopt=conflicts.adopt,
        prefer=conflicts.prefer,
        by_field=dict(by_field),
        custom={name: _function(name, root) for name in sorted(named) if ":" in name},
    )


def _function(name: str, root: Path) -> Callable[[Clash], Any]:
    module, _, attribute = name.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the conflict policy {name!r} cannot be loaded: {error}", "write: module:function"
        ) from error
    if not callable(found):
        raise ConfigError(f"the conflict policy {name!r} is no function", "write: module:function")
    return found  # type: ignore[no-any-return]
