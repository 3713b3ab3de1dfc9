"""A question goes straight to the worker of its own process, and through the queue where there is none."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import contextmanager
from time import monotonic, sleep

import pytest
from asgiref.sync import async_to_sync
from django.db import DataError, OperationalError, connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob, ProcrastinateWorker
from procrastinate.jobs import Job, Status

from bench.provider import Provider
from conversations import asking, jobs, tasks
from conversations.models import Conversation, Turn
from council import claiming
from council.models import Call, Deliberation, LanguageModel
from governance import rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("provider")]

PATIENCE = 20


@pytest.fixture(autouse=True)
def _no_jobs(transactional_db):
    """The queue's tables are not emptied with those of models, neither here nor in the tests before."""
    sql("DELETE FROM procrastinate_jobs")
    yield
    sql("DELETE FROM procrastinate_jobs")
    sql("DELETE FROM procrastinate_workers")


def sql(statement: str, *given) -> None:
    """The queue's models are for reading alone."""
    with connection.cursor() as cursor:
        cursor.execute(statement, given)


def stored():
    """The jobs of questions. Once a minute the worker has one of the upkeep beside them."""
    return ProcrastinateJob.objects.filter(task_name=jobs.TASK)


def until(condition: Callable[[], object], what: str = "it") -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, f"{what} did not come about"
        sleep(0.01)


@contextmanager
def worker(monkeypatch):
    """A worker in this process, on a loop and a thread of its own; stopped at the end."""
    monkeypatch.setattr(tasks, "TITLE_AFTER", 0)
    running = {}

    async def run():
        connector = app.connector.get_worker_connector()
        mine = app.with_connector(connector)
        async with tasks.lifespan(), mine.open_async():
            mine.job_manager = running["jobs"] = jobs.GivenJobs(connector, tasks.begin)
            running["loop"] = asyncio.get_running_loop()
            running["task"] = asyncio.create_task(
                mine.run_worker_async(
                    concurrency=20,
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=0.1,
                    delete_jobs="successful",
                    fetch_job_polling_interval=0.1,
                )
            )
            await asyncio.wait([running["task"]])

    thread = threading.Thread(target=async_to_sync(run))
    thread.start()
    until(jobs.here, "the worker")
    try:
        yield running["jobs"]
    finally:
        running["loop"].call_soon_threadsafe(running["task"].cancel)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_worker_of_this_process_carries_it_out(alice, council, provider, monkeypatch):
    with worker(monkeypatch):
        turn = asking.ask(alice, "What now?", council)
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
        until(lambda: not stored().exists(), "the end of the job")
    found = Deliberation.objects.get(pk=turn.deliberation_id)
    assert (found.status, found.attempt) == ("complete", 1)
    asked = [each["kind"] for each in provider.requests() if each["kind"] != "title"]
    assert asked == ["answer"] * 3 + ["ballot"] * 3 + ["synthesis"]
    # One row for each request, those of the first stage too, which were written with the question.
    assert Call.objects.exclude(purpose="title").count() == len(asked)
    assert set(Call.objects.values_list("state", "outcome")) == {("ended", "complete")}
    assert not ProcrastinateWorker.objects.exists()


def test_its_job_is_stored_as_one_that_this_worker_has(alice, council, monkeypatch):
    with worker(monkeypatch) as mine:
        monkeypatch.setattr(mine, "give", lambda *_: None)
        turn = asking.ask(alice, "What now?", council)
        job = stored().get()
        assert (job.status, job.task_name, job.queue_name) == ("doing", jobs.TASK, jobs.QUEUE)
        assert job.worker_id == ProcrastinateWorker.objects.get().pk
        assert job.args == {
            "deliberation_id": str(turn.deliberation_id),
            "conversation_id": str(turn.conversation_id),
        }
        found = Deliberation.objects.get()
        assert (found.status, found.attempt) == ("running", 1)
    # It died with the worker that had it: without a worker it counts as stalled, and another begins it again.
    monkeypatch.undo()
    assert stored().get().worker_id is None
    with worker(monkeypatch):
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
    found = Deliberation.objects.get()
    assert (found.status, found.attempt) == ("complete", 2)


async def fetch_nothing(**_arguments):
    """A worker that does not come to its jobs."""


def answers(provider: Provider) -> list[dict]:
    """The requests for answers. That for a title is short, and may be over by any time."""
    return [each for each in provider.requests() if each["kind"] == "answer"]


