"""Stop a deliberation from the shell."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from conversations import deleting
from council.models import Deliberation


class Command(BaseCommand):
    """Exit codes: 0 it is being stopped, 1 there is nothing to stop, 2 wrong usage."""

    help = "Stop a deliberation. What had come by then is kept."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The deliberation."""
        parser.add_argument("id", type=UUID, metavar="ID", help="the deliberation's id, as `ask` prints it")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Ask its worker to stop it."""
        found = Deliberation.objects.filter(pk=options["id"]).first()
        if found is None:
            raise CommandError(f"There is no deliberation {options['id']}.", returncode=1)
        if not found.unfinished:
            raise CommandError(f"It is over already: {found.get_status_display()}.", returncode=1)
        deleting.cancel_one(found.pk, where="shell")
        self.stdout.write("It is being stopped.")
