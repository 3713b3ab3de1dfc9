"""`manage.py backup`: database and keys into a folder, while the site runs."""

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
    """Says what is in the backup, and what is not."""

    help = "Write a backup of the database, and of the keys under var/, into a new folder. The site may run meanwhile."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to."""
        parser.add_argument("folder", type=Path, help="a folder that does not exist yet, or is empty")

    def handle(self, *, folder: Path, **_: Any) -> None:
        """Raises CommandError."""
        database.require(os.environ)
        made = backups.back_up(folder, settings.VAR_DIR, os.environ)
        if audit.there():
            audit.record(Kind.EXPORTED, None, Thing("backup"), release=made["release"], by="shell")
        self.stdout.write(
            f"{folder}: the database of release {made['release']} with people: {made['people']}, conversations: "
            f"{made['conversations']}."
        )
        elsewhere = [name.upper() for name in backups.KEYS if name not in made["files"]]
        if elsewhere:
            self.stdout.write(
                f"Not in it: {' and '.join(elsewhere)}, which come from the environment. Keep them as well, elsewhere."
            )
        for each in made["unreadable"]:
            self.stderr.write(f"No key of FIELD_KEYS reads what is encrypted in {each}, nor will it after a restore.")
