"""Which addresses a provider may have: those of the internet, unless an administrator ticked a private network for it.

A name is resolved once, and what it leads to is what is connected to: a name that is public when it is looked at and
private a moment later leads nowhere. Where requests go by a proxy, that one resolves names, and only what stands in the
provider's address itself can be judged here.
"""

import ipaddress
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

REFUSED = tuple(
    ipaddress.ip_network(each)
    for each in (
        "192.0.0.0/24",  # RFC 6890; one cloud's metadata among them
        "168.63.129.16/32",  # another's, which looks like any other address
        "fec0::/10",  # RFC 3879
        "::/96",  # RFC 4291: IPv4 inside
        "64:ff9b:1::/48",  # RFC 8215
    )
)
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address stands in its last 32 bits


class Forbidden(OSError):
    """All that a name leads to is in private networks."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet, and one that stands inside of it too. False for what is none."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner: list[ipaddress.IPv4Address | None] = []
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    if any(ip in network for network in REFUSED):
        return False
    return ip.is_global and not ip.is_multicast and all(each is None or is_public(str(each)) for each in inner)


def is_obviously_private(host: str) -> bool:
    """Whether the name itself, or the address that stands in its place, is of a private network."""
    name = host.lower().rstrip(".")
    if not name:
        return False
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal", ".home.arpa")) or "." not in name:
        return not is_public(host)
    if all(part.isdigit() for part in name.split(".")):  # 127.1 is 127.0.0.1 to some
        try:
            return not is_public(socket.inet_ntoa(socket.inet_aton(name)))
        except OSError:
            return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return not is_public(name)


class PublicResolver(AbstractResolver):
    """The system's resolver, without what is in private networks."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """What the name leads to. Raises Forbidden where that is private networks alone."""
        found = await self._resolver.resolve(host, port, family)
        public = [each for each in found if is_public(each["host"])]
        if found and not public:
            raise Forbidden(host)
        return public

    async def close(self) -> None:
        """Nothing is kept."""
        await self._resolver.close()


def was_forbidden(error: BaseException | None) -> bool:
    """Whether this is why a connection was not made."""
    seen: set[Any] = set()
    while error is not None and error not in seen:
        if isinstance(error, Forbidden):
            return True
        seen.add(error)
        error = error.__cause__ or error.__context__
    return False
