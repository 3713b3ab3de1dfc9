"""The way out to providers: one transport for the life of a process, and the proxies that its environment names.

A request goes to the internet, or wherever its provider was allowed to be (`addresses`).

Building one costs a TLS context, 20 ms of processor. It is httpx's interface over aiohttp, whose reading of a stream
costs half the processor time of httpx's own. It is used without a client, whose cookies, redirects and authentication
no provider wants and each call, and each token, pays for (docs/performance.md).
"""

from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from council.providers import addresses

CONNECTIONS = 2000
"""To all providers together; more calls than that wait for a place."""
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


PRIVATE = "private network"
"""The extension of a request whose provider may be in a private network."""


def new_transport() -> httpx.AsyncBaseTransport:
    """The one transport of a process, with the connections that it keeps; use it as an async context manager.

    Deadlines are the caller's; redirects are never followed. Proxies are those that the environment names.
    """
    return _Ways(getproxies())


def _transport(proxy: httpx.Proxy | None, *, private: bool) -> AiohttpTransport:
    resolver = None if private or proxy else addresses.PublicResolver()  # a proxy is where the deployment has it

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=60, ssl=transport.ssl_context, resolver=resolver
        )
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


class _Ways(httpx.AsyncBaseTransport):
    """Sends each request by the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name for it, unless NO_PROXY does.

    What runs on this machine is asked directly. One that is not allowed into a private network is not sent there.
    """

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = proxies if proxies.keys() & {"http", "https", "all"} else {}
        self._ways: dict[tuple[str, bool], AiohttpTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it. Raises ConnectError, of which `addresses.was_forbidden` is true for one that may not go there."""
        private = bool(request.extensions.get(PRIVATE))
        # What stands in the address is not resolved; nor is what a proxy resolves.
        if not private and addresses.is_obviously_private(request.url.host):
            raise httpx.ConnectError("A private network.") from addresses.Forbidden(request.url.host)
        way = (self._proxy_to(request.url) if self._proxies else "", private)
        if way not in self._ways:
            self._ways[way] = _transport(_proxy(way[0]) if way[0] else None, private=private)
        return await self._ways[way].handle_async_request(request)

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
