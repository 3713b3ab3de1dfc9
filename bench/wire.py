"""The fake provider's wire: connections, the HTTP/1.1 that it needs, and the clock that wakes each answer.

Requests have a Content-Length; answers are whole or chunked; a connection is kept and used again. What is answered is
decided elsewhere: a `Server` (bench/provider.py) gives a play for each request.
"""

import asyncio
import heapq
import json
import socket
import struct
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http import HTTPStatus
from math import inf
from typing import Any, Protocol

from bench.replies import Play

_STATUSES = {status.value for status in HTTPStatus}
EARLY = 0.0005
"""Seconds by which a token may be early: the loop wakes at whole milliseconds, so half of one either way is even."""


@dataclass
class Record:
    """One request as it came and what became of it. Times are nanoseconds of `time.time_ns()`."""

    number: int
    connection: int
    """Which connection it came by: equal numbers mean that one was used again."""
    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names in lower case, without Authorization."""
    key_sha256: str | None
    """Hex digest of the bearer token; None without one."""
    body: bytes
    received_ns: int
    kind: str = ""
    rule: int | None = None
    """The rule that answered, counted from 0; None for the default."""
    status: int | None = None
    first_byte_ns: int | None = None
    last_byte_ns: int | None = None
    stamps: int = 0
    """Stamped tokens sent."""
    late_ms: float = 0
    """The most by which a token was late, not counting a client that read too slowly."""
    finished: bool = False
    """Whether all was sent that should be, a scripted cut included."""
    disconnected: bool = False
    """Whether the client left before the answer was complete."""

    def parsed(self) -> Any:
        """The body as JSON; as text where it is none; None where there was none."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError:
            return self.body.decode("utf-8", "replace")

    def told(self) -> dict[str, Any]:
        """The record as JSON values, the body parsed."""
        return {**asdict(self), "body": self.parsed(), "authorized": self.key_sha256 is not None}


