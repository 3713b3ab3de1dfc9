"""`manage.py worker`: carry out jobs, in a process of its own."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from councilsite import metrics, working
from governance.times import hurried

GRACE = hurried(20.0)  # seconds


class Command(BaseCommand):
    """The worker's command."""

    help = (
        "Carry out the councils' deliberations, in a process of its own: for a site that runs under a web server. "
        "`up` has a worker inside. On SIGTERM or Ctrl-C it takes no more jobs, and those that run have a while to end; "
        "what is left goes on with another worker. A second one gives them none."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How much at a time, and how long it goes on when told to stop."""
        parser.add_argument(
            "--concurrency", type=int, default=working.CONCURRENCY, help="jobs at a time (default: %(default)s)"
        )
        parser.add_argument(
            "--grace", type=float, default=GRACE, help="seconds for running jobs to end (default: %(default).0f)"
        )

    def handle(self, *, concurrency: int, grace: float, **_: Any) -> None:
        """Returns when it was asked to stop. Raises CommandError where METRICS_PORT is taken."""
        metrics.serve(os.environ)
        working.work_alone(concurrency, grace, self._say_ready)

    def _say_ready(self) -> None:
        self.stdout.write("Working. Ctrl-C stops.")
        self.stdout.flush()  # a pipe would hold it back
