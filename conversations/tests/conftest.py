"""Alice, Bob and a council; its provider, where it is to answer; the whole site for the browser, and who visits it.

The site is `manage.py up` in a process of its own on the test database, over a provider of its own.
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

from accounts.models import User
from bench.provider import Provider
from conversations import tasks
from conversations.models import Conversation
from conversations.tests import cast, database, links
from conversations.tests.visitor import Visitor
from council.models import Council
from council.models import Provider as ProviderRow
from governance.tests.trail import may_be_truncated

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def alice() -> User:
    return cast.alice()


@pytest.fixture
def bob() -> User:
    return cast.bob()


@pytest.fixture
def council() -> Council:
    """Nobody answers at its address, unless a test has the `provider`."""
    return cast.council()


@pytest.fixture
def conversation(alice, council) -> Conversation:
    """Alice's; its one question is answered."""
    return links.answered(alice, council)


@pytest.fixture(scope="session")
def _provider() -> Iterator[Provider]:
    with Provider(tokens=40, tokens_per_second=0, first_token_ms=1, ranking="listed") as provider:
        yield provider


@pytest.fixture
def provider(_provider, council, monkeypatch) -> Provider:
    """What the council asks: it is fast and has been asked nothing yet. A worker asks for titles at once, too."""
    _provider.reset()
    ProviderRow.objects.update(base_url=_provider.url)
    monkeypatch.setattr(tasks, "TITLE_AFTER", 0)
    return _provider


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
    environment = {
        **os.environ,
        "DATABASE_URL": database.url(),
        "VAR_DIR": str(var),
        "PORT": port,
    }
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
            with may_be_truncated():
                call_command("flush", interactive=False, verbosity=0)  # and what migrations leave, anew
            database.forget_jobs()
            connection.close()
            os.environ.pop("DJANGO_ALLOW_ASYNC_UNSAFE")


@pytest.fixture(scope="module")
def browser(chromium_options):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site_council(site) -> Council:
    return cast.council(site.provider.url)


@pytest.fixture
def visitor(site, browser, site_council):
    """At a site whose provider is fast and has no script."""
    site.provider.reset()
    site.provider.configure(first_token_ms=1, tokens_per_second=0, tokens=60, ranking="listed")
    visitor = Visitor(site, browser)
    yield visitor
    for context in visitor.contexts:
        context.close()
    assert not visitor.problems
