"""The two keys of an installation: Django's SECRET_KEY and the ring that encrypts fields.

A development or embedded installation makes them on first start, as files under `var/` that only their owner
can read. A deployment (DATABASE_URL set) must bring both: a key made on one machine would be unknown to the next.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured


def load(var: Path, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return (SECRET_KEY, field keys, newest first). Raises ImproperlyConfigured with what to do."""
    secret, ring = environ.get("SECRET_KEY", ""), environ.get("FIELD_KEYS", "")
    if environ.get("DATABASE_URL"):
        missing = [name for name, value in (("SECRET_KEY", secret), ("FIELD_KEYS", ring)) if not value]
        if missing:
            raise ImproperlyConfigured(
                f"DATABASE_URL is set, so {' and '.join(missing)} must come from the environment as well: every "
                "process and every restart needs the same keys. Make a SECRET_KEY with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(50))'` and FIELD_KEYS with "
                "`python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'`."
            )
    secret = secret or _file(var / "secret_key", lambda: secrets.token_urlsafe(50))
    ring = ring or _file(var / "field_keys", lambda: Fernet.generate_key().decode())
    field_keys = ring.replace(",", " ").split()
    for key in field_keys:
        try:
            Fernet(key)
        except ValueError as error:
            raise ImproperlyConfigured(
                "FIELD_KEYS must be Fernet keys (32 bytes, base64), separated by commas, the newest first."
            ) from error
    return secret, field_keys


def _file(path: Path, make: Callable[[], str]) -> str:
    """What the file holds, made first if there is none. Two processes that start at once end with the same key."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written whole under another name first: nobody ever reads half a key. Its mode is 0600.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as file:
            file.write(make())
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_text().strip()
