"""What stands between an installation and its first page: tables, and a way in. For `up` and `prepare`."""

import contextlib
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from accounts import roles, setup
from governance import audit


def tables(say: Callable[[str], None]) -> None:
    """Bring the tables up to date with this release."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        say("Preparing the database …")
        call_command("migrate", interactive=False, verbosity=0)
    roles.ensure()
    with contextlib.suppress(ImproperlyConfigured):  # the key ring has lost its key: that is said where it is needed
        audit.key()


def way_in() -> list[str]:
    """Where the site is, and the first administrator's link as long as there is none."""
    lines = [f"Open {settings.SITE_URL}"]
    if link := setup.link():
        lines.append(f"Become its first administrator (the link works once): {settings.SITE_URL}{link}")
    return lines
