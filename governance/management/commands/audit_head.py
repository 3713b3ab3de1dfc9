"""`manage.py audit_head`: the end of the audit trail, signed, for somebody else to keep."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from governance import audit, chain


class Command(BaseCommand):
    """Prints a document that `verify_audit --head` takes."""

    help = "Print the head of the audit trail, signed. Keep it where whoever owns the database cannot reach it."

    def handle(self, **_: Any) -> None:
        """An export is an event itself, after the head that it tells of. Raises CommandError."""
        head = chain.head()
        try:
            self.stdout.write(chain.signed(head))
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        audit.record(audit.Kind.EXPORTED, None, audit.Thing("audit head", head.event), by="shell")
