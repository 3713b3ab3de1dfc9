"""The rules for calls, kept by two workers that die: breaker, fallback models, quorum, places, deadlines."""

from collections.abc import Iterable

import pytest

from faults.scene import Scene
from faults.site import LONG, wait_until
from faults.tests.steps import FIRST, LAST, LOST, asked, council, of_slots, rules, stand_ins, writes

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

rest = pytest.mark.faults

LEFT_ALONE = "failed too often just now and is left alone for a moment"
IN_ITS_PLACE = "failed; {} wrote this in its place."
NOT_WAITED_FOR = "Enough others were done; the council did not wait any longer."


# A model that fails again and again


def breaker(scene: Scene, model: str = "m0") -> str:
    """The state of its breaker."""
    return scene.site.rows(
        "SELECT state FROM council_breaker JOIN council_languagemodel model ON model.id = language_model_id"
        " WHERE model.slug = %s",
        model,
    )[0]["state"]


def fail_once_and_be_left_alone(scene: Scene) -> None:
    """The first member's model fails where a single failure is one too many, and is well from then on."""
    rules(scene, breaker_failures=1, attempts=1)
    scene.provider.script(FIRST, times=1, fault="server_error")
    assert scene.asked().ends()["status"] == "partial"
    wait_until(lambda: breaker(scene) == "open")


def test_a_model_that_failed_five_times_is_left_alone_by_both_workers(scene):
    """Its seat says so; where the council has a fallback model, that answers at once."""
    one, other = scene.site.workers
    scene.provider.script(FIRST, fault="server_error")
    for worker in (one, other, one):
        assert scene.asked_of(worker).ends()["status"] == "partial"
    wait_until(lambda: breaker(scene) == "open")
    times = len(asked(scene, **FIRST))
    assert times in {5, 6}, "the sixth may go out while the fifth is being counted"
    page = scene.asked_of(other)
    assert page.ends()["status"] == "partial"
    assert page.shows(LEFT_ALONE)
    stand_ins(scene, "member", "s0")
    page = scene.asked_of(one)
    assert page.ends()["status"] == "complete"
    assert page.shows(IN_ITS_PLACE.format("Stand-in 0"))
    assert len(asked(scene, **FIRST)) == times


@rest
def test_one_call_finds_out_whether_it_is_well_and_should_its_worker_die_another_does(scene):
    fail_once_and_be_left_alone(scene)
    scene.site.execute("UPDATE council_breaker SET until = now() WHERE state = 'open'")  # the pause is over
    scene.site.deadlines(**LONG)
    scene.provider.script(FIRST, times=1, fault="no_headers")
    one, other = scene.site.workers
    probing = scene.asked_of(one)
    wait_until(lambda: len(asked(scene, **FIRST)) == 2)
    page = scene.asked_of(other)
    assert page.ends()["status"] == "partial"
    assert page.shows(LEFT_ALONE)
    assert len(asked(scene, **FIRST)) == 2
    one.kill()
    ended = probing.ends()
    assert ended["status"] == "complete", ended["reason"]
    wait_until(lambda: breaker(scene) == "closed")
    assert len(asked(scene, **FIRST)) == 3
    assert scene.asked().ends()["status"] == "complete"


@rest
def test_a_model_that_is_reset_in_the_admin_is_asked_again_at_once(scene):
    fail_once_and_be_left_alone(scene)
    model = scene.site.rows("SELECT id FROM council_languagemodel WHERE slug = 'm0'")[0]["id"]
    form = {"action": "reset", "_selected_action": str(model), "index": "0"}
    scene.someone().post("/admin/council/breaker/", **form)
    assert breaker(scene) == "open"
    scene.administrator().post("/admin/council/breaker/", **form)
    assert breaker(scene) == "closed"
    assert scene.asked().ends()["status"] == "complete"


@pytest.mark.parametrize(("answered", "dies"), LOST)
@rest
def test_a_worker_that_is_lost_as_it_opens_a_breaker_costs_that_failure_at_most(scene, answered, dies):
    """What was not counted then is not made up for: the next failure opens it."""
    rules(scene, breaker_failures=1, attempts=1)
    stand_ins(scene, "member", "s0")
    scene.provider.script(FIRST, times=1, fault="server_error")
    lost = scene.losing(b"INSERT INTO council_breaker", dies=dies, answered=answered)
    page = scene.asked()
    wait_until(lost, words=scene.site.said)
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]
    if answered:
        assert len(asked(scene, **FIRST)) == 1
    else:
        assert breaker(scene) == "closed"
        scene.provider.script(FIRST, times=1, fault="server_error")
        assert scene.asked().ends()["status"] == "complete"
    wait_until(lambda: breaker(scene) == "open")


