"""What could once be done without a word in the audit trail."""

import json
import time
from uuid import uuid4

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    generate_totp_secret,
)
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import limits
from accounts.limits import Per, What
from accounts.models import Invitation, Limit
from accounts.tests.cast import passkey
from conversations import asking, sharing
from conversations.models import Share
from conversations.tests import cast, links
from council import catalogue
from council.models import Council, Deliberation, LanguageModel, Provider
from councilsite.tests.test_guarded import PASSWORD, administrator
from governance import audit
from governance.models import Event, Tally

pytestmark = pytest.mark.django_db(transaction=True)

LOGIN = "/accounts/login/"
NEW = {"password1": "three brown herons", "password2": "three brown herons"}


def kinds() -> list[str]:
    return list(Event.objects.order_by("id").values_list("kind", flat=True))


def counted(kind: str) -> int:
    return sum(Tally.objects.filter(kind=kind).values_list("count", flat=True))


def signed_in(person) -> Client:
    person.vouch_for_address()
    browser = Client()
    browser.post(LOGIN, {"login": person.email, "password": PASSWORD})
    session = browser.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session.save()
    return browser


def breaks(*_args, **_more):
    raise RuntimeError("The trail is away.")


class TestOfSignIn:
    def test_recovery_codes_that_are_seen_are_told(self):
        bob = cast.bob()
        browser = signed_in(bob)
        TOTP.activate(bob, generate_totp_secret())
        RecoveryCodes.activate(bob)
        for name in ("mfa_view_recovery_codes", "mfa_download_recovery_codes"):
            assert browser.get(reverse(name)).status_code == 200
        told = [each.details["what"] for each in Event.objects.filter(kind="did").order_by("id")]
        assert told == ["recovery codes seen", "recovery codes downloaded"]

    def test_a_name_of_ones_own_is_told_without_it(self):
        bob = cast.bob()
        signed_in(bob).post(reverse("settings"), {"name": "Somebody else"})
        event = Event.objects.get(kind="changed")
        assert (event.actor, event.details) == (bob.actor, {"what": "own name"})

    def test_guesses_of_a_password_are_counted_wherever_they_are_made(self):
        browser = signed_in(cast.bob())
        browser.post(reverse("account_change_password"), {"oldpassword": "a guess", **NEW})
        assert counted("sign-in failed") == 1
        browser.post(reverse("account_reauthenticate"), {"password": "another"})
        assert counted("sign-in failed") == 2

    def test_a_wrong_passkey_is_counted(self):
        answer = {"clientDataJSON": "e30", "authenticatorData": "AA", "signature": "AA", "userHandle": "MQ"}
        key = {"id": "a", "rawId": "YQ", "type": "public-key", "response": answer}
        Client().post(reverse("mfa_login_webauthn"), {"credential": json.dumps(key)})
        assert counted("sign-in failed") == 1

    def test_tries_that_a_limit_refuses_are_counted(self):
        bob = cast.bob()
        for _ in range(7):
            Client().post(LOGIN, {"login": bob.email, "password": "wrong"})
        assert (counted("sign-in failed"), counted("refused")) == (5, 2)

    def test_a_network_of_ipv6_is_one_address(self):
        bob = cast.bob()
        for number in range(7):
            Client().post(LOGIN, {"login": bob.email, "password": "wrong"}, REMOTE_ADDR=f"2001:db8::{number:x}")
        assert counted("sign-in failed") == 5

    def test_what_is_counted_is_not_pushed_out_by_others(self):
        for number in range(400):
            cache.set(f"somebody else {number}".replace(" ", "-"), 1)
        cache.set("mine", 1)
        for number in range(400):
            cache.set(f"another-{number}", 1)
        assert cache.get("mine") == 1


