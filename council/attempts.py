"""A row for each attempt at a call, from before it is sent to its end; what it used, and whether its way is free.

The way is free where the provider has no limit and the model's breaker is closed, which is nearly always: the row then
says so itself. Else the attempt first asks the breaker (`breakers`) and waits for a place (`places`).
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from time import monotonic
from typing import Any, Protocol

import structlog
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from council import breakers, call_rows, measuring, practice
from council.call_rows import CallBegan, CallEnd, NewCall, SentCall
from council.core.errors import ProviderGone, UnreadableKey
from council.core.patience import Patience
from council.core.values import Outcome, Request, Usage
from council.models import Provider
from council.places import Places
from council.plans import ModelSnapshot
from council.providers.calling import NOT_KNOWN, Attempt, Way, conclude
from council.providers.chat import Endpoint
from council.threads import in_thread, outlasting

logger = structlog.get_logger(__name__)

# A prompt shorter than this says little about how a model counts tokens.
_LEARN_FROM_BYTES = 400
_MARGIN = 1.1
_LEAST_TOKENS_PER_BYTE = 0.1

# More than any call costs: a figure beyond it is a mistake of the provider's.
_MOST_DOLLARS = 1_000_000


class Journal(Protocol):
    """Who keeps what calls do, and shows it: a deliberation's, or for a call that belongs to none, `Rows`."""

    async def sending(self, call: NewCall) -> SentCall:
        """Write the call's row before anything is sent."""

    def began(self, call: CallBegan) -> None:
        """More is known of it. On the loop."""

    def grew(self, call: NewCall, text: str) -> None:
        """A piece came, of thinking where it has no text. On the loop, for every piece."""

    async def ended(self, end: CallEnd) -> None:
        """Write how it ended; it may be written later, together with what it brought."""


class Rows:
    """A journal that writes at once and shows nothing: of a title, of a test call. `heard` is told of each end."""

    def __init__(
        self, deliberation_id: Any = None, fence: int = 0, heard: Callable[[CallEnd], None] | None = None
    ) -> None:
        self.deliberation_id = deliberation_id
        self.fence = fence
        self.heard = heard

    async def sending(self, call: NewCall) -> SentCall:
        """Write the row. Where nobody waits for it any more by then, it says that the call was never sent."""
        writing = asyncio.ensure_future(in_thread(call_rows.send, call, self.deliberation_id, self.fence))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            await in_thread(call_rows.end, call_rows.never_sent(await writing))
            raise

    def began(self, call: CallBegan) -> None:
        """Written with its end, which is soon."""

    def grew(self, call: NewCall, text: str) -> None:
        """Nobody looks."""

    async def ended(self, end: CallEnd) -> None:
        """Write how it ended, and what it taught."""
        await in_thread(call_rows.end, end)
        await in_thread(breakers.heard, [end])
        if self.heard:
            self.heard(end)


