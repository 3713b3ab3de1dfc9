import re
import time

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from allauth.usersessions.models import UserSession
from django.test import Client

from accounts.tests import cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def bob(client):
    bob = cast.bob()
    client.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    return bob


def test_it_is_for_people_who_are_signed_in(client):
    assert client.get("/settings/").url.startswith("/accounts/login/")


def test_it_shows_the_address_and_changes_the_name(client, bob):
    assert bob.email in client.get("/settings/").text
    client.post("/settings/", {"name": "Robert"})
    bob.refresh_from_db()
    assert bob.name == "Robert"


def test_it_changes_nothing_but_the_name(client, bob):
    client.post("/settings/", {"name": "Bob", "email": "eve@example.com", "is_superuser": "on"})
    bob.refresh_from_db()
    assert bob.email == "bob@example.com"
    assert not bob.is_superuser


def test_a_changed_password_keeps_this_session_and_ends_the_others(client, bob):
    other = Client()
    other.force_login(bob)
    new = "eight boats, no lighthouse"
    response = client.post(
        "/accounts/password/change/", {"oldpassword": cast.PASSWORD, "password1": new, "password2": new}
    )
    assert response.url == "/settings/"
    page = client.get("/settings/")
    assert [str(each) for each in page.context["messages"]] == ["Your password is changed."]
    assert other.get("/settings/").status_code == 302


def test_a_password_is_not_changed_without_the_old_one(client, bob):
    new = "eight boats, no lighthouse"
    data = {"oldpassword": "not that", "password1": new, "password2": new}
    assert "This is not your current password." in client.post("/accounts/password/change/", data).text
    bob.refresh_from_db()
    assert bob.check_password(cast.PASSWORD)


def test_a_chosen_theme_is_in_the_first_byte_of_the_next_page(client, bob):
    assert "data-theme" not in client.get("/settings/").text
    client.post("/settings/theme/", {"theme": "dark"})
    assert 'data-theme="dark"' in client.get("/settings/").text
    assert 'data-theme="dark"' in Client(HTTP_COOKIE="theme=dark").get("/accounts/login/").text


def test_the_system_s_theme_is_chosen_by_forgetting(client, bob):
    client.post("/settings/theme/", {"theme": "dark"})
    client.post("/settings/theme/", {"theme": "system"})
    assert "data-theme" not in client.get("/settings/").text


def test_an_unknown_theme_is_refused_and_one_in_the_cookie_ignored(client, bob):
    assert client.post("/settings/theme/", {"theme": "neon"}).status_code == 400
    client.cookies["theme"] = '"><script>'
    page = client.get("/settings/").text
    assert "data-theme" not in page
    assert '"><script>' not in page


def test_choosing_goes_back_to_where_one_was_but_never_to_another_site(client):
    assert client.post("/settings/theme/", {"theme": "dark", "next": "/c/"}).url == "/c/"
    assert client.post("/settings/theme/", {"theme": "dark", "next": "//elsewhere.example"}).url == "/settings/"


def test_choosing_is_a_post(client):
    assert client.get("/settings/theme/").status_code == 405


def test_shortcuts_can_be_switched_off(client, bob):
    client.post("/settings/shortcuts/", {"shortcuts": "off"})
    assert 'data-shortcuts="off"' in client.get("/settings/").text


def test_sessions_are_listed_and_the_others_can_be_ended(client, bob):
    other = Client(HTTP_USER_AGENT="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    other.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    assert "Firefox on Linux" in client.get("/accounts/sessions/").text
    client.post("/accounts/sessions/")
    assert other.get("/settings/").status_code == 302
    assert client.get("/settings/").status_code == 200


def sessions_of(client):
    return {session.user_agent: session for session in client.get("/accounts/sessions/").context["sessions"]}


def test_one_of_the_sessions_can_be_ended(client, bob):
    phone, laptop = Client(HTTP_USER_AGENT="Phone"), Client(HTTP_USER_AGENT="Laptop")
    for each in (phone, laptop):
        each.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    page = client.post(f"/settings/sessions/{sessions_of(client)['Phone'].pk}/end/", follow=True)
    assert "That browser is signed out" in page.text
    assert set(sessions_of(client)) == {"", "Laptop"}
    assert phone.get("/settings/").status_code == 302
    assert laptop.get("/settings/").status_code == 200


def test_nobody_ends_the_session_of_somebody_else(client, bob):
    other = Client()
    other.post("/accounts/login/", {"login": cast.dora().email, "password": cast.PASSWORD})
    session = UserSession.objects.exclude(user=bob).get()
    assert client.post(f"/settings/sessions/{session.pk}/end/").status_code == 404
    assert client.get(f"/settings/sessions/{session.pk}/end/").status_code == 405
    assert Client().post(f"/settings/sessions/{session.pk}/end/").url.startswith("/accounts/login/")
    assert other.get("/settings/").status_code == 200


def test_an_authenticator_app_brings_recovery_codes_each_of_which_opens_the_account_once(client, bob, settings):
    settings.MFA_TOTP_TOLERANCE = 1  # a code's time may be over before it is sent
    client.post("/accounts/reauthenticate/", {"password": cast.PASSWORD})
    secret = re.search(r"[A-Z2-7]{32}", client.get("/accounts/2fa/totp/activate/").text).group()
    code = format_hotp_value(hotp_value(secret, int(time.time()) // 30))
    page = client.post("/accounts/2fa/totp/activate/", {"code": code}, follow=True)
    codes = page.context["unused_codes"]
    assert page.redirect_chain[-1][0] == "/accounts/2fa/recovery-codes/"
    assert len(codes) == 10
    assert not list(page.context["messages"])
    assert all(each in page.text for each in codes)
    for attempt, signed_in in ((1, True), (2, False)):
        browser = Client()
        browser.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
        browser.post("/accounts/2fa/authenticate/", {"code": codes[0]})
        assert ("_auth_user_id" in browser.session) == signed_in, attempt
    assert "9 of 10 are left" in client.get("/accounts/2fa/recovery-codes/").text
    client.post("/accounts/2fa/recovery-codes/generate/")
    assert not set(codes) & set(client.get("/accounts/2fa/recovery-codes/").context["unused_codes"])
