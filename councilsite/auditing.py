"""What is done in the admin, in the audit trail: every admin alike, those of other packages too.

A form that is saved is one event, with each column, group and inline row that changed: what it was, and what it is.
Secrets, and what would name a person, are told by a digest alone: that they changed is seen, and not from what to what.
"""

# ruff: noqa: FBT001  # Django's signatures

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest

from governance import audit
from governance.audit import Kind, Thing
from governance.fields import EncryptedTextField

# By model: columns that hold a secret, or say who somebody is.
PRIVATE = {
    "accounts.user": {"email", "name", "password"},
    "accounts.invitation": {"email", "digest"},
    "conversations.share": {"digest", "title"},
    "mfa.authenticator": {"data"},
    "account.emailaddress": {"email"},
}
# What changes by itself, and is no decision.
LEFT_OUT = {"accounts.user": {"last_login"}, "council.languagemodel": {"tokens_per_byte"}}
UNREADABLE = "cannot be read"


def thing(row: Model) -> Thing:
    """A row as what something was done to: by its pseudonym, its slug, or its key."""
    return Thing(row._meta.label_lower, getattr(row, "actor", None) or getattr(row, "slug", None) or row.pk)


def told(row: Model) -> dict[str, Any]:
    """A row's columns and groups, as the trail may know them."""
    label = row._meta.label_lower
    private, left_out = PRIVATE.get(label, set()), LEFT_OUT.get(label, set())
    said: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        if field.name in left_out or field.primary_key:
            continue
        if field.name in private or isinstance(field, EncryptedTextField):
            said[field.name] = _hidden(row, field.attname)
        elif field.is_relation:
            said[field.name] = _key(getattr(row, field.name))
        else:
            said[field.name] = field.value_to_string(row) if _odd(value := field.value_from_object(row)) else value
    for several in row._meta.many_to_many:
        said[several.name] = sorted(str(each) for each in getattr(row, several.name).all())
    return said


def _odd(value: Any) -> bool:
    return not (value is None or isinstance(value, bool | int | float | str | list | dict))


def _hidden(row: Model, name: str) -> str:
    try:
        value = getattr(row, name)
    except ImproperlyConfigured:
        return UNREADABLE
    return f"digest {audit.digest(str(value))[:24]}" if value else ""


def _key(row: Model | None) -> Any:
    return None if row is None else str(thing(row).key)


class Audited:
    """Before an admin's own ways, so that no form can be forgotten; actions call `log_change`."""

    def save_model(self: Any, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Keep how it was: with the inline rows, which are saved after it."""
        request.audited = self._told(request, type(obj)._base_manager.get(pk=obj.pk)) if change else {}  # type: ignore[attr-defined]  # of our own
        super().save_model(request, obj, form, change)  # type: ignore[misc]  # of the admin that this comes before

    def save_related(self: Any, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The last that is saved of a form."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]  # the same
        row = form.instance
        now = self._told(request, type(row)._base_manager.get(pk=row.pk))
        if changes := audit.differences(request.audited, now):  # type: ignore[attr-defined]  # of our own
            audit.record(Kind.CHANGED if change else Kind.ADDED, request.user.actor, thing(row), changes=changes)  # type: ignore[union-attr]  # who has signed in

    def delete_model(self: Any, request: HttpRequest, obj: Model) -> None:
        """One row."""
        was, gone = self._told(request, obj), thing(obj)
        with transaction.atomic():
            super().delete_model(request, obj)  # type: ignore[misc]  # the same
            audit.record(Kind.REMOVED, request.user.actor, gone, was=was)  # type: ignore[union-attr]  # the same

    def delete_queryset(self: Any, request: HttpRequest, queryset: Any) -> None:
        """Several, each an event."""
        was = [(thing(each), self._told(request, each)) for each in queryset]
        with transaction.atomic():
            super().delete_queryset(request, queryset)  # type: ignore[misc]  # the same
            for gone, said in was:
                audit.record(Kind.REMOVED, request.user.actor, gone, was=said)  # type: ignore[union-attr]  # the same

    def log_change(self: Any, request: HttpRequest, obj: Model, message: Any) -> Any:
        """What actions say they did; a form's own words (a list) are less than what `save_related` tells."""
        if isinstance(message, str):
            audit.record(Kind.DID, request.user.actor, thing(obj), what=message)  # type: ignore[union-attr]  # the same
        return super().log_change(request, obj, message)  # type: ignore[misc]  # the same

    def _told(self: Any, request: HttpRequest, row: Model) -> dict[str, Any]:
        said = told(row)
        for inline in self.get_inline_instances(request, row):
            to = next(each for each in inline.model._meta.fields if each.related_model is type(row))
            rows = inline.model._base_manager.filter(**{to.name: row}).order_by("pk")
            said[str(inline.model._meta.verbose_name_plural)] = [
                {name: value for name, value in told(each).items() if name != to.name} for each in rows
            ]
        return said
