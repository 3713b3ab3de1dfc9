"""One place for deadlines and for retries: a request, until its reply has ended.

Only what fails before the first byte is tried again, as often as the rules (`policy`) say, and what was sent and
stayed silent once. A provider that refuses a JSON schema is asked again without one; the prompt describes the form in
words as well. Each attempt is announced before it is sent and reported when it ends, so that the caller can keep a row
for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, NamedTuple, Protocol

import httpx
import stamina

from council.core import errors
from council.core.values import Outcome, Request
from council.providers import chat
from council.providers.chat import Endpoint, Piece
from council.providers.policy import Policy

TEXT_CHARACTERS = 2_000_000
REFUSAL_CHARACTERS = 500
NOT_KNOWN = " Whether the provider carried it out, and bills it, is not known."
USAGE_SECONDS = 5.0
"""From the end of a reply until its usage, which follows at once where it follows at all: somebody waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds: until the first sign of life, between two signs, and for the whole call."""

    first_token: float
    between_tokens: float
    call: float


@dataclass(slots=True)
class Attempt:
    """What one attempt brought. `pieces` counts parts of text and thinking. Texts are kept as parts until asked for.

    `reason`: why it ended, in the provider's word, where nobody knows what that means.
    `sent`: it may have reached the provider. `unknown`: and nobody knows what came of it. `fault`: whether it tells
    against how the model does; None where it tells nothing of that.
    """

    parts: list[str] = field(default_factory=list)
    characters: int = 0
    pieces: int = 0
    thought: bool = False
    refusal: str = ""
    finish: Outcome | None = None
    reason: str = ""
    error: str = ""
    outcome: Outcome = Outcome.FAILED
    sent: bool = False
    unknown: bool = False
    fault: bool | None = None
    generation: str = ""
    usage: dict[str, Any] | None = None
    first_token: float | None = None

    @property
    def text(self) -> str:
        """All text so far, without thinking."""
        return "".join(self.parts)


class Way(NamedTuple):
    """Where an attempt goes, and the rules for it."""

    endpoint: Endpoint
    policy: Policy


class Observer(Protocol):
    """Who is told of a call: before an attempt is sent, at each piece, and when the attempt has ended."""

    async def sending(self) -> Way:
        """An attempt is about to be sent; says where to. Raises a ProviderError where there is nowhere to send it.

        It returns when the attempt may go out, which may take its time.
        """

    def began(self, attempt: Attempt) -> None:
        """Its id at the provider, or its first token, has come. On the loop, before the piece is told."""

    def grew(self, text: str) -> None:
        """A piece came, of thinking where it has no text. Called on the loop, for every piece."""

    async def ended(self, attempt: Attempt) -> None:
        """The attempt is over."""


async def call(
    transport: httpx.AsyncBaseTransport,
    request: Request,
    deadlines: Deadlines,
    observer: Observer,
    *,
    repeats: int = 1,
) -> Attempt:
    """Ask until there is a reply or nothing more to try, and return the last attempt; its outcome says how it went.

    `repeats`: how often what was sent and stayed silent may be repeated, if the rules allow it; it may have been
    carried out.

    Raises CancelledError alone, after the attempt under way was reported with what had come.
    """
    tries = _Tries(repeats)

    async def tried() -> Attempt:
        nonlocal request
        try:
            return await _once(transport, request, deadlines, observer, tries)
        except errors.SchemaRefused:
            # For good: the attempts that follow go without it too.
            request = replace(request, schema=None)
            return await _once(transport, request, deadlines, observer, tries)

    # Nearly every first attempt is the last. What a retry needs is a seventh of the work that a call is to us, and
    # where members are asked together each waits for that of the others.
    try:
        return await tried()
    except _Retry as error:
        failed = error
    attempt = failed.attempt  # for the type checker alone: a retry gives another, or raises
    try:
        async for retrying in stamina.retry_context(
            on=_wait_before_retry, attempts=None, timeout=None, wait_initial=0.5, wait_max=8.0, wait_jitter=0.5
        ):
            with retrying:
                if retrying.num == 1:
                    raise failed
                attempt = await tried()
    except _Retry as error:
        attempt = error.attempt
    return attempt


@dataclass(slots=True)
class _Tries:
    """What a call has been through: attempts that failed before their first byte; `repeats` that it has left."""

    repeats: int
    failed: int = 0

    def another(self, policy: Policy) -> bool:
        """Whether there is another attempt after one that failed."""
        self.failed += 1
        return self.failed < policy.attempts

    def repeat(self, policy: Policy) -> bool:
        """Whether what stayed silent is sent again."""
        self.repeats = min(self.repeats, policy.repeats) - 1
        return self.repeats >= 0


class _Retry(Exception):
    """The attempt failed before its first byte, and may be tried again after `wait` seconds (None: as usual)."""

    def __init__(self, attempt: Attempt, wait: float | None) -> None:
        super().__init__(attempt.outcome)  # without the provider's words: stamina logs it
        self.attempt = attempt
        self.wait = wait


def _wait_before_retry(error: Exception) -> bool | float:
    if not isinstance(error, _Retry):
        return False
    return True if error.wait is None else error.wait


async def _once(
    transport: httpx.AsyncBaseTransport, request: Request, deadlines: Deadlines, observer: Observer, tries: _Tries
) -> Attempt:
    """One attempt, reported to its end. Raises SchemaRefused, and _Retry where another is worth while."""
    attempt, way = Attempt(), None
    again: _Retry | None = None
    try:
        way = await observer.sending()
        attempt.sent = True
        try:
            async with asyncio.timeout(deadlines.call):
                async with aclosing(chat.stream(transport, way.endpoint, request, way.policy.connect)) as pieces:
                    await _read(pieces, attempt, deadlines, observer)
        except (TimeoutError, errors.ProviderError):
            # Once it has said that it is finished, all of it is there; what may be lost after that is its usage.
            if attempt.finish is None:
                raise
        conclude(attempt)
    except TimeoutError:
        if way is None:
            raise
        again = _too_late(attempt, deadlines, way.policy, tries)
    except errors.ProviderError as error:
        if isinstance(error, errors.SchemaRefused) and attempt.first_token is None:
            attempt.error = "The provider does not take a JSON schema."
            await observer.ended(attempt)
            raise
        again = _failed(attempt, error, way, tries)
    except asyncio.CancelledError:
        attempt.outcome, attempt.error = Outcome.CANCELLED, "Stopped."
        attempt.unknown = attempt.sent and attempt.first_token is None
        attempt.error += NOT_KNOWN if attempt.unknown else ""
        await asyncio.shield(observer.ended(attempt))
        raise
    await observer.ended(attempt)
    if again:
        raise again
    return attempt


def _too_late(attempt: Attempt, deadlines: Deadlines, policy: Policy, tries: _Tries) -> _Retry | None:
    """A deadline has passed. What was sent and stayed silent may have been carried out: that is said."""
    attempt.error = attempt.error or f"It was not done after {deadlines.call:.0f} seconds."
    attempt.outcome = Outcome.TRUNCATED if attempt.characters else Outcome.TIMED_OUT
    attempt.fault = True
    if attempt.first_token is not None:
        return None
    attempt.unknown = True
    attempt.error += NOT_KNOWN
    return _Retry(attempt, None) if tries.repeat(policy) else None


def _failed(attempt: Attempt, error: errors.ProviderError, way: Way | None, tries: _Tries) -> _Retry | None:
    attempt.error = chat.without_key(str(error), way.endpoint) if way else str(error)
    attempt.outcome = Outcome.TRUNCATED if attempt.characters else Outcome.FAILED
    attempt.sent = attempt.sent and error.sent
    attempt.unknown = attempt.sent and error.unknown and attempt.first_token is None
    attempt.error += NOT_KNOWN if attempt.unknown else ""
    attempt.fault = error.fault or None
    if way is None or not error.retry or attempt.first_token is not None:
        return None
    if (error.after or 0.0) > way.policy.longest_wait:
        attempt.error += f" It asks to wait {error.after:,.0f} seconds, which is longer than this site waits."
        return None
    another = tries.repeat(way.policy) if error.unknown else tries.another(way.policy)
    return _Retry(attempt, error.after) if another else None


async def _read(pieces: AsyncIterator[Piece], attempt: Attempt, deadlines: Deadlines, observer: Observer) -> None:
    """Take the pieces in. Raises TimeoutError after a silence that is too long, with words in the attempt."""
    try:
        async with asyncio.timeout(deadlines.first_token) as patience:
            sitter = _Patience(patience, deadlines.between_tokens)
            try:
                async for piece in pieces:
                    if piece.generation and not attempt.generation:
                        attempt.generation = piece.generation[:200]
                        observer.began(attempt)
                    if piece.text or piece.thinking or piece.refusal:
                        sitter.heard()
                        _take(piece, attempt, observer)
                    if piece.finish is not None:
                        sitter.finished()
                        attempt.finish, attempt.reason = piece.finish, piece.reason
                    if piece.usage is not None:
                        attempt.usage = piece.usage
                    if attempt.characters >= TEXT_CHARACTERS:
                        attempt.finish, attempt.reason = Outcome.TRUNCATED, ""
                        break
            finally:
                sitter.leave()
    except TimeoutError:
        attempt.error = (
            f"The model gave no sign of life for {deadlines.first_token:.0f} seconds. Try again later, or have an "
            "administrator choose a quicker model or a longer deadline."
            if attempt.first_token is None
            else f"The model fell silent for {deadlines.between_tokens:.0f} seconds."
        )
        raise


def _take(piece: Piece, attempt: Attempt, observer: Observer) -> None:
    if attempt.first_token is None:
        attempt.first_token = monotonic()
        observer.began(attempt)
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

    def finished(self) -> None:
        """There is no more to hear than the usage."""
        self.leave()
        self._timeout.reschedule(self._loop.time() + USAGE_SECONDS)

    def leave(self) -> None:
        """Nothing more is waited for."""
        if self._timer is not None:
            self._timer.cancel()


def conclude(attempt: Attempt) -> None:
    """The end of a stream is not success: a finish reason is. What is finished tells nothing against the model."""
    attempt.error, attempt.unknown, attempt.fault = "", False, False
    if attempt.refusal and not attempt.characters:
        attempt.outcome, attempt.error = Outcome.REFUSED, f"The model declined: {attempt.refusal}"
    elif attempt.finish is None:
        attempt.outcome, attempt.fault = Outcome.TRUNCATED if attempt.characters else Outcome.FAILED, True
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
        if attempt.reason:
            attempt.error = f"It ended for a reason that this site does not know: “{attempt.reason}”."
        elif attempt.characters >= TEXT_CHARACTERS:
            attempt.error = "The answer was longer than two million characters and was cut there."
        elif attempt.finish is Outcome.TRUNCATED:
            attempt.error = "It reached the most tokens it may write."
