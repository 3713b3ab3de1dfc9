"""The website and the worker in one process, on one event loop."""

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable

import uvloop
from daphne.endpoints import build_endpoint_description_strings
from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from councilsite import working
from governance.times import hurried

GRACE = hurried(5.0)  # seconds for running jobs when told to stop; the next start resumes the rest
COLLECT = (20_000, 20, 20)  # objects made before the collector looks; streams make many that need none

logger = logging.getLogger(__name__)


class CannotListen(Exception):
    """The address is another program's by now, or none of this machine."""


def run(host: str, port: int, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop both cleanly. `ready` is called when pages are really served.

    Raises CannotListen, and RuntimeError if the worker cannot go on.
    """
    # The loop shares the interpreter with threads that read and write; it must not wait long for its turn.
    sys.setswitchinterval(0.001)
    gc.set_threshold(*COLLECT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loop = runner.get_loop()
        # Twisted has one reactor in a process: the one installed when the name is first imported.
        asyncioreactor.install(loop)
        from daphne.server import Server  # noqa: PLC0415  # it imports the reactor
        from twisted.internet import reactor  # noqa: PLC0415  # installed just above

        from councilsite.asgi import application  # noqa: PLC0415  # builds the site, and needs its database

        worker = loop.create_task(working.work(working.CONCURRENCY, GRACE))
        greeter = loop.create_task(_announce(host, port, ready))
        refused: list[BaseException] = []

        class Listening(Server):
            def listen_error(self, failure: Failure) -> None:
                refused.append(failure.value)
                self.stop()

        endpoints = build_endpoint_description_strings(host=host, port=port)
        server = Listening(application, endpoints=endpoints, server_name="")

        def stop_without(worker: asyncio.Task[None]) -> None:
            if not worker.cancelled():
                server.stop()

        def end_worker() -> Deferred[object]:
            worker.cancel()
            return Deferred.fromFuture(asyncio.ensure_future(asyncio.wait([worker])))

        worker.add_done_callback(stop_without)
        reactor.addSystemEventTrigger("before", "shutdown", end_worker)
        server.run()
        greeter.cancel()
        if refused:
            raise CannotListen(str(refused[0])) from refused[0]
        if worker.done() and not worker.cancelled():
            raise RuntimeError("The worker could not go on.") from worker.exception()


async def _announce(host: str, port: int, ready: Callable[[], None]) -> None:
    """Ask for /healthz until it is answered."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(reachable, port)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer.partition(b"\r\n")[0]:
                # What is loaded by now stays: the collector need not look at it again and again.
                gc.collect()
                gc.freeze()
                ready()
                return
        await asyncio.sleep(0.05)
