"""`manage.py prepare`: what processes of their own find when they start, and the first administrator's way in."""

import re

import pytest
from django.core.management import call_command
from django.db import connection

from accounts.models import User
from accounts.tests import cast
from conversations.tests import database
from conversations.tests.database import environment
from council.models import Council
from councilsite.tests.processes import Program

FORM = {"name": "Ada", "email": "ada@example.org", "password1": cast.PASSWORD, "password2": cast.PASSWORD}
LINK = re.compile(r"first administrator.*: https://council\.example\.org(/setup/\S+)")


@pytest.fixture
def empty(transactional_db):
    """The address of a database that nobody has used."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("CREATE DATABASE prepared")
    yield database.url("prepared")
    with connection._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE prepared")


@pytest.mark.processes
def test_an_empty_database_becomes_a_site_and_twice_changes_nothing(empty):
    site = environment(DATABASE_URL=empty, SITE_URL="https://council.example.org", VAR_DIR="/nowhere/that/is/needed")
    first = Program("manage.py", "prepare", **site)
    assert first.ends() == 0, first.said
    assert "Preparing the database" in first.said
    assert LINK.search(first.said)
    second = Program("manage.py", "prepare", **site)
    assert second.ends() == 0, second.said
    assert "Preparing the database" not in second.said
    assert LINK.search(second.said)
    first.close()
    second.close()


@pytest.mark.django_db
def test_the_link_makes_the_first_administrator_and_is_not_printed_again(client, capsys, settings):
    settings.SITE_URL = "https://council.example.org"
    call_command("prepare")
    link = LINK.search(capsys.readouterr().out)[1]
    client.post(link, FORM)
    assert User.objects.get().is_superuser
    call_command("prepare")
    assert capsys.readouterr().out.strip() == "Open https://council.example.org"


@pytest.mark.django_db
def test_the_practice_council_is_made_unless_it_is_unwanted(capsys):
    call_command("prepare", no_practice=True)
    assert not Council.objects.exists()
    call_command("prepare")
    assert Council.objects.get().enabled
    call_command("prepare", no_practice=True)
    assert not Council.objects.get().enabled


@pytest.mark.django_db
def test_switched_off_under_administration_it_stays_off(capsys):
    call_command("prepare")
    Council.objects.update(enabled=False, default=False)
    call_command("prepare")
    assert not Council.objects.get().enabled
