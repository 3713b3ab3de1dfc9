"""`manage.py rotate_secrets`: encrypt everything with the newest key, so that older ones can go."""

from collections.abc import Iterator
from typing import Any

from allauth.mfa.models import Authenticator
from cryptography.fernet import InvalidToken
from django.apps import apps
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.models import Model

from governance import audit
from governance.audit import Kind, Thing
from governance.fields import EncryptedTextField, sealed_anew

SEALED = ("secret", "seed")
"""What of a second factor's data is encrypted (`accounts.factors`)."""


class Command(BaseCommand):
    """Ends with 1 where something cannot be read with any key of the ring; that is left as it is, all else is done."""

    help = "Encrypt every secret in the database with the first of FIELD_KEYS. The others can be removed then."

    def handle(self, **_: Any) -> None:
        """Raises CommandError."""
        done, unread = 0, list[str]()
        with transaction.atomic():
            for model, field in _columns():
                count, left = _column(model, field)
                done, unread = done + count, unread + left
            for factor in Authenticator.objects.select_for_update():
                try:
                    changed = {name: sealed_anew(factor.data[name]) for name in SEALED if name in factor.data}
                except InvalidToken:
                    unread.append(f"{factor._meta.label} {factor.pk}")
                    continue
                if changed:
                    factor.data |= changed
                    factor.save(update_fields=["data"])
                    done += 1
            audit.record(Kind.CHANGED, None, Thing("key ring"), encrypted=done, unreadable=len(unread), by="shell")
        if unread:
            raise CommandError(
                f"{done} secrets are encrypted with the newest key. No key of FIELD_KEYS reads {', '.join(unread)}: "
                "put the key back that they were written with, or enter them again."
            )
        self.stdout.write(f"{done} secrets are encrypted with the newest key; the others of FIELD_KEYS can be removed.")


def _columns() -> Iterator[tuple[type[Model], EncryptedTextField]]:
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedTextField):
                yield model, field


def _column(model: type[Model], field: EncryptedTextField) -> tuple[int, list[str]]:
    """Encrypt a column anew. Returns how many values that were, and which cannot be read."""
    table, column = model._meta.db_table, field.column
    done, unread = 0, []
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, {column} FROM {table} WHERE {column} <> '' FOR UPDATE")  # noqa: S608  # own names
        for key, sealed in cursor.fetchall():
            try:
                new = sealed_anew(sealed)
            except InvalidToken:
                unread.append(f"{model._meta.label} {key}")
                continue
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [new, key])  # noqa: S608  # own names
            done += 1
    return done, unread