class TestOfWhatIsSomebodyElses:
    def refusals(self) -> list[tuple[str, str, int]]:
        found = Tally.objects.filter(kind="refused").order_by("object_type", "object_id")
        return list(found.values_list("object_type", "object_id", "count"))

    @pytest.mark.parametrize("there", [True, False])
    def test_a_conversation_is_counted_and_answered_like_one_that_is_not_there(self, there):
        conversation = links.answered(cast.alice(), cast.council())
        place = conversation.get_absolute_url() if there else reverse("conversation", args=[uuid4()])
        browser = links.browser(cast.bob())
        with CaptureQueriesContext(connection) as asked:
            answer = browser.get(place)
        assert (answer.status_code, len(asked)) == (404, 4)
        assert self.refusals() == [("page", "c/<uuid:conversation_id>/", 1)]

    def test_so_is_a_passkey(self):
        alice, browser = cast.alice(), signed_in(cast.bob())
        passkey(alice)
        place = reverse("mfa_remove_webauthn", args=[alice.authenticator_set.get().pk])
        assert browser.post(place).status_code == 404
        assert self.refusals() == [("page", "accounts/2fa/webauthn/keys/<int:pk>/remove/", 1)]

    def test_so_is_a_link_that_does_not_open(self):
        browser = links.browser(cast.bob())
        assert browser.get(links.place("no-such-link")).status_code == 404
        assert self.refusals() == [("page", "s/<str:token>/", 1)]

    def test_so_is_the_revoking_of_a_link(self):
        links.make(links.answered(cast.alice(), cast.council()))
        links.browser(cast.bob()).post(reverse("revoke-links"), {"share": Share.objects.get().pk})
        assert self.refusals() == [("page", "settings/links/revoke/", 1)]
        assert Share.objects.get().revoked is None

    def test_an_address_that_no_view_has_is_nobodys_and_strangers_are_asked_to_sign_in(self):
        links.browser(cast.bob()).get("/no/such/page/")
        links.browser().get(links.answered(cast.alice(), cast.council()).get_absolute_url())
        assert not self.refusals()


class TestOfLinks:
    def test_a_first_look_that_could_not_be_told_is_none(self, monkeypatch):
        alice, bob = cast.alice(), cast.bob()
        token = links.make(links.answered(alice, cast.council()))
        browser = links.browser(bob)
        browser.raise_request_exception = False
        with monkeypatch.context() as away:
            away.setattr(audit, "record", breaks)
            assert browser.get(links.place(token)).status_code == 500
        assert browser.get(links.place(token)).status_code == 200
        assert kinds().count("link opened") == 1

    def test_what_is_shown_anew_is_opened_anew(self):
        alice, bob = cast.alice(), cast.bob()
        conversation = links.answered(alice, cast.council())
        token = links.make(conversation)
        browser = links.browser(bob)
        browser.get(links.place(token))
        links.ask_more(conversation, Council.objects.get())
        sharing.update(Share.objects.get())
        for _ in range(2):
            browser.get(links.place(token))
        assert kinds().count("link opened") == 2


class TestTogether:
    """An act and its event are there both, or neither."""

    def test_an_invitation_withdrawn(self, client, monkeypatch):
        client.force_login(administrator())
        client.post(reverse("admin:accounts_invitation_add"), {"email": "dave@example.org", "days": "7"})
        client.raise_request_exception = False
        monkeypatch.setattr(audit, "record", breaks)
        chosen = [Invitation.objects.get().pk]
        place = reverse("admin:accounts_invitation_changelist")
        assert client.post(place, {"action": "withdraw", "_selected_action": chosen}).status_code == 500
        assert Invitation.objects.open().exists()

    def test_models_refreshed(self, client, monkeypatch):
        cast.council()
        client.force_login(administrator())
        client.raise_request_exception = False
        listed = {"data": [{"id": "test-0", "name": "Renamed", "context_length": 4096}]}
        monkeypatch.setattr(catalogue, "_fetch", lambda _: listed)
        monkeypatch.setattr(audit, "record", breaks)
        chosen = [Provider.objects.get().pk]
        place = reverse("admin:council_provider_changelist")
        assert client.post(place, {"action": "refresh_models", "_selected_action": chosen}).status_code == 500
        assert not LanguageModel.objects.filter(name="Renamed").exists()

    def test_a_conversation_renamed(self, client, monkeypatch):
        bob = cast.bob()
        conversation = links.answered(bob, cast.council())
        client.force_login(bob)
        client.raise_request_exception = False
        monkeypatch.setattr(audit, "record", breaks)
        place = f"{conversation.get_absolute_url()}rename/"
        assert client.post(place, {"title": "Another"}).status_code == 500
        conversation.refresh_from_db()
        assert conversation.title != "Another"

    def test_a_session_ended(self, monkeypatch):
        bob = cast.bob()
        mine, other = signed_in(bob), signed_in(bob)
        for browser in (mine, other):
            browser.get("/settings/")
        mine.raise_request_exception = False
        monkeypatch.setattr(audit, "record", breaks)
        ended = UserSession.objects.exclude(session_key=mine.session.session_key).get()
        assert mine.post(reverse("end_session", args=[ended.pk])).status_code == 500
        assert other.get("/settings/").status_code == 200

    def test_a_question_that_is_stopped_from_the_shell(self, monkeypatch):
        key = str(asking.ask(cast.bob(), "What now?", cast.council()).deliberation_id)
        with monkeypatch.context() as away:
            away.setattr(audit, "record", breaks)
            with pytest.raises(RuntimeError):
                call_command("cancel", key)
            assert not Deliberation.objects.get().cancel_requested
        call_command("cancel", key)
        assert Deliberation.objects.get().cancel_requested
        assert Event.objects.get(kind="stopped").details == {"by": "shell"}


