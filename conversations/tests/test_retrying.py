"""One slot tried again by a worker: what is asked once more, what is kept, and what is offered then."""

import asyncio
from datetime import timedelta

import pytest
from django.utils import timezone

from conversations import asking, presenting, reading, results, tasks
from conversations.tests.trying_again import ANSWER_B, CHAIR, REVIEW_A, B, ask
from conversations.tests.worker import carry_out
from council import claiming, plans, written
from council.call_rows import NewCall
from council.core.errors import NotOffered, Stale, UnderWay
from council.core.events import StageStarted
from council.core.values import Slot, Stage
from council.models import Answer, Call, Deliberation, Fallback, LanguageModel, Provider, Synthesis
from council.record import Recorder

pytestmark = pytest.mark.django_db(transaction=True)


def again(turn, slot: Slot, *meanwhile) -> Deliberation:
    claiming.reopen(turn.deliberation_id, turn.conversation_id, slot)
    return carry_out(turn, *meanwhile)


def asked(provider) -> list[tuple[str, str]]:
    return [(each["kind"], each["body"]["model"]) for each in provider.requests() if each["kind"] != "title"]


def offered(turn) -> set[Slot]:
    return set(presenting.retrying.offers(reading.of_deliberation(turn.conversation_id, turn.deliberation_id)))


def told(turn) -> str:
    return presenting.view(reading.of_deliberation(turn.conversation_id, turn.deliberation_id))


