"""`ask`: from a slot of a plan to a reply, by way of a provider.

From the outside in: the recorded slot, fallback models, deadlines and retries (`providers.calling`), then for each
attempt its row, the provider as it is now, breaker and place (`attempts`), HTTP. Everything that is asked of a provider
goes this way, a title and an administrator's test call too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import httpx
import structlog

from council import claiming, measuring, plans, practice, retrying
from council.attempts import Journal, Ledger, Rows
from council.call_rows import PURPOSES, NewCall
from council.core.deliberate import Prompt, first_slots
from council.core.errors import PromptTooLong
from council.core.events import Event, StandInAsked
from council.core.patience import Patience
from council.core.values import Outcome, Reply, Request, Seat, Slot
from council.models import Call, LanguageModel
from council.places import Places
from council.plans import ModelSnapshot
from council.providers import calling, connecting
from council.providers.calling import Attempt, Deadlines

__all__ = ["Asker", "Journal", "Rows", "ask_model", "connections", "first", "test_call", "transport"]

OUTSIDE = "Providers are asked inside connections() alone."

_FAILED = {Outcome.FAILED, Outcome.TIMED_OUT, Outcome.EMPTY}
"""What another model is asked for; a refusal, a filter and a person's stop are no failures of a model."""

OWN_FAILED = "Its own model failed, as the list of calls says."
LOST_TWICE = "Twice it was sent and nothing is known of what came of it. It is not asked a third time."

# Enough for a model that thinks before it says hello, and as long as an administrator waits for a page.
TEST_TOKENS = 400
TEST_SECONDS = 40
TEST_PATIENCE = 60  # with attempts, and with a line at the provider


class Connections(NamedTuple):
    """What a process keeps open to providers: the one HTTP transport, and its places at those that have a limit."""

    transport: httpx.AsyncBaseTransport
    places: Places


@dataclass(slots=True)
class _Worker:
    """Those of a worker process, for as long as it lives."""

    connections: Connections | None = None


_worker = _Worker()


@asynccontextmanager
async def connections() -> AsyncIterator[None]:
    """Around a worker: its connections to providers, and the end of the practice model's server."""
    async with connecting.new_transport() as transport, Places() as places:
        _worker.connections = Connections(transport, places)
        try:
            yield
        finally:
            _worker.connections = None
            await practice.stop()
            measuring.tell()


def transport() -> httpx.AsyncBaseTransport:
    """The worker's one way out to providers."""
    if _worker.connections is None:
        raise RuntimeError(OUTSIDE)
    return _worker.connections.transport


def first(claim: claiming.Claim) -> list[NewCall]:
    """The calls that a new deliberation begins with."""
    return [
        NewCall(PURPOSES[slot.stage], plans.model_of(claim.stored, slot.seat), slot) for slot in first_slots(claim.plan)
    ]


class Recording(Journal, Protocol):
    """The journal of a deliberation, which takes events in too."""

    async def emit(self, event: Event) -> None:
        """Record it and show it."""


