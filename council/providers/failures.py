"""What it means that a provider answers with an error, in its own words where it has some: one of `core.errors`."""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan

import httpx

from council.core import errors
from council.core.values import clean

ERROR_BYTES = 20_000
GAVE_UP_WAITING = {408, 504, 522, 524}
"""A timeout that somebody else noticed: a provider, a gateway, Cloudflare. It leaves as much open as one of our own."""
_A_STATUS = re.compile("[45][0-9]{2}")


async def read(response: httpx.Response, *, with_schema: bool = False) -> errors.ProviderError:
    """What an answer that is not 200 means; reads its body."""
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ERROR_BYTES:
            break
    return meaning(response, body, with_schema=with_schema)


def meaning(response: httpx.Response, body: bytes, *, with_schema: bool = False) -> errors.ProviderError:
    """What an answer that is not 200 means, in the provider's own words where it has some.

    What it says of another attempt is taken up: `x-should-retry`, as OpenAI's servers send it, and `Retry-After`.
    """
    try:
        said = words(json.loads(body).get("error"))
    except (ValueError, AttributeError, RecursionError):
        said = ""
    error = _meaning(response.status_code, said, with_schema=with_schema)
    error.after = _seconds(response.headers.get("retry-after"))
    told = response.headers.get("x-should-retry", "").strip().lower()
    if told in {"true", "false"}:
        error.retry = told == "true"
    return error


def _meaning(status: int, said: str, *, with_schema: bool) -> errors.ProviderError:
    told = f" It says: {said}{'' if said[-1] in '.!?…' else '.'}" if said else ""
    match status:
        case 401 | 403:
            return errors.WrongKey(f"The provider refused the API key.{told} An administrator can correct it.")
        case 402:
            return errors.NoCredit(
                f"The account behind the API key has no credit left.{told} Whoever pays for it can top it up."
            )
        case 404:
            return errors.NotFound(
                f"The provider does not know this model or this address.{told} An administrator can correct them."
            )
        case _ if status in GAVE_UP_WAITING:
            return errors.TimedOutThere(
                f"The provider gave up waiting (HTTP {status}).{told} Try again later, or ask for less."
            )
        case 409 | 425:
            return errors.ServerFailed(f"The provider asks to try again (HTTP {status}).{told} Do so in a moment.")
        case 429:
            return errors.RateLimited(f"The provider is asked too often just now.{told} Try again in a moment.")
        case _ if 300 <= status < 400:
            return errors.NotTheProtocol(
                "The provider's address redirects elsewhere, which is not followed. Put the final address in."
            )
        case _ if status >= 500:
            return errors.ServerFailed(f"The provider failed on its side (HTTP {status}).{told} Try again in a moment.")
        case _:
            lowered = said.lower()
            if with_schema and any(word in lowered for word in ("response_format", "json_schema", "schema", "grammar")):
                return errors.SchemaRefused(said)
            if "context" in lowered and any(word in lowered for word in ("exceed", "length", "maximum", "size")):
                return errors.ContextExceeded(f"The prompt is longer than this model can read.{told}")
            return errors.Rejected(f"The provider rejected the request (HTTP {status}).{told}")


def in_stream(error: object, *, with_schema: bool = False) -> errors.ProviderError:
    """What an error means that comes where a piece of a reply should.

    Its code is what the status would have been, had it not been 200 already: so says OpenRouter.
    """
    said = words(error)
    code = str(error.get("code")) if isinstance(error, dict) else ""
    code = "429" if code == "rate_limit_exceeded" else code
    if _A_STATUS.fullmatch(code):
        return _meaning(int(code), said, with_schema=with_schema)
    return errors.ServerFailed(f"The provider reported an error. It says: {said}" if said else "")


def words(error: object) -> str:
    """The message inside an error object, at most 500 characters."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or ""
    return clean(str(error or ""))[:500]


def _seconds(value: str | None) -> float | None:
    """What a Retry-After says: seconds, or a moment. None for what says neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        # A date of HTTP is in GMT, whether it says so or not.
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if isnan(seconds) else max(0.0, seconds)
