"""The first administrator, made by whoever holds a one-time link.

The link is printed where the site was started; this module leaves that, and the pages, to others.
"""

from datetime import timedelta

from django.core.signing import BadSignature, TimestampSigner
from django.db import connection, transaction
from django.urls import reverse

from accounts import trail
from accounts.forms import AdministratorForm
from accounts.models import User
from governance import audit
from governance.audit import Kind

VALID = timedelta(days=7)
# A dot, because not every terminal takes a colon to be part of a link.
_signer = TimestampSigner(salt="accounts.setup", sep=".")


def done() -> bool:
    """Whether there is an administrator who can sign in."""
    return User.objects.filter(is_superuser=True, is_active=True).exists()


def link() -> str | None:
    """The path of a link that makes the first administrator, good for `VALID`; None as soon as there is one."""
    if done():
        return None
    return reverse("setup", args=[_signer.sign(_age_of_the_site())])


def accepts(token: str) -> bool:
    """Whether the token was made here, in the last `VALID`, and nobody has come since."""
    try:
        return _signer.unsign(token, max_age=VALID) == _age_of_the_site()
    except BadSignature:
        return False


def make_administrator(form: AdministratorForm) -> User | None:
    """Create the first administrator from a valid form. None if somebody else was faster."""
    person: User = form.save(commit=False)
    person.is_staff = person.is_superuser = True
    with transaction.atomic(), connection.cursor() as cursor:
        # Whoever comes second waits here, and then finds that the first is done.
        cursor.execute("LOCK TABLE accounts_user IN SHARE ROW EXCLUSIVE MODE")
        if done():
            return None
        person.save()
        person.vouch_for_address()
        audit.record(Kind.JOINED, person.actor, trail.thing(person), by="setup", administrator=True)
    return person


def _age_of_the_site() -> str:
    """How many people have ever signed in. It never falls, so a link that made an administrator is never good again."""
    return str(User.objects.filter(last_login__isnull=False).count())
