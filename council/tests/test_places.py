"""A provider that takes few calls at a time gets no more, by all workers together; who waits keeps nobody else up."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone

from bench.provider import Provider as FakeProvider
from council import calls, places, plans
from council.core.errors import ProviderGone, Stale
from council.core.values import Outcome, Request
from council.models import Call, LanguageModel, Place, Provider
from council.places import Places
from council.tests import rosters
from council.tests.making import until
from council.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

ASK = Request(({"role": "user", "content": "Why?"},), 300)


@pytest.fixture
def model(fake):
    return rosters.model(rosters.provider(fake.url, concurrency=2))


def one(model):
    return calls.ask_model(plans.snapshot(model), 0.4, ASK, purpose=Call.Purpose.ANSWER)


def states():
    connection.close()  # of the thread that looks
    return sorted(Call.objects.values_list("state", flat=True))


def run(coroutine_function):
    async def within():
        async with calls.connections():
            return await coroutine_function()

    return async_to_sync(within)()


def most_at_once(requests):
    begins = [(each["received_ns"], 1) for each in requests]
    ends = [(each["last_byte_ns"], -1) for each in requests]
    now = most = 0
    for _moment, step in sorted(begins + ends):
        now += step
        most = max(most, now)
    return most


def test_it_is_sent_no_more_at_a_time_and_all_get_their_turn(model, fake):
    fake.configure(tokens_per_second=200, tokens=20)

    async def many():
        return await asyncio.gather(*(one(model) for _ in range(7)))

    assert {each.outcome for each in run(many)} == {Outcome.COMPLETE}
    assert most_at_once(fake.requests()) == 2
    assert not Place.objects.exists()


def test_a_call_that_waits_shows_as_waiting_and_says_how_long_it_did(model, fake):
    fake.script(fault="hang")

    async def look():
        tasks = [asyncio.create_task(one(model)) for _ in range(3)]
        await until(lambda: states() == ["queued", "sent", "sent"] and len(fake.requests()) == 2)
        waiting = await in_thread(Call.objects.get, state="queued")
        assert (waiting.sent, waiting.ended) == (None, None)
        await asyncio.to_thread(fake.reset)  # which ends those two
        await asyncio.wait(tasks)
        return await in_thread(Call.objects.get, pk=waiting.pk)

    waited = run(look)
    assert waited.queued < waited.sent <= waited.ended


def test_the_places_of_a_worker_that_died_become_free(model, fake, monkeypatch):
    for _ in range(2):
        Place.objects.create(provider=model.provider, seen=timezone.now())

    async def wait_and_go():
        task = asyncio.create_task(one(model))
        await until(lambda: states() == ["queued"])
        await asyncio.sleep(2 * places.LOOK)
        assert not fake.requests()
        await in_thread(Place.objects.exclude(pk=(await in_thread(Place.objects.last)).pk).update, seen=lost)
        return await task

    lost = timezone.now() - timedelta(seconds=places.LOST + 1)
    assert run(wait_and_go).outcome is Outcome.COMPLETE


def test_who_lives_gives_signs_of_life(model, fake, monkeypatch):
    monkeypatch.setattr(places, "ALIVE", 0.05)
    monkeypatch.setattr(places, "LOOK", 0.02)
    fake.script(fault="hang", times=2)

    async def look():
        tasks = [asyncio.create_task(one(model)) for _ in range(3)]
        await until(lambda: states() == ["queued", "sent", "sent"])
        old = timezone.now() - timedelta(seconds=places.LOST - 5)
        await in_thread(Place.objects.update, seen=old)
        await until(lambda: not Place.objects.filter(seen=old).exists())
        assert await in_thread(Place.objects.count) == 3
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run(look)
    assert not Place.objects.exists()


def test_two_workers_share_the_places(model):
    async def two_workers():
        async with Places() as here, Places() as there:
            held = [await here.take(model.provider_id), await there.take(model.provider_id)]
            third = asyncio.create_task(there.take(model.provider_id))
            fourth = asyncio.create_task(here.take(model.provider_id))
            await until(lambda: Place.objects.count() == 4)
            await asyncio.sleep(2 * places.LOOK)
            assert not third.done()
            assert not fourth.done()
            here.leave(held[0])
            await asyncio.wait([third, fourth], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(2 * places.LOOK)
            assert [third.done(), fourth.done()].count(True) == 1
            there.leave(held[1])
            await asyncio.wait([third, fourth])

    async_to_sync(two_workers)()
    assert not Place.objects.exists()


def test_a_slow_provider_keeps_nobody_waiting_for_another(model, fake):
    fake.script(fault="hang")
    with FakeProvider(tokens=5, tokens_per_second=0) as quick:
        other = rosters.model(rosters.provider(quick.url, "quick", concurrency=2))

        async def both():
            slow = [asyncio.create_task(one(model)) for _ in range(40)]
            await until(lambda: states().count("queued") == 38)
            replies = await asyncio.gather(*(one(other) for _ in range(10)))
            assert len(fake.requests()) == 2
            for task in slow:
                task.cancel()
            await asyncio.wait(slow)
            return replies

        assert {each.outcome for each in run(both)} == {Outcome.COMPLETE}
    assert not Place.objects.exists()
    # Those that never had their turn say so.
    never = Call.objects.filter(language_model=model, sent=None)
    assert set(never.values_list("state", "outcome")) == {("ended", "cancelled")}
    assert never.count() == 38


def test_a_limit_that_is_lifted_lets_all_in(model, fake):
    fake.script(fault="hang", times=2)

    async def lift():
        hanging = [asyncio.create_task(one(model)) for _ in range(2)]
        await until(lambda: states() == ["sent", "sent"])
        waiting = [asyncio.create_task(one(model)) for _ in range(3)]
        await until(lambda: states().count("queued") == 3)
        await in_thread(Provider.objects.update, concurrency=None)
        replies = await asyncio.gather(*waiting)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        return replies

    assert {each.outcome for each in run(lift)} == {Outcome.COMPLETE}


def test_whoever_waits_for_a_provider_that_is_removed_is_told(model):
    async def remove():
        async with Places() as here:
            for _ in range(2):
                await here.take(model.provider_id)
            third = asyncio.create_task(here.take(model.provider_id))
            await until(lambda: Place.objects.count() == 3)
            await in_thread(LanguageModel.objects.all().delete)
            await in_thread(Provider.objects.all().delete)
            with pytest.raises(ProviderGone):
                await third

    async_to_sync(remove)()


def test_a_worker_that_was_replaced_while_a_call_waited_does_not_send_it(model, fake):
    Place.objects.create(provider=model.provider, seen=timezone.now())
    Place.objects.create(provider=model.provider, seen=timezone.now())

    async def replaced():
        task = asyncio.create_task(one(model))
        await until(lambda: states() == ["queued"])
        await in_thread(Call.objects.update, state="ended", outcome="failed")
        await in_thread(Provider.objects.update, concurrency=None)
        with pytest.raises(Stale):
            await task

    run(replaced)
    assert not fake.requests()
    assert Place.objects.count() == 2


def test_a_provider_without_a_limit_is_asked_without_a_place(model, fake, monkeypatch):
    Provider.objects.update(concurrency=None)
    monkeypatch.setattr(places, "_take", None)
    monkeypatch.setattr(calls.Ledger, "_wait", None)
    assert run(lambda: one(model)).outcome is Outcome.COMPLETE
    call = Call.objects.get()
    assert call.queued == call.sent
