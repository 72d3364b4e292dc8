"""evsync.toml: what is read, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsync.binding import PlaceSpec, TypeSpec
from evsync.config import Conflicts, StoreSpec, TypeConflicts, find_config, load_config, parse_config
from evsync.errors import ConfigError

WHOLE = """
journal = "log.db"
audit_reads = true

[conflicts]
fields = "prefer"
delete = "manual"
adopt = "mine.rules:adopt"
prefer = ["crm", "mailing"]

[types.contact]
key = ["email"]
[types.contact.fields]
email = "str"
credit = "decimal"
[types.contact.conflicts]
credit = "manual"

[types.order]
key = ["number"]
references = { customer = "contact" }

[stores.crm]
url = "sqlite:${WHERE}/crm.db"
role = "source"
max_deletes = "20%"
audit_reads = false
[stores.crm.types.contact]
table = "customers"
id = "customer_id"
fields = { email = "mail" }
only = ["email", "credit"]
ignore = ["note"]
changed_at = "updated_at"
changed_by = "updated_by"
[stores.crm.types.order]

[stores.mailing]
url = "csv:mailing.csv"
max_deletes = 3
[stores.mailing.types.contact]
"""

CONTACT = '[types.contact]\nkey = ["email"]\n'
CRM = '[stores.crm]\nurl = "sqlite:crm.db"\n'
PLACE = "[stores.crm.types.contact]\n"


def test_everything_that_can_be_said_is_read() -> None:
    config = parse_config(WHOLE, Path("/etc/sync/evsync.toml"), {"WHERE": "secret"})
    assert config.path == Path("/etc/sync/evsync.toml")
    assert config.root == Path("/etc/sync")
    assert config.journal == "log.db"
    assert config.audit_reads is True
    assert config.conflicts == Conflicts("prefer", "manual", "mine.rules:adopt", ("crm", "mailing"))
    assert config.type_conflicts == {
        "contact": TypeConflicts(by_field={"credit": "manual"}),
        "order": TypeConflicts(),
    }
    assert config.types == {
        "contact": TypeSpec("contact", ("email",), {"email": "str", "credit": "decimal"}, {}),
        "order": TypeSpec("order", ("number",), None, {"customer": "contact"}),
    }
    place = PlaceSpec(
        "customer_id", {"email": "mail"}, ("email", "credit"), ("note",), "updated_at", "updated_by", (),
        {"table": "customers"}, {"table": "customers"},
    )  # fmt: skip
    assert config.stores == {
        "crm": StoreSpec(
            "crm", "sqlite:secret/crm.db", "sqlite:${WHERE}/crm.db", "source", "20%", False, {},
            {"contact": place, "order": PlaceSpec()},
        ),
        "mailing": StoreSpec(
            "mailing", "csv:mailing.csv", "csv:mailing.csv", "both", 3, True, {}, {"contact": PlaceSpec()}
        ),
    }  # fmt: skip


def test_an_empty_file_is_a_configuration_with_the_defaults() -> None:
    config = parse_config("")
    assert (config.journal, config.stores, config.types) == ("evsync.db", {}, {})
    assert config.conflicts == Conflicts("newest", "edit-wins", "first", ())
    assert config.root == Path.cwd()


def test_store_options_may_stand_at_the_store_or_at_the_type() -> None:
    config = parse_config(
        CONTACT + '[stores.m]\nurl = "csv:m.csv"\nnull = "NA"\n[stores.m.types.contact]\nnull = "-"\n'
    )
    assert config.stores["m"].options == {"null": "NA"}
    assert config.stores["m"].places["contact"].options == {"null": "-"}


@pytest.mark.parametrize("limit", ["0", "7", '"0%"', '"100%"'])
def test_limits_of_deletes(limit: str) -> None:
    config = parse_config(f"{CONTACT}{CRM}max_deletes = {limit}\n{PLACE}")
    assert repr(config.stores["crm"].max_deletes) == limit.replace('"', "'")


def test_limits_and_creation_of_one_type_in_one_store() -> None:
    place = PLACE + 'max_deletes = 0\nmax_changes = "5%"\ncreated_at = "since"\n'
    store = parse_config(f"{CONTACT}{CRM}max_changes = 7\n{place}").stores["crm"]
    assert (store.max_deletes, store.max_changes) == ("50%", 7)
    found = store.places["contact"]
    assert (found.max_deletes, found.max_changes, found.created_at) == (0, "5%", "since")


def test_lists_of_fields_to_match_by() -> None:
    config = parse_config('[types.contact]\nkey = ["id"]\nmatch = [["email"], ["name", "born"]]')
    assert config.types["contact"].match == (("email",), ("name", "born"))


FOUR = CONTACT + "[types.contact.fields]\n" + "\n".join(
    f'{name} = "str"' for name in ("email", "fields", "delete", "adopt", "prefer")
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "conflicts"),
    [
        (CONTACT, TypeConflicts()),
        (
            CONTACT + "[types.contact.conflicts]\nfields = 'first'\ndelete = 'manual'\nadopt = 'rules:f'\n"
            "prefer = ['crm']\nname = 'newest'",
            TypeConflicts("first", "manual", "rules:f", ("crm",), {"name": "newest"}),
        ),
        (CONTACT + "conflicts = { prefer = [] }", TypeConflicts(prefer=())),
        # single fields in a table of their own, beside the type's policies and other fields
        (
            CONTACT + "[types.contact.conflicts]\ndelete = 'delete-wins'\nname = 'first'\n"
            "[types.contact.conflicts.fields]\ndelete = 'prefer'\nfields = 'newest'",
            TypeConflicts(
                delete="delete-wins", by_field={"name": "first", "delete": "prefer", "fields": "newest"}
            ),
        ),
        # fields that are called so: these names mean the type wherever they can
        (
            FOUR + "\n[types.contact.conflicts]\nfields = 'first'\ndelete = 'manual'",
            TypeConflicts("first", "manual"),
        ),
    ],
)
def test_a_type_has_policies_of_its_own_and_of_its_fields(text: str, conflicts: TypeConflicts) -> None:
    config = parse_config(f"{text}\n{CRM}{PLACE}")
    assert config.type_conflicts == {"contact": conflicts}


OWN = "\n[types.contact.conflicts]\n"

MISTAKES = [
    # text, what the message says, what the hint says
    ("jurnal = 'x'", "evsync.toml: unknown key 'jurnal'", "did you mean 'journal'?"),
    ("stores = 3", "'stores' must be a table, not a number", ""),
    ("stores.crm = 'x'", "[stores]: 'crm' must be a table, not a text", ""),
    ("audit_reads = 'yes'", "'audit_reads' must be true or false, not a text", ""),
    ("journal = ''", "'journal' is empty", "a text"),
    ("journal = 5", "'journal' must be a text, not a number", ""),
    ("[conflicts]\nfields = 'newes'", "[conflicts]: 'fields' is the unknown policy 'newes'", "'newest'"),
    ("[conflicts]\nfields = 'edit-wins'", "unknown policy 'edit-wins'", "module:function"),
    ("[conflicts]\ndelete = 'x:y'", "'delete' is the unknown policy 'x:y'", "edit-wins, delete-wins, manual"),
    ("[conflicts]\nadopt = 'last'", "'adopt' is the unknown policy 'last'", "newest, first"),
    ("[conflicts]\nprefer = ['cmr']\n" + CONTACT + CRM + PLACE, "unknown store 'cmr'", "did you mean 'crm'?"),
    ("[conflicts]\nfield = 'first'", "[conflicts]: unknown key 'field'", "did you mean 'fields'?"),
    ("[types.contact]", "[types.contact]: 'key' is missing", 'key = ["email"]'),
    ("[types.contact]\nkey = []", "'key' is empty", ""),
    ("[types.contact]\nkey = 'email'", "'key' must be a list of texts, not a text", 'key = ["email"]'),
    ("[types.contact]\nkey = ['a', 'a']", "'key' names 'a' twice", ""),
    (CONTACT + "keyy = 1", "[types.contact]: unknown key 'keyy'", "did you mean 'key'?"),
    (CONTACT + "fields = { email = 'string' }", "field 'email' has the unknown type 'string'", "str"),
    (CONTACT + "fields = { email = 'Str' }", "[types.contact.fields]: field 'email' has the unknown type 'Str'", "'str'"),
    (CONTACT + "references = { of = 'contakt' }", "references the unknown type 'contakt'", "'contact'"),
    (
        CONTACT + "fields = { email = 'str', firm = 'str' }\nreferences = { frm = 'contact' }",
        "[types.contact]: 'frm' is no field of 'contact'", "did you mean 'firm'?",
    ),
    (
        CONTACT + "fields = { email = 'str' }\nconflicts = { emial = 'first' }",
        "[types.contact.conflicts]: 'emial' is no field of 'contact'", "did you mean 'email'?",
    ),
    (CONTACT + "conflicts = { email = 'frist' }", "[types.contact.conflicts]: 'email' is the unknown policy", "'first'"),
    (CONTACT + OWN + "delete = 'edit-win'", "[types.contact.conflicts]: 'delete' is the unknown policy", "'edit-wins'"),
    (CONTACT + OWN + "fields = 'newes'", "[types.contact.conflicts]: 'fields' is the unknown policy", "'newest'"),
    (CONTACT + OWN + "adopt = ['first']", "[types.contact.conflicts]: 'adopt' must be a text, not a list", ""),
    (CONTACT + OWN + "prefer = 'crm'", "[types.contact.conflicts]: 'prefer' must be a list of texts", 'prefer = ["crm"]'),
    (CONTACT + OWN + "prefer = ['cmr']\n" + CRM + PLACE, "[types.contact.conflicts]: 'prefer' names the unknown store 'cmr'", "'crm'"),
    (CONTACT + OWN + "prefer = ['cmr']", "'prefer' names the unknown store 'cmr'", "none so far"),
    (CONTACT + "fields = { email = 'str' }" + OWN + "delet = 'manual'", "'delet' is no field of 'contact'", "'delete'"),
    (
        CONTACT + OWN + "fields = { email = 'frist' }",
        "[types.contact.conflicts.fields]: 'email' is the unknown policy 'frist'", "'first'",
    ),
    (
        CONTACT + "fields = { email = 'str' }" + OWN + "fields = { delete = 'first' }",
        "[types.contact.conflicts.fields]: 'delete' is no field of 'contact'", "the fields are: email",
    ),
    (
        CONTACT + OWN + "name = 'first'\nfields = { name = 'newest' }",
        "[types.contact.conflicts.fields]: 'name' has a policy in [types.contact.conflicts] already", "take one",
    ),
    (FOUR + OWN + "delete = 'newest'", "'delete' is the unknown policy 'newest'", "stands in [types.contact.conflicts.fields]"),
    (FOUR + OWN + "prefer = 'newest'", "'prefer' must be a list of texts", "stands in [types.contact.conflicts.fields]"),
    ("[stores.crm]", "[stores.crm]: 'url' is missing", ""),
    ("[stores.crm]\nurl = 'sqlit:crm.db'", "the url 'sqlit:crm.db' does not start with", "did you mean 'sqlite'?"),
    ("[stores.crm]\nurl = 'crm.db'", "[stores.crm]: the url 'crm.db' does not start with", "installed are"),
    (CONTACT + CRM + "role = 'sauce'\n" + PLACE, "[stores.crm]: unknown role 'sauce'", "did you mean 'source'?"),
    (CONTACT + CRM + "max_deletes = '101%'\n" + PLACE, "'max_deletes' must be a number of records", "50%"),
    (CONTACT + CRM + "max_deletes = -1\n" + PLACE, "'max_deletes' must be", ""),
    (CONTACT + CRM + "max_deletes = true\n" + PLACE, "'max_deletes' must be", ""),
    (CONTACT + CRM + "max_changes = '101%'\n" + PLACE, "'max_changes' must be a number of records", 'max_changes = "50%"'),
    (CONTACT + CRM + PLACE + "max_deletes = '5'\n", "[stores.crm.types.contact]: 'max_deletes' must be", ""),
    (CONTACT + CRM + PLACE + "max_changes = -1\n", "[stores.crm.types.contact]: 'max_changes' must be", ""),
    (CONTACT + CRM + PLACE + "created_at = 1\n", "'created_at' must be a text", ""),
    (CONTACT + CRM, "[stores.crm]: the store holds no type", "[stores.crm.types.contact]"),
    (CONTACT + CRM + "[stores.crm.types.contat]", "the type 'contat' is declared nowhere", "'contact'"),
    (CONTACT + CRM + "tabel = 'x'\n" + PLACE, "[stores.crm]: unknown key 'tabel'", "did you mean 'table'?"),
    (
        CONTACT + CRM + PLACE + "tabel = 'x'",
        "[stores.crm.types.contact]: unknown key 'tabel'", "did you mean 'table'?",
    ),
    (CONTACT + CRM + PLACE + "only = 'email'", "'only' must be a list of texts", 'only = ["email"]'),
    (CONTACT + CRM + PLACE + "ignore = ['email']", "the key field 'email' cannot be ignored", "ignore"),
    (
        CONTACT + CRM + PLACE + "ignore = ['mail']\nfields = { email = 'mail' }",
        "the key field 'email' cannot be ignored", "",
    ),
    (
        CONTACT + CRM + PLACE + "fields = { a = 'x', b = 'x' }",
        "the column 'x' is mapped twice: to 'a' and to 'b'", "",
    ),
    (CONTACT + CRM + PLACE + "fields = { name = 'email' }", "the column 'email' is mapped twice", ""),
    (CONTACT + CRM + PLACE + "fields = { name = 3 }", "[stores.crm.types.contact.fields]: 'name' must be a text", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "hint"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place_and_what_to_try(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(text)
    assert message in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.message.startswith("evsync.toml")
    assert raised.value.exit_code == 2


def test_broken_toml_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text('journal = "a.db"\n[types.contact\n')
    with pytest.raises(ConfigError, match=r"^my\.toml, line 2: "):
        load_config(path)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "evsync.toml"
    path.write_bytes(b"# fine\njournal = '\xff'\n")
    with pytest.raises(ConfigError, match="line 2: this is not UTF-8"):
        load_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(tmp_path / "none.toml")
    assert "evsync init" in raised.value.hint
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_the_file_is_found_in_a_parent(tmp_path: Path) -> None:
    (tmp_path / "evsync.toml").write_text("")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_config(inner) == tmp_path / "evsync.toml"
    assert find_config(tmp_path) == tmp_path / "evsync.toml"


def test_no_file_anywhere_points_to_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_config(tmp_path)
    assert "evsync init" in raised.value.hint


SECRET = "hunter2"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\[stores.crm\]: the environment variable 'TOKEN' is not set"):
        parse_config(CONTACT + '[stores.crm]\nurl = "sqlite:${TOKEN}"\n' + PLACE, environ={})


@pytest.mark.parametrize(
    "text",
    [
        '[stores.crm]\nurl = "${TOKEN}"',
        '[stores.crm]\nurl = "sqlite:x"\nrole = "${TOKEN}"',
        '[stores.crm]\nurl = "sqlite:x"\nmax_deletes = "${TOKEN}"',
        '[conflicts]\nfields = "${TOKEN}"',
    ],
)
def test_no_error_shows_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(text, environ={"TOKEN": SECRET})
    assert SECRET not in raised.value.message + raised.value.hint
