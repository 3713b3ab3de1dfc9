"""Stop: on the page, from the shell and in the admin, at each stage; it ends every call and nothing else."""

from typing import Any

import pytest

from faults.pages import Page
from faults.scene import Scene
from faults.site import LONG, wait_until
from faults.tests.steps import KINDS, asked, of_slots

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

rest = pytest.mark.faults


def stop_on_the_page(scene: Scene, page: Page) -> None:
    page.person.post(f"{page.place}stop/")


def stop_from_the_shell(scene: Scene, page: Page) -> None:
    assert "being stopped" in scene.site.run("manage.py", "cancel", str(page.deliberation()["id"]))


def stop_in_the_admin(scene: Scene, page: Page) -> None:
    form = {"action": "stop", "_selected_action": str(page.deliberation()["id"]), "index": "0"}
    assert scene.administrator().post("/admin/council/deliberation/", **form).status_code == 302


def written(page: Page) -> list[Any]:
    """All that is stored of its deliberation; the title, which is the conversation's, is none of it."""
    of_it = "SELECT * FROM council_call WHERE deliberation_id = %s AND purpose <> 'title' ORDER BY id"
    calls = page.site.rows(of_it, page.deliberation()["id"])
    return [page.deliberation(), calls, *(of_slots(page, each) for each in ("answer", "review", "synthesis"))]


@pytest.mark.parametrize("stop", [stop_on_the_page, stop_from_the_shell, stop_in_the_admin])
@pytest.mark.parametrize("stage", KINDS)
@rest
def test_stop_ends_every_call_of_a_deliberation_and_nothing_else(scene, stage, stop):
    """What had come is kept, nothing is written after, and another deliberation goes on."""
    scene.site.deadlines(**LONG)
    question = "Question hold: will they stop?"
    calls = 1 if stage == "synthesising" else 3
    scene.provider.script({"kind": KINDS[stage], "contains": question}, fault="hang", n=8)
    page = scene.asked(question)
    wait_until(lambda: [bool(each["first_byte_ns"]) for each in asked(scene, KINDS[stage])] == [True] * calls)
    scene.slowly(1)
    other = scene.asked()
    stop(scene, page)
    assert page.ends()["status"] == "cancelled"
    wait_until(lambda: all(each["disconnected"] for each in asked(scene, KINDS[stage], about=question)))
    before, times = written(page), len(asked(scene, about=question))
    texts = of_slots(page, {"answering": "answer", "reviewing": "review", "synthesising": "synthesis"}[stage])
    assert [bool(each["text"].strip()) for each in texts] == [True] * calls
    assert other.ends()["status"] == "complete"
    assert "cancelled" not in {each["outcome"] for each in written(other)[1]}
    assert [written(page), len(asked(scene, about=question))] == [before, times]


@rest
def test_stop_ends_the_call_of_a_title_too(scene):
    scene.site.deadlines(**LONG)
    scene.provider.script({"kind": "answer"}, fault="hang", n=8)
    scene.provider.script({"kind": "title"}, fault="hang", n=1)
    page = scene.asked()
    wait_until(lambda: any(each["first_byte_ns"] for each in asked(scene, "title")))
    stop_on_the_page(scene, page)
    assert page.ends()["status"] == "cancelled"
    wait_until(lambda: all(each["disconnected"] for each in asked(scene, "title")))
