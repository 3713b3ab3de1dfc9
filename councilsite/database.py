"""Where the database is: DATABASE_URL, or the Postgres embedded under `var/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

POOL = {"min_size": 2, "max_size": 20, "timeout": 10}


def settings_for(var: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Django's DATABASES entry. Threads borrow connections from a pool: under ASGI each request has a thread of its own."""
    url = environ.get("DATABASE_URL")
    known = conninfo_to_dict(url) if url else {"host": str(socket_directory(var)), "user": "council", "dbname": "council"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": known.pop("dbname", "council"),
        "USER": known.pop("user", ""),
        "PASSWORD": known.pop("password", ""),
        "HOST": known.pop("host", ""),
        "PORT": known.pop("port", ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"pool": POOL, **known},
    }


def socket_directory(var: Path) -> Path:
    """The folder of the embedded server's socket."""
    raise NotImplementedError
