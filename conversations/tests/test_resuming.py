"""What becomes of calls whose worker was killed: what is known of them, how often they are repeated, who is told."""

import asyncio
import time

import pytest
from django.db import OperationalError
from django.utils.html import strip_tags

from conversations import asking, results, retrying, tasks
from conversations.models import Conversation
from conversations.tests import links
from conversations.tests.worker import carry_out, job, work
from conversations.working import STALLED
from council import call_rows, claiming, measuring, plans, record, threads
from council.call_rows import NewCall
from council.core import values
from council.core.events import AnswerFinished, StageStarted, StandInAsked
from council.core.values import Outcome, Reply, Slot, Stage, Usage
from council.models import Answer, Call, CallPolicy, Deliberation, Fallback, LanguageModel, Synthesis
from council.models import Provider as ProviderRow
from council.providers import calling
from governance.times import hurried

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def turn(alice, council, provider):
    return asking.ask(alice, "What now?", council)


def killed(turn, *seats, text="", answered=()):
    """A worker sent calls for these members' answers, wrote what had come down, and was killed."""
    recorder = record.Recorder(claiming.claim(turn.deliberation_id))
    begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
    recorder.begin(begun)
    recorder.write(recorder.change([begun]))
    slots = [Slot(Stage.ANSWERING, seat) for seat in seats]
    models = [plans.model_of(turn.deliberation.plan, seat) for seat in seats]
    recorder.send([NewCall(Call.Purpose.ANSWER, *each) for each in zip(models, slots, strict=True)])
    done = [AnswerFinished(values.Answer(seat, Reply("Done.", Outcome.COMPLETE))) for seat in answered]
    if done:
        recorder.write(recorder.change(done))
    for slot in slots:
        if text:
            recorder.grew(slot, text)
    recorder.checkpoint(recorder.snapshot())


def counted(outcome: str) -> float:
    """Calls that ended so, by the figures of this process."""
    (calls,) = measuring.calls.collect()
    return sum(each.value for each in calls.samples if each.labels.get("outcome") == outcome and "total" in each.name)


def text_of(client, turn) -> str:
    client.force_login(turn.conversation.owner)
    page = client.get(f"/c/{turn.conversation_id}/").content.decode()
    return " ".join(strip_tags(page).split())


def asked(provider) -> list[str]:
    return sorted(each["body"]["model"] for each in provider.requests() if each["kind"] == "answer")


def test_a_call_that_went_out_is_unknown_and_is_repeated_once_and_the_page_says_so(turn, provider, client):
    before = counted("unknown")
    killed(turn, 1, answered=(0, 2))
    found = carry_out(turn)
    assert found.status == "complete"
    assert counted("unknown") == before + 1
    assert asked(provider) == ["test-1"]  # what was filled is not asked again
    lost, repeated = Call.objects.filter(purpose="answer", seat=1)
    assert (lost.state, lost.outcome) == ("ended", "unknown")
    assert lost.error == "Its worker was lost. Whether the provider carried it out, and bills it, is not known."
    assert lost.sent
    assert repeated.outcome == "complete"
    assert results.as_json(found)["unknown_calls"] == 1
    page = text_of(client, turn)
    assert "Calls with an unknown result1 may be billed all the same" in page


def test_what_is_known_of_a_call_is_written_while_it_goes_on(turn, provider):
    """Should its worker be lost then, the provider can be asked about it."""
    provider.configure(tokens_per_second=20, tokens=60)
    seen = []

    async def look():
        begun = Call.objects.filter(purpose="answer", state="sent").exclude(generation="")
        while not seen:
            await asyncio.sleep(0.02)
            seen.extend(await tasks.in_thread(lambda: list(begun.all())))

    assert carry_out(turn, look).status == "complete"
    for each in seen:
        assert each.generation.startswith("gen-")
        assert each.first_token > each.sent


def test_a_call_that_waited_for_its_turn_was_never_sent_and_does_not_count(turn, provider):
    ProviderRow.objects.update(concurrency=1)
    killed(turn, 1)
    killed(turn, 1)
    ProviderRow.objects.update(concurrency=None)
    found = carry_out(turn)
    assert found.status == "complete"
    lost = Call.objects.filter(purpose="answer", seat=1, fence__lt=3)
    assert {(each.outcome, each.sent, each.error) for each in lost} == {
        ("failed", None, "Its worker was lost before it was sent.")
    }
    assert results.as_json(found)["unknown_calls"] == 0


