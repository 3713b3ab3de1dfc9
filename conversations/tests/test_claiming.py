"""Who may write a deliberation: a worker that was replaced may not, and what was begun too often is ended."""

import asyncio

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from prometheus_client import REGISTRY

from conversations import asking, tasks
from conversations.tests import database
from conversations.tests.worker import job, kinds, work
from council import claiming, plans, record
from council.call_rows import CallEnd, NewCall, learn
from council.core import values
from council.core.errors import Stale
from council.core.events import AnswerFinished, StageStarted
from council.core.values import Outcome, Reply, Slot, Stage, Status
from council.models import Answer, Call, Deliberation, LanguageModel
from council.providers.calling import Attempt

pytestmark = pytest.mark.django_db(transaction=True)

REPLACED = "council_workers_replaced_total"


def test_a_worker_that_was_replaced_writes_nothing(alice, council):
    turn = asking.ask(alice, "What now?", council)
    old = record.Recorder(claiming.claim(turn.deliberation_id))
    call = NewCall(Call.Purpose.ANSWER, plans.model_of(turn.deliberation.plan, 0), Slot(Stage.ANSWERING, 0))
    (sent,) = old.send([call])
    old.write(old.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    new = record.Recorder(claiming.claim(turn.deliberation_id))
    new.write(new.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))

    def everything():
        return [list(model.objects.order_by("pk").values()) for model in (Deliberation, Answer, Call, LanguageModel)]

    before = everything()
    reply = Reply("Late.", Outcome.COMPLETE)
    old.call_ended(CallEnd(sent.id, Attempt(), None, None, timezone.now(), call.model.pk, 1.5))
    for write in (
        lambda: old.send([call]),
        lambda: old.write(old.change([AnswerFinished(values.Answer(0, reply))])),
        lambda: old.checkpoint([(Slot(Stage.ANSWERING, 0), {"text": "Late.", "state": "writing"})]),
        lambda: old.stop([], Status.CANCELLED, "Late."),
    ):
        with pytest.raises(Stale):
            write()
        assert everything() == before
    assert not old.taught


def test_a_worker_that_was_replaced_does_not_renew_what_another_has_ended(alice, council):
    turn = asking.ask(alice, "What now?", council)
    old, new = (claiming.claim(turn.deliberation_id) for _ in range(2))
    record.Recorder(new).stop([], Status.CANCELLED, "Ended.")
    before = Deliberation.objects.get().revision
    assert not record.renew(turn.deliberation_id, old.attempt)
    assert Deliberation.objects.get().revision == before
    assert record.renew(turn.deliberation_id, new.attempt)
    assert Deliberation.objects.get().revision == before + 1


def test_a_worker_that_is_replaced_stops_and_that_is_counted(alice, council, provider):
    provider.configure(tokens=2000, tokens_per_second=50)
    turn, before = asking.ask(alice, "What now?", council), REGISTRY.get_sample_value(REPLACED)

    async def replace():
        while len(await asyncio.to_thread(kinds, provider)) < 3:
            await asyncio.sleep(0.02)
        await tasks.in_thread(claiming.claim, turn.deliberation_id)

    work(lambda: job(turn), replace)
    assert (Deliberation.objects.get().status, Deliberation.objects.get().attempt) == ("running", 2)
    assert REGISTRY.get_sample_value(REPLACED) == before + 1


def test_what_an_earlier_attempt_had_begun_begins_afresh(alice, council):
    turn = asking.ask(alice, "What now?", council)
    old = record.Recorder(claiming.claim(turn.deliberation_id))
    old.begin(StageStarted(Stage.ANSWERING, (0, 1, 2)))
    old.write(old.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    old.write(old.change([AnswerFinished(values.Answer(0, Reply("Done.", Outcome.COMPLETE)))]))
    old.grew(Slot(Stage.ANSWERING, 1), "Half of it")
    old.checkpoint(old.snapshot())
    again = record.Recorder(claiming.claim(turn.deliberation_id))
    again.write(again.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    assert list(Answer.objects.values_list("text", "state")) == [("Done.", "ended"), ("", "waiting"), ("", "waiting")]


def test_it_gives_up_after_three_attempts(alice, council):
    turn = asking.ask(alice, "What now?", council)
    for _ in range(3):
        assert claiming.claim(turn.deliberation_id)
    assert claiming.claim(turn.deliberation_id) is None
    assert Deliberation.objects.get().status == "failed"


def test_what_was_begun_too_often_ends_with_all_that_came(alice, council):
    turn = asking.ask(alice, "What now?", council)
    for _ in range(claiming.ATTEMPTS):
        recorder = record.Recorder(claiming.claim(turn.deliberation_id))
        recorder.send(
            [NewCall(Call.Purpose.ANSWER, plans.model_of(turn.deliberation.plan, 1), Slot(Stage.ANSWERING, 1))]
        )
        begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
        recorder.begin(begun)
        recorder.write(recorder.change([begun]))
        recorder.grew(Slot(Stage.ANSWERING, 1), "Half of it")
        recorder.checkpoint(recorder.snapshot())
    assert claiming.claim(turn.deliberation_id) is None
    found = Deliberation.objects.get()
    assert found.status == "failed"
    assert set(found.answers.values_list("state", "outcome")) == {("ended", "cancelled")}
    assert found.answers.get(seat=1).text == "Half of it"
    assert set(Call.objects.values_list("state", flat=True)) == {"ended"}


def test_teaching_waits_for_nobody(alice, council):
    model = LanguageModel.objects.first()
    end = CallEnd(0, Attempt(), None, None, timezone.now(), model.pk, 1.5)
    with connection.cursor() as cursor, psycopg.connect(database.url()) as other:
        other.execute("SELECT 1 FROM council_languagemodel FOR UPDATE")
        cursor.execute("SET lock_timeout = 2000")
        try:
            learn([end])
        finally:
            cursor.execute("RESET lock_timeout")
    model.refresh_from_db()
    assert model.tokens_per_byte != 1.5
    learn([end])
    model.refresh_from_db()
    assert model.tokens_per_byte == 1.5
