"""Who may make an account without being invited, and what nobody can find out that way."""

import re

import pytest
from django.contrib.auth import hashers
from django.core import mail

from accounts.forms import SignupForm
from accounts.models import SiteSettings, User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
SIGN_UP = "/accounts/signup/"
DOMAINS = "example.com\n@Example.ORG\n"


def let_in(signup, domains=""):
    SiteSettings.objects.update_or_create(pk=1, defaults={"signup": signup, "domains": domains})


def sign_up(client, email="eve@example.com", **more):
    return client.post(SIGN_UP, {"name": "Eve", "email": email, "password1": cast.PASSWORD, **more}, follow=True)


def answer(page, email):
    """All that somebody is told, without what is new in every answer and what they said themselves."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page.text).replace(email, "")
    return page.status_code, page.redirect_chain, text


def test_nobody_may_unless_the_settings_say_so(client):
    assert "Accounts are given out" in sign_up(client).text
    assert not User.objects.exists()


@pytest.mark.parametrize(("signup", "offered"), [("closed", False), ("domains", True), ("open", True)])
def test_the_page_to_sign_in_offers_it_where_it_is_open(client, signup, offered):
    cast.alice()
    let_in(signup, DOMAINS)
    page = client.get("/accounts/login/").text
    assert (SIGN_UP in page) == offered
    assert ("Ask your administrator" in page) != offered


def test_where_it_is_open_a_mail_proves_the_address_and_then_one_can_sign_in(client):
    let_in("open")
    page = sign_up(client, "Eve@Example.com")
    assert "Look in your mail" in page.text
    eve = User.objects.get()
    assert (eve.email, eve.name, eve.is_staff) == ("eve@example.com", "Eve", False)
    client.post("/accounts/login/", {"login": eve.email, "password": cast.PASSWORD})
    assert "_auth_user_id" not in client.session
    link = re.search(r"http://\S+", mail.outbox[0].body).group()
    assert "eve@example.com" in client.get(link).text
    assert "_auth_user_id" not in client.session
    client.post(link)
    client.post("/accounts/login/", {"login": eve.email, "password": cast.PASSWORD})
    assert client.get("/settings/").context["user"] == eve


def test_a_link_that_proves_nothing_says_so(client):
    page = client.get("/accounts/confirm-email/nothing/")
    assert "does not work" in page.text


@pytest.mark.parametrize("email", ["eve@example.com", "EVE@EXAMPLE.COM", "eve@example.org"])
def test_whoever_has_an_address_in_a_domain_may(client, email):
    let_in("domains", DOMAINS)
    assert "Look in your mail" in sign_up(client, email).text
    assert User.objects.filter(email=email.lower()).exists()


@pytest.mark.parametrize("email", ["eve@example.net", "eve@mail.example.com", "eve@notexample.com"])
def test_others_are_told_which_domains_may_and_what_they_typed_is_kept(client, email):
    let_in("domains", DOMAINS)
    page = sign_up(client, email)
    assert page.context["form"].errors == {
        "email": ["Whoever has an address in one of these domains can sign up: example.com, example.org."]
    }
    assert f'value="{email}"' in page.text
    assert 'value="Eve"' in page.text
    assert not User.objects.exists()
    assert not mail.outbox


def test_an_account_in_another_domain_is_refused_like_no_account(client):
    let_in("domains", "example.org")
    cast.bob()
    known, unknown = (answer(sign_up(client, email), email) for email in ("bob@example.com", "eve@example.com"))
    assert known == unknown


def test_it_says_the_same_of_known_and_unknown_addresses_and_only_the_mail_differs(client):
    let_in("open")
    cast.bob()
    known, unknown = (answer(sign_up(client, email), email) for email in ("bob@example.com", "eve@example.com"))
    assert known == unknown
    assert [each.to for each in mail.outbox] == [["bob@example.com"], ["eve@example.com"]]
    assert "has an account already" in mail.outbox[0].body
    assert "confirm it here" in mail.outbox[1].body
    assert User.objects.get(email="bob@example.com").check_password(cast.PASSWORD)
    assert User.objects.count() == 2


def test_a_refused_password_is_refused_for_known_and_unknown_addresses_alike(client):
    let_in("open")
    cast.bob()
    emails = ("bob@example.com", "eve@example.com")
    known, unknown = (answer(sign_up(client, email, password1="password"), email) for email in emails)
    assert known == unknown


def test_it_works_as_hard_for_a_known_address_as_for_an_unknown_one(client, monkeypatch):
    let_in("open")
    cast.bob()
    hashed = []
    hasher = hashers.get_hasher().__class__
    encode = hasher.encode
    monkeypatch.setattr(hasher, "encode", lambda *given: hashed.append(given[1]) or encode(*given))
    sign_up(client, "bob@example.com")
    known = list(hashed)
    hashed.clear()
    sign_up(client, "eve@example.com")
    assert known == hashed == [cast.PASSWORD]


def test_the_same_address_at_the_same_moment_makes_one_account(client, monkeypatch):
    let_in("open")
    try_save = SignupForm.try_save

    def another_is_faster(self, request):
        User.objects.create_user("eve@example.com", "the first one's password")
        return try_save(self, request)

    monkeypatch.setattr(SignupForm, "try_save", another_is_faster)
    assert "Look in your mail" in sign_up(client).text
    assert User.objects.get().check_password("the first one's password")


def test_changing_to_an_address_says_the_same_of_known_and_unknown_ones(client):
    bob = cast.bob()
    cast.alice()
    client.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    answers = []
    for email in ("alice@example.com", "eve@example.com"):
        page = client.post("/accounts/email/", {"email": email, "action_add": ""}, follow=True)
        answers.append(answer(page, email))
        client.post("/accounts/email/", {"email": email, "action_remove": ""})
    assert answers[0] == answers[1]


def test_whoever_tries_too_often_is_told_to_wait(client):
    let_in("open")
    for _ in range(25):
        page = sign_up(client, "eve@example.net", password1="x")
    assert page.status_code == 429
    assert "too often" in page.text
