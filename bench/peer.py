"""The project that made the pattern popular, measured beside this one: `python -m bench.peer CHECKOUT --python PYTHON`.

A figure in milliseconds holds for one machine in one hour; a ratio within one run holds elsewhere, too. So both sites
get the same load from the same fake provider, in turn. The other one comes twice: as it is, with a TLS context
for each call, and with one for all calls.

CHECKOUT is one of github.com/karpathy/llm-council; PYTHON is an interpreter that has what its pyproject.toml asks for.
Nothing of it is part of this project.

Prints one JSON object a load: who, and the milliseconds over the provider's critical path, from the POST to the end of
the answer, as `bench.deliberations` has it.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from bench.deliberations import PATIENCE, Site, load
from bench.provider import Provider

START = """
import sys
if sys.argv[4:]:
    from functools import cache
    from httpx._transports import default
    default.create_ssl_context = cache(default.create_ssl_context)
sys.path.insert(0, sys.argv[1])
from backend import config
config.OPENROUTER_API_URL = sys.argv[2] + "/chat/completions"
import uvicorn
from backend.main import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="warning")
"""
TITLE = "google/gemini-2.5-flash"
"""The model that it has make titles, beside the path."""


class Peer:
    """Its server, over a fresh folder."""

    def __init__(self, folder: str, checkout: Path, python: str, provider: str, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [python, "-c", START, str(checkout.resolve()), provider, str(port), *options]
        self.process = subprocess.Popen(command, cwd=folder)
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("The other project's server did not start; its error output says why.")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.address, trust_env=False).is_success
        return False

    async def ask(self, provider: Provider, count: int) -> float:
        """Have so many people ask at once; the median of milliseconds over the critical path."""
        provider.reset()
        questions = [f"Question {secrets.token_hex(8)}" for _ in range(count)]
        took = await asyncio.gather(*(self._ask(each) for each in questions))
        requests = [(each, json.dumps(each["body"])) for each in provider.requests()]
        paths = [_critical([each for each, body in requests if question in body]) for question in questions]
        return statistics.median((seconds - path) * 1000 for seconds, path in zip(took, paths, strict=True))

    async def _ask(self, question: str) -> float:
        async with httpx.AsyncClient(base_url=self.address, timeout=PATIENCE, trust_env=False) as client:
            conversation = (await client.post("/api/conversations", json={})).json()["id"]
            place = f"/api/conversations/{conversation}/message/stream"
            began, ended = time.perf_counter(), 0.0
            async with client.stream("POST", place, json={"content": question}) as response:
                async for line in response.aiter_lines():
                    if "stage3_complete" in line[:60]:
                        ended = time.perf_counter()
        return ended - began

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


def _critical(requests: list[dict[str, Any]]) -> float:
    """Seconds of the slowest answer, the slowest review and the synthesis: a model's requests come in that order."""
    stages: list[list[float]] = [[], [], []]
    seen: dict[str, int] = defaultdict(int)
    for each in sorted(requests, key=lambda each: each["received_ns"]):
        if (model := each["body"]["model"]) != TITLE:
            stages[seen[model]].append((each["last_byte_ns"] - each["received_ns"]) / 1e9)
            seen[model] += 1
    return sum(map(max, stages))


def main() -> None:
    """Print one JSON object a load and site."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=1)
    given = parser.parse_args()
    with (
        contextlib.ExitStack() as ends,
        Provider(stamp=True, tokens=300, tokens_per_second=30, first_token_ms=50) as provider,
    ):
        folders = [ends.enter_context(tempfile.TemporaryDirectory()) for _ in range(3)]
        peers = {}
        for name, options in {"the other": [], "the other, one TLS context": ["shared"]}.items():
            peers[name] = Peer(folders.pop(), given.checkout, given.python, provider.url, *options)
            ends.callback(peers[name].stop)
        site = Site(folders.pop(), provider.url)
        ends.callback(site.stop)
        for number in range(given.repeats + 1):
            count = given.at_once if number else 1  # the first question of a process pays for its imports
            for name, peer in peers.items():
                _tell(name, count, asyncio.run(peer.ask(provider, count)), provider, shown=number > 0)
            told = asyncio.run(load(site, provider, count))
            _tell("this", count, told["over the critical path, ms"]["median"], provider, shown=number > 0)


def _tell(who: str, count: int, over: float, provider: Provider, *, shown: bool) -> None:
    if shown:
        late = provider.told()["late_ms"]["p99"]
        line = {"who": who, "at once": count, "over, ms": round(over, 1), "provider late, ms p99": late}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
