"""A provider that misbehaves: every outcome has its words, what came is kept, and nothing hangs."""

import re

import pytest

from bench.faults import NUL, SPLIT
from faults.pages import Page
from faults.scene import Scene

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

FIRST = {"kind": "answer", "model": "m0"}
ALWAYS = 1000
"""Times: every attempt of the first member at its answer."""


def fault(name: str, outcome: str, words: str = "", *, times: int = ALWAYS, stands: bool = False, **respond):
    """A case: the first member's answers are answered so, and its slot ends with this outcome and these words."""
    given = respond if "raw" in respond or "status" in respond else {"fault": name, **respond}
    marks = () if stands else pytest.mark.faults
    label = "-".join([name, *(str(each) for each in respond.values() if isinstance(each, int)), str(times)])
    return pytest.param(given, times, outcome, words, id=label, marks=marks)


def answer_of(scene: Scene, page: Page, seat: int = 0) -> dict:
    return scene.site.rows(
        "SELECT * FROM council_answer WHERE deliberation_id = %s AND seat = %s", page.deliberation()["id"], seat
    )[0]


def review_of(scene: Scene, page: Page, seat: int = 0) -> dict:
    return scene.site.rows(
        "SELECT * FROM council_review WHERE deliberation_id = %s AND seat = %s", page.deliberation()["id"], seat
    )[0]


def asked_of(scene: Scene, **match) -> list[dict]:
    """The requests that fit."""
    said = [{"kind": each["kind"], "model": each["body"].get("model")} for each in scene.provider.requests()]
    return [each for each in said if match.items() <= each.items()]


MENDED = [
    fault("rate_limited", "complete", n=1, times=1, stands=True),
    fault("rate_limited", "complete", times=1),
    fault("server_error", "complete", times=1),
    fault("unavailable", "complete", times=1),
    fault("unavailable", "complete", n=1, times=1),
    fault("error_first", "complete", times=1),
]


@pytest.mark.parametrize(("respond", "times", "outcome", "words"), MENDED)
def test_what_fails_once_before_the_first_byte_is_asked_again(scene, respond, times, outcome, words):
    scene.provider.script(FIRST, times=times, **respond)
    page = scene.asked()
    assert page.ends()["status"] == "complete"
    assert answer_of(scene, page)["outcome"] == outcome
    assert len(asked_of(scene, **FIRST)) == 2


FAILING = [
    fault("rate_limited", "failed", "asked too often", n=121),
    fault("rate_limited", "failed", "asked too often"),
    fault("server_error", "failed", "failed on its side (HTTP 500)"),
    fault("unavailable", "failed", "failed on its side (HTTP 503)"),
    fault("refuse_auth", "failed", "refused the API key"),
    fault("no_headers", "timed_out", "no sign of life"),
    fault("hang", "timed_out", "no sign of life"),
    fault("slow_tokens", "timed_out", "no sign of life", n=0.25),
    fault("not_json", "failed"),
    fault("error_first", "failed", "Provider returned error"),
    fault("cut", "failed", n=0),
    fault("empty", "empty", "returned no text"),
    fault("empty_thinking", "empty", "spent all its tokens on thinking"),
    fault("refusal", "refused", "declined", stands=True),
]


@pytest.mark.parametrize(("respond", "times", "outcome", "words"), FAILING)
def test_a_member_without_an_answer_is_left_out_with_words(scene, respond, times, outcome, words):
    scene.provider.script(FIRST, times=times, **respond)
    page = scene.asked()
    ended = page.ends()
    assert ended["status"] == "partial"
    answer = answer_of(scene, page)
    assert answer["outcome"] == outcome
    assert words in answer["error"]
    assert answer["error"].strip()
    assert page.shows(answer["error"])
    assert not asked_of(scene, kind="ballot", model="m0") or outcome in {"refused", "empty"}


@pytest.mark.faults
def test_longer_than_two_minutes_is_not_waited_for(scene):
    """Nor is anything asked again that was refused for good."""
    scene.provider.script({"kind": "answer", "model": "m0"}, fault="rate_limited", n=121)
    scene.provider.script({"kind": "answer", "model": "m1"}, fault="refuse_auth")
    page = scene.asked()
    page.ends()
    assert len(asked_of(scene, kind="answer", model="m0")) == 1
    assert len(asked_of(scene, kind="answer", model="m1")) == 1


@pytest.mark.parametrize("name", ["no_headers", "hang"])
@pytest.mark.faults
def test_what_timed_out_once_sent_is_repeated_at_most_once(scene, name):
    scene.provider.script(FIRST, fault=name)
    scene.asked().ends()
    assert len(asked_of(scene, **FIRST)) <= 2


CUT_OFF = [
    fault("hang", "truncated", "fell silent", n=8, stands=True),
    fault("cut", "truncated", n=8),
    fault("malformed_json", "truncated"),
    fault("no_finish", "truncated", "without saying that it was finished"),
    fault("error_after", "truncated", "Provider returned error"),
    fault("length", "truncated", "most tokens"),
]