def test_an_answer_that_failed_is_asked_for_again_and_nothing_else(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    assert offered(turn) == {ANSWER_B}
    provider.reset()
    found = again(turn, ANSWER_B)
    assert asked(provider) == [("answer", "test-1")]
    assert (found.answers.get(seat=1).outcome, found.answers.get(seat=1).earlier) == ("complete", None)
    assert found.status == "partial"
    assert found.reason == "B did not review. The council's answer was written before B answered."
    assert [each.saw for each in found.reviews.order_by("seat")] == [[0, 2], [], [0, 2]]
    assert found.synthesis.saw == [0, 2]


def test_after_a_late_answer_reviews_and_the_chairman_can_be_asked_again_until_all_have_read_it(
    alice, council, provider
):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    provider.reset()
    again(turn, ANSWER_B)
    reviews = [Slot(Stage.REVIEWING, seat) for seat in range(3)]
    assert offered(turn) == {*reviews, CHAIR}
    view = told(turn)
    without = "Written without the answer of B, which came later."
    assert [card.late for card in view.reviews] == [without, "", without]
    assert view.synthesis.late == view.reviews[0].late
    for slot in reviews:
        again(turn, slot)
        assert slot not in offered(turn)
    found = again(turn, CHAIR)
    assert asked(provider) == [
        ("answer", "test-1"),
        *[("ballot", f"test-{n}") for n in range(3)],
        ("synthesis", "test-3"),
    ]
    assert (found.status, found.reason) == ("complete", "")
    assert offered(turn) == set()
    assert {tuple(each.saw) for each in found.reviews.all()} == {(0, 1, 2)}
    assert {each["ballots"] for each in found.standings} == {3}


def test_the_chairman_is_asked_again_after_a_late_review_too(alice, council, provider):
    provider.script({"kind": "ballot", "model": "test-0"}, fault="refuse_auth")
    turn = ask(alice, council)
    assert offered(turn) == {REVIEW_A}
    provider.reset()
    assert again(turn, REVIEW_A).status == "complete"
    assert offered(turn) == {CHAIR}
    assert told(turn).synthesis.late == "Written without the review of A, which came later."


def test_the_chairman_alone_is_asked_again(alice, council, provider):
    provider.script({"kind": "synthesis"}, fault="refuse_auth")
    turn = ask(alice, council)
    provider.reset()
    found = again(turn, CHAIR)
    assert asked(provider) == [("synthesis", "test-3")]
    assert (found.status, found.reason, found.synthesis.outcome) == ("complete", "", "complete")


def test_one_survivor_that_gets_company_is_reviewed_and_summed_up(alice, council, provider):
    for model in ("test-1", "test-2"):
        provider.script({"model": model}, fault="refuse_auth")
    turn = ask(alice, council)
    provider.reset()
    found = again(turn, ANSWER_B)
    assert (found.status, found.reason) == ("partial", "C did not answer.")
    assert found.synthesis.outcome == "complete"
    assert len(asked(provider)) == 1 + 2 + 1


def test_a_try_in_vain_leaves_what_there_was_and_says_so(alice, council, provider):
    provider.script(B, times=1, fault="length")
    turn = ask(alice, council)
    before = Deliberation.objects.get().answers.get(seat=1)
    assert before.outcome == "truncated"
    for _ in range(2):
        provider.script(B, fault="refuse_auth")
        found = again(turn, ANSWER_B)
    after = found.answers.get(seat=1)
    for name in ("text", "outcome", "started", "first_token", "finished", "tokens", "output_tokens", "cost"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.earlier is None
    assert after.error.startswith(f"{before.error} Tried again without success: The provider refused the API key.")
    assert after.error.count("Tried again") == 1
    assert found.status == "complete"
    assert offered(turn) == {ANSWER_B}


@pytest.mark.parametrize("n", [3, 900], ids=["shorter", "longer"])
def test_what_is_whole_stays_where_the_new_one_breaks_off(alice, council, provider, n):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    provider.reset()
    again(turn, ANSWER_B)
    before = Deliberation.objects.get().synthesis
    provider.script({"kind": "synthesis"}, fault="cut", n=n, tokens=1000)
    found = again(turn, CHAIR)
    assert (found.synthesis.text, found.synthesis.outcome) == (before.text, "complete")
    assert found.synthesis.error.startswith("Tried again without success: ")
    assert found.synthesis.saw == [0, 2]
    assert offered(turn) >= {CHAIR}


@pytest.mark.parametrize("n", [2, 60], ids=["shorter", "longer"])
def test_of_two_that_broke_off_the_longer_stays(alice, council, provider, n):
    provider.script(B, times=1, fault="cut", n=20)
    turn = ask(alice, council)
    before = Deliberation.objects.get().answers.get(seat=1)
    provider.script(B, times=1, fault="cut", n=n)
    after = again(turn, ANSWER_B).answers.get(seat=1)
    assert (before.outcome, after.outcome) == ("truncated", "truncated")
    if n < 20:
        assert after.text == before.text
        assert "Tried again without success: " in after.error
    else:
        assert len(after.text) > len(before.text)
        assert "Tried again" not in after.error


@pytest.mark.parametrize("n", [3, 300], ids=["shorter", "longer"])
def test_what_there_was_stays_where_a_stand_in_is_stopped_once_the_new_one_broke_off(alice, council, provider, n):
    spare = LanguageModel.objects.create(
        provider=Provider.objects.get(), slug="spare", model_id="spare", name="Spare", context=9000, approval="approved"
    )
    Fallback.objects.create(council=council, role="member", position=0, language_model=spare)
    provider.script(B, times=1, fault="length")
    turn = ask(alice, council)
    before = Deliberation.objects.get().answers.get(seat=1)
    provider.script(B, fault="cut", n=n, tokens=400)
    provider.script({"model": "spare"}, fault="no_headers")

    async def stop():
        while not await tasks.in_thread(Answer.objects.filter(stand_in=0, state="waiting").exists):
            await asyncio.sleep(0.02)
        await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)

    after = again(turn, ANSWER_B, stop).answers.get(seat=1)
    assert (after.text, after.outcome, after.stand_in, after.earlier) == (before.text, before.outcome, None, None)
    assert after.error.endswith("Tried again without success: it was stopped.")


def test_what_began_before_its_worker_was_lost_began_then():
    """As its row says, which keeps what was there."""
    before, now = (timezone.now() - timedelta(seconds=each) for each in (60, 0))
    held = Answer(seat=0, state="waiting", earlier={"text": "Half of it"}, started=before)
    rows = written.DeliberationRows(deliberation=Deliberation(), answers=[held, Answer(seat=1, started=before)])
    begun = [Answer(seat=0, started=now), Answer(seat=1, started=now)]
    after = written.after(rows, written.Change({"revision": 2}, [begun]))
    assert [each.started for each in after.answers] == [before, now]


def test_a_snapshot_shows_what_was_there_of_the_part_that_is_tried_again_and_of_no_other():
    had = {"text": "Half of it", "outcome": "truncated", "error": "It broke off."}
    retry = {"stage": "answering", "seat": 1, "before": {"status": "partial", "stage": "answering"}}
    rows = written.DeliberationRows(
        deliberation=Deliberation(status="running", stage="synthesising", retry=retry),
        answers=[
            Answer(seat=0, state="ended", text="Yes."),
            Answer(seat=1, state="waiting", earlier={**had, "started": None}),
            Answer(seat=2, state="waiting", earlier=had),
        ],
        synthesis=Synthesis(state="waiting", earlier=had),
    )
    settled = presenting.retrying.settled(rows)
    assert [each.text for each in settled.answers] == ["Yes.", "Half of it"]
    assert settled.synthesis is None


def test_what_there_was_stays_where_its_workers_were_lost_twice_after_a_few_words(alice, council, provider):
    provider.script(B, times=1, fault="length")
    turn = ask(alice, council)
    before = Deliberation.objects.get().answers.get(seat=1)
    claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    for _ in range(2):
        recorder = Recorder(claiming.claim(turn.deliberation_id))
        begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
        recorder.begin(begun)
        recorder.write(recorder.change([begun]))
        recorder.send([NewCall(Call.Purpose.ANSWER, plans.model_of(turn.deliberation.plan, 1), ANSWER_B)])
        recorder.grew(ANSWER_B, "Half")
        recorder.checkpoint(recorder.snapshot())
    provider.reset()
    after = carry_out(turn).answers.get(seat=1)
    assert asked(provider) == []
    assert (after.text, after.outcome) == (before.text, before.outcome)
    assert "Tried again without success: Twice it was sent" in after.error


def test_what_it_had_stays_while_it_is_tried_again_and_when_that_is_stopped(alice, council, provider):
    provider.script(B, times=1, fault="length")
    turn = ask(alice, council)
    before = results.as_json(Deliberation.objects.get())
    provider.script(B, tokens=2000, tokens_per_second=50)

    async def stop():
        while not await tasks.in_thread(Answer.objects.exclude(earlier__isnull=True).exclude(text="").exists):
            await asyncio.sleep(0.05)
        seen.append(await tasks.in_thread(told, turn))
        await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)

    seen = []
    found = again(turn, ANSWER_B, stop)
    (view,) = seen
    assert view.shows == "synthesis"
    assert before["answers"][1]["text"].split()[0] in view.answers[1].earlier
    after = results.as_json(found)
    assert after["answers"][1].pop("error").endswith("Tried again without success: it was stopped.")
    before["answers"][1].pop("error")
    assert {**after, "cost": 0, "seconds": 0} == {**before, "cost": 0, "seconds": 0}
    assert found.status == "complete"
    assert found.reason == "B was asked again; that was stopped, and what there was before is kept."
    assert not Call.objects.exclude(state="ended").exists()


