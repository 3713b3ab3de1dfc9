"""Who may make an account without being invited, and what nobody can find out that way."""

import re
import time
from importlib import import_module

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.core import mail, signing
from django.test import Client

from accounts import joining
from accounts.forms import JoinForm
from accounts.models import SiteSettings, User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
SIGN_UP = "/accounts/signup/"
CHOSEN = {"name": "Eve", "new_password1": cast.PASSWORD, "new_password2": cast.PASSWORD}
DOMAINS = "example.com\n@Example.ORG\n"


def let_in(signup, domains=""):
    SiteSettings.objects.update_or_create(pk=1, defaults={"signup": signup, "domains": domains})


def sign_up(client, email="eve@example.com", **more):
    return client.post(SIGN_UP, {"email": email, **more}, follow=True)


def link():
    """That of the last mail."""
    return re.search(r"http://localhost:8000(/signup/\S+)", mail.outbox[-1].body)[1]


def answer(page, email):
    """All that somebody is told, without what is new in every answer and what they said themselves."""
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page.text).replace(email, "")
    return page.status_code, tuple(page.redirect_chain), text


def test_nobody_may_unless_the_settings_say_so(client):
    assert "Accounts are by invitation" in sign_up(client).text
    assert not User.objects.exists()


@pytest.mark.parametrize(("signup", "offered"), [("closed", False), ("domains", True), ("open", True)])
def test_the_page_to_sign_in_offers_it_where_it_is_open(client, signup, offered):
    cast.alice()
    let_in(signup, DOMAINS)
    page = client.get("/accounts/login/").text
    assert (SIGN_UP in page) == offered
    assert ("Ask your administrator" in page) != offered


def test_where_it_is_open_a_mail_leads_to_name_and_password_and_then_one_is_in(client):
    let_in("open")
    assert "Look in your mail" in sign_up(client, "Eve@Example.com").text
    assert mail.outbox[0].to == ["eve@example.com"]
    assert not User.objects.exists()
    assert "eve@example.com" in client.get(link()).text
    client.post(link(), CHOSEN)
    eve = User.objects.get()
    assert (eve.email, eve.name, eve.is_staff) == ("eve@example.com", "Eve", False)
    assert client.get("/settings/").context["user"] == eve
    another = Client()
    another.post("/accounts/login/", {"login": eve.email, "password": cast.PASSWORD})
    assert another.get("/settings/").context["user"] == eve


def test_its_link_makes_one_account_and_then_looks_like_any_that_does_not_work(client):
    let_in("open")
    sign_up(client)
    used = link()
    Client().post(used, CHOSEN)
    late = signing.dumps("ida@example.com", salt="accounts.signing_up") + "x"
    pages = [client.get(used, follow=True), client.post(used, CHOSEN | {"name": "Another"}, follow=True)]
    pages += [client.get(f"/signup/{late}/", follow=True)]
    assert len({answer(page, "") for page in pages}) == 1
    assert pages[0].status_code == 404
    assert User.objects.get().name == "Eve"


@pytest.mark.parametrize("why", ["it is a day old", "sign-up was closed", "the domain is none any more"])
def test_its_link_ends_with_what_it_rests_on(client, why, monkeypatch):
    let_in("domains", DOMAINS)
    sign_up(client)
    assert client.get(link()).status_code == 200
    match why:
        case "it is a day old":
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now + 24 * 3600 + 1)
        case "sign-up was closed":
            let_in("closed")
        case _:
            let_in("domains", "example.net")
    assert client.get(link()).status_code == 404
    assert client.post(link(), CHOSEN).status_code == 404
    assert not User.objects.exists()


def test_it_refuses_what_no_account_can_have_and_keeps_the_name(client):
    let_in("open")
    sign_up(client)
    page = client.post(link(), CHOSEN | {"new_password2": "another one"})
    assert page.context["form"].errors
    assert 'value="Eve"' in page.text
    assert not User.objects.exists()


def test_two_mails_at_once_make_one_account(client):
    let_in("open")
    sign_up(client)
    first, second = (JoinForm("eve@example.com", CHOSEN | {"name": name}) for name in ("Eve", "Ida"))
    assert first.is_valid()
    assert second.is_valid()
    assert joining.join(first)
    assert joining.join(second) is None
    assert User.objects.get().name == "Eve"


