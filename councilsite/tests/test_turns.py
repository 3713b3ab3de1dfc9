"""Requests take turns, and a slow one holds nobody up."""

import asyncio
import threading

import pytest
from allauth.account.views import LoginView
from channels.testing import HttpCommunicator
from django.http import HttpResponse

from councilsite import asgi, turns

PATIENCE = 30  # seconds


class Site:
    """Requests that last until they are let go."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.application = turns.in_turns(self.answer)

    async def answer(self, scope, _receive, _send) -> None:
        self.begun.append(scope["path"])
        await self.gates.setdefault(scope["path"], asyncio.Event()).wait()
        if scope["path"] == "/broken":
            raise RuntimeError("broken")

    def ask(self, path: str) -> asyncio.Task:
        return asyncio.create_task(self.application({"path": path}, None, None))

    def let_go(self, path: str) -> None:
        self.gates.setdefault(path, asyncio.Event()).set()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_works_and_the_others_wait(monkeypatch):
    monkeypatch.setattr(turns, "SLOW", PATIENCE)
    site = Site()
    asked = [site.ask(path) for path in ("/a", "/b", "/c")]
    for count, path in enumerate(("/a", "/b", "/c"), 1):
        await settle()
        assert len(site.begun) == count
        site.let_go(path)
    await asyncio.gather(*asked)
    assert site.begun == ["/a", "/b", "/c"]


async def test_a_slow_one_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(turns, "SLOW", 0.01)
    site = Site()
    slow, other = site.ask("/slow"), site.ask("/other")
    site.let_go("/other")
    await asyncio.wait_for(other, PATIENCE)
    assert not slow.done()
    # It has given its turn back once, not twice: two more do not work at the same time.
    monkeypatch.setattr(turns, "SLOW", PATIENCE)
    site.let_go("/slow")
    await slow
    last = [site.ask("/x"), site.ask("/y")]
    await settle()
    assert site.begun == ["/slow", "/other", "/x"]
    site.let_go("/x")
    site.let_go("/y")
    await asyncio.gather(*last)


async def test_one_that_fails_or_is_given_up_ends_its_turn(monkeypatch):
    monkeypatch.setattr(turns, "SLOW", PATIENCE)
    site = Site()
    broken, left = site.ask("/broken"), site.ask("/left")
    site.let_go("/broken")
    with pytest.raises(RuntimeError):
        await broken
    await settle()
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    site.let_go("/next")
    await asyncio.wait_for(site.ask("/next"), PATIENCE)


async def test_not_even_slow_ones_are_worked_on_without_end(monkeypatch):
    monkeypatch.setattr(turns, "SLOW", 0.01)
    monkeypatch.setattr(turns, "MOST", 2)
    site = Site()
    asked = [site.ask(path) for path in ("/a", "/b", "/c")]
    while len(site.begun) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert site.begun == ["/a", "/b"]
    for path in ("/a", "/b", "/c"):
        site.let_go(path)
    await asyncio.gather(*asked)


@pytest.mark.django_db(transaction=True)
async def test_the_process_says_that_it_serves_while_every_page_waits(monkeypatch):
    """As all of them do for a database that is away: whoever restarts what does not answer would mend nothing."""
    begun, back = [], threading.Event()

    def wait(*_, **__) -> HttpResponse:
        begun.append(1)
        back.wait(PATIENCE)
        return HttpResponse()

    async def get(path: str, patience: float = PATIENCE) -> dict:
        asked = HttpCommunicator(asgi.application, "GET", path, headers=[(b"host", b"localhost")])
        response = await asked.get_response(patience)
        await asked.wait(PATIENCE)
        return response

    monkeypatch.setattr(LoginView, "dispatch", wait)
    monkeypatch.setattr(turns, "SLOW", 0.0)
    waiting = []
    for count in range(1, turns.MOST + 1):
        waiting.append(asyncio.create_task(get("/accounts/login/")))
        async with asyncio.timeout(PATIENCE):
            while len(begun) < count:
                await asyncio.sleep(0.01)
    try:
        assert (await get("/healthz", PATIENCE / 3))["body"] == b"ok\n"
    finally:
        back.set()
        await asyncio.gather(*waiting)
