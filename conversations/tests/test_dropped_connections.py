"""The database ends a worker's connections: a deliberation that goes on does so, and the next one begins."""

import asyncio

import psycopg
import pytest
from django.db import connection

from conversations import asking, changes, tasks
from conversations.tests import database
from conversations.tests.worker import carry_out, job, kinds, work
from council.models import Call, Deliberation

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_goes_on_where_the_database_drops_its_connections(alice, council, provider):
    provider.configure(tokens=60, tokens_per_second=60)
    turn = asking.ask(alice, "What now?", council)

    async def drop():
        for kind in ("answer", "ballot", "synthesis"):
            while kind not in await asyncio.to_thread(kinds, provider):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            await drop_connections()

    carry_out(turn, drop)
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
        await job(turn)

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
    with psycopg.connect(database.url("postgres")) as other:
        other.execute("SELECT pg_terminate_backend(process, 5000) FROM unnest(%s::int[]) AS process", [processes])
