"""How fast a long history is, at the server: `python -m bench.history`.

The site is `manage.py up` over a database of its own. One person asks one question of the fake provider, and that turn
is copied a hundred thousand times (`bench.past`). Then that person asks for each kind of page, one after another, over
an open connection on the same machine: what is measured is the time from the request to the last byte of its answer.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx

from bench.deliberations import ROOT, Site, Viewer
from bench.provider import Provider

WARM = 3
"""Requests before those that count: the first in a thread connects to the database."""


def ask(site: Site) -> str:
    """Have one person ask one question, and wait for the answer; the key of their session."""
    viewer = Viewer(site.people(21)[0], "Should we keep our caches?")

    async def asked() -> None:
        start = asyncio.Event()
        start.set()
        await viewer.ask(site.address, start)

    asyncio.run(asked())
    return viewer.session


def fill(site: Site, turns: int, each: int) -> dict[str, Any]:
    """Give that person a past; what `bench.past` tells of it."""
    command = [sys.executable, "-m", "bench.past", str(turns), str(each)]
    done = subprocess.run(command, cwd=ROOT, env=site.environ, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(site: Site, session: str, addresses: list[str], requests: int) -> dict[str, Any]:
    """Median, 95th percentile and most of the milliseconds that these addresses take, in turn.

    And the processor time of the site and of its database a request: that of others counts less in it.
    """
    headers = {"HX-Request": "true"} if addresses[0].startswith("/history/") else {}
    taken = []
    with httpx.Client(base_url=site.address, cookies={"sessionid": session}, headers=headers, timeout=60) as client:
        for number in range(WARM + requests):
            began = time.perf_counter()
            answer = client.get(addresses[number % len(addresses)]).raise_for_status()
            if number < WARM:
                before = site.processor()
            else:
                taken.append((time.perf_counter() - began) * 1000)
    after = site.processor()
    taken.sort()
    return {
        "median": round(statistics.median(taken), 1),
        "p95": round(taken[(len(taken) - 1) * 95 // 100], 1),
        "most": round(taken[-1], 1),
        "processor, site": round((after[0] - before[0]) * 1000 / requests, 1),
        "processor, database": round((after[1] - before[1]) * 1000 / requests, 1),
        "lines": answer.text.count('class="entry"'),
        "kB": round(len(answer.content) / 1000),
    }


def pace() -> float:
    """How fast the machine is just now: microseconds of processor for the loop of `bench.deliberations`."""
    began = time.thread_time_ns()
    for _ in range(20_000):
        pass
    return round((time.thread_time_ns() - began) / 1000)


def main() -> None:
    """Print what there is, and one JSON object a kind of page and repeat."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=4, help="turns a conversation")
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Provider(tokens=300, tokens_per_second=0, first_token_ms=1) as provider,
    ):
        site = Site(folder, provider.url)
        try:
            session = ask(site)
            began = time.perf_counter()
            told = fill(site, given.turns, given.each)
            addresses = told.pop("addresses")
            print(json.dumps({**told, "seconds to fill": round(time.perf_counter() - began)}), flush=True)
            for _ in range(given.repeats):
                for what, which in addresses.items():
                    figures = measure(site, session, which, given.requests)
                    line = {"page": what, **figures, "machine, µs a fixed loop": pace()}
                    print(json.dumps(line, ensure_ascii=False), flush=True)
        finally:
            site.stop()


if __name__ == "__main__":
    main()
