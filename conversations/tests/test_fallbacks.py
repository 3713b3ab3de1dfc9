"""Fallback models are asked in place of a seat whose own model failed, in their order, and the page says so."""

import asyncio
import re
import time
from uuid import uuid4

import pytest
from django.utils.html import strip_tags

from conversations import asking, changes, live, results, tasks
from conversations.changes import Known
from conversations.growing import GrowingTexts
from conversations.pace import Pace
from conversations.tests import cast
from conversations.tests.worker import carry_out
from council import plans
from council.core.events import StageStarted, StandInAsked
from council.core.values import CHAIRMAN, Outcome, Plan, Reply, Slot, Stage
from council.models import Answer, Breaker, Call, CallPolicy, Council, Deliberation, Fallback, LanguageModel
from council.models import Provider as ProviderRow
from council.providers.calling import NOT_KNOWN
from council.record import Recorder
from council.tests import making

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def council():
    CallPolicy.objects.create(pk=1, attempts=1)
    made = cast.council()
    for place, (role, name) in enumerate((("member", "spare"), ("member", "last"), ("chairman", "deputy"))):
        model = LanguageModel.objects.create(
            approval="approved",
            provider=ProviderRow.objects.get(),
            slug=name,
            model_id=name,
            name=name.title(),
            input_price=3_000_000,
            output_price=5_000_000,
            context=100_000,
        )
        Fallback.objects.create(council=made, role=role, position=place, language_model=model)
    return made


def asked(provider, kind="answer") -> list[str]:
    return [each["body"]["model"] for each in provider.requests() if each["kind"] == kind]


def shown(client, alice, found) -> str:
    client.force_login(alice)
    page = client.get(f"/c/{found.scope}/").content.decode()
    return " ".join(strip_tags(page).split())


def test_a_member_whose_model_failed_is_answered_for_by_the_first_that_can(alice, council, provider, client):
    provider.script({"model": "test-1"}, fault="server_error")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert (found.status, found.reason) == ("complete", "")
    answer = found.answers.get(seat=1)
    assert (answer.outcome, answer.stand_in, answer.error) == ("complete", 0, "")
    assert sorted(asked(provider)) == ["spare", "test-0", "test-1", "test-2"]
    assert "Model 1 failed; Spare wrote this in its place." in shown(client, alice, found)
    said = results.as_json(found)
    assert [(each["model"], each["stand_in"]) for each in said["answers"]] == [
        ("Model 0", ""),
        ("Spare", "Spare"),
        ("Model 2", ""),
    ]
    # Its own prices count, and the call is its own.
    call = Call.objects.get(model_name="Spare", purpose="answer")
    assert call.cost == answer.cost == call.input_tokens * 3 + call.output_tokens * 5


def test_they_are_tried_in_their_order_until_one_answers(alice, council, provider):
    for model in ("test-1", "spare"):
        provider.script({"model": model}, fault="unavailable")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "complete"
    assert found.answers.get(seat=1).stand_in == 1
    assert [each for each in asked(provider) if each not in {"test-0", "test-2"}] == ["test-1", "spare", "last"]


def test_where_all_fail_it_says_so_of_each(alice, council, provider):
    for model in ("test-1", "spare", "last"):
        provider.script({"model": model}, fault="unavailable")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "partial"
    answer = found.answers.get(seat=1)
    assert (answer.outcome, answer.stand_in) == ("failed", None)
    assert "Spare was asked in its place and failed as well" in answer.error
    assert "Last was asked in its place and failed as well" in answer.error


def test_none_is_asked_where_a_model_is_not_waited_for(alice, council, provider):
    Council.objects.update(quorum=2, grace_seconds=0)
    provider.script({"model": "test-1", "kind": "answer"}, fault="no_headers")
    answer = carry_out(asking.ask(alice, "What now?", Council.objects.get())).answers.get(seat=1)
    assert (answer.outcome, answer.stand_in) == ("timed_out", None)
    assert answer.error == "Enough others were done; the council did not wait any longer." + NOT_KNOWN
    assert sorted(asked(provider)) == ["test-0", "test-1", "test-2"]


