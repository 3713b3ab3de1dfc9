"""API keys of a roster that is loaded: they come from the environment, and go nowhere else."""

import pytest

from council.models import Provider
from council.tests.roster_files import KEY, ROSTER

pytestmark = pytest.mark.django_db


def test_one_that_is_missing_is_a_mistake_where_none_is_stored(refused, monkeypatch):
    monkeypatch.delenv("ACME_KEY")
    assert "provider “acme”, api_key_env: The environment has no ACME_KEY." in refused(ROSTER)
    monkeypatch.setenv("ACME_KEY", "")
    assert "The environment has no ACME_KEY." in refused(ROSTER)


def test_one_that_is_missing_leaves_what_is_stored_and_says_so(load, monkeypatch):
    load(ROSTER)
    monkeypatch.delenv("ACME_KEY")
    assert "acme keeps the key that is stored" in load(ROSTER)
    assert Provider.objects.get().api_key == KEY


def test_another_one_takes_its_place(load, monkeypatch):
    load(ROSTER)
    monkeypatch.setenv("ACME_KEY", "sk-rotated-0123456789")
    said = load(ROSTER)
    assert "~ provider acme\n    API key" in said
    assert Provider.objects.get().api_key == "sk-rotated-0123456789"
    assert "sk-" not in said


def test_a_provider_without_one_needs_none(load):
    load(ROSTER.replace('api_key_env = "ACME_KEY"\n', ""))
    assert Provider.objects.get().api_key == ""


def test_one_that_was_typed_in_stays_where_the_file_names_none(load):
    load(ROSTER)
    load(ROSTER.replace('api_key_env = "ACME_KEY"\n', ""))
    assert Provider.objects.get().api_key == KEY


def test_one_that_cannot_be_read_any_more_is_replaced(load, settings):
    load(ROSTER)
    settings.FIELD_KEYS = ["b3RoZXIga2V5LCBhbHNvIG9ubHkgZm9yIHRlc3RzISE="]
    load(ROSTER)
    assert Provider.objects.get().api_key == KEY


def test_what_cannot_be_a_key_is_refused_and_not_repeated(refused, monkeypatch):
    monkeypatch.setenv("ACME_KEY", "sk with spaces")
    said = refused(ROSTER)
    assert "ACME_KEY: This holds characters that no key has." in said
    assert "sk with" not in said


def test_it_does_not_go_to_another_host_unknowingly(load, refused, monkeypatch):
    load(ROSTER)
    moved = ROSTER.replace("models.acme.example", "evil.example")
    monkeypatch.delenv("ACME_KEY")
    assert "base_url: This is another host than before." in refused(moved)
    monkeypatch.setenv("ACME_KEY", KEY)
    load(moved)
    assert Provider.objects.get().base_url == "https://evil.example/v1"
