"""What the site asks of allauth beyond its settings."""

from collections.abc import Collection
from typing import Any
from urllib.parse import urljoin, urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts import limits, sockets, trail
from accounts.models import SiteSettings
from governance import audit
from governance.audit import Kind, Thing

AGAIN = 300
"""Seconds that allauth's limits on tries that fail reach back, at most; which of them was reached it does not say."""


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are given out by administrators, unless they open the door."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": _("This address and this password do not belong together. Check both."),
        "enter_current_password": _("This is not your current password."),
        "incorrect_password": _("This is not your password."),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002  # the signature is the framework's
        """As the site's settings say."""
        return SiteSettings.current().sign_up_open

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Of an account, from where it is tried: or a stranger's mistakes would lock its owner out."""
        account = super()._get_login_attempts_cache_key(request, **credentials)
        return f"{account} {limits.network(request.META['REMOTE_ADDR'])}"

    def validation_error(self, code: str, *args: Any) -> ValidationError:
        """What is wrong with a form. Guesses that no signal tells of are counted, and tries that a limit refuses."""
        if code == "enter_current_password":
            audit.count(Kind.SIGN_IN_FAILED)
        elif code in {"too_many_login_attempts", "rate_limited"}:
            audit.count(Kind.REFUSED, Thing("limit", limits.What.SIGN_INS))
            reached = limits.Reached("allauth", AGAIN)
            self.request.limit_reached = reached  # for `refusing.with_time`: the form only shows its errors
            return ValidationError(str(reached), code=code)
        return super().validation_error(code, *args)

    def set_password(self, user: AbstractBaseUser, password: str) -> None:
        """Pages that other sessions have open hear nothing more: a new password ends those sessions."""
        super().set_password(user, password)
        sockets.show_out(user.pk)

    def logout(self, request: HttpRequest) -> None:
        """So do other pages of the session that ends."""
        person_id = request.user.pk
        super().logout(request)
        if person_id is not None:
            sockets.show_out(person_id)

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:  # noqa: ARG002  # the signature is the framework's
        """Back to where the change began."""
        return reverse("settings")

    def render_mail(
        self,
        template_prefix: str,
        email: str | list[str],
        context: dict[str, Any],
        headers: dict[str, str] | None = None,
    ) -> EmailMessage:
        """Links lead to the site's own address: the port that a request names is whatever its sender chose."""
        here = {"site": urlsplit(settings.SITE_URL).netloc}
        here |= {name: _at_the_site(value) for name, value in context.items() if name.endswith("_url")}
        return super().render_mail(template_prefix, email, {**context, **here}, headers)

    def format_email_subject(self, subject: str) -> str:
        """The site's name goes first."""
        return f"[LLM Council] {subject}"


def _at_the_site(url: str) -> str:
    return urljoin(settings.SITE_URL, urlsplit(url)._replace(scheme="", netloc="").geturl())


class SessionsAdapter(DefaultUserSessionsAdapter):
    """Sessions that end take their sockets along."""

    def end_sessions(self, sessions: Collection[UserSession]) -> None:
        """End them; pages that they have open hear nothing more."""
        people = {session.user_id: session.user for session in sessions}
        with transaction.atomic():
            super().end_sessions(sessions)
            for person in people.values():
                audit.record(Kind.SIGNED_OUT, person.actor, trail.thing(person), what="other sessions ended")
        for person_id in people:
            sockets.show_out(person_id)
