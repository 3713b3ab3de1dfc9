"""Two states of this project side by side: `python -m bench.sides BEFORE AFTER`, each the folder of a checkout.

Both sites run at once, on one provider, with as many people each. What a busy machine does to one it does to the other,
so their ratio tells a difference of two percent where figures of two runs, one after the other, differ by twenty.
"""

import argparse
import asyncio
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.deliberations import PATIENCE, Site, questions
from bench.provider import Provider


async def ask(sites: list[Site], provider: Provider, count: int) -> list[tuple[float, float]]:
    """Have `count` people ask at each site; the processor seconds of each, and of its database."""
    provider.reset()
    viewers = [(site, viewer) for site in sites for viewer in questions(site, count)]
    start = asyncio.Event()
    tasks = [asyncio.create_task(viewer.ask(site.address, start)) for site, viewer in viewers]
    await asyncio.sleep(1.5)
    before = [site.processor() for site in sites]
    start.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
    return [
        (site[0] - begun[0], site[1] - begun[1])
        for site, begun in zip((site.processor() for site in sites), before, strict=True)
    ]


def main() -> None:
    """Print one JSON object a repeat."""
    parser = argparse.ArgumentParser(prog="python -m bench.sides", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--count", type=int, default=25, help="deliberations at each site")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=150, help="a call")
    given = parser.parse_args()
    with (
        ExitStack() as ends,
        Provider(stamp=True, tokens=given.tokens, tokens_per_second=30, first_token_ms=50) as provider,
    ):
        sites = []
        for root in (given.before, given.after):
            sites.append(Site(ends.enter_context(tempfile.TemporaryDirectory()), provider.url, root.resolve()))
            ends.callback(sites[-1].stop)
        asyncio.run(ask(sites, provider, 1))  # the first question of a process pays for its imports
        for _ in range(given.repeats):
            spent = asyncio.run(ask(sites, provider, given.count))
            tokens = sum(each["stamps"] for each in provider.requests()) / len(sites)
            figures = {
                "site, µs a token": [round(site / tokens * 1e6, 1) for site, _ in spent],
                "after / before": round(spent[1][0] / spent[0][0], 3),
                "database, µs a token": [round(database / tokens * 1e6, 1) for _, database in spent],
            }
            print(json.dumps(figures, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