def test_what_was_lost_twice_is_not_asked_a_third_time_and_the_others_go_on(turn, provider):
    killed(turn, 1)
    killed(turn, 1)
    found = carry_out(turn)
    assert (found.status, found.attempt) == ("partial", 3)
    assert asked(provider) == ["test-0", "test-2"]
    answer = found.answers.get(seat=1)
    assert (answer.outcome, answer.text) == ("failed", "")
    assert answer.error.startswith("Twice it was sent and nothing is known of what came of it.")
    assert results.as_json(found)["unknown_calls"] == 2


def test_what_had_come_of_it_is_kept_and_marked_as_cut_off(turn, provider):
    killed(turn, 1)
    killed(turn, 1, text="Half of it")
    answer = carry_out(turn).answers.get(seat=1)
    assert (answer.outcome, answer.text) == ("truncated", "Half of it")


def test_a_fallback_model_is_asked_instead_of_a_third_time(alice, council, provider):
    spare = LanguageModel.objects.create(
        approval="approved",
        provider=ProviderRow.objects.get(),
        slug="spare",
        model_id="spare",
        name="Spare",
        context=100_000,
    )
    Fallback.objects.create(council=council, language_model=spare)
    turn = asking.ask(alice, "What now?", council)
    killed(turn, 1)
    killed(turn, 1, text="Half of it")
    found = carry_out(turn)
    assert found.status == "complete"
    assert found.answers.get(seat=1).stand_in == 0
    assert asked(provider) == ["spare", "test-0", "test-2"]


@pytest.fixture
def stand_ins(council):
    for place, name in enumerate(("first", "second")):
        spare = LanguageModel.objects.create(
            provider=ProviderRow.objects.get(),
            slug=name,
            model_id=name,
            name=name,
            context=100_000,
            approval="approved",
        )
        Fallback.objects.create(council=council, role="member", position=place, language_model=spare)


def lost_with_its_stand_in(turn, stand_in: int, own: Reply, text: str = "") -> None:
    """A worker was lost while a fallback model was at work in place of B's own, which had come as far as `own`."""
    recorder, slot = record.Recorder(claiming.claim(turn.deliberation_id)), Slot(Stage.ANSWERING, 1)
    for event in (StageStarted(Stage.ANSWERING, (0, 1, 2)), StandInAsked(slot, stand_in, own)):
        recorder.begin(event)
        recorder.write(recorder.change([event]))
    if text:
        recorder.grew(slot, text)
        recorder.checkpoint(recorder.snapshot())


FAILED = Reply("", Outcome.FAILED, "It is down.")
HALF = Reply("Half of it", Outcome.TRUNCATED, "It broke off.", Usage(3, 4, 5, estimated=True))


@pytest.mark.usefixtures("stand_ins")
def test_a_model_that_had_failed_is_not_asked_again_where_the_worker_of_its_stand_in_is_lost(alice, council, provider):
    turn = asking.ask(alice, "What now?", council)
    lost_with_its_stand_in(turn, 1, FAILED)
    found = carry_out(turn)
    assert asked(provider) == ["second", "test-0", "test-2"]
    assert found.answers.get(seat=1).stand_in == 1


@pytest.mark.usefixtures("stand_ins")
def test_what_its_own_model_wrote_outlasts_the_worker_of_its_stand_in(alice, council, provider):
    for name in ("first", "second"):
        provider.script({"model": name}, fault="unavailable")
    turn = asking.ask(alice, "What now?", council)
    lost_with_its_stand_in(turn, 0, HALF)
    lost_with_its_stand_in(turn, 1, Reply("", Outcome.FAILED, "What a second worker knows of it."))
    found = carry_out(turn)
    assert "test-1" not in asked(provider)
    answer = found.answers.get(seat=1)
    assert (answer.text, answer.outcome, answer.stand_in, answer.earlier) == ("Half of it", "truncated", None, None)
    assert (answer.input_tokens, answer.output_tokens, answer.cost, answer.estimated) == (3, 4, 5, True)
    assert answer.error.startswith("It broke off. second was asked in its place and failed as well")
    assert answer.seconds >= 0


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("last", "kept"),
    [("", ("Half of it", "truncated", None)), ("Half of it, and more", ("Half of it, and more", "cancelled", 0))],
    ids=["its own is longer", "its own is shorter"],
)
def test_the_longer_text_outlasts_three_workers_that_were_lost(alice, council, last, kept):
    turn = asking.ask(alice, "What now?", council)
    for _ in range(claiming.ATTEMPTS):
        lost_with_its_stand_in(turn, 0, HALF, last)
    assert claiming.claim(turn.deliberation_id) is None
    found = Deliberation.objects.get()
    answer = found.answers.get(seat=1)
    assert found.status == "failed"
    assert (answer.text, answer.outcome, answer.stand_in) == kept
    assert (answer.state, answer.earlier) == ("ended", None)
    assert answer.error.endswith("Stopped before its end.")
    assert answer.seconds >= 0