def test_a_worker_that_dies_meanwhile_loses_nothing_and_the_tries_are_counted_anew(alice, council, provider):
    provider.script(B, times=1, fault="length")
    turn = ask(alice, council)
    text = Deliberation.objects.get().answers.get(seat=1).text
    claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    for _ in range(claiming.ATTEMPTS):
        recorder = Recorder(claiming.claim(turn.deliberation_id))
        begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
        recorder.begin(begun)
        recorder.write(recorder.change([begun]))
        row = Deliberation.objects.get().answers.get(seat=1)
        assert (row.state, row.text, row.tokens, row.earlier["text"]) == ("waiting", "", 0, text)
        recorder.grew(ANSWER_B, "Half of it")
        recorder.checkpoint(recorder.snapshot())
    assert claiming.claim(turn.deliberation_id) is None
    found = Deliberation.objects.get()
    assert found.status == "complete"
    assert "went wrong on this site's side" in found.reason
    assert (found.answers.get(seat=1).text, found.answers.get(seat=1).outcome) == (text, "truncated")


def test_whoever_carried_it_out_before_writes_nothing_any_more(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    old = Recorder(claiming.Claim(turn.deliberation_id, 1, 99, None, {}, {}))
    claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    with pytest.raises(Stale):
        old.checkpoint([])


def test_only_what_is_not_complete_can_be_reopened_and_only_once_it_has_ended(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = asking.ask(alice, "What now?", council)
    with pytest.raises(UnderWay):
        claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    carry_out(turn)
    for slot in (Slot(Stage.ANSWERING, 0), Slot(Stage.ANSWERING, 7), Slot(Stage.REVIEWING, 1), REVIEW_A, CHAIR):
        with pytest.raises(NotOffered):
            claiming.reopen(turn.deliberation_id, turn.conversation_id, slot)
    claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    with pytest.raises(UnderWay):
        claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)


def test_a_deliberation_that_was_stopped_goes_on_from_the_slot_that_is_tried_again(alice, council, provider):
    provider.script({"kind": "ballot"}, fault="hang")
    turn = asking.ask(alice, "What now?", council)

    async def stop():
        while len(await asyncio.to_thread(asked, provider)) < 6:
            await asyncio.sleep(0.05)
        await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)

    assert carry_out(turn, stop).status == "cancelled"
    assert offered(turn) == {CHAIR, *[Slot(Stage.REVIEWING, seat) for seat in range(3)]}
    provider.reset()
    found = again(turn, REVIEW_A)
    assert asked(provider) == [("ballot", "test-0"), ("synthesis", "test-3")]
    assert (found.status, found.reason) == ("partial", "B and C did not review.")


