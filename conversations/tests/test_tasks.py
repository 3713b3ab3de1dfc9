"""What a worker does with a deliberation: against a provider on a real socket, over a real database."""

import asyncio
import threading

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection
from django.utils import timezone
from django.utils.html import strip_tags
from procrastinate.contrib.django.models import ProcrastinateJob
from prometheus_client import REGISTRY

from bench.provider import Provider
from conversations import asking, changes, deleting, live, results, tasks
from conversations.models import Conversation
from conversations.tests import cast
from council import plans, record
from council.call_rows import CallEnd, NewCall, learn
from council.core import values
from council.core.errors import Stale
from council.core.events import AnswerFinished, StageStarted
from council.core.values import Mode, Outcome, Reply, Slot, Stage, Status
from council.models import Answer, Call, Council, Deliberation, LanguageModel
from council.providers.calling import Attempt
from council.record import Recorder
from council.threads import Threads, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20
REPLACED = "council_workers_replaced_total"


@pytest.fixture(scope="module")
def provider():
    with Provider(tokens=40, tokens_per_second=0, first_token_ms=1) as provider:
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


def work(*jobs) -> None:
    """Run these jobs as a worker does."""

    async def run():
        async with tasks.lifespan():
            await asyncio.gather(*(job() for job in jobs))

    async_to_sync(run)()


def carry_out(turn) -> Deliberation:
    work(lambda: tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)))
    return Deliberation.objects.get(pk=turn.deliberation_id)


def kinds(provider) -> list[str]:
    """What was asked of the provider, but for titles, which come at any time."""
    return [each["kind"] for each in provider.requests() if each["kind"] != "title"]


def test_it_answers_reviews_and_sums_up(alice, council, provider):
    found = carry_out(asking.ask(alice, "What now?", council))
    assert (found.status, found.reason) == ("complete", "")
    told = results.as_json(found)
    assert [each["seat"] for each in told["answers"]] == ["A", "B", "C"]
    assert {each["outcome"] for each in told["answers"]} == {"complete"}
    assert all(each["ballot"]["state"] == "valid" for each in told["reviews"])
    assert len(told["standings"]) == 3
    assert told["synthesis"]
    assert told["cost"] == sum(each.cost for each in Call.objects.all()) > 0
    assert kinds(provider) == ["answer"] * 3 + ["ballot"] * 3 + ["synthesis"]


def test_what_two_at_once_say_of_themselves_and_their_calls_names_each(alice, council, provider, caplog):
    """Where they are begun before their jobs are fetched, too."""
    turns = [asking.ask(alice, "What now?", council) for _ in range(2)]

    async def begin_both():
        async with tasks.lifespan():
            claims = [await in_thread(record.claim, turn.deliberation_id) for turn in turns]
            begun = [tasks.begin(turn.conversation_id, claim) for turn, claim in zip(turns, claims, strict=True)]
            for each in begun:
                await asyncio.gather(each.task, each.title)

    async_to_sync(begin_both)()
    told = [each.msg for each in caplog.records if isinstance(each.msg, dict)]
    for turn in turns:
        of_it = [each for each in told if each["deliberation"] == str(turn.deliberation_id)]
        events = [each["event"] for each in of_it if each["event"] != "Call ended"]
        assert events == ["Question asked", "Deliberation begun", "Deliberation ended"]
        calls = {each["call"] for each in of_it if each["event"] == "Call ended"}
        assert calls == set(Call.objects.filter(deliberation=turn.deliberation_id).values_list("pk", flat=True))


def test_it_stops_after_the_answers_where_that_was_asked(alice, council, provider):
    found = carry_out(asking.ask(alice, "What now?", council, Mode.ANSWERS))
    assert found.status == "complete"
    assert set(kinds(provider)) == {"answer"}


def test_it_shows_a_members_failure_and_goes_on_with_the_others(alice, council, provider):
    provider.script({"model": "test-1"}, fault="refuse_auth")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "partial"
    assert "B did not answer" in found.reason
    failed = found.answers.get(seat=1)
    assert failed.outcome == "failed"
    assert "API key" in failed.error
    assert found.reviews.get(seat=1).ballot_state == "abstained"
    assert found.synthesis.outcome == "complete"


def test_it_shows_the_one_answer_there_is_without_a_review(alice, council, provider):
    for model in ("test-0", "test-2"):
        provider.script({"model": model}, fault="server_error")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "partial"
    assert not found.reviews.exists()


