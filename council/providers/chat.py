"""The OpenAI-compatible chat protocol: one request, streamed.

One transport for the life of the process: building one costs a TLS context, 20 ms of processor. It is httpx's interface
over aiohttp, whose reading of a stream costs half the processor time of httpx's own. It is used without a client, whose
cookies, redirects and authentication no provider wants and each call, and each token, pays for (docs/performance.md).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from math import isnan
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from council.core import errors
from council.core.values import Outcome, Request, clean
from council.providers import sse
from council.providers.thinking import InlineThinking

CONNECT_SECONDS = 10.0
CONNECTIONS = 2000
"""To all providers together; more calls than that wait for a place."""
ERROR_BYTES = 20_000
SECRET_CHARACTERS = 8
_HUNG_UP = (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError)
DRAIN_SECONDS = 0.5
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_FINISHES = {
    "stop": Outcome.COMPLETE,
    "eos": Outcome.COMPLETE,
    "end_turn": Outcome.COMPLETE,
    "tool_calls": Outcome.COMPLETE,
    "length": Outcome.TRUNCATED,
    "max_tokens": Outcome.TRUNCATED,
    "content_filter": Outcome.FILTERED,
    "refusal": Outcome.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is, and how it wants to be asked. The key never appears in a representation or a log."""

    base_url: str
    api_key: str
    kind: str
    model_id: str
    takes_temperature: bool = True
    max_tokens_field: str = "max_tokens"
    usage_in_stream: bool = True
    effort: str = ""

    def __repr__(self) -> str:
        return f"<Endpoint {self.model_id} at {self.base_url}>"


