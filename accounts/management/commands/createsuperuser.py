"""Django's own command, told of in the audit trail."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser

from accounts import trail
from accounts.management.unhurried import unhurried
from accounts.models import User
from governance import audit
from governance.audit import Kind


class Command(createsuperuser.Command):
    """As Django's."""

    def handle(self, *args: Any, **options: Any) -> Any:
        """Then say who is a superuser that was none before."""
        with unhurried():
            before = set(User.objects.filter(is_superuser=True).values_list("pk", flat=True))
            said = super().handle(*args, **options)
            for person in User.objects.filter(is_superuser=True).exclude(pk__in=before):
                audit.record(Kind.JOINED, None, trail.thing(person), by="shell", administrator=True)
        return said
