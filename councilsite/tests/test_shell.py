"""The shell's address is nobody else's, on a site where the shell has never asked, too."""

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import roles, setup, signing_up
from accounts.models import SHELL_EMAIL, Invitation, SiteSettings, User
from accounts.tests import cast
from conversations import asking

pytestmark = pytest.mark.django_db
ANY_CASE = pytest.mark.parametrize("address", [SHELL_EMAIL, "Shell@Council.Invalid"])
CHOSEN = {"name": "Eve", "new_password1": cast.PASSWORD, "new_password2": cast.PASSWORD}
PEOPLE = "/admin/accounts/user/"


def nobody_has_it():
    return not User.objects.filter(email__iexact=SHELL_EMAIL).exists()


@ANY_CASE
def test_nobody_is_invited_by_it(client, address):
    client.force_login(cast.alice())
    page = client.post("/admin/accounts/invitation/add/", {"email": address, "days": "7"})
    assert "email" in page.context["adminform"].errors
    assert not Invitation.objects.exists()


@ANY_CASE
def test_nobody_joins_with_it(client, address):
    expires = timezone.now() + timedelta(days=7)
    invitation = Invitation.objects.create(email=address, created_by=cast.alice(), expires=expires)
    assert client.post(f"/join/{invitation.token}/", CHOSEN).status_code == 404
    assert nobody_has_it()


@ANY_CASE
def test_nobody_signs_up_with_it(client, address):
    SiteSettings.objects.create(pk=1, signup="open")
    client.post("/accounts/signup/", {"email": address})
    assert not any("/signup/" in each.body for each in mail.outbox)
    link = signing_up.link(address).removeprefix("http://localhost:8000")
    assert client.post(link, CHOSEN).status_code == 404
    assert nobody_has_it()


@ANY_CASE
def test_nobody_is_given_it_in_the_admin(client, address):
    client.force_login(cast.alice())
    bob = cast.bob()
    for place in ("add", f"{bob.pk}/change"):
        page = client.post(f"{PEOPLE}{place}/", {"email": address, "name": "Eve", "is_active": "on"})
        assert "email" in page.context["adminform"].errors
    assert nobody_has_it()


@ANY_CASE
def test_nobody_changes_their_own_to_it(client, address):
    bob = cast.bob()
    client.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    page = client.post("/accounts/email/", {"email": address, "action_add": ""})
    assert "Somebody else uses this address." in page.text
    assert not EmailAddress.objects.filter(email__iexact=SHELL_EMAIL).exists()


@ANY_CASE
def test_no_administrator_begins_with_it(client, address):
    given = {"name": "Eve", "email": address, "password1": cast.PASSWORD, "password2": cast.PASSWORD}
    assert "email" in client.post(setup.link(), given).context["form"].errors
    with pytest.raises(CommandError, match="Somebody else uses this address"):
        call_command("createsuperuser", "--noinput", email=address)
    assert nobody_has_it()


@pytest.fixture
def eve():
    """Who has it all the same, and may do nothing."""
    eve = User.objects.create(email=SHELL_EMAIL, name="Eve")
    eve.set_password(cast.PASSWORD)
    eve.save()
    return eve


def test_whoever_can_sign_in_has_none_of_the_shell_s_rights(eve):
    assert not eve.may(roles.ASK)
    assert asking.room(eve)
    eve.is_active = False
    assert not eve.may(roles.ASK)  # as long as there is a password, they may be let in again


def test_nothing_is_asked_from_the_shell_in_their_name(eve):
    with pytest.raises(CommandError, match="Somebody else has the shell's address") as refused:
        call_command("ask", "What now?")
    assert refused.value.returncode == 2


def test_they_can_be_switched_off(client, eve):
    client.force_login(cast.stan())
    client.post(PEOPLE, {"action": "deactivate", "_selected_action": [eve.pk]})
    eve.refresh_from_db()
    assert not eve.is_active


def test_the_shell_itself_asks_as_often_as_it_likes():
    shell = User.objects.shell()
    assert shell.may(roles.ASK)
    assert asking.room(shell) == []
    assert User.objects.shell() == shell
