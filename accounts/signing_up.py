"""From an address to a person without an invitation, where the site's settings allow it.

Whoever signs up names an address, and a mail goes there. Only its link leads to an account, with a password of whoever
reads that mail. Until then there is none: nobody finds out anything by signing up, or takes an address in advance.
"""

from datetime import timedelta

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.email_verification import consume_email_verification_rate_limit
from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.urls import reverse

from accounts.models import SiteSettings, User

GOOD_FOR = timedelta(days=1)
_SALT = "accounts.signing_up"


def link(email: str) -> str:
    """The whole address that makes this account, signed with SECRET_KEY: nothing is stored for strangers."""
    return f"{settings.SITE_URL}{reverse('sign_up', args=[signing.dumps(email, salt=_SALT)])}"


def opened_by(token: str) -> str | None:
    """The address that this token proves. None if it proves nothing, or its address has an account or may have none."""
    try:
        email: str = signing.loads(token, salt=_SALT, max_age=GOOD_FOR)
    except signing.BadSignature:
        return None
    return email if SiteSettings.current().admits(email) and not User.objects.has_account(email) else None


def send(request: HttpRequest, email: str) -> None:
    """Mail the link; to an address that has an account, a word about that. None where one went a moment ago."""
    if not consume_email_verification_rate_limit(request, email):
        return
    if User.objects.has_account(email):
        get_adapter().send_account_already_exists_mail(email)
    else:
        get_adapter().send_mail("account/email/sign_up", email, {"link": link(email)})