def test_what_was_given_and_not_fetched_goes_back_into_the_queue(alice, council, provider, monkeypatch):
    provider.configure(tokens=2000, tokens_per_second=50)
    with worker(monkeypatch) as mine:
        monkeypatch.setattr(mine, "fetch_job", fetch_nothing)
        asking.ask(alice, "What now?", council)
        until(lambda: answers(provider), "a request")
    assert [(each.status, each.worker_id) for each in stored()] == [("todo", None)]
    assert not any(each["finished"] for each in answers(provider))


def test_a_worker_with_much_to_do_leaves_questions_to_others(alice, council, monkeypatch):
    queued = []
    monkeypatch.setattr(jobs, "MOST_GIVEN", 1)
    monkeypatch.setattr(jobs, "queue", queued.append)
    with worker(monkeypatch) as mine:
        monkeypatch.setattr(mine, "fetch_job", fetch_nothing)
        asking.ask(alice, "What now?", council)
        until(lambda: jobs.here() is None, "that it has enough")
        assert not queued
        turn = asking.ask(alice, "And what next?", council)
        assert queued == [jobs.Arguments(turn.deliberation_id, turn.conversation_id)]


def test_without_a_worker_it_waits_in_the_queue(alice, council):
    asking.ask(alice, "What now?", council)
    assert jobs.here() is None
    assert stored().get().status == "todo"
    found = Deliberation.objects.get()
    assert (found.status, found.attempt) == ("queued", 0)
    assert not Call.objects.exists()


def test_a_question_that_cannot_be_stored_leaves_nothing(alice, council, monkeypatch):
    with worker(monkeypatch) as mine:
        monkeypatch.setattr(mine, "doing", lambda _: ("SELECT 'one'::integer", []))
        with pytest.raises(DataError):
            asking.ask(alice, "What now?", council)
        assert not Conversation.objects.exists()
        assert not Turn.objects.exists()
        assert not Deliberation.objects.exists()


def test_a_member_whom_the_question_does_not_fit_has_no_call(alice, council, provider, monkeypatch):
    LanguageModel.objects.filter(name="Model 1").update(context=300, max_output=100)
    with worker(monkeypatch):
        asking.ask(alice, "word " * 2000, council)
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
    assert sorted(Call.objects.filter(purpose="answer").values_list("seat", flat=True)) == [0, 2]
    assert Deliberation.objects.get().answers.get(seat=1).outcome == "failed"


def test_it_is_stopped_like_any_other(alice, council, provider, monkeypatch):
    provider.configure(tokens=2000, tokens_per_second=50)
    with worker(monkeypatch):
        asking.ask(alice, "What now?", council)
        until(lambda: Deliberation.objects.get().answers.exclude(text="").count() == 3, "text")
        Deliberation.objects.update(cancel_requested=True)
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
        until(lambda: not stored().exists(), "the end of the job")
    assert Deliberation.objects.get().status == "cancelled"
    assert {each.outcome for each in Call.objects.filter(purpose="answer")} == {"cancelled"}


def test_a_worker_that_goes_hands_it_on(alice, council, provider, monkeypatch):
    provider.configure(tokens=2000, tokens_per_second=50)
    with worker(monkeypatch):
        asking.ask(alice, "What now?", council)
        until(lambda: Deliberation.objects.get().answers.exclude(text="").count() == 3, "text")
    provider.configure(tokens=20, tokens_per_second=0)
    assert Deliberation.objects.get().status == "running"
    with worker(monkeypatch):
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
    found = Deliberation.objects.get()
    assert (found.status, found.attempt) == ("complete", 2)


def test_what_another_worker_had_meanwhile_is_taken_over_anew(alice, council, provider, monkeypatch):
    provider.configure(tokens=2000, tokens_per_second=50)
    with worker(monkeypatch):
        turn = asking.ask(alice, "What now?", council)
        until(lambda: Deliberation.objects.get().answers.exclude(text="").count() == 3, "text")
        provider.configure(tokens=20, tokens_per_second=0)
        assert claiming.claim(turn.deliberation_id).attempt == 2
        sql("UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL, attempts = attempts + 1")
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
        until(lambda: not stored().exists(), "the end of the job")
    found = Deliberation.objects.get()
    assert (found.status, found.attempt) == ("complete", 3)
    # The rows of the calls that nobody heard the end of say so.
    assert set(Call.objects.filter(fence__lt=3, purpose="answer").values_list("state", "outcome")) == {
        ("ended", "unknown")
    }


