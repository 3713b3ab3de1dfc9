"""How fast a deliberation is, measured from outside: `python -m bench.deliberations`, or `make bench`.

The site is `manage.py up` over a database of its own, in its own process; the provider is `bench.provider`, in another;
this process plays the people: each posts a question, opens the conversation's socket and reads until the end. All
post at the same moment, which is the worst case.

For each load it prints: wall time over the provider's critical path (its slowest answer, slowest review and synthesis),
the time from the provider's socket to the viewer's for the first token of each call and for all tokens, processor time
of the site and of its database for a token, memory, and tokens that the finished page lacks.
"""

import argparse
import asyncio
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import httpx
import psutil

from bench.provider import Provider
from bench.text import read_stamps

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = 4
PATIENCE = 300


@dataclass
class Viewer:
    """One person: a session, a question, and what was seen of its deliberation."""

    session: str
    question: str
    wall: float = 0.0
    ages: dict[tuple[int, int], int] = field(default_factory=dict)
    bytes: int = 0
    messages: int = 0
    place: str = ""
    page: str = ""
    posted: float = 0.0
    began_ns: int = 0
    ended_ns: int = 0

    async def ask(self, address: str, start: asyncio.Event) -> None:
        """Post the question and watch to the end."""
        token = secrets.token_hex(16)
        cookies = {"sessionid": self.session, "csrftoken": token}
        # A client that takes little time itself, over a connection that is open, as a browser's is.
        async with aiohttp.ClientSession(address, cookies=cookies) as client:
            await (await client.get("/healthz")).read()
            form = {"question": self.question, "csrfmiddlewaretoken": token, "council": "bench"}
            await start.wait()
            began = time.perf_counter()
            self.began_ns = time.time_ns()
            async with client.post("/", data=form, allow_redirects=False) as response:
                self.posted = time.perf_counter() - began
                if response.status != httpx.codes.FOUND:
                    raise RuntimeError(f"The question was not taken: {response.status} {await response.text()}")
                place = response.headers["location"]
            await self._watch(client, f"/ws{place}?after=0&revision=0", address)
            self.wall = (self.ended_ns - self.began_ns) / 1e9
            self.place = place

    async def look(self, address: str) -> None:
        """Load the finished page."""
        async with httpx.AsyncClient(base_url=address, cookies={"sessionid": self.session}, timeout=PATIENCE) as client:
            self.page = (await client.get(self.place)).text

    async def _watch(self, client: aiohttp.ClientSession, path: str, origin: str) -> None:
        async with client.ws_connect(path, origin=origin, max_msg_size=0) as connection:
            seen: set[str] = set()
            async for each in connection:
                now = time.time_ns()
                message = each.data
                self.bytes += len(message)
                self.messages += 1
                for stamp in read_stamps(message, now, seen):
                    self.ages.setdefault((stamp.request, stamp.serial), stamp.age_us)
                if '"unfinished":false' in message[-60:]:
                    self.ended_ns = now
                    return


