"""A trail that is bent by whoever owns the database: what is found, and what becomes of acts that cannot be told."""

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import DataError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from accounts.tests.cast import passkey
from conversations import asking
from conversations.tests import cast
from council.models import Deliberation
from councilsite.tests.test_guarded import PASSWORD
from councilsite.tests.test_untold import NEW, signed_in
from governance import audit, chain
from governance.models import AuditKey, Event, Tally

pytestmark = pytest.mark.django_db(transaction=True)


def by_force(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def events_dropped() -> Iterator[None]:
    """As whoever owns the database may: no event is kept."""
    by_force("CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    by_force("CREATE TRIGGER a BEFORE INSERT ON governance_event FOR EACH ROW EXECUTE FUNCTION dropped()")
    try:
        yield
    finally:
        by_force("DROP TRIGGER a ON governance_event; DROP FUNCTION dropped()")


def untold(browser: Client, place: str, **given: str) -> None:
    """Do something there, of which no event is kept."""
    browser.raise_request_exception = False
    with events_dropped():
        assert browser.post(place, given).status_code == 500


class TestBentByItsOwner:
    """Of the database, that is."""

    def test_a_trigger_that_drops_events_ends_the_act_and_is_found(self):
        audit.record(audit.Kind.DID)
        head = chain.head()
        with events_dropped():
            with pytest.raises(DataError):
                audit.record(audit.Kind.READ)
            with pytest.raises(DataError):  # and it is no limit that was reached
                asking.ask(cast.bob(), "What now?", cast.council())
            assert not Deliberation.objects.exists()
            assert chain.verify(head).wrong == [chain.NOT_KEPT]
        assert chain.verify(head).wrong == []

    def test_no_password_is_changed_then(self):
        bob = cast.bob()
        untold(signed_in(bob), reverse("account_change_password"), oldpassword=PASSWORD, **NEW)
        bob.refresh_from_db()
        assert bob.check_password(PASSWORD)

    def test_nor_set_nor_chosen_by_a_mail(self):
        bob = cast.bob()
        bob.vouch_for_address()
        Client().post(reverse("account_reset_password"), {"email": bob.email})
        stranger = Client()
        place = stranger.get(re.search(r"http://\S+", mail.outbox[0].body)[0], follow=True).request["PATH_INFO"]
        untold(stranger, place, **NEW)
        bob.refresh_from_db()
        assert bob.check_password(PASSWORD)
        bob.set_unusable_password()
        bob.save()
        browser = Client()
        browser.force_login(bob)
        untold(browser, reverse("account_set_password"), **NEW)
        bob.refresh_from_db()
        assert not bob.has_usable_password()

    def test_no_second_factor_comes_or_goes(self, settings):
        settings.MFA_TOTP_TOLERANCE = 1  # a code's time may be over before it is sent
        bob = cast.bob()
        browser = signed_in(bob)
        activate = reverse("mfa_activate_totp")
        secret = browser.get(activate).context["form"].secret
        (_, now, _) = yield_hotp_counters_from_time()
        untold(browser, activate, code=format_hotp_value(hotp_value(secret, now)))
        assert not Authenticator.objects.exists()
        TOTP.activate(bob, secret)
        RecoveryCodes.activate(bob)
        passkey(bob)
        kept = list(Authenticator.objects.order_by("pk"))
        untold(browser, reverse("mfa_deactivate_totp"))
        untold(browser, reverse("mfa_remove_webauthn", args=[kept[-1].pk]))
        untold(browser, reverse("mfa_generate_recovery_codes"))
        assert list(Authenticator.objects.order_by("pk")) == kept

    def test_no_address_changes(self):
        bob = cast.bob()
        browser = signed_in(bob)
        change = {"email": "robert@example.org", "action_add": ""}
        untold(browser, reverse("account_email"), **change)
        assert [each.email for each in EmailAddress.objects.all()] == [bob.email]
        cache.clear()  # one mail in a while goes to an address
        browser.post(reverse("account_email"), change)
        untold(browser, re.search(r"http://\S+", mail.outbox[-1].body)[0])
        bob.refresh_from_db()
        assert bob.email == "bob@example.org"
        assert EmailAddress.objects.get(verified=True).email == bob.email

    def test_nor_do_commands_change_passwords_or_make_administrators(self, monkeypatch):
        bob = cast.bob()
        monkeypatch.setattr(getpass, "getpass", lambda **_: NEW["password1"])
        with events_dropped():
            with pytest.raises(DataError):
                call_command("changepassword", bob.email)
            with pytest.raises(DataError):
                call_command("createsuperuser", "--noinput", email="root@example.org")
        bob.refresh_from_db()
        assert bob.check_password(PASSWORD)
        assert not User.objects.filter(is_superuser=True).exists()

    @pytest.mark.parametrize(
        ("bend", "mend"),
        [
            (
                "CREATE RULE dropped AS ON INSERT TO governance_event WHERE NEW.kind = 'ended' DO INSTEAD NOTHING",
                "DROP RULE dropped ON governance_event",
            ),
            (
                "ALTER TABLE governance_event ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE governance_event DISABLE ROW LEVEL SECURITY",
            ),
            (
                "ALTER TABLE governance_event DISABLE TRIGGER append_only",
                "ALTER TABLE governance_event ENABLE TRIGGER append_only",
            ),
        ],
    )
    def test_rules_policies_and_sleeping_triggers_are_found(self, bend, mend):
        by_force(bend)
        try:
            assert chain.verify().wrong == [chain.NOT_KEPT]
        finally:
            by_force(mend)

    def test_a_view_in_its_place_is_found(self):
        audit.record(audit.Kind.DID)
        by_force(
            "ALTER TABLE governance_event RENAME TO real_events;"
            "CREATE VIEW governance_event AS SELECT * FROM real_events"
        )
        try:
            assert chain.verify().wrong == [chain.NOT_KEPT]
        finally:
            by_force("DROP VIEW governance_event; ALTER TABLE real_events RENAME TO governance_event")

    def test_another_function_behind_a_trigger_is_found(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_functiondef('governance_event_refuse'::regproc)")
            (was,) = cursor.fetchone()
        body = "CREATE OR REPLACE FUNCTION governance_event_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        by_force(f"{body} 'BEGIN RETURN NEW; END'")
        try:
            assert chain.verify().wrong == [chain.NOT_KEPT]
        finally:
            by_force(was)

    def test_a_count_of_no_kind_holds_up_no_other(self):
        before = timezone.now() - timedelta(minutes=5)
        Tally.objects.create(minute=before, kind="sign-in failed", count=3)
        Tally.objects.create(minute=before, kind="nonsense", count=1)
        assert audit.tell() == 2
        assert Event.objects.get(kind="sign-in failed").details["times"] == 3

    def test_an_audit_key_that_was_taken_back_is_not_kept(self):
        audit._key.clear()
        AuditKey.objects.all().delete()
        with transaction.atomic():
            for text in ("one", "two"):
                audit.digest(text)
            transaction.set_rollback(True)
        assert audit._key == []
