"""Pages are answered in threads that keep their connection to the database."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection

from conversations.tests import cast
from councilsite import asgi, pages

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(monkeypatch):
    """A browser. There is one thread for its pages: a pool may use another for the next, whatever the load."""
    monkeypatch.setattr(pages, "_threads", ThreadPoolExecutor(1))
    cookies = {"sessionid": cast.session_of(cast.alice())}
    yield httpx.AsyncClient(
        transport=httpx.ASGITransport(asgi.application), base_url="http://localhost", cookies=cookies
    )
    in_its_thread(close)
    pages._threads.shutdown()


def in_its_thread(function):
    return pages._threads.submit(function).result()


def close() -> None:
    connection.close()


def process_of_the_database() -> int:
    connection.ensure_connection()
    return connection.connection.info.backend_pid


async def test_one_page_after_the_other_comes_over_the_same_connection(client):
    seen = set()
    for _ in range(3):
        assert (await client.get("/")).status_code == 200
        seen.add(await sync_to_async(in_its_thread)(process_of_the_database))
    assert len(seen) == 1


async def test_a_connection_that_the_database_has_closed_is_not_used(client):
    assert (await client.get("/")).status_code == 200
    before = await sync_to_async(in_its_thread)(process_of_the_database)
    await sync_to_async(end)(before)
    assert (await client.get("/")).status_code == 200
    assert await sync_to_async(in_its_thread)(process_of_the_database) != before


def end(process: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [process])
        assert cursor.fetchone() == (True,)
