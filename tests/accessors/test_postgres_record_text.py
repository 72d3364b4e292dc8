"""Records out of PostgreSQL's text of them, as the server itself writes it."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgres_server import server_url

from accessors.postgres_record_text import fields_of


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("()", [None]),
        ('("")', [""]),
        ("(,)", [None, None]),
        ("(,,1)", [None, None, "1"]),
        ('("",,"")', ["", None, ""]),
        ('(1,"a,b",c)', ["1", "a,b", "c"]),
        ('("""",",","\\\\")', ['"', ",", "\\"]),
        ('("(1,""x"")",2)', ['(1,"x")', "2"]),
        ('(" a\n",b)', [" a\n", "b"]),
    ],
)
def test_fields(text: str, fields: list[str | None]) -> None:
    assert fields_of(text) == fields


@given(
    st.lists(
        st.none() | st.text(alphabet='",\\() \n\tab\u00e4\U0001f600', max_size=6), min_size=1, max_size=5
    )
)
def test_what_the_server_writes_comes_back(fields: list[str | None]) -> None:
    marks = ", ".join(["CAST(%s AS text)"] * len(fields))
    with psycopg.connect(server_url(), client_encoding="UTF8") as connection:
        found = connection.execute(f"SELECT CAST(ROW({marks}) AS text)", fields).fetchone()  # type: ignore[call-overload]
    assert found is not None
    assert fields_of(found[0]) == fields
