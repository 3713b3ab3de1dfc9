"""How long Stop takes, measured from outside: `python -m bench.cancelling`.

From the moment in which the form is sent to that in which the provider sees the last connection of the deliberation
dropped. Web server, two workers, PostgreSQL, Valkey and provider are processes of their own (`faults.site`), at the
usual times. Every call of the stage is being written when somebody presses the button.

Prints one JSON object a stage: how often, how many calls were dropped each time, and the milliseconds.
"""

import argparse
import json
import random
import statistics
import time
from typing import Any

from faults.scene import Scene
from faults.site import Site, wait_until

STAGES = {"answering": "answer", "reviewing": "ballot", "synthesising": "synthesis"}
LOOKS = 0.3
"""Seconds between two looks of a worker for what was stopped: the click comes at any moment between."""


def stop(scene: Scene, stage: str) -> tuple[float, int]:
    """Ask, stop in this stage; the milliseconds, and how many calls that ended."""
    scene.provider.reset()
    scene.provider.script({"kind": STAGES[stage]}, tokens=2000, tokens_per_second=30)
    page = scene.asked()
    calls = 1 if stage == "synthesising" else 3

    def under_way() -> list[dict[str, Any]]:
        return [each for each in scene.provider.requests() if each["kind"] == STAGES[stage]]

    wait_until(lambda: len(begun := under_way()) == calls and all(each["first_byte_ns"] for each in begun))
    time.sleep(random.uniform(0, LOOKS))
    began = time.time_ns()
    page.person.post(f"{page.place}stop/")
    wait_until(lambda: all(each["disconnected"] for each in under_way()))
    dropped = under_way()
    page.ends()
    page.close()
    scene.pages.remove(page)
    return (max(each["last_byte_ns"] for each in dropped) - began) / 1e6, len(dropped)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cancelling", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="a stage")
    given = parser.parse_args()
    with Site(hurry=1) as site:
        scene = Scene(site)
        site.all_ready()
        site.deadlines(first_token_seconds=120, between_tokens_seconds=60, call_seconds=600)
        for stage in STAGES:
            stop(scene, stage)  # the first of a process pays for its imports
            took, calls = zip(*(stop(scene, stage) for _ in range(given.times)), strict=True)
            figures = {
                "stopped while": stage,
                "times": given.times,
                "calls each": max(calls),
                "click to last connection dropped, ms": {
                    "median": round(statistics.median(took)),
                    "most": round(max(took)),
                },
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
