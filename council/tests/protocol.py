"""A request to a provider, and what comes back, for tests of the protocol."""

from council.core.values import Request
from council.providers import chat, connecting
from council.providers.chat import Endpoint

REQUEST = Request(({"role": "user", "content": "Why? 日本 😀"},), 300, 0.7, {"type": "object"})
KEY = "sk-secret-0123456789"


def endpoint(url="http://127.0.0.1:9/v1", **values):
    given = {"base_url": url, "api_key": KEY, "kind": "compatible", "model_id": "fake/alpha", "private": True, **values}
    return Endpoint(**given)


async def pieces(where, request=REQUEST):
    async with connecting.new_transport() as transport:
        return [piece async for piece in chat.stream(transport, where, request)]


def said(found):
    return "".join(piece.text for piece in found)