@pytest.mark.parametrize("state", ["half_open", "closed"])
@pytest.mark.parametrize(("answered", "dies"), LOST)
@rest
def test_a_worker_that_is_lost_as_it_finds_out_whether_a_model_is_well_leaves_that_to_another(
    scene, state, answered, dies
):
    """As it writes that it is about to find out, and as it writes what it found."""
    fail_once_and_be_left_alone(scene)
    scene.site.execute("UPDATE council_breaker SET until = now() WHERE state = 'open'")  # the pause is over
    statement = b'UPDATE "council_breaker" SET [^;]*%b' % f"'{state}'".encode()
    lost = scene.losing(statement, dies=dies, answered=answered)
    page = scene.asked()
    wait_until(lost, words=scene.site.said)
    ended = page.ends()
    assert ended["status"] == "complete", ended["reason"]
    wait_until(lambda: breaker(scene) == "closed")


@pytest.mark.parametrize(
    "respond",
    [
        *({"status": each} for each in (400, 401, 402, 403)),
        *({"fault": "error_first", "n": each} for each in (400, 403)),
        {"fault": "refusal"},
    ],
    ids=lambda each: " ".join(str(part) for part in each.values()),
)
@rest
def test_what_is_wrong_with_the_request_or_the_key_and_what_a_model_declines_never_counts(scene, respond):
    rules(scene, breaker_failures=1)
    scene.provider.script(FIRST, times=1, **respond)
    assert scene.asked().ends()["status"] == "partial"
    assert scene.asked().ends()["status"] == "complete"
    assert breaker(scene) == "closed"


# Fallback models


@rest
def test_stand_ins_are_asked_in_their_order_for_a_member_and_for_the_chairman(scene):
    stand_ins(scene, "member", "s0", "s1")
    stand_ins(scene, "chairman", "s1", "s0")
    scene.provider.script(FIRST, fault="refuse_auth")
    scene.provider.script({"kind": "answer", "model": "s0"}, fault="unavailable")
    scene.provider.script({"kind": "synthesis", "model": "m3"}, fault="server_error")
    scene.provider.script({"kind": "synthesis", "model": "s1"}, fault="refuse_auth")
    page = scene.asked()
    assert page.ends()["status"] == "complete"
    models = [each["body"]["model"] for each in asked(scene, "answer")]
    assert [each for each in models if each not in {"m1", "m2"}] == ["m0", "s0", "s0", "s1"]
    assert [each["body"]["model"] for each in asked(scene, "synthesis")] == ["m3", "m3", "s1", "s0"]
    names = [each["model"]["name"] for each in page.deliberation()["plan"]["fallbacks"]]
    wrote = [names[of_slots(page, each)[0]["stand_in"]] for each in ("answer", "synthesis")]
    assert wrote == ["Stand-in 1", "Stand-in 0"]
    assert all(page.shows(IN_ITS_PLACE.format(each)) for each in wrote)


@rest
def test_a_stand_in_begins_afresh_where_a_model_broke_off_and_where_it_cannot_that_is_kept(scene):
    stand_ins(scene, "member", "s0")
    scene.provider.script(FIRST, fault="cut", n=8)
    scene.provider.script({"kind": "answer", "model": "m1"}, fault="cut", n=8)
    scene.provider.script({"kind": "answer", "model": "s0"}, times=1, delay=1)
    scene.provider.script({"kind": "answer", "model": "s0"}, fault="refuse_auth")
    page = scene.asked()
    page.ends()
    well, kept = sorted(of_slots(page)[:2], key=lambda each: each["outcome"])
    assert [well["outcome"], well["stand_in"]] == ["complete", 0]
    assert [kept["outcome"], kept["stand_in"]] == ["truncated", None]
    assert kept["text"].strip()
    assert page.shows("Stand-in 0 was asked in its place and failed as well")
    assert page.shows(IN_ITS_PLACE.format("Stand-in 0"))
    assert len(asked(scene, **FIRST)) == 1