class Asker:
    """`ask` for one claimed deliberation."""

    def __init__(self, claim: claiming.Claim, journal: Recording) -> None:
        self.claim = claim
        self.journal = journal

    async def ask(self, slot: Slot, prompt: Prompt, patience: Patience) -> Reply:
        """The reply that fills the slot; what is recorded already is not asked again. Raises PromptTooLong.

        Where the seat's own model fails, the plan's fallback models are asked in its place, in their order. Where the
        slot had something before it was tried again, that is the reply unless a better one comes.
        """
        recorded = self.claim.filled.get(slot)
        if recorded is not None:
            return recorded
        kept = self.claim.kept.get(slot)
        if kept is None or not kept.tried_again:
            return await self._ask(slot, prompt, patience)
        try:
            reply = await self._ask(slot, prompt, patience)
        except PromptTooLong as error:
            reply = Reply("", Outcome.FAILED, str(error))
        return kept.or_better(reply)

    async def _ask(self, slot: Slot, prompt: Prompt, patience: Patience) -> Reply:
        seat = self.claim.plan.seat(slot.seat)
        model = plans.model_of(self.claim.stored, slot.seat)
        standing = self.claim.standing.get(slot)
        # That its own model failed is known where the worker of another in its place was lost.
        kept = self.claim.kept.get(slot)
        if kept is not None and not kept.tried_again:
            own = kept.reply
        elif standing is not None:
            own = Reply("", Outcome.FAILED, OWN_FAILED)
        else:
            own, failed = await self._asked(slot, model, seat, prompt(seat), patience)
            if not failed:
                return own
        said = [own.error]
        for stand_in in plans.stand_ins(self.claim.stored, seat):
            if standing is not None and stand_in.index < standing:
                continue
            if patience.over:
                break
            try:
                request = prompt(stand_in.seat)
            except PromptTooLong as error:
                said.append(f"{stand_in.model.name}, next in line for its place: {error}")
                continue
            await self.journal.emit(StandInAsked(slot, stand_in.index, own))
            reply, failed = await self._asked(slot, stand_in.model, stand_in.seat, request, patience)
            # What its own model wrote before it broke off is worth more than a second break, or than a refusal.
            if (not failed and retrying.better(reply, own)) if own.usable else (not failed or reply.usable):
                return replace(reply, stand_in=stand_in.index)
            said.append(f"{stand_in.model.name} was asked in its place and failed as well: {reply.error}")
            if not failed:
                break
        return replace(own, error=" ".join(said))

    async def _asked(
        self, slot: Slot, model: ModelSnapshot, seat: Seat, request: Request, patience: Patience
    ) -> tuple[Reply, bool]:
        """A model's reply, and whether it failed, be it after some text. What was lost twice is not asked again."""
        lost = self.claim.lost.get(claiming.Asked.of(slot, model), 0)
        if lost > 1:
            begun = self.claim.begun.get(claiming.Asked.of(slot, model), "")
            return Reply(begun, Outcome.TRUNCATED if begun else Outcome.FAILED, LOST_TWICE), True
        reply, attempt = await _ask_model(
            model,
            seat.tokens_per_byte,
            request,
            NewCall(PURPOSES[slot.stage], model, slot),
            self.journal,
            _worker.connections,
            patience,
            repeats=1 - lost,
        )
        broke_off = reply.outcome is Outcome.TRUNCATED and attempt.finish is None and not patience.over
        return reply, reply.outcome in _FAILED or broke_off


async def ask_model(
    model: ModelSnapshot,
    tokens_per_byte: float,
    request: Request,
    *,
    purpose: Call.Purpose,
    slot: Slot | None = None,
    journal: Journal | None = None,
    by: Connections | None = None,
    repeats: int = 1,
) -> Reply:
    """Ask one model. Never raises for what a provider does: the reply's outcome and error say it.

    By the connections of the worker, unless others are given. `repeats` as in `calling.call`.
    """
    new = NewCall(purpose, model, slot)
    reply, _attempt = await _ask_model(
        model, tokens_per_byte, request, new, journal or Rows(), by or _worker.connections, Patience(), repeats=repeats
    )
    return reply


async def _ask_model(
    model: ModelSnapshot,
    tokens_per_byte: float,
    request: Request,
    new: NewCall,
    journal: Journal,
    by: Connections | None,
    patience: Patience,
    *,
    repeats: int,
) -> tuple[Reply, Attempt]:
    """When `patience` ends, so does the call, with what has come."""
    if by is None:
        raise RuntimeError(OUTSIDE)
    deadlines = Deadlines(model.first_token_seconds, model.between_tokens_seconds, model.call_seconds)
    ledger = Ledger(new, tokens_per_byte, request, journal, by.places, patience)
    try:
        with structlog.contextvars.bound_contextvars(call=None):
            async with patience.limit():
                attempt = await calling.call(by.transport, request, deadlines, ledger, repeats=repeats)
    except TimeoutError:
        # Under way, before its first attempt, or between two: the last one failed, and there is no other.
        attempt = ledger.last or Attempt(outcome=Outcome.TIMED_OUT, error=patience.over)
    finally:
        ledger.close()
    return Reply(attempt.text, attempt.outcome, attempt.error, ledger.usage), attempt


async def test_call(model: LanguageModel) -> Reply:
    """Ask a model for a word, so that an administrator sees what comes back, or the provider's own error."""
    request = Request(({"role": "user", "content": "Say hello in one short sentence."},), TEST_TOKENS)
    patient = plans.snapshot(model)._replace(first_token_seconds=TEST_SECONDS, call_seconds=TEST_SECONDS)
    # Connections for this once: it may be another loop than the worker's, and in a web process there is no worker.
    async with connecting.new_transport() as transport, Places() as places:
        try:
            async with asyncio.timeout(TEST_PATIENCE):
                return await ask_model(
                    patient,
                    model.tokens_per_byte,
                    request,
                    purpose=Call.Purpose.TEST,
                    by=Connections(transport, places),
                    repeats=0,
                )
        except TimeoutError:
            return Reply("", Outcome.TIMED_OUT, f"It had not even been its turn for {TEST_PATIENCE} seconds.")
        finally:
            if _worker.connections is None:
                await practice.stop()
            measuring.tell()
