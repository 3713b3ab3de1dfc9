"""The whole site for the browser, and somebody who visits it.

The site is `manage.py up` in a process of its own on the test database, over a fake provider.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from playwright.sync_api import sync_playwright

from bench.provider import Provider
from conversations.tests import cast
from conversations.tests.visitor import Visitor
from council.models import Council

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Site:
    """Its address, and the provider that its councils ask."""

    url: str
    provider: Provider


@pytest.fixture(scope="module")
def site(tmp_path_factory, static, django_db_setup, django_db_blocker) -> Iterator[Site]:
    """A module's own: its worker would carry out the jobs of other tests too."""
    var = tmp_path_factory.mktemp("site")
    for made in ("static", "static.stamp"):
        (var / made).symlink_to(static / made)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    database = connection.settings_dict
    environment = {
        **os.environ,
        "DATABASE_URL": f"host={database['HOST']} user={database['USER']} dbname={database['NAME']}",
        "VAR_DIR": str(var),
        "PORT": port,
    }
    if database["PORT"]:
        environment["DATABASE_URL"] += f" port={database['PORT']} password={database['PASSWORD']}"
    # Playwright keeps a loop running in this thread, where Django would refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with Provider() as provider, django_db_blocker.unblock():
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--no-practice"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said = []
            while not said or not said[-1].startswith("Open "):
                said.append(up.stdout.readline())
                assert said[-1], "".join(said)
            reader = threading.Thread(target=lambda: said.extend(up.stdout), daemon=True)
            reader.start()
            yield Site(f"http://localhost:{port}", provider)
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(30)
            reader.join(5)
            up.stdout.close()
            call_command("flush", interactive=False, verbosity=0)  # and what migrations leave, anew
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM procrastinate_jobs")
            connection.close()
            os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture(scope="module")
def browser(chromium_path):
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def council(site) -> Council:
    return cast.council(site.provider.url)


@pytest.fixture
def visitor(site, browser, council):
    """At a site whose provider is fast and has no script."""
    site.provider.reset()
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=60, ranking="listed")
    visitor = Visitor(site, browser)
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert not visitor.problems
