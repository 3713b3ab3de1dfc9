"""Random faults for as long as you like: `python -m faults.soak --minutes 30 [--seed N]`, or `make soak`.

Each round has a seed, printed before it begins: from it comes who asks, how the provider answers, what breaks and when.
`--seed N` begins with that round, and `--rounds 1` plays it alone. What a round does is the same each time; how far the
processes have come by then is not. At the end come the figures; the exit code is 1 if anything did not hold.
"""

import argparse
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from faults import invariants
from faults.links import Link
from faults.pages import Page
from faults.scene import Scene
from faults.site import Part, Site, wait_until

BOUND = 120.0
"""Seconds for the deliberations of a round."""
ANSWERS: list[dict] = [
    {"fault": "rate_limited", "n": 1},
    {"fault": "rate_limited", "n": 121},
    {"fault": "server_error"},
    {"fault": "unavailable"},
    {"fault": "no_headers"},
    {"fault": "hang", "n": 5},
    {"fault": "cut"},
    {"fault": "malformed_json"},
    {"fault": "utf8_split"},
    {"fault": "crlf"},
    {"fault": "no_done"},
    {"fault": "no_finish"},
    {"fault": "error_first"},
    {"fault": "error_after"},
    {"fault": "empty"},
    {"fault": "refusal"},
    {"fault": "content_filter"},
    {"fault": "length"},
    {"fault": "nul"},
    {"fault": "reasoning"},
]
KINDS = ("answer", "ballot", "synthesis")


@dataclass
class Figures:
    """What came of it."""

    rounds: int = 0
    deliberations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    other: int = 0
    unknown: int = 0
    told: Counter[str] = field(default_factory=Counter)
    seeds: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        faults = ", ".join(f"{name} {count}" for name, count in self.faults.most_common())
        statuses = ", ".join(f"{name} {count}" for name, count in self.statuses.most_common())
        told = "; ".join(f"{count} as “{words}”" for words, count in self.told.most_common()) or "none"
        return [
            f"rounds          {self.rounds}",
            f"deliberations   {self.deliberations} ({statuses})",
            f"faults          {self.faults.total()} ({faults})",
            f"lost            {self.lost}",
            f"doubled         {self.doubled}",
            f"unknown         {self.unknown}, told: {told}",
            f"otherwise wrong {self.other}",
            *([f"seeds to replay {self.seeds}"] if self.seeds else []),
        ]


class Round:
    """One seed's."""

    def __init__(self, site: Site, seed: int, figures: Figures) -> None:
        self.rng = random.Random(seed)
        self.site, self.seed, self.figures = site, seed, figures
        self.scene = Scene(site)
        self.pages: list[Page] = []

    def play(self) -> list[str]:
        """What did not hold."""
        rng, scene = self.rng, self.scene
        scene.slowly(rng.choice([0.3, 1, 2]))
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            answer = rng.choice(ANSWERS)
            match = {"kind": rng.choice(KINDS), "model": f"m{rng.randrange(4)}"}
            self._broke(f"provider {answer['fault']}")
            scene.provider.script(match, times=rng.choice([1, 2]), **answer)
        moments = sorted(rng.uniform(0, 4) for _ in range(rng.choice([0, 1, 1, 2, 3])))
        events = [(moment, rng.choice(list(EVENTS))) for moment in moments]
        people = rng.choice([1, 1, 2, 3])
        stopped = rng.random() < 0.1
        began = time.monotonic()
        for _ in range(people):
            self.pages.append(scene.asked())
        if rng.random() < 0.3:
            scene.watched(self.pages[0].person, self.pages[0].place)
        for moment, name in events:
            time.sleep(max(0.0, moment - (time.monotonic() - began)))
            self._broke(name)
            EVENTS[name](self)
        if stopped:
            self._broke("stopped")
            self.pages[0].person.insist(f"{self.pages[0].place}stop/")
        return self._end()

    def _broke(self, name: str) -> None:
        self.figures.faults[name] += 1

    def _end(self) -> list[str]:
        broken = self.scene.end(BOUND)
        account = invariants.Account(self.site, self.scene.since, [])
        keys = {each["id"] for each in account.deliberations}
        self.figures.rounds += 1
        self.figures.deliberations += len(keys)
        self.figures.statuses.update(each["status"] for each in account.deliberations)
        unknown = [each for each in account.calls if each["unknown"]]
        self.figures.unknown += len(unknown)
        self.figures.told.update(f"{each['outcome']}: {each['error']}" for each in unknown)
        for each in broken:
            match each.partition(":")[0]:
                case "lost" | "I4":
                    self.figures.lost += 1
                case "I1" | "I2":
                    self.figures.doubled += 1
                case _:
                    self.figures.other += 1
        return broken


def _a_worker(round_: Round) -> Part:
    return round_.rng.choice(round_.site.workers)


def _a_link(round_: Round) -> Link:
    return round_.rng.choice(round_.site.links)


def _kill(round_: Round) -> None:
    worker = _a_worker(round_)
    worker.kill()
    worker.ends()
    worker.close()
    worker.start()


def _replace(round_: Round) -> None:
    worker = _a_worker(round_)
    worker.terminate()
    worker.ends()
    worker.close()
    worker.start()


def _freeze(round_: Round) -> None:
    worker = _a_worker(round_)
    worker.freeze()
    time.sleep(round_.rng.uniform(0.5, 6))
    worker.wake()


def _restart_web(round_: Round) -> None:
    round_.site.web.kill()
    round_.site.web.ends()
    round_.site.web.close()
    round_.site.web.start()


def _cut(round_: Round) -> None:
    _a_link(round_).cut()


def _refuse(round_: Round) -> None:
    link = _a_link(round_)
    link.refuse()
    time.sleep(round_.rng.uniform(0.1, 2))
    link.mend()


def _hole(round_: Round) -> None:
    link = _a_link(round_)
    link.hole()
    time.sleep(round_.rng.uniform(0.1, 4))
    link.cut()
    link.mend()


def _slow(round_: Round) -> None:
    _a_link(round_).slow(round_.rng.uniform(0.01, 0.2))


def _postgres(round_: Round) -> None:
    round_.site.restart_postgres(round_.rng.choice([signal.SIGINT, signal.SIGQUIT]))


def _valkey(round_: Round) -> None:
    round_.site.valkey.terminate()


EVENTS: dict[str, Callable[[Round], None]] = {
    "worker killed": _kill,
    "worker replaced": _replace,
    "worker frozen": _freeze,
    "web server killed": _restart_web,
    "line cut": _cut,
    "line refused": _refuse,
    "line dead": _hole,
    "line slow": _slow,
    "Postgres restarted": _postgres,
    "Valkey gone": _valkey,
}


def main() -> None:
    """Play, and tell."""
    parser = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the first round")
    given = parser.parse_args()
    figures = Figures()
    with Site() as site:
        wait_until(lambda: all("Working" in each.program.said for each in site.workers))
        until = time.monotonic() + given.minutes * 60
        for seed in range(given.seed, given.seed + min(given.rounds, 10**9)):
            if time.monotonic() > until:
                break
            print(f"seed {seed}", end=" ", flush=True)
            broken = Round(site, seed, figures).play()
            print("broke" if broken else "held", flush=True)
            if broken:
                figures.seeds.append(seed)
                print(*broken, site.said()[-4000:], sep="\n", flush=True)
    print(*figures.lines(), sep="\n")
    sys.exit(bool(figures.seeds))


if __name__ == "__main__":
    main()
