"""Where the database is, and how it is asked."""

from pathlib import Path

import pytest
from django.db import connection

from councilsite import database


@pytest.mark.django_db
def test_what_is_prepared_is_planned_once():
    with connection.cursor() as cursor:
        cursor.execute("SHOW plan_cache_mode")
        assert cursor.fetchone() == ("force_generic_plan",)


def test_options_of_the_address_are_kept():
    address = "postgresql://ada:secret@db.example/council?options=-c%20search_path%3Dcouncil&sslmode=require"
    made = database.settings_for(Path("var"), {"DATABASE_URL": address})
    assert (made["HOST"], made["NAME"], made["USER"]) == ("db.example", "council", "ada")
    assert made["OPTIONS"]["sslmode"] == "require"
    assert "-c search_path=council" in made["OPTIONS"]["options"]
    assert database.PLANS in made["OPTIONS"]["options"]