@dataclass(slots=True)  # not frozen: one is made for each token
class Piece:
    """A part of a streamed reply. Most carry text or thinking alone; the last say how it ended and what it cost."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    finish: Outcome | None = None
    generation: str = ""
    usage: dict[str, Any] | None = None


def new_transport() -> httpx.AsyncBaseTransport:
    """The one transport of a process, with the connections that it keeps; use it as an async context manager.

    Deadlines are the caller's; redirects are never followed. Proxies are those that the environment names.
    """
    proxies = getproxies()
    return _ByProxy(proxies) if proxies.keys() & {"http", "https", "all"} else _transport()


def _transport(proxy: httpx.Proxy | None = None) -> AiohttpTransport:

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60, ssl=transport.ssl_context)
        # What a provider sets for one key must not go along with another.
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    transport = AiohttpTransport(client=session, proxy=proxy)
    return transport


def _proxy(address: str) -> httpx.Proxy:
    """A proxy; who signs in to it stands in a header, which aiohttp gives its right name on the way."""
    proxy = httpx.Proxy(address)
    if proxy.auth is None:
        return proxy
    user, password = proxy.auth
    return httpx.Proxy(proxy.url, headers={"Authorization": aiohttp.encode_basic_auth(user, password)})


class _ByProxy(httpx.AsyncBaseTransport):
    """Sends each request by the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name for it, unless NO_PROXY does.

    What runs on this machine is asked directly.
    """

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = proxies
        self._ways: dict[str, AiohttpTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        proxy = self._proxy_to(request.url)
        if proxy not in self._ways:
            self._ways[proxy] = _transport(_proxy(proxy) if proxy else None)
        return await self._ways[proxy].handle_async_request(request)

    def _proxy_to(self, url: httpx.URL) -> str:
        """The address of the proxy; empty for none. Raises ValueError for one that is no address."""
        if url.host in _LOOPBACK or proxy_bypass(url.host):
            return ""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all") or ""
        return proxy if "://" in proxy or not proxy else f"http://{proxy}"

    async def aclose(self) -> None:
        """Close what was opened."""
        for each in self._ways.values():
            await each.aclose()


def payload(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The body of a request, as this endpoint wants it."""
    body: dict[str, Any] = {
        "model": endpoint.model_id,
        "messages": list(request.messages),
        "stream": True,
        endpoint.max_tokens_field: request.max_tokens,
    }
    if request.temperature is not None and endpoint.takes_temperature:
        body["temperature"] = request.temperature
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "ballot", "strict": True, "schema": request.schema},
        }
    if endpoint.usage_in_stream:
        body["stream_options"] = {"include_usage": True}
    if endpoint.kind == "openrouter":
        body["usage"] = {"include": True}
        if endpoint.effort:
            body["reasoning"] = {"effort": endpoint.effort}
    elif endpoint.effort:
        body["reasoning_effort"] = endpoint.effort
    if endpoint.kind == "practice" and request.schema is None:
        # Else so small a model says its first sentence again and again. A ballot says the same labels for a reason.
        body["repeat_penalty"], body["repeat_last_n"] = 1.15, 256
    return body


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of a request; without a key none is sent (local servers want none).

    Raises UnusableKey for one that no header can carry, before an error of httpx can quote it.
    """
    if not endpoint.api_key:
        return {}
    if not (endpoint.api_key.isascii() and endpoint.api_key.isprintable()):
        raise errors.UnusableKey
    return {"Authorization": f"Bearer {endpoint.api_key}"}


async def stream(
    transport: httpx.AsyncBaseTransport, endpoint: Endpoint, request: Request, connect: float = CONNECT_SECONDS
) -> AsyncGenerator[Piece, None]:
    """Send the request and yield the reply as it comes; to connect may take `connect` seconds.

    Raises a ProviderError, never anything of httpx.
    """
    begun = False
    try:
        async with aclosing(await _send(transport, endpoint, request, connect)) as response:
            begun = True
            if response.status_code != httpx.codes.OK:
                raise await failure(response, with_schema=request.schema is not None)
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise errors.NotTheProtocol
            events = sse.events(response.aiter_bytes() if "content-encoding" in response.headers else _chunks(response))
            inline = InlineThinking()
            async for data in events:
                if data == b"[DONE]":
                    await _drain(events)
                    break
                if data:
                    piece = _piece(data)
                    if piece.text and not inline.over:
                        text, thinking = inline.split(piece.text)
                        piece = replace(piece, text=text, thinking=thinking)
                    yield piece
            if rest := inline.rest():
                yield Piece(text=rest)
    except httpx.DecodingError as error:
        raise errors.NotTheProtocol from error
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError) as error:
        raise errors.BrokeOff if begun else _not_begun(error, endpoint.base_url) from error


async def _send(
    transport: httpx.AsyncBaseTransport, endpoint: Endpoint, request: Request, connect: float
) -> httpx.Response:
    try:
        return await transport.handle_async_request(_http(endpoint, request, connect))
    except ValueError as error:  # an address that looks like one and cannot be used
        raise errors.Unreachable(no_way_to(endpoint.base_url)) from error


@lru_cache(maxsize=100)
def _address(base_url: str) -> httpx.URL:
    """Taken apart once: where members are asked together, each waits for that of the others."""
    return httpx.URL(f"{base_url.rstrip('/')}/chat/completions")


def _http(endpoint: Endpoint, request: Request, connect: float) -> httpx.Request:
    return httpx.Request(
        "POST",
        _address(endpoint.base_url),
        content=orjson.dumps(payload(endpoint, request)),
        headers={
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",  # a packed stream may be held back until there is enough to pack
            **headers(endpoint),
        },
        extensions={"timeout": {"connect": connect}},
    )


def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes, without the layers that count and unpack it."""
    body = response.stream
    assert isinstance(body, httpx.AsyncByteStream)  # noqa: S101  # from an asynchronous transport
    return aiter(body)


async def _drain(events: AsyncGenerator[Any, None]) -> None:
    """Read the little that follows the last event: only what was read to its end leaves a connection to be kept."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in events:
                pass


def _not_begun(error: Exception, base_url: str) -> errors.ProviderError:
    """What it means that nothing came back."""
    # The transport calls these a timeout too. Often the connection was kept too long, and just then closed.
    if isinstance(error.__cause__, _HUNG_UP) or type(error.__cause__) is aiohttp.ClientOSError:
        return errors.HungUp()
    # What it has no name for in httpx: an answer that is not HTTP.
    if isinstance(error, aiohttp.ClientError):
        return errors.NotTheProtocol()
    return errors.Unreachable(no_way_to(base_url))


def _piece(data: bytes) -> Piece:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson is strict where some servers are not (half a character, a lone surrogate, a control character).
        try:
            chunk = json.loads(data.decode(errors="replace"), strict=False)
        except (ValueError, RecursionError) as error:
            raise errors.NotTheProtocol("The stream holds something that is not JSON.") from error
    if not isinstance(chunk, dict):
        raise errors.NotTheProtocol
    if chunk.get("error"):
        raise _error_in_stream(chunk["error"])
    choices = chunk.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    finish = choice.get("finish_reason")
    if finish == "error":
        raise errors.ServerFailed(_words(choice.get("error")) or "The provider failed while the model was writing.")
    usage = chunk.get("usage")
    text, thoughts = _content(delta.get("content"))
    return Piece(
        text=text,
        thinking="" if text else thoughts or _thinking(delta),
        refusal=_text(delta.get("refusal")),
        finish=_FINISHES.get(finish, Outcome.COMPLETE) if finish and isinstance(finish, str) else None,
        generation=_text(chunk.get("id")),
        usage=usage if isinstance(usage, dict) else None,
    )


def _content(content: object) -> tuple[str, str]:
    """Text and thoughts: a string as a rule; Mistral's models send a list of parts, some of which are thoughts."""
    if not isinstance(content, list):
        return _text(content), ""
    parts = [part for part in content if isinstance(part, dict)]
    text = "".join(_text(part.get("text")) for part in parts if part.get("type") == "text")
    return text, "…" if any(part.get("type") == "thinking" for part in parts) else ""