def test_silence_and_a_lost_worker_count_together(turn, provider):
    """A call that timed out may have been carried out just as well as one whose worker was lost."""
    LanguageModel.objects.update(first_token_seconds=1)
    Deliberation.objects.update(plan=with_patience(turn.deliberation.plan, 1))
    killed(turn, 1)
    provider.script({"model": "test-1", "kind": "answer"}, fault="no_headers")
    found = carry_out(turn)
    assert found.status == "partial"
    assert asked(provider).count("test-1") == 1
    assert results.as_json(found)["unknown_calls"] == 2


def test_a_worker_that_is_lost_after_a_silence_makes_it_two(turn, provider):
    killed(turn, 1)
    silence = {"state": "ended", "outcome": "timed_out", "error": "No sign of life for 60 seconds.", "unknown": True}
    Call.objects.update(**silence)
    killed(turn, 1)
    found = carry_out(turn)
    assert found.status == "partial"
    assert asked(provider) == ["test-0", "test-2"]


def test_whoever_tries_it_again_by_hand_has_what_was_lost_twice_sent_once_more(turn, provider):
    killed(turn, 1)
    killed(turn, 1)
    carry_out(turn)
    retrying.retry(turn.conversation, "answering:1")
    assert carry_out(turn).answers.get(seat=1).outcome == "complete"
    assert asked(provider) == ["test-0", "test-1", "test-2"]


def with_patience(plan, seconds):
    return {**plan, "models": [{**each, "first_token_seconds": seconds} for each in plan["models"]]}


def test_a_worker_that_hands_over_says_what_it_stopped_and_what_may_be_billed(turn, provider, client):
    Conversation.objects.update(titled=True)  # a title's call may be billed as well
    provider.script({"kind": "answer"}, fault="hang", times=3)

    async def stopped():
        begun = asyncio.create_task(job(turn))
        while len(await asyncio.to_thread(asked, provider)) < 3:
            await asyncio.sleep(0.02)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    work(stopped)
    answers = Call.objects.filter(purpose="answer")
    assert {(each.state, each.outcome, each.unknown) for each in answers} == {("ended", "cancelled", True)}
    found = carry_out(turn)
    assert found.status == "complete"
    assert asked(provider) == sorted(["test-0", "test-1", "test-2"] * 2)
    assert results.as_json(found)["unknown_calls"] == 3
    page = text_of(client, turn)
    assert "Calls with an unknown result3 may be billed all the same" in page


def test_what_is_handed_over_while_its_usage_is_waited_for_is_made_again_and_says_so(turn, provider, monkeypatch):
    """Its text is whole, but nobody took it in: a slot has one result."""
    monkeypatch.setattr(calling, "USAGE_SECONDS", 60)
    last = {"choices": [{"delta": {"content": "It is blue."}, "finish_reason": "stop"}]}
    provider.script({"kind": "answer", "model": "test-1"}, events=[[0, last], [60, "[DONE]"]], times=1)

    async def stopped():
        begun = asyncio.create_task(job(turn))
        while not await tasks.in_thread(Answer.objects.filter(seat=1, text="It is blue.").exists):
            await asyncio.sleep(0.02)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    work(stopped)
    assert carry_out(turn).status == "complete"
    dropped, made = Call.objects.filter(purpose="answer", seat=1).order_by("pk")
    assert (dropped.outcome, dropped.unknown, dropped.error) == ("cancelled", True, call_rows.HANDED_OVER)
    assert made.outcome == "complete"


def test_to_be_handed_over_again_and_again_tells_nothing_against_it(turn, provider):
    """As when many workers are replaced one after another, and each passes it on to one that is to go as well."""
    provider.script({"kind": "answer"}, fault="hang", times=3 * claiming.ATTEMPTS)

    def handed_over():
        sent = len(asked(provider))

        async def stopped():
            begun = asyncio.create_task(job(turn))
            while len(await asyncio.to_thread(asked, provider)) < sent + 3:
                await asyncio.sleep(0.02)
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)

        work(stopped)

    for _ in range(claiming.ATTEMPTS):
        handed_over()
    assert carry_out(turn).status == "complete"