@rest
def test_a_stand_in_whose_workers_die_is_asked_twice_and_then_the_next(scene):
    stand_ins(scene, "member", "s0", "s1")
    scene.site.deadlines(**LONG)
    scene.provider.script(FIRST, fault="refuse_auth")
    scene.provider.script({"kind": "answer", "model": "s0"}, fault="hang", n=8)
    page = scene.asked()
    for times in (1, 2):
        wait_until(lambda: [each["state"] for each in of_slots(page)].count("ended") == 2)
        wait_until(lambda times=times: len(asked(scene, "answer", "s0")) == times, words=scene.site.said)
        wait_until(lambda: writes(lambda: asked(scene, "answer", "s0")))
        scene.fresh()
    assert page.ends()["status"] == "complete"
    assert len(asked(scene, "answer", "s0")) == 2
    assert len(asked(scene, **FIRST)) == 1
    assert page.shows(IN_ITS_PLACE.format("Stand-in 1"))
    assert page.shows("Calls with an unknown result")


@rest
def test_what_a_model_wrote_before_it_broke_off_outlasts_the_workers_of_its_stand_in_and_a_stop(scene):
    stand_ins(scene, "member", "s0")
    scene.site.deadlines(**LONG)
    scene.provider.script(FIRST, fault="cut", n=8)
    scene.provider.script({"kind": "answer", "model": "s0"}, fault="no_headers")
    page = scene.asked()
    for times in (1, 2):
        wait_until(lambda times=times: len(asked(scene, "answer", "s0")) == times, words=scene.site.said)
        if times == 1:
            scene.fresh()
    page.person.post(f"{page.place}stop/")
    assert page.ends()["status"] == "cancelled"
    kept = of_slots(page)[0]
    assert [kept["outcome"], kept["stand_in"]] == ["truncated", None]
    assert kept["text"].strip()
    assert len(asked(scene, **FIRST)) == 1


# A slow member


@rest
def test_a_slow_member_is_not_waited_for_and_a_late_answer_is_read_once_somebody_asks(scene):
    scene.site.deadlines(**LONG)
    council(scene, quorum=2, grace_seconds=1)
    scene.provider.script(LAST, times=1, fault="no_headers")
    page = scene.asked()
    assert page.ends()["status"] == "partial"
    assert page.shows(NOT_WAITED_FOR)
    assert asked(scene, **LAST)[0]["disconnected"]
    assert not asked(scene, "ballot", "m2")
    page.try_again("answering:2")
    page.ends()
    assert page.shows("Written without the answer of C, which came later.")
    late = ["reviewing:0", "reviewing:1", "reviewing:2", "synthesising:-1"]
    assert page.offered() == set(late)
    for slot in late:
        page.try_again(slot)
        page.ends()
        assert slot not in page.offered()
    assert page.deliberation()["status"] == "complete"
    assert not page.shows("Written without")
    assert [len(asked(scene, "ballot", f"m{each}")) for each in range(3)] == [2, 2, 1]
    assert [len(asked(scene, kind)) for kind in ("answer", "synthesis")] == [4, 2]


@rest
def test_a_worker_that_is_killed_while_a_slow_member_has_its_grace(scene):
    scene.site.deadlines(**LONG)
    council(scene, quorum=2, grace_seconds=5)
    scene.provider.script(LAST, fault="no_headers")
    page = scene.asked()
    wait_until(lambda: [each["state"] for each in of_slots(page)].count("ended") == 2)
    scene.fresh()
    assert page.ends()["status"] == "partial"
    assert page.shows(NOT_WAITED_FOR)
    assert [len(asked(scene, "answer", f"m{each}")) for each in range(3)] == [1, 1, 2]
    assert [len(asked(scene, "ballot", f"m{each}")) for each in range(3)] == [1, 1, 0]


# What a provider says of another attempt


@rest
def test_it_is_not_asked_again_before_the_time_that_it_named(scene):
    scene.provider.script(FIRST, times=1, fault="rate_limited", n=2)
    assert scene.asked().ends()["status"] == "complete"
    first, second = asked(scene, **FIRST)
    assert second["received_ns"] - first["received_ns"] >= 2e9


@rest
def test_a_provider_that_says_whether_to_try_again_is_heeded(scene):
    scene.provider.script(FIRST, times=1, status=503, headers={"x-should-retry": "false"})
    scene.provider.script(LAST, times=1, status=400, headers={"x-should-retry": "true"})
    page = scene.asked()
    assert page.ends()["status"] == "partial"
    assert [each["outcome"] for each in of_slots(page)] == ["failed", "complete", "complete"]
    assert [len(asked(scene, **each)) for each in (FIRST, LAST)] == [1, 2]


# A provider that takes few calls at a time


