"""Processes that die, freeze, or lose sight of each other: what was finished stays, the rest is done, nothing twice."""

import re
import signal
import time

import pytest

from faults.pages import Page
from faults.scene import Scene
from faults.site import LONG, STALLED, Part, frozen, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

rest = pytest.mark.faults

# What a worker says to the database, in the order of a deliberation.
STATEMENTS = {
    "claim": rb"SET attempt = attempt \+ 1",
    "answers sent": rb"INSERT INTO council_call .*'answer'",
    "answers begun": rb"INSERT INTO council_answer",
    "answers growing": rb"UPDATE council_answer .*'writing'",
    "answers ended": rb"UPDATE council_answer .*'complete'",
    "reviews sent": rb"INSERT INTO council_call .*'review'",
    "reviews begun": rb"INSERT INTO council_review",
    "reviews growing": rb"UPDATE council_review .*'writing'",
    "reviews ended": rb"UPDATE council_review .*'complete'",
    "synthesis sent": rb"INSERT INTO council_call .*'synthesis'",
    "synthesis begun": rb"INSERT INTO council_synthesis",
    "synthesis growing": rb"UPDATE council_synthesis .*'writing'",
    "synthesis ended": rb"UPDATE council_synthesis .*'complete'",
    "learnt": rb"UPDATE council_languagemodel SET tokens_per_byte",
    "job ended": rb"procrastinate_finish_job",
}
# And meanwhile, or afterwards, of a title. The end of its call stands alone: those of slots' calls come with the
# deliberation's row.
TITLES = {
    "title sent": rb"INSERT INTO council_call [^;]*'title'",
    "title ended": rb"Q.{4}(PREPARE|EXECUTE) own_\d+ [^;]*UPDATE council_call SET state = new",
    "title stored": rb'UPDATE "conversations_conversation" SET "title"',
}
STATEMENTS |= TITLES
# That are said only where it takes a while, and of titles, before the answers are there.
SLOWLY = {"answers growing", "reviews growing", "synthesis growing", *TITLES}
STAND_FOR_THE_REST = {
    ("answers sent", True, "dies"),
    ("answers ended", True, "is cut off"),
}
MOMENTS = [
    pytest.param(
        name,
        answered,
        how,
        id=f"{name}-{'after' if answered else 'before'}-{how}",
        marks=() if (name, answered, how) in STAND_FOR_THE_REST else rest,
    )
    for name in STATEMENTS
    for answered in (False, True)
    for how in ("dies", "is cut off")
]


AT_WORK = "SELECT 1 FROM procrastinate_jobs WHERE queue_name = 'deliberations' AND status IN ('todo', 'doing')"
STAGES = ["answering", *(pytest.param(each, marks=rest) for each in ("reviewing", "synthesising"))]
KINDS = {"answering": "answer", "reviewing": "ballot", "synthesising": "synthesis"}


def last(scene: Scene, stage: str) -> list[dict]:
    """The requests of a stage."""
    return [each for each in scene.provider.requests() if each["kind"] == KINDS[stage]]


def titles(scene: Scene) -> list[dict]:
    """The requests for titles."""
    return [each for each in scene.provider.requests() if each["kind"] == "title"]


def titled(page: Page) -> bool:
    """Whether its conversation has a title of a model's."""
    return page.site.rows("SELECT titled FROM conversations_conversation WHERE id = %s", page.conversation)[0]["titled"]


def done_at_once(scene: Scene) -> Page:
    """A page whose council is done, at the first attempt.

    On a machine that stands still a worker may be taken for lost; then two make a title.
    """
    while True:
        page = scene.asked()
        ended = page.ends()
        assert ended["status"] == "complete"
        if ended["attempt"] == 1:
            return page
        wait_until(lambda: not scene.site.rows(AT_WORK))


def worker_of(scene: Scene, page: Page) -> Part:
    """The worker that has begun the page's deliberation, as its log says."""
    begun = re.compile(f"Deliberation begun.*{page.deliberation()['id']}")
    return wait_until(
        lambda: next((each for each in scene.site.workers if begun.search(each.program.said)), None),
        words=scene.site.said,
    )


