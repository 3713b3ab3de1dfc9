"""Acts -> the audit trail: events in the transaction of the act itself, and counts of what anybody may do at will.

An event says who (a pseudonym), what, to what, and the details that an auditor needs: what was before and after, which
models and providers saw a text, what was refused by which rule. Never content: where one must be able to show that a
text was the one, its `digest`. Insert it last in a transaction: the chain is held from then until the commit.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from psycopg.types.json import Jsonb

from governance import rows
from governance.models import AuditKey, Event, Tally
from governance.rows import Statement

logger = logging.getLogger(__name__)

_EVENT, _TALLY = Event._meta.db_table, Tally._meta.db_table


class Kind(StrEnum):
    """What is told of. The value is what stands in the trail."""

    SIGNED_IN = "signed in"
    SIGN_IN_FAILED = "sign-in failed"
    SIGNED_OUT = "signed out"
    SIGN_IN_CHANGED = "sign-in changed"
    JOINED = "joined"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    DID = "did"
    ASKED = "asked"
    ENDED = "ended"
    TITLED = "titled"
    REFUSED = "refused"
    TRIED_AGAIN = "tried again"
    STOPPED = "stopped"
    SHARED = "shared"
    UNSHARED = "unshared"
    LINK_OPENED = "link opened"
    COPIED = "copied"
    EXPORTED = "exported"
    DELETED = "deleted"
    RESTORED = "restored"
    PURGED = "purged"
    READ = "read by staff"


class Thing(NamedTuple):
    """What an act was done to: its type, such as `conversation`, and its key."""

    type: str = ""
    key: Any = ""


NOTHING = Thing()


def event(kind: str, actor: UUID | None = None, on: Thing = NOTHING, **details: Any) -> Statement:
    """The statement that writes an event, to be carried out together with those of the act.

    It raises DataError where no event came of it: somebody keeps events from being written. A root that there is not
    ends the transaction; a division by zero would look like `rows.required`.
    """
    return (
        f"WITH told AS (INSERT INTO {_EVENT} (actor, kind, object_type, object_id, details)"  # noqa: S608  # own name
        " VALUES (%s::uuid, %s, %s, %s, %s) RETURNING id) SELECT sqrt(count(*) - 1) FROM told",
        [actor, str(kind), on.type, str(on.key), Jsonb(_plain(details))],
    )


def event_of(kind: Kind, on: Thing, details: str, source: str, *given: Any) -> Statement:
    """The statement of an event of the site's own whose details are found by SQL: an expression, and its FROM."""
    return (
        f"INSERT INTO {_EVENT} (kind, object_type, object_id, details)"  # noqa: S608  # own SQL
        f" SELECT %s, %s, %s, {details} FROM {source}",
        [str(kind), on.type, str(on.key), *given],
    )


def record(kind: Kind, actor: UUID | None = None, on: Thing = NOTHING, **details: Any) -> None:
    """Write an event, in the transaction that is open or in one of its own."""
    rows.execute([event(kind, actor, on, **details)])


def count(kind: Kind, on: Thing = NOTHING) -> None:
    """Count what happened in this minute; `tell` makes one event of it once the minute is over."""
    rows.execute(
        [
            (
                f"INSERT INTO {_TALLY} AS tally (minute, kind, object_type, object_id, count)"  # noqa: S608  # own name
                " VALUES (date_trunc('minute', now()), %s, %s, %s, 1)"
                " ON CONFLICT (minute, kind, object_type, object_id) DO UPDATE SET count = tally.count + 1",
                [str(kind), on.type, str(on.key)],
            )
        ]
    )


def tell() -> int:
    """Make an event of each count whose minute is over. Returns how many."""
    with transaction.atomic():
        over = (
            f"DELETE FROM {_TALLY} WHERE minute < date_trunc('minute', now())"  # noqa: S608  # own name
            " RETURNING minute, kind, object_type, object_id, count"
        )
        (found,) = rows.execute([(over, [])])
        events = [
            event(kind, None, Thing(type_, key), minute=minute.isoformat(), times=times)
            for minute, kind, type_, key, times in sorted(found.rows)
        ]
        rows.execute(events)
    return len(events)


def digest(text: str) -> str:
    """What shows that a text was this one to whoever has the site's audit key, and nothing to anybody else.

    HMAC-SHA256 (RFC 2104), as 64 hexadecimal digits. Where the key cannot be read, work goes on: this process makes one
    of its own, which shows that something changed, and no more.
    """
    try:
        return _hmac(key(), text)
    except ImproperlyConfigured as error:
        logger.error("%s Texts have no lasting digest in the audit trail.", error)  # noqa: TRY400  # the reason says it all
        return f"passing {_hmac(_PASSING, text)}"


def _hmac(with_key: bytes, text: str) -> str:
    return hmac.new(with_key, text.encode(), hashlib.sha256).hexdigest()


_key: list[bytes] = []
_PASSING = secrets.token_bytes(32)


def key() -> bytes:
    """The site's audit key: 32 bytes. It is the same for good, so a process asks for it once.

    What a transaction finds may yet be taken back, and is not kept. Raises ImproperlyConfigured where no key of the
    ring opens it.
    """
    if _key:
        return _key[0]
    kept, _made = AuditKey.objects.get_or_create(pk=1, defaults={"secret": secrets.token_hex(32)})
    found = bytes.fromhex(kept.secret)
    if not connection.in_atomic_block:
        _key.append(found)
    return found


def there() -> bool:
    """Whether this database has a trail; one of an earlier release may not yet."""
    return _EVENT in connection.introspection.table_names()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What changed, by name: what was, and what is."""
    names = dict.fromkeys([*before, *after])
    return {name: [before.get(name), after.get(name)] for name in names if before.get(name) != after.get(name)}


def _plain(value: Any) -> Any:
    """As JSON knows it. What it does not is said in words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).replace("\x00", "")