def test_one_that_was_stopped_among_its_answers_goes_on_with_those_that_are_there(alice, council, provider):
    provider.script(B, fault="hang")
    turn = asking.ask(alice, "What now?", council)

    async def stop():
        while await tasks.in_thread(Answer.objects.filter(state="ended").count) < 2:
            await asyncio.sleep(0.05)
        await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)

    assert carry_out(turn, stop).status == "cancelled"
    assert offered(turn) == {ANSWER_B, CHAIR}
    assert told(turn).rewrite
    before = len(asked(provider))
    found = again(turn, CHAIR)
    assert sorted(asked(provider)[before:]) == [("ballot", "test-0"), ("ballot", "test-2"), ("synthesis", "test-3")]
    assert (found.status, found.reason) == ("partial", "B did not answer.")
    assert found.answers.get(seat=1).outcome == "cancelled"


def test_the_time_that_passed_before_it_was_tried_again_is_not_counted(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    found = Deliberation.objects.get()
    long_ago = {name: getattr(found, name) - tasks.deleting.UNDO for name in ("created", "finished")}
    took = found.elapsed
    Deliberation.objects.update(**long_ago)
    provider.reset()
    found = again(turn, ANSWER_B)
    assert took < found.elapsed < tasks.deleting.UNDO
    assert found.elapsed.days == 0


def test_one_that_an_earlier_release_left_is_read_by_the_answers_of_then(alice, council, provider):
    provider.script(B, fault="refuse_auth")
    turn = ask(alice, council)
    found = Deliberation.objects.get()
    found.reviews.update(saw=None)
    type(found.synthesis).objects.update(saw=None)
    provider.reset()
    found = again(turn, ANSWER_B)
    assert found.reason.endswith("The council's answer was written before B answered.")
    assert [each.saw for each in found.reviews.order_by("seat")] == [[0, 2]] * 3
