"""The tests' database, for processes and connections that know it by its address alone."""

import os

from django.db import connection


def url(name: str = "") -> str:
    """As DATABASE_URL says it; of another database on its server where one is named."""
    known = connection.settings_dict
    found = f"host={known['HOST']} user={known['USER']} dbname={name or known['NAME']}"
    return f"{found} port={known['PORT']} password={known['PASSWORD']}" if known["PORT"] else found


def environment(**more: str) -> dict[str, str]:
    """The tests' database and keys, said as a deployment says them."""
    keys = {name: os.environ[name] for name in ("SECRET_KEY", "FIELD_KEYS")}
    return {"DATABASE_URL": url(), **keys, **more}


def forget_jobs() -> None:
    """Emptying the database leaves them, and the workers that were killed."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
        cursor.execute("DELETE FROM procrastinate_workers")
