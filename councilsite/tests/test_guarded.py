"""What somebody with the code in hand tried, and how it ends."""

import getpass

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core.management import call_command
from django.db import connection
from django.urls import reverse

from accounts import factors, roles
from accounts.models import User
from accounts.roles import Role
from conversations.tests import cast, links
from council.models import Deliberation, LanguageModel, Provider
from governance import audit, chain
from governance.models import Event, Tally, Verification

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct horse battery"


def administrator() -> User:
    person = User.objects.create_user("admin@example.org", PASSWORD, is_staff=True)
    person.groups.set([roles.group(Role.ADMINISTRATOR)])
    return User.objects.get(pk=person.pk)


def typed_slowly(**_) -> str:
    """A password, where nobody is put out for the time that it takes."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("0",)
    return "three brown herons"


class TestSigningInAsSomebodyElse:
    def test_an_administrator_sets_nobodys_password_and_changes_nobodys_address(self, client):
        bob = cast.bob()
        client.force_login(administrator())
        place = reverse("admin:auth_user_password_change", args=[bob.pk])
        given = {"password1": "another password entirely", "password2": "another password entirely"}
        assert client.post(place, {**given, "usable_password": "true"}).status_code == 403
        client.post(reverse("admin:accounts_user_change", args=[bob.pk]), {"email": "mine@example.org", "name": "B"})
        bob.refresh_from_db()
        assert (bob.email, bob.check_password(PASSWORD)) == ("bob@example.org", True)

    def test_codes_alone_are_no_second_factor(self, client):
        root = User.objects.create_superuser("root@example.org", PASSWORD)
        TOTP.activate(root, generate_totp_secret())
        RecoveryCodes.activate(root)
        assert factors.due(User.objects.get(pk=root.pk)) is None
        client.force_login(root)
        totp = Authenticator.objects.get(type="totp")
        client.post(reverse("admin:mfa_authenticator_delete", args=[totp.pk]), {"post": "yes"})
        assert not Authenticator.objects.exists()
        assert Event.objects.get(kind="removed").object_type == "mfa.authenticator"
        assert factors.due(User.objects.get(pk=root.pk)) is not None

    def test_nobody_locks_the_owner_of_an_account_out(self, client):
        bob, place = cast.bob(), reverse("account_login")
        for number in range(8):
            client.post(place, {"login": bob.email, "password": "wrong"}, REMOTE_ADDR=f"192.0.2.{number % 2 + 1}")
        right = links.browser().post(place, {"login": bob.email, "password": PASSWORD}, REMOTE_ADDR="198.51.100.7")
        assert right.status_code == 302

    def test_a_failure_counts_whatever_way_it_is_asked_for(self, client):
        bob, place = cast.bob(), reverse("account_login")
        wrong = {"login": bob.email, "password": "wrong"}
        client.post(place, wrong, headers={"X-Requested-With": "XMLHttpRequest"})
        assert Tally.objects.get(kind="sign-in failed").count == 1


class TestWhatIsNotInUse:
    def test_a_council_that_is_switched_off_is_not_asked_again(self, client):
        bob = cast.bob()
        conversation = links.answered(bob, cast.council())
        Deliberation.objects.get().answers.update(outcome="failed")
        council = conversation.turns.get().deliberation.council
        council.enabled = False
        council.save()
        client.force_login(bob)
        refused = client.post(f"{conversation.get_absolute_url()}retry/", {"slot": "answering:0"})
        assert "You may not ask this council any more." in refused.content.decode()
        assert Event.objects.get(kind="refused").object_id == str(conversation.pk)

    def test_what_is_behind_an_approved_model_is_not_exchanged_unseen(self, client):
        cast.council()
        keeper = administrator()
        keeper.groups.clear()
        for codename in ("view_languagemodel", "change_languagemodel", "view_provider", "change_provider"):
            keeper.user_permissions.add(roles.Permission.objects.get(codename=codename))
        client.force_login(keeper)
        model = LanguageModel.objects.select_related("provider").first()
        page = reverse("admin:council_languagemodel_change", args=[model.pk])
        form = client.get(page).context["adminform"].form
        given = {name: value for name, value in form.initial.items() if value is not None}
        assert client.post(page, {**given, "model_id": "another/model"}).status_code == 302
        model.refresh_from_db()
        assert (model.model_id, model.approval) == ("another/model", "proposed")
        place = reverse("admin:council_provider_change", args=[model.provider.pk])
        moved = {"name": "Test", "kind": "compatible", "enabled": "on", "address": "https://elsewhere.example/v1"}
        assert client.post(place, {**moved, "new_key": "sk-new-and-long-enough"}).status_code == 302
        assert set(Provider.objects.get().language_models.values_list("approval", flat=True)) == {"proposed"}
        told = Event.objects.filter(kind="changed", object_type="council.languagemodel").exclude(object_id=model.slug)
        others = LanguageModel.objects.exclude(pk=model.pk)
        assert sorted(each.object_id for each in told) == sorted(each.slug for each in others)
        for each in told:
            changes = each.details["changes"]
            decided = others.get(slug=each.object_id).decided.isoformat()
            assert each.actor == keeper.actor
            assert changes["approval"] == ["approved", "proposed"]
            assert changes["decided"] == [None, decided]
            assert changes["decided_by"] == [None, str(keeper.actor)]


class TestUnseen:
    @pytest.mark.parametrize("way", ["", "?again=1", "changes/?after=0&revision=0"])
    def test_reading_by_a_link_is_told_whatever_way_it_goes(self, client, way):
        alice, bob = cast.alice(), cast.bob()
        token = links.make(links.answered(alice, cast.council()), live=True)
        client.force_login(bob)
        for _ in range(2):
            assert client.get(f"{links.place(token)}{way}").status_code == 200
        assert [each.actor for each in Event.objects.filter(kind="link opened")] == [bob.actor]

    def test_commands_are_told(self, monkeypatch):
        call_command("createsuperuser", "--noinput", email="root@example.org")
        assert Event.objects.get(kind="joined").details == {"administrator": True, "by": "shell"}
        root = User.objects.get(email="root@example.org")
        monkeypatch.setattr(getpass, "getpass", typed_slowly)
        call_command("changepassword", root.email)
        told = Event.objects.get(kind="sign-in changed")
        assert (told.object_id, told.details) == (str(root.actor), {"what": "password set", "by": "shell"})

    def test_pages_that_were_refused_are_counted(self, client):
        somebody = User.objects.create_user("auditor@example.org")
        somebody.groups.set([roles.group(Role.AUDITOR)])
        client.force_login(User.objects.get(pk=somebody.pk))
        conversation = links.answered(cast.bob(), cast.council())
        assert client.get(f"{conversation.get_absolute_url()}export.md").status_code == 403
        assert Tally.objects.get(kind="refused").object_id.endswith("export.md")

    def test_what_providers_say_is_for_who_looks_after_them(self, client):
        from council.models import Call

        Call.objects.create(purpose="answer", model_name="M", provider_name="P", error="You asked about the heron.")
        auditor = User.objects.create_user("auditor@example.org", is_staff=True)
        auditor.groups.set([roles.group(Role.AUDITOR)])
        client.force_login(auditor)
        page = reverse("admin:council_call_changelist")
        assert "heron" not in client.get(page).content.decode()
        assert client.get(page, {"q": "heron"}).context["cl"].result_count == 0
        client.force_login(administrator())
        assert "heron" in client.get(page).content.decode()


class TestTheTrail:
    def test_who_stands_still_inside_of_a_transaction_is_put_out(self):
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            assert cursor.fetchone() == ("30s",)

    def test_an_end_that_was_cut_off_is_seen_by_the_next_look(self):
        from governance.tests.test_chain import by_force

        for _ in range(3):
            audit.record(audit.Kind.DID)
        assert chain.verify_and_keep().wrong == []
        by_force("DELETE FROM governance_event WHERE id = 3")
        (said,) = chain.verify_and_keep().wrong
        assert said.startswith("On ")
        assert Verification.objects.get().wrong == said
