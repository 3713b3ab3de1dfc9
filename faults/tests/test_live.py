"""Pages that lose their socket, their server, or their place among a thousand: each ends as a reload would show it."""

import asyncio
import contextlib
import json
import random
import re
import threading
import time
import uuid

import aiohttp
import pytest

from faults.pages import Page, Person, Refused
from faults.scene import Scene
from faults.site import HURRY, PATIENCE, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

rest = pytest.mark.faults
CROWD = 1000


@pytest.mark.parametrize("seed", [0, *(pytest.param(each, marks=rest) for each in range(1, 5))])
def test_it_is_cut_at_random_moments(scene, seed):
    rng = random.Random(seed)
    scene.slowly(1.5)
    pages = [scene.asked()]
    pages += [scene.watched(pages[0].person, pages[0].place) for _ in range(2)]
    while pages[0].deliberation()["finished"] is None:
        time.sleep(rng.uniform(0, 0.8))
        getattr(scene.site.browsers, rng.choice(["cut", "cut", "refuse", "hole"]))()
        time.sleep(rng.uniform(0, 0.3))
        scene.site.browsers.mend()
    assert all(page.connections > 1 for page in pages)


@pytest.mark.parametrize("stage", ["answering", "synthesising"])
@pytest.mark.faults
def test_the_web_server_is_killed_and_started_again(scene, stage):
    scene.slowly(2)
    page = scene.asked()
    page.until(lambda page: page.messages > 2 and page.deliberation()["stage"] == stage)
    scene.site.web.kill()
    scene.site.web.ends()
    scene.site.begin()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_the_web_server_is_away_until_after_the_end(scene):
    scene.slowly(0.5)
    page = scene.asked()
    page.until(lambda page: page.messages > 2)
    scene.site.web.terminate()
    scene.site.web.ends()
    wait_until(lambda: page.deliberation()["status"] == "complete")
    scene.site.begin()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_the_web_server_stands_still_for_a_while(scene):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.messages > 2)
    scene.site.web.freeze()
    time.sleep(2)
    scene.site.web.wake()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_a_line_as_slow_as_a_bad_telephone(scene):
    scene.slowly(1)
    page = scene.asked()
    scene.site.browsers.slow(0.4)
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_two_tabs_and_two_people_see_the_same(scene):
    """The owner twice, and a colleague through a live link; one tab has a line that breaks, one sees the follow-up."""
    scene.slowly(1)
    owner = scene.someone()
    first = scene.asked(person=owner)
    second = scene.watched(owner, first.place)
    owner.post(f"{first.place}share/", audience="team", live="live", expiry="never")
    link = re.search(r"/s/[\w-]+/", owner.http.get(f"{first.place}share/").text)[0]
    colleague = scene.watched(scene.someone(), link)
    for page in (first, second):
        assert page.ends()["status"] == "complete"
    colleague.until(lambda page: not page.unfinished)
    question = f"Question {uuid.uuid4().hex[:12]}: and then?"
    owner.ask(question, first.place)
    for page in (first, second, colleague):
        page.until(lambda page: page.shows(question) and not page.unfinished)


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.faults
def test_a_question_whose_answer_never_came_is_asked_once(scene, answered):
    """The database is lost just before, or just after, it has stored the question; the person sends the form again."""
    question = f"Question {uuid.uuid4().hex}: are you there?"
    trap = scene.site.web.database.when(question.encode(), answered=answered)
    page = scene.asked(question)
    assert trap.sprung.is_set()
    assert page.ends()["status"] == "complete"
    turns = scene.site.rows("SELECT id FROM conversations_turn WHERE conversation_id = %s", page.conversation)
    assert len(turns) == 1
    made = scene.site.rows("SELECT id FROM council_deliberation WHERE created >= %s", scene.since)
    assert len(made) == 1


@pytest.mark.faults
def test_a_double_click_asks_once(scene):
    person, form = scene.someone(), str(uuid.uuid4())
    question = f"Question {form}: once or twice?"
    places = {person.ask(question, request_id=form) for _ in range(3)}
    assert len(places) == 1
    page = scene.watched(person, places.pop())
    assert page.ends()["status"] == "complete"
    assert len(scene.provider.requests()) <= 3 + 3 + 1 + 1


@pytest.mark.faults
def test_one_person_s_flood_does_not_keep_another_s_answer(scene):
    """As many questions as one may have at work, forty sockets that shout, from one; the other asks in between."""
    greedy = scene.someone()
    flood = _as_many_as_one_may(greedy)
    assert 0 < len(flood) < 20
    shouting = asyncio.run_coroutine_threadsafe(_shout(scene, greedy, flood[0]), scene.site.loop.loop)
    page = scene.asked()
    assert page.ends()["status"] == "complete"
    for place in flood[:3]:
        scene.watched(greedy, place)
    shouting.result(PATIENCE)


def _as_many_as_one_may(person: Person) -> list[str]:
    asked: list[str] = []
    with contextlib.suppress(Refused):
        while len(asked) < 20:
            asked.append(person.ask())
    return asked


async def _shout(scene: Scene, person: Person, place: str) -> None:
    async with aiohttp.ClientSession(scene.site.address, cookies={"sessionid": person.session}) as client:
        for _ in range(40):
            connection = await client.ws_connect(f"/ws{place}?after=0&revision=0", origin=scene.site.address)
            for _ in range(50):
                await connection.send_str("x" * 1000)
            await connection.close()


@pytest.mark.timeout(600)
@pytest.mark.faults
def test_a_thousand_sockets_hear_the_end(scene):
    """At the usual times: looks of a thousand pages ten times as often would be another test."""
    site = scene.site
    site.web.kill()
    site.web.ends()
    site.web.hurry = 1
    try:
        site.execute(
            "INSERT INTO accounts_limit (what, per, amount, seconds)"
            " VALUES ('sockets', 'person', 2000, NULL), ('openings', 'address', 2000, 60)"
        )  # of one person, at one address
        site.begin()
        site.deadlines(first_token_seconds=600, call_seconds=600)
        site.to_provider.hole()  # nobody writes a word before all look
        page = scene.asked()
        opened = threading.Event()
        told = asyncio.run_coroutine_threadsafe(_crowd(scene, page, opened), site.loop.loop)
        assert opened.wait(400)
        site.to_provider.mend()
        assert told.result(400) == CROWD
        assert page.ends()["status"] == "complete"
    finally:
        site.web.kill()
        site.web.ends()
        site.web.hurry = HURRY


async def _crowd(scene: Scene, page: Page, opened: threading.Event) -> int:
    """How many of the sockets were told of the end."""
    left = CROWD

    async def watch(client: aiohttp.ClientSession, turn: asyncio.Semaphore) -> bool:
        nonlocal left
        place = f"/ws{page.place}?after=0&revision=0"
        async with turn:
            connection = await client.ws_connect(place, origin=scene.site.address, max_msg_size=0)
        left -= 1
        if not left:
            opened.set()
        async for each in connection:
            if not json.loads(each.data)["unfinished"]:
                return True
        return False

    cookies = {"sessionid": page.person.session}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(scene.site.address, cookies=cookies, connector=connector) as client:
        turn = asyncio.Semaphore(20)
        return sum(await asyncio.gather(*(watch(client, turn) for _ in range(CROWD))))
