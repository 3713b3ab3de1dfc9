"""Whether the audit trail is whole: each event's hash is that of the one before it and of its own row.

A chain alone cannot show that its end was cut off, or that all of it was made anew by whoever owns the database. For
that there are heads: the last event's number and hash at a moment, signed (Ed25519, RFC 8032) with the site's audit
key, and kept by somebody else. The trail must still have them.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.utils import timezone

from governance import audit
from governance.hash_chain import EVENTS, Found, Head, look_through
from governance.models import Event, Verification

AT_A_TIME = 5_000  # events


class NoHead(Exception):
    """What was given is no head that this site has signed."""


# A table and nothing that looks like one, without rules or policies; of its triggers all, and what they do.
_KEEPERS = f"""
    SELECT relation.relkind,
        relation.relrowsecurity OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = relation.oid),
        trigger.tgname, trigger.tgenabled, function.prosrc
    FROM pg_class relation
    LEFT JOIN pg_trigger trigger ON trigger.tgrelid = relation.oid AND NOT trigger.tgisinternal
    LEFT JOIN pg_proc function ON function.oid = trigger.tgfoid
    WHERE relation.oid = '{Event._meta.db_table}'::regclass ORDER BY trigger.tgname
"""  # noqa: S608  # own name
# As they were made; a migration that replaces them takes the place of this one here.
_CHAIN, _REFUSE = import_module("governance.migrations.0001_audit_trail").TRIGGERS.split("$$")[1::2]
_KEPT_BY = [
    ("r", False, "append_only", "O", _REFUSE),
    ("r", False, "append_only_whole", "O", _REFUSE),
    ("r", False, "chain", "O", _CHAIN),
]
NOT_KEPT = "The table or its triggers are not as the site made them: events may be missing that were never written."


def verify(*heads: Head) -> Found:
    """Look through the whole trail, and at what keeps it. `heads`: what it must still have."""
    found = look_through(_events(), heads)
    return found if _is_kept() else found._replace(wrong=[NOT_KEPT, *found.wrong])


def _is_kept() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_KEEPERS)
        found: list[tuple[object, ...]] = cursor.fetchall()
    return found == _KEPT_BY


def verify_and_keep() -> Found:
    """The same, and keep what it came to for those who look at the trail."""
    found = verify()
    before = Verification.objects.first()
    if before and found.events < before.count:
        short = f"On {before.at:%Y-%m-%d} there were {before.count} events; now there are {found.events}."
        found = found._replace(wrong=[*found.wrong, short])
        return _kept(found, before.count)
    return _kept(found, found.events)


def _kept(found: Found, most: int) -> Found:
    """Keep what was found, with how many events there were at most."""
    kept = {"at": found.head.at, "count": most, "wrong": "\n".join(found.wrong)}
    Verification.objects.update_or_create(pk=1, defaults=kept)
    return found


def head() -> Head:
    """The last event as it is now."""
    found = Event.objects.order_by("-pk").values_list("pk", "hash").first()
    number, has = found or (0, b"")
    return Head(number, bytes(has).hex(), timezone.now().isoformat())


def signed(head: Head) -> str:
    """The head as a document (JSON) that anybody can check who has the public key in an earlier one.

    Raises ImproperlyConfigured where the audit key cannot be read.
    """
    key = _key()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    told = {"site": settings.SITE_URL, **head._asdict(), "public_key": _text(public)}
    return json.dumps({**told, "signature": _text(key.sign(_said(told)))}, indent=2)


def read(document: str) -> Head:
    """The head in a document that this site has signed. Raises NoHead."""
    try:
        told = json.loads(document)
        signature = base64.b64decode(told.pop("signature"))
        public = base64.b64decode(told["public_key"])
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _said(told))
        if public != _key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw):
            raise NoHead("Another audit key has signed this head. Is it of another site?")
        return Head(int(told["event"]), str(told["hash"]), str(told["at"]))
    except ImproperlyConfigured as error:
        raise NoHead(str(error)) from error
    except InvalidSignature as error:
        raise NoHead("The signature does not fit: this head was altered.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoHead("This is no exported head of an audit trail.") from error


def _events() -> Iterator[tuple[int, bytes, str]]:
    """All of them in order, without having them all in memory."""
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(EVENTS)
        while found := cursor.fetchmany(AT_A_TIME):
            yield from found


def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"audit head " + audit.key()).digest())


def _said(told: dict[str, Any]) -> bytes:
    """What is signed: the document without its signature, in one form."""
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
