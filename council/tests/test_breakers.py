"""Models that fail too often are left alone for a while, by all workers."""

import asyncio
from datetime import timedelta

import pytest
import stamina
from asgiref.sync import async_to_sync
from django.utils import timezone

from council import breakers, calls, plans
from council.call_rows import CallEnd
from council.core.values import Outcome, Request
from council.models import Breaker, Call, CallPolicy
from council.providers.calling import Attempt
from council.tests import rosters
from council.tests.making import until

pytestmark = pytest.mark.django_db(transaction=True)

ASK = Request(({"role": "user", "content": "Why?"},), 300)
WELL = {"tokens": 3}


@pytest.fixture
def model(fake):
    CallPolicy.objects.create(pk=1, attempts=1)
    return rosters.model(rosters.provider(fake.url))


@pytest.fixture(autouse=True)
def _hasty():
    stamina.set_testing(True, attempts=100)
    yield
    stamina.set_testing(False)


def ask(model, times=1, at_once=False):
    """The replies of calls, one after another as a rule."""

    async def one():
        return await calls.ask_model(plans.snapshot(model), 0.4, ASK, purpose=Call.Purpose.ANSWER)

    async def several():
        async with calls.connections():
            if at_once:
                return await asyncio.gather(*(one() for _ in range(times)))
            return [await one() for _ in range(times)]

    return async_to_sync(several)()


def state():
    return next(iter(Breaker.objects.values_list("state", flat=True)), "none")


def is_due():
    """The time for which it is open has passed."""
    Breaker.objects.update(until=timezone.now() - timedelta(seconds=1))


class TestItOpens:
    def test_after_five_failures_in_a_row_and_then_fails_at_once_in_words(self, model, fake):
        fake.script(fault="unavailable")
        ask(model, 4)
        assert state() == "none"
        ask(model)
        assert state() == "open"
        (reply,) = ask(model)
        assert reply.outcome is Outcome.FAILED
        assert reply.error.startswith("Alpha failed too often just now and is left alone for a moment.")
        assert "The model is overloaded." in reply.error
        assert len(fake.requests()) == 5
        last = Call.objects.last()
        assert (last.state, last.sent, last.outcome, last.fault) == ("ended", None, "failed", None)

    def test_not_where_one_of_them_went_well(self, model, fake):
        fake.script({"nth": 3}, times=1, **WELL)
        fake.script(fault="unavailable")
        ask(model, 7)
        assert state() == "none"
        ask(model)
        assert state() == "open"

    def test_where_half_of_ten_within_a_minute_fail(self, model, fake):
        for _ in range(5):
            fake.script(times=1, **WELL)
            fake.script(fault="server_error", times=1)
        ask(model, 9)
        assert state() == "none"
        ask(model)
        assert state() == "open"

    def test_not_where_they_lie_further_back(self, model, fake):
        for _ in range(5):
            fake.script(times=1, **WELL)
            fake.script(fault="server_error", times=1)
        ask(model, 9)
        Call.objects.update(ended=timezone.now() - timedelta(minutes=2))
        ask(model)
        assert state() == "none"

    @pytest.mark.parametrize("fault", ["no_headers", "cut", "error_first", "rate_limited", "no_finish"])
    def test_for_silence_for_breaks_and_for_overload(self, model, fake, fault):
        CallPolicy.objects.update(breaker_failures=2, repeat_after_timeout=False)
        model.first_token_seconds = 0.1
        fake.script(fault=fault)
        ask(model, 2)
        assert state() == "open"

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_never_for_what_is_wrong_with_the_request_or_the_key(self, model, fake, status, streamed):
        if streamed:
            fake.script(fault="error_first", n=status)
        else:
            fake.script(status=status, body={"error": {"message": "No."}})
        assert {each.outcome for each in ask(model, 11)} == {Outcome.FAILED}
        assert state() == "none"

    @pytest.mark.parametrize("fault", ["refusal", "content_filter", "empty", "length"])
    def test_never_for_what_a_model_says_or_does_not_say(self, model, fake, fault):
        fake.script(fault=fault)
        ask(model, 11)
        assert state() == "none"

    def test_by_the_rules_that_an_administrator_made(self, model, fake):
        CallPolicy.objects.update(breaker_failures=2)
        fake.script(fault="unavailable")
        ask(model, 2)
        assert state() == "open"

    def test_for_one_model_and_not_for_another_of_the_same_provider(self, model, fake):
        fake.script({"model": model.model_id}, fault="unavailable")
        ask(model, 5)
        assert state() == "open"
        other = rosters.model(model.provider, "beta")
        fake.script({"model": other.model_id}, fault="unavailable", times=1)
        # The first failure of its own, and not the sixth.
        assert [each.outcome for each in ask(other, 2)] == [Outcome.FAILED, Outcome.COMPLETE]


