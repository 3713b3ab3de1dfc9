"""What docs/operate.md tells people to type does what it says: the tests take the commands from the document."""

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from councilsite import postgres
from councilsite.tests.processes import OURS, PATIENCE, ROOT, Command, free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

TEXT = "Почему небо голубое? 🦉 'quotes' \\ \t and\nlines"
KEY = "sk-of-a-provider-ключ"

# A question of Alice's, whose job waits; its rows and those of everything else are what must not get lost.
FILL = f"""
from django.db import connection, transaction
from accounts.models import User
from conversations import asking
from conversations.tests import cast
alice = User.objects.create_superuser("alice@example.org", "correct horse battery", name="Алиса")
council = cast.council()
provider = council.seats.first().language_model.provider
provider.api_key = {KEY!r}
provider.save()
with transaction.atomic(), connection.cursor() as cursor:
    asking.ask(alice, {TEXT!r}, council)
    cursor.execute("UPDATE procrastinate_jobs SET scheduled_at = 'tomorrow' WHERE task_name = 'deliberate'")
"""
LOOK = """
from django.core.management import call_command
from accounts.models import User
from conversations.models import Turn
from council.models import Provider
call_command("migrate", check_unapplied=True, verbosity=0)
newest = User.objects.order_by("pk").last().pk
print(repr((
    Provider.objects.get(slug="test").api_key,
    Turn.objects.get().deliberation.question,
    User.objects.create_user("bob@example.org").pk - newest,
)))
"""
# What is more than rows, as PostgreSQL would write it; but a condition that was loaded it writes in other words.
SHAPE = """
SELECT format('%s %s %s', sequencename, last_value, increment_by) FROM pg_sequences UNION ALL
SELECT split_part(indexdef, ' WHERE ', 1) FROM pg_indexes WHERE schemaname = 'public' UNION ALL
SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace UNION ALL
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal UNION ALL
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL
SELECT format('%s %s %s %s', table_name, column_name, udt_name, column_default) FROM information_schema.columns
 WHERE table_schema = 'public' ORDER BY 1
"""


class Site:
    """The project's folder as its document sees it: `.venv`, `manage.py` and a `var/` that is not the project's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.var = folder / "var"
        python = folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o700)
        (folder / "manage.py").symlink_to(ROOT / "manage.py")

    def type(self, commands: str, **environment: str) -> str:
        """Run commands of the shell, one failure ends them; what they print."""
        clean = {name: value for name, value in os.environ.items() if name not in OURS}
        done = subprocess.run(
            ["sh", "-euc", commands],
            check=False,
            cwd=self.folder,
            env={**clean, "VAR_DIR": str(self.var), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shell(self, code: str, **environment: str) -> str:
        return self.type('.venv/bin/python manage.py shell --no-imports -c "$CODE"', CODE=code, **environment)

    def content(self) -> dict[str, list[str]]:
        """Every row of every table, and the shape of the database."""
        with postgres.serving(self.var), connect(self.var) as connection:
            names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            found = {name: column(connection, f'SELECT t::text FROM "{name}" t ORDER BY 1') for (name,) in names}
            # A sign of life of the worker that served while the dump was made.
            found.pop("procrastinate_workers")
            return {**found, "its shape": column(connection, SHAPE)}


def connect(var: Path) -> psycopg.Connection:
    where = {"host": str(postgres.socket_directory(var)), "user": postgres.USER, "dbname": postgres.DATABASE}
    return psycopg.connect(**where, autocommit=True)


def column(connection: psycopg.Connection, sql: str) -> list[str]:
    return [value for (value,) in connection.execute(sql)]


def blocks(question: str) -> list[str]:
    """The commands below a heading of the document."""
    _, *sections = (ROOT / "docs" / "operate.md").read_text().split("\n## ")
    (section,) = [each for each in sections if each.startswith(f"{question}\n")]
    found = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture(scope="module")
def backed_up():
    """A site with rows, and its backup, which was made while it ran."""
    with tempfile.TemporaryDirectory(prefix="op-") as folder:
        (home := Path(folder) / "site").mkdir()
        site = Site(home)
        up = Command(site.var, "up", "--no-practice", "--port", str(free_port()))
        try:
            up.says("Ctrl-C")
            site.shell(FILL)
            (backup,) = blocks("What do I back up, and how?")
            site.type(backup)
            assert up.signal(signal.SIGTERM) == 0
        finally:
            up.close()
        yield site, site.content()


def assert_nothing_is_lost(site: Site, before: dict[str, list[str]]) -> None:
    now = site.content()
    assert any(",restored,backup," in row for row in now["governance_event"])
    for content in (now, before):  # a backup is told of once it is made, and so is that it was restored
        content["governance_event"] = [row for row in content["governance_event"] if ",backup," not in row]
    assert now == before
    assert now["governance_event"]
    assert len(before["conversations_turn"]) == 1
    assert any("deliberate" in row for row in before["procrastinate_jobs"])


def test_a_backup_is_for_its_owners_eyes(backed_up):
    site, _ = backed_up
    backup = site.folder.parent / "council-backup"
    assert {each.name for each in backup.iterdir()} == {"council.dump", "secret_key", "field_keys", "manifest.json"}
    assert [each.stat().st_mode & 0o077 for each in (backup, *backup.iterdir())] == [0] * 5


def test_a_backup_restores_everything_on_a_new_machine(backed_up):
    site, before = backed_up
    (site.folder.parent / "new").mkdir()
    new = Site(site.folder.parent / "new")
    (restore,) = blocks("How do I restore a backup?")
    new.type(restore)
    assert_nothing_is_lost(new, before)
    for name in ("secret_key", "field_keys"):
        assert (new.var / name).read_text() == (site.var / name).read_text()


def test_the_site_moves_to_a_postgresql_of_its_own(backed_up):
    site, _before = backed_up
    (load,) = blocks("How do I move from the embedded database to one of my own?")
    with postgres.serving(site.var):
        with connect(site.var) as database:
            database.execute("CREATE DATABASE own")
        done = site.type(
            f'{load}.venv/bin/python manage.py shell --no-imports -c "$CODE"',
            CODE=LOOK,
            DATABASE_URL=f"postgresql://{postgres.USER}@/own?host={postgres.socket_directory(site.var)}",
        )
    assert done.splitlines()[-1] == repr((KEY, TEXT, 1))


def test_the_database_moves_to_another_major_version_and_the_site_goes_on(backed_up):
    site, before = backed_up
    dump, load = blocks("How do I move the embedded database to another major version of PostgreSQL?")
    site.type(dump)
    assert not (site.var / "postgres").exists()
    site.type(load)
    assert_nothing_is_lost(site, before)
    assert site.shell(LOOK).strip() == repr((KEY, TEXT, 1))
    port = free_port()
    up = Command(site.var, "up", "--no-practice", "--port", str(port))
    try:
        up.says("Ctrl-C")
        assert "Preparing" not in up.said
        assert "administrator" not in up.said
        connection = http.client.HTTPConnection("localhost", port, timeout=PATIENCE)
        connection.request("GET", "/accounts/login/")
        assert connection.getresponse().status == 200
        connection.close()
        with connect(site.var) as database:
            database.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL WHERE task_name = 'deliberate'")
            deadline = time.monotonic() + PATIENCE
            while column(database, "SELECT attempt FROM council_deliberation") == [0]:
                assert time.monotonic() < deadline, "no worker took the job that waited"
                time.sleep(0.1)
        assert up.signal(signal.SIGTERM) == 0
    finally:
        up.close()