def test_the_chairman_has_deputies_of_its_own(alice, council, provider, client):
    provider.script({"model": "test-3", "kind": "synthesis"}, fault="server_error")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "complete"
    assert found.synthesis.stand_in == 2
    assert asked(provider, "synthesis") == ["test-3", "deputy"]
    page = shown(client, alice, found)
    assert "written by AI, Deputy" in page
    assert "Model 3 failed; Deputy wrote this in its place." in page


def test_a_reviewer_is_stood_in_for_and_stays_anonymous(alice, council, provider):
    provider.script({"model": "test-1", "kind": "ballot"}, fault="server_error")
    found = carry_out(asking.ask(alice, "What now?", council))
    review = found.reviews.get(seat=1)
    assert (review.stand_in, review.ballot_state) == (0, "valid")
    for each in provider.requests():
        if each["kind"] in {"ballot", "synthesis"}:
            said = str(each["body"]["messages"])
            assert not re.search("Model|Spare|Last|Deputy", said)
    # The stand-in reads the seat's own labels.
    by = {
        each["body"]["model"]: str(each["body"]["messages"]) for each in provider.requests() if each["kind"] == "ballot"
    }
    assert by["spare"] == by["test-1"]


@pytest.mark.parametrize("fault", ["refusal", "content_filter", "length"])
def test_none_is_asked_where_a_model_declined_or_wrote_to_its_limit(alice, council, provider, fault):
    provider.script({"model": "test-1"}, fault=fault)
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.answers.get(seat=1).stand_in is None
    assert "spare" not in asked(provider)


@pytest.mark.parametrize("fault", ["cut", "error_after", "empty", "empty_thinking", "refuse_auth"])
def test_one_is_asked_where_it_broke_off_or_came_to_nothing(alice, council, provider, fault):
    provider.script({"model": "test-1"}, fault=fault)
    found = carry_out(asking.ask(alice, "What now?", council))
    answer = found.answers.get(seat=1)
    assert (answer.stand_in, answer.outcome, answer.earlier) == (0, "complete", None)
    assert answer.text == next(each.text for each in found.answers.all() if each.stand_in is not None)


def test_what_its_own_model_wrote_before_it_broke_off_is_kept_where_nobody_else_can(alice, council, provider):
    provider.script({"model": "test-1"}, fault="cut")
    for model in ("spare", "last"):
        provider.script({"model": model}, fault="unavailable")
    found = carry_out(asking.ask(alice, "What now?", council))
    answer = found.answers.get(seat=1)
    assert (answer.outcome, answer.stand_in) == ("truncated", None)
    assert answer.text
    assert "failed as well" in answer.error


def test_one_is_asked_where_it_broke_off_with_an_error_that_is_no_fault_of_the_model(alice, council, provider):
    words = {"choices": [{"index": 0, "delta": {"content": "Three words came"}, "finish_reason": None}]}
    no_credit = {"error": {"message": "No credit.", "code": 402}}
    provider.script({"model": "test-1", "kind": "answer"}, events=[[0, words], [0, no_credit]])
    answer = carry_out(asking.ask(alice, "What now?", council)).answers.get(seat=1)
    assert (answer.stand_in, answer.outcome) == (0, "complete")


@pytest.mark.parametrize(
    ("respond", "kept"),
    [
        ({"fault": "refusal"}, "its own"),
        ({"fault": "content_filter"}, "its own"),
        ({"fault": "length", "n": 4}, "its own"),
        ({"fault": "length", "n": 30}, "the other's"),
    ],
    ids=str,
)
def test_what_its_own_model_wrote_stays_where_another_declines_or_writes_less(alice, council, provider, respond, kept):
    provider.script({"model": "test-1", "kind": "answer"}, fault="cut", n=20)
    provider.script({"model": "spare", "kind": "answer"}, **respond)
    answer = carry_out(asking.ask(alice, "What now?", council)).answers.get(seat=1)
    assert answer.outcome == "truncated"
    assert (answer.stand_in is None) == (kept == "its own")
    assert ("Spare was asked in its place" in answer.error) == (kept == "its own")
    assert "last" not in asked(provider)


