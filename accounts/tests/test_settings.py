import pytest
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
    assert client.get("/settings/").status_code == 200
    assert other.get("/settings/").status_code == 302


def test_a_password_is_not_changed_without_the_old_one(client, bob):
    new = "eight boats, no lighthouse"
    client.post("/accounts/password/change/", {"oldpassword": "not that", "password1": new, "password2": new})
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
