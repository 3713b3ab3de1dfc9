"""A way between two parts of the site that can be cut, blocked, slowed, or break at one exact statement.

A link listens on a free port of this machine and passes bytes on to where the other part really is. All links live on
one loop in a thread of their own; their methods are for any other thread and return when they have taken effect.
"""

import asyncio
import contextlib
import re
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

PORTS = range(20_000, 32_000)
"""Of all that listens here. Systems give higher ones to connections that go out, and one of these could otherwise have
the port of a part that is just away."""
CHUNK = 65_536
REMEMBERED = 65_536
"""Bytes of what was said before, in which a trap also looks: a statement may come in parts."""
PREPARED = re.compile(rb"PREPARE (own_\d+) (.*?); EXECUTE \1[ ;\x00]", re.DOTALL)
"""A statement that the site gives a name (governance/rows.py); from then on it says that."""
NAMED = re.compile(rb"EXECUTE (own_\d+)(?=[ ;\x00])")
DONE, IN_TRANSACTION = b"Z\x00\x00\x00\x05I", b"Z\x00\x00\x00\x05T"
"""Postgres's last word on a statement: nothing of it is open any more, or its transaction is."""


def free_port() -> int:
    """One of PORTS on which nobody listens just now."""
    while True:
        port = secrets.choice(PORTS)  # whoever shares the tests has the seed of `random` too
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], seconds: float | None = 60) -> T:
        """Carry it out there and wait for what it brings."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds)

    def stop(self) -> None:
        """End what still goes on there."""
        self.run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Trap:
    """What happens when something matching is said on the way there, once.

    `answered`: when it has been carried out and before the answer comes back; else before it arrives. Either way the
    connection then breaks.
    """

    pattern: re.Pattern[bytes]
    do: Callable[[], object]
    answered: bool
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Connection:
    """One connection through a link."""

    here: asyncio.StreamWriter
    there: asyncio.StreamWriter
    trap: Trap | None = None  # that waits for the answer
    said: bytes = b""  # while there were traps
    heard: bytes = b""  # of a statement that gets a name, as far as it has come
    names: dict[bytes, bytes] = field(default_factory=dict)

    def learn(self, data: bytes) -> None:
        """Keep which statements have which names."""
        if not self.heard and b"PREPARE own_" not in data:
            return
        self.heard = (self.heard + data)[-REMEMBERED:]
        end = 0
        for found in PREPARED.finditer(self.heard):
            self.names[found[1]] = found[2]
            end = found.end()
        self.heard = self.heard[end:] if b"PREPARE own_" in self.heard[end:] else b""

    def in_words(self) -> bytes:
        """What was said, with the statements after their names."""
        return NAMED.sub(lambda found: b"%b %b" % (found[0], self.names.get(found[1], b"")), self.said)

    def abort(self) -> None:
        """Break it, so that both ends hear of it at once."""
        for each in (self.here, self.there):
            with contextlib.suppress(OSError, AttributeError):
                # Without lingering a close is a reset.
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.transport.abort()


class Link:
    """See the module. `port` is where it listens, on 127.0.0.1, for good."""

    def __init__(self, loop: Loop, to: Address) -> None:
        self.to = to
        self.port = 0
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._traps: list[Trap] = []
        self._pause = 0.0
        self._whole = asyncio.Event()
        self._whole.set()
        loop.run(self._listen())

    def cut(self) -> None:
        """Break every connection; new ones may be made."""
        self._loop.run(self._cut())

    def refuse(self) -> None:
        """Break every connection, and refuse new ones until it is mended."""
        self._loop.run(self._refuse())

    def hole(self) -> None:
        """Let nothing through, either way, until it is mended. Nobody hears of it; connections can still be made."""
        self._loop.run(self._block())

    def slow(self, seconds: float) -> None:
        """Let every part wait so long before it is passed on."""
        self._pause = seconds

    def mend(self) -> None:
        """Be whole again; what was held back goes on."""
        self._loop.run(self._mend())

    def when(self, pattern: bytes, do: Callable[[], object] = lambda: None, *, answered: bool = False) -> Trap:
        """Set a trap; see `Trap`."""
        trap = Trap(re.compile(pattern, re.DOTALL), do, answered)
        self._traps.append(trap)
        return trap

    def forget(self, trap: Trap) -> None:
        """Take the trap away, sprung or not."""
        with contextlib.suppress(ValueError):
            self._traps.remove(trap)

    def close(self) -> None:
        """End it."""
        self._loop.run(self._refuse())

    async def _listen(self) -> None:
        # On the same port again: whoever was refused knows no other.
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=2048)

    async def _cut(self) -> None:
        for each in list(self._connections):
            each.abort()

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        self._whole.set()
        await self._cut()

    async def _block(self) -> None:
        self._whole.clear()

    async def _mend(self) -> None:
        self._pause = 0.0
        self._traps.clear()
        self._whole.set()
        if self._server is None:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._whole.wait()
            if isinstance(self.to, str):
                reader_there, there = await asyncio.open_unix_connection(self.to)
            else:
                reader_there, there = await asyncio.open_connection(*self.to)
        except OSError:
            writer.transport.abort()
            return
        for each in (writer, there):
            each.transport.set_write_buffer_limits(0)  # drained means sent
        connection = _Connection(writer, there)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forth(reader, connection))
                group.create_task(self._back(reader_there, connection))
        except* _Over:
            pass
        except* (OSError, _Broken):
            connection.abort()
        finally:
            self._connections.discard(connection)
            writer.close()
            there.close()

    async def _forth(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        while data := await reader.read(CHUNK):
            await self._passing()
            self._notice(data, connection)
            connection.there.write(data)
            await connection.there.drain()
        if connection.there.can_write_eof():
            connection.there.write_eof()

    async def _back(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        held = b""
        while data := await reader.read(CHUNK):
            await self._passing()
            if trap := connection.trap:
                held += data
                if held.endswith(DONE):
                    self._spring(trap)
                if not held.endswith(IN_TRANSACTION):
                    continue
                data, held = held, b""  # the commit is still to come
            connection.here.write(data)
            await connection.here.drain()
        connection.here.close()
        raise _Over

    async def _passing(self) -> None:
        await self._whole.wait()
        if self._pause:
            await asyncio.sleep(self._pause)

    def _notice(self, data: bytes, connection: _Connection) -> None:
        connection.learn(data)
        if not self._traps:
            connection.said = b""
            return
        connection.said = (connection.said + data)[-REMEMBERED:]
        said = connection.in_words()
        for trap in list(self._traps):
            if trap.pattern.search(said):
                self._traps.remove(trap)
                if not trap.answered:
                    self._spring(trap)
                connection.trap = trap

    def _spring(self, trap: Trap) -> None:
        trap.do()
        trap.sprung.set()
        raise _Broken


class _Broken(Exception):
    """Raised to break a connection."""


class _Over(Exception):
    """Raised where the other end has said its last."""
