"""The environment, as the settings read it: what is set and empty counts as not set, and nonsense is refused.

It imports nothing of Django's but its exception: the settings are being read.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*|[0-9a-f:.]+")
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


def port(environ: Mapping[str, str], name: str, default: int) -> int:
    """The number of a port. Raises ImproperlyConfigured."""
    value = environ.get(name) or str(default)
    if not (value.isascii() and value.isdecimal() and 0 < int(value) < 65_536):
        raise ImproperlyConfigured(f"{name} must be the number of a port, and is {value!r}.")
    return int(value)


def yes(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Whether it is true. Raises ImproperlyConfigured for any other word than true and false."""
    value = (environ.get(name) or str(default)).lower()
    if value not in {"true", "false"}:
        raise ImproperlyConfigured(f"{name} must be true or false, and is {value!r}.")
    return value == "true"


def site_url(environ: Mapping[str, str]) -> str:
    """The address that people type, without a slash at the end. Raises ImproperlyConfigured.

    A name with other letters is typed as browsers send it (`xn--…`), and one for many (`*`, `.example.org`) is none.
    """
    if not environ.get("SITE_URL"):
        return f"http://localhost:{environ.get('PORT') or 8000}"  # whether there is such a port, `up` says
    url = environ["SITE_URL"].rstrip("/")
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and _NAME.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ImproperlyConfigured(
            f"SITE_URL must be the address that people type, such as https://council.example.org, and is {url!r}."
        )
    return url


def proxies(environ: Mapping[str, str]) -> list[str]:
    """Addresses and networks of proxies that are believed; `*` is every one. Raises ImproperlyConfigured."""
    found = environ.get("TRUSTED_PROXIES", "").replace(",", " ").split()
    if found == ["*"]:
        return found
    for each in found:
        try:
            ip_network(each)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"TRUSTED_PROXIES must be addresses or networks, such as 10.0.0.5 or 10.0.0.0/24, and has {each!r}: "
                f"{error}."
            ) from error
    return found


def hosts(site_url: str) -> list[str]:
    """The names by which the site is asked, as Django compares them: without a port, IPv6 in brackets."""
    name = urlsplit(site_url).hostname or ""
    name = f"[{name}]" if ":" in name else name
    return LOOPBACK if name in LOOPBACK else [name]
