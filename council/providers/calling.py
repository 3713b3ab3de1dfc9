"""One place for deadlines and for the retry: a request, until its reply has ended.

Only what fails before the first byte is tried again, once. A provider that refuses a JSON schema is asked again
without one; the prompt describes the form in words as well. Each attempt is announced before it is sent and
reported when it ends, so that the caller can keep a row for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Protocol

import httpx
import stamina

from council.core import errors
from council.core.values import Outcome, Request
from council.providers import chat
from council.providers.chat import Endpoint, Piece

TEXT_CHARACTERS = 2_000_000
REFUSAL_CHARACTERS = 500
ATTEMPTS = 2
LONGEST_WAIT = 120.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: until the first sign of life, between two signs, and for the whole call."""

    first_token: float
    between_tokens: float
    call: float


@dataclass(slots=True)
class Attempt:
    """What one attempt brought. `pieces` counts parts of text and thinking. Texts are kept as parts until asked for."""

    parts: list[str] = field(default_factory=list)
    characters: int = 0
    pieces: int = 0
    thought: bool = False
    refusal: str = ""
    finish: Outcome | None = None
    error: str = ""
    outcome: Outcome = Outcome.FAILED
    generation: str = ""
    usage: dict[str, Any] | None = None
    first_token: float | None = None

    @property
    def text(self) -> str:
        """All text so far, without thinking."""
        return "".join(self.parts)


class Observer(Protocol):
    """Who is told of a call: before an attempt is sent, at each piece, and when the attempt has ended."""

    async def sending(self) -> Endpoint:
        """An attempt is about to be sent; says where to. Raises a ProviderError where there is nowhere to send it."""

    def grew(self, text: str) -> None:
        """A piece came, of thinking where it has no text. Called on the loop, for every piece."""

    async def ended(self, attempt: Attempt) -> None:
        """The attempt is over."""


async def call(
    transport: httpx.AsyncBaseTransport, request: Request, deadlines: Deadlines, observer: Observer
) -> Attempt:
    """Ask until there is a reply or nothing more to try, and return the last attempt; its outcome says how it went.

    Raises CancelledError alone, after the attempt under way was reported with what had come.
    """

    async def tried() -> Attempt:
        nonlocal request
        try:
            return await _once(transport, request, deadlines, observer)
        except errors.SchemaRefused:
            # For good: the attempts that follow go without it too.
            request = replace(request, schema=None)
            return await _once(transport, request, deadlines, observer)

    # Nearly every first attempt is the last. What a retry needs is a seventh of the work that a call is to us, and
    # where members are asked together each waits for that of the others.
    try:
        return await tried()
    except _Retry as error:
        failed = error
    attempt = failed.attempt  # for the type checker alone: a retry gives another, or raises
    try:
        async for retrying in stamina.retry_context(
            on=_wait_before_retry, attempts=ATTEMPTS, timeout=None, wait_initial=0.5, wait_max=8.0, wait_jitter=0.5
        ):
            with retrying:
                if retrying.num == 1:
                    raise failed
                attempt = await tried()
    except _Retry as error:
        attempt = error.attempt
    return attempt


class _Retry(Exception):
    """The attempt failed before its first byte, and may be tried again after `wait` seconds (None: as usual)."""

    def __init__(self, attempt: Attempt, wait: float | None) -> None:
        super().__init__(attempt.error)
        self.attempt = attempt
        self.wait = wait


def _wait_before_retry(error: Exception) -> bool | float:
    if not isinstance(error, _Retry):
        return False
    return True if error.wait is None else error.wait


async def _once(
    transport: httpx.AsyncBaseTransport, request: Request, deadlines: Deadlines, observer: Observer
) -> Attempt:
    """One attempt, reported to its end. Raises SchemaRefused, and _Retry where another is worth while."""
    attempt, endpoint = Attempt(), None
    try:
        endpoint = await observer.sending()
        async with asyncio.timeout(deadlines.call):
            async with aclosing(chat.stream(transport, endpoint, request)) as pieces:
                await _read(pieces, attempt, deadlines, observer)
        _conclude(attempt)
    except TimeoutError:
        attempt.error = attempt.error or f"It was not done after {deadlines.call:.0f} seconds."
        attempt.outcome = Outcome.TRUNCATED if attempt.characters else Outcome.TIMED_OUT
    except errors.SchemaRefused:
        attempt.error = "The provider does not take a JSON schema; it was asked again without."
        await observer.ended(attempt)
        raise
    except errors.ProviderError as error:
        attempt.error = chat.without_key(str(error), endpoint) if endpoint else str(error)
        attempt.outcome = Outcome.TRUNCATED if attempt.characters else error.outcome
        wait = error.after if isinstance(error, errors.RateLimited) else None
        if error.retry and attempt.first_token is None and (wait or 0.0) <= LONGEST_WAIT:
            await observer.ended(attempt)
            raise _Retry(attempt, wait) from error
    except asyncio.CancelledError:
        attempt.outcome, attempt.error = Outcome.CANCELLED, "Stopped."
        await asyncio.shield(observer.ended(attempt))
        raise
    await observer.ended(attempt)
    return attempt