@pytest.mark.parametrize(("name", "answered", "how"), MOMENTS)
def test_a_worker_that_is_lost_at_a_statement_loses_nothing(scene, name, answered, how):
    """Killed, or its connection broken, just before the statement arrives or just after it was committed."""
    if name in SLOWLY:
        scene.slowly(2.5)
    if name == "job ended":
        scene.fresh()  # the queue's statements have names of another kind
    lost = scene.losing(STATEMENTS[name], dies=how == "dies", answered=answered)
    page = scene.asked()
    wait_until(lost, words=lambda: f"nothing like {name} was ever said")
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]
    if name in TITLES and how == "dies":
        assert titled(page)  # by whoever has taken over


@pytest.mark.parametrize("name", ["title ended", "title stored"])
@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["dies", "is cut off"])
@pytest.mark.faults
def test_a_worker_that_is_lost_with_a_title_after_the_end_leaves_no_call_open(scene, name, answered, how):
    """Nobody asks for it again, for the deliberation is over; the question's start stays."""
    scene.site.deadlines(**LONG)
    scene.provider.script({"kind": "title"}, delay=8)  # on a slow machine, too, the council is done before
    page = done_at_once(scene)
    asked = len(titles(scene))
    lost = scene.losing(TITLES[name], dies=how == "dies", answered=answered)
    wait_until(lost, words=lambda: f"nothing like {name} was ever said")
    wait_until(lambda: not scene.site.rows(AT_WORK))
    assert titled(page) == (name == "title stored" and answered)
    assert len(titles(scene)) == asked


@pytest.mark.parametrize("stage", list(KINDS))
@pytest.mark.faults
def test_a_worker_killed_while_they_write(scene, stage):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.deliberation()["stage"] == stage)
    wait_until(lambda: any(each["first_byte_ns"] for each in last(scene, stage)))
    scene.fresh()
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]


@pytest.mark.faults
def test_a_worker_killed_again_and_again_ends_as_failed_with_all_that_came(scene):
    """A job that is poison: whoever takes it dies, each in another stage, for no model is asked a third time."""
    scene.slowly(3)
    page = scene.asked()
    for stage in KINDS:
        page.until(lambda page, stage=stage: page.deliberation()["stage"] == stage)
        wait_until(lambda stage=stage: any(each["first_byte_ns"] for each in last(scene, stage)))
        scene.fresh()
    ended = page.ends()
    assert ended["status"] == "failed"
    assert page.shows("three times"), ended["reason"]
    for table in ("answer", "review"):
        kept = scene.site.rows(f"SELECT outcome FROM council_{table} WHERE deliberation_id = %s", ended["id"])
        assert [each["outcome"] for each in kept] == ["complete"] * 3
    assert [len(last(scene, stage)) for stage in KINDS] == [6, 6, 1]


@pytest.mark.faults
def test_what_the_next_release_has_planned_this_one_can_carry_out_and_show(scene):
    """Its plan says more than is known here: workers of both may run side by side, and a release may be taken back."""
    for each in scene.site.workers:
        each.freeze()
    person = scene.someone()
    place = person.ask()
    scene.site.execute(
        "UPDATE council_deliberation SET plan = jsonb_set(jsonb_set(jsonb_set(plan,"
        " '{members,0,later}', '1'), '{models,0,later}', '2'), '{later}', '3') WHERE status = 'queued'"
    )
    for each in scene.site.workers:
        each.wake()
    page = scene.watched(person, place)
    assert page.ends()["status"] == "complete"


def test_a_worker_that_freezes_and_wakes_writes_nothing_more(scene):
    scene.slowly(3)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    mine = worker_of(scene, page)
    with frozen(mine):
        wait_until(lambda: page.deliberation()["attempt"] >= 2, words=scene.site.said)
        wait_until(lambda: len(last(scene, "answering")) > 3)
    ended = page.ends()
    assert ended["status"] == "complete"
    assert ended["attempt"] >= 2


@pytest.mark.faults
def test_a_worker_that_freezes_over_the_end_of_a_deliberation_changes_nothing_of_it(scene):
    scene.slowly(2)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    with frozen(worker_of(scene, page)):
        page.until(lambda page: page.deliberation()["status"] == "complete")
        before = page.deliberation()
    time.sleep(1)
    assert page.deliberation() == before


