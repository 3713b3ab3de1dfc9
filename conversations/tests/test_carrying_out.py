"""What a worker does with a deliberation: against a provider on a real socket, over a real database."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.utils.html import strip_tags
from procrastinate.contrib.django.models import ProcrastinateJob

from conversations import asking, deleting, live, results, tasks
from conversations.management.commands import ask
from conversations.pace import Pace
from conversations.tests.worker import carry_out, job, kinds, work
from council import claiming
from council.core.values import Mode
from council.models import Call, Council, Deliberation, LanguageModel, Provider
from council.providers import chat
from council.record import Recorder
from council.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)


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
            claims = [await in_thread(claiming.claim, turn.deliberation_id) for turn in turns]
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


def test_nothing_goes_into_a_private_network_that_was_not_ticked_for_the_provider(alice, council, provider):
    Provider.objects.update(private_address=False)
    found = carry_out(asking.ask(alice, "What now?", council))
    assert found.status == "failed"
    assert all("is in a private network" in each.error for each in found.answers.all())
    assert not provider.requests()


def test_what_nobody_has_thought_of_in_one_reply_does_not_end_the_others(alice, council, provider, monkeypatch):
    read = chat._piece

    def unforeseen(data, **options):
        return {}["no such key"] if b"BOOM" in data else read(data, **options)

    monkeypatch.setattr(chat, "_piece", unforeseen)
    provider.script({"kind": "answer", "model": "test-1"}, fault="fixed_text", text="BOOM")
    found = carry_out(asking.ask(alice, "What now?", council))
    assert (found.status, found.reason) == ("partial", "B did not answer.")
    assert "cannot be read" in Call.objects.get(purpose="answer", seat=1).error


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


def test_it_stops_when_a_person_says_so_and_keeps_what_came(alice, council, provider, client):
    provider.configure(tokens=2000, tokens_per_second=50)
    turn = asking.ask(alice, "What now?", council)

    async def stop():
        while not await record_has_text():
            await asyncio.sleep(0.05)
        await tasks.in_thread(Deliberation.objects.filter(pk=turn.deliberation_id).update, cancel_requested=True)

    def record_has_text():
        return tasks.in_thread(lambda: Deliberation.objects.get().answers.exclude(text="").count() == 3)

    carry_out(turn, stop)
    found = Deliberation.objects.get()
    assert found.status == "cancelled"
    assert {each.outcome for each in found.answers.all()} == {"cancelled"}
    assert all(each.text for each in found.answers.all())
    calls = Call.objects.filter(purpose="answer")
    assert {each.outcome for each in calls} == {"cancelled"}
    used = {each.seat: (each.cost, each.output_tokens, each.estimated) for each in calls}
    assert {each.seat: (each.cost, each.output_tokens, each.estimated) for each in found.answers.all()} == used
    assert all(cost for cost, _, _ in used.values())
    assert not any(each["finished"] for each in provider.requests() if each["kind"] == "answer")
    client.force_login(alice)
    assert "not known" not in client.get(f"/c/{found.scope}/").text


def test_nothing_is_asked_where_somebody_stopped_it_before_it_began(alice, council, provider):
    turn = asking.ask(alice, "What now?", council)
    deleting.cancel(turn.conversation)
    assert carry_out(turn).status == "cancelled"
    assert provider.requests() == []


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
        begun = asyncio.create_task(job(turn))
        await waits.wait()
        if who == "a person":
            await tasks.in_thread(Deliberation.objects.update, cancel_requested=True)
        else:
            begun.cancel()
        await asyncio.wait([begun])
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=2 * live.FRAME.most)

    work(stop)
    found = Deliberation.objects.get()
    assert (found.status, found.synthesis.outcome) == ("complete", "complete")
    assert not Call.objects.exclude(state="ended").exclude(purpose="title").exists()


def test_a_checkpoint_that_falls_on_the_end_has_nothing_to_write(alice, council, provider, monkeypatch):
    """It would find the deliberation ended, and take that for another worker's doing."""
    stale, write = [], Recorder.write

    def and_then_one_is_due(recorder, change):
        write(recorder, change)
        if "finished" in change.values:
            monkeypatch.setattr(live, "CHECKPOINT", Pace(0, 0, 0))

    monkeypatch.setattr(live, "CHECKPOINT", Pace(1000, 0, 1000))
    monkeypatch.setattr(Recorder, "write", and_then_one_is_due)
    monkeypatch.setattr(tasks.measuring, "stale", lambda: stale.append(None))
    assert carry_out(asking.ask(alice, "What now?", council)).status == "complete"
    assert not stale


