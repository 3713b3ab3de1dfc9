"""Passwords that the site's own words would be guessed from."""

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from councilsite import settings as written


@pytest.mark.parametrize("password", ["LLMCouncil2026", "council-council", "Administrator1!", "council.chairman"])
def test_what_the_site_is_called_is_no_password(password, settings):
    settings.SITE_URL = "https://example.org"
    with pytest.raises(ValidationError, match="little more than what this site is called"):
        validate_password(password)


def test_nor_is_its_host(settings):
    settings.SITE_URL = "https://weatherstation.example.org"
    with pytest.raises(ValidationError):
        validate_password("weatherstation99")


@pytest.mark.parametrize("password", ["the council of seven owls", "correct horse battery"])
def test_a_password_may_have_such_a_word_in_it(password):
    validate_password(password)


def test_a_long_one_of_any_characters_is_taken():
    validate_password("ä ö ü 日本 " * 12)


def test_they_are_kept_by_argon2(settings):
    settings.PASSWORD_HASHERS = written.PASSWORD_HASHERS  # tests have a faster one
    assert make_password("a lighthouse, seven boats").startswith("argon2$argon2id$")
