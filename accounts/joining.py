"""How an address gets its account: once somebody has proved it theirs, by an invitation or a mail, and not before."""

from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from accounts import roles, trail
from accounts.forms import JoinForm
from accounts.models import User
from governance import audit
from governance.audit import Kind


def join(form: JoinForm, groups: Iterable[Group] = (), by: str = "sign-up") -> User | None:
    """Make the account from a valid form; `by` is what let them in. None if the address has got one by now.

    An account whose address nobody has proved gives way: what it owns stays, all else is written anew. A new
    password ends sessions. Without a role they are a member.
    """
    person: User = form.user
    try:
        with transaction.atomic():
            # Held before it is judged: of two who come at once, the second finds that the first has proved the address.
            unproven = User.objects.select_for_update().filter(email__iexact=person.email).first()
            if User.objects.has_account(person.email):
                return None
            if unproven:
                person.pk, person.actor = unproven.pk, unproven.actor
            form.set_password_and_save(person, "new_password1")
            person.vouch_for_address()
            given = roles.with_role(groups)
            person.groups.set(given)
            if roles.is_of_staff(given):
                User.objects.filter(pk=person.pk).update(is_staff=True)
            named = sorted(group.name for group in given)
            audit.record(Kind.JOINED, person.actor, trail.thing(person), by=by, groups=named)
    except IntegrityError:  # an administrator has just added the same person
        return None
    return person
