"""Nothing is sent into a private network unless an administrator ticked that for the provider."""

import socket

import aiohttp
import httpx
import pytest

from bench.provider import Provider
from council.core import errors
from council.core.values import Request
from council.providers import addresses, chat, connecting
from council.providers.chat import Endpoint

ASK = Request(({"role": "user", "content": "Hello?"},), 20)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]
)
def test_what_belongs_to_the_internet(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "no address", ""),
        *("fec0::1", "::127.0.0.1", "64:ff9b:1::7f00:1", "192.0.0.192", "168.63.129.16"),
    ],
)
def test_what_does_not(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        *(
            (each, True)
            for each in (
                "localhost",
                "LOCALHOST.",
                "db",
                "a.localhost",
                "printer.local",
                "10.0.0.1",
                "::1",
                "127.1",
                "10.1",
                "1.2.3.4.5",
            )
        ),
        *((each, False) for each in ("openrouter.ai", "8.8.8.8", "example.com.", "2606:4700:4700::1111")),
    ],
)
def test_a_name_may_say_it_itself(host, private):
    assert addresses.is_obviously_private(host) is private


async def ask(url: str, *, private: bool) -> list:
    async with connecting.new_transport() as transport:
        endpoint = Endpoint(url, "", "compatible", "m", private=private)
        return [piece async for piece in chat.stream(transport, endpoint, ASK)]


@pytest.fixture
def fake():
    with Provider() as provider:
        yield provider


@pytest.fixture
def names(monkeypatch):
    """What names lead to, in place of the system\'s resolver: one answer after another."""
    answers: dict[str, list[list[str]]] = {}

    async def resolve(_self, host, port=0, family=socket.AF_INET):
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for each in found
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)
    return answers


async def test_an_address_in_a_private_network_is_not_asked_unless_that_is_allowed(fake):
    with pytest.raises(errors.PrivateAddress):
        await ask(fake.url, private=False)
    assert not fake.requests()
    assert await ask(fake.url, private=True)


async def test_nor_is_a_name_that_leads_there(fake, names):
    names["council.example"] = [["127.0.0.1"]]
    url = fake.url.replace("127.0.0.1", "council.example")
    with pytest.raises(errors.PrivateAddress):
        await ask(url, private=False)
    assert not fake.requests()
    assert await ask(url, private=True)


async def test_a_name_that_is_public_when_it_is_looked_at_and_private_a_moment_later_leads_nowhere(fake, names):
    """What it was resolved to is what is connected to."""
    names["council.example"] = [["8.8.8.8"], ["127.0.0.1"]]
    async with connecting.new_transport() as transport:
        endpoint = Endpoint(fake.url.replace("127.0.0.1", "council.example"), "", "compatible", "m")
        with pytest.raises(errors.ProviderError):
            await anext(chat.stream(transport, endpoint, ASK, connect=0.3))
    assert not fake.requests()


async def test_of_several_only_the_public_ones_are_connected_to(names):
    names["council.example"] = [["10.0.0.1", "8.8.8.8"]]
    found = await addresses.PublicResolver().resolve("council.example", 443)
    assert [each["host"] for each in found] == ["8.8.8.8"]


async def test_a_redirect_into_a_private_network_is_not_followed(fake):
    fake.script(status=302, headers={"location": "http://169.254.169.254/latest/meta-data/"})
    with pytest.raises(errors.NotTheProtocol, match="redirects elsewhere"):
        await ask(fake.url, private=True)
    assert len(fake.requests()) == 1


async def test_a_refused_connection_is_something_else():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(errors.Unreachable):
            await ask(f"http://127.0.0.1:{probe.getsockname()[1]}/v1", private=True)


def test_why_a_connection_was_not_made_is_found_behind_other_errors():
    error = httpx.ConnectError("no")
    error.__cause__ = aiohttp.ClientError()
    error.__cause__.__context__ = addresses.Forbidden("x")
    assert addresses.was_forbidden(error)
    assert not addresses.was_forbidden(httpx.ConnectError("no"))