def most_at_once(requests: Iterable[dict]) -> int:
    """How many of them the provider answered at the same moment."""
    steps = sorted(
        step for each in requests for step in ((each["received_ns"], 1), (each["last_byte_ns"] or float("inf"), -1))
    )
    return max(sum(step for _, step in steps[: place + 1]) for place in range(len(steps)))


@rest
def test_two_workers_send_a_provider_no_more_calls_at_a_time_than_it_takes(scene):
    scene.site.execute("UPDATE council_provider SET concurrency = 2")
    scene.slowly(0.5)
    one, other = scene.site.workers
    pages = [scene.asked_of(each) for each in (one, other, one)]
    for page in pages:
        assert page.ends()["status"] == "complete"
    assert most_at_once(scene.provider.requests()) == 2


@rest
def test_the_place_of_a_worker_that_was_killed_comes_free(scene):
    scene.site.execute("UPDATE council_provider SET concurrency = 1")
    scene.site.deadlines(**LONG)
    scene.provider.script({"kind": "answer"}, times=1, fault="no_headers")
    one, _other = scene.site.workers
    held = scene.asked_of(one)
    wait_until(lambda: asked(scene))
    one.kill()
    one.ends()
    dead = [each["id"] for each in scene.site.rows("SELECT id FROM council_place")]
    page = scene.asked()
    queued = "SELECT 1 FROM council_call WHERE deliberation_id = %s AND purpose = 'answer' AND state = 'queued'"
    wait_until(lambda: len(scene.site.rows(queued, page.deliberation()["id"])) == 3)
    assert len(asked(scene)) == 1
    # As long without a sign of life as makes a place free.
    scene.site.execute("UPDATE council_place SET seen = seen - interval '20 seconds' WHERE id = ANY(%s)", dead)
    assert page.ends()["status"] == "complete"
    assert held.ends()["status"] == "complete"
    assert most_at_once(scene.provider.requests()) == 1


WAITING = {
    "let through": rb"UPDATE \"council_breaker\" SET [^;]*'half_open'",
    "its place": rb"INSERT INTO council_place",
    "going out": rb"UPDATE council_call SET state = \$1, sent",
}


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(WAITING))
@rest
def test_a_line_that_breaks_while_a_call_waits_for_its_way_costs_no_call(scene, name, answered):
    """Neither that one nor those of the others, which go on meanwhile."""
    fail_once_and_be_left_alone(scene)
    before = len(asked(scene))
    scene.site.execute("UPDATE council_breaker SET until = now() WHERE state = 'open'")  # the pause is over
    scene.site.execute("UPDATE council_provider SET concurrency = 2")
    scene.slowly(1)
    lost = scene.losing(WAITING[name], dies=False, answered=answered)
    page = scene.asked()
    wait_until(lost, words=lambda: f"nothing like {name} was ever said")
    ended = page.ends()
    assert (ended["status"], ended["attempt"]) == ("complete", 1), ended["reason"]
    calls = "SELECT outcome, error, unknown FROM council_call WHERE deliberation_id = %s AND purpose <> 'title'"
    found = [tuple(each.values()) for each in scene.site.rows(calls, ended["id"])]
    assert found == [("complete", "", False)] * 7
    requests = asked(scene)[before:]
    assert len(requests) == 7
    assert most_at_once(requests) <= 2


# Deadlines of what never ceases to write


@rest
def test_a_call_that_goes_on_and_on_is_cut_off_at_its_deadline(scene):
    scene.slowly(0.5)
    scene.site.deadlines(call_seconds=3)
    scene.provider.script({"kind": "answer", "model": "m0"}, tokens=4000, tokens_per_second=20, times=1)
    page = scene.asked()
    assert page.ends()["status"] in {"complete", "partial"}
    (long,) = [each for each in of_slots(page, "answer") if each["seat"] == 0]
    assert (long["outcome"], bool(long["text"])) == ("truncated", True)
    assert "after 3 seconds" in long["error"]


@rest
def test_a_stage_that_goes_on_and_on_goes_on_without_whom_it_waits_for(scene):
    scene.slowly(0.5)
    scene.site.deadlines(**LONG)
    council(scene, stage_seconds=4)
    scene.provider.script({"kind": "answer", "model": "m0"}, tokens=4000, tokens_per_second=20, times=1)
    page = scene.asked()
    assert page.ends()["status"] in {"complete", "partial"}
    (long,) = [each for each in of_slots(page, "answer") if each["seat"] == 0]
    assert (long["outcome"], bool(long["text"])) == ("truncated", True)
    assert "The stage took 4 seconds" in long["error"]
