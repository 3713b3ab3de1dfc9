"""`manage.py restore`: what `manage.py backup` wrote, while the site does not run."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from councilsite import backups, database
from governance import audit
from governance.audit import Kind, Thing


class Command(BaseCommand):
    """Refuses before it changes anything."""

    help = (
        "Load a backup into an empty database, and its keys into var/ unless they come from the environment. The site "
        "must not run. Checksums and keys are looked at first."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where from, and whether data may be lost."""
        parser.add_argument("folder", type=Path, help="what `backup` wrote")
        parser.add_argument(
            "--replace", action="store_true", help="delete everything that the database has now, if it has anything"
        )

    def handle(self, *, folder: Path, replace: bool, **_: Any) -> None:
        """Raises CommandError."""
        database.require(os.environ)
        made = backups.restore(folder, settings.VAR_DIR, os.environ, replace=replace)
        if audit.there():
            audit.record(Kind.RESTORED, None, Thing("backup"), made=made["made"], replaced=replace, by="shell")
        self.stdout.write(
            f"Restored the backup of {made['made']}, release {made['release']}, with people: {made['people']}, "
            f"conversations: {made['conversations']}. `up` or `prepare` brings its tables up to date."
        )
