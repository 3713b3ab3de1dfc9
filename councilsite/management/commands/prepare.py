"""`manage.py prepare`: what a deployment needs once before its first start, and once after each update."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from council.defaults import ensure_council
from councilsite import database, preparing


class Command(BaseCommand):
    """Doing it twice changes nothing."""

    help = (
        "Bring tables and councils up to date with this release, and print the first administrator's link as long as "
        "there is none. For a site whose web server and workers are processes of their own; `up` does it by itself."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whether to practise."""
        parser.add_argument(
            "--no-practice", action="store_true", help="make no practice council, or switch it off if there is one"
        )

    def handle(self, *, no_practice: bool, **_: Any) -> None:
        """Raises CommandError where the database cannot be reached."""
        database.require(os.environ)
        preparing.tables(self.stdout.write)
        ensure_council(practice=not no_practice)
        for line in preparing.way_in():
            self.stdout.write(line)
