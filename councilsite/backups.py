"""A backup is a folder: a dump of the database, the keys that are files, and a manifest that tells what belongs to it.

PostgreSQL's own programs dump and load. This module finds the ones that fit, and refuses before anything is changed
where a backup is incomplete or damaged, where its keys are not at hand, or where something would be overwritten.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from psycopg.conninfo import make_conninfo

from accounts.models import User
from conversations.models import Conversation
from councilsite import database, postgres
from governance.fields import EncryptedTextField

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "council.dump"
# As files under `var/`; in the environment they are called the same in capitals.
KEYS = ("secret_key", "field_keys")
LEAVING = 5.0
"""Seconds for which connections of a site that was just stopped may still be counted."""

Manifest = dict[str, Any]


class Refused(CommandError):
    """The message says why, and what to do."""


def keys_that_are_files(environ: Mapping[str, str]) -> list[str]:
    """The keys that do not come from the environment."""
    return [name for name in KEYS if not environ.get(name.upper())]


def back_up(folder: Path, var: Path, environ: Mapping[str, str]) -> Manifest:
    """Write a backup into a folder that is new or empty, for its owner's eyes. The site may run. Raises Refused."""
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty: name a new folder for each backup.")
    os.umask(0o077)
    folder.mkdir(parents=True, exist_ok=True)
    where = database.address(var, environ)
    version = _version(where)
    sealed, lost = _sealed()
    known: Manifest = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "release": _release(),
        "postgresql": version,
        "people": User.objects.count(),
        "conversations": Conversation.objects.count(),
        "migrations": sorted(".".join(each) for each in MigrationRecorder(connection).applied_migrations()),
        "sealed": sealed,
        "unreadable": lost,
    }
    _dump(folder / DUMP, version, where)
    for name in keys_that_are_files(environ):
        (folder / name).write_text((var / name).read_text())
    known["files"] = {each.name: _digest(each) for each in sorted(folder.iterdir())}
    # The last: a folder without it is no backup.
    (folder / MANIFEST).write_text(json.dumps(known, indent=2) + "\n")
    return known


def restore(folder: Path, var: Path, environ: Mapping[str, str], *, replace: bool) -> Manifest:
    """Load a backup, whole or not at all, into a database without tables; with `replace`, in place of what is there.

    The site must not run. Keys that are files under `var/` become those of the backup, if it has any. Raises Refused.
    """
    known = _read(folder)
    _require_known_migrations(known)
    _require_keys(known, folder, environ)
    where = database.address(var, environ)
    version = _version(where)
    if version < known["postgresql"]:
        raise Refused(f"The backup is of PostgreSQL {known['postgresql']}, and this database is the older {version}.")
    _require_idle(where)
    if not replace:
        _require_empty(where)
    _load(folder / DUMP, version, where, replace=replace)
    for name in keys_that_are_files(environ):
        if name in known["files"]:
            _put(var / name, (folder / name).read_text())
    return known


def _read(folder: Path) -> Manifest:
    """The manifest of a backup that is whole. Raises Refused."""
    try:
        known: Manifest = json.loads((folder / MANIFEST).read_text())
        made_with = {name: known["files"].get(name) for name in (DUMP, *KEYS)}
        later = known["format"] != FORMAT
    except FileNotFoundError:
        raise Refused(f"{folder} is no backup, or one that was not finished: it has no {MANIFEST}.") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Refused(f"{folder / MANIFEST} is damaged. Nothing was changed.") from None
    if later:
        raise Refused(f"{folder} was made by a later release, whose backups are of another kind: install that one.")
    for name, digest in made_with.items():
        path = folder / name
        if (digest or name == DUMP) and not (path.exists() and _digest(path) == digest):
            raise Refused(f"{path} is missing or damaged: it is not the file that was backed up. Nothing was changed.")
    return known


def _require_known_migrations(known: Manifest) -> None:
    ours = {".".join(each) for each in MigrationLoader(None).disk_migrations or ()}
    if later := [each for each in known["migrations"] if each not in ours]:
        raise Refused(
            f"The backup was made by a later release ({known['release']}), with tables that this one "
            f"({_release()}) does not know: {', '.join(later)}. Install that release. Nothing was changed."
        )


def _require_keys(known: Manifest, folder: Path, environ: Mapping[str, str]) -> None:
    """What is encrypted can be read with the keys that the site will have."""
    ring = settings.FIELD_KEYS
    if "field_keys" in keys_that_are_files(environ) and "field_keys" in known["files"]:
        ring = (folder / "field_keys").read_text().replace(",", " ").split()
    if unread := [text for text in known["sealed"] if not any(_opens(key, text) for key in ring)]:
        where = f"They are in {folder / 'field_keys'}." if "field_keys" in known["files"] else "They are not in it."
        raise Refused(
            f"FIELD_KEYS cannot read what is encrypted in this backup: {len(unread)} of the keys of the site that it "
            f"was made of are missing. {where} Put them into FIELD_KEYS. Nothing was changed."
        )


