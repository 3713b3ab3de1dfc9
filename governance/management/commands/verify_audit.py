"""`manage.py verify_audit`: is the audit trail whole?"""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from governance import chain


class Command(BaseCommand):
    """Ends with 1 where something is wrong, and says what."""

    help = "Look through the whole audit trail. --head checks it against heads that were exported before."

    def add_arguments(self, parser: CommandParser) -> None:
        """Heads."""
        parser.add_argument("--head", type=Path, action="append", default=[], help="a file with an exported head")

    def handle(self, *, head: list[Path], **_: Any) -> None:
        """Raises CommandError."""
        try:
            heads = [chain.read(each.read_text()) for each in head]
        except (chain.NoHead, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        found = chain.verify(*heads)
        if found.wrong:
            raise CommandError("\n".join(found.wrong))
        against = f", and against {len(heads)} exported" if heads else ""
        self.stdout.write(f"{found.events:,} events, all as they were written{against}. The last: {found.head.hash}")