class TestOften:
    """Nobody writes into the trail as often as they like."""

    @pytest.mark.parametrize(
        ("way", "place", "given"),
        [("get", "export.json", {}), ("post", "rename/", {"title": "New"}), ("post", "share/", {"audience": "team"})],
    )
    def test_what_each_is_an_event_has_a_limit(self, client, way, place, given):
        Limit.objects.create(what=What.ACTS, amount=3, seconds=60)
        limits.forget()
        bob = cast.bob()
        conversation = links.answered(bob, cast.council())
        client.force_login(bob)
        answers = [getattr(client, way)(f"{conversation.get_absolute_url()}{place}", given) for _ in range(4)]
        assert [each.status_code == 429 for each in answers] == [False, False, False, True]
        assert counted("refused") == 1

    def test_who_reaches_it_beside_the_page_is_told_there(self, client):
        Limit.objects.create(what=What.ACTS, amount=1, seconds=60)
        limits.forget()
        bob = cast.bob()
        conversation = links.answered(bob, cast.council())
        client.force_login(bob)
        place, title = f"{conversation.get_absolute_url()}rename/", {"title": "New"}
        answers = [client.post(place, title, headers={"HX-Request": "true"}) for _ in range(2)]
        assert [each.status_code for each in answers] == [200, 429]
        assert "Try again in" in json.loads(answers[1]["HX-Trigger"])["toast"]["text"]
        assert int(answers[1]["Retry-After"]) > 0

    def test_so_have_parts_that_are_tried_again_in_vain(self, client):
        Limit.objects.create(what=What.ASKS, amount=3, seconds=60)
        limits.forget()
        bob = cast.bob()
        conversation = links.answered(bob, cast.council())
        Deliberation.objects.get().answers.update(outcome="failed")
        Council.objects.update(enabled=False)
        client.force_login(bob)
        again = [client.post(f"{conversation.get_absolute_url()}retry/", {"slot": "answering:0"}) for _ in range(4)]
        assert [each.status_code for each in again] == [422, 422, 429, 429]
        assert kinds().count("refused") == 2

    def test_a_trail_is_looked_through_once_a_minute(self, client):
        client.force_login(administrator())
        for _ in range(3):
            client.post(reverse("admin:governance_event_verify"))
        assert [each.details["what"] for each in Event.objects.filter(kind="did")] == ["looked through"]

    @pytest.mark.parametrize(
        "place",
        ["recovery-codes/generate/", "totp/activate/", "totp/deactivate/", "webauthn/add/", "webauthn/keys/1/remove/"],
    )
    def test_so_have_changes_of_second_factors(self, place):
        Limit.objects.create(what=What.ACTS, amount=1, seconds=60)
        limits.forget()
        bob = cast.bob()
        browser = signed_in(bob)
        limits.take(What.ACTS, bob)
        refused = browser.post(f"/accounts/2fa/{place}")
        assert (refused.status_code, int(refused["Retry-After"]) > 0) == (429, True)
        assert "sign-in changed" not in kinds()

    def test_a_second_stop_of_the_same_question_is_none(self, client):
        bob = cast.bob()
        conversation = asking.ask(bob, "What now?", cast.council()).conversation
        client.force_login(bob)
        answers = [client.post(f"{conversation.get_absolute_url()}stop/") for _ in range(3)]
        assert [each.status_code for each in answers] == [302] * 3
        call_command("cancel", str(Deliberation.objects.get().pk))
        client.post(f"{conversation.get_absolute_url()}delete/")
        assert kinds().count("stopped") == 1

    def test_what_people_do_is_not_counted_for_addresses(self):
        with pytest.raises(ValidationError, match="has signed in"):
            Limit(what=What.ASKS, per=Per.ADDRESS, amount=2, seconds=60).clean()
