"""What `manage.py` says where its database is away, or was never prepared."""

import sys

import pytest
from django.db import OperationalError, ProgrammingError
from psycopg.errors import UndefinedColumn, UndefinedTable

import manage


def raised(monkeypatch, error: Exception) -> str:
    """What is printed in its place where a command raises this."""

    def fail(_arguments):
        raise error

    monkeypatch.setattr(manage, "execute_from_command_line", fail)
    monkeypatch.setattr(sys, "argv", ["manage.py", "help"])
    with pytest.raises(SystemExit) as ended:
        manage.main()
    return str(ended.value)


def test_a_database_that_is_away_is_said_in_words(monkeypatch):
    assert raised(monkeypatch, OperationalError("couldn't get a connection")) == (
        "The database cannot be reached, or was stopped meanwhile: couldn't get a connection"
    )


def test_a_database_without_tables_says_what_to_do(monkeypatch):
    error = ProgrammingError('relation "accounts_user" does not exist')
    error.__cause__ = UndefinedTable()
    assert "`manage.py prepare`" in raised(monkeypatch, error)


def test_a_mistake_of_ours_is_shown_whole(monkeypatch):
    error = ProgrammingError("column does not exist")
    error.__cause__ = UndefinedColumn()
    with pytest.raises(ProgrammingError):
        raised(monkeypatch, error)
