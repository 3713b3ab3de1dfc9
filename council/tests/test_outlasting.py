"""A database that is away for a moment is waited for by whoever waits for a call's way to be free."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import DataError, InterfaceError, OperationalError
from django.utils import timezone

from council import breakers, call_rows, calls, places, plans, threads
from council.core.errors import Stale
from council.core.values import Outcome, Request
from council.models import Breaker, Call, CallPolicy, Place
from council.tests import rosters
from council.tests.making import until

pytestmark = pytest.mark.django_db(transaction=True)

ASK = Request(({"role": "user", "content": "Why?"},), 300)
STATEMENTS = {"let through": (breakers, "let_through"), "a place": (places, "_take"), "going out": (call_rows, "go")}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch):
    monkeypatch.setattr(threads, "AGAIN", 0.01)


@pytest.fixture
def model(fake):
    """Its breaker is open and it is due to be tried, and its provider takes two calls at a time."""
    CallPolicy.objects.create(pk=1, attempts=1)
    model = rosters.model(rosters.provider(fake.url, concurrency=2))
    now = timezone.now()
    Breaker.objects.create(language_model=model, state="open", since=now, opened=now, until=now)
    return model


@pytest.fixture
def losing(monkeypatch):
    """The database is lost so many times at a statement, before or after it has done it."""

    def losing(name, *, after, times, error=OperationalError):
        module, function = STATEMENTS[name]
        real, left = getattr(module, function), [error("The connection broke.")] * times

        def lost(*given):
            done = real(*given) if after or not left else None
            if left:
                raise left.pop()
            return done

        monkeypatch.setattr(module, function, lost)
        return left

    return losing


def ask(model):
    async def one():
        async with calls.connections():
            return await calls.ask_model(plans.snapshot(model), 0.4, ASK, purpose=Call.Purpose.ANSWER)

    return async_to_sync(one)()


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", list(STATEMENTS))
def test_the_call_goes_out_once_and_its_row_says_so(model, fake, losing, name, after, times):
    left = losing(name, after=after, times=times)
    assert ask(model).outcome is Outcome.COMPLETE
    assert not left
    assert len(fake.requests()) == 1
    call = Call.objects.get()
    assert (call.state, call.outcome) == ("ended", "complete")
    assert call.queued < call.sent < call.first_token
    assert Breaker.objects.get().state == "closed"


def test_an_interface_that_is_closed_is_no_other_matter(model, losing):
    losing("going out", after=False, times=1, error=InterfaceError)
    assert ask(model).outcome is Outcome.COMPLETE


def test_a_place_that_nobody_heard_of_is_seen_to_be_lost(model, losing):
    losing("a place", after=True, times=1)
    ask(model)
    nobodys = Place.objects.get()
    Place.objects.update(seen=nobodys.seen - timedelta(seconds=11 * places.LOST))
    places._live([])
    assert not Place.objects.exists()


def test_one_that_another_worker_has_ended_meanwhile_does_not_go_out(model, fake, monkeypatch):
    go = call_rows.go

    def taken_over(*given):
        monkeypatch.setattr(call_rows, "go", go)
        go(*given)
        call_rows.lose(Call.objects.all())
        raise OperationalError("The connection broke.")

    monkeypatch.setattr(call_rows, "go", taken_over)
    with pytest.raises(Stale):
        ask(model)
    assert not fake.requests()
    assert Call.objects.get().outcome == "unknown"


def test_it_is_not_waited_for_without_end(model, fake, losing, monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.05)
    losing("going out", after=False, times=1_000)
    with pytest.raises(OperationalError):
        ask(model)
    assert not fake.requests()


def test_whoever_is_stopped_meanwhile_is_stopped_at_once(model, fake, losing):
    left = losing("going out", after=True, times=1_000)

    async def stop():
        async with calls.connections():
            call = calls.ask_model(plans.snapshot(model), 0.4, ASK, purpose=Call.Purpose.ANSWER)
            task = asyncio.create_task(call)
            await until(lambda: len(left) < 999)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async_to_sync(stop)()
    assert not fake.requests()
    call = Call.objects.get()
    assert (call.outcome, call.sent, call.unknown) == ("cancelled", None, False)


def test_other_errors_are_not_waited_for(model, losing):
    left = losing("a place", after=False, times=2, error=DataError)
    with pytest.raises(DataError):
        ask(model)
    assert len(left) == 1