@pytest.mark.faults
def test_a_worker_that_freezes_over_the_end_while_it_makes_a_title_changes_nothing_of_it(scene):
    """The title's call is out when it freezes, and ends after it woke; by then another's has a title made."""
    scene.slowly(2)
    scene.site.deadlines(**LONG)
    scene.provider.script({"kind": "title"}, times=1, fault="no_headers")
    page = scene.asked()
    wait_until(lambda: titles(scene), words=scene.site.said)
    with frozen(worker_of(scene, page)):
        page.until(lambda page: page.deliberation()["status"] == "complete")
        wait_until(lambda: not scene.site.rows(AT_WORK))
        assert titled(page)
        before = page.deliberation()
    assert before["attempt"] == 2
    time.sleep(1)  # it has found that it has nothing to write any more
    assert not titles(scene)[0]["disconnected"]
    scene.site.to_provider.cut()
    wait_until(lambda: titles(scene)[0]["disconnected"])
    time.sleep(1)
    after = page.deliberation()
    same = ("revision", "attempt", "status")
    assert [after[each] for each in same] == [before[each] for each in same]
    assert after == before


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, id="restarted"), pytest.param(signal.SIGQUIT, id="crashed", marks=rest)]
)
def test_postgres_comes_back_while_they_write(scene, number):
    scene.slowly(2)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    scene.site.restart_postgres(number)
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]


@pytest.mark.parametrize("stage", ["answering", "reviewing", "synthesising"])
@pytest.mark.faults
def test_a_database_that_is_away_for_a_moment_is_waited_for(scene, stage):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.deliberation()["stage"] == stage)
    for each in scene.site.parts:
        each.database.refuse()
    time.sleep(1.5)
    for each in scene.site.parts:
        each.database.mend()
    ended = page.ends()
    assert ended["status"] == "complete", f"{ended['reason']}\n{scene.site.said()}"


@pytest.mark.faults
def test_a_database_that_says_nothing_more_to_one_worker_leaves_the_work_to_the_other(scene):
    """Half-open: the line is dead and nobody was told. It ends in the end, and is started anew."""
    scene.slowly(2)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    mine = worker_of(scene, page)
    mine.database.hole()
    wait_until(lambda: page.deliberation()["attempt"] >= 2, words=scene.site.said)
    assert page.ends()["status"] == "complete"
    mine.ends()
    assert "this worker ends" in scene.site.said()
    scene.site.begin()
    assert scene.asked_of(mine).ends()["status"] == "complete"


def test_without_valkey_it_finishes_and_the_page_goes_on_by_looking(scene):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.messages > 2)
    for each in scene.site.parts:
        each.redis.refuse()
    assert page.ends()["status"] == "complete"


@pytest.mark.parametrize("how", ["refuse", "hole", "cut"])
@pytest.mark.faults
def test_a_valkey_that_is_away_before_the_question_costs_nothing(scene, how):
    for each in scene.site.parts:
        getattr(each.redis, how)()
    page = scene.asked()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_a_valkey_that_says_nothing_more_while_they_write(scene):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.messages > 2)
    for each in scene.site.parts:
        each.redis.hole()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_a_valkey_that_is_killed_while_they_write(scene):
    scene.slowly(1.5)
    page = scene.asked()
    page.until(lambda page: page.messages > 2)
    scene.site.valkey.terminate()
    assert page.ends()["status"] == "complete"


@pytest.mark.faults
def test_two_workers_share_the_work_and_do_nothing_twice(scene):
    scene.slowly(1)
    lost = scene.site.said().count("lost its worker")
    pages = [scene.asked() for _ in range(8)]
    for page in pages:
        assert page.ends()["status"] == "complete"
    if scene.site.said().count("lost its worker") == lost:  # on a slow machine one that lives may seem dead
        assert [len(last(scene, stage)) for stage in KINDS] == [8 * 3, 8 * 3, 8]


