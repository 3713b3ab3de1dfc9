#!/usr/bin/env python
"""Django's commands. Without DATABASE_URL they run over the PostgreSQL embedded under `var/`."""

import contextlib
import os
import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError, ProgrammingError
from psycopg.errors import UndefinedTable

from councilsite import postgres

# Everything else asks the database something.
WITHOUT_DATABASE = {"", "help", "version", "--version", "check", "collectstatic", "compilemessages", "diffsettings",
                    "findstatic", "makemessages", "startapp"}  # fmt: skip


def main() -> None:
    """Run the command of this command line, with a database if it needs one."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "councilsite.settings")
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    embedded = not os.environ.get("DATABASE_URL")
    if embedded:
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]  # PGPORT and the like are meant for another PostgreSQL, and would be obeyed
    asks = command not in WITHOUT_DATABASE and not {"-h", "--help"} & set(sys.argv)
    var = Path(os.environ.get("VAR_DIR") or Path(__file__).resolve().parent / "var")
    try:
        # `up` is the site's life and waits for nobody; any other command may have lent its database to one.
        with postgres.serving(var, wait_for_others=command != "up") if embedded and asks else contextlib.nullcontext():
            execute_from_command_line(sys.argv)
    except (postgres.Unavailable, ImproperlyConfigured) as error:
        sys.exit(f"{error}")
    except (OperationalError, InterfaceError) as error:
        sys.exit(f"The database cannot be reached, or was stopped meanwhile: {error}")
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedTable):
            raise
        sys.exit("The database has no tables, or not those of this release: start the site, or `manage.py prepare`.")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