class Server(Protocol):
    """What a connection needs of whoever decides on the answers."""

    pump: "Pump"
    open: set["Connection"]
    connections: int

    def receive(
        self, connection: int, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[Record, Play]:
        """Count a request and decide on its answer."""


class Pump:
    """Wakes each reply when its next part is due: one heap and one timer for all of them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.heap: list[tuple[float, int, Reply]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.late = array("d")

    def wake(self, reply: "Reply", due: float) -> None:
        """Have the reply go on at `due`, a time of the loop's clock."""
        heapq.heappush(self.heap, (due, reply.record.number, reply))
        if self.timer is None or self.timer.when() > due - EARLY:
            self._set_timer()

    def _set_timer(self) -> None:
        if self.timer:
            self.timer.cancel()
        self.timer = self.loop.call_at(self.heap[0][0] - EARLY, self._tick) if self.heap else None

    def _tick(self) -> None:
        heap, clock, late = self.heap, self.loop.time, self.late
        # Setting the timer is put off to the end, whatever a play raises.
        self.timer = None
        horizon = clock() + EARLY
        try:
            while heap and heap[0][0] <= horizon:
                due, number, reply = heap[0]
                wait = reply.proceed()
                if wait is None:
                    heapq.heappop(heap)
                else:
                    heapq.heapreplace(heap, (due + wait, number, reply))
                behind = clock() - due
                late.append(behind)
                if behind > reply.behind:  # noqa: PLR1730  # max() costs a call for each token
                    reply.behind = behind
        except BaseException:
            heapq.heappop(heap)
            raise
        finally:
            self._set_timer()


class Reply:
    """One answer under way: what a play writes to."""

    def __init__(self, connection: "Connection", record: Record, play: Play) -> None:
        self.connection, self.record = connection, record
        self.transport = connection.transport
        self.parts: Iterator[float] = play(self)
        self.behind = 0.0
        self.chunked = False
        self.waiting = False

    def begin(self) -> None:
        """Play up to the first wait."""
        self._go_on(self.connection.server.pump.loop.time())

    def _go_on(self, now: float) -> None:
        wait = self.proceed()
        if wait is not None:
            self.connection.server.pump.wake(self, now + wait)

    def proceed(self) -> float | None:
        """Write the next part. Returns the seconds to the one after; None if it needs no waking."""
        # A client that left is known here before the event loop says so: a long answer without waits would outrun it.
        if self.connection.reply is not self or self.transport.is_closing():
            return None
        if self.connection.paused:
            self.waiting = True
            return None
        wait = next(self.parts, None)
        if wait is None:
            self._finish()
        return None if wait == inf else wait

    def resume(self) -> None:
        """Go on after a pause that the client caused: its lateness is not ours."""
        if self.waiting:
            self.waiting = False
            self._go_on(self.connection.server.pump.loop.time())

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Send the head of a chunked answer."""
        self.chunked = True
        self.raw(self._head(status, {**headers, "Transfer-Encoding": "chunked"}))

    def whole(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer: a text as it is, anything else as JSON."""
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
        self.raw(self._head(status, {"Content-Type": kind, **(headers or {}), "Content-Length": str(len(data))}) + data)

    def _head(self, status: int, headers: dict[str, str]) -> bytes:
        self.record.status = status
        reason = HTTPStatus(status).phrase if status in _STATUSES else ""
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        lines.append(f"X-Request-Id: {self.record.number}")
        if not self.connection.keep:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode()

    def token(self, text: str, stamps: int) -> None:
        """Send an event with a token; `stamps` counts the stamped ones so far."""
        self.record.stamps = stamps
        self.event(text)

    def event(self, text: str) -> None:
        """Send text as one chunk."""
        data = text.encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def write(self, data: bytes) -> None:
        """Send bytes as one chunk; none for no bytes, as an empty chunk is the end."""
        if data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self.record.first_byte_ns is None:
            self.record.first_byte_ns = time.time_ns()
        self.transport.write(data)

    def close(self) -> None:
        """Close the connection once what was written is sent."""
        self.connection.keep = False

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        no_linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.chunked = False
        self.transport.abort()

    def _finish(self) -> None:
        if self.chunked:
            self.transport.write(b"0\r\n\r\n")
        self.record.finished = True
        self.settle()
        self.connection.next()

    def settle(self) -> None:
        """Note when the answer ended, and how late it ran."""
        self.record.last_byte_ns = time.time_ns()
        self.record.late_ms = round(self.behind * 1000, 3)


class Connection(asyncio.Protocol):
    """One client's connection: requests in, one answer at a time out."""

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.buffer = bytearray()
        self.reply: Reply | None = None
        self.paused = False
        self.keep = True
        server.connections += 1
        self.number = server.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102  # asyncio's own names
        self.transport = transport  # type: ignore[assignment]  # narrower than the stubs say
        self.server.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102  # the signature is the framework's
        self.server.open.discard(self)
        if self.reply:
            self.reply.record.disconnected = True
            self.reply.settle()
            self.reply = None

    def pause_writing(self) -> None:  # noqa: D102  # asyncio's own names
        self.paused = True

    def resume_writing(self) -> None:  # noqa: D102  # asyncio's own names
        self.paused = False
        if self.reply:
            self.reply.resume()

    def data_received(self, data: bytes) -> None:  # noqa: D102  # asyncio's own names
        self.buffer += data
        if self.reply is None:
            self._read()

    def next(self) -> None:
        """Take the next request, now that one is answered."""
        self.reply = None
        if not self.keep:
            self.transport.close()
        elif self.buffer:
            self.server.pump.loop.call_soon(self._read)

    def _read(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or self.reply or self.transport.is_closing():
            return
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        method, path, version = first.split(" ")
        self.keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
        if "transfer-encoding" in headers:
            self.keep = False
        record, play = self.server.receive(self.number, method, path, headers, body)
        self.reply = Reply(self, record, play)
        self.reply.begin()
