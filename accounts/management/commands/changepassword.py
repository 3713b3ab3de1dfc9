"""Django's own command, told of in the audit trail."""

from typing import Any

from django.contrib.auth.management.commands import changepassword

from accounts import trail
from accounts.management.unhurried import unhurried
from accounts.models import User
from governance import audit
from governance.audit import Kind


class Command(changepassword.Command):
    """As Django's."""

    def handle(self, *args: Any, **options: Any) -> Any:
        """Then say so, if that person has another."""
        with unhurried():
            person = User.objects.filter(email=options["username"]).first()
            said = super().handle(*args, **options)
            if person and not User.objects.filter(pk=person.pk, password=person.password).exists():
                audit.record(Kind.SIGN_IN_CHANGED, None, trail.thing(person), what="password set", by="shell")
        return said