@pytest.mark.parametrize("lost", ["as it is stored", "its job"])
def test_what_nobody_works_on_is_begun_again(alice, council, monkeypatch, lost):
    monkeypatch.setattr(tasks, "LOOK_FOR_STALLED", 0.3)
    with worker(monkeypatch) as mine:
        if lost == "its job":
            monkeypatch.setattr(mine, "give", lambda *_: None)
            asking.ask(alice, "What now?", council)
            sql("DELETE FROM procrastinate_jobs")
        else:
            execute = rows.execute

            def break_off(statements):
                done = execute(statements)
                if any("INTO procrastinate_jobs" in statement for statement, _ in statements):
                    raise OperationalError("the connection is lost")
                return done

            monkeypatch.setattr(rows, "execute", break_off)
            with pytest.raises(OperationalError):
                asking.ask(alice, "What now?", council)
            monkeypatch.setattr(rows, "execute", execute)
        until(lambda: not Deliberation.objects.get().unfinished, "the end")
    assert Deliberation.objects.get().status == "complete"


def fetch() -> list[int]:
    """What a worker of another process gets when it looks at the queue."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id")
        worker = cursor.fetchone()[0]
        cursor.execute("SELECT id, worker_id FROM procrastinate_fetch_job_v2(ARRAY[%s], %s)", [jobs.QUEUE, worker])
        return [each for each, fetched_by in cursor.fetchall() if fetched_by == worker]


def stalled() -> list[Job]:
    return list(async_to_sync(app.job_manager.get_stalled_jobs)(queue=jobs.QUEUE, seconds_since_heartbeat=20))


def test_of_two_workers_that_see_a_stalled_job_the_later_leaves_it_to_whoever_has_it_by_then(alice, council):
    """Else its deliberation would be taken over from a worker that lives, and its calls be paid for twice."""
    asking.ask(alice, "What now?", council)
    sql("UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL")
    (mine,), (theirs,) = stalled(), stalled()
    assert jobs.begin_again(theirs)
    assert not jobs.begin_again(mine)
    assert fetch() == [mine.id]
    assert not jobs.begin_again(mine)
    assert stored().get().status == "doing"


def test_what_two_workers_saw_to_be_left_out_has_one_job_at_a_time(alice, council):
    asking.ask(alice, "What now?", council)
    sql("DELETE FROM procrastinate_jobs")
    (mine,), (theirs,) = jobs.left_out([]), jobs.left_out([])
    theirs.begin_again()
    assert len(fetch()) == 1
    mine.begin_again()
    assert fetch() == []


def test_the_person_who_asks_is_not_in_the_context_of_the_deliberation(alice, council, monkeypatch):
    person = contextvars.ContextVar("person", default="nobody")
    with worker(monkeypatch) as mine:
        seen = []
        monkeypatch.setattr(mine, "_begin", lambda *_: seen.append(person.get()))
        monkeypatch.setattr(mine, "fetch_job", fetch_nothing)
        person.set("Alice")
        asking.ask(alice, "What now?", council)
        until(lambda: seen, "the deliberation")
    assert seen == ["nobody"]


def test_it_ends_only_jobs_that_are_its_own(alice, council, monkeypatch):
    with worker(monkeypatch) as mine:
        monkeypatch.setattr(mine, "give", lambda *_: None)
        asking.ask(alice, "What now?", council)
        own = stored()
        row = own.get()
        job = Job(id=row.pk, status="doing", queue=jobs.QUEUE, lock=None, queueing_lock=None, task_name=jobs.TASK)

        def finish():
            done = mine.finish_job(job, Status.SUCCEEDED, delete_job=True)
            asyncio.run_coroutine_threadsafe(done, mine._loop).result(PATIENCE)

        sql("UPDATE procrastinate_jobs SET worker_id = NULL")
        finish()
        assert own.exists()
        # Handed back by another worker, and fetched by this one again: what it began before is not what it has now.
        sql("UPDATE procrastinate_jobs SET worker_id = %s, attempts = attempts + 1", mine.worker_id)
        finish()
        assert own.exists()
        sql("UPDATE procrastinate_jobs SET attempts = attempts - 1")
        finish()
        assert not own.exists()


def test_who_gives_a_job_goes_on_once_its_first_calls_are_out(alice, council, monkeypatch):
    """A thread that goes on would take the interpreter from them."""
    with worker(monkeypatch) as mine:
        out = []

        async def begin_calls():
            await asyncio.gather(*(asyncio.create_task(send(seat)) for seat in range(3)))

        async def send(seat):
            await asyncio.create_task(write(seat))

        async def write(seat):
            out.append(seat)

        monkeypatch.setattr(mine, "_begin", lambda *_: asyncio.ensure_future(begin_calls()))
        monkeypatch.setattr(jobs, "TO_GO_OUT", PATIENCE)
        asking.ask(alice, "What now?", council)
        assert out == [0, 1, 2]