def test_it_resumes_with_what_is_recorded_and_asks_only_for_the_rest(alice, council, provider):
    turn = asking.ask(alice, "What now?", council)
    provider.script({"kind": "synthesis"}, fault="hang")

    async def die():
        begun = asyncio.create_task(job(turn))
        while len(await asyncio.to_thread(kinds, provider)) < 7:
            await asyncio.sleep(0.02)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)

    work(die)
    assert Deliberation.objects.get().status == "running"
    before = len(kinds(provider))
    provider.reset()
    found = carry_out(turn)
    assert before == 7
    assert found.status == "complete"
    assert found.attempt == 2
    assert kinds(provider) == ["synthesis"]


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


def test_its_calls_teach_how_a_model_counts(alice, council, provider):
    LanguageModel.objects.update(tokens_per_byte=3.0)
    carry_out(asking.ask(alice, "Why is the sky blue? " * 50, council))
    assert all(each.tokens_per_byte < 3.0 for each in LanguageModel.objects.all())


def test_a_change_of_the_roster_never_changes_a_past_deliberation(alice, council, provider):
    found = carry_out(asking.ask(alice, "What now?", council))
    before = results.as_json(found)
    LanguageModel.objects.update(name="Renamed", enabled=False)
    Council.objects.update(name="Renamed")
    council.seats.all().delete()
    found.refresh_from_db()
    assert results.as_json(found) == before


def verdict(council, alice, **changes: object) -> str:
    """The words of the verdict and of what stands below it, on the page of a new question with these changes."""
    found = carry_out(asking.ask(alice, "What now?", council))
    Deliberation.objects.filter(pk=found.pk).update(**changes or {"status": found.status})
    client = Client()
    client.force_login(alice)
    page = client.get(f"/c/{found.scope}/").content.decode()
    return " ".join(strip_tags(page[page.index('class="verdict"') :]).split())


def test_the_page_says_whose_price_is_not_in_the_cost(alice, council, provider):
    assert "not known" not in verdict(council, alice)
    LanguageModel.objects.filter(slug__in=("test-1", "test-3")).update(input_price=None)
    assert "B, the chairman: not known" in verdict(council, alice)


def test_votes_that_nobody_cast_or_counted_name_nobody(alice, council, provider):
    assert "Dissenting reviewers" in verdict(council, alice)
    stopped = verdict(council, alice, standings=[])
    assert "Ballots that count3 of 3" in stopped
    provider.script({"kind": "ballot"}, fault="abstain_ballot")
    abstained = verdict(council, alice)
    assert "Ballots that count0 of 3" in abstained
    for said in (stopped, abstained):
        assert "Top-ranked" not in said
        assert "Dissenting reviewers" not in said


def test_a_council_answers_though_its_rows_cannot_be_kept_in_mind(alice, council, provider, monkeypatch):
    def wrong(*_):
        raise KeyError("a seat that nobody knows")

    monkeypatch.setattr(live.written, "after", wrong)
    monkeypatch.setattr(live.reading, "of_deliberation", wrong)
    monkeypatch.setattr(live, "CHECKPOINT", Pace(0.1, 0, 0.1))
    provider.configure(tokens=20, tokens_per_second=60)
    assert carry_out(asking.ask(alice, "What now?", council)).status == "complete"


def test_the_shell_says_that_a_question_is_kept_where_the_site_is_stopped(alice, council, monkeypatch):
    def gone(_seconds):
        raise OperationalError("terminating connection due to administrator command")

    monkeypatch.setattr(ask, "worker_alive", lambda: True)
    monkeypatch.setattr(ask.time, "sleep", gone)
    with pytest.raises(CommandError, match="The question is kept") as ended:
        call_command("ask", "What now?", "--council", council.slug, "--user", alice.email)
    assert ended.value.returncode == 1


def test_ctrl_c_in_the_middle_of_a_statement_stops_what_the_shell_asked_all_the_same(alice, council, monkeypatch):
    def interrupted(_seconds):
        if not Deliberation.objects.filter(cancel_requested=True).update(status="cancelled"):
            connection.connection.pgconn.send_query(b"SELECT 1")
            raise KeyboardInterrupt

    monkeypatch.setattr(ask, "worker_alive", lambda: True)
    monkeypatch.setattr(ask.time, "sleep", interrupted)
    with pytest.raises(SystemExit) as ended:
        call_command("ask", "What now?", "--council", council.slug, "--user", alice.email)
    assert ended.value.code == 1
    assert Deliberation.objects.get().cancel_requested
