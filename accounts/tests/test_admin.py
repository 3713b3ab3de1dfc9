import re

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import User
from accounts.tests import cast

pytestmark = pytest.mark.django_db
PEOPLE = "/admin/accounts/user/"


@pytest.fixture
def alice(client):
    alice = cast.alice()
    client.force_login(alice)
    return alice


def change(client, user, **more):
    """Save somebody's form as it stands, but for what is given; None leaves a box empty."""
    form = {"email": user.email, "name": user.name}
    form |= {right: "on" for right in ("is_active", "is_staff", "is_superuser") if getattr(user, right)}
    form = {name: value for name, value in (form | more).items() if value is not None}
    return client.post(f"{PEOPLE}{user.pk}/change/", form)


def test_it_sends_strangers_to_the_site_s_own_sign_in(client):
    page = client.get("/admin/", follow=True)
    assert page.redirect_chain[-1][0].startswith("/accounts/login/?next=")


def test_it_tells_members_clearly_that_they_may_not(client):
    client.force_login(cast.bob())
    page = client.get("/admin/", follow=True)
    assert page.status_code == 403
    assert "bob@example.com" in page.text


def test_it_shows_administrators_everything(client, alice):
    page = client.get("/admin/")
    assert page.status_code == 200
    assert PEOPLE in page.text
    assert 'action="/accounts/logout/"' in page.text


def test_a_new_person_can_sign_in_without_any_mail(client, alice):
    client.post(f"{PEOPLE}add/", {"email": "New@Example.com", "name": "New"})
    new = User.objects.get(email="new@example.com")
    given = {"password1": cast.PASSWORD, "password2": cast.PASSWORD, "usable_password": "true"}
    client.post(f"{PEOPLE}{new.pk}/password/", given)
    client.logout()
    client.post("/accounts/login/", {"login": "new@example.com", "password": cast.PASSWORD})
    assert "_auth_user_id" in client.session


def test_an_address_differs_by_more_than_case(client, alice):
    cast.bob()
    page = client.post(f"{PEOPLE}add/", {"email": "BOB@example.com"})
    assert "email" in page.context["adminform"].errors


def test_nobody_is_given_an_address_that_somebody_else_has_proved_theirs(client, alice):
    EmailAddress.objects.create(user=cast.bob(), email="robert@example.com", verified=True)
    page = client.post(f"{PEOPLE}add/", {"email": "robert@example.com"})
    assert "email" in page.context["adminform"].errors


def test_a_changed_address_is_the_one_that_signs_in(client, alice):
    bob = cast.bob()
    assert change(client, bob, email="robert@example.com").status_code == 302
    assert [address.email for address in EmailAddress.objects.filter(user=bob)] == ["robert@example.com"]


def test_people_are_switched_off_and_not_deleted(client, alice):
    bob = cast.bob()
    assert client.post(f"{PEOPLE}{bob.pk}/delete/", {"post": "yes"}).status_code == 403
    change(client, bob, is_active=None)
    bob.refresh_from_db()
    assert not bob.is_active


@pytest.mark.parametrize("right", ["is_active", "is_superuser"])
def test_the_last_administrator_stays_one(client, alice, right):
    page = change(client, alice, **{right: None})
    assert "only administrator" in page.text
    alice.refresh_from_db()
    assert alice.is_active
    assert alice.is_superuser


def test_one_of_two_administrators_can_be_switched_off(client, alice):
    second = User.objects.create_superuser("ada@example.com", cast.PASSWORD)
    change(client, second, is_active=None)
    second.refresh_from_db()
    assert not second.is_active


def test_staff_cannot_give_themselves_rights(client):
    stan, bob = cast.stan(), cast.bob()
    client.force_login(stan)
    change(client, stan, is_superuser="on")
    change(client, bob, is_superuser="on", is_staff="on", name="Robert")
    stan.refresh_from_db()
    bob.refresh_from_db()
    assert not stan.is_superuser
    assert (bob.name, bob.is_staff, bob.is_superuser) == ("Robert", False, False)