@pytest.mark.parametrize(("respond", "times", "outcome", "words"), CUT_OFF)
def test_what_came_before_a_break_is_kept_and_marked(scene, respond, times, outcome, words):
    scene.provider.script(FIRST, times=times, **respond)
    page = scene.asked()
    page.ends()
    answer = answer_of(scene, page)
    assert answer["outcome"] == outcome
    assert words in answer["error"]
    assert answer["error"].strip()
    assert answer["text"].strip()
    assert page.shows(answer["error"])
    # After its first token a call is never repeated: what came would be thrown away, or paid for twice.
    assert len(asked_of(scene, **FIRST)) == 1


@pytest.mark.faults
def test_the_content_filter_is_named(scene):
    scene.provider.script(FIRST, fault="content_filter")
    page = scene.asked()
    page.ends()
    assert answer_of(scene, page)["outcome"] == "filtered"
    assert page.shows("content filter")


WHOLE = [
    fault("utf8_split", "complete", " ".join([*SPLIT.split()] * 3)),
    fault("crlf", "complete"),
    fault("huge_line", "complete", "long long long", n=1_000_000),
    fault("no_done", "complete"),
    fault("no_usage", "complete"),
    fault("reasoning", "complete"),
    fault("nul", "complete", "before  after"),
    fault("bidi", "complete", "\u2066isolated\u2069"),
    fault("html", "complete", "<svg onload=alert(1)>"),
]


@pytest.mark.parametrize(("respond", "times", "outcome", "words"), WHOLE)
def test_what_is_odd_and_allowed_is_read_whole(scene, respond, times, outcome, words):
    scene.provider.script(FIRST, times=times, **respond)
    page = scene.asked()
    assert page.ends()["status"] == "complete"
    answer = answer_of(scene, page)
    assert answer["outcome"] == outcome
    assert words in " ".join(answer["text"].split()) or words in answer["text"]
    assert "\x00" not in answer["text"]
    assert NUL not in answer["text"]


@pytest.mark.faults
def test_ten_megabytes_are_cut_at_two(scene):
    scene.provider.script(FIRST, fault="ten_megabytes")
    page = scene.asked()
    page.ends()
    answer = answer_of(scene, page)
    assert answer["outcome"] == "truncated"
    assert len(answer["text"]) == 2_000_000


@pytest.mark.faults
def test_a_provider_that_cannot_be_reached_is_said_to_be(scene):
    scene.site.to_provider.refuse()
    page = scene.asked()
    ended = page.ends()
    assert ended["status"] == "failed"
    assert not scene.provider.requests()
    assert page.shows("reached")
    assert page.shows(ended["plan"]["question"])


@pytest.mark.faults
def test_a_provider_behind_a_dead_line_is_given_up(scene):
    """Bytes leave and nothing comes back, as behind a firewall that forgot the connection."""
    scene.site.to_provider.hole()
    page = scene.asked()
    assert page.ends()["status"] == "failed"
    assert page.shows("calls is not known; they may be billed.")


@pytest.mark.faults
def test_a_line_that_dies_while_they_write_costs_no_more_than_the_rest_of_it(scene):
    scene.slowly()
    page = scene.asked()
    page.until(lambda page: re.search(r"⟦|\w{4}", page.root.get("turns").text()) and page.messages > 4)
    scene.site.to_provider.hole()
    ended = page.ends()
    assert ended["status"] in {"partial", "failed"}
    answers = [answer_of(scene, page, seat) for seat in range(3)]
    assert any(each["outcome"] == "truncated" and each["text"].strip() for each in answers)


@pytest.mark.faults
def test_one_survivor_is_shown_without_a_review(scene):
    for member in ("m0", "m1"):
        scene.provider.script({"kind": "answer", "model": member}, fault="server_error")
    page = scene.asked()
    assert page.ends()["status"] == "partial"
    assert not asked_of(scene, kind="ballot")
    assert page.shows("With a single answer there was nothing to review or to sum up.")


def test_without_any_answer_it_failed_and_the_question_is_kept(scene):
    scene.provider.script({"kind": "answer"}, fault="server_error")
    page = scene.asked()
    ended = page.ends()
    assert ended["status"] == "failed"
    assert page.shows("No member answered.")
    assert page.shows(ended["plan"]["question"])
    assert not asked_of(scene, kind="synthesis")


@pytest.mark.faults
def test_without_a_chairman_the_answers_and_reviews_stay(scene):
    scene.provider.script({"kind": "synthesis"}, fault="server_error")
    page = scene.asked()
    assert page.ends()["status"] == "partial"
    assert answer_of(scene, page)["outcome"] == "complete"
    assert [review_of(scene, page, seat)["outcome"] for seat in range(3)] == ["complete"] * 3
    assert page.shows("chairman")


BALLOTS = {
    "prose_ballot": "abstained",
    "duplicate_ballot": "invalid",
    "unknown_label_ballot": "invalid",
    "abstain_ballot": "abstained",
    "broken_ballot": "repaired",
    "reject_schema": "valid",
}


@pytest.mark.parametrize("name", BALLOTS)
@pytest.mark.faults
def test_a_ballot_that_is_none_never_ends_a_deliberation(scene, name):
    scene.provider.script({"kind": "ballot", "model": "m0"}, fault=name)
    page = scene.asked()
    assert page.ends()["status"] in {"complete", "partial"}
    assert review_of(scene, page)["ballot_state"] == BALLOTS[name]