def test_it_fails_in_words_when_nobody_answers(alice, council, provider):
    provider.script(fault="refuse_auth")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert (found.status, found.reason) == ("failed", "No member answered.")
    assert found.question == "What now?"


def test_it_keeps_everything_when_the_chairman_fails(alice, council, provider):
    provider.script({"kind": "synthesis"}, fault="refuse_auth")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "partial"
    assert "chairman" in found.reason
    assert found.reviews.count() == 3


def test_it_stops_when_a_person_says_so_and_keeps_what_came(alice, council, provider):
    provider.configure(tokens=2000, tokens_per_second=50)
    turn = asking.ask(alice, "What now?", council)

    async def stop():
        while not await record_has_text():
            await asyncio.sleep(0.05)
        await tasks.in_thread(Deliberation.objects.filter(pk=turn.deliberation_id).update, cancel_requested=True)

    def record_has_text():
        return tasks.in_thread(lambda: Deliberation.objects.get().answers.exclude(text="").count() == 3)

    work(lambda: tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)), stop)
    found = Deliberation.objects.get()
    assert found.status == "cancelled"
    assert {each.outcome for each in found.answers.all()} == {"cancelled"}
    assert all(each.text for each in found.answers.all())
    assert {each.outcome for each in Call.objects.filter(purpose="answer")} == {"cancelled"}
    assert not any(each["finished"] for each in provider.requests() if each["kind"] == "answer")


def test_it_resumes_with_what_is_recorded_and_asks_only_for_the_rest(alice, council, provider):
    turn = asking.ask(alice, "What now?", council)
    provider.script({"kind": "synthesis"}, fault="hang")

    async def die():
        job = asyncio.create_task(tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)))
        while len(await asyncio.to_thread(kinds, provider)) < 7:
            await asyncio.sleep(0.02)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)

    work(die)
    assert Deliberation.objects.get().status == "running"
    before = len(kinds(provider))
    provider.reset()
    found = carry_out(turn)
    assert before == 7
    assert found.status == "complete"
    assert found.attempt == 2
    assert kinds(provider) == ["synthesis"]


def test_a_worker_that_was_replaced_writes_nothing(alice, council):
    turn = asking.ask(alice, "What now?", council)
    old = record.Recorder(record.claim(turn.deliberation_id))
    call = NewCall(Call.Purpose.ANSWER, plans.model_of(turn.deliberation.plan, 0), Slot(Stage.ANSWERING, 0))
    (sent,) = old.send([call])
    old.write(old.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    new = record.Recorder(record.claim(turn.deliberation_id))
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


def test_a_worker_that_is_replaced_stops_and_that_is_counted(alice, council, provider):
    provider.configure(tokens=2000, tokens_per_second=50)
    turn, before = asking.ask(alice, "What now?", council), REGISTRY.get_sample_value(REPLACED)

    async def replace():
        while len(await asyncio.to_thread(kinds, provider)) < 3:
            await asyncio.sleep(0.02)
        await tasks.in_thread(record.claim, turn.deliberation_id)

    work(lambda: tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)), replace)
    assert (Deliberation.objects.get().status, Deliberation.objects.get().attempt) == ("running", 2)
    assert REGISTRY.get_sample_value(REPLACED) == before + 1


