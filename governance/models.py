"""The audit trail: one row for each act, in a chain that nobody alters unseen."""

from typing import Any, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from governance.fields import EncryptedTextField


class Event(models.Model):
    """Who did what, to what, and when; never the content.

    Rows are inserted (`governance.audit`) and never changed: triggers refuse UPDATE, DELETE and TRUNCATE. Another
    trigger numbers them without gaps, dates them, and gives each the hash of the one before and itself, so that a row
    that was altered or taken out is found (`governance.chain`), whoever did it by whatever way.
    """

    id = models.BigIntegerField(_("number"), primary_key=True)
    at = models.DateTimeField(_("when"))
    actor = models.UUIDField(
        _("who"),
        null=True,
        help_text=_("A pseudonym, which only accounts can resolve. Empty: the site, or nobody known."),
    )
    kind = models.CharField(_("what"), max_length=40)
    object_type = models.CharField(_("kind of thing"), max_length=60, blank=True)
    object_id = models.CharField(_("which thing"), max_length=64, blank=True)
    details = models.JSONField(_("details"), default=dict)
    hash = models.BinaryField(_("hash"), max_length=32, help_text=_("SHA-256 of the hash before it and of this row."))

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ("-id",)
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=("object_id", "id"), name="event_object"),
            models.Index(fields=("actor", "id"), name="event_actor"),
            models.Index(fields=("kind", "id"), name="event_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.kind}"

    def save(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Events are written by `governance.audit`, which the triggers of the table expect."""
        raise TypeError("Events are written by governance.audit.")


class Tally(models.Model):
    """How often something happened in a minute that anybody may do as often as they like.

    What has been counted becomes one event once the minute is over, so that nobody can make the chain a bottleneck.
    """

    minute = models.DateTimeField()
    kind = models.CharField(max_length=40)
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=64, blank=True)
    count = models.PositiveIntegerField(default=1)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=("minute", "kind", "object_type", "object_id"), name="one_tally_a_minute")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.count}"


class AuditKey(models.Model):
    """What heads are signed and contents digested with. One row, made when it is first needed.

    Whoever has the database alone, without the key ring, can neither sign a head nor try texts against a digest.
    """

    secret = EncryptedTextField()

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_row_of_audit_key")]

    def __str__(self) -> str:
        return "audit key"


class Verification(models.Model):
    """What looking through the whole trail came to. There is one row at most, of the last time."""

    at = models.DateTimeField()
    count = models.PositiveBigIntegerField()
    wrong = models.TextField(blank=True, help_text=_("What was found; empty where the chain is whole."))

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="one_row_of_verification")]

    def __str__(self) -> str:
        return self.wrong or "whole"
