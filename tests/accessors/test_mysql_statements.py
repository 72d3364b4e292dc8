"""What statements in the binary log mean for a table."""

from __future__ import annotations

import pytest

from accessors.mysql_statements import Kind, defines, emptied, kind_of


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("BEGIN", Kind.BEGIN),
        ("START TRANSACTION", Kind.BEGIN),
        ("COMMIT", Kind.COMMIT),
        ("ROLLBACK", Kind.ROLLBACK),
        ("ROLLBACK /* added by the server */", Kind.ROLLBACK),
        ("ROLLBACK TO `s`", Kind.NOTHING),
        ("SAVEPOINT `s`", Kind.NOTHING),
        ("XA START X'78',X'',1", Kind.XA_BEGIN),
        ("XA END X'78',X'',1", Kind.NOTHING),
        ("XA COMMIT X'78',X'',1", Kind.XA_COMMIT),
        ("XA ROLLBACK X'78',X'',1", Kind.NOTHING),
        ("TRUNCATE person", Kind.TRUNCATE),
        ("alter table person add x int", Kind.DEFINITION),
        ("/* why */ ALTER TABLE person ADD x int", Kind.DEFINITION),
        ("/*!40000 ALTER TABLE `person` DISABLE KEYS */", Kind.DEFINITION),
        ("-- why\nDROP TABLE person", Kind.DEFINITION),
        ("CREATE OR REPLACE TABLE person (id int)", Kind.DEFINITION),
        ("CREATE TABLE event (id int)", Kind.DEFINITION),
        ("RENAME TABLE a TO person", Kind.DEFINITION),
        ("DROP DATABASE d", Kind.DEFINITION),
        ("CREATE VIEW v AS SELECT * FROM person", Kind.NOTHING),
        ("CREATE ALGORITHM=UNDEFINED DEFINER=`r`@`%` SQL SECURITY DEFINER VIEW v AS SELECT 1", Kind.NOTHING),
        (
            "CREATE DEFINER=`r`@`localhost` TRIGGER t BEFORE UPDATE ON person FOR EACH ROW SET @a=1",
            Kind.NOTHING,
        ),
        ("CREATE TEMPORARY TABLE person (id int)", Kind.NOTHING),
        ("DROP TEMPORARY TABLE IF EXISTS person", Kind.NOTHING),
        ("GRANT SELECT ON person TO r", Kind.NOTHING),
        ("ANALYZE TABLE person", Kind.NOTHING),
        ("UPDATE person SET name = 'x'", Kind.UNKNOWN),
        ("REPLACE INTO checksums SELECT * FROM person", Kind.UNKNOWN),
        ("DELETE FROM `d`.`m`", Kind.UNKNOWN),
        ("WITH x AS (SELECT 1) DELETE FROM person", Kind.UNKNOWN),
        ("CALL tidy()", Kind.UNKNOWN),
        ("SET STATEMENT max_statement_time = 9 FOR ALTER TABLE person ADD x int", Kind.UNKNOWN),
        ("SET PASSWORD FOR r = ''", Kind.NOTHING),
        ("DO SLEEP(0)", Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
    ],
)
def test_kinds(statement: str, kind: Kind) -> None:
    assert kind_of(statement) is kind


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("TRUNCATE person", ("here", "person")),
        ("TRUNCATE TABLE person", ("here", "person")),
        ("truncate table `there`.`a ``b`", ("there", "a `b")),
        ("TRUNCATE TABLE there . person NOWAIT", ("there", "person")),
        ('TRUNCATE TABLE "a"".b"', ("here", 'a".b')),
        ("/* all */ TRUNCATE/**/person;", ("here", "person")),
        ("TRUNCATE table", ("here", "table")),
        ("DELETE FROM person", None),
    ],
)
def test_which_table_is_emptied(statement: str, table: tuple[str, str] | None) -> None:
    assert emptied(statement, "here") == table


@pytest.mark.parametrize(
    ("statement", "concerns"),
    [
        ("ALTER TABLE person ADD x int", True),
        ("ALTER TABLE `d`.`PERSON` ADD x int", True),
        ("ALTER TABLE personal ADD x int", False),
        ("ALTER TABLE old$person ADD x int", False),
        ("ALTER TABLE d.other ADD x int", False),
        ("RENAME TABLE a TO b, b TO person", True),
        ("DROP DATABASE d", True),
        ("DROP SCHEMA IF EXISTS `d`", True),
        ("DROP DATABASE dd", False),
    ],
)
def test_whether_a_table_is_concerned(statement: str, concerns: bool) -> None:
    assert defines(statement, "d", "person") is concerns


def test_names_in_quotes_and_in_letters_that_cannot_be_read() -> None:
    assert defines("ALTER TABLE `a``b` ADD x int", "d", "a`b")
    assert defines("ALTER TABLE größe ADD x int", "d", "größe")
    assert defines("ALTER TABLE gr\ufffdße ADD x int", "d", "größe")
    assert not defines("ALTER TABLE gr\ufffdße ADD x int", "d", "size")
