"""What was billed for calls of which nobody knows what came, where their provider can tell: OpenRouter can.

Such a call went out, and its worker was lost or its line stayed silent. Its row stays one of an unknown result, for
nobody will see what the model wrote; but what it cost is then known, and stands with the rest of the cost.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from council import call_rows, record
from council.attempts import count_of, micro_dollars
from council.call_rows import Bill
from council.catalogue import endpoint_of
from council.core.errors import ProviderError
from council.models import Call, Provider
from council.providers import telling
from council.providers.chat import Endpoint
from council.threads import in_thread

logger = structlog.get_logger(__name__)

ASKED_FOR = timedelta(minutes=30)
"""After the end of a call, or of its deliberation. A provider has the figures seconds after a call's end, if ever."""
OLDEST = timedelta(days=1)
"""Calls queued before that are not looked for: the index is by that time."""
MOST = 100
"""Calls that are asked about at one look, by lot: none is kept back for good by others that nobody knows."""
SECONDS = 50.0
"""For a look. The next comes a minute after it."""
_AT_ONCE = 8


async def look(transport: httpx.AsyncBaseTransport, show: Callable[[UUID], Awaitable[None]]) -> None:
    """Ask about each such call once, write what is told, and `show` each deliberation that has more of its cost.

    A deliberation that goes on is left for a later look: whoever carries it out has its figures in hand.
    """
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Call, endpoint: Endpoint) -> None:
        try:
            async with places:
                bill = await _ask(transport, endpoint, call.generation)
            if bill is not None and await in_thread(_write, call, bill) and call.deliberation_id:
                await show(call.deliberation_id)
        except Exception:
            # The others are no worse for it, and it is asked about again.
            logger.exception("Could not find out what a lost call cost", call=call.pk)

    # What has not come in time is asked about again.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(one(*each) for each in await in_thread(_wanted)))


def _wanted() -> list[tuple[Call, Endpoint]]:
    now = timezone.now()
    recent = Q(ended__gte=now - ASKED_FOR) | Q(deliberation__finished__gte=now - ASKED_FOR)
    over = Q(deliberation=None) | Q(deliberation__finished__isnull=False)
    able = Q(language_model__provider__kind=Provider.Kind.OPENROUTER, language_model__provider__enabled=True)
    calls = Call.objects.filter(
        call_rows.UNBILLED, recent, over, able, queued__gte=now - OLDEST, state=Call.State.ENDED
    )
    found = []
    for call in calls.exclude(generation="").select_related("language_model__provider").order_by("?")[:MOST]:
        try:
            found.append((call, endpoint_of(call.language_model.provider)))  # type: ignore[union-attr]  # asked for above
        except ImproperlyConfigured:  # whoever calls this provider says so
            continue
    return found


async def _ask(transport: httpx.AsyncBaseTransport, endpoint: Endpoint, generation: str) -> Bill | None:
    """None: it does not tell, or not yet."""
    try:
        body = await telling.get(transport, endpoint, "generation", id=generation)
    except ProviderError:
        return None
    told = body.get("data") if isinstance(body, dict) else None
    if not isinstance(told, dict) or told.get("id") != generation:
        return None
    cost = micro_dollars(told.get("total_cost"))
    return None if cost is None else Bill(_tokens(told, "prompt"), _tokens(told, "completion"), cost)


def _tokens(told: dict[str, Any], which: str) -> int | None:
    """As the model itself counts, which is what is billed; else as OpenRouter does."""
    native = count_of(told.get(f"native_tokens_{which}"))
    return count_of(told.get(f"tokens_{which}")) if native is None else native


@transaction.atomic
def _write(call: Call, bill: Bill) -> bool:
    # First, for it waits for whoever opens the deliberation again: False where somebody has.
    if call.deliberation_id and not record.renew(call.deliberation_id):
        return False
    if not call_rows.billed(call.pk, bill):
        transaction.set_rollback(True)  # another look was quicker, and has shown it
        return False
    logger.info("Provider told what a lost call cost", call=call.pk, deliberation=call.deliberation_id, cost=bill.cost)
    return True
