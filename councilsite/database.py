"""Where the database is: DATABASE_URL, or the Postgres embedded under `var/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from psycopg.conninfo import conninfo_to_dict

from councilsite.postgres import DATABASE, USER, socket_directory

# A connection that died without a word is noticed within a minute.
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
PATIENCE = 10  # seconds
# Threads that keep one each: twelve of pages, six of the worker, one each for drawing, readiness, figures and the
# watchdog, and the first one of a command.
POOL = {"min_size": 1, "max_size": 24, "timeout": PATIENCE}
# What is prepared (`governance.rows`) is planned once, and not anew for each value.
PLANS = "-c plan_cache_mode=force_generic_plan"
# A process that stands still inside of a transaction holds its locks, that of the audit trail among them.
STANDSTILL = "-c idle_in_transaction_session_timeout=30s"


class Unreachable(CommandError):
    """The database cannot be reached; the message says why."""


def require(environ: Mapping[str, str]) -> None:
    """Connect to DATABASE_URL once, if it is set: a pool would try in silence and never say why. Raises Unreachable."""
    if url := environ.get("DATABASE_URL"):
        try:
            psycopg.connect(url, connect_timeout=PATIENCE).close()
        except psycopg.Error as error:
            raise Unreachable(f"The database that DATABASE_URL names cannot be reached: {error}") from error


def address(var: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Where the database is, in the words of libpq. Raises ImproperlyConfigured, without the password."""
    url = environ.get("DATABASE_URL")
    if not url:
        return {"host": str(socket_directory(var)), "user": USER, "dbname": DATABASE}
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ImproperlyConfigured(
            "DATABASE_URL must say where the database is, such as postgresql://USER:PASSWORD@HOST:5432/NAME."
        ) from None


def settings_for(var: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Django's DATABASES entry, with a pool: each thread that answers pages or writes has a connection."""
    known = address(var, environ)
    known["options"] = f"{PLANS} {STANDSTILL} {known.get('options', '')}".strip()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": known.pop("dbname", DATABASE),
        "USER": known.pop("user", ""),
        "PASSWORD": known.pop("password", ""),
        "HOST": known.pop("host", ""),
        "PORT": known.pop("port", ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"pool": POOL, **KEEPALIVE, **known},
    }
