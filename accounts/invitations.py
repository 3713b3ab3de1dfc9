"""From an invitation to a person: its mail, and what happens to whoever opens its link.

Administrators make and withdraw invitations in the admin; the page is in `accounts.views`.
"""

from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import joining
from accounts.forms import JoinForm
from accounts.models import Invitation, User
from governance.tokens import digest


def opened_by(token: str) -> Invitation | None:
    """The invitation that this token opens. None, whatever the reason: unknown, over, or its address has an account."""
    found = Invitation.objects.open().filter(digest=digest(token)).first()
    return None if found is None or User.objects.has_account(found.email) else found


def accept(invitation: Invitation, form: JoinForm) -> User | None:
    """Make the account from a valid form. None if it is over by now: withdrawn, or somebody else was faster."""
    with transaction.atomic():
        # Whoever comes second waits here, and then finds it accepted.
        found = Invitation.objects.open().select_for_update().filter(pk=invitation.pk).first()
        person = joining.join(form, found.groups.all(), "invitation") if found else None
        if found and person:
            found.accepted, found.accepted_by = timezone.now(), person
            found.save(update_fields=["accepted", "accepted_by"])
    return person


def send(invitation: Invitation) -> None:
    """Mail the link to whom it is for. Raises OSError (smtplib's errors are) if the mail cannot be sent."""
    text = render_to_string("accounts/email/invitation.txt", {"invitation": invitation})
    send_mail("[LLM Council] " + _("You are invited"), text, None, [invitation.email])