def test_what_an_earlier_attempt_had_begun_begins_afresh(alice, council):
    turn = asking.ask(alice, "What now?", council)
    old = record.Recorder(record.claim(turn.deliberation_id))
    old.begin(StageStarted(Stage.ANSWERING, (0, 1, 2)))
    old.write(old.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    old.write(old.change([AnswerFinished(values.Answer(0, Reply("Done.", Outcome.COMPLETE)))]))
    old.grew(Slot(Stage.ANSWERING, 1), "Half of it")
    old.checkpoint(old.snapshot())
    again = record.Recorder(record.claim(turn.deliberation_id))
    again.write(again.change([StageStarted(Stage.ANSWERING, (0, 1, 2))]))
    assert list(Answer.objects.values_list("text", "state")) == [("Done.", "ended"), ("", "waiting"), ("", "waiting")]


def test_its_calls_teach_how_a_model_counts(alice, council, provider):
    LanguageModel.objects.update(tokens_per_byte=3.0)
    carry_out(asking.ask(alice, "Why is the sky blue? " * 50, council))
    assert all(each.tokens_per_byte < 3.0 for each in LanguageModel.objects.all())


def test_teaching_waits_for_nobody(alice, council):
    model = LanguageModel.objects.first()
    end = CallEnd(0, Attempt(), None, None, timezone.now(), model.pk, 1.5)
    with connection.cursor() as cursor, psycopg.connect(**where()) as other:
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


def test_it_gives_up_after_three_attempts(alice, council):
    turn = asking.ask(alice, "What now?", council)
    for _ in range(3):
        assert record.claim(turn.deliberation_id)
    assert record.claim(turn.deliberation_id) is None
    assert Deliberation.objects.get().status == "failed"


def test_a_change_of_the_roster_never_changes_a_past_deliberation(alice, council, provider):
    found = carry_out(asking.ask(alice, "What now?", council))
    before = results.as_json(found)
    LanguageModel.objects.update(name="Renamed", enabled=False)
    Council.objects.update(name="Renamed")
    council.seats.all().delete()
    found.refresh_from_db()
    assert results.as_json(found) == before


def test_the_page_says_whose_price_is_not_in_the_cost(alice, council, provider, client):
    client.force_login(alice)

    def verdict() -> str:
        found = carry_out(asking.ask(alice, "What now?", council))
        page = client.get(f"/c/{found.scope}/").content.decode()
        return " ".join(strip_tags(page[page.index('class="verdict"') :]).split())

    assert "no price" not in verdict()
    LanguageModel.objects.filter(slug__in=("test-1", "test-3")).update(input_price=None)
    assert "without B, the chairman: no price" in verdict()


@pytest.mark.parametrize("who", ["a person", "the worker's end"])
def test_what_stops_it_while_its_end_is_written_loses_nothing(alice, council, provider, monkeypatch, who):
    turn = asking.ask(alice, "What now?", council)
    waits, write = asyncio.Event(), Recorder.write

    def away_for_a_moment(recorder, change):
        if "finished" in change.values and not waits.is_set():
            waits.set()
            raise OperationalError("The database is away.")
        write(recorder, change)

    monkeypatch.setattr(Recorder, "write", away_for_a_moment)

    async def stop():
        job = asyncio.create_task(tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)))
        await waits.wait()
        if who == "a person":
            await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)
        else:
            job.cancel()
        await asyncio.wait([job])
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=2 * live.SLOWEST)

    work(stop)
    found = Deliberation.objects.get()
    assert (found.status, found.synthesis.outcome) == ("complete", "complete")
    assert not Call.objects.exclude(state="ended").exclude(purpose="title").exists()


def test_nothing_is_asked_where_somebody_stopped_it_before_it_began(alice, council, provider):
    turn = asking.ask(alice, "What now?", council)
    deleting.cancel(turn.conversation)
    assert carry_out(turn).status == "cancelled"
    assert provider.requests() == []


def test_what_was_begun_too_often_ends_with_all_that_came(alice, council):
    turn = asking.ask(alice, "What now?", council)
    for _ in range(record.ATTEMPTS):
        recorder = record.Recorder(record.claim(turn.deliberation_id))
        recorder.send(
            [NewCall(Call.Purpose.ANSWER, plans.model_of(turn.deliberation.plan, 1), Slot(Stage.ANSWERING, 1))]
        )
        begun = StageStarted(Stage.ANSWERING, (0, 1, 2))
        recorder.begin(begun)
        recorder.write(recorder.change([begun]))
        recorder.grew(Slot(Stage.ANSWERING, 1), "Half of it")
        recorder.checkpoint(recorder.snapshot())
    assert record.claim(turn.deliberation_id) is None
    found = Deliberation.objects.get()
    assert found.status == "failed"
    assert set(found.answers.values_list("state", "outcome")) == {("ended", "cancelled")}
    assert found.answers.get(seat=1).text == "Half of it"
    assert set(Call.objects.values_list("state", flat=True)) == {"ended"}


def test_a_council_answers_though_its_rows_cannot_be_kept_in_mind(alice, council, provider, monkeypatch):
    def wrong(*_):
        raise KeyError("a seat that nobody knows")

    monkeypatch.setattr(live.written, "after", wrong)
    monkeypatch.setattr(live.reading, "of_deliberation", wrong)
    monkeypatch.setattr(live, "CHECKPOINT", 0.1)
    provider.configure(tokens=20, tokens_per_second=60)
    assert carry_out(asking.ask(alice, "What now?", council)).status == "complete"


def test_it_titles_a_conversation(alice, council, provider):
    carry_out(asking.ask(alice, "Should we move our pipeline?", council))
    conversation = Conversation.objects.get()
    assert conversation.titled
    assert conversation.title != "Should we move our pipeline?"
    assert Call.objects.get(purpose="title").deliberation == Deliberation.objects.get()