def test_after_signing_up_the_page_to_sign_in_says_the_same_of_known_and_unknown_addresses(client):
    let_in("open")
    cast.bob()
    User.objects.create_user("off@example.com", cast.PASSWORD, is_active=False).vouch_for_address()
    answers = set()
    for email in ("bob@example.com", "off@example.com", "eve@example.com"):
        browser = Client()
        page = browser.post(SIGN_UP, {"email": email, "password1": "a password of my own"}, follow=True)
        told = [answer(page, email)]
        told += [answer(browser.get(place, follow=True), email) for place in ("/", "/accounts/login/", SIGN_UP)]
        for password in ("a password of my own", "another one"):
            page = browser.post("/accounts/login/", {"login": email, "password": password}, follow=True)
            told.append(answer(page, email))
        answers.add(repr(told) + repr(sorted(browser.cookies)))
    assert len(answers) == 1


def test_nobody_chooses_a_password_for_an_address_that_is_proved_later(client):
    let_in("open")
    stranger = Client()
    stranger.post(SIGN_UP, {"email": "eve@example.com", "password1": "the stranger's own", "name": "Mallory"})
    client.get(link())
    client.post(link(), CHOSEN)
    for browser in (stranger, Client()):
        browser.post("/accounts/login/", {"login": "eve@example.com", "password": "the stranger's own"})
        assert "_auth_user_id" not in browser.session
    assert User.objects.get().check_password(cast.PASSWORD)
    assert User.objects.get().name == "Eve"


def test_an_account_that_nobody_proved_gives_way_to_whoever_reads_the_mail(client):
    let_in("open")
    unproven = User.objects.create_user("eve@example.com", "the stranger's own", name="Mallory")
    sign_up(client)
    client.post(link(), CHOSEN)
    eve = User.objects.get()
    assert (eve.pk, eve.name, eve.check_password(cast.PASSWORD)) == (unproven.pk, "Eve", True)


def test_passwords_from_before_an_address_was_proved_are_forgotten_by_the_upgrade():
    bob, stan = cast.bob(), cast.stan()
    eve = User.objects.create_user("eve@example.com", "the stranger's own")
    EmailAddress.objects.create(user=eve, email=eve.email, primary=True, verified=False)
    upgrade = import_module("accounts.migrations.0005_unproven_accounts")
    upgrade.forget_passwords(apps, None)
    assert not User.objects.get(pk=eve.pk).has_usable_password()
    assert all(User.objects.get(pk=each.pk).check_password(cast.PASSWORD) for each in (bob, stan))


def test_whoever_is_signed_in_is_told_so(client):
    let_in("open")
    sign_up(client)
    client.force_login(cast.bob())
    for page in (client.get(link()), client.post(link(), CHOSEN)):
        assert "signed in as <strong>bob@example.com</strong>" in page.text
    assert User.objects.count() == 1


def test_a_link_that_proves_nothing_says_so(client):
    page = client.get("/accounts/confirm-email/nothing/")
    assert "leads nowhere" in page.text


@pytest.mark.parametrize("email", ["eve@example.com", "EVE@EXAMPLE.COM", "eve@example.org"])
def test_whoever_has_an_address_in_a_domain_may(client, email):
    let_in("domains", DOMAINS)
    assert "Look in your mail" in sign_up(client, email).text
    assert mail.outbox[0].to == [email.lower()]


@pytest.mark.parametrize("email", ["eve@example.net", "eve@mail.example.com", "eve@notexample.com"])
def test_others_are_told_which_domains_may_and_what_they_typed_is_kept(client, email):
    let_in("domains", DOMAINS)
    page = sign_up(client, email)
    assert page.context["form"].errors == {"email": ["This address is in none of the domains that can sign up."]}
    assert page.text.count("in one of these domains can sign up: example.com, example.org.") == 1
    assert f'value="{email}"' in page.text
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
    assert "choose a name and a password here" in mail.outbox[1].body
    assert User.objects.get().check_password(cast.PASSWORD)


@pytest.mark.parametrize("email", ["bob@example.com", "eve@example.com"])
def test_nobody_has_an_address_flooded_with_mails(client, email):
    let_in("open")
    cast.bob()
    for _ in range(3):
        assert "Look in your mail" in sign_up(client, email).text
    assert len(mail.outbox) == 1


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
        page = sign_up(client, "eve@example.net")
    assert page.status_code == 429
    assert "too often. Try again in 1 minute." in page.text
    assert page["Retry-After"] == "60"
