"""README.md leaves nothing out: every command, every option, every key of the configuration; and invents nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from evsync import plugins
from evsync.accessor import CanApply, CanCheck, CanCreate, CanDescribe, CanDiscover, CanScan
from evsync.cli.app import app
from evsync.config import parse_config
from evsync.errors import ConfigError
from evsync.policies import DELETE_POLICIES, FIELD_POLICIES
from evsync.values import TYPES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands  # type: ignore[attr-defined]
COMMON = {"--config", "--json", "--debug", "--help"}

KNOWN = {
    "top": "",
    "[conflicts]": "[conflicts]\n",
    "[types.T]": '[types.T]\nkey = ["k"]\n',
    "[stores.S]": '[types.T]\nkey = ["k"]\n[stores.S]\nurl = "csv:x.csv"\n[stores.S.types.T]\n[stores.S]\n',
    "[stores.S.types.T]": '[types.T]\nkey = ["k"]\n[stores.S]\nurl = "csv:x.csv"\n[stores.S.types.T]\n',
}
"""A configuration for each table, to which a key is added that no table knows."""


def options(command: object) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}  # type: ignore[attr-defined]


def row(command: str) -> str:
    found = re.search(rf"^\| `evsync {command}\b.*$", README, re.M)
    assert found, f"the table of commands has no row for {command}"
    return found[0]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_stands_in_the_row_of_its_command(command: str) -> None:
    told = row(command)
    for option in options(COMMANDS[command]) - COMMON:
        assert f"`{option}" in told or f" {option} " in told, option


def test_every_option_of_all_commands_is_told() -> None:
    for option in options(GROUP) | COMMON:
        assert f"`{option}" in README or f"evsync {option}" in README, option


def test_no_command_is_told_of_that_is_not_there() -> None:
    assert set(
        re.findall(
            r"\bevsync ([a-z]+)\b(?! to| is| was)",
            "\n".join(re.findall(r"`evsync [^`]+`|^\$ evsync .*$", README, re.M)),
        )
    ) <= set(COMMANDS)


def test_no_option_is_told_of_that_is_not_there() -> None:
    known = options(GROUP) | COMMON | {"--get"}
    for command in COMMANDS.values():
        known |= options(command)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) <= known


def keys(table: str) -> set[str]:
    """The keys that a table of the configuration knows, by its own complaint about one that it does not."""
    text = KNOWN[table]
    if table == "[stores.S]":
        text = '[types.T]\nkey = ["k"]\n[stores.S]\nurl = "csv:x.csv"\nzzzzzz = 1\n[stores.S.types.T]\n'
    else:
        text += "zzzzzz = 1\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert "zzzzzz" in caught.value.message
    hint = caught.value.hint
    assert hint.startswith("the keys are: ")
    return set(hint.removeprefix("the keys are: ").split(", "))


@pytest.mark.parametrize("table", KNOWN)
def test_every_key_of_the_configuration_is_told(table: str) -> None:
    found = keys(table)
    if table.startswith("[stores"):
        found -= set(plugins.accessor("csv").options)
    for key in found:
        assert any(
            f"`{key}`" in told.split("|")[1] and table in told.split("|")[2]
            for told in README.splitlines()
            if told.startswith("| `") and told.count("|") >= 4
        ), f"{key} in {table}"


def test_every_option_of_every_accessor_is_told() -> None:
    for scheme in plugins.schemes():
        [told] = re.findall(rf"^\| `{scheme}` \| `{scheme}:.*$", README, re.M)
        for option in plugins.accessor(scheme).options:
            assert f"`{option}`" in told, f"{option} of {scheme}"


def test_every_value_type_and_policy_is_told() -> None:
    for word in (*TYPES, *FIELD_POLICIES, *DELETE_POLICIES):
        assert f"`{word}`" in README


def test_every_capability_of_an_accessor_is_told() -> None:
    for capability in (CanScan, CanApply, CanDescribe, CanCreate, CanDiscover, CanCheck):
        [method] = [
            name
            for name in vars(capability)
            if not name.startswith("_") and callable(getattr(capability, name))
        ]
        assert re.search(rf"^\| `{method}` \|", README, re.M), method


def test_every_exit_code_is_told() -> None:
    for code in (0, 1, 2, 3, 4, 5, 6, 130):
        assert re.search(rf"^\| {code} \|", README, re.M)