def _thinking(delta: dict[str, Any]) -> str:
    """Reasoning, by whichever of its names it comes: a sign of life."""
    thinking = _text(delta.get("reasoning") or delta.get("reasoning_content"))
    details = delta.get("reasoning_details")
    if thinking or not isinstance(details, list):
        return thinking
    return "".join(_text(each.get("text") or each.get("summary")) or "…" for each in details if isinstance(each, dict))


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def without_key(text: str, endpoint: Endpoint) -> str:
    """The text, should a provider have repeated the key in it. A word that is no secret ("none") stays."""
    return text.replace(endpoint.api_key, "…") if len(endpoint.api_key) >= SECRET_CHARACTERS else text


def no_way_to(base_url: str) -> str:
    """What to say of an address that cannot be reached."""
    return f"{base_url} cannot be reached. Is it up, and is its address right?"


async def failure(response: httpx.Response, *, with_schema: bool = False) -> errors.ProviderError:
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
    error = _meaning(response, body, with_schema=with_schema)
    error.after = _seconds(response.headers.get("retry-after"))
    told = response.headers.get("x-should-retry", "").strip().lower()
    if told in {"true", "false"}:
        error.retry = told == "true"
    return error


def _meaning(response: httpx.Response, body: bytes, *, with_schema: bool) -> errors.ProviderError:
    try:
        said = _words(json.loads(body).get("error"))
    except (ValueError, AttributeError, RecursionError):
        said = ""
    told = f" It says: {said}{'' if said[-1] in '.!?…' else '.'}" if said else ""
    match response.status_code:
        case 401 | 403:
            return errors.WrongKey(f"The provider refused the API key.{told} An administrator can correct it.")
        case 402:
            return errors.NoCredit(f"The account behind the API key has no credit left.{told}")
        case 404:
            return errors.NotFound(f"The provider does not know this model or this address.{told}")
        case 408 | 409 | 425:
            return errors.ServerFailed(f"The provider asks to try again (HTTP {response.status_code}).{told}")
        case 429:
            return errors.RateLimited(f"The provider is asked too often just now.{told}")
        case status if 300 <= status < 400:
            return errors.NotTheProtocol(
                "The provider's address redirects elsewhere, which is not followed. Put the final address in."
            )
        case status if status >= 500:
            return errors.ServerFailed(f"The provider failed on its side (HTTP {status}).{told}")
        case status:
            lowered = said.lower()
            if with_schema and any(word in lowered for word in ("response_format", "json_schema", "schema", "grammar")):
                return errors.SchemaRefused(said)
            if "context" in lowered and any(word in lowered for word in ("exceed", "length", "maximum", "size")):
                return errors.ContextExceeded(f"The prompt is longer than this model can read.{told}")
            return errors.Rejected(f"The provider rejected the request (HTTP {status}).{told}")


def _error_in_stream(error: object) -> errors.ProviderError:
    said = _words(error)
    code = error.get("code") if isinstance(error, dict) else None
    if str(code) in {"429", "rate_limit_exceeded"}:
        return errors.RateLimited(f"The provider is asked too often just now. It says: {said}")
    return errors.ServerFailed(f"The provider reported an error. It says: {said}" if said else "")


def _words(error: object) -> str:
    """The message inside an error object, at most 500 characters."""
    if isinstance(error, dict):
        error = error.get("message") or error.get("code") or ""
    return _text(str(error or ""))[:500]


def _seconds(value: str | None) -> float | None:
    """What a Retry-After says: seconds, or a moment. None for what says neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        # A date of HTTP is in GMT, whether it says so or not.
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if isnan(seconds) else max(0.0, seconds)