class Ledger:
    """Keeps a Call row for each attempt, and the usage of the last. `close` it when the call is over, however."""

    def __init__(
        self,
        call: NewCall,
        tokens_per_byte: float,
        request: Request,
        journal: Journal,
        places: Places,
        patience: Patience,
    ) -> None:
        self.call = call
        self.patience = patience
        self.last: Attempt | None = None
        self.model = call.model
        self.tokens_per_byte = tokens_per_byte
        self.prompt_bytes = sum(len(each["content"].encode()) for each in request.messages)
        self.journal = journal
        self.places = places
        self.place: int | None = None
        self.sent = SentCall(0, None)
        self.went: float | None = None  # by the monotonic clock
        self.probe = False
        self.first_token: datetime | None = None
        self.usage: Usage | None = None

    async def sending(self) -> Way:
        """Write the row of an attempt, and wait until its way is free.

        Raises a ProviderError where it is not sent at all, and Stale where another worker has taken over.
        """
        self.sent, self.went, self.first_token, self.probe = SentCall(0, None), None, None, False
        self.sent = await self.journal.sending(self.call)
        structlog.contextvars.bind_contextvars(call=self.sent.id)
        if self.sent.provider is None:
            raise ProviderGone(
                f"{self.model.name} is not asked any more: it was removed, switched off, moved elsewhere, or is not "
                f"approved, or its provider {self.model.provider_name} was switched off."
            )
        endpoint = await _endpoint(self.model, self.sent.provider)
        if self.sent.sent is None:
            await self._wait(self.sent.provider)
        self.went = monotonic()
        return Way(endpoint, self.sent.policy)

    async def _wait(self, provider: Provider) -> None:
        """Until the way is free. Raises LeftAlone, and Stale where another worker has taken over meanwhile."""
        self.probe = await self._let_through()
        if provider.concurrency is not None:
            self.place = await self.places.take(provider.pk)
            # In a long line much can happen.
            self.probe = self.probe or await self._let_through()
        went = await outlasting(lambda: in_thread(call_rows.go, self.sent.id, self.sent.title_of))
        self.sent = self.sent._replace(sent=went)

    async def _let_through(self) -> bool:
        return await outlasting(lambda: in_thread(breakers.let_through, self.model, self.sent.id, self.sent.policy))

    def began(self, attempt: Attempt) -> None:
        """Its id at the provider, or its first token, has come."""
        if attempt.first_token is not None:
            self.first_token = timezone.now()
        self.journal.began(CallBegan(self.sent.id, attempt.generation, self.first_token))

    def grew(self, text: str) -> None:
        """A piece came."""
        self.journal.grew(self.call, text)

    async def ended(self, attempt: Attempt) -> None:
        """Tell the journal how it ended, and what that used and taught."""
        if attempt.outcome is Outcome.CANCELLED and self.patience.over:
            # Nobody stopped it: the stage goes on without it, or without its usage alone.
            if attempt.finish is not None:
                conclude(attempt)
            else:
                attempt.outcome = Outcome.TRUNCATED if attempt.characters else Outcome.TIMED_OUT
                attempt.error = self.patience.over + (NOT_KNOWN if attempt.unknown else "")
        self.last = attempt
        self.usage = self._usage(attempt)
        learnt = None
        if self.usage is not None and not self.usage.estimated:
            learnt = _learn(self.tokens_per_byte, self.usage.input_tokens, self.prompt_bytes)
        self.close()
        now, sent = timezone.now(), self.sent
        # Should another attempt follow, it waits from now on.
        self.call = replace(self.call, queued=now)
        used = (self.usage, self.first_token, now, self.model.pk, learnt)
        await self.journal.ended(CallEnd(sent.id, attempt, *used, sent.sent, self.probe, sent.policy, self.call.slot))
        measuring.call_ended(self.call, sent.id, self.went, attempt, self.usage)

    def close(self) -> None:
        """Give its place at the provider back."""
        if self.place is not None:
            self.places.leave(self.place)
            self.place = None

    def _usage(self, attempt: Attempt) -> Usage | None:
        """What the provider told; estimated and marked where it told nothing. None where nothing was used."""
        told = attempt.usage or {}
        read, written = count_of(told.get("prompt_tokens")), count_of(told.get("completion_tokens"))
        estimated = read is None or written is None
        if estimated and attempt.first_token is None:
            return None
        if read is None:
            read = math.ceil(self.prompt_bytes * self.tokens_per_byte)
        if written is None:
            written = max(attempt.pieces, math.ceil(len(attempt.text.encode()) * self.tokens_per_byte))
        return Usage(read, written, self._cost(told.get("cost"), read, written), estimated)

    def _cost(self, dollars: object, read: int, written: int) -> int | None:
        """Micro-dollars: the provider's own figure, else from the prices of the snapshot, rounded up."""
        if (told := micro_dollars(dollars)) is not None:
            return told
        if self.model.input_price is None or self.model.output_price is None:
            return None
        return -(-(read * self.model.input_price + written * self.model.output_price) // 1_000_000)


def count_of(value: object) -> int | None:
    """A number of tokens, where a provider told one."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def micro_dollars(dollars: object) -> int | None:
    """What a provider said of a cost, in micro-dollars, rounded up; None where that is none."""
    if isinstance(dollars, int | float) and 0 <= dollars < _MOST_DOLLARS:
        # By what its digits say: 0.000123 dollars times a million is a little more than 123.
        return math.ceil(Decimal(str(dollars)) * 1_000_000)
    return None


def _learn(known: float, tokens: int, size: int) -> float | None:
    """A better estimate of tokens a byte, from above: up at once, down slowly. None: not worth writing."""
    if size < _LEARN_FROM_BYTES:
        return None
    # Some count only what was not cached, or nothing at all: no model reads ten bytes a token.
    seen = min(2.0, max(_LEAST_TOKENS_PER_BYTE, _MARGIN * tokens / size))
    better = seen if seen > known else 0.8 * known + 0.2 * seen
    return better if abs(better - known) > 0.02 * known else None


async def _endpoint(model: ModelSnapshot, provider: Provider) -> Endpoint:
    if provider.kind == Provider.Kind.PRACTICE:
        try:
            base_url = await practice.address()
        except practice.PracticeUnavailable as error:
            raise ProviderGone(str(error)) from error
    else:
        base_url = provider.base_url
    try:
        api_key = provider.api_key
    except ImproperlyConfigured as error:
        logger.exception("The API key of %s cannot be read", model.provider_name)
        raise UnreadableKey from error
    return Endpoint(
        base_url=base_url,
        api_key=api_key,
        kind=provider.kind,
        model_id=model.model_id,
        takes_temperature=model.temperature,
        max_tokens_field=model.max_tokens_field,
        usage_in_stream=model.usage_in_stream,
        effort=model.effort,
        private=provider.private_address or provider.kind == Provider.Kind.PRACTICE,
    )
