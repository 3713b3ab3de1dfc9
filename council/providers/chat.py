"""The OpenAI-compatible chat protocol: one request, streamed.

The connections are `connecting`'s, and what an answer means that is none is said by `failures`.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
import orjson

from council.core import errors
from council.core.values import Outcome, Request, clean
from council.providers import addresses, connecting, failures, sse
from council.providers.thinking import InlineThinking

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
SECRET_CHARACTERS = 8
_HUNG_UP = (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError)
DRAIN_SECONDS = 0.5

# Beside OpenAI's own words those of Together, TGI, Anthropic, Cohere, Qianfan, Mistral and Zhipu.
_FINISHES: dict[str, Outcome | None] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "normal"), Outcome.COMPLETE),
    **dict.fromkeys(("tool_calls", "function_call"), Outcome.COMPLETE),
    **dict.fromkeys(("length", "max_tokens", "model_length", "model_context_window_exceeded"), Outcome.TRUNCATED),
    **dict.fromkeys(("content_filter", "sensitive"), Outcome.FILTERED),
    "refusal": Outcome.REFUSED,
    **dict.fromkeys(("", "null"), None),
}
_BROKEN_OFF = {"error", "abort", "insufficient_system_resource", "network_error"}
"""How OpenRouter, vLLM and SGLang, DeepSeek and Zhipu say that it failed underway."""
REASON_CHARACTERS = 50


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
    private: bool = False

    def __repr__(self) -> str:
        return f"<Endpoint {self.model_id} at {self.base_url}>"


@dataclass(slots=True)  # not frozen: one is made for each token
class Piece:
    """A part of a streamed reply. Most carry text or thinking alone; the last say how it ended and what it cost.

    `reason`: why it ended, in the provider's word, where nobody knows what that means.
    """

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    finish: Outcome | None = None
    reason: str = ""
    generation: str = ""
    usage: dict[str, Any] | None = None


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

    Raises a ProviderError and nothing else.
    """
    begun, with_schema = False, request.schema is not None
    try:
        async with aclosing(await _send(transport, endpoint, request, connect)) as response:
            begun = True
            if response.status_code != httpx.codes.OK:
                raise await failures.read(response, with_schema=with_schema)  # noqa: TRY301  # goes on below
            if "text/event-stream" not in response.headers.get("content-type", ""):
                raise errors.NotTheProtocol  # noqa: TRY301  # goes on below
            events = sse.events(response.aiter_bytes() if "content-encoding" in response.headers else _chunks(response))
            inline = InlineThinking()
            if generation := response.headers.get("x-generation-id"):  # OpenRouter's: should nothing more come
                yield Piece(generation=clean(generation))
            async for data in events:
                if data == b"[DONE]":
                    await _drain(events)
                    break
                if data:
                    piece = _piece(data, with_schema=with_schema)
                    if piece.text and not inline.over:
                        text, thinking = inline.split(piece.text)
                        piece = replace(piece, text=text, thinking=thinking)
                    yield piece
            if rest := inline.rest():
                yield Piece(text=rest)
    except httpx.DecodingError as error:
        raise errors.NotTheProtocol from error
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError) as error:
        raise errors.BrokeOff if begun else no_connection(error, endpoint.base_url) from error
    except errors.ProviderError:
        raise
    except Exception as error:
        # Whatever nobody has thought of: one provider's odd reply is never the end of the other members' answers.
        logger.exception("What %s sent could not be read", endpoint.model_id)
        raise errors.NotTheProtocol("What came back cannot be read. The log of this site says more.") from error


async def _send(
    transport: httpx.AsyncBaseTransport, endpoint: Endpoint, request: Request, connect: float
) -> httpx.Response:
    with sending_to(endpoint):
        return await transport.handle_async_request(_http(endpoint, request, connect))


@contextlib.contextmanager
def sending_to(endpoint: Endpoint) -> Iterator[None]:
    """Around the sending of a request, for what its way raises bare: raises NotTheProtocol or Unreachable instead."""
    try:
        yield
    except (UnicodeDecodeError, UnicodeEncodeError) as error:  # a header that is no text
        raise errors.NotTheProtocol from error
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
        extensions={"timeout": {"connect": connect}, connecting.PRIVATE: endpoint.private},
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


def no_connection(error: Exception, base_url: str) -> errors.ProviderError:
    """What it means that nothing came back: a ProviderError."""
    if addresses.was_forbidden(error):
        return errors.PrivateAddress()
    # The transport calls these a timeout too. Often the connection was kept too long, and just then closed.
    if isinstance(error.__cause__, _HUNG_UP) or type(error.__cause__) is aiohttp.ClientOSError:
        return errors.HungUp()
    # What it has no name for in httpx: an answer that is not HTTP.
    if isinstance(error, aiohttp.ClientError):
        return errors.NotTheProtocol()
    return errors.Unreachable(no_way_to(base_url))


def _piece(data: bytes, *, with_schema: bool = False) -> Piece:
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
    choices = chunk.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    delta = choice.get("delta")
    delta = delta if isinstance(delta, dict) else {}
    finish, content, usage = choice.get("finish_reason"), delta.get("content"), chunk.get("usage")
    failed = chunk.get("error") or choice.get("error")
    if content and isinstance(content, str) and not (finish or usage or failed or delta.get("refusal")):
        return Piece(text=clean(content), generation=_text(chunk.get("id")))  # as most of them are
    said = _text(finish)
    reason = said.partition(":")[0].lower()  # Gemini adds why: "content_filter: RECITATION"
    if failed:
        raise failures.in_stream(failed, with_schema=with_schema)
    if reason in _BROKEN_OFF:
        raise errors.ServerFailed("The provider failed while the model was writing.")
    text, thoughts = _content(content)
    return Piece(
        text=text,
        thinking="" if text else thoughts or _thinking(delta),
        refusal=_text(delta.get("refusal")),
        finish=_FINISHES.get(reason, Outcome.TRUNCATED),
        reason="" if reason in _FINISHES else said[:REASON_CHARACTERS],
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
