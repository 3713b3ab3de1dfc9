"""From an invitation to a person: its mail, and what happens to whoever opens its link.

Administrators make and withdraw invitations in the admin; the page is in `accounts.views`.
"""

from allauth.account.models import EmailAddress
from django.core.mail import send_mail
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.forms import JoinForm
from accounts.models import Invitation, User


def has_account(email: str) -> bool:
    """Whether somebody has this address, or has proved it theirs. For administrators alone to know."""
    return (
        User.objects.filter(email__iexact=email).exists()
        or EmailAddress.objects.filter(email__iexact=email, verified=True).exists()
    )


def opened_by(token: str) -> Invitation | None:
    """The invitation that this token opens. None, whatever the reason: unknown, over, or its address has an account."""
    if "\0" in token:
        return None
    found = Invitation.objects.open().filter(token=token).first()
    return None if found is None or has_account(found.email) else found


def accept(invitation: Invitation, form: JoinForm) -> User | None:
    """Make the account from a valid form. None if it is over by now: withdrawn, or somebody else was faster."""
    person: User = form.user
    try:
        with transaction.atomic():
            # Whoever comes second waits here, and then finds it accepted.
            found = Invitation.objects.open().select_for_update().filter(pk=invitation.pk).first()
            if found is None or has_account(found.email):
                return None
            form.set_password_and_save(person, "new_password1")
            person.vouch_for_address()
            person.groups.set(found.groups.all())
            found.accepted, found.accepted_by = timezone.now(), person
            found.save(update_fields=["accepted", "accepted_by"])
    except IntegrityError:  # an administrator has just added the same person
        return None
    return person


def send(invitation: Invitation) -> None:
    """Mail the link to whom it is for. Raises OSError (smtplib's errors are) if the mail cannot be sent."""
    text = render_to_string("accounts/email/invitation.txt", {"invitation": invitation})
    send_mail("[LLM Council] " + _("You are invited"), text, None, [invitation.email])