class TestOnceItIsOpen:
    @pytest.fixture
    def model(self, model, fake):
        fake.script(fault="unavailable")
        ask(model, 5)
        fake.reset()
        return model

    def test_one_call_finds_out_and_the_others_wait_for_that(self, model, fake):
        is_due()
        fake.script(delay=0.3, times=1)
        replies = ask(model, 6, at_once=True)
        assert sorted(each.outcome for each in replies) == ["complete"] + ["failed"] * 5
        assert len(fake.requests()) == 1
        assert state() == "closed"

    def test_the_model_is_asked_again_where_that_went_well(self, model, fake):
        for _ in range(2):
            is_due()
            fake.reset()
            assert [each.outcome for each in ask(model, 3)] == [Outcome.COMPLETE] * 3
            fake.script(fault="unavailable")
            ask(model, 4)
            assert state() == "closed"  # what failed before it was closed does not count, of a share neither
            ask(model)
            assert state() == "open"

    def test_it_is_left_alone_again_where_that_failed(self, model, fake):
        is_due()
        fake.script(fault="unavailable")
        ask(model, 3)
        assert len(fake.requests()) == 1
        assert state() == "open"
        assert Breaker.objects.get().until > timezone.now()

    def test_a_call_that_was_stopped_found_nothing_out_and_the_next_one_may(self, model, fake):
        is_due()
        fake.script(fault="hang", times=1)

        async def stop():
            async with calls.connections():
                call = calls.ask_model(plans.snapshot(model), 0.4, ASK, purpose=Call.Purpose.ANSWER)
                task = asyncio.create_task(call)
                await until(fake.requests)
                task.cancel()
                await asyncio.wait([task])

        async_to_sync(stop)()
        assert state() == "open"
        assert ask(model)[0].outcome is Outcome.COMPLETE
        assert state() == "closed"

    def test_a_call_that_the_council_waited_for_no_longer_found_nothing_out(self, model):
        is_due()
        policy, silent = CallPolicy.objects.get().values(), Attempt(outcome=Outcome.TIMED_OUT, sent=True, unknown=True)
        call = Call.objects.create(purpose="answer", model_name="Alpha", state="sent", sent=timezone.now())
        assert breakers.let_through(plans.snapshot(model), call.pk, policy)
        end = CallEnd(call.pk, silent, None, None, timezone.now(), model.pk, None, call.sent, probe=True, policy=policy)
        breakers.heard([end])
        assert state() == "open"
        assert ask(model)[0].outcome is Outcome.COMPLETE

    def test_the_call_of_a_worker_that_died_holds_nobody_up_once_that_is_seen(self, model, fake):
        is_due()
        lost = Call.objects.create(purpose="answer", model_name="Alpha", state="sent", sent=timezone.now())
        assert breakers.let_through(plans.snapshot(model), lost.pk, CallPolicy.objects.get().values())
        assert ask(model)[0].outcome is Outcome.FAILED
        Call.objects.filter(pk=lost.pk).update(state="ended", outcome="unknown")
        assert ask(model)[0].outcome is Outcome.COMPLETE

    def test_a_retry_does_not_go_on_against_it(self, model, fake):
        CallPolicy.objects.update(attempts=10)
        breakers.reset(Breaker.objects.all())
        fake.script(fault="unavailable")
        (reply,) = ask(model)
        assert "left alone" in reply.error
        assert len(fake.requests()) == 5
