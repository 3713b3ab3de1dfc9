"""What a provider tells beside answers, by a plain GET: its list of models, and what a call was billed."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import aiohttp
import httpx

from council.core.errors import NotTheProtocol
from council.providers import chat, connecting, failures
from council.providers.chat import Endpoint

SECONDS = 30.0
MOST_BYTES = 20_000_000
TOO_MUCH = f"It was not read within {SECONDS:.0f} seconds and {MOST_BYTES // 1_000_000} MB."


async def get(transport: httpx.AsyncBaseTransport, endpoint: Endpoint, path: str, **query: str) -> Any:
    """The JSON at a path below the provider's address. Raises a ProviderError, after SECONDS at the latest."""
    try:
        status, headers, body = await _read(transport, endpoint, path, query)
    except TimeoutError as error:
        raise NotTheProtocol(TOO_MUCH) from error
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError) as error:
        raise chat.no_connection(error, endpoint.base_url) from error
    if status != httpx.codes.OK:
        meant = failures.meaning(httpx.Response(status, headers=headers), body)
        raise type(meant)(chat.without_key(str(meant), endpoint))
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotTheProtocol from error


async def _read(
    transport: httpx.AsyncBaseTransport, endpoint: Endpoint, path: str, query: dict[str, str]
) -> tuple[int, httpx.Headers, bytes]:
    """The answer, by the way that calls go. Raises a ProviderError, TimeoutError, and httpx's and aiohttp's errors."""
    async with asyncio.timeout(SECONDS):
        with chat.sending_to(endpoint):
            request = httpx.Request(
                "GET",
                httpx.URL(f"{endpoint.base_url.rstrip('/')}/{path}").copy_merge_params(query),
                headers=chat.headers(endpoint),
                extensions={"timeout": {"connect": chat.CONNECT_SECONDS}, connecting.PRIVATE: endpoint.private},
            )
            response = await transport.handle_async_request(request)
        async with aclosing(response):
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise NotTheProtocol(TOO_MUCH)
            return response.status_code, response.headers, body
