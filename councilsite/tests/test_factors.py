"""Whoever works in the admin needs a second factor, after days of grace; what it is made of is kept encrypted."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from accounts.models import Invitation, SiteSettings, User
from accounts.tests.cast import PASSWORD
from conversations import sharing
from conversations.models import Share
from conversations.tests import links
from council.models import Provider
from council.tests import rosters
from councilsite.tests.test_guarded import administrator
from governance import audit
from governance.models import AuditKey, Event

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

    @pytest.mark.parametrize("superuser", [True, False])
    def test_only_a_superuser_decides_for_how_many(self, client, root, superuser):
        client.force_login(root if superuser else administrator())
        SiteSettings.objects.create(pk=1, factor_grace_days=7)
        place = reverse("admin:accounts_sitesettings_change", args=[1])
        given = {"signup": "open", "domains": "", "factor_grace_days": "90"}
        assert client.post(place, given).status_code == 302
        decided = SiteSettings.objects.get()
        assert (decided.signup, decided.factor_grace_days) == ("open", 90 if superuser else 7)

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

    def test_all_are_encrypted_anew_and_can_be_read_without_the_old_key(self, root, settings, capsys):
        provider = rosters.provider()
        TOTP.activate(root, generate_totp_secret())
        token = links.make(links.answered(root, rosters.council(provider)))
        invitation = Invitation.objects.create(
            email="new@example.org", created_by=root, expires=timezone.now() + timedelta(days=1)
        )
        key = audit.key()

        def stored() -> list[str]:
            columns = ((Provider, "api_key"), (Share, "token"), (Invitation, "token"), (AuditKey, "secret"))
            return [model.objects.values_list(column, flat=True).get() for model, column in columns] + [
                Authenticator.objects.get().data["secret"]
            ]

        before = stored()
        settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
        call_command("rotate_secrets")
        assert capsys.readouterr().out.startswith("5 secrets are encrypted")
        assert set(before).isdisjoint(stored())
        settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
        assert Provider.objects.get().api_key == rosters.KEY
        assert TOTP(Authenticator.objects.get()).validate_code("x") is False
        assert sharing.token_of(Share.objects.get()) == token
        assert Invitation.objects.get().token == invitation.token
        assert audit.key() == key
        assert Event.objects.get(object_type="key ring").details == {"by": "shell", "encrypted": 5, "unreadable": 0}

    def test_what_cannot_be_read_is_said_and_left(self, settings):
        rosters.provider()
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        with pytest.raises(CommandError, match=r"council\.Provider \d+"):
            call_command("rotate_secrets")
