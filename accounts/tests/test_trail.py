"""What changes of a sign-in, who joins and whose sessions end is in the audit trail, without an address or a secret."""

import re
from datetime import timedelta

import pytest
from allauth.account import signals as account
from allauth.account.models import EmailAddress
from allauth.mfa import signals as factors
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import trail
from accounts.models import Invitation, SiteSettings, User
from accounts.tests import cast
from governance.tests.trail import events, last, whole_trail

pytestmark = pytest.mark.django_db
CHOSEN = {"name": "Ira", "new_password1": cast.PASSWORD, "new_password2": cast.PASSWORD}

TOLD = {
    account.password_set: ("password set", ("user",)),
    account.password_changed: ("password changed", ("user",)),
    account.password_reset: ("password reset by mail", ("user",)),
    account.email_confirmed: ("address confirmed", ("email_address",)),
    account.email_changed: ("address changed", ("user", "from_email_address", "to_email_address")),
    account.email_added: ("address added", ("user", "email_address")),
    account.email_removed: ("address removed", ("user", "email_address")),
    factors.authenticator_removed: ("second factor removed", ("user", "authenticator")),
}
"""By signal: what the trail says, and what allauth sends along."""


def test_no_change_of_a_sign_in_is_left_out():
    assert set(trail._CHANGES) == set(TOLD)


@pytest.mark.parametrize(("signal", "what", "sent"), [(signal, *told) for signal, told in TOLD.items()])
def test_each_change_of_a_sign_in_is_told_of_the_person_and_without_the_address(client, rf, signal, what, sent):
    bob = cast.bob()
    client.force_login(bob)
    request = rf.get("/")
    request.user, request.session = bob, client.session
    address = EmailAddress.objects.get(user=bob)
    along = dict.fromkeys(("email_address", "from_email_address", "to_email_address"), address)
    along |= {"user": bob, "authenticator": Authenticator(user=bob, type=Authenticator.Type.WEBAUTHN)}
    signal.send(sender=User, request=request, **{name: along[name] for name in sent})
    (told,) = events("sign-in changed")
    assert (told.actor, told.object_type, told.object_id) == (bob.actor, "person", str(bob.actor))
    assert told.details == {"what": what} | ({"factor": "webauthn"} if "authenticator" in sent else {})
    assert bob.email not in whole_trail()


@pytest.mark.parametrize(
    ("factor", "what"),
    [
        ("totp", "second factor added"),
        ("webauthn", "second factor added"),
        ("recovery_codes", "recovery codes made"),
    ],
)
def test_what_is_added_is_told_once_and_what_is_used_is_not(factor, what):
    bob = cast.bob()
    added = Authenticator.objects.create(user=bob, type=factor, data={"secret": "JBSWY3DPEHPK3PXP"})
    added.record_usage()
    (told,) = events("sign-in changed")
    assert (told.actor, told.object_type, told.object_id) == (bob.actor, "person", str(bob.actor))
    assert told.details == {"what": what, "factor": factor}
    assert "JBSWY3DPEHPK3PXP" not in whole_trail()


def test_who_joins_by_an_invitation_is_told_with_their_groups(client):
    expires = timezone.now() + timedelta(days=7)
    invitation = Invitation.objects.create(email="ira@example.com", created_by=cast.alice(), expires=expires)
    client.post(f"/join/{invitation.token}/", CHOSEN)
    ira = User.objects.get(email="ira@example.com")
    (told,) = events("joined")
    assert (told.actor, told.object_type, told.object_id) == (ira.actor, "person", str(ira.actor))
    assert told.details == {"by": "invitation", "groups": ["Members"]}
    for each in (ira.email, invitation.token, cast.PASSWORD):
        assert each not in whole_trail()


def test_so_is_who_signs_up(client):
    SiteSettings.objects.create(pk=1, signup="open")
    client.post("/accounts/signup/", {"email": "ira@example.com"})
    link = re.search(r"http://localhost:8000(/signup/\S+)", mail.outbox[-1].body)[1]
    assert not events("joined")
    client.post(link, CHOSEN)
    (told,) = events("joined")
    assert told.actor == User.objects.get().actor
    assert told.details == {"by": "sign-up", "groups": ["Members"]}
    assert "ira@" not in whole_trail()


@pytest.mark.parametrize("how", ["all others", "one"])
def test_sessions_that_somebody_ends_elsewhere_are_told(client, how):
    bob = cast.bob()
    for browser in (Client(), client):
        browser.post("/accounts/login/", {"login": bob.email, "password": cast.PASSWORD})
    other = UserSession.objects.exclude(session_key=client.session.session_key).get()
    client.post("/accounts/sessions/" if how == "all others" else f"/settings/sessions/{other.pk}/end/")
    told = last("signed out")
    assert (told.actor, told.object_id) == (bob.actor, str(bob.actor))
    assert told.details == {"what": "other sessions ended"}