@pytest.mark.parametrize(("n", "stand_in"), [(4, None), (30, 0)])
def test_of_two_that_had_not_come_to_an_end_the_stages_end_keeps_the_longer(alice, council, provider, n, stand_in):
    council.stage_seconds = 2
    council.save()
    provider.script({"model": "test-1", "kind": "answer"}, fault="cut", n=15)
    provider.script({"model": "spare", "kind": "answer"}, fault="hang", n=n)
    answer = carry_out(asking.ask(alice, "What now?", council)).answers.get(seat=1)
    assert (answer.outcome, answer.stand_in) == ("truncated", stand_in)


def stopped_once(condition):
    """Somebody stops the deliberation as soon as it is so."""

    async def stop():
        while not await tasks.in_thread(condition):
            await asyncio.sleep(0.02)
        await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)

    return stop


def test_what_its_own_model_wrote_outlasts_a_stop_while_another_thinks(alice, council, provider, client):
    provider.script({"model": "test-1", "kind": "answer"}, fault="cut", n=8)
    provider.script({"model": "spare", "kind": "answer"}, fault="no_headers")
    turn = asking.ask(alice, "What now?", council)
    asked_in_its_place = Answer.objects.filter(stand_in=0, earlier__isnull=False).exists
    shows = []

    def looked_at():
        if asked_in_its_place():
            shows.append(shown(client, alice, turn.deliberation))  # before the stop, which is soon seen
        return shows

    found = carry_out(turn, stopped_once(looked_at))
    assert "What there was before" in shows[0]
    answer = found.answers.get(seat=1)
    assert (found.status, answer.outcome, answer.stand_in, answer.earlier) == ("cancelled", "truncated", None, None)
    assert answer.text
    assert answer.output_tokens
    assert "broke off" in answer.error
    assert answer.error.endswith("Stopped before its end.")


def test_of_two_that_did_not_come_to_an_end_a_stop_keeps_the_longer(alice, council, provider, monkeypatch):
    monkeypatch.setattr(live, "CHECKPOINT", Pace(0.05, 0, 0.05))
    provider.script({"model": "test-1", "kind": "answer"}, fault="cut", n=8)
    provider.script({"model": "spare", "kind": "answer"}, fault="hang", n=40)
    turn = asking.ask(alice, "What now?", council)
    longer = Answer.objects.filter(stand_in=0, text__regex=".{120}").exists
    found = carry_out(turn, stopped_once(longer))
    answer = found.answers.get(seat=1)
    assert (answer.outcome, answer.stand_in, answer.earlier) == ("cancelled", 0, None)
    assert len(answer.text) >= 120


def test_a_model_that_is_left_alone_is_not_asked_and_its_stand_in_is(alice, council, provider):
    left = LanguageModel.objects.get(slug="test-1")
    Breaker.objects.create(language_model=left, state="open", until="2100-01-01T00:00Z", error="It was down.")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "complete"
    assert found.answers.get(seat=1).stand_in == 0
    assert "test-1" not in asked(provider)


def test_a_model_that_its_answer_found_well_again_is_asked_for_its_review(alice, council, provider, monkeypatch):
    """Also where its answer is the last to come, and the review is asked for while the answer's end is written."""
    write = Recorder.write

    def written_slowly(self, change):
        time.sleep(0.2)
        write(self, change)

    monkeypatch.setattr(Recorder, "write", written_slowly)
    left = LanguageModel.objects.get(slug="test-1")
    Breaker.objects.create(language_model=left, state="open", until="2000-01-01T00:00Z", error="It was down.")
    provider.script({"model": "test-1", "kind": "answer"}, delay=0.3)
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "complete"
    assert sorted(asked(provider, "ballot")) == ["test-0", "test-1", "test-2"]
    assert Breaker.objects.get().state == "closed"


