"""What stands before every view: who the client is, which hosts are served, what a page may load."""

import pytest
from allauth.account.views import LoginView
from asgiref.sync import sync_to_async
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.conf import settings
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from conversations.tests import cast, links
from councilsite import asgi

PATIENCE = 30  # seconds


async def told(scope: dict, trusted: list[str]) -> dict:
    """The scope as the site sees it."""
    seen = {}

    async def site(scope, receive, send):
        seen.update(scope)

    await ProxyHeadersMiddleware(site, trusted)(scope, None, None)
    return seen


def request(peer: str, **headers: str) -> dict:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "scheme": "http", "client": [peer, 4711], "headers": named}


FORWARDED = {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"}


async def test_a_trusted_proxy_is_believed():
    seen = await told(request("10.0.0.5", **FORWARDED), ["10.0.0.0/8"])
    assert seen["client"][0] == "203.0.113.9"
    assert seen["scheme"] == "https"


async def test_nobody_else_is_believed():
    seen = await told(request("198.51.100.7", **FORWARDED), ["10.0.0.0/8"])
    assert seen["client"][0] == "198.51.100.7"
    assert seen["scheme"] == "http"


async def test_what_a_client_told_the_proxy_is_not_believed():
    seen = await told(request("10.0.0.5", x_forwarded_for="192.0.2.1, 203.0.113.9"), ["10.0.0.0/8"])
    assert seen["client"][0] == "203.0.113.9"


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:9000", "[::1]"])
def test_a_loopback_site_answers_to_loopback_names(client, host):
    assert client.get("/accounts/login/", headers={"Host": host}).status_code != 400


@pytest.mark.django_db
def test_other_names_are_refused(client, caplog):
    assert client.get("/accounts/login/", headers={"Host": "evil.example"}).status_code == 400
    (record,) = caplog.records
    assert record.exc_info is None


async def test_health_is_answered_under_any_name(settings):
    settings.SECURE_SSL_REDIRECT = True
    asked = HttpCommunicator(asgi.application, "GET", "/healthz", headers=[(b"host", b"10.1.2.3")])
    response = await asked.get_response(PATIENCE)
    assert (response["status"], response["body"]) == (200, b"ok\n")
    headers = dict(response["headers"])
    assert headers.pop(b"x-request-id")
    assert headers == {b"content-type": b"text/plain; charset=utf-8", b"cache-control": b"no-store"}


@pytest.mark.django_db(transaction=True)
async def test_the_server_is_given_pages_and_errors_alike(monkeypatch):
    async def get(path):
        headers = [(b"host", b"localhost")]
        asked = HttpCommunicator(asgi.application, "GET", path, headers=headers)
        response = await asked.get_response(PATIENCE)
        await asked.wait(PATIENCE)
        return response

    login = await get("/accounts/login/")
    assert login["status"] == 200
    assert b"content-security-policy" in {name.lower() for name, _ in login["headers"]}
    assert (await get("/nowhere/"))["status"] == 404
    monkeypatch.setattr(LoginView, "dispatch", None)
    assert (await get("/accounts/login/"))["status"] == 500
    assert (await get("/healthz"))["body"] == b"ok\n"


def assert_strict(policy: str) -> None:
    """The content security policy of the site, whatever page it came with."""
    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    closed = ("default-src", "base-uri", "object-src", "frame-ancestors")
    assert [directives[each] for each in closed] == ["'none'"] * len(closed)
    assert directives.pop("img-src") == "'self' data:"
    assert set(directives.values()) == {"'self'", "'none'"}


@pytest.mark.django_db
def test_pages_may_load_nothing_foreign_and_nothing_inline(client):
    assert_strict(client.get("/accounts/login/").headers["Content-Security-Policy"])


@pytest.mark.django_db(transaction=True)
async def test_a_socket_at_no_address_is_closed():
    headers = [(b"origin", b"http://localhost:8000")]
    connected, _code = await WebsocketCommunicator(asgi.application, "/ws/nowhere/", headers=headers).connect()
    assert not connected


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("origin", "opens"),
    [
        ("http://localhost", True),
        ("http://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
async def test_a_socket_opens_for_a_page_of_this_site_alone_whoever_has_signed_in(origin, opens):
    """A page of another site has the cookies sent along, too."""

    def signed_in() -> tuple[str, str]:
        conversation = links.answered(cast.alice(), cast.council())
        name = settings.SESSION_COOKIE_NAME
        return conversation.get_absolute_url(), f"{name}={cast.session_of(conversation.owner)}"

    place, cookie = await sync_to_async(signed_in)()
    headers = [(b"host", b"localhost"), (b"cookie", cookie.encode())]
    headers += [(b"origin", origin.encode())] if origin else []
    socket = WebsocketCommunicator(asgi.application, f"/ws{place}?after=0&revision=0", headers=headers)
    connected, _code = await socket.connect(PATIENCE)
    assert connected == opens
    if opens:
        assert (await socket.receive_output(PATIENCE))["type"] == "websocket.send"
    await socket.disconnect()
