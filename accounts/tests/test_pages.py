"""Pages that more than one app shows: the shell and what stands in for a page that failed."""

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.template.loader import render_to_string
from django.utils import timezone

from accounts import setup
from accounts.models import Invitation
from accounts.tests import cast

pytestmark = pytest.mark.django_db
INLINE = re.compile(r'<style|\sstyle="|\son\w+="|<script(?![^>]*(\bsrc=|application/json))')
RESET = ["password/reset", "password/reset/done", "password/reset/key/1-x"]
OPEN = ["login", "signup", "inactive", "confirm-email", *RESET]
OWN = ["logout", "email", "password/change", "2fa", "2fa/totp/activate", "2fa/webauthn", "sessions", "reauthenticate"]


@pytest.mark.parametrize("name", OPEN)
def test_it_keeps_every_page_before_sign_in_in_our_frame_and_policy(client, name):
    page = client.get(f"/accounts/{name}/", follow=True).text
    assert 'class="entrance"' in page
    assert not INLINE.search(page)


@pytest.mark.parametrize("name", OWN)
def test_it_keeps_every_page_of_one_s_account_in_our_frame_and_policy(client, name):
    bob = cast.bob()
    client.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    page = client.get(f"/accounts/{name}/", follow=True).text
    assert "css/site" in page
    assert not INLINE.search(page)


def test_what_is_not_there_has_a_page(client):
    page = client.get("/nowhere/")
    assert page.status_code == 404
    assert "nothing here" in page.text


@pytest.mark.parametrize("name", ["400", "403", "403_csrf", "404", "500"])
def test_an_error_has_words_even_without_a_request(name):
    assert "<h1>" in render_to_string(f"{name}.html")


def test_a_stale_form_has_words(client):
    client.handler.enforce_csrf_checks = True
    page = client.post("/accounts/login/", {"login": "bob@example.com"})
    assert page.status_code == 403
    assert "out of date" in page.text


@pytest.mark.parametrize(
    "place", ["/", "/settings/", "/settings/links/", "/accounts/2fa/", "/accounts/sessions/", "/admin/"]
)
def test_signing_out_is_offered_on_every_page(client, place):
    client.force_login(cast.alice())
    page = client.get(place).text
    assert re.search(
        r'<form[^>]* method="post" action="/accounts/logout/"[^>]*>.*?<button[^>]*>.*?Sign out', page, re.DOTALL
    )


def passwords(page) -> list[tuple[str, str]]:
    """The type and the purpose of each field for a password."""
    fields = re.findall(r"<input[^>]*name=\"[a-z_]*password[0-9]?\"[^>]*>", page.text)
    told = [dict(re.findall(r'(\w+)="([^"]*)"', each)) for each in fields]
    return [(each["type"], each.get("autocomplete", "")) for each in told]


CURRENT, NEW = ("password", "current-password"), ("password", "new-password")


def test_password_fields_are_such_that_managers_fill(client):
    assert passwords(client.get(setup.link())) == [NEW, NEW]
    alice = cast.alice()
    expires = timezone.now() + timedelta(days=7)
    invitation = Invitation.objects.create(email="ira@example.com", created_by=alice, expires=expires)
    assert passwords(client.get(f"/join/{invitation.token}/")) == [NEW, NEW]
    assert passwords(client.get("/accounts/login/")) == [CURRENT]
    bob = cast.bob()
    client.post("/accounts/password/reset/", {"email": bob.email})
    link = re.search(r"http://\S+", mail.outbox[0].body).group()
    assert passwords(client.get(link, follow=True)) == [NEW, NEW]
    client.force_login(bob)
    assert passwords(client.get("/accounts/password/change/")) == [CURRENT, NEW, NEW]
    assert passwords(client.get("/accounts/reauthenticate/")) == [CURRENT]
    bob.set_unusable_password()
    bob.save()
    client.force_login(bob)
    assert passwords(client.get("/accounts/password/set/")) == [NEW, NEW]
    client.force_login(alice)
    assert passwords(client.get(f"/admin/accounts/user/{bob.pk}/password/")) == [NEW, NEW]


def test_the_sidebar_offers_the_administration_to_staff_only(client):
    client.force_login(cast.bob())
    assert 'href="/admin/"' not in client.get("/settings/").text
    client.force_login(cast.alice())
    assert 'href="/admin/"' in client.get("/settings/").text