async def _read(pieces: AsyncIterator[Piece], attempt: Attempt, deadlines: Deadlines, observer: Observer) -> None:
    """Take the pieces in. Raises TimeoutError after a silence that is too long, with words in the attempt."""
    try:
        async with asyncio.timeout(deadlines.first_token) as patience:
            sitter = _Patience(patience, deadlines.between_tokens)
            try:
                async for piece in pieces:
                    if piece.text or piece.thinking or piece.refusal:
                        sitter.heard()
                        _take(piece, attempt, observer)
                    if piece.finish is not None:
                        attempt.finish = piece.finish
                    if piece.usage is not None:
                        attempt.usage = piece.usage
                    if piece.generation and not attempt.generation:
                        attempt.generation = piece.generation[:200]
                    if attempt.characters >= TEXT_CHARACTERS:
                        attempt.finish = Outcome.TRUNCATED
                        attempt.error = "The answer was longer than two million characters and was cut there."
                        break
            finally:
                sitter.leave()
    except TimeoutError:
        attempt.error = (
            f"The model gave no sign of life for {deadlines.first_token:.0f} seconds."
            if attempt.first_token is None
            else f"The model fell silent for {deadlines.between_tokens:.0f} seconds."
        )
        raise


def _take(piece: Piece, attempt: Attempt, observer: Observer) -> None:
    if attempt.first_token is None:
        attempt.first_token = monotonic()
    attempt.pieces += 1
    if piece.text:
        text = piece.text[: TEXT_CHARACTERS - attempt.characters]
        attempt.parts.append(text)
        attempt.characters += len(text)
        observer.grew(text)
    else:
        attempt.thought = attempt.thought or bool(piece.thinking)
        attempt.refusal = (attempt.refusal + piece.refusal)[:REFUSAL_CHARACTERS]
        observer.grew("")


class _Patience:
    """Moves a timeout on with each sign of life, but touches the loop's timers once in a while only.

    Rescheduling for each token cost a tenth of its processor time.
    """

    def __init__(self, timeout: asyncio.Timeout, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._seconds = seconds
        self._last: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """A sign of life came."""
        first = self._last is None
        self._last = self._loop.time()
        if first:
            self._timeout.reschedule(None)
            self._timer = self._loop.call_at(self._last + self._seconds, self._look)

    def _look(self) -> None:
        due = (self._last or 0.0) + self._seconds
        if due <= self._loop.time():
            self._timeout.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_at(due, self._look)

    def leave(self) -> None:
        """Nothing more is waited for."""
        if self._timer is not None:
            self._timer.cancel()


def _conclude(attempt: Attempt) -> None:
    """The end of a stream is not success: a finish reason is."""
    if attempt.refusal and not attempt.characters:
        attempt.outcome, attempt.error = Outcome.REFUSED, f"The model declined: {attempt.refusal}"
    elif attempt.finish is None:
        attempt.outcome = Outcome.TRUNCATED if attempt.characters else Outcome.FAILED
        attempt.error = "The stream ended without saying that it was finished."
    elif attempt.finish is Outcome.FILTERED:
        attempt.outcome, attempt.error = Outcome.FILTERED, "The provider's content filter stopped the answer."
    elif attempt.finish is Outcome.REFUSED:
        attempt.outcome, attempt.error = Outcome.REFUSED, "The model declined to answer."
    elif not attempt.text.strip():
        attempt.outcome = Outcome.EMPTY
        attempt.error = (
            "The model spent all its tokens on thinking and wrote no answer."
            if attempt.thought
            else "The model returned no text."
        )
    else:
        attempt.outcome = attempt.finish
        if attempt.finish is Outcome.TRUNCATED:
            attempt.error = attempt.error or "It reached the most tokens it may write."
