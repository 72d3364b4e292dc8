"""What `evsync init` writes is a configuration, whatever things are called."""

from __future__ import annotations

import pytest

from evsync.accessor import Way
from evsync.config import parse_config
from evsync.proposal import Look, Seen, propose
from evsync.proposal_text import TEMPLATE, written


@pytest.mark.parametrize(
    "name", ['a "quoted" one', "back\\slash", "tab\there", "new\nline", "naïve", "a.b", "\x7f", "#"]
)
def test_any_name_survives_being_written(name: str) -> None:
    look = Look("s", "csv:s.csv", name, {}, {name: "str", "updated_at": "datetime", "id": "int"}, (name,))
    seen = Seen("s", "csv:s.csv", {}, [look], {name: name}, [Way("log", name, (name,))], name)
    config = parse_config(written(propose([seen])))
    assert config.types[name].key == (name,)
    assert config.types[name].fields == {name: "str", "id": "int"}


def test_the_template_is_valid_and_so_it_is_with_everything_taken_in() -> None:
    assert parse_config(TEMPLATE).stores == {}
    taken_in = "\n".join(
        line.removeprefix("# ")
        for line in TEMPLATE.splitlines()
        if not line.startswith(("# evsync.toml", "# from"))
    )
    assert list(parse_config(taken_in).stores) == ["crm", "mailing"]
