"""What a roster must keep to, whether the admin or a file says it."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from council import plans
from council.models import LanguageModel
from council.providers import addresses


def address(typed: str) -> str:
    """A provider's address that can be asked, without a slash at its end; empty for none. Raises ValidationError."""
    found = typed.rstrip("/")
    if not found:
        return ""
    try:
        parts = urlsplit(found)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and found.isprintable()
        httpx.URL(found)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or " " in found:
        raise ValidationError(_("Enter an address that begins with http:// or https:// and names a host."))
    if "@" in parts.netloc:
        raise ValidationError(_("Put no user name or password into the address: the key has a field of its own."))
    if parts.query or parts.fragment:
        raise ValidationError(_("The address must end with its path: no “?” and no “#”."))
    return found


def in_reach(of: str, *, private: bool) -> None:
    """Raises ValidationError for an address that is plainly of a private network where that was not allowed."""
    name = urlsplit(of).hostname or ""
    if name and not private and addresses.is_obviously_private(name):
        raise ValidationError(
            _("%(host)s is on this machine or in a private network. Tick “is in a private network” if it is meant.")
            % {"host": name}
        )


def key(entered: str) -> str:
    """A key that a header can carry. Raises ValidationError, which does not repeat it."""
    if not (entered.isascii() and entered.isprintable()) or " " in entered:
        raise ValidationError(_("This holds characters that no key has. Copy the key again, and nothing with it."))
    return entered


def host(of: str) -> tuple[str, str]:
    """Where an address leads. A stored key is not sent to another one that it was not entered for."""
    parts = urlsplit(of)
    return parts.scheme, parts.netloc.lower()


def missing(members: Sequence[LanguageModel], chairmen: Sequence[LanguageModel]) -> dict[str, str]:
    """What an enabled council lacks: of `members` (two that can be asked), of a `chairman` (one who can); in words."""
    wrong = {}
    usable = sum(model.usable for model in members)
    if usable < plans.MEMBERS_AT_LEAST:
        wrong["members"] = _(
            "A council needs at least two members whose model is approved and enabled, as its provider is; of the "
            "members here that is so for %(usable)s of %(all)s."
        ) % {"usable": usable, "all": len(members)}
    if not chairmen:
        wrong["chairman"] = _("A council needs a chairman. Add a seat with that role.")
    elif not chairmen[0].usable:
        wrong["chairman"] = (
            _("The chairman's model, %s, is not approved or is switched off, or its provider is. Choose another.")
            % chairmen[0]
        )
    return wrong
