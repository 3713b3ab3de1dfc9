"""How an address gets its account: once somebody has proved it theirs, by an invitation or a mail, and not before."""

from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from accounts.forms import JoinForm
from accounts.models import User


def join(form: JoinForm, groups: Iterable[Group] = ()) -> User | None:
    """Make the account from a valid form. None if the address has got one by now.

    An account whose address nobody has proved gives way: what it owns stays, all else is written anew. A new
    password ends sessions.
    """
    person: User = form.user
    try:
        with transaction.atomic():
            # Held before it is judged: of two who come at once, the second finds that the first has proved the address.
            unproven = User.objects.select_for_update().filter(email__iexact=person.email).first()
            if User.objects.has_account(person.email):
                return None
            if unproven:
                person.pk = unproven.pk
            form.set_password_and_save(person, "new_password1")
            person.vouch_for_address()
            person.groups.set(groups)
    except IntegrityError:  # an administrator has just added the same person
        return None
    return person
