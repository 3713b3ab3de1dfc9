"""What deliberations and their calls come to, as lines of the log and as figures: ids, outcomes, seconds, tokens.

Never what was asked, answered, or said by a provider; that is in the rows. Here it is counted in the memory of the
process, without a way to the database; whoever runs the site has it scraped (`councilsite.metrics`).

A line takes longer to write than a call takes to go out. So what the loop has to tell is told a moment later.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from stamina.instrumentation import RetryDetails

from council.call_rows import NewCall
from council.core.values import Outcome, Status, Usage
from council.models import Call
from council.providers.calling import Attempt

logger = structlog.get_logger(__name__)

AFTERWARDS = 0.05  # seconds

_ASKED = ["provider", "model"]

deliberations = Counter("council_deliberations_ended", "Deliberations that ended in this process.", ["status"])
deliberation_seconds = Histogram(
    "council_deliberation_seconds",
    "From when this process took a deliberation to its end.",
    buckets=(5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200),
)
calls = Counter("council_calls", "Calls to providers that ended.", [*_ASKED, "purpose", "outcome"])
unknown = Counter("council_calls_unknown", "Calls that went out, and nobody knows whether they are billed.", _ASKED)
call_seconds = Histogram(
    "council_call_seconds",
    "From the sending of a call to its end.",
    _ASKED,
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
)
first_token_seconds = Histogram(
    "council_first_token_seconds",
    "From the sending of a call to the first piece of its reply.",
    _ASKED,
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120),
)
tokens = Counter("council_tokens", "Tokens that calls used, as told or estimated.", [*_ASKED, "direction"])
retries = Counter("council_call_retries", "Calls that were made again because the one before had failed.")
replaced = Counter("council_workers_replaced", "Deliberations that another worker had taken over from this process.")


_untold: deque[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] = deque()


def tell() -> None:
    """Tell what the loop has put off. From any thread."""
    while _untold:
        with contextlib.suppress(IndexError):  # another thread had the last
            function, about, ids = _untold.popleft()
            contextvars.Context().run(_tell, function, about, ids)


def _tell(function: Callable[..., None], about: tuple[Any, ...], ids: dict[str, Any]) -> None:
    structlog.contextvars.bind_contextvars(**ids)
    function(*about)


def _put_off(function: Callable[..., None], *about: Any) -> None:
    """Have it told with the next `tell`, with the ids that are bound now."""
    _untold.append((function, about, structlog.contextvars.get_contextvars()))


def _afterwards(function: Callable[..., None], *about: Any) -> None:
    """Have it told a moment later. On the loop."""
    _put_off(function, *about)
    asyncio.get_running_loop().call_later(AFTERWARDS, tell)


def begun(attempt: int, filled: int) -> None:
    """A worker begins a deliberation, or goes on with one, some slots of which are filled. On the loop."""
    _afterwards(lambda: logger.info("Deliberation begun", attempt=attempt, filled=filled))


def ended(deliberation_id: Any, status: Status | str, seconds: float, calls: int) -> None:
    """A deliberation is over, and that is written, so many seconds and calls after this process took it.

    From any thread. It is told with the next `tell`, for viewers wait to hear of it first.
    """
    _put_off(_ended, deliberation_id, str(status), seconds, calls)


def _ended(deliberation_id: Any, status: str, seconds: float, calls: int) -> None:
    deliberations.labels(status).inc()
    deliberation_seconds.observe(seconds)
    logger.info(
        "Deliberation ended",
        deliberation=str(deliberation_id),
        status=status,
        seconds=round(seconds, 3),
        calls=calls,
    )


def stale() -> None:
    """Another process has the deliberation that was carried out here."""
    replaced.inc()
    logger.warning("Deliberation was taken over by another worker; this one has stopped")


def retried(details: RetryDetails) -> None:
    """A call will be made again. For stamina, whose own line would hold what the provider said."""
    retries.inc()
    logger.warning("Call is tried again", retry=details.retry_num, wait=round(details.wait_for, 3))


def calls_lost(lost: Iterable[Call]) -> None:
    """These went out from another worker, which is gone: nobody will know what came of them."""
    for each in lost:
        calls.labels(each.provider_name, each.model_name, each.purpose, Outcome.UNKNOWN).inc()
        unknown.labels(each.provider_name, each.model_name).inc()
        logger.warning("Call was lost with its worker", call=each.pk, purpose=each.purpose, seat=each.seat)


def call_ended(call: NewCall, row: int, sent: float | None, attempt: Attempt, usage: Usage | None) -> None:
    """A call that went out at `sent`, by the monotonic clock (None: it never did), has ended. On the loop."""
    seconds = None if sent is None else monotonic() - sent
    first = None if sent is None or attempt.first_token is None else attempt.first_token - sent
    _afterwards(_call_ended, call, row, seconds, first, attempt, usage)


def _call_ended(
    call: NewCall, row: int, seconds: float | None, first: float | None, attempt: Attempt, usage: Usage | None
) -> None:
    purpose, outcome, asked = str(call.purpose), str(attempt.outcome), (call.model.provider_name, call.model.name)
    calls.labels(*asked, purpose, outcome).inc()
    if attempt.unknown:
        unknown.labels(*asked).inc()
    if seconds is not None:
        call_seconds.labels(*asked).observe(seconds)
    if first is not None:
        first_token_seconds.labels(*asked).observe(first)
    if usage is not None:
        tokens.labels(*asked, "input").inc(usage.input_tokens)
        tokens.labels(*asked, "output").inc(usage.output_tokens)
    logger.info(
        "Call ended",
        call=row,
        purpose=purpose,
        seat=call.slot and call.slot.seat,
        outcome=outcome,
        provider=asked[0],
        model=asked[1],
        ms=None if seconds is None else round(seconds * 1000),
        first_token_ms=None if first is None else round(first * 1000),
        input_tokens=usage and usage.input_tokens,
        output_tokens=usage and usage.output_tokens,
    )