@pytest.fixture
def given_up(turn, provider, monkeypatch):
    """A worker gave up: the database stayed away as the last member's call was to go out, and the others were out."""
    ProviderRow.objects.update(concurrency=3)
    for model in ("test-0", "test-1"):
        provider.script({"kind": "answer", "model": model}, fault="hang", n=8)

    def given_up():
        go, out = call_rows.go, len(asked(provider)) + 2

        def away(call, title_of=None):
            if Call.objects.get(pk=call).seat != 2:
                return go(call, title_of)
            while sum(each["kind"] == "answer" and bool(each["first_byte_ns"]) for each in provider.requests()) < out:
                time.sleep(0.01)
            raise OperationalError("The database is away.")

        with monkeypatch.context() as patched:
            patched.setattr(threads, "PATIENCE", -1)
            patched.setattr(call_rows, "go", away)
            with pytest.raises(ExceptionGroup):
                carry_out(turn)

    return given_up


def test_what_a_worker_drops_as_it_gives_up_was_stopped_by_nobody_and_is_not_asked_a_third_time(
    turn, provider, given_up
):
    given_up()
    given_up()
    found = carry_out(turn)
    assert found.attempt == 3
    assert asked(provider) == ["test-0", "test-0", "test-1", "test-1", "test-2"]
    dropped = Call.objects.filter(purpose="answer", seat__in=(0, 1))
    assert {(each.fence, each.outcome, each.unknown, each.error) for each in dropped} == {
        (fence, "unknown", True, call_rows.DROPPED) for fence in (1, 2)
    }
    assert results.as_json(found)["unknown_calls"] == 4


def test_what_a_person_stopped_as_its_worker_gave_up_was_stopped(turn, given_up):
    given_up()
    Deliberation.objects.update(cancel_requested=True)
    assert carry_out(turn).status == "cancelled"
    assert {each.outcome for each in Call.objects.filter(seat__in=(0, 1))} == {"cancelled"}


def test_a_worker_that_was_lost_is_seen_within_a_minute():
    """It counts as dead after STALLED; the next look but one begins anew what it left."""
    assert hurried(60.0) >= STALLED + 2 * tasks.LOOK_FOR_STALLED


def test_who_stops_it_is_heard_within_half_a_second():
    assert tasks.LOOK_FOR_CANCELS <= 0.5


def test_an_attempt_that_failed_is_written_before_the_next_one_waits(turn, provider):
    """Whoever looks meanwhile sees that the first has ended, and not that it still goes on."""
    CallPolicy.objects.create(pk=1)
    wait = {"Retry-After": "2"}
    provider.script({"model": "test-1", "kind": "answer"}, status=429, headers=wait, body={}, delay=0.5, times=1)
    provider.script({"kind": "answer"}, delay=3)  # nothing else happens meanwhile
    seen = []

    async def look():
        while not seen:
            first = await tasks.in_thread(lambda: Call.objects.filter(purpose="answer", seat=1).first())
            if first and first.state == "ended":
                seen.append(await tasks.in_thread(Call.objects.filter(purpose="answer", seat=1).count))
            await asyncio.sleep(0.02)

    carry_out(turn, look)
    assert seen == [1]
    first, second = Call.objects.filter(purpose="answer", seat=1)
    assert second.queued == first.ended
    assert (second.sent - second.queued).total_seconds() > 1.9


@pytest.mark.parametrize("written", ["", "Half of it"])
def test_one_that_failed_says_why_whatever_the_chairman_had_written(alice, client, council, written):
    turn = links.answered(alice, council).turns.get()
    Synthesis.objects.update(outcome="cancelled", text=written, error="Stopped before its end.")
    Deliberation.objects.update(status="failed", reason="It was begun three times.", revision=20, layout=20)
    page = text_of(client, turn)
    assert "It was begun three times." in page
    assert (written or "Somebody's own.") in page
    assert "Each member's reason is below." not in page


def test_a_plan_that_nobody_can_read_is_begun_three_times_and_no_more_and_the_log_says_why(turn, caplog):
    Deliberation.objects.update(plan={"question": "What now?"})
    for _ in range(claiming.ATTEMPTS):
        caplog.clear()
        with pytest.raises(ExceptionGroup):
            work(lambda: job(turn))
        (said,) = [each.msg for each in caplog.records if "could not be begun" in str(each.msg)]
        assert said["exc_info"]
    work(lambda: job(turn))
    found = Deliberation.objects.get()
    assert (found.status, found.reason) == ("failed", "It was begun three times and never came to its end.")
