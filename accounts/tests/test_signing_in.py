import re

import pytest
from django.contrib.sessions.models import Session
from django.core import mail
from django.urls import reverse

from accounts.models import SHELL_EMAIL, User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"


def sign_in(client, email, password=cast.PASSWORD, **more):
    return client.post(LOGIN, {"login": email, "password": password, **more})


def signed_in(client):
    return "_auth_user_id" in client.session


def test_it_signs_a_member_in_with_address_and_password(client):
    cast.bob()
    response = sign_in(client, "bob@example.com")
    assert response.status_code == 302
    assert response.url == "/"
    assert signed_in(client)


def test_it_takes_the_address_in_any_case(client):
    cast.bob()
    sign_in(client, "Bob@Example.com")
    assert signed_in(client)


def test_it_goes_on_to_the_page_that_was_asked_for(client):
    cast.bob()
    assert sign_in(client, "bob@example.com", next="/settings/").url == "/settings/"


def test_it_does_not_go_on_to_another_site(client):
    cast.bob()
    assert sign_in(client, "bob@example.com", next="https://elsewhere.example/").url == "/"


def test_it_asks_for_the_second_factor_of_somebody_who_has_one(client):
    cast.alice()
    assert sign_in(client, "alice@example.com").url == reverse("mfa_authenticate")
    assert not signed_in(client)


def test_it_offers_a_passkey_to_those_who_have_one(client):
    alice = cast.alice()
    sign_in(client, "alice@example.com")
    page = reverse("mfa_authenticate")
    assert "Use a passkey" not in client.get(page).text
    cast.passkey(alice)
    assert "Use a passkey" in client.get(page).text


def test_it_keeps_the_typed_address_after_a_wrong_password(client):
    cast.bob()
    response = sign_in(client, "bob@example.com", "not that")
    assert 'value="bob@example.com"' in response.text
    assert not signed_in(client)


def test_it_says_the_same_of_a_wrong_password_and_of_an_unknown_address(client):
    cast.bob()
    known = sign_in(client, "bob@example.com", "not that").text
    unknown = sign_in(client, "eve@example.com", "not that").text
    assert same(known).replace("bob@", "eve@") == same(unknown)


def test_it_does_not_sign_in_somebody_who_was_switched_off(client):
    bob = cast.bob()
    bob.is_active = False
    bob.save()
    assert sign_in(client, "bob@example.com").url == reverse("account_inactive")
    assert not signed_in(client)


def test_it_ends_the_session_of_somebody_who_is_switched_off(client):
    bob = cast.bob()
    sign_in(client, "bob@example.com")
    bob.is_active = False
    bob.save()
    assert client.get("/settings/").status_code == 302


def test_nobody_can_sign_up(client):
    response = client.post("/accounts/signup/", {"email": "eve@example.com"})
    assert not User.objects.filter(email="eve@example.com").exists()
    assert "administrator" in response.text


def test_the_reset_page_says_the_same_of_known_and_unknown_addresses(client):
    cast.bob()
    answers = []
    for email in ("bob@example.com", "eve@example.com"):
        response = client.post("/accounts/password/reset/", {"email": email}, follow=True)
        answers.append((response.redirect_chain, same(response.text)))
    assert answers[0] == answers[1]


def test_the_mail_to_an_unknown_address_offers_no_sign_up(client):
    client.post("/accounts/password/reset/", {"email": "eve@example.com"})
    assert "signup" not in mail.outbox[0].body


def test_a_forgotten_password_is_reset_by_mail(client):
    cast.bob()
    client.post("/accounts/password/reset/", {"email": "bob@example.com"})
    link = re.search(r"http://\S+", mail.outbox[0].body).group()
    page = client.get(link, follow=True)
    new = {"password1": "eight boats, no lighthouse", "password2": "eight boats, no lighthouse"}
    assert "At least ten characters" in page.text
    done = client.post(page.request["PATH_INFO"], new, follow=True)
    # The page says it; a notice that says it again would lie over it.
    assert "Your password is changed" in done.text
    assert not list(done.context["messages"])
    sign_in(client, "bob@example.com", new["password1"])
    assert signed_in(client)


def test_links_in_mails_lead_to_the_site_whatever_port_a_request_names(client, settings):
    cast.bob()
    settings.SITE_URL = "https://council.example.org"
    client.post("/accounts/password/reset/", {"email": "bob@example.com"}, headers={"host": "testserver:1234"})
    (link,) = re.findall(r"http\S+", mail.outbox[0].body)
    assert link.startswith("https://council.example.org/accounts/password/reset/key/")
    assert "testserver" not in mail.outbox[0].body


def test_a_reset_link_works_once(client):
    cast.bob()
    client.post("/accounts/password/reset/", {"email": "bob@example.com"})
    link = re.search(r"http://\S+", mail.outbox[0].body).group()
    page = client.get(link, follow=True).request["PATH_INFO"]
    client.post(page, {"password1": "eight boats, no lighthouse", "password2": "eight boats, no lighthouse"})
    assert "leads nowhere" in client.get(link, follow=True).text


@pytest.mark.parametrize("password", ["", "!shell", "shell", cast.PASSWORD])
def test_nobody_can_sign_in_as_the_shell(client, password):
    User.objects.shell()
    sign_in(client, SHELL_EMAIL, password)
    assert not signed_in(client)


def test_the_shell_gets_no_reset_link(client):
    User.objects.shell()
    client.post("/accounts/password/reset/", {"email": SHELL_EMAIL})
    assert not any("/reset/key/" in each.body for each in mail.outbox)


def test_signing_out_is_a_post(client):
    client.force_login(cast.bob())
    client.get("/accounts/logout/")
    assert signed_in(client)
    client.post("/accounts/logout/")
    assert not signed_in(client)


def same(page):
    """A page without what is new in every answer."""
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page)


def test_signing_in_begins_another_session(client, settings):
    """Whoever knew the key of the one before knows nothing."""
    bob, session = cast.bob(), client.session
    session["kept"] = True
    session.save()
    before = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = before
    sign_in(client, bob.email)
    assert signed_in(client)
    assert client.session.session_key != before
    assert not Session.objects.filter(pk=before).exists()
