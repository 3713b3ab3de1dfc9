"""Whom a socket sees is whom a page sees."""

import pytest
from django.conf import settings
from django.test import Client

from accounts.sessions import person_of
from accounts.tests import cast

pytestmark = pytest.mark.django_db


def test_it_is_whoever_is_signed_in():
    alice = cast.alice()
    client = Client()
    client.force_login(alice)
    cookies = {name: each.value for name, each in client.cookies.items()}
    assert person_of(cookies) == alice

    client.logout()
    assert person_of(cookies).is_anonymous


def test_nobody_is_signed_in_without_a_session_of_ours():
    assert person_of({}).is_anonymous
    assert person_of({settings.SESSION_COOKIE_NAME: "x" * 32}).is_anonymous
    assert person_of({settings.SESSION_COOKIE_NAME: "\x00"}).is_anonymous


def test_a_session_ends_with_the_password_it_was_begun_with_and_with_the_account():
    alice = cast.alice()
    client = Client()
    client.force_login(alice)
    cookies = {name: each.value for name, each in client.cookies.items()}
    alice.is_active = False
    alice.save()
    assert person_of(cookies).is_anonymous
    alice.is_active = True
    alice.set_password("another battery staple")
    alice.save()
    assert person_of(cookies).is_anonymous
