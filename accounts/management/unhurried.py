"""The transaction of a command of Django's that asks whoever is at the shell, and its event."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def unhurried() -> Iterator[None]:
    """A transaction that the database does not end for standing still: people type as slowly as they like.

    Nothing is locked meanwhile: these commands write once all is typed.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield
