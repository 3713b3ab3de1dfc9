"""A backup holds everything; a restore loads all of it or changes nothing."""

import json
import os
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.conf import settings as configured
from django.core.management import call_command
from django.db import connection, transaction

from conversations import asking
from conversations.tests import cast, database
from conversations.tests.database import forget_jobs
from council.models import Provider
from councilsite import backups
from councilsite.tests.processes import Program
from governance.models import AuditKey
from governance.tests.trail import last

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = {name: os.environ[name] for name in ("SECRET_KEY", "FIELD_KEYS")}


class Place:
    """A database that nobody has used."""

    def __init__(self, name: str) -> None:
        self.url = database.url(name)
        self.environ = {"DATABASE_URL": self.url, **KEYS}

    def rows(self) -> dict[str, list[str]]:
        with psycopg.connect(self.url) as asked:
            names = asked.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            return {
                name: [row for (row,) in asked.execute(f'SELECT t::text FROM "{name}" t ORDER BY 1')]
                for (name,) in names
            }

    def do(self, sql: str) -> None:
        with psycopg.connect(self.url) as asked:
            asked.execute(sql)


@pytest.fixture
def site(transactional_db):
    """Alice, who asked something, and a provider with a key."""
    alice, council = cast.alice(), cast.council()
    with transaction.atomic():
        asking.ask(alice, "Почему небо голубое? 🦉", council)
    yield Place(connection.settings_dict["NAME"])
    forget_jobs()


@pytest.fixture
def backup(site, tmp_path) -> Path:
    backups.back_up(tmp_path / "backup", tmp_path, site.environ)
    return tmp_path / "backup"


@pytest.fixture
def fresh(transactional_db):
    place = Place("restored")
    with connection._nodb_cursor() as cursor:
        cursor.execute("CREATE DATABASE restored")
    yield place
    with connection._nodb_cursor() as cursor:
        cursor.execute("DROP DATABASE restored")


def restore(backup: Path, place: Place, *, replace: bool = False) -> None:
    backups.restore(backup, backup.parent, place.environ, replace=replace)


def test_what_was_backed_up_is_what_is_restored_and_its_keys_can_be_read(site, backup, fresh):
    restore(backup, fresh)
    restored = fresh.rows()
    assert restored == site.rows()
    assert len(restored["accounts_user"]) == len(restored["conversations_turn"]) == 1
    with psycopg.connect(fresh.url) as asked:
        ((sealed,),) = asked.execute("SELECT api_key FROM council_provider").fetchall()
    assert sealed != "sk-test"
    assert Fernet(configured.FIELD_KEYS[0]).decrypt(sealed).decode() == "sk-test"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "one bit of the dump": ("council.dump", flip),
    "half of the dump": ("council.dump", lambda file: os.truncate(file, file.stat().st_size // 2)),
    "no dump": ("council.dump", Path.unlink),
    "half of the manifest": ("manifest.json", lambda file: os.truncate(file, file.stat().st_size // 2)),
    "an empty manifest": ("manifest.json", lambda file: file.write_text("[]")),
    "no manifest": ("manifest.json", Path.unlink),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_is_refused_and_changes_nothing(backup, fresh, damage):
    name, harm = DAMAGES[damage]
    harm(backup / name)
    with pytest.raises(backups.Refused, match=rf"{name}\b.*(damaged|has no)|has no {name}"):
        restore(backup, fresh, replace=True)
    assert fresh.rows() == {}


def test_a_database_that_has_data_is_refused_unless_told(site, backup, fresh):
    fresh.do("CREATE TABLE accounts_user AS SELECT 'Bob'")
    with pytest.raises(backups.Refused, match=r"has data already \(tables: 1, people: 1\).*--replace"):
        restore(backup, fresh)
    assert fresh.rows() == {"accounts_user": ["(Bob)"]}
    restore(backup, fresh, replace=True)
    assert fresh.rows() == site.rows()
    restore(backup, fresh, replace=True)
    assert fresh.rows() == site.rows()


def test_a_dump_that_cannot_be_loaded_leaves_what_was_there(backup, fresh, capfd):
    fresh.do("CREATE TABLE kept AS SELECT 1")
    dump, manifest = backup / "council.dump", backup / "manifest.json"
    os.truncate(dump, dump.stat().st_size * 9 // 10)
    known = json.loads(manifest.read_text())
    known["files"]["council.dump"] = backups._digest(dump)
    manifest.write_text(json.dumps(known))
    with pytest.raises(backups.Refused, match=r"could not be loaded.*Nothing was changed"):
        restore(backup, fresh, replace=True)
    assert "pg_restore" in capfd.readouterr().err
    assert fresh.rows() == {"kept": ["(1)"]}


def test_a_statement_that_fails_leaves_what_was_there(backup, fresh, capfd):
    fresh.do("CREATE SCHEMA other")
    fresh.do("CREATE TABLE public.kept (id int)")
    fresh.do("CREATE FUNCTION other.no() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
    fresh.do("CREATE EVENT TRIGGER no ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION other.no()")
    with pytest.raises(backups.Refused, match="could not be loaded"):
        restore(backup, fresh, replace=True)
    assert "ERROR" in capfd.readouterr().err
    assert fresh.rows() == {"kept": []}


def test_a_database_that_is_in_use_is_refused(backup, fresh):
    with psycopg.connect(fresh.url), pytest.raises(backups.Refused, match="stop the site"):
        restore(backup, fresh, replace=True)
    restore(backup, fresh)


def test_keys_that_cannot_read_what_is_encrypted_are_refused(backup, fresh, settings):
    mine = settings.FIELD_KEYS
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(backups.Refused, match="FIELD_KEYS cannot read"):
        restore(backup, fresh)
    assert fresh.rows() == {}
    settings.FIELD_KEYS = [*settings.FIELD_KEYS, *mine]
    restore(backup, fresh)


def test_a_ring_needs_only_the_keys_that_are_in_use(site, tmp_path, fresh, settings):
    AuditKey.objects.all().delete()
    (new, old), unused = (Fernet.generate_key().decode() for _ in range(2)), configured.FIELD_KEYS
    settings.FIELD_KEYS = [old]
    Provider.objects.update(api_key="sk-old")
    settings.FIELD_KEYS = [new, old, *unused]
    Provider.objects.create(slug="second", name="Second", api_key="sk-new")
    backups.back_up(tmp_path / "two", tmp_path, site.environ)
    settings.FIELD_KEYS = [new]
    with pytest.raises(backups.Refused, match="1 of the keys"):
        restore(tmp_path / "two", fresh)
    settings.FIELD_KEYS = [new, old]
    restore(tmp_path / "two", fresh)


def test_a_backup_says_what_no_key_reads(site, tmp_path, settings):
    AuditKey.objects.get_or_create(pk=1, defaults={"secret": "00"})
    settings.FIELD_KEYS = [Fernet.generate_key().decode()]
    made = backups.back_up(tmp_path / "lost", tmp_path, site.environ)
    assert made["unreadable"] == [f"council.Provider {Provider.objects.get().pk}", "governance.AuditKey 1"]


def test_keys_that_are_files_go_along_and_others_are_not_written_down(site, tmp_path, fresh):
    old, new = tmp_path / "old", tmp_path / "new"
    for var in (old, new):
        var.mkdir()
        for name in ("secret_key", "field_keys"):
            (var / name).write_text(f"{KEYS[name.upper()]}\n" if var is old else Fernet.generate_key().decode())
    of_files = {"DATABASE_URL": site.url}
    assert set(backups.back_up(tmp_path / "with", old, of_files)["files"]) == {
        "council.dump",
        "secret_key",
        "field_keys",
    }
    assert set(backups.back_up(tmp_path / "without", old, site.environ)["files"]) == {"council.dump"}
    flip(tmp_path / "with" / "secret_key")
    with pytest.raises(backups.Refused, match="secret_key is missing or damaged"):
        backups.restore(tmp_path / "with", new, {"DATABASE_URL": fresh.url}, replace=False)
    flip(tmp_path / "with" / "secret_key")
    backups.restore(tmp_path / "with", new, {"DATABASE_URL": fresh.url}, replace=False)
    for name in ("secret_key", "field_keys"):
        assert (new / name).read_text() == (old / name).read_text()
        assert (new / name).stat().st_mode & 0o077 == 0


def test_a_backup_of_a_later_release_is_refused(backup, fresh):
    manifest = backup / "manifest.json"
    known = json.loads(manifest.read_text())
    known["migrations"].append("council.9999_from_the_future")
    manifest.write_text(json.dumps(known))
    with pytest.raises(backups.Refused, match=r"later release.*council\.9999_from_the_future"):
        restore(backup, fresh)
    assert fresh.rows() == {}


def test_a_folder_is_for_one_backup(site, backup):
    with pytest.raises(backups.Refused, match="not empty"):
        backups.back_up(backup, backup.parent, site.environ)


def test_programs_older_than_the_server_are_said_to_be(site, backup, fresh, monkeypatch, tmp_path):
    old = tmp_path / "old_program"
    old.write_text("#!/bin/sh\necho 'pg_something (PostgreSQL) 15.18 (Debian 15.18-0)'\n")
    old.chmod(0o700)
    monkeypatch.setattr(backups, "_programs", lambda name: [str(old)])
    with pytest.raises(backups.Refused, match=r"PostgreSQL \d+, and pg_dump is here only as version 15"):
        backups.back_up(tmp_path / "second", tmp_path, site.environ)
    with pytest.raises(backups.Refused, match=r"PostgreSQL \d+, and psql is here only as version 15"):
        restore(backup, fresh)


def test_backing_up_and_restoring_are_told_where_each_was_done(site, tmp_path, fresh, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", site.url)
    call_command("backup", str(tmp_path / "backup"))
    made = last("exported")
    assert (made.actor, made.object_type, made.details["by"]) == (None, "backup", "shell")
    restoring = Program("manage.py", "restore", str(tmp_path / "backup"), VAR_DIR=str(tmp_path), **fresh.environ)
    assert restoring.ends() == 0, restoring.said
    restoring.close()
    with psycopg.connect(fresh.url) as asked:
        told = asked.execute("SELECT kind, object_type, details FROM governance_event ORDER BY id DESC").fetchone()
    assert told[:2] == ("restored", "backup")
    assert (told[2]["by"], told[2]["replaced"]) == ("shell", False)


def test_the_password_of_the_database_is_on_no_command_line():
    where = {"host": "db", "user": "council", "password": "open sesame", "dbname": "council"}
    command, environ = backups._aimed("pg_dump", 18, where)
    assert "sesame" not in " ".join(command)
    assert environ["PGPASSWORD"] == "open sesame"
