"""A conversation as a document, from the shell."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from conversations import exporting, trail
from conversations.models import Conversation
from governance import audit
from governance.audit import Kind


class Command(BaseCommand):
    """Exit codes: 0 written, 1 there is no such conversation or no way to write, 2 wrong usage."""

    help = "Write a conversation as Markdown or JSON. docs/export.md describes both. It stays what it is."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to write, how and where."""
        parser.add_argument("id", type=UUID, metavar="CONVERSATION_ID", help="as it stands in the page's address")
        parser.add_argument(
            "--format", choices=sorted(exporting.FORMATS), default="markdown", help="markdown if not given"
        )
        parser.add_argument("--output", metavar="FILE", type=Path, help="a file that becomes this; else the output")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Find it, write it."""
        found = Conversation.objects.filter(pk=options["id"], deleted=None).first()
        if found is None:
            raise CommandError(f"There is no conversation {options['id']}.", returncode=1)
        text = exporting.FORMATS[options["format"]].text(exporting.document(found))
        audit.record(Kind.EXPORTED, None, trail.of(found), form=options["format"], by="shell")
        if options["output"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["output"].write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror}.", returncode=1) from error