def test_the_prompt_is_made_to_fit_the_model_that_is_asked(alice, council, provider):
    LanguageModel.objects.filter(slug="spare").update(
        context=3000, max_output=100, json_schema=False, temperature=False, max_tokens_field="max_completion_tokens"
    )
    council.seats.update(temperature=0.5, system_prompt="You are careful.")
    provider.script({"model": "test-1"}, fault="server_error")
    provider.configure(tokens=2000)
    carry_out(asking.ask(alice, "What now?", council))
    requests = {(each["body"]["model"], each["kind"]): each["body"] for each in provider.requests()}
    answer, review = requests["spare", "answer"], requests["spare", "ballot"]
    assert answer["max_completion_tokens"] == 100
    assert "temperature" not in answer
    assert answer["messages"][0] == {"role": "system", "content": "You are careful."}
    assert "response_format" not in review
    assert "fenced JSON" in review["messages"][-1]["content"]
    assert len(str(review)) < len(str(requests["test-0", "ballot"])) / 2
    assert "cut here" in str(review)


def test_a_fallback_model_that_is_switched_off_or_the_seats_own_is_none(alice, council):
    own = LanguageModel.objects.get(slug="test-1")
    Fallback.objects.filter(language_model__slug="last").update(language_model=own)
    LanguageModel.objects.filter(slug="spare").update(enabled=False)
    turn = asking.ask(alice, "What now?", council)
    plan = values_of(turn)
    stored = turn.deliberation.plan
    assert [each.model.name for each in plans.stand_ins(stored, plan.members[1])] == []
    assert [each.model.name for each in plans.stand_ins(stored, plan.members[0])] == ["Model 1"]
    assert [each.model.name for each in plans.stand_ins(stored, plan.chairman)] == ["Deputy"]
    assert [each.seat.index for each in plans.stand_ins(stored, plan.chairman)] == [CHAIRMAN]


def values_of(turn):
    return Plan.from_json(turn.deliberation.plan)


def test_no_later_change_of_the_roster_changes_who_stood_in(alice, council, provider):
    provider.script({"model": "test-1"}, fault="server_error")
    found = carry_out(asking.ask(alice, "What now?", council))
    before = results.as_json(found)
    council.fallbacks.all().delete()
    LanguageModel.objects.update(name="Renamed")
    found.refresh_from_db()
    assert results.as_json(found) == before


def test_the_page_begins_afresh_with_the_stand_in_and_ends_as_a_reload(alice, council, provider, monkeypatch):
    """Whatever messages a viewer missed: text of the model that broke off never stands beside its stand-in's."""
    monkeypatch.setattr(live, "CHECKPOINT", Pace(0.05, 0, 0.05))
    provider.script({"model": "test-1", "kind": "answer"}, tokens_per_second=100, fault="error_after", n=30)
    provider.script({"model": "spare", "kind": "answer"}, tokens_per_second=100, tokens=60)
    turn = asking.ask(alice, "What now?", council)
    seen = []

    async def look():
        while not seen or seen[-1].unfinished:
            known = seen[-1].known if seen else Known(0, 0)
            seen.append(await tasks.in_thread(changes.since, turn.conversation, known))
            await asyncio.sleep(0.02)

    carry_out(turn, look)
    whole = "".join(each.html for each in seen)
    assert "Spare</bdi> has been asked in its place" in whole
    assert "Spare</bdi> wrote this in its place" in whole
    assert Deliberation.objects.get().answers.get(seat=1).stand_in == 0


def test_a_text_that_begins_afresh_while_a_checkpoint_is_written_loses_nothing():
    slot = Slot(Stage.ANSWERING, 0)
    texts = GrowingTexts(uuid4(), making.plan(), 1)
    texts.begin(StageStarted(Stage.ANSWERING, (0,)))
    texts.grew(slot, "One.\n\nTwo.\n\nThree.\n\nFour")
    marks = texts.marks()
    texts.begin(StandInAsked(slot, 0, Reply("", Outcome.FAILED)))
    texts.checkpointed(marks, 2)
    texts.grew(slot, "Anew.\n\nAnd on.\n\nTo the end")
    frame = texts.frame(3, 3)
    for html in (frame["full"], frame["tail"]):
        assert "Anew." in html
        assert "One." not in html
