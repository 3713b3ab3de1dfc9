"""Sign-ins, and what people change of theirs, in the audit trail: what Django and allauth tell of by signals.

Most of allauth's come after the row was saved: what is changed and its event are together because `accounts.urls` puts
a transaction around the views. Of an app, and of recovery codes, it tells only once they are committed; so what is
added is told as its row is.
"""

from typing import Any, Protocol
from uuid import UUID

from allauth.account import signals as account
from allauth.mfa import signals as factors
from django.contrib.auth import signals
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.http import HttpRequest

from governance import audit
from governance.audit import Kind, Thing

PERSON = "person"


class Someone(Protocol):
    """Who is known by a pseudonym."""

    actor: UUID


def thing(person: Someone) -> Thing:
    """A person as what something was done to."""
    return Thing(PERSON, person.actor)


# What of a sign-in somebody changed, by the signal that tells of it.
_CHANGES: dict[Signal, str] = {
    account.password_set: "password set",
    account.password_changed: "password changed",
    account.password_reset: "password reset by mail",
    account.email_confirmed: "address confirmed",
    account.email_changed: "address changed",
    account.email_added: "address added",
    account.email_removed: "address removed",
    factors.authenticator_removed: "second factor removed",
}


def connect() -> None:
    """Listen. Once, when the app is ready."""
    signals.user_logged_in.connect(_signed_in, dispatch_uid="trail")
    signals.user_logged_out.connect(_signed_out, dispatch_uid="trail")
    signals.user_login_failed.connect(_failed, dispatch_uid="trail")
    for signal in _CHANGES:
        signal.connect(_changed, dispatch_uid="trail")
    post_save.connect(_added, "mfa.Authenticator", dispatch_uid="trail")


def _signed_in(request: HttpRequest, user: Someone, **_: Any) -> None:
    methods = request.session.get("account_authentication_methods", []) if hasattr(request, "session") else []
    ways = [each.get("type", each.get("method", "")) for each in methods]
    audit.record(Kind.SIGNED_IN, user.actor, thing(user), by=ways)


def _signed_out(user: Someone | None, **_: Any) -> None:
    if user is not None:
        audit.record(Kind.SIGNED_OUT, user.actor, thing(user))


def _failed(request: HttpRequest | None = None, **_: Any) -> None:
    """Counted, for strangers may do it as often as they like; `accounts.views.sign_in` wants to know of it."""
    if request is not None:
        request.sign_in_failed = True  # type: ignore[attr-defined]  # of our own
    audit.count(Kind.SIGN_IN_FAILED)


def _changed(signal: Signal, user: Someone | None = None, email_address: Any = None, **more: Any) -> None:
    person: Any = user or email_address.user
    factor = getattr(more.get("authenticator"), "type", "")
    told = {"factor": str(factor)} if factor else {}
    audit.record(Kind.SIGN_IN_CHANGED, person.actor, thing(person), what=_CHANGES[signal], **told)


def _added(instance: Any, created: bool, **_: Any) -> None:  # noqa: FBT001  # the signal's own
    """A second factor, or new recovery codes."""
    if created:
        what = "recovery codes made" if instance.type == instance.Type.RECOVERY_CODES else "second factor added"
        person = instance.user
        audit.record(Kind.SIGN_IN_CHANGED, person.actor, thing(person), what=what, factor=str(instance.type))