def test_staff_cannot_touch_an_administrator(client):
    alice = cast.alice()
    client.force_login(cast.stan())
    assert change(client, alice, email="stan2@example.com").status_code == 403
    new = {"usable_password": "true", "password1": "mine now, all of it", "password2": "mine now, all of it"}
    assert client.post(f"{PEOPLE}{alice.pk}/password/", new).status_code == 403
    alice.refresh_from_db()
    assert alice.check_password(cast.PASSWORD)


def test_nobody_changes_the_shell_s_account(client, alice):
    shell = User.objects.shell()
    assert change(client, shell, is_active="on").status_code == 403
    new = {"usable_password": "true", "password1": "a way in, for sure", "password2": "a way in, for sure"}
    assert client.post(f"{PEOPLE}{shell.pk}/password/", new).status_code == 403


def test_a_lost_second_factor_can_be_taken_away_but_not_seen(client, alice):
    factor = Authenticator.objects.get(user=cast.stan(), type=Authenticator.Type.TOTP)
    page = client.get(f"/admin/mfa/authenticator/{factor.pk}/change/").text
    assert factor.data["secret"] not in page
    client.post(f"/admin/mfa/authenticator/{factor.pk}/delete/", {"post": "yes"})
    assert not Authenticator.objects.filter(pk=factor.pk).exists()


def test_its_pages_keep_to_the_content_security_policy(client, alice):
    for address in ("/admin/", PEOPLE, f"{PEOPLE}add/", f"{PEOPLE}{alice.pk}/change/"):
        page = client.get(address).text
        assert not re.search(r'<style|\sstyle="|\son\w+="|<script(?![^>]*(\bsrc=|application/json))', page), address


def deactivate(client, *people):
    chosen = {"action": "deactivate", "_selected_action": [person.pk for person in people]}
    return client.post(PEOPLE, chosen, follow=True)


@pytest.mark.parametrize("how", ["the form", "the action"])
def test_whoever_is_deactivated_is_signed_out_everywhere_and_can_come_back(client, alice, how):
    bob, browser = cast.bob(), Client()
    browser.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    assert browser.get("/settings/").status_code == 200
    if how == "the form":
        change(client, bob, is_active=None)
    else:
        assert "Deactivated: bob@example.com" in deactivate(client, bob).text
    assert browser.get("/settings/").status_code == 302
    assert not Session.objects.filter(pk=browser.cookies["sessionid"].value).exists()
    bob.refresh_from_db()
    change(client, bob, is_active="on")
    assert browser.get("/settings/").status_code == 302
    browser.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    assert browser.get("/settings/").status_code == 200


def test_what_else_is_changed_signs_nobody_out(client, alice):
    bob, browser = cast.bob(), Client()
    browser.force_login(bob)
    change(client, bob, name="Robert")
    assert browser.get("/settings/").status_code == 200


def test_the_last_administrator_is_not_deactivated_with_the_others(client, alice):
    ada, bob = User.objects.create_superuser("ada@example.com", cast.PASSWORD), cast.bob()
    page = deactivate(client, ada, alice, bob)
    active = set(User.objects.filter(is_active=True))
    assert len(active & {ada, alice}) == 1
    assert bob not in active
    assert page.request["PATH_INFO"] in {PEOPLE, "/accounts/login/"}


def test_staff_deactivate_members_but_no_administrator(client):
    alice, bob = cast.alice(), cast.bob()
    client.force_login(cast.stan())
    page = deactivate(client, alice, bob).text
    assert "You may not change alice@example.com" in page
    assert list(User.objects.filter(is_active=False)) == [bob]


def test_an_administrator_can_deactivate_their_own_account_where_there_is_another(client, alice):
    User.objects.create_superuser("ada@example.com", cast.PASSWORD)
    client.logout()
    client.force_login(alice)
    assert change(client, alice, is_active=None).status_code == 302
    assert client.get("/settings/").status_code == 302
