"""Whoever works in the admin needs a second factor, after days of grace; what it is made of is kept encrypted."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import SiteSettings, User
from accounts.tests.cast import PASSWORD
from council.models import Provider
from council.tests import rosters
from governance.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(client):
    person = User.objects.create_superuser("root@example.org", PASSWORD)
    client.force_login(person)
    return person


def grown(person, **age):
    User.objects.filter(pk=person.pk).update(date_joined=timezone.now() - timedelta(**age))


class TestTheGrace:
    def test_for_some_days_it_is_asked_for_and_then_it_is_needed(self, client, root):
        page = client.get("/admin/")
        assert page.status_code == 200
        assert "Set up a second factor" in page.content.decode()
        grown(root, days=6)
        assert client.get("/admin/").status_code == 200
        grown(root, days=8)
        for place in ("/admin/", "/admin/council/provider/", "/admin/login/"):
            landed = client.get(place, follow=True)
            assert landed.redirect_chain[-1][0].startswith("/accounts/"), place
        assert "The administration needs a second factor." in landed.content.decode()

    def test_the_days_are_an_administrators(self, client, root):
        SiteSettings.objects.create(pk=1, factor_grace_days=0)
        assert client.get("/admin/").status_code == 302
        SiteSettings.objects.update(factor_grace_days=30)
        grown(root, days=8)
        assert client.get("/admin/").status_code == 200

    def test_who_has_one_is_not_asked(self, client, root):
        TOTP.activate(root, generate_totp_secret())
        grown(root, days=100)
        page = client.get("/admin/")
        assert page.status_code == 200
        assert "Set up a second factor" not in page.content.decode()

    def test_it_opens_nothing_to_who_is_not_of_the_staff(self, client):
        client.force_login(User.objects.create_user("new@example.org"))
        assert client.get("/admin/", follow=True).status_code == 403


class TestSecrets:
    def test_those_of_second_factors_are_encrypted(self, root):
        secret = generate_totp_secret()
        TOTP.activate(root, secret)
        stored = Authenticator.objects.get().data["secret"]
        assert secret not in stored
        assert stored.startswith("gAAAA")

    def test_all_are_encrypted_anew(self, root, settings, capsys):
        rosters.provider()
        TOTP.activate(root, generate_totp_secret())
        before = Provider.objects.values_list("api_key", flat=True)[0], Authenticator.objects.get().data["secret"]
        old = settings.FIELD_KEYS
        settings.FIELD_KEYS = [Fernet.generate_key().decode(), *old]
        call_command("rotate_secrets")
        assert "2 secrets are encrypted" in capsys.readouterr().out or Event.objects.exists()
        settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
        assert Provider.objects.get().api_key == rosters.KEY
        assert TOTP(Authenticator.objects.get()).validate_code("x") is False
        now = Provider.objects.values_list("api_key", flat=True)[0], Authenticator.objects.get().data["secret"]
        assert set(before).isdisjoint(now)
        assert Event.objects.filter(object_type="key ring").exists()

    def test_what_cannot_be_read_is_said_and_left(self, settings):
        rosters.provider()
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(CommandError, match=r"council\.Provider \d+"):
            call_command("rotate_secrets")
