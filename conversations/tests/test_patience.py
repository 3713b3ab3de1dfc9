"""Who is not waited for once enough others are done: what it wrote is kept, and its call has an end."""

import asyncio

import pytest
from asgiref.sync import async_to_sync

from conversations import asking, live, reading, results, tasks
from conversations.tests.worker import carry_out
from council import claiming, plans
from council.call_rows import NewCall
from council.core import values
from council.core.events import AnswerFinished, StageStarted
from council.core.values import Outcome, Reply, Slot, Stage
from council.models import Call, Council, Provider
from council.providers import calling
from council.record import Recorder

pytestmark = pytest.mark.django_db(transaction=True)


def test_who_is_not_waited_for_keeps_what_it_wrote_and_its_call_is_ended(alice, council, provider):
    Council.objects.update(quorum=2, grace_seconds=0)
    provider.script({"kind": "answer", "model": "test-1"}, fault="hang", n=20)
    found = carry_out(asking.ask(alice, "What now?", Council.objects.get()))
    answer = found.answers.get(seat=1)
    assert answer.outcome == "truncated"
    assert answer.text
    assert answer.error == "Enough others were done; the council did not wait any longer."
    assert Call.objects.get(purpose="answer", seat=1).outcome == "truncated"
    assert found.status == "partial"
    assert found.reason.startswith("B had not come to an end")
    assert found.synthesis.outcome == "complete"


def test_who_had_come_to_its_end_and_lacked_its_usage_alone_is_whole(alice, council, provider, monkeypatch):
    monkeypatch.setattr(calling, "USAGE_SECONDS", 60)
    Council.objects.update(quorum=2, grace_seconds=0)
    last = {"choices": [{"delta": {"content": "It is blue."}, "finish_reason": "stop"}]}
    provider.script({"kind": "answer", "model": "test-1"}, events=[[0, last], [60, "[DONE]"]])
    found = carry_out(asking.ask(alice, "What now?", Council.objects.get()))
    answer = found.answers.get(seat=1)
    assert (found.status, found.reason) == ("complete", "")
    assert (answer.outcome, answer.text, answer.error) == ("complete", "It is blue.", "")
    call = Call.objects.get(purpose="answer", seat=1)
    assert (call.outcome, call.error, call.unknown, call.fault) == ("complete", "", False, False)


@pytest.mark.parametrize("fault", [{"fault": "no_headers"}, {"fault": "unavailable", "n": 100}])
def test_who_is_not_waited_for_is_not_asked_again(alice, council, provider, fault):
    Council.objects.update(quorum=2, grace_seconds=0)
    provider.script({"kind": "answer", "model": "test-1"}, **fault)
    found = carry_out(asking.ask(alice, "What now?", Council.objects.get()))
    (call,) = Call.objects.filter(purpose="answer", seat=1)
    answer = found.answers.get(seat=1)
    assert call.state == "ended"
    assert call.outcome == answer.outcome == ("failed" if "n" in fault else "timed_out")
    assert found.reason == "B did not answer."
    assert call.unknown == ("n" not in fault)
    assert call.error.endswith("bills it, is not known.") == call.unknown


def test_what_waited_in_line_when_the_council_went_on_was_never_sent_and_is_not_said_to_be_billed(
    alice, council, provider
):
    Council.objects.update(quorum=1, grace_seconds=0)
    Provider.objects.update(concurrency=1)
    provider.script({"kind": "answer"}, times=1, first_token_ms=300)
    shown = []

    async def look():
        while not shown or shown[-1].deliberation.unfinished:
            await asyncio.sleep(0.02)
            shown.append(await tasks.in_thread(reading.of_deliberation, turn.conversation_id, turn.deliberation_id))

    turn = asking.ask(alice, "What now?", Council.objects.get())
    found = carry_out(turn, look)
    assert sorted(found.answers.values_list("outcome", flat=True)) == ["complete", "timed_out", "timed_out"]
    assert Call.objects.filter(purpose="answer", sent=None).count() == 2
    assert shown[-1].unknown == results.as_json(found)["unknown_calls"] == 0


def test_who_is_asked_again_is_waited_for_though_enough_others_are_done(alice, council, provider):
    Council.objects.update(quorum=2, grace_seconds=0)
    provider.script({"kind": "answer", "model": "test-1"}, times=1, fault="hang", n=20)
    turn = asking.ask(alice, "What now?", Council.objects.get())
    carry_out(turn)
    provider.script({"kind": "answer", "model": "test-1"}, first_token_ms=500)
    claiming.reopen(turn.deliberation_id, turn.conversation_id, Slot(Stage.ANSWERING, 1))
    assert carry_out(turn).answers.get(seat=1).outcome == "complete"


def test_a_call_that_nobody_waits_for_when_its_row_is_written_is_ended(alice, council, monkeypatch):
    turn = asking.ask(alice, "What now?", council)
    send = Recorder.send

    async def play():
        claim = await tasks.in_thread(claiming.claim, turn.deliberation_id)
        model = plans.model_of(claim.stored, 0)
        async with live.Live(turn.conversation_id, claim) as shown:
            await shown.emit(StageStarted(Stage.ANSWERING, (0, 1, 2)))
            asked = asyncio.ensure_future(shown.sending(NewCall(Call.Purpose.ANSWER, model, Slot(Stage.ANSWERING, 0))))

            def late(recorder, calls):
                written = send(recorder, calls)
                asked.get_loop().call_soon_threadsafe(asked.cancel)
                return written

            monkeypatch.setattr(Recorder, "send", late)
            await asyncio.wait([asked])
            await shown.emit(AnswerFinished(values.Answer(0, Reply("", Outcome.TIMED_OUT, "Too late."))))

    async_to_sync(play)()
    assert list(Call.objects.values_list("state", "outcome", "sent")) == [("ended", "cancelled", None)]
