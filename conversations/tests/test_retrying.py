"""One slot tried again: by a worker over a provider on a real socket, and by its owner's form."""

import asyncio
import re
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.messages import get_messages
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from bench.provider import Provider
from conversations import asking, changes, presenting, reading, results, retrying, sharing, tasks
from conversations.changes import Known
from conversations.models import Share
from conversations.tests import cast
from council import claiming
from council.core.deliberate import could_answer
from council.core.errors import NotOffered, Stale, UnderWay
from council.core.events import StageStarted
from council.core.values import CHAIRMAN, Mode, Outcome, Slot, Stage
from council.models import Answer, Call, Deliberation, Review, Synthesis
from council.record import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = {"status": 401, "body": {"error": {"message": "no such key"}}}
B = {"kind": "answer", "model": "test-1"}
ANSWER_B, REVIEW_A = Slot(Stage.ANSWERING, 1), Slot(Stage.REVIEWING, 0)
CHAIR = Slot(Stage.SYNTHESISING, CHAIRMAN)


@pytest.fixture(scope="module")
def provider():
    with Provider(tokens=40, tokens_per_second=0, first_token_ms=1, ranking="listed") as provider:
        yield provider


@pytest.fixture(autouse=True)
def _fresh(provider, monkeypatch):
    provider.reset()
    monkeypatch.setattr(tasks, "TITLE_AFTER", 0)


@pytest.fixture
def council(provider):
    return cast.council(provider.url)


@pytest.fixture
def alice():
    return cast.alice()


def work(turn, meanwhile=None) -> Deliberation:
    """Have a worker do what there is to do for a turn."""

    async def run():
        async with tasks.lifespan():
            job = tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id))
            await asyncio.gather(job, *([meanwhile()] if meanwhile else []))

    async_to_sync(run)()
    return Deliberation.objects.get(pk=turn.deliberation_id)


def ask(alice, council, mode=Mode.FULL):
    turn = asking.ask(alice, "What now?", council, mode)
    work(turn)
    return turn


def again(turn, slot: Slot, meanwhile=None) -> Deliberation:
    claiming.reopen(turn.deliberation_id, turn.conversation_id, slot)
    return work(turn, meanwhile)


def asked(provider) -> list[tuple[str, str]]:
    return [(each["kind"], each["body"]["model"]) for each in provider.requests() if each["kind"] != "title"]


def offered(turn) -> set[Slot]:
    return set(presenting.retrying.offers(reading.of_deliberation(turn.conversation_id, turn.deliberation_id)))


def told(turn) -> str:
    return presenting.view(reading.of_deliberation(turn.conversation_id, turn.deliberation_id))


def test_an_answer_that_failed_is_asked_for_again_and_nothing_else(alice, council, provider):
    provider.script(B, **REFUSED)
    turn = ask(alice, council)
    assert offered(turn) == {ANSWER_B}
    provider.reset()
    found = again(turn, ANSWER_B)
    assert asked(provider) == [("answer", "test-1")]
    assert found.answers.get(seat=1).outcome == "complete"
    assert found.status == "partial"
    assert found.reason == "B did not review. The council's answer was written before B answered."
    assert [each.saw for each in found.reviews.order_by("seat")] == [[0, 2], [], [0, 2]]
    assert found.synthesis.saw == [0, 2]


def test_after_a_late_answer_reviews_and_the_chairman_can_be_asked_again_until_all_have_read_it(
    alice, council, provider
):
    provider.script(B, **REFUSED)
    turn = ask(alice, council)
    provider.reset()
    again(turn, ANSWER_B)
    reviews = [Slot(Stage.REVIEWING, seat) for seat in range(3)]
    assert offered(turn) == {*reviews, CHAIR}
    view = told(turn)
    assert [card.late for card in view.reviews] == ["Written before this answer came: B.", "", view.reviews[0].late]
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
    provider.script({"kind": "ballot", "model": "test-0"}, **REFUSED)
    turn = ask(alice, council)
    assert offered(turn) == {REVIEW_A}
    provider.reset()
    assert again(turn, REVIEW_A).status == "complete"
    assert offered(turn) == {CHAIR}
    assert told(turn).synthesis.late == "Written before this review came: A."


def test_the_chairman_alone_is_asked_again(alice, council, provider):
    provider.script({"kind": "synthesis"}, **REFUSED)
    turn = ask(alice, council)
    provider.reset()
    found = again(turn, CHAIR)
    assert asked(provider) == [("synthesis", "test-3")]
    assert (found.status, found.reason, found.synthesis.outcome) == ("complete", "", "complete")


