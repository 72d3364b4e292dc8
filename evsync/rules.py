"""From the configuration's conflict policies to the rules of a merge, custom functions included."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evsync.errors import ConfigError
from evsync.policies import Conflicts, TypeConflicts
from evsync.projections.merge import Clash, Rules


def rules_of(conflicts: Conflicts, own: TypeConflicts | None, root: Path) -> Rules:
    """The rules of one type: its `own` policies, else the general ones. Custom functions (`module:function`) are
    looked for beside the configuration, too."""
    own = own or TypeConflicts()
    fields, adopt = own.fields or conflicts.fields, own.adopt or conflicts.adopt
    named = {fields, adopt, *own.by_field.values()}
    return Rules(
        fields=fields,
        delete=own.delete or conflicts.delete,  # type: ignore[arg-type]
        adopt=adopt,
        prefer=conflicts.prefer if own.prefer is None else own.prefer,
        by_field=dict(own.by_field),
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
    except Exception as error:  # whatever its author's code does when it is imported
        raise ConfigError(
            f"the conflict policy {name!r} cannot be loaded: {error.__class__.__name__}: {error}",
            f"see what is wrong with: python -c 'import {module}'",
        ) from error
    if not callable(found):
        raise ConfigError(f"the conflict policy {name!r} is no function", "write: module:function")
    return found  # type: ignore[no-any-return]
