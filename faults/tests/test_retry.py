"""One part that a person has tried again, by workers that die; it is tried once, and nothing else is asked for."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from faults.pages import Page
from faults.scene import Scene
from faults.site import LONG, wait_until
from faults.tests.steps import FIRST, LOST, asked, of_slots, writes

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

rest = pytest.mark.faults

SLOTS = {"answering:0": ("answer", "m0"), "reviewing:0": ("ballot", "m0"), "synthesising:-1": ("synthesis", "m3")}


def without_one(scene: Scene, slot: str, **respond: Any) -> Page:
    """A deliberation that has ended, and whose slot was spoilt so, once."""
    kind, model = SLOTS[slot]
    scene.provider.script({"kind": kind, "model": model}, times=1, **(respond or {"fault": "refuse_auth"}))
    page = scene.asked()
    page.ends()
    assert slot in page.offered()
    return page


@pytest.mark.parametrize("slot", [*(pytest.param(each, marks=rest) for each in list(SLOTS)[:2]), "synthesising:-1"])
def test_a_worker_that_is_killed_while_one_part_is_tried_again(scene, slot):
    """Another goes on with that part, and nothing else is asked for."""
    page = without_one(scene, slot)
    before = len(asked(scene))
    scene.slowly(3)
    page.try_again(slot)
    wait_until(lambda: len(asked(scene)) == before + 1 and writes(lambda: asked(scene, *SLOTS[slot])))
    scene.fresh()
    ended = page.ends()
    assert slot not in page.offered()
    assert ended["status"] == ("partial" if slot == "answering:0" else "complete"), ended["reason"]
    assert len(asked(scene, *SLOTS[slot])) == 3
    assert len(asked(scene)) == before + 2


def tried_again(scene: Scene) -> tuple[Page, Callable[[], None]]:
    """An answer that was cut off is tried again, and hangs; and what asks whether all is as it was before."""
    scene.site.deadlines(**LONG)
    page = without_one(scene, "answering:0", fault="cut", n=8)
    before, status = of_slots(page)[0], page.deliberation()["status"]
    scene.provider.script(FIRST, fault="hang", n=4)
    page.try_again("answering:0")

    def is_as_it_was() -> None:
        assert page.ends()["status"] == status
        after = of_slots(page)[0]
        assert [after["text"], after["outcome"]] == [before["text"], before["outcome"]]

    return page, is_as_it_was


@rest
def test_a_try_whose_workers_die_twice_leaves_what_there_was(scene):
    page, is_as_it_was = tried_again(scene)
    for times in (2, 3):
        wait_until(lambda times=times: len(asked(scene, **FIRST)) == times, words=scene.site.said)
        wait_until(lambda: of_slots(page)[0]["text"])  # some words are stored, which are not what there was
        scene.fresh()
    is_as_it_was()
    assert page.shows("Tried again without success")
    assert len(asked(scene, **FIRST)) == 3


@rest
def test_a_try_that_is_stopped_leaves_what_there_was(scene):
    page, is_as_it_was = tried_again(scene)
    wait_until(lambda: len(asked(scene, **FIRST)) == 2 and writes(lambda: asked(scene, **FIRST)))
    page.person.post(f"{page.place}stop/")
    is_as_it_was()
    wait_until(lambda: asked(scene, **FIRST)[-1]["disconnected"])
    assert page.shows("Tried again without success: it was stopped.")


@rest
def test_a_double_click_on_retry_tries_once(scene):
    scene.site.deadlines(**LONG)
    page = without_one(scene, "answering:0")
    before = len(asked(scene))
    scene.site.to_provider.hole()  # nothing comes before the last click is answered
    with ThreadPoolExecutor(3) as clicks:
        found = list(clicks.map(lambda _: page.person.post(f"{page.place}retry/", slot="answering:0"), range(3)))
    scene.site.to_provider.mend()
    assert sorted(each.status_code for each in found) == [302, 409, 409]
    page.catches_up()
    page.ends()
    assert len(asked(scene)) == before + 1


@pytest.mark.parametrize(("answered", "dies"), LOST)
@rest
def test_a_click_on_retry_whose_answer_never_came_tries_once(scene, answered, dies):
    """The web server is lost just before, or just after, it opened the deliberation again; the person clicks again."""
    page = without_one(scene, "answering:0")
    before, web = len(asked(scene)), scene.site.web
    statement = b'UPDATE "council_deliberation" SET [^;]*"retry"'
    trap = web.database.when(statement, web.kill if dies else lambda: None, answered=answered)
    with contextlib.suppress(httpx.TransportError):
        assert page.press("answering:0").status_code >= 500
    assert trap.sprung.is_set()
    scene.site.begin()
    if answered:
        page.tries("answering:0")
        page.ends()
        again = page.person.post(f"{page.place}retry/", slot="answering:0")
        assert again.status_code == 422, again.text[:3000]  # it is complete
    else:
        assert page.deliberation()["attempt"] == 1
        page.try_again("answering:0")
        page.ends()
    assert of_slots(page)[0]["outcome"] == "complete"
    assert len(asked(scene)) == before + 1