def _require_idle(where: Mapping[str, Any]) -> None:
    deadline = monotonic() + LEAVING
    while others := _others(where):
        if monotonic() > deadline:
            raise Refused(f"The database is in use ({others} connections): stop the site and its workers first.")
        sleep(0.1)


def _others(where: Mapping[str, Any]) -> int:
    with _connect(where) as asked:
        found = asked.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        ).fetchone()
    return found[0] if found else 0


def _require_empty(where: Mapping[str, Any]) -> None:
    with _connect(where) as asked:
        tables = {name for (name,) in asked.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        if not tables:
            return
        people = asked.execute("SELECT count(*) FROM accounts_user").fetchone() if "accounts_user" in tables else None
    raise Refused(
        f"The database has data already (tables: {len(tables)}, people: {people[0] if people else 0}). Nothing "
        "was changed. With --replace all of that is deleted, and the backup put in its place."
    )


def _load(dump: Path, version: int, where: Mapping[str, Any], *, replace: bool) -> None:
    """One transaction, which is committed only after all of the dump was read and loaded. Raises Refused."""
    begin = "BEGIN;\nSET client_min_messages = warning;\n" + (
        "DROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n" if replace else ""
    )
    # VERBOSITY: else an error comes with the row that it is about.
    command, environment = _aimed("psql", version, where, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse")
    reading = [_program("pg_restore", version), "--no-owner", "--no-privileges", "--file=-", str(dump)]
    with (
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as psql,  # noqa: S603  # found
        subprocess.Popen(reading, stdout=subprocess.PIPE) as pg_restore,  # noqa: S603  # found
    ):
        with contextlib.suppress(BrokenPipeError):  # psql ends at the first error
            psql.stdin.write(begin.encode())
            shutil.copyfileobj(pg_restore.stdout, psql.stdin)
            if pg_restore.wait() == 0:
                psql.stdin.write(b"COMMIT;\n")
            psql.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            psql.stdin.close()
        psql.wait()
    if pg_restore.returncode or psql.returncode:
        raise Refused("The dump could not be loaded; the lines above tell why. Nothing was changed.")


def _dump(into: Path, version: int, where: Mapping[str, Any]) -> None:
    command, environment = _aimed("pg_dump", version, where, "--format=custom", f"--file={into}")
    if subprocess.run(command, env=environment, check=False).returncode:  # noqa: S603  # found
        raise Refused("The database could not be dumped; the lines above tell why. There is no backup.")


def _aimed(name: str, version: int, where: Mapping[str, Any], *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command line and environment of a program that is to connect. Raises Refused."""
    environment, rest = dict(os.environ), dict(where)
    if password := rest.pop("password", None):
        environment["PGPASSWORD"] = password  # everybody on the machine sees a command line
    return [_program(name, version), *arguments, f"--dbname={make_conninfo(**rest)}"], environment


def _program(name: str, version: int) -> str:
    """The program of this version, else a newer one: ours, or the machine's. Raises Refused."""
    found = sorted((_major(path), path) for path in _programs(name))
    for major, path in found:
        if major >= version:
            return path
    here = ", ".join(f"{major} ({path})" for major, path in found) or "not at all"
    raise Refused(
        f"The database is PostgreSQL {version}, and {name} is here only as version {here}. Older programs cannot read "
        f"newer databases: put {name} of PostgreSQL {version} or later on the PATH."
    )


def _programs(name: str) -> Iterator[str]:
    with contextlib.suppress(postgres.Unavailable):
        yield postgres.binary(name)
    if path := shutil.which(name):
        yield path


def _major(path: str) -> int:
    # pg_dump (PostgreSQL) 18.6 (Debian 18.6-1)
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603  # found
    return int(told.partition(")")[2].split()[0].partition(".")[0])


def _connect(where: Mapping[str, Any]) -> psycopg.Connection[Any]:
    return psycopg.connect(**{"connect_timeout": database.PATIENCE, **where})


def _version(where: Mapping[str, Any]) -> int:
    """The server's major version."""
    with _connect(where) as asked:
        return asked.info.server_version // 10_000


def _sealed() -> tuple[list[str], list[str]]:
    """One encrypted text for each key of the ring that is in use, and the rows whose text none of them opens."""
    samples: dict[str, str] = {}
    lost = []
    for model in apps.get_models():
        for field in model._meta.fields:
            if not isinstance(field, EncryptedTextField):
                continue
            for pk, text in model._base_manager.values_list("pk", field.attname).iterator():
                if text and not (key := next((key for key in settings.FIELD_KEYS if _opens(key, text)), None)):
                    lost.append(f"{model._meta.label} {pk}")
                elif text:
                    samples.setdefault(key, str(text))
    return list(samples.values()), lost


def _opens(key: str, text: str) -> bool:
    try:
        Fernet(key).decrypt(text.encode())
    except InvalidToken:
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(path: Path, text: str) -> None:
    """Replace a file at once, for its owner's eyes."""
    new = path.with_name(f".{path.name}-new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def _release() -> str:
    return str(tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]["version"])
