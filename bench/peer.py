"""The project that made the pattern popular, measured beside this one: `python -m bench.peer CHECKOUT --python PYTHON`.

A figure in milliseconds holds for one machine in one hour; a ratio within one run holds elsewhere, too. So both sites
get the same load from the same fake provider, one question at a time and in turn. CHECKOUT is a checkout of
github.com/karpathy/llm-council; PYTHON is an interpreter that has what its pyproject.toml asks for. Nothing of it is
part of this project: its server is started as it is, but for the address of its provider.

Prints one JSON object a question: who, and the milliseconds over the provider's critical path, from the POST to the end
of the answer, as `bench.deliberations` has it.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import socket
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

    def __init__(self, folder: str, checkout: Path, python: str, provider: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [python, "-c", START, str(checkout.resolve()), provider, str(port)]
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

    async def ask(self, provider: Provider) -> float:
        """Ask it one question; the milliseconds over the critical path."""
        provider.reset()
        async with httpx.AsyncClient(base_url=self.address, timeout=PATIENCE, trust_env=False) as client:
            conversation = (await client.post("/api/conversations", json={})).json()["id"]
            place = f"/api/conversations/{conversation}/message/stream"
            began, ended = time.perf_counter(), 0.0
            async with client.stream("POST", place, json={"content": f"Question {secrets.token_hex(4)}"}) as response:
                async for line in response.aiter_lines():
                    if "stage3_complete" in line[:60]:
                        ended = time.perf_counter()
        return (ended - began - _critical(provider.requests())) * 1000

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
    """Print one JSON object a question."""
    parser = argparse.ArgumentParser(prog="python -m bench.peer", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as ours,
        tempfile.TemporaryDirectory() as theirs,
        Provider(stamp=True, tokens=300, tokens_per_second=30, first_token_ms=50) as provider,
    ):
        site, peer = Site(ours, provider.url), Peer(theirs, given.checkout, given.python, provider.url)
        try:
            for number in range(given.repeats + 1):
                of_peer = {"who": "the other", "over, ms": round(asyncio.run(peer.ask(provider)), 1)}
                told = asyncio.run(load(site, provider, 1))
                of_us = {"who": "this", "over, ms": told["over the critical path, ms"]["median"]}
                for line in (of_peer, of_us) if number else ():  # the first question of a process pays for its imports
                    print(json.dumps({**line, "provider late, ms p99": told["provider late, ms p99"]}), flush=True)
        finally:
            site.stop()
            peer.stop()


if __name__ == "__main__":
    main()
