"""`ask`: from a slot of a plan to a reply, by way of a provider.

From the outside in: the recorded slot, the provider as it is now, the Call row, deadlines and retry, HTTP. Everything
that is asked of a provider goes this way, a title and an administrator's test call too.
"""

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from council import call_rows, plans, practice, record
from council.call_rows import CallEnd, NewCall, SentCall
from council.core.deliberate import first_slots
from council.core.errors import ProviderGone, UnreadableKey
from council.core.values import CHAIRMAN, Reply, Request, Slot, Stage, Usage
from council.models import Call, LanguageModel, Provider
from council.plans import ModelSnapshot
from council.providers import calling, chat
from council.providers.calling import Attempt, Deadlines
from council.providers.chat import Endpoint
from council.threads import in_thread

logger = logging.getLogger(__name__)

_PURPOSES = {
    Stage.ANSWERING: Call.Purpose.ANSWER,
    Stage.REVIEWING: Call.Purpose.REVIEW,
    Stage.SYNTHESISING: Call.Purpose.SYNTHESIS,
}
# A prompt shorter than this says little about how a model counts tokens.
_LEARN_FROM_BYTES = 400
_MARGIN = 1.1
_LEAST_TOKENS_PER_BYTE = 0.1

# More than any call costs: a figure beyond it is a mistake of the provider's.
_MOST_DOLLARS = 1_000_000

# Enough for a model that thinks before it says hello, and as long as an administrator waits for a page.
TEST_TOKENS = 400
TEST_SECONDS = 40


@dataclass(slots=True)
class _Connections:
    """What a worker process keeps open to providers, for as long as it lives."""

    transport: httpx.AsyncBaseTransport | None = None


_connections = _Connections()


@asynccontextmanager
async def connections() -> AsyncIterator[None]:
    """Around a worker: the one HTTP transport of the process, and the end of the practice model's server."""
    async with chat.new_transport() as transport:
        _connections.transport = transport
        try:
            yield
        finally:
            _connections.transport = None
            await practice.stop()


class Journal(Protocol):
    """Who keeps what calls do, and shows it: a deliberation's, or for a call that belongs to none, `Rows`."""

    async def sending(self, call: NewCall) -> SentCall:
        """Write the call's row before anything is sent."""

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
        """Write the row."""
        return await in_thread(call_rows.send, call, self.deliberation_id, self.fence)

    def grew(self, call: NewCall, text: str) -> None:
        """Nobody looks."""

    async def ended(self, end: CallEnd) -> None:
        """Write how it ended, and what it taught."""
        await in_thread(call_rows.end, end)
        if self.heard:
            self.heard(end)


def first(claim: record.Claim) -> list[NewCall]:
    """The calls that a new deliberation begins with."""
    return [
        NewCall(_PURPOSES[slot.stage], plans.model_of(claim.stored, slot.seat), slot)
        for slot in first_slots(claim.plan)
    ]


class Asker:
    """`ask` for one claimed deliberation."""

    def __init__(self, claim: record.Claim, journal: Journal) -> None:
        self.claim = claim
        self.journal = journal

    async def ask(self, slot: Slot, request: Request) -> Reply:
        """The reply that fills the slot; what is recorded already is not asked again."""
        recorded = self.claim.filled.get(slot)
        if recorded is not None:
            return recorded
        seat = self.claim.plan.chairman if slot.seat == CHAIRMAN else self.claim.plan.members[slot.seat]
        return await ask_model(
            plans.model_of(self.claim.stored, slot.seat),
            seat.tokens_per_byte,
            request,
            purpose=_PURPOSES[slot.stage],
            slot=slot,
            journal=self.journal,
        )


async def ask_model(
    model: ModelSnapshot,
    tokens_per_byte: float,
    request: Request,
    *,
    purpose: Call.Purpose,
    slot: Slot | None = None,
    journal: Journal | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Reply:
    """Ask one model. Never raises for what a provider does: the reply's outcome and error say it.

    With the transport of the worker, unless another is given.
    """
    transport = transport or _connections.transport
    if transport is None:
        raise RuntimeError("Providers are asked inside connections() alone.")
    deadlines = Deadlines(model.first_token_seconds, model.between_tokens_seconds, model.call_seconds)
    ledger = _Ledger(NewCall(purpose, model, slot), tokens_per_byte, request, journal or Rows())
    attempt = await calling.call(transport, request, deadlines, ledger)
    return Reply(attempt.text, attempt.outcome, attempt.error, ledger.usage)


class _Ledger:
    """Keeps a Call row for each attempt, and the usage of the last."""

    def __init__(self, call: NewCall, tokens_per_byte: float, request: Request, journal: Journal) -> None:
        self.call = call
        self.model = call.model
        self.tokens_per_byte = tokens_per_byte
        self.prompt_bytes = sum(len(each["content"].encode()) for each in request.messages)
        self.journal = journal
        self.row = 0
        self.first_token: datetime | None = None
        self.usage: Usage | None = None

    async def sending(self) -> Endpoint:
        self.row, self.first_token = 0, None
        self.row, provider = await self.journal.sending(self.call)
        if provider is None:
            raise ProviderGone(f"{self.model.provider_name} has been removed or switched off.")
        return await _endpoint(self.model, provider)

    def grew(self, text: str) -> None:
        if self.first_token is None:
            self.first_token = timezone.now()
        self.journal.grew(self.call, text)

    async def ended(self, attempt: Attempt) -> None:
        self.usage = self._usage(attempt)
        learnt = None
        if self.usage is not None and not self.usage.estimated:
            learnt = _learn(self.tokens_per_byte, self.usage.input_tokens, self.prompt_bytes)
        end = CallEnd(self.row, attempt, self.usage, self.first_token, timezone.now(), self.model.pk, learnt)
        await self.journal.ended(end)

    def _usage(self, attempt: Attempt) -> Usage | None:
        """What the provider told; estimated and marked where it told nothing. None where nothing was used."""
        told = attempt.usage or {}
        read, written = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
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
        if isinstance(dollars, int | float) and 0 <= dollars < _MOST_DOLLARS:
            return math.ceil(dollars * 1_000_000)
        if self.model.input_price is None or self.model.output_price is None:
            return None
        return -(-(read * self.model.input_price + written * self.model.output_price) // 1_000_000)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


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
    )


async def test_call(model: LanguageModel) -> Reply:
    """Ask a model for a word, so that an administrator sees what comes back, or the provider's own error."""
    request = Request(({"role": "user", "content": "Say hello in one short sentence."},), TEST_TOKENS)
    patient = plans.snapshot(model)._replace(first_token_seconds=TEST_SECONDS, call_seconds=TEST_SECONDS)
    # A transport for this once: it may be another loop than the worker's, and in a web process there is no worker.
    async with chat.new_transport() as transport:
        try:
            return await ask_model(
                patient, model.tokens_per_byte, request, purpose=Call.Purpose.TEST, transport=transport
            )
        finally:
            if _connections.transport is None:
                await practice.stop()
