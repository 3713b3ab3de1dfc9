"""Second factors: whoever works in the admin needs one, and what they are made of is kept encrypted."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.mfa import app_settings
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import generate_totp_secret
from allauth.mfa.utils import is_mfa_enabled
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Q
from django.utils import timezone

from accounts.models import SiteSettings, User
from governance import audit, fields
from governance.audit import Kind

logger = logging.getLogger(__name__)

FACTORS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
"""What sign-in asks for. Recovery codes stand in for one of these, and are none by themselves."""


class FactorsAdapter(DefaultMFAAdapter):
    """Keeps the secrets of second factors with the key ring."""

    def validation_error(self, code: str, *args: Any) -> ValidationError:
        """What is wrong with a form. Wrong codes and keys are counted, as wrong passwords are."""
        if code == "incorrect_code":
            audit.count(Kind.SIGN_IN_FAILED)
        return super().validation_error(code, *args)

    def encrypt(self, text: str) -> str:
        """On the way to the database."""
        return fields.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """On the way back. Where no key of the ring fits it is a secret that nobody has, so that no code is right."""
        try:
            return fields.unseal(encrypted_text, "A second factor")
        except ImproperlyConfigured as error:
            logger.error("%s Codes of it are refused.", error)  # noqa: TRY400  # the reason says it all
            return generate_totp_secret()


def due(person: User) -> datetime | None:
    """Until when this person needs no second factor to work in the admin; None: they have one.

    A page asks more than once, and is told what was so at first.
    """
    if "_factor_due" not in person.__dict__:
        grace = timedelta(days=SiteSettings.current().factor_grace_days)
        person._factor_due = None if is_mfa_enabled(person, FACTORS) else person.date_joined + grace  # type: ignore[attr-defined]  # of our own
    found: datetime | None = person._factor_due  # type: ignore[attr-defined]  # the same
    return found


def missing(person: User) -> bool:
    """Whether they need one now."""
    until = due(person)
    return until is not None and until <= timezone.now()


def spend(factor: Authenticator) -> bool:
    """Use the code of an app that was right just now. False: it was used before, in whichever process.

    allauth remembers used codes in the memory of each process; when a factor was used last is in the database.
    """
    if factor.type != Authenticator.Type.TOTP:
        return True
    now = timezone.now()
    began = datetime.fromtimestamp(now.timestamp() // app_settings.TOTP_PERIOD * app_settings.TOTP_PERIOD, UTC)
    fresh = Authenticator.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=began), pk=factor.pk)
    return bool(fresh.update(last_used_at=now))
