"""A key ring that has lost its keys: the site starts, people ask, and what was encrypted is good for nothing."""

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from accounts.models import User
from conversations import asking
from conversations.tests import cast
from councilsite import preparing
from councilsite.tests.test_guarded import PASSWORD, administrator
from governance import audit
from governance.models import AuditKey, Event

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lost(settings):
    """From here on the ring has another key."""

    def lose() -> None:
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        audit._key.clear()

    audit._key.clear()
    audit.key()
    yield lose
    AuditKey.objects.all().delete()
    audit._key.clear()


def test_the_site_starts_and_people_ask_and_are_told_of(lost):
    lost()
    preparing.tables(print)
    bob = cast.bob()
    asking.ask(bob, "What now?", cast.council())
    event = Event.objects.get(kind="asked")
    assert event.actor == bob.actor
    assert event.details["question"].startswith("passing ")


def test_administrators_go_on(lost, client):
    lost()
    bob = cast.bob()
    client.force_login(administrator())
    given = {"email": bob.email, "name": "Robert", "is_active": "on"}
    assert client.post(reverse("admin:accounts_user_change", args=[bob.pk]), given).status_code == 302
    assert User.objects.get(pk=bob.pk).name == "Robert"
    assert "name" in Event.objects.get(kind="changed").details["changes"]
    page = client.post(reverse("admin:governance_event_head"), follow=True).content.decode()
    assert "FIELD_KEYS" in page


def test_no_head_is_signed(lost):
    lost()
    with pytest.raises(CommandError, match="FIELD_KEYS"):
        call_command("audit_head")


def test_no_code_of_an_app_is_right(lost):
    bob = cast.bob()
    bob.vouch_for_address()
    TOTP.activate(bob, generate_totp_secret())
    lost()
    browser = Client()
    browser.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
    answer = browser.post(reverse("mfa_authenticate"), {"code": "123456"})
    assert answer.status_code == 200
    assert "Incorrect code" in answer.content.decode()
    assert Authenticator.objects.exists()
