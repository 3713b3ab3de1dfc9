"""`manage.py dbtool`: dump the embedded database, or load a dump, with PostgreSQL's own programs."""

import os
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from councilsite import postgres

PROGRAMS = ("pg_dump", "pg_restore")


class Command(BaseCommand):
    """Its exit code is the program's."""

    help = (
        "Run pg_dump or pg_restore, as the embedded database brings them, on that database, whether `up` runs or not. "
        "docs/operate.md has the commands."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The program, and what it is told."""
        parser.add_argument("program", choices=PROGRAMS)
        parser.add_argument("arguments", nargs=REMAINDER, help="handed over as they are")

    def handle(self, *, program: str, arguments: list[str], **_: Any) -> None:
        """Raises CommandError where the database is not the embedded one."""
        if os.environ.get("DATABASE_URL"):
            raise CommandError(f'DATABASE_URL is set: use the {program} of that PostgreSQL, with "$DATABASE_URL".')
        environment = {
            **os.environ,
            "PGHOST": str(postgres.socket_directory(settings.VAR_DIR)),
            "PGUSER": postgres.USER,
            "PGDATABASE": postgres.DATABASE,
        }
        command = [postgres.binary(program), *arguments]
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)  # noqa: S603  # our own binary