def test_one_survivor_that_gets_company_is_reviewed_and_summed_up(alice, council, provider):
    for model in ("test-1", "test-2"):
        provider.script({"model": model}, **REFUSED)
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
        provider.script(B, **REFUSED)
        found = again(turn, ANSWER_B)
    after = found.answers.get(seat=1)
    for name in ("text", "outcome", "started", "first_token", "finished", "tokens", "output_tokens", "cost"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.earlier is None
    assert after.error.startswith(f"{before.error} Tried again without success: The provider refused the API key.")
    assert after.error.count("Tried again") == 1
    assert found.status == "complete"
    assert offered(turn) == {ANSWER_B}


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
    provider.script(B, **REFUSED)
    turn = ask(alice, council)
    old = Recorder(claiming.Claim(turn.deliberation_id, 1, 99, None, {}, {}))
    claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    with pytest.raises(Stale):
        old.checkpoint([])


def test_only_what_is_not_complete_can_be_reopened_and_only_once_it_has_ended(alice, council, provider):
    provider.script(B, **REFUSED)
    turn = asking.ask(alice, "What now?", council)
    with pytest.raises(UnderWay):
        claiming.reopen(turn.deliberation_id, turn.conversation_id, ANSWER_B)
    work(turn)
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

    assert work(turn, stop).status == "cancelled"
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

    assert work(turn, stop).status == "cancelled"
    assert offered(turn) == {ANSWER_B, CHAIR}
    assert told(turn).rewrite
    before = len(asked(provider))
    found = again(turn, CHAIR)
    assert sorted(asked(provider)[before:]) == [("ballot", "test-0"), ("ballot", "test-2"), ("synthesis", "test-3")]
    assert (found.status, found.reason) == ("partial", "B did not answer.")
    assert found.answers.get(seat=1).outcome == "cancelled"


def test_the_time_that_passed_before_it_was_tried_again_is_not_counted(alice, council, provider):
    provider.script(B, **REFUSED)
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
    provider.script(B, **REFUSED)
    turn = ask(alice, council)
    found = Deliberation.objects.get()
    found.reviews.update(saw=None)
    type(found.synthesis).objects.update(saw=None)
    provider.reset()
    found = again(turn, ANSWER_B)
    assert found.reason.endswith("The council's answer was written before B answered.")
    assert [each.saw for each in found.reviews.order_by("seat")] == [[0, 2]] * 3


WORDS = {
    Outcome.TRUNCATED: "cut off",
    Outcome.REFUSED: "declined",
    Outcome.FILTERED: "filtered",
    Outcome.EMPTY: "no text",
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "too slow",
    Outcome.CANCELLED: "stopped",
}


@pytest.mark.parametrize("outcome", list(Outcome))
def test_each_outcome_has_words_and_what_is_not_complete_a_retry(alice, council, client, outcome):
    turn = asking.ask(alice, "What now?", council)
    error = "Why it ended so."
    for seat in range(3):
        how = outcome if seat == 1 else Outcome.COMPLETE
        row = {"deliberation": turn.deliberation, "seat": seat, "state": "ended", "outcome": how, "error": error}
        Answer.objects.create(**row, text="Text.")
        Review.objects.create(**row, text="Text.", ballot_state="abstained")
    Synthesis.objects.create(deliberation=turn.deliberation, state="ended", outcome=outcome, error=error, text="Text.")
    Deliberation.objects.update(status="partial", stage="synthesising", reason="B did not answer.")
    client.force_login(alice)
    page = client.get(turn.conversation.get_absolute_url()).content.decode()
    complete = outcome is Outcome.COMPLETE
    asks = could_answer(outcome)  # a member that could not be reached is not asked to review either
    slots = {f"{slot.stage}:{slot.seat}" for slot in (ANSWER_B, Slot(Stage.REVIEWING, 1), CHAIR)}
    expected = set() if complete else slots if asks else slots - {"reviewing:1"}
    assert set(re.findall(r'value="([a-z]+:-?[0-9])" data-retry', page)) == expected
    assert WORDS.get(outcome, "done") in strip_tags(page)
    card = page[page.index("-answering-1-name") :]
    assert (error in card[: card.index("</article>")]) == (outcome is not Outcome.CANCELLED)
    assert "B did not answer." in page
    assert "Partial" in page


class TestForm:
    """The form of its owner."""

    @pytest.fixture
    def turn(self, alice, council, provider):
        provider.script(B, **REFUSED)
        turn = ask(alice, council)
        provider.reset()
        return turn

    @pytest.fixture
    def client(self, alice):
        client = Client()
        client.force_login(alice)
        return client

    def post(self, client, turn, slot="answering:1", **headers):
        return client.post(reverse("retry", args=[turn.conversation_id]), {"slot": slot}, headers=headers)

    def test_it_leads_back_to_what_is_tried_again(self, client, turn):
        response = self.post(client, turn)
        assert response.status_code == 302
        assert response["location"].startswith(turn.conversation.get_absolute_url())
        page = client.get(turn.conversation.get_absolute_url()).content.decode()
        assert f'id="{response["location"].partition("#")[2]}"' in page
        assert 'data-announce="A part of it is tried again."' in page
        assert work(turn).answers.get(seat=1).outcome == "complete"

    def test_it_tells_all_viewers(self, client, turn, monkeypatch):
        messages = []

        async def tell(conversation_id, message):
            messages.append((conversation_id, message["type"]))

        monkeypatch.setattr("conversations.viewers.tell", tell)
        known = Known(turn.pk, Deliberation.objects.get().revision, turn.conversation.title, "synthesising")
        assert self.post(client, turn, **{"HX-Request": "true"}).status_code == 204
        assert messages == [(turn.conversation_id, "renewed")]
        what = changes.since(turn.conversation, known)
        assert what.unfinished
        assert "A part of it is tried again." in what.html

    @pytest.mark.parametrize("how", ["by htmx", "without"])
    def test_it_is_refused_while_something_is_under_way(self, client, turn, how):
        headers = {"HX-Request": "true"} if how == "by htmx" else {}
        self.post(client, turn)
        response = self.post(client, turn, **headers)
        assert response.status_code == 409
        said = response["HX-Trigger"] if headers else str(*get_messages(response.wsgi_request))
        assert "still at work" in said
        Deliberation.objects.update(status="complete")
        asking.ask(turn.conversation.owner, "And now?", turn.deliberation.council, conversation=turn.conversation)
        assert self.post(client, turn, **headers).status_code == 409

    @pytest.mark.parametrize(
        "slot",
        ["answering:0", "reviewing:1", "synthesising:-1", "answering:9", "answering:-1", "", "x:1", "answering:x"],
    )
    def test_it_is_refused_where_there_is_nothing_to_be_tried_again(self, client, turn, slot):
        response = self.post(client, turn, slot)
        assert response.status_code == 422
        assert "nothing to be tried again" in response.content.decode()
        assert not Deliberation.objects.get().retried

    def test_a_turn_that_has_been_followed_up_stays_as_it_is(self, client, turn, alice, council):
        work(asking.ask(alice, "And now?", council, conversation=turn.conversation))
        assert self.post(client, turn).status_code == 422
        turn.deliberation.refresh_from_db()
        assert not turn.deliberation.retried

    def test_a_turn_that_is_part_of_a_copy_stays_as_it_is(self, client, turn):
        share = sharing.save(turn.conversation, Share.Audience.TEAM, None, live=False)
        copy = sharing.copy(share, cast.bob(), uuid4())
        response = self.post(client, turn)
        assert response.status_code == 422
        assert "part of a copy" in response.content.decode()
        assert not Deliberation.objects.get().retried
        for conversation in (turn.conversation, copy):
            (rows,) = reading.turns(conversation.pk)
            assert presenting.view(rows).copied
        copy.delete()
        assert self.post(client, turn).status_code == 302

    def test_a_snapshot_shows_what_there_was_until_something_better_has_come(self, client, turn, provider):
        bob, share = Client(), sharing.save(turn.conversation, Share.Audience.TEAM, None, live=False)
        bob.force_login(cast.bob())
        address = reverse("shared", args=[sharing.token_of(share)])

        def main():
            page = bob.get(address).content.decode()
            return page[page.index('id="turns"') :]

        before = main()
        self.post(client, turn)
        during = main()
        assert "unfinished" not in during
        assert "The provider refused the API key" in during
        assert sharing.last_ended(turn.conversation) == turn
        assert not sharing.behind(share)
        assert sharing.to_copy(share) == []
        assert before.count("<article") == during.count("<article")
        work(turn)
        assert "The provider refused the API key" not in main()

    def test_what_could_not_be_queued_is_not_emptied(self, client, turn, monkeypatch):
        def away(_arguments):
            raise OperationalError("The database is away.")

        monkeypatch.setattr(retrying.jobs, "queue", away)
        with pytest.raises(OperationalError):
            self.post(client, turn)
        assert not Deliberation.objects.get().unfinished
        assert Deliberation.objects.get().answers.get(seat=1).outcome == "failed"
