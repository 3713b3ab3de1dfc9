"""What is in the audit trail, for tests of those who write it; and how tests empty its table afterwards."""

import contextlib
import json
from collections.abc import Iterator

from django.db import connection

from governance.models import Event


def events(kind: str, **having) -> list[Event]:
    return list(Event.objects.filter(kind=kind, **having).order_by("pk"))


def last(kind: str) -> Event:
    return Event.objects.filter(kind=kind).latest("pk")


def whole_trail() -> str:
    return json.dumps([[each.object_type, each.object_id, each.details] for each in Event.objects.all()])


@contextlib.contextmanager
def may_be_truncated() -> Iterator[None]:
    """Nobody may truncate the trail, but for the tests after one of them."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE governance_event DISABLE TRIGGER append_only_whole")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE governance_event ENABLE TRIGGER append_only_whole")
