"""What is kept of a call: its row, its usage, its cost, and what it teaches."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from council import call_rows, calls, plans
from council.core.values import Outcome, Request, Slot, Stage
from council.models import Call, LanguageModel, Provider
from council.tests import rosters
from council.tests.making import until
from council.threads import in_thread
from governance import rows

pytestmark = pytest.mark.django_db(transaction=True)

HOSTILE = "100 % of %s, 'quoted'; DROP TABLE council_call; -- 🎉"
LONG = Request(({"role": "user", "content": "Why is the sky blue? " * 50},), 300)


@pytest.fixture
def model(fake):
    return rosters.model(rosters.provider(fake.url))


def ask(model, request=LONG, snapshot=None, **options):
    snapshot = snapshot or plans.snapshot(model)

    async def one():
        async with calls.connections():
            return await calls.ask_model(
                snapshot, model.tokens_per_byte, request, purpose=Call.Purpose.ANSWER, **options
            )

    return async_to_sync(one)()


def test_a_call_is_a_row_with_its_times_and_its_usage(model, fake):
    reply = ask(model, slot=Slot(Stage.ANSWERING, 2))
    call = Call.objects.get()
    assert (call.purpose, call.seat, call.state, call.outcome) == ("answer", 2, "ended", "complete")
    assert (call.model_name, call.provider_name, call.language_model) == ("Alpha", "Fake", model)
    assert call.sent <= call.first_token <= call.ended
    assert call.generation == "gen-0"
    assert (call.input_tokens, call.output_tokens) == (reply.usage.input_tokens, reply.usage.output_tokens) == (266, 20)
    assert not call.estimated


def test_a_call_that_is_stopped_while_its_row_is_written_was_never_sent(model, fake, monkeypatch):
    send = call_rows.send

    async def one():
        asking = []

        def late(*given):
            written = send(*given)
            asking[0].get_loop().call_soon_threadsafe(asking[0].cancel)
            return written

        monkeypatch.setattr(call_rows, "send", late)
        async with calls.connections():
            asked = calls.ask_model(plans.snapshot(model), 0.4, LONG, purpose=Call.Purpose.TITLE)
            asking.append(asyncio.create_task(asked))
            await asyncio.wait(asking)
            assert asking[0].cancelled()

    async_to_sync(one)()
    call = Call.objects.get()
    assert (call.state, call.outcome, call.sent) == ("ended", "cancelled", None)
    assert not fake.requests()


def test_the_cost_is_computed_from_the_prices_and_rounded_up(model):
    assert ask(model).usage.cost == 266 * 1 + 20 * 2
    cheap = plans.snapshot(model)._replace(input_price=1, output_price=1)
    assert ask(model, snapshot=cheap).usage.cost == 1


def test_without_a_price_there_is_no_cost(model):
    assert ask(model, snapshot=plans.snapshot(model)._replace(output_price=None)).usage.cost is None


def answered(usage):
    chunk = {"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}], "usage": usage}
    return {"events": [[0, chunk], [0, "[DONE]"]]}


def test_the_cost_that_a_provider_reports_comes_first(model, fake):
    fake.script(**answered({"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.0012345}))
    assert ask(model).usage.cost == 1235


@pytest.mark.parametrize("cost", [-1, 1e300, 1e12, "much", None, [], {}])
def test_what_is_no_cost_is_not_taken_for_one(model, fake, cost):
    fake.script(**answered({"prompt_tokens": 10, "completion_tokens": 5, "cost": cost}))
    assert ask(model).usage.cost == 20
    assert Call.objects.get().cost == 20


def test_missing_usage_is_estimated_from_above_and_marked(model, fake):
    fake.script(fault="no_usage")
    reply = ask(model)
    assert reply.usage.estimated
    assert reply.usage.input_tokens >= 266
    assert reply.usage.output_tokens >= 20
    assert reply.usage.cost > 0
    assert Call.objects.get().estimated


@pytest.mark.parametrize("usage", [{"prompt_tokens": 2**31}, {"prompt_tokens": "many", "completion_tokens": -1}, {}])
def test_usage_that_makes_no_sense_is_estimated_too(model, fake, usage):
    fake.script(**answered(usage))
    assert ask(model).usage.estimated
    assert Call.objects.get().outcome == "complete"


def test_thinking_counts_as_output(model, fake):
    fake.script(fault="reasoning", n=30)
    assert ask(model).usage.output_tokens == 50


def test_what_never_began_used_nothing(model, fake):
    fake.script(fault="refuse_auth")
    reply = ask(model)
    assert reply.usage is None
    call = Call.objects.get()
    assert (call.outcome, call.cost, call.first_token) == ("failed", None, None)
    assert "It says: Incorrect API key provided." in call.error == reply.error


def test_its_row_is_there_before_anything_is_sent(model, fake):
    fake.script(fault="no_headers")

    async def look():
        async with calls.connections():
            snapshot = plans.snapshot(model)
            task = asyncio.create_task(calls.ask_model(snapshot, 1.0, LONG, purpose=Call.Purpose.ANSWER))
            await until(fake.requests)
            found = await in_thread(lambda: list(Call.objects.values_list("state", "fence", "ended")))
            task.cancel()
            await asyncio.wait([task])
            return found

    assert async_to_sync(look)() == [("sent", 0, None)]


def test_each_attempt_has_its_row(model, fake):
    fake.script(fault="rate_limited", n=0, times=1)
    assert ask(model).outcome is Outcome.COMPLETE
    assert list(Call.objects.values_list("outcome", flat=True)) == ["failed", "complete"]


def test_an_attempt_that_is_stopped_before_it_has_a_row_is_not_told_under_the_one_before(model, fake):
    fake.script({}, status=503)
    ends, second = [], asyncio.Event()

    class Journal(calls.Rows):
        async def sending(self, call):
            if ends:
                second.set()
                await asyncio.Event().wait()
            return await super().sending(call)

        async def ended(self, end):
            ends.append((end.call, end.attempt.outcome))
            await super().ended(end)

    async def stop():
        async with calls.connections():
            snapshot = plans.snapshot(model)
            task = asyncio.create_task(
                calls.ask_model(snapshot, 1.0, LONG, purpose=Call.Purpose.ANSWER, journal=Journal())
            )
            await second.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async_to_sync(stop)()
    only = Call.objects.get()
    assert ends == [(only.pk, Outcome.FAILED), (0, Outcome.CANCELLED)]
    assert only.outcome == "failed"


def test_stopping_leaves_a_row_with_what_was_used(model, fake):
    fake.configure(tokens_per_second=100, tokens=1000)
    grown = []

    class Watching(calls.Rows):
        def grew(self, call, text):
            grown.append(text)

    async def stop():
        async with calls.connections():
            task = asyncio.create_task(
                calls.ask_model(
                    plans.snapshot(model),
                    model.tokens_per_byte,
                    LONG,
                    purpose=Call.Purpose.ANSWER,
                    journal=Watching(),
                )
            )
            await until(lambda: len(grown) >= 5)
            task.cancel()
            await asyncio.wait([task])

    async_to_sync(stop)()
    call = Call.objects.get()
    assert (call.state, call.outcome, call.estimated) == ("ended", "cancelled", True)
    assert call.output_tokens >= 5


class TestWhatIsLearnt:
    def known(self, model):
        return LanguageModel.objects.get(pk=model.pk).tokens_per_byte

    def test_it_goes_down_slowly_and_up_at_once(self, model, fake):
        ask(model)
        after = self.known(model)
        assert 0.3 < after < 0.4
        fake.script(**answered({"prompt_tokens": 900, "completion_tokens": 5}))
        ask(model)
        assert self.known(model) == pytest.approx(1.1 * 900 / 1050)

    def test_a_short_prompt_teaches_nothing(self, model):
        ask(model, Request(({"role": "user", "content": "Why?"},), 300))
        assert self.known(model) == 0.4

    def test_an_estimate_teaches_nothing(self, model, fake):
        fake.script(fault="no_usage")
        ask(model)
        assert self.known(model) == 0.4

    def test_a_provider_that_counts_nothing_does_not_make_prompts_weightless(self, model, fake):
        fake.script(**answered({"prompt_tokens": 0, "completion_tokens": 5}))
        LanguageModel.objects.update(tokens_per_byte=0.1)
        model.refresh_from_db()
        ask(model)
        assert self.known(model) == 0.1


GONE = (
    "Alpha is not asked any more: it was removed, switched off, moved elsewhere, or is not approved,"
    " or its provider Fake was switched off."
)


class TestAProviderThatIsNotThere:
    def test_one_that_is_switched_off_is_not_asked(self, model, fake):
        Provider.objects.update(enabled=False)
        reply = ask(model)
        assert (reply.outcome, reply.error) == (Outcome.FAILED, GONE)
        assert not fake.requests()
        assert (Call.objects.get().state, Call.objects.get().error) == ("ended", reply.error)

    def test_neither_is_one_that_was_deleted(self, model, fake):
        snapshot = plans.snapshot(model)
        LanguageModel.objects.all().delete()
        Provider.objects.all().delete()
        reply = ask(model, snapshot=snapshot)
        assert (reply.outcome, reply.error) == (Outcome.FAILED, GONE)
        assert (Call.objects.get().language_model, Call.objects.get().model_name) == (None, "Alpha")

    def test_neither_is_a_model_that_was_deleted_since_the_plan(self, model, fake):
        snapshot = plans.snapshot(model)
        LanguageModel.objects.all().delete()
        assert ask(model, snapshot=snapshot).error == GONE
        assert not fake.requests()
        assert (Call.objects.get().language_model, Call.objects.get().model_name) == (None, "Alpha")

    def test_neither_is_a_model_that_was_retired_since_the_plan(self, model, fake):
        LanguageModel.objects.update(approval="retired")
        assert ask(model).error == GONE
        assert not fake.requests()

    def test_neither_is_one_that_is_elsewhere_since_the_plan(self, model, fake):
        """Whoever planned it, and approved it, knew another."""
        snapshot = plans.snapshot(model)
        elsewhere = Provider.objects.create(slug="other", name="Other", base_url=fake.url, private_address=True)
        LanguageModel.objects.update(provider=elsewhere)
        assert ask(model, snapshot=snapshot).error == GONE
        assert not fake.requests()

    def test_its_address_and_key_are_those_of_now(self, model, fake):
        snapshot = plans.snapshot(model)
        Provider.objects.update(base_url="http://127.0.0.1:9/v1")
        assert "http://127.0.0.1:9/v1 cannot be reached" in ask(model, snapshot=snapshot).error

    def test_a_key_that_cannot_be_read_is_said_and_is_not_replaced_by_none(self, model, fake):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE council_provider SET api_key = 'not what it was'")
        reply = ask(model)
        assert reply.outcome is Outcome.FAILED
        assert "API key cannot be read" in reply.error
        assert not fake.requests()


def test_what_no_database_holds_is_not_kept(model, fake):
    fake.script(status=400, body={"error": {"message": "a\x00b \ud800 c"}})
    assert "It says: ab � c" in ask(model).error
    assert "It says: ab � c" in Call.objects.get().error


def test_providers_are_asked_inside_connections_alone(model):
    with pytest.raises(RuntimeError):
        async_to_sync(calls.ask_model)(plans.snapshot(model), 0.4, LONG, purpose=Call.Purpose.ANSWER)


def test_two_test_calls_at_once_do_not_close_each_others_connections(model, fake):
    fake.script(delay=0.3, times=1, tokens=5)

    async def both():
        slow = asyncio.create_task(calls.test_call(model))
        await until(fake.requests)
        return await asyncio.gather(slow, calls.test_call(model))

    assert [reply.outcome for reply in async_to_sync(both)()] == [Outcome.COMPLETE] * 2


def test_a_call_to_a_model_that_is_gone_keeps_its_name(model):
    snapshot = plans.snapshot(model)
    model.delete()
    new = [call_rows.NewCall(Call.Purpose.TITLE, each) for each in (snapshot, snapshot._replace(name=HOSTILE))]
    first, second = call_rows.sent(new, rows.execute(call_rows.sending(new)))
    assert first.id < second.id
    assert list(Call.objects.order_by("pk").values_list("pk", "language_model", "model_name", "state", "outcome")) == [
        (first.id, None, "Alpha", "queued", ""),
        (second.id, None, HOSTILE, "queued", ""),
    ]
