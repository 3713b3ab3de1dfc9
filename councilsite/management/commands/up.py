"""`manage.py up`: the whole site in one command."""

import errno
import os
import socket
from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from council.defaults import ensure_council
from council.models import Council
from councilsite import database, embedded, environment, locks, metrics, preparing, static

EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Command(BaseCommand):
    """Prepares what is missing, then serves."""

    help = (
        "Start the whole site in this process: database (the one embedded under var/, unless DATABASE_URL is set), "
        "website and worker. Prints the address to open. Ctrl-C stops everything."
    )
    requires_system_checks: list[str] = []  # they are for tests; a start should be quick

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Where to listen, and whether to practise."""
        environ = os.environ
        parser.add_argument(
            "--port", type=int, default=environ.get("PORT") or 8000, help="PORT, or 8000 (now: %(default)s)"
        )
        parser.add_argument(
            "--host",
            default=environ.get("HOST") or "127.0.0.1",
            help="address to listen on: HOST, or 127.0.0.1, which only this machine reaches (now: %(default)s)",
        )
        parser.add_argument(
            "--no-practice",
            action="store_true",
            help="make no council of the small practice models on this machine, and switch off one that is there",
        )

    def handle(self, *, host: str, port: int, no_practice: bool, **_: Any) -> None:
        """Returns when it was asked to stop. Raises CommandError, with what to do, when it cannot start."""
        settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = locks.take(settings.VAR_DIR / "up.lock")
        if not lock:
            raise CommandError(f"`up` is running already, with the data in {settings.VAR_DIR}. Stop it first.")
        with lock:
            _require_free(host, port)
            database.require(os.environ)
            metrics.serve(os.environ)
            if not os.environ.get("SITE_URL"):
                # What an option of a command decides; nothing has read it yet.
                settings.SITE_URL = _address(host, port)
                settings.ALLOWED_HOSTS = environment.hosts(settings.SITE_URL)
                settings.CSRF_TRUSTED_ORIGINS = [settings.SITE_URL]
            try:
                self._prepare(practice=not no_practice)
                welcome = self._welcome(host)
                embedded.run(host, port, lambda: self._say(*welcome))
            except embedded.CannotListen as error:
                raise CommandError(str(error)) from error
            finally:
                connection.close()
                connection.close_pool()
        self._say("Stopped.")

    def _prepare(self, *, practice: bool) -> None:
        preparing.tables(self._say)
        static.collect()
        ensure_council(practice=practice)

    def _welcome(self, host: str) -> list[str]:
        """What a person needs to know once pages are served."""
        site = urlsplit(settings.SITE_URL)
        lines = preparing.way_in()
        if host in EVERYWHERE and site.hostname in LOOPBACK:
            lines.append(
                "Other machines are let in only by the name in SITE_URL: start again with "
                f"SITE_URL=http://NAME-OR-ADDRESS:{site.port} to let them in."
            )
        if settings.HTTPS and not settings.TRUSTED_PROXIES:
            lines.append("SITE_URL is https, so a proxy must stand in front: name its address in TRUSTED_PROXIES.")
        if not Council.objects.filter(enabled=True).exists():
            lines.append("There is no council to ask: make one, or switch one on, under Administration, Councils.")
        return [*lines, "Ctrl-C stops it."]

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.stdout.write(line)
        self.stdout.flush()  # a pipe would hold it back


def _address(host: str, port: int) -> str:
    """What people at this machine type, where nobody has said it."""
    if host in EVERYWHERE | LOOPBACK:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _require_free(host: str, port: int) -> None:
    """Raises CommandError where another program listens already, or the address is not ours."""
    if not 0 < port < 65_536:
        raise CommandError(f"PORT, or --port, must be the number of a port, 1 to 65535, and is {port}.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CommandError(f"Cannot listen on {host}: {error.strerror}. HOST, or --host, is an address.") from None
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CommandError(
                    f"Port {port} is in use by another program: choose another with PORT=… or --port."
                ) from None
            raise CommandError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
