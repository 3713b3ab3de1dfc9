"""`manage.py worker`: carry out jobs, in a process of its own."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from councilsite import working

GRACE = 20.0  # seconds


class Command(BaseCommand):
    """The worker's command."""

    help = (
        "Carry out the councils' deliberations, in a process of its own: for a site that runs under a web server. "
        f"`up` has a worker inside. SIGTERM or Ctrl-C gives running jobs {GRACE:.0f} seconds, a second one none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How much at a time."""
        parser.add_argument(
            "--concurrency", type=int, default=working.CONCURRENCY, help="jobs at a time (default: %(default)s)"
        )

    def handle(self, *, concurrency: int, **_: Any) -> None:
        """Returns when it was asked to stop."""
        working.work_alone(concurrency, GRACE, self._say_ready)

    def _say_ready(self) -> None:
        self.stdout.write("Working. Ctrl-C stops.")
        self.stdout.flush()  # a pipe would hold it back