def test_it_keeps_the_questions_start_where_a_title_fails_and_nothing_else_is_lost(alice, council, provider):
    provider.script({"kind": "title"}, fault="refuse_auth")
    assert carry_out(asking.ask(alice, "Should we move our pipeline?", council)).status == "complete"
    assert Conversation.objects.get().title == "Should we move our pipeline?"


def test_a_title_that_a_person_gave_stays(alice, council, provider):
    turn = asking.ask(alice, "Should we?", council)
    Conversation.objects.update(title="Mine", titled=True)
    carry_out(turn)
    assert Conversation.objects.get().title == "Mine"
    assert "title" not in {each["kind"] for each in provider.requests()}


def test_the_job_of_a_worker_that_died_is_begun_again(alice, council):
    turn = asking.ask(alice, "What now?", council)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 minute') RETURNING id"
        )
        dead = cursor.fetchone()
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", dead)
    work(lambda: waiting_again(turn))


async def waiting_again(turn):
    while not await tasks.in_thread(ProcrastinateJob.objects.filter(status="todo").exists):
        await asyncio.sleep(0.05)


def test_it_goes_on_where_the_database_drops_its_connections(alice, council, provider):
    provider.configure(tokens=60, tokens_per_second=60)
    turn = asking.ask(alice, "What now?", council)

    async def drop():
        for kind in ("answer", "ballot", "synthesis"):
            while kind not in await asyncio.to_thread(kinds, provider):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            await drop_connections()

    work(lambda: tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id)), drop)
    found = Deliberation.objects.get()
    assert (found.status, found.attempt) == ("complete", 1)
    assert {each.outcome for each in Call.objects.exclude(purpose="title")} == {"complete"}
    assert len(kinds(provider)) == 7


def test_a_worker_whose_connections_were_dropped_meanwhile_begins_the_next_one_as_if_nothing_were(
    alice, council, provider
):
    turn = asking.ask(alice, "What now?", council)

    async def drop_and_deliberate():
        await drop_connections()
        await tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id))

    work(drop_and_deliberate)
    assert Deliberation.objects.get().status == "complete"


async def drop_connections() -> None:
    """End those of the worker's threads, and no others: threads that other tests use have theirs in this process."""

    def process_of_the_database() -> int:
        connection.ensure_connection()
        return connection.connection.info.backend_pid

    threads = [tasks.in_thread._first, *[tasks.in_thread._others] * 5, changes.drawing._first]
    found = await asyncio.gather(*(asyncio.wrap_future(each.submit(process_of_the_database)) for each in threads))
    await asyncio.to_thread(end, found)


def end(processes: list[int]) -> None:
    with psycopg.connect(**where("postgres")) as other:
        other.execute("SELECT pg_terminate_backend(process, 5000) FROM unnest(%s::int[]) AS process", [processes])


def where(database: str = "") -> dict:
    """How to connect to the tests' database, or to another of its server."""
    known = connection.settings_dict
    address = {"host": known["HOST"], "user": known["USER"], "password": known["PASSWORD"]}
    return {**address, "port": known["PORT"] or None, "dbname": database or known["NAME"]}


async def test_a_thread_whose_waiter_has_gone_counts_as_busy_until_it_is_done():
    threads, go = Threads(2, "test"), threading.Event()
    waiting = asyncio.create_task(threads(go.wait))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    try:
        # Behind the first it would wait for ever.
        assert await asyncio.wait_for(threads(lambda: "done"), PATIENCE) == "done"
    finally:
        go.set()


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


def test_who_is_asked_again_is_waited_for_though_enough_others_are_done(alice, council, provider):
    Council.objects.update(quorum=2, grace_seconds=0)
    provider.script({"kind": "answer", "model": "test-1"}, times=1, fault="hang", n=20)
    turn = asking.ask(alice, "What now?", Council.objects.get())
    carry_out(turn)
    provider.script({"kind": "answer", "model": "test-1"}, first_token_ms=500)
    record.reopen(turn.deliberation_id, turn.conversation_id, Slot(Stage.ANSWERING, 1))
    assert carry_out(turn).answers.get(seat=1).outcome == "complete"


def test_a_call_that_nobody_waits_for_when_its_row_is_written_is_ended(alice, council, monkeypatch):
    turn = asking.ask(alice, "What now?", council)
    send = Recorder.send

    async def play():
        claim = await tasks.in_thread(record.claim, turn.deliberation_id)
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
    assert list(Call.objects.values_list("state", "outcome")) == [("ended", "cancelled")]