class Site:
    """`manage.py up` over a fresh folder, with a council of `MEMBERS` members at the given provider.

    `root` is the folder of the checkout whose site it is.
    """

    def __init__(self, folder: str, provider: str, root: Path = ROOT) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.environ = {
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "VAR_DIR": folder,
            "PORT": str(port),
            "SITE_URL": self.address,
        }
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--no-practice"], cwd=root, env=self.environ, stdout=subprocess.PIPE
        )
        for line in self.process.stdout or ():
            if line.startswith(b"Open"):
                break
        else:
            raise RuntimeError("The site did not start; its error output says why.")
        self._provider, self._root = provider, root

    def people(self, count: int) -> list[str]:
        """Make people, and the council if there is none; returns the keys of their sessions."""
        done = subprocess.run(
            [sys.executable, "-m", "bench.people", self._provider, str(MEMBERS), str(count)],
            cwd=self._root,
            env=self.environ,
            capture_output=True,
            check=True,
            text=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def processor(self) -> tuple[float, float]:
        """Processor seconds so far: of the site's process, and of its database."""
        site = psutil.Process(self.process.pid)
        database = sum(sum(each.cpu_times()[:4]) for each in site.children(recursive=True))
        return sum(site.cpu_times()[:2]), database

    def memory(self) -> float:
        """Resident megabytes of the site's process."""
        return psutil.Process(self.process.pid).memory_info().rss / 1e6

    def stop(self) -> None:
        """End it cleanly. Not by SIGINT, which whatever a shell has put into the background ignores."""
        self.process.terminate()
        self.process.communicate(timeout=60)


def questions(site: Site, count: int) -> list[Viewer]:
    """So many people, each with a question that no other has."""
    return [
        Viewer(session, f"Question {number} {secrets.token_hex(4)}")
        for number, session in enumerate(site.people(count))
    ]


async def load(site: Site, provider: Provider, count: int) -> dict[str, Any]:
    """Have `count` people ask at once; the figures of that."""
    provider.reset()
    viewers = questions(site, count)
    memory = site.memory()
    start = asyncio.Event()
    peak, pace = asyncio.create_task(_peak(site)), asyncio.create_task(_pace())
    tasks = [asyncio.create_task(viewer.ask(site.address, start)) for viewer in viewers]
    await asyncio.sleep(1.5)
    before = site.processor()
    start.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    after = site.processor()
    peak.cancel()
    pace.cancel()
    for viewer in viewers:
        await viewer.look(site.address)
    figures = _figures(viewers, provider, before, after, (memory, max(await _result(peak), site.memory())))
    return {**figures, "machine, µs a fixed loop": _spread(await _result(pace))}


async def _peak(site: Site) -> float:
    most = 0.0
    try:
        while True:
            most = max(most, site.memory())
            await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        return most


async def _pace() -> list[float]:
    """How fast the machine is meanwhile: microseconds of processor for the same small loop, four times a second.

    A virtual processor that shares its core with a neighbour's takes nearly twice as long, from one second to the next.
    """
    taken = []
    try:
        while True:
            began = time.thread_time_ns()
            for _ in range(20_000):
                pass
            taken.append((time.thread_time_ns() - began) / 1000)
            await asyncio.sleep(0.25)
    except asyncio.CancelledError:
        return taken


async def _result(task: asyncio.Task[T]) -> T:
    return await task


def _figures(
    viewers: list[Viewer],
    provider: Provider,
    before: tuple[float, float],
    after: tuple[float, float],
    memory: tuple[float, float],
) -> dict[str, Any]:
    requests = provider.requests()
    tokens = sum(each["stamps"] for each in requests)
    over, share, gaps, firsts, lost = [], [], [], [], 0
    for viewer in viewers:
        mine = [each for each in requests if viewer.question in json.dumps(each["body"])]
        path = sum(
            max(_seconds(each) for each in mine if each["kind"] == kind) for kind in ("answer", "ballot", "synthesis")
        )
        over.append(viewer.wall - path)
        share.append((viewer.wall - path) / path)
        gaps.append(_gaps(viewer, mine))
        there = {(each.request, each.serial) for each in read_stamps(viewer.page)}
        for each in mine:
            if each["kind"] != "title":
                lost += sum((each["number"], serial) not in there for serial in range(each["stamps"]))
                firsts.append(viewer.ages.get((each["number"], 0), 10**9) / 1000)
    ages = [age / 1000 for viewer in viewers for age in viewer.ages.values()]
    return {
        "at once": len(viewers),
        "over the critical path, ms": _spread([each * 1000 for each in over]),
        "over, %": round(statistics.mean(share) * 100, 2),
        "before each stage and the end, ms": [round(statistics.mean(each), 1) for each in zip(*gaps, strict=True)],
        "POST, ms": _spread([viewer.posted * 1000 for viewer in viewers]),
        "first token to viewer, ms": _spread(firsts),
        "token to viewer, ms": _spread(ages),
        "site, µs a token": round((after[0] - before[0]) / tokens * 1e6, 1),
        "database, µs a token": round((after[1] - before[1]) / tokens * 1e6, 1),
        "memory, MB before and at most": [round(each) for each in memory],
        "tokens": tokens,
        "lost": lost,
        "provider late, ms p99": provider.told()["late_ms"]["p99"],
        "bytes a token": round(sum(viewer.bytes for viewer in viewers) / tokens),
    }


def _gaps(viewer: Viewer, requests: list[dict[str, Any]]) -> list[float]:
    """Milliseconds from the POST to the first answer's call, between the stages, and from the last byte to the end."""
    edges, before = [], viewer.began_ns
    for kind in ("answer", "ballot", "synthesis"):
        calls = [each for each in requests if each["kind"] == kind]
        edges.append((max(each["received_ns"] for each in calls) - before) / 1e6)
        before = max(each["last_byte_ns"] for each in calls)
    return [*edges, (viewer.ended_ns - before) / 1e6]


def _seconds(request: dict[str, Any]) -> float:
    return (request["last_byte_ns"] - request["received_ns"]) / 1e9


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[(len(ordered) - 1) * 95 // 100], 1),
        "most": round(ordered[-1], 1),
    }


def main() -> None:
    """Print one JSON object a load and repeat."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliberations", description=__doc__)
    parser.add_argument("--loads", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=300, help="a call")
    parser.add_argument("--rate", type=float, default=30, help="tokens a second")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Provider(stamp=True, tokens=given.tokens, tokens_per_second=given.rate, first_token_ms=50) as provider,
    ):
        site = Site(folder, provider.url)
        try:
            asyncio.run(load(site, provider, 1))  # the first question of a process pays for its imports
            for _ in range(given.repeats):
                for count in given.loads:
                    print(json.dumps(asyncio.run(load(site, provider, count)), ensure_ascii=False), flush=True)
        finally:
            site.stop()


if __name__ == "__main__":
    main()
