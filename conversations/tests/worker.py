"""A worker in this process, without its queue: what it is given it carries out, on a loop of its own."""

import asyncio
from collections.abc import Awaitable, Callable

from asgiref.sync import async_to_sync

from bench.provider import Provider
from conversations import tasks
from conversations.models import Turn
from council.models import Deliberation


def work(*jobs: Callable[[], Awaitable[None]]) -> None:
    """Run these at the same time, as a worker does."""

    async def run():
        async with tasks.lifespan():
            await asyncio.gather(*(job() for job in jobs))

    async_to_sync(run)()


async def job(turn: Turn) -> None:
    """What a turn's job in the queue has a worker do."""
    await tasks.deliberate_job(str(turn.deliberation_id), str(turn.conversation_id))


def carry_out(turn: Turn, *meanwhile: Callable[[], Awaitable[None]]) -> Deliberation:
    """Have a worker do what there is to do for a turn, while something else goes on."""
    work(lambda: job(turn), *meanwhile)
    return Deliberation.objects.get(pk=turn.deliberation_id)


def kinds(provider: Provider) -> list[str]:
    """What was asked of the provider, but for titles, which come at any time."""
    return [each["kind"] for each in provider.requests() if each["kind"] != "title"]
