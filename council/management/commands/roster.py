"""The roster as a file, from the shell."""

import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from council.roster.dumping import dump
from council.roster.loading import Difference, Loaded, load
from council.roster.reading import Wrong


class Command(BaseCommand):
    """Exit codes: 0 loaded, or nothing to change; 1 a mistake in the file, and nothing is changed; 2 wrong usage."""

    help = "Load providers, models and councils from a TOML file, or write them as one. docs/roster.md has its keys."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What to do."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="load|dump")
        loading = actions.add_parser("load", help="make the roster what the file says; what it does not name stays")
        loading.add_argument("file", metavar="FILE", type=Path, help="a TOML file")
        loading.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
        actions.add_parser("dump", help="write the roster to the output, without API keys")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Load or dump."""
        if options["action"] == "dump":
            self.stdout.write(dump(), ending="")
            return
        file, write = options["file"], not options["dry_run"]
        try:
            loaded = load(file.read_bytes(), str(file), os.environ, write=write)
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        except Wrong as error:
            raise CommandError(f"{error}\nNothing was changed.") from error
        for difference in loaded.differences:
            self._show(difference)
        for note in loaded.notes:
            self.stdout.write(note)
        if loaded.left:
            self.stdout.write(f"Not in the file, and left as they are: {', '.join(loaded.left)}.")
        self.stdout.write(_summary(loaded, str(file), write=write))

    def _show(self, difference: Difference) -> None:
        self.stdout.write(f"{'+' if difference.new else '~'} {difference.what}")
        for key, before, after in difference.changes:
            self.stdout.write(
                f"    {key}: {_word(after)}" if difference.new else f"    {key}: {_word(before)} -> {_word(after)}"
            )


def _word(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _summary(loaded: Loaded, file: str, *, write: bool) -> str:
    if not loaded.differences:
        return f"{file} changes nothing: the roster is as it says."
    new = sum(each.new for each in loaded.differences)
    figures = f"{new} new, {len(loaded.differences) - new} changed, {len(loaded.same)} as they were"
    return f"{file} is loaded: {figures}." if write else f"Nothing was changed. {file} would bring {figures}."