@pytest.mark.parametrize("stage", STAGES)
def test_a_deployment_hands_over_what_goes_on(scene, stage):
    """Every worker is told to end, and new ones come."""
    scene.slowly(4)
    scene.site.all_ready()
    page = scene.asked()
    page.until(lambda page: page.deliberation()["stage"] == stage)
    wait_until(lambda: last(scene, stage))
    for each in scene.site.workers:
        each.terminate()
    assert [each.ends() for each in scene.site.workers] == [0, 0]
    scene.site.begin()
    ended = page.ends()
    assert ended["status"] == "complete"
    assert ended["attempt"] == 2  # one job, which the next worker took once
    assert page.shows("may be billed all the same")


@pytest.mark.faults
def test_a_worker_that_is_told_to_go_and_has_time_ends_what_it_has_begun(scene):
    """It is at work for longer than a worker may be silent, and the other does not take it for dead."""
    scene.site.deadlines(**LONG)
    scene.slowly(4 * STALLED)
    mine = scene.site.workers[0]
    with scene.patient(mine):
        page = scene.asked_of(mine)
        wait_until(lambda: len(last(scene, "answering")) == 3)
        scene.slowly(1)  # what is asked from now on
        mine.terminate()
        told = time.time_ns()
        ended = page.ends()
        assert mine.ends() == 0
        assert ended["status"] == "complete", ended["reason"]
        assert ended["attempt"] == 1, scene.site.said()
        assert not scene.site.rows("SELECT 1 FROM council_call WHERE deliberation_id = %s AND unknown", ended["id"])
        for stage in KINDS:
            models = [each["body"]["model"] for each in last(scene, stage)]
            assert sorted(models) == (["m3"] if stage == "synthesising" else ["m0", "m1", "m2"])
        assert min(each["last_byte_ns"] for each in last(scene, "answering")) - told >= 3 * STALLED * 1e9


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["dies", "is cut off"])
@pytest.mark.faults
def test_a_deployment_whose_worker_is_lost_as_it_hands_over_loses_nothing(scene, answered, how):
    """Every worker is told to end, and the one at work is killed, or cut off, as it writes that it hands over."""
    scene.slowly(4)
    scene.site.all_ready()
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    lost = scene.losing(b'UPDATE "council_deliberation" SET "handed_over"', dies=how == "dies", answered=answered)
    for each in scene.site.workers:
        each.terminate()
    wait_until(lost, words=scene.site.said)
    codes = {each.ends() for each in scene.site.workers}
    assert codes == ({0, -signal.SIGKILL} if how == "dies" else {0}), scene.site.said()
    assert page.deliberation()["handed_over"] == answered
    scene.site.begin()
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]
    assert len(last(scene, "answering")) == 6


@pytest.mark.faults
def test_a_deployment_whose_tables_are_one_release_ahead_disturbs_nothing(scene):
    """`prepare` of the next release runs while this one serves: columns and tables come that nobody here knows."""
    scene.slowly(2)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    ahead = {
        "council_deliberation": "next_release text NOT NULL DEFAULT ''",
        "council_answer": "next_release integer NULL",
        "council_call": "next_release integer NOT NULL DEFAULT 0",
        "conversations_turn": "next_release integer NULL",
    }
    for table, column in ahead.items():
        scene.site.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    scene.site.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('council', '9999_next', now())")
    try:
        scene.site.workers[0].kill()
        scene.site.workers[0].ends()
        scene.site.begin()
        other = scene.asked()
        assert page.ends()["status"] == "complete"
        assert other.ends()["status"] == "complete"
    finally:
        for table in ahead:
            scene.site.execute(f"ALTER TABLE {table} DROP COLUMN next_release")
        scene.site.execute("DELETE FROM django_migrations WHERE name = '9999_next'")


@pytest.mark.faults
def test_stopping_is_heeded_though_the_worker_dies_just_then(scene):
    scene.slowly(4)
    page = scene.asked()
    wait_until(lambda: len(last(scene, "answering")) == 3)
    mine = worker_of(scene, page)
    mine.freeze()
    page.person.post(f"{page.place}stop/")
    mine.kill()
    assert page.ends()["status"] == "cancelled"
    assert len(last(scene, "answering")) == 3
