"""Conversations and their turns. A turn is a question and its deliberation."""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

TITLE_LENGTH = 120


class ConversationQuerySet(models.QuerySet["Conversation"]):
    """The one door to conversations."""

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "ConversationQuerySet":
        """Those of this person that are not deleted. Nobody else's, whoever asks."""
        return self.filter(owner=user.pk, deleted=None)

    def deleted_by(self, user: AbstractBaseUser | AnonymousUser) -> "ConversationQuerySet":
        """Those of this person that can still be restored."""
        return self.filter(owner=user.pk, deleted__isnull=False)


class Conversation(models.Model):
    """Questions and the council's answers to them, in order; it belongs to its owner."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="conversations")
    title = models.CharField(max_length=TITLE_LENGTH)
    titled = models.BooleanField(
        default=False, help_text=_("By a model or by its owner; else it is the question's start.")
    )
    created = models.DateTimeField(auto_now_add=True)
    updated = models.DateTimeField(auto_now_add=True, help_text=_("When it was last asked something."))
    deleted = models.DateTimeField(null=True)

    objects = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ("-updated", "-id")
        indexes = [
            models.Index(fields=("owner", "-updated", "-id"), name="conversation_history"),
            # For `icontains`, of three letters and more.
            GinIndex(OpClass(Upper("title"), name="gin_trgm_ops"), name="conversation_title"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("conversation", args=[self.id])


class Turn(models.Model):
    """A question and its deliberation. Turns form a tree; today every parent has one child."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="turns")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    deliberation = models.OneToOneField("council.Deliberation", on_delete=models.PROTECT, related_name="+")
    request_id = models.UUIDField(help_text=_("From the form, so that a double click asks once."))
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("created", "id")
        constraints = [
            models.UniqueConstraint(fields=("conversation", "request_id"), name="one_turn_a_request"),
        ]

    def __str__(self) -> str:
        return f"turn {self.pk}"
