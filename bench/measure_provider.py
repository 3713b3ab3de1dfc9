"""What a streamed event costs the fake provider, and how late it runs: 200 streams at 30 tokens a second."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from bench.provider import Provider
from bench.text import read_stamps


class _Reader(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.received = bytearray()
        self.finished = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)  # type: ignore[attr-defined]  # a transport that writes

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"\r\n0\r\n\r\n"):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the signature is the framework's
        self.finished.set_result(None)


async def _streams(url: str, count: int, spread: float) -> list[bytearray]:
    body = json.dumps({"model": "fake/alpha", "stream": True, "messages": [{"role": "user", "content": "Why?"}]})
    request = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    where = urlsplit(url)
    readers = []
    for _ in range(count):
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: _Reader(request), where.hostname, where.port
        )
        readers.append(reader)
        await asyncio.sleep(spread / count)
    await asyncio.gather(*(reader.finished for reader in readers))
    return [reader.received for reader in readers]


def measure(streams: int = 200, tokens: int = 150, repeats: int = 3) -> list[dict[str, Any]]:
    """Measure with starts spread over a second and with all at once; every run is shown."""
    runs = []
    for spread in [1.0, 0.0] * repeats:
        with Provider(tokens=tokens, stamp=True) as provider:
            before = provider.told()["processor_seconds"]
            received = asyncio.run(_streams(provider.url, streams, spread))
            after = provider.told()
            used = after["processor_seconds"] - before
            complete = [
                [each.serial for each in read_stamps(text.decode())] == list(range(tokens)) for text in received
            ]
        runs.append(
            {
                "starts": "spread over 1 s" if spread else "at once",
                "streams": streams,
                "events": streams * tokens,
                "complete": sum(complete),
                "processor_us_per_event": round(used / (streams * tokens) * 1e6, 2),
                "share_of_a_core": round(used / (0.05 + tokens / 30 + spread), 3),
                "late_ms": after["late_ms"],
                "late_by_over_1_ms": after["late_by_over_1_ms"],
            }
        )
    return runs
