"""From the configuration's policies to the rules of a type."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from projects import held, last, memory, synchronizer, thing

from evsync.errors import ConfigError
from evsync.policies import Conflicts, TypeConflicts
from evsync.projections.merge import Rules
from evsync.rules import rules_of
from evsync.synchronizer import Synchronizer

GENERAL = Conflicts("first", "manual", "newest", ("crm", "mail"))


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("own", "rules"),
    [
        (None, Rules("first", "manual", "newest", ("crm", "mail"))),
        (TypeConflicts(), Rules("first", "manual", "newest", ("crm", "mail"))),
        (TypeConflicts(fields="manual"), Rules("manual", "manual", "newest", ("crm", "mail"))),
        (TypeConflicts(delete="edit-wins"), Rules("first", "edit-wins", "newest", ("crm", "mail"))),
        (TypeConflicts(adopt="prefer"), Rules("first", "manual", "prefer", ("crm", "mail"))),
        (TypeConflicts(prefer=("mail",)), Rules("first", "manual", "newest", ("mail",))),
        (TypeConflicts(prefer=()), Rules("first", "manual", "newest", ())),
        (
            TypeConflicts(fields="prefer", by_field={"name": "newest"}),
            Rules("prefer", "manual", "newest", ("crm", "mail"), {"name": "newest"}),
        ),
    ],
)
def test_a_types_policy_goes_before_the_general_one(
    own: TypeConflicts | None, rules: Rules, tmp_path: Path
) -> None:
    assert rules_of(GENERAL, own, tmp_path) == rules


def test_functions_are_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "def one(clash): return 1\ndef two(clash): return 2\ndef three(clash): return 3\n"
    )
    own = TypeConflicts(adopt="beside:two", by_field={"n": "beside:three", "m": "first"})
    found = rules_of(Conflicts("beside:one"), own, tmp_path).custom
    assert {name: function(None) for name, function in found.items()} == {  # type: ignore[arg-type]
        "beside:one": 1, "beside:two": 2, "beside:three": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("nowhere_at_all:f", "cannot be loaded: No module named 'nowhere_at_all'"),
        ("json:no_such_function", "cannot be loaded: module 'json' has no attribute"),
        ("json:__name__", "is no function"),
    ],
)
def test_a_function_that_cannot_be_had_is_a_mistake_of_the_configuration(
    policy: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        rules_of(Conflicts(), TypeConflicts(fields=policy), tmp_path)
    assert message in raised.value.message
    assert raised.value.hint == "write: module:function"


@pytest.mark.parametrize(
    ("text", "error"), [("def f(", "SyntaxError: "), ("1 / 0", "ZeroDivisionError: division")]
)
def test_a_module_that_is_broken_is_one_too(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "broken_rules.py").write_text(text)
    with pytest.raises(ConfigError) as raised:
        rules_of(Conflicts(adopt="broken_rules:f"), None, tmp_path)
    assert f"'broken_rules:f' cannot be loaded: {error}" in raised.value.message
    assert "import broken_rules" in raised.value.hint


CONFIG = """
[conflicts]
fields = "first"
[types.thing]
key = ["id"]
fields = { id = "str", n = "decimal", w = "str" }
[types.thing.conflicts]
n = "summing:both"
[stores.one]
url = "memory:"
[stores.one.types.thing]
[stores.other]
url = "memory:"
[stores.other.types.thing]
"""


def test_a_configured_function_decides_with_typed_values(tmp_path: Path) -> None:
    (tmp_path / "summing.py").write_text(
        "def both(clash):\n    return clash.theirs + clash.mine - clash.base\n"
    )
    with synchronizer(tmp_path, CONFIG) as sync:
        one, other = sync.stores.values()
        for store in (one, other):
            store.options["records"] = {"thing": {("k",): {"id": "k", "n": Decimal("1.00"), "w": "0"}}}
        sync.sync()
        held(one)[("k",)].update(n=Decimal("1.10"), w="1")
        held(other)[("k",)].update(n=Decimal("3.00"), w="2")
        assert sync.sync().exit_code == 0
        assert [held(store)[("k",)]["n"] for store in (one, other)] == [Decimal("3.10")] * 2
        event = last(sync, conflicts=True)
        assert event["conflict"]["policy"] == {"n": "summing:both", "w": "first"}
        assert event["conflict"]["basis"] == (
            "n: summing:both answered; w: first: what the journal had stays"
        )


def test_a_function_that_raises_ends_no_run() -> None:
    def fails(clash: object) -> None:
        raise ValueError("no idea")

    one, other = (memory(name, {"id": "k", "n": 1}, {"id": "l", "n": 1}) for name in ("one", "other"))
    rules = Rules(fields="rules:fails", custom={"rules:fails": fails})
    with Synchronizer([one, other], [thing()], None, rules={"thing": rules}) as sync:
        sync.sync()
        held(one)[("k",)]["n"] = 2
        held(other)[("k",)]["n"] = 3
        held(one)[("l",)]["n"] = 5
        report = sync.sync()
        assert (report["ok"], report.exit_code) == (True, 4)
        assert [held(store)[("k",)]["n"] for store in (one, other)] == [2, 3]
        assert held(other)[("l",)]["n"] == 5
        assert last(sync, conflicts=True)["conflict"] == {
            "fields": {"n": {"base": 1, "theirs": 2, "mine": 3, "chosen": 2}},
            "policy": "rules:fails",
            "open": True,
            "basis": "rules:fails raised ValueError: no idea; left open",
        }
