"""What a test or a round of the soak plays: people ask and watch, something breaks, and all must hold in the end."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from faults import invariants
from faults.pages import Page, Person
from faults.site import PACE, PATIENCE, Part, Site, frozen, wait_until


class Scene:
    """A site that is whole, at a moment from which everything is accounted for."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.provider = site.provider
        site.begin()
        site.as_at_first()
        site.provider.reset()
        self.since: Any = site.rows("SELECT clock_timestamp() AS now")[0]["now"]
        self.people: list[Person] = []
        self.pages: list[Page] = []

    def someone(self) -> Person:
        """Somebody who has signed in."""
        self.people.append(Person(self.site, self.site.someone()))
        return self.people[-1]

    def administrator(self) -> Person:
        """Somebody who may do everything."""
        self.people.append(Person(self.site, self.site.administrator))
        return self.people[-1]

    def asked(self, question: str = "", person: Person | None = None) -> Page:
        """Somebody has asked, and watches."""
        person = person or self.someone()
        return self.watched(person, person.ask(question))

    def watched(self, person: Person, place: str) -> Page:
        """The page is open from now on."""
        self.pages.append(person.open(place))
        return self.pages[-1]

    def asked_of(self, worker: Part, question: str = "") -> Page:
        """Somebody has asked, and this worker has begun with it: the others stood still meanwhile."""
        self.site.all_ready()
        with contextlib.ExitStack() as frozen_:
            for each in self.site.workers:
                if each is not worker:
                    frozen_.enter_context(frozen(each))
            page = self.asked(question)
            wait_until(lambda: page.deliberation()["attempt"], words=self.site.said)
        return page

    @contextlib.contextmanager
    def patient(self, worker: Part, seconds: int = 60) -> Iterator[None]:
        """Inside the block it is started anew, as one that goes on for so long when it is told to end."""
        before = worker.arguments
        worker.close()
        worker.arguments = (*before[: before.index("--grace")], "--grace", str(seconds))
        try:
            self.site.begin()
            yield
        finally:
            worker.close()
            worker.arguments = before
            self.site.begin()

    def losing(self, statement: bytes, *, dies: bool, answered: bool) -> Callable[[], bool]:
        """The first worker that says this is killed, or else its connection breaks.

        Just before the statement arrives, or, `answered`, just after it was committed. What comes back tells whether
        that has happened; the other worker is to go on.
        """
        lost: list[Part] = []

        def lose(worker: Part) -> None:
            # One alone: each minute has jobs of its own, and the other may say the same a moment later.
            lost.append(worker)
            if dies and len(lost) == 1:
                worker.kill()

        traps = [
            (each, each.database.when(statement, partial(lose, each), answered=answered)) for each in self.site.workers
        ]

        def happened() -> bool:
            if any(trap.sprung.is_set() for _, trap in traps):
                for each, trap in traps:
                    each.database.forget(trap)
                return True
            return False

        return happened

    def fresh(self) -> None:
        """Kill all workers, and start others."""
        for each in self.site.workers:
            each.kill()
        for each in self.site.workers:
            each.ends()
        self.site.begin()

    def slowly(self, seconds: float = 3) -> None:
        """The provider takes about so long for each answer, so that something can happen meanwhile."""
        self.provider.configure(tokens_per_second=PACE["tokens"] / seconds)

    def end(self, seconds: float = PATIENCE) -> list[str]:
        """Everything is whole again; what does not hold then, once all has ended within so many seconds."""
        try:
            self.site.begin()
            return invariants.broken(self.site, self.since, self.pages, seconds)
        finally:
            for each in self.pages:
                each.close()
            for each in self.people:
                each.http.close()
